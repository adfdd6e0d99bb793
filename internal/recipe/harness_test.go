package recipe

import (
	"context"
	"encoding/binary"
	"fmt"
	"iter"
	"math/rand/v2"
	"testing"

	"github.com/coord-kv/coord/fsm"
	"github.com/coord-kv/coord/op"
	"github.com/coord-kv/coord/watch"
)

// world is a state machine with its event history, and clients that use it one step at a time. A step is one call of a
// Conn. Who steps next is chosen from outside, so an interleaving is a list of choices.
type world struct {
	t       testing.TB
	machine *fsm.Machine
	history *watch.History
	tasks   []*task
	ids     uint64
	applied func(r *op.Request, res *op.Result) // after each request
}

func newWorld(t testing.TB) *world {
	w := &world{t: t, machine: fsm.New(), history: watch.New(watch.Limits{}, nil, 0, 0)}
	t.Cleanup(w.stop)
	return w
}

func (w *world) apply(r *op.Request, age uint64) *op.Result {
	in := &op.Batch{Wall: op.Time(w.machine.Zxid()), Age: age, Requests: []*op.Request{r}}
	batch, err := op.DecodeBatch(in.Append(nil)) // as it comes out of the log
	if err != nil {
		w.t.Fatal(err)
	}
	done := w.machine.Apply(batch)
	w.history.Publish(done.Events, w.machine.Zxid())
	if w.applied != nil {
		w.applied(r, &done.Results[0])
	}
	return &done.Results[0]
}

// pass lets time pass on the age clock, and has what is due reaped, as a leader does.
func (w *world) pass(ms uint64) {
	w.apply(&op.Request{Op: &op.Reap{Paths: w.machine.Due(ms, 1000)}}, ms)
}

// Read draws names: the same ones in each run.
func (w *world) Read(p []byte) (int, error) {
	w.ids++
	clear(p)
	binary.BigEndian.PutUint64(p[len(p)-8:], w.ids)
	return len(p), nil
}

func (w *world) open() *conn {
	res := w.apply(&op.Request{Op: &op.OpenSession{Secret: op.Hash{1}}}, 0)
	c := w.admin()
	c.id = res.Session.ID
	c.ctx, c.end = context.WithCancelCause(context.Background())
	return c
}

// expire ends a session. Its client isn't told; see learn.
func (w *world) expire(id op.SessionID) {
	w.apply(&op.Request{Op: &op.CloseSession{Session: id, Killed: true}}, 0)
}

// task is a client at work: a coroutine that stops before each call of a Conn and whenever it has to wait.
type task struct {
	name   string
	step   func() (struct{}, bool)
	stop   func()
	yield  func(struct{}) bool
	ready  func() bool // nil if it can go on
	done   bool
	cancel context.CancelFunc
}

func (w *world) spawn(name string, f func(ctx context.Context, t *task)) *task {
	t := &task{name: name}
	ctx, cancel := context.WithCancel(context.Background())
	t.cancel = cancel
	t.step, t.stop = iter.Pull(func(yield func(struct{}) bool) {
		t.yield = yield
		f(ctx, t)
	})
	w.tasks = append(w.tasks, t)
	return t
}

func (w *world) stop() {
	for _, t := range w.tasks {
		t.cancel()
		t.stop()
	}
}

// pause lets others step. A task that is stopped for good panics, which ends it.
func (t *task) pause(ready func() bool) {
	t.ready = ready
	if !t.yield(struct{}{}) {
		panic(errStopped)
	}
	t.ready = nil
}

var errStopped = fmt.Errorf("the test is over")

func (t *task) runnable() bool { return !t.done && (t.ready == nil || t.ready()) }

func (t *task) advance() {
	if _, more := t.step(); !more {
		t.done = true
	}
}

// run advances tasks until none can go on, choosing by rng, or the first one that can if it is nil.
func (w *world) run(rng *rand.Rand, between func()) {
	for {
		var can []*task
		for _, t := range w.tasks {
			if t.runnable() {
				can = append(can, t)
			}
		}
		if len(can) == 0 {
			return
		}
		i := 0
		if rng != nil {
			i = rng.IntN(len(can))
		}
		can[i].advance()
		if between != nil {
			between()
		}
	}
}

// conn is a session. With task nil its calls don't stop.
type conn struct {
	*sharedSession
	task  *task
	last  op.Zxid         // the state at its latest request
	calls map[op.Verb]int // by what they do
}

// sharedSession is what the conns of one session share.
type sharedSession struct {
	w    *world
	id   op.SessionID
	ctx  context.Context
	end  context.CancelCauseFunc
	lost bool // the client knows that the session has ended
	blur func(o op.Op) (apply, unknown bool)
}

// as returns the session for a task.
func (c *conn) as(t *task) *conn { return &conn{sharedSession: c.sharedSession, task: t} }

// admin returns a conn of no session.
func (w *world) admin() *conn {
	return &conn{sharedSession: &sharedSession{w: w, ctx: context.Background()}}
}

// learn tells the client that its session has ended.
func (c *conn) learn() {
	c.lost = true
	c.end(fmt.Errorf("the session has expired"))
}

func (c *conn) Session() op.SessionID    { return c.id }
func (c *conn) Context() context.Context { return c.ctx }

func (c *conn) began(o op.Op) error {
	if c.task != nil {
		c.task.pause(nil)
	}
	if c.lost {
		return &op.Error{Code: op.SessionExpired}
	}
	c.last = c.w.machine.Zxid()
	if c.calls == nil {
		c.calls = make(map[op.Verb]int)
	}
	c.calls[o.Verb()]++
	return nil
}

func (c *conn) Do(_ context.Context, o op.Op) (*op.Result, error) {
	if err := c.began(o); err != nil {
		return nil, err
	}
	apply, unknown := true, false
	if c.blur != nil {
		apply, unknown = c.blur(o)
	}
	var res *op.Result
	if apply {
		res = c.w.apply(&op.Request{Session: c.id, Op: o}, 0)
	}
	if unknown {
		return nil, &op.Error{Code: op.OutcomeUnknown, Outcome: op.Unknown}
	}
	if res.Err != nil {
		return nil, res.Err
	}
	return res, nil
}

func (c *conn) Read(_ context.Context, o op.Op, _ op.ReadOptions) (*op.Result, error) {
	if err := c.began(o); err != nil {
		return nil, err
	}
	res := c.w.machine.View().Read(o, nil)
	if res.Err != nil {
		return nil, res.Err
	}
	return &res, nil
}

func (c *conn) Watch(_ context.Context, f watch.Filter, from op.Zxid) (Events, error) {
	s, err := c.w.history.Subscribe(f, from)
	if err != nil {
		return nil, err
	}
	return &events{c, s}, nil
}

type events struct {
	c *conn
	s *watch.Stream
}

func (e *events) Close() { e.s.Close() }

func (e *events) Next(ctx context.Context) ([]op.Event, op.Zxid, error) {
	for {
		list, at, err := e.s.Take(1)
		switch {
		case len(list) > 0 || err != nil:
			return list, at, err
		case e.c.lost:
			return nil, at, &op.Error{Code: op.SessionExpired}
		case ctx.Err() != nil:
			return nil, at, ctx.Err()
		case e.c.task == nil:
			return nil, at, context.DeadlineExceeded
		}
		e.c.task.pause(func() bool { return len(e.s.Ready()) > 0 || ctx.Err() != nil || e.c.lost })
	}
}
