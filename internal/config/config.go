// Package config is the configuration of a member: one table of options, from which come the flags of `coord serve`, its
// environment variables, the keys of its file, and the page that lists them.
//
// What holds: an option has one name, one type, one range and one default, wherever it is given. A flag wins over the
// environment, that over the file, and that over the default. Nothing is ignored: a key that doesn't exist, one given
// twice, and a value that isn't one are errors, also where something else would have won over them.
//
// What hurts: a limit that the state machine checks can't be an option here. Members whose configuration differs would
// decide differently; such limits are in the state.
package config

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/pflag"

	"github.com/coord-kv/coord/api"
	"github.com/coord-kv/coord/internal/peer"
	"github.com/coord-kv/coord/internal/replica"
	"github.com/coord-kv/coord/internal/storage"
	"github.com/coord-kv/coord/watch"
)

// Config is what a member is told when it starts. The zero value is not valid: begin with New.
type Config struct {
	File string // that the rest was read from; "" for none

	Name       string
	DataDir    string
	Listen     string
	PeerListen string
	DNSListen  string        // "" for no DNS
	Cluster    []peer.Member // empty: a member alone; ids are not set

	AllowHosts   []string
	AllowOrigins []string
	Super        string

	LogLevel  string
	LogFormat string

	Tick            time.Duration
	ElectionTimeout time.Duration
	HandOverTimeout time.Duration
	SpaceMark       int64
	SegmentBytes    int64
	AcceptCutTail   bool
	History         watch.Limits
	Limits          api.Limits

	origins map[string]string // by the name of an option that was given: where, for messages
}

// New returns the defaults. What has none is Name and DataDir.
func New() *Config {
	return &Config{
		Listen: "127.0.0.1:7070", PeerListen: "127.0.0.1:7071",
		LogLevel: "info", LogFormat: "text",
		Tick: replica.DefaultTick, ElectionTimeout: replica.DefaultElectionTicks * replica.DefaultTick,
		HandOverTimeout: 5 * time.Second,
		SpaceMark:       256 << 20,
		SegmentBytes:    storage.DefaultSegmentBytes,
		History:         watch.Limits{MemoryBytes: 16 << 20, TotalBytes: 256 << 20},
		Limits:          api.DefaultLimits(),
		origins:         map[string]string{},
	}
}

// Option is one row of the table.
type Option struct {
	Name     string      // of the flag and the key in the file; Env has the variable's
	Group    string      // of options that belong together
	Help     string      // a phrase without a full stop, for --help and the page
	Value    pflag.Value // reads and writes the field of the Config that the option is of
	Range    string      // of the value in words, "" if its type says it
	FlagOnly bool        // it can't stand in the file
}

// Env returns the name of the option's environment variable.
func (o Option) Env() string { return EnvName(o.Name) }

// Options returns the table, bound to c. Groups follow each other.
func (c *Config) Options() []Option {
	return slices.Concat(
		[]Option{
			{Name: "config", Help: "YAML file to read other options from", Value: text{&c.File}, FlagOnly: true},
			// For one start, not for a file that is read at every start.
			{Name: "accept-cut-tail", FlagOnly: true, Value: yes{&c.AcceptCutTail}, Help: "vote although the end of this " +
				"member's log was cut: only if another voter is gone for good, because acknowledged writes may be lost"},
		},
		group("The member", c.memberOptions()),
		group("Who may do what", c.accessOptions()),
		group("Time", c.timeOptions()),
		group("Disk and history", c.diskOptions()),
		group("Limits for clients", c.limitOptions()),
	)
}

func (c *Config) memberOptions() []Option {
	return []Option{
		option("name", "this member's name, one of the cluster list; required", name{&c.Name}),
		option("data-dir", "directory of this member alone, made if missing; required", text{&c.DataDir}),
		option("listen", "address for clients (HTTP)", address{&c.Listen}),
		option("peer-listen", "address for the other members", address{&c.PeerListen}),
		option("dns-listen", "address for DNS, over UDP and TCP; without it there is none", address{&c.DNSListen}),
		option("cluster", "all members as name=host:port of their peer address, separated by commas; a member alone may "+
			"leave it out", members{&c.Cluster}),
		option("log-level", "least level that is logged", choice{&c.LogLevel, []string{"debug", "info", "warn", "error"}}),
		option("log-format", "form of the log, on standard error", choice{&c.LogFormat, []string{"text", "json"}}),
	}
}

func (c *Config) accessOptions() []Option {
	return []Option{
		option("allow-host", "further host names that clients may use, besides loopback and the address that they reach; "+
			"* for any", list{&c.AllowHosts, checkHost}),
		option("allow-origin", "web origins (https://host) whose pages may call the API, besides its own",
			list{&c.AllowOrigins, checkOrigin}),
		option("super", "digest identity that may do everything, as user:base64(sha1(user:password))", digest{&c.Super}),
	}
}

func (c *Config) timeOptions() []Option {
	return []Option{
		option("tick", "step in which sessions and elections are counted; the same on all members",
			duration{&c.Tick, 10 * time.Millisecond, second}),
		option("election-timeout", "time without a leader before an election, 5 to 100 ticks; the same on all members",
			duration{&c.ElectionTimeout, 50 * time.Millisecond, 10 * second}),
		option("hand-over-timeout", "how long a member that stops waits for another to lead",
			duration{&c.HandOverTimeout, second / 10, 5 * minute}),
		option("drain-timeout", "how long a member that stops waits for requests to end",
			duration{&c.Limits.DrainTimeout, second / 10, 5 * minute}),
	}
}

func (c *Config) diskOptions() []Option {
	return []Option{
		option("space-mark", "free space below which writes are refused, except those that delete",
			size[int64]{&c.SpaceMark, 1 << 20, 1 << 40}),
		option("segment-size", "size of a file of the write-ahead log", size[int64]{&c.SegmentBytes, 1 << 20, 1 << 30}),
		option("history-memory", "event history in memory; twice that while it is written to disk",
			size[int]{&c.History.MemoryBytes, 1 << 20, 4 << 30}),
		option("history-size", "all event history, on disk; what is older can't be watched any more",
			size[int]{&c.History.TotalBytes, 16 << 20, 64 << 30}),
	}
}

func (c *Config) limitOptions() []Option {
	l := &c.Limits
	return []Option{
		option("max-connections", "connections at once", number{&l.Conns, 1, 1_000_000}),
		option("max-connections-per-ip", "connections at once from one address", number{&l.ConnsPerIP, 1, 1_000_000}),
		option("max-requests", "requests being served at once, waiting ones excluded", number{&l.Requests, 1, 1_000_000}),
		option("max-watches", "long polls and event streams at once", number{&l.Watches, 1, 1_000_000}),
		option("max-body-memory", "memory for the bodies of all requests", size[int64]{&l.BodyBytes, 2 << 20, 64 << 30}),
		option("max-answer-memory", "memory for large answers that clients are slow to take", size[int64]{&l.AnswerBytes, 8 << 20, 64 << 30}),
		option("max-header-size", "size of one request's header", size[int]{&l.HeaderBytes, 4 << 10, 1 << 20}),
		option("header-timeout", "time to send a header", duration{&l.HeaderTimeout, second / 10, hour}),
		option("body-timeout", "time to send a body", duration{&l.BodyTimeout, second / 10, hour}),
		option("idle-timeout", "how long an unused connection is kept", duration{&l.IdleTimeout, second, 24 * hour}),
		option("request-timeout", "time to decide a write or reach a consistency",
			duration{&l.RequestTimeout, second / 10, hour}),
		option("write-timeout", "time to take an answer, or one message of a stream",
			duration{&l.WriteTimeout, second / 10, hour}),
		option("max-poll", "longest wait that a long poll may ask for", duration{&l.PollMax, second, 24 * hour}),
		option("bookmark-interval", "silence after which an event stream tells its position",
			duration{&l.Bookmark, second / 10, hour}),
	}
}

const (
	second = time.Second
	minute = time.Minute
	hour   = time.Hour
)

// value is an option's type: how it is read, written and called.
type value interface {
	pflag.Value
	bounds() string
}

func option(name, help string, v value) Option {
	return Option{Name: name, Help: help, Value: v, Range: v.bounds()}
}

func group(name string, options []Option) []Option {
	for i := range options {
		options[i].Group = name
	}
	return options
}

// Register makes a flag of every option, in the order of the table.
func (c *Config) Register(flags *pflag.FlagSet) {
	flags.SortFlags = false
	for _, o := range c.Options() {
		help := o.Help
		if o.Range != "" {
			help += " (" + o.Range + ")"
		}
		f := flags.VarPF(o.Value, o.Name, "", help)
		if _, ok := o.Value.(yes); ok {
			f.NoOptDefVal = "true"
		}
	}
}

// Given returns the options that were given and where from, as "name (where)", sorted. It holds no values: some are not
// for a log.
func (c *Config) Given() []string {
	var given []string
	for name, where := range c.origins {
		given = append(given, fmt.Sprintf("%s (%s)", name, where))
	}
	slices.Sort(given)
	return given
}

// Effective returns all options as they are in effect, with what has said so.
func (c *Config) Effective() (all []api.Setting) {
	for _, o := range c.Options() {
		all = append(all, api.Setting{Name: o.Name, Value: o.Value.String(), From: cmp.Or(c.origins[o.Name], "default")})
	}
	return all
}
