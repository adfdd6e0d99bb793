package config

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/coord-kv/coord/internal/peer"
)

// EnvName returns the environment variable of a flag: COORD_ and its name in capitals.
func EnvName(flag string) string {
	return "COORD_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// Load completes c, whose flags were registered with flags and have been parsed, by the environment and the file. An
// empty variable counts as none: that is what compose files make of one that isn't set. The error is an *Error.
func (c *Config) Load(flags *pflag.FlagSet, env func(string) (string, bool)) error {
	for _, o := range c.Options() {
		if flags.Changed(o.Name) {
			c.origins[o.Name] = "--" + o.Name
		}
	}
	if err := c.fromEnvironment(env); err != nil {
		return err
	}
	if c.File != "" {
		f, err := readFile(c.File)
		if err != nil {
			return err
		}
		c.apply(f)
	}
	if missing := c.missing(); len(missing) > 0 {
		e := &Error{}
		for _, name := range missing {
			what := fmt.Sprintf("is required: give it here, as %s, or in a file (--config)", EnvName(name))
			e.Mistakes = append(e.Mistakes, Mistake{"--" + name, what})
		}
		return e
	}
	return c.check()
}

func (c *Config) fromEnvironment(env func(string) (string, bool)) error {
	e := &Error{}
	for _, o := range c.Options() {
		v, _ := env(o.Env())
		if v == "" || c.origins[o.Name] != "" {
			continue
		}
		if err := o.Value.Set(v); err != nil {
			e.Mistakes = append(e.Mistakes, Mistake{o.Env(), err.Error()})
		}
		c.origins[o.Name] = o.Env()
	}
	return e.orNil()
}

// apply sets what the file gives and nobody else has. Its values have been checked, also those that don't count.
func (c *Config) apply(f *file) {
	options := c.Options()
	for _, s := range f.settings {
		if c.origins[s.key] != "" {
			continue
		}
		c.origins[s.key] = fmt.Sprintf("%s:%d", f.name, s.line)
		i := slices.IndexFunc(options, func(o Option) bool { return o.Name == s.key })
		if err := options[i].Value.Set(s.value); err != nil {
			panic("config: " + s.key + " " + err.Error())
		}
	}
}

func (e *Error) orNil() error {
	if len(e.Mistakes) == 0 {
		return nil
	}
	return e
}

// missing returns the options that are required and not given.
func (c *Config) missing() (names []string) {
	if c.Name == "" {
		names = append(names, "name")
	}
	if c.DataDir == "" {
		names = append(names, "data-dir")
	}
	return names
}

// Members returns the cluster's list, which is this member alone if there is none.
func (c *Config) Members() []peer.Member {
	if len(c.Cluster) == 0 {
		return []peer.Member{{Name: c.Name, Addr: c.PeerListen}}
	}
	return slices.Clone(c.Cluster)
}

// ElectionTicks returns the election timeout in ticks.
func (c *Config) ElectionTicks() int { return int(c.ElectionTimeout / c.Tick) }

// check looks at what options say together. What is not given yet is not looked at.
func (c *Config) check() error {
	e := &Error{}
	add := func(option, format string, args ...any) {
		where, what := c.origin(option), fmt.Sprintf(format, args...)
		if where != "--"+option && where != EnvName(option) {
			what = option + " " + what
		}
		e.Mistakes = append(e.Mistakes, Mistake{where, what})
	}
	self := func(m peer.Member) bool { return m.Name == c.Name }
	if c.Name != "" && len(c.Cluster) > 0 && !slices.ContainsFunc(c.Cluster, self) {
		add("cluster", "%s doesn't have this member's name, %s (%s)", members{&c.Cluster}, c.Name, c.origin("name"))
	}
	if c.Listen == c.PeerListen {
		add("peer-listen", "%s is the address for clients too (%s); take another one", c.PeerListen, c.origin("listen"))
	}
	if ticks := c.ElectionTimeout / c.Tick; c.ElectionTimeout%c.Tick != 0 || ticks < 5 || ticks > 100 {
		add("election-timeout", "%s must be 5 to 100 times the tick, %s (%s)", showDuration(c.ElectionTimeout),
			showDuration(c.Tick), c.origin("tick"))
	}
	if c.History.MemoryBytes > c.History.TotalBytes {
		memory, total := int64(c.History.MemoryBytes), int64(c.History.TotalBytes)
		add("history-memory", "%s is more than the whole history may have, %s (%s)", showSize(memory), showSize(total),
			c.origin("history-size"))
	}
	return e.orNil()
}

// origin says where an option's value comes from.
func (c *Config) origin(option string) string {
	if where := c.origins[option]; where != "" {
		return where
	}
	return "--" + option
}

// Warnings returns what is allowed and may surprise. minSession is the shortest session timeout that the cluster grants.
func (c *Config) Warnings(minSession time.Duration) (all []string) {
	warn := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	if exposed(c.Listen) {
		warn("clients are served on %s without encryption: let none but trusted machines reach it", c.Listen)
	}
	if exposed(c.PeerListen) && len(c.Cluster) > 1 {
		warn("%s takes members without encryption or authentication: let none but them reach it", c.PeerListen)
	}
	if least := 8 * c.ElectionTimeout; least > minSession {
		warn("an election may cost sessions with a timeout below %s, eight election timeouts", showDuration(least))
	}
	if n := len(c.Cluster); n > 0 && n%2 == 0 {
		warn("%d members survive the loss of %d, which %d do too", n, (n-1)/2, n-1)
	}
	return all
}

// exposed reports whether an address may be reached from other machines.
func exposed(addr string) bool {
	host, _, _ := net.SplitHostPort(addr)
	ip := net.ParseIP(host)
	return host != "localhost" && (ip == nil || !ip.IsLoopback())
}
