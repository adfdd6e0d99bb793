package discovery

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"net"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/coord-kv/coord/internal/recipe"
	"github.com/coord-kv/coord/internal/registry"
	"github.com/coord-kv/coord/op"
)

// Status is the health of an instance.
type Status string

// The statuses, from good to bad.
const (
	Passing  Status = Status(registry.Passing)
	Warning  Status = Status(registry.Warning) // it serves, and somebody should look at it
	Critical Status = Status(registry.Critical)
)

var badness = map[Status]int{Passing: 0, Warning: 1, Critical: 2}

func (s Status) check() error {
	if _, ok := badness[s]; !ok {
		return op.Errorf(op.BadRequest, "%.64q is no status: passing, warning or critical", string(s))
	}
	return nil
}

// health is a status and, if it is known, why it is that.
type health struct {
	status Status
	reason string
}

// worse returns the worse of two; of equal ones the first, unless only the second one has a reason.
func worse(a, b health) health {
	if badness[b.status] > badness[a.status] || a.status == b.status && a.reason == "" {
		return b
	}
	return a
}

// reasonOf returns the text of an error as the reason of an instance: on one line, and not longer than may be.
func reasonOf(err error) string {
	if err == nil {
		return ""
	}
	text := strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(err.Error(), "?"))
	return cut(text, registry.MaxReason)
}

// cut shortens a text to so many bytes, between two characters.
func cut(text string, size int) string {
	const rest = "…"
	if len(text) <= size {
		return text
	}
	size -= len(rest)
	for !utf8.RuneStart(text[size]) {
		size--
	}
	return text[:size] + rest
}

// Instance is one place where a service can be had.
type Instance struct {
	Service string            // a label as in DNS: 1 to 63 of a-z, 0-9 and inner hyphens
	ID      string            // one segment of a path, at most 255 bytes; Register makes it HostPort if it is empty
	Address string            // an IP address or the name of a host
	Port    int               // 1 to 65535
	Tags    []string          // up to 32, of 1 to 63 visible ASCII characters
	Meta    map[string]string // up to 32 entries; all in all an instance takes up to 8 KiB
	Status  Status            // Passing if empty
	Reason  string            // why it has that status, if whoever said so knew; one line, at most 256 bytes

	// As it stands; Register ignores these. The times are by the wall clock of the leader then.
	Since      time.Time // when it came to its status
	Registered time.Time
	Session    string // whose it is, such as "s-1c"
}

// HostPort returns address and port as net.Dial takes them.
func (x Instance) HostPort() string { return net.JoinHostPort(x.Address, strconv.Itoa(x.Port)) }

// String returns the instance in words, for logs.
func (x Instance) String() string {
	return fmt.Sprintf("%s/%s at %s, %s", x.Service, x.ID, x.HostPort(), cmp.Or(x.Status, Passing))
}

func (x Instance) record() (registry.Instance, error) {
	if x.Port < 1 || x.Port > 65535 {
		return registry.Instance{}, op.Errorf(op.BadRequest, "the port %d; it must be 1 to 65535", x.Port)
	}
	return registry.Instance{
		Service: x.Service, ID: cmp.Or(x.ID, x.HostPort()), Address: x.Address, Port: uint16(x.Port), Tags: x.Tags,
		Meta: x.Meta, Status: registry.Status(x.Status), Reason: x.Reason,
	}, nil
}

func instance(r registry.Instance) Instance {
	return Instance{
		Service: r.Service, ID: r.ID, Address: r.Address, Port: int(r.Port), Tags: r.Tags, Meta: r.Meta,
		Status: Status(r.Status), Reason: r.Reason, Since: r.Since.Std(), Registered: r.Registered.Std(), Session: r.Session.String(),
	}
}

func instances(list []registry.Instance) []Instance {
	all := make([]Instance, len(list))
	for i, r := range list {
		all[i] = instance(r)
	}
	return all
}

// Source is where services are looked up: a *coord.Client or a *coord.Session.
type Source interface{ Conn() recipe.Conn }

// Option says which instances of a service are meant, or how fresh they must be.
type Option func(*query)

type query struct {
	registry.Query
	level op.Level
}

func queryOf(opts []Option) query {
	q := query{level: op.Linearizable}
	for _, o := range opts {
		o(&q)
	}
	return q
}

// PassingOnly leaves out the instances whose status is another one than Passing.
func PassingOnly() Option { return func(q *query) { q.Passing = true } }

// Tag leaves out the instances that don't have the tag. Given several times, an instance must have all of them.
func Tag(tag string) Option { return func(q *query) { q.Tags = append(q.Tags, tag) } }

// Eventual has Resolve answered by whichever member is asked, as it knows it, also while no majority can be reached.
// Nothing is older than what the Client or Session has seen before. For Watch it says the same of the beginning.
func Eventual() Option { return func(q *query) { q.level = op.Eventual } }

// Resolve returns the instances of a service, by id. A service that nobody has registered has none; that is no error.
// Many at once, or once per request, are better served by a Balancer or a Watch, which ask the cluster once.
func Resolve(ctx context.Context, c Source, service string, opts ...Option) ([]Instance, error) {
	q := queryOf(opts)
	list, _, err := registry.New(c.Conn()).Resolve(ctx, service, q.Query, op.ReadOptions{Level: q.level})
	if err != nil {
		return nil, err
	}
	return instances(list), nil
}

// Watch yields the instances of a service as they are, and again whenever they have changed. It ends when the loop ends,
// or with an error: the context's, or why the Client or the Session has ended. While no member can be reached it waits.
func Watch(ctx context.Context, c Source, service string, opts ...Option) iter.Seq2[[]Instance, error] {
	return func(yield func([]Instance, error) bool) {
		q, conn := queryOf(opts), c.Conn()
		r := registry.New(conn)
		w := r.Watch(service, q.Query)
		defer w.Close()
		next := w.Next
		if q.level == op.Eventual {
			next = func(ctx context.Context) ([]registry.Instance, op.Zxid, error) {
				list, at, err := r.Resolve(ctx, service, q.Query, op.ReadOptions{Level: q.level})
				w.Since(at)
				next = w.Next
				return list, at, err
			}
		}
		for {
			list, _, err := next(ctx)
			if err != nil {
				yield(nil, why(conn, err))
				return
			}
			if !yield(instances(list), nil) {
				return
			}
		}
	}
}

// why returns what ended the Client or the Session, if that is what err comes from.
func why(c recipe.Conn, err error) error {
	if c.Context().Err() != nil {
		return context.Cause(c.Context())
	}
	return err
}
