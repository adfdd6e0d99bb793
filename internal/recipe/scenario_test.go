package recipe

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/coord-kv/coord/op"
)

// TestScenarios plays clients against the real state machine. Each command ends when nobody can go on. Sessions are
// called by letters; what clients do is reported as it happens. Commands:
//
//	lock WHO NAME [try] [mode=read|write|slot] [slots=N] [at-least=D] [delay=D] [session=S] [owner=O]
//	all WHO names=(NAME,...)  takes several
//	elect WHO NAME [priority=N] [id=ID] [session=S] [value=V]
//	release WHO              gives back what WHO got
//	cancel WHO               WHO's context ends
//	expire S, close S        the session ends, unwanted or by its own close, and its client knows
//	foreign S PATH           somebody else's sequence node
//	delete PATH
//	break NAME [token=N]     by force
//	transfer NAME ID
//	pass D                   time on the age clock
//	unknown S applied|lost   the next write of S has an unknown outcome
//	ls PATH, show NAME, election NAME, observe WHO NAME
func TestScenarios(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		s := &scenario{world: newWorld(t), sessions: map[string]*conn{}, acts: map[string]*act{}}
		datadriven.RunTest(t, path, s.command)
	})
}

type scenario struct {
	*world
	out      strings.Builder
	sessions map[string]*conn
	acts     map[string]*act
}

// act is what one client has begun, and how to end it.
type act struct {
	task    *task
	release func() error
}

func (s *scenario) say(format string, args ...any) { fmt.Fprintf(&s.out, format+"\n", args...) }

func (s *scenario) session(name string) *conn {
	if s.sessions[name] == nil {
		s.sessions[name] = s.open()
	}
	return s.sessions[name]
}

// arg returns the value of an argument like key=value, else def.
func arg(d *datadriven.TestData, key, def string) string {
	for _, a := range d.CmdArgs {
		if a.Key == key && len(a.Vals) > 0 {
			return strings.Join(a.Vals, ",")
		}
	}
	return def
}

func number(s string) (n int) {
	fmt.Sscan(s, &n)
	return n
}

func (s *scenario) command(t *testing.T, d *datadriven.TestData) string {
	s.out.Reset()
	word := func(i int) string { return d.CmdArgs[i].Key }
	admin := s.admin()
	var err error
	switch d.Cmd {
	case "lock":
		s.lock(d, word(0), word(1))
	case "all":
		s.all(word(0), strings.Split(arg(d, "names", ""), ","))
	case "elect":
		s.elect(d, word(0), word(1))
	case "release":
		err = s.release(word(0))
	case "cancel":
		s.acts[word(0)].task.cancel()
	case "expire":
		c := s.session(word(0))
		s.expire(c.id)
		c.learn()
	case "close":
		c := s.session(word(0))
		s.apply(&op.Request{Session: c.id, Op: &op.CloseSession{Session: c.id}}, 0)
		c.learn()
	case "foreign":
		c := s.session(word(0))
		res := s.apply(&op.Request{Session: c.id, Op: &op.Create{
			Path: word(1), Data: []byte("10.0.0.7"), Kind: op.Ephemeral, Sequence: true, Parents: true,
		}}, 0)
		s.say("%s %v", res.Path, res.Err)
	case "delete":
		s.apply(&op.Request{Op: &op.Delete{Path: word(0), If: op.Always}}, 0)
	case "break":
		_, err = Break(t.Context(), admin, word(0), op.Zxid(number(arg(d, "token", "0"))), "ops")
	case "transfer":
		err = Transfer(t.Context(), admin, word(0), word(1), "ops")
	case "pass":
		dur, _ := time.ParseDuration(word(0))
		s.pass(uint64(dur.Milliseconds()))
	case "unknown":
		c, applied := s.session(word(0)), word(1) == "applied"
		c.blur = func(op.Op) (bool, bool) { c.blur = nil; return applied, true }
	case "ls":
		s.list(word(0))
	case "show":
		s.show(t, admin, word(0))
	case "election":
		s.election(t, admin, word(0))
	case "observe":
		s.observe(word(0), word(1))
	default:
		t.Fatalf("%s: unknown command %s", d.Pos, d.Cmd)
	}
	if err != nil {
		s.fail("", err)
	}
	s.run(nil, nil)
	return s.out.String()
}

func (s *scenario) fail(who string, err error) {
	if who != "" {
		who += ": "
	}
	ended := ""
	if errors.Is(err, context.Canceled) {
		ended = " (canceled)"
	}
	e, _ := errors.AsType[*op.Error](err)
	s.say("%s%s%s: %s", who, e.Code, ended, e.Detail)
}

func (s *scenario) lock(d *datadriven.TestData, who, name string) {
	own := s.session(arg(d, "session", who))
	spec := Spec{
		Name: name, Owner: arg(d, "owner", who), Rand: s, Slots: number(arg(d, "slots", "0")),
		Mode: Mode(slices.Index([]string{"exclusive", "write", "read", "slot"}, arg(d, "mode", "exclusive"))),
	}
	spec.AtLeast, _ = time.ParseDuration(arg(d, "at-least", "0s"))
	spec.Delay, _ = time.ParseDuration(arg(d, "delay", "0s"))
	spec.Waiting = func(ahead int) { s.say("%s: %d ahead", who, ahead) }
	a := &act{}
	a.task = s.spawn(who, func(ctx context.Context, t *task) {
		defer stopped()
		c := own.as(t)
		l, err := NewLock(c, spec)
		if err != nil {
			s.fail(who, err)
			return
		}
		take := l.Acquire
		if d.HasArg("try") {
			take = l.Try
		}
		g, err := take(ctx)
		if err != nil {
			s.fail(who, err)
			return
		}
		s.say("%s: holds %s, token %d; calls %v", who, name, g.Token, c.calls)
		g.line.conn = own
		a.release = func() error { return g.Release(ctx) }
	})
	s.acts[who] = a
}

func (s *scenario) all(who string, names []string) {
	c := s.session(who)
	a := &act{}
	a.task = s.spawn(who, func(ctx context.Context, t *task) {
		defer stopped()
		var specs []Spec
		for _, n := range names {
			specs = append(specs, Spec{Name: n, Owner: who, Rand: s, Waiting: func(n int) { s.say("%s: %d ahead", who, n) }})
		}
		grants, err := AcquireAll(ctx, c.as(t), specs...)
		if err != nil {
			s.fail(who, err)
			return
		}
		for _, g := range grants {
			s.say("%s: holds %s, token %d", who, g.Name, g.Token)
			g.line.conn = c
		}
		a.release = func() (err error) {
			for _, g := range grants {
				err = errors.Join(err, g.Release(ctx))
			}
			return err
		}
	})
	s.acts[who] = a
}

func (s *scenario) elect(d *datadriven.TestData, who, name string) {
	c := s.session(arg(d, "session", who))
	a := &act{}
	a.task = s.spawn(who, func(ctx context.Context, t *task) {
		defer stopped()
		e, err := NewElection(c.as(t), Candidacy{
			Name: name, ID: arg(d, "id", who), Priority: number(arg(d, "priority", "0")), Value: arg(d, "value", ""), Rand: s,
			Waiting: func(n int) { s.say("%s: %d ahead", who, n) },
		})
		if err != nil {
			s.fail(who, err)
			return
		}
		term, err := e.Campaign(ctx)
		if err != nil {
			s.fail(who, err)
			return
		}
		s.say("%s: leads %s, term %d", who, name, term.Token)
		term.line.conn = c
		a.release = func() error { return term.Resign(ctx) }
	})
	s.acts[who] = a
}

func (s *scenario) observe(who, name string) {
	c := s.session(who)
	s.spawn(who, func(ctx context.Context, t *task) {
		defer stopped()
		o, err := Observe(c.as(t), name)
		for err == nil {
			var l Leader
			if l, err = o.Next(ctx); err == nil {
				s.say("%s: sees %q leading, term %d", who, l.ID, l.Token)
			}
		}
	})
}

func (s *scenario) release(who string) error {
	a := s.acts[who]
	if a == nil || a.release == nil {
		return op.Errorf(op.BadRequest, "%s has nothing", who)
	}
	return a.release()
}

// stopped ends a task of a test that is over.
func stopped() {
	if p := recover(); p != nil && p != errStopped {
		panic(p)
	}
}

func (s *scenario) list(path string) {
	for n, err := range children(context.Background(), s.admin(), path, true) {
		if err != nil {
			s.say("%v", err)
			return
		}
		s.say("%s %s %s", op.Base(n.Path), n.Stat.Kind, n.Data)
	}
}

func (s *scenario) show(t *testing.T, c *conn, name string) {
	i, err := Inspect(t.Context(), c, name)
	if err != nil {
		s.fail("", err)
		return
	}
	s.say("%s %s slots=%d kept=%v", i.Name, i.Mode, i.Slots, i.Kept)
	if d := i.Delayed; d != nil {
		s.say("delayed for all but %s, token=%d from %d to %d", d.Owner, d.Token, d.Since, d.Until)
	}
	s.contenders(i)
}

func (s *scenario) contenders(i *Info) {
	for _, h := range i.Holders {
		s.say("held by %s token=%d session=%s since=%d", h.Owner, h.Token, h.Session, h.Since)
	}
	for _, h := range i.Waiters {
		s.say("wanted by %s token=%d since=%d", h.Owner, h.Token, h.Since)
	}
	for _, h := range i.History {
		s.say("before: %s token=%d from %d to %d %s %s", h.Owner, h.Token, h.Since, h.Until, h.Ended, h.By)
	}
}

func (s *scenario) election(t *testing.T, c *conn, name string) {
	i, err := InspectElection(t.Context(), c, name)
	if err != nil {
		s.fail("", err)
		return
	}
	s.say("%s led by %q value=%q term=%d", i.Name, i.Leader.ID, i.Leader.Value, i.Leader.Token)
	s.contenders(&i.Info)
}
