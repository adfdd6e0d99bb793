// Package lab plays recipes in memory, for tests: the real state machine and event history, behind connections whose
// reads are as old as their options allow, with sessions that end and programs that stop when a test wants it.
//
// Programs run as coroutines, one at a time, and yield wherever they use their connection: before a request takes effect,
// and between its effect and its answer. Which one goes on is drawn from the seed, so a seed is one interleaving.
package lab

import (
	"context"
	"errors"
	"iter"
	"math/rand/v2"
	"time"

	"github.com/coord-kv/coord/fsm"
	"github.com/coord-kv/coord/internal/recipe"
	"github.com/coord-kv/coord/op"
	"github.com/coord-kv/coord/watch"
)

// World is one service and the programs that use it.
type World struct {
	Rand    *rand.Rand
	Applied func(*fsm.View) // is called with each new state, if it isn't nil
	machine *fsm.Machine
	history *watch.History
	views   []*fsm.View // the last ones, the newest at the end
	wall    op.Time
	age     uint64
	tasks   []*Task
	running *Task
}

const (
	viewsKept   = 16
	firstMoment = 1_700_000_000_000
)

// New returns an empty world.
func New(seed uint64) *World {
	w := &World{Rand: rand.New(rand.NewPCG(seed, 0)), machine: fsm.New(), wall: firstMoment}
	w.history = watch.New(watch.Limits{}, nil, 0, 0)
	w.views = []*fsm.View{w.machine.View()}
	return w
}

// Chance is true once in n times.
func (w *World) Chance(n int) bool { return w.Rand.IntN(n) == 0 }

// View returns the state as it is.
func (w *World) View() *fsm.View { return w.views[len(w.views)-1] }

// Pass lets time pass: nodes whose time to live is over go.
func (w *World) Pass(d time.Duration) {
	w.age += uint64(d / time.Millisecond)
	w.wall += op.Time(d / time.Millisecond)
	w.apply(&op.Request{Op: &op.Reap{}})
	for due := w.machine.Due(0, 100); len(due) > 0; due = w.machine.Due(0, 100) {
		w.apply(&op.Request{Op: &op.Reap{Paths: due}})
	}
}

func (w *World) apply(r *op.Request) *op.Result {
	done := w.machine.Apply(&op.Batch{Wall: w.wall, Age: w.age, Requests: []*op.Request{r}})
	w.age = 0
	w.wall++
	w.history.Publish(done.Events, w.machine.Zxid())
	w.views = append(w.views, w.machine.View())
	w.views = w.views[max(0, len(w.views)-viewsKept):]
	if w.Applied != nil {
		w.Applied(w.View())
	}
	return &done.Results[0]
}

// Open opens a session and connects.
func (w *World) Open() *Conn {
	res := w.apply(&op.Request{Op: &op.OpenSession{Timeout: time.Minute}})
	c := &Conn{w: w, id: res.Session.ID}
	c.ctx, c.end = context.WithCancelCause(context.Background())
	return c
}

// Guest connects without a session.
func (w *World) Guest() *Conn {
	c := &Conn{w: w}
	c.ctx, c.end = context.WithCancelCause(context.Background())
	return c
}

// Expire ends the session of a connection, as a leader does when nothing is heard of it.
func (w *World) Expire(c *Conn) {
	if c.ended {
		return
	}
	s, _ := w.View().Session(c.id)
	w.apply(&op.Request{Op: &op.Expire{Sessions: []op.Expiry{{Session: c.id, Epoch: s.Epoch, Timeout: s.Timeout}}}})
	c.ended = true
	c.end(errors.New("the session expired"))
}

// Conn is a connection of the lab. It implements recipe.Conn.
type Conn struct {
	w     *World
	id    op.SessionID
	ctx   context.Context
	end   context.CancelCauseFunc
	ended bool
	wrote op.Zxid // of its latest write
	seen  op.Zxid // of its latest read
}

var _ recipe.Conn = (*Conn)(nil)

// Session returns the session's id; 0 of a guest.
func (c *Conn) Session() op.SessionID { return c.id }

// Context ends with the session.
func (c *Conn) Context() context.Context { return c.ctx }

// Do has o decided, with a moment before and one after it in which others do something.
func (c *Conn) Do(ctx context.Context, o op.Op) (*op.Result, error) {
	c.w.yield(nil)
	if err := c.check(ctx); err != nil {
		return nil, err
	}
	res := c.w.apply(&op.Request{Session: c.id, Op: o})
	c.wrote = res.Zxid
	c.w.yield(nil)
	if res.Err != nil {
		return nil, res.Err
	}
	return res, nil
}

func (c *Conn) check(ctx context.Context) error {
	if c.ended {
		return &op.Error{Code: op.SessionExpired, Outcome: op.Decided}
	}
	return ctx.Err()
}

// Read reads from some state that the options allow.
func (c *Conn) Read(ctx context.Context, o op.Op, ro op.ReadOptions) (*op.Result, error) {
	c.w.yield(nil)
	if err := c.check(ctx); err != nil {
		return nil, err
	}
	v := c.w.pick(max(ro.MinZxid, c.wrote), ro.Level, c.seen)
	c.seen = max(c.seen, v.Zxid())
	res := v.Read(o, nil)
	c.w.yield(nil)
	if res.Err != nil {
		return nil, res.Err
	}
	return &res, nil
}

// pick returns some state that is allowed.
func (w *World) pick(least op.Zxid, level op.Level, seen op.Zxid) *fsm.View {
	if level == op.Linearizable || level == op.Bounded {
		return w.View()
	}
	if level == op.Sequential {
		least = max(least, seen)
	}
	first := len(w.views) - 1
	for first > 0 && w.views[first-1].Zxid() >= least {
		first--
	}
	return w.views[first+w.Rand.IntN(len(w.views)-first)]
}

// Watch watches the history.
func (c *Conn) Watch(ctx context.Context, f watch.Filter, from op.Zxid) (recipe.Events, error) {
	c.w.yield(nil)
	if err := c.check(ctx); err != nil {
		return nil, err
	}
	s, err := c.w.history.Subscribe(f, from)
	if err != nil {
		return nil, err
	}
	return &events{c, s}, nil
}

type events struct {
	c *Conn
	s *watch.Stream
}

func (e *events) Next(ctx context.Context) ([]op.Event, op.Zxid, error) {
	for {
		if err := e.c.check(ctx); err != nil {
			return nil, 0, err
		}
		list, pos, err := e.s.Take(1)
		if len(list) > 0 || err != nil {
			return list, pos, err
		}
		e.c.w.yield(func() bool { return len(e.s.Ready()) > 0 || ctx.Err() != nil || e.c.ended })
		select {
		case <-e.s.Ready():
		default:
		}
	}
}

func (e *events) Close() { e.s.Close() }

// Task is a program.
type Task struct {
	next  func() (struct{}, bool)
	stop  func()
	yield func(struct{}) bool
	ready func() bool // whether it can go on; nil for yes
	over  bool
}

var errKilled = errors.New("killed")

// Go begins a program. It runs when Step has it run.
func (w *World) Go(f func()) *Task {
	t := &Task{}
	t.next, t.stop = iter.Pull(func(yield func(struct{}) bool) {
		defer func() {
			if p := recover(); p != nil && p != errKilled {
				panic(p)
			}
		}()
		t.yield = yield
		f()
	})
	w.tasks = append(w.tasks, t)
	return t
}

// Over reports whether the program has ended.
func (t *Task) Over() bool { return t.over }

// Kill stops the program where it stands, as kill -9 does. What it defers can't reach the service any more.
func (w *World) Kill(t *Task) {
	if !t.over {
		t.over = true
		w.running = t
		t.stop()
		w.running = nil
	}
}

// yield lets others run until ready says that the program can go on. Outside of a program it does nothing.
func (w *World) yield(ready func() bool) {
	t := w.running
	if t == nil {
		return
	}
	t.ready = ready
	if t.over || !t.yield(struct{}{}) {
		panic(errKilled)
	}
}

// Pause lets others do something before the program that calls it goes on.
func (w *World) Pause() { w.yield(nil) }

// Step lets one program run until it yields. It is false if none can.
func (w *World) Step() bool {
	var able []*Task
	for _, t := range w.tasks {
		if !t.over && (t.ready == nil || t.ready()) {
			able = append(able, t)
		}
	}
	if len(able) == 0 {
		return false
	}
	t := able[w.Rand.IntN(len(able))]
	w.running = t
	_, more := t.next()
	w.running = nil
	t.over = t.over || !more
	return true
}

// Run lets all programs run until none can go on.
func (w *World) Run() {
	for w.Step() {
	}
}
