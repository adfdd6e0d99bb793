package api

import (
	"context"
	"errors"
	"time"

	"github.com/coord-kv/coord/fsm"
	"github.com/coord-kv/coord/internal/recipe"
	"github.com/coord-kv/coord/op"
	"github.com/coord-kv/coord/watch"
)

// sessionConn is a session as the connection of a recipe that waits in it, for as long as a request is being served.
// Who waits is there, so waiting keeps the session alive, every third of its timeout.
type sessionConn struct {
	c      *call
	id     op.SessionID // 0 for none: then nothing is kept alive
	ttl    time.Duration
	secret string // if the session was made for this request
	ctx    context.Context
	end    context.CancelCauseFunc
	stop   func()
	beat   time.Time // when it is next due
	beaten func() error
	seen   op.Zxid // the latest state that was read or written
}

var _ recipe.Conn = (*sessionConn)(nil)

// errSessionEnded is why the context of a sessionConn ends.
var errSessionEnded = errors.New("it has expired, or was ended")

// connect returns a connection of a session that the caller has proven to own; close must be called.
//
// Its context outlives the request: what the recipe does to leave no traces must be done when the client has gone, too.
func (c *call) connect(id op.SessionID, ttl time.Duration) *sessionConn {
	x := &sessionConn{c: c, id: id, ttl: ttl, beat: time.Now().Add(ttl / 3), stop: func() {}}
	x.ctx, x.end = context.WithCancelCause(context.WithoutCancel(c.r.Context()))
	if id != 0 {
		x.stop = c.s.backend.FollowSession(id, func(s fsm.SessionChange) {
			if s.Ended {
				x.end(errSessionEnded)
			}
		})
	}
	return x
}

func (x *sessionConn) close() {
	x.stop()
	x.end(nil)
}

// Session returns the session; 0 for none.
func (x *sessionConn) Session() op.SessionID { return x.id }

// Context ends with the session.
func (x *sessionConn) Context() context.Context { return x.ctx }

// Do has o decided. It waits for that no longer than a request may take.
func (x *sessionConn) Do(ctx context.Context, o op.Op) (*op.Result, error) {
	ctx, cancel := context.WithTimeout(ctx, x.c.s.limits.RequestTimeout)
	defer cancel()
	res := x.c.s.backend.Do(ctx, &op.Request{Session: x.id, Auth: x.c.auth, Op: o})
	if res.Err != nil {
		return nil, res.Err
	}
	x.saw(res.Zxid)
	return res, nil
}

// saw notes which state the answer reflects.
func (x *sessionConn) saw(z op.Zxid) {
	if x.seen = max(x.seen, z); !x.c.replied {
		x.c.setZxid(x.seen)
	}
}

// Read reads from a state as fresh as ro asks.
func (x *sessionConn) Read(ctx context.Context, o op.Op, ro op.ReadOptions) (*op.Result, error) {
	ctx, cancel := context.WithTimeout(ctx, x.c.s.limits.RequestTimeout)
	defer cancel()
	v, _, err := x.c.s.backend.View(ctx, ro)
	if err != nil {
		return nil, readError(err)
	}
	x.saw(v.Zxid())
	return x.c.readFrom(v, o)
}

// Watch watches what this member applies.
func (x *sessionConn) Watch(_ context.Context, f watch.Filter, from op.Zxid) (recipe.Events, error) {
	f.Auth = x.c.auth
	s, err := x.c.s.backend.Watch(f, from)
	if err != nil {
		return nil, err
	}
	return &waiting{s, x}, nil
}

// waiting is a stream that keeps the session alive while it is waited for.
type waiting struct {
	*watch.Stream
	conn *sessionConn
}

// Next waits for events, or until the server drains.
func (w *waiting) Next(ctx context.Context) ([]op.Event, op.Zxid, error) {
	beat := time.NewTimer(time.Until(w.conn.beat))
	defer beat.Stop()
	for {
		events, pos, err := w.Take(takeEvents)
		if len(events) > 0 || err != nil {
			return events, pos, err
		}
		select {
		case <-w.Ready():
		case <-beat.C:
			if err := w.conn.keepAlive(ctx); err != nil {
				return nil, pos, err
			}
			beat.Reset(time.Until(w.conn.beat))
		case <-w.conn.c.s.draining:
			return nil, pos, op.Errorf(op.Draining, "waiting here ends; ask another member")
		case <-ctx.Done():
			return nil, pos, ctx.Err()
		}
	}
}

// keepAlive gives a sign of life. That it can't be confirmed just now is no reason to give up: whether the session has
// ended is known from the state.
func (x *sessionConn) keepAlive(ctx context.Context) error {
	x.beat = time.Now().Add(x.ttl / 3)
	if x.id == 0 {
		x.beat = time.Now().Add(time.Hour)
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, x.ttl/3)
	defer cancel()
	_, err := x.c.s.backend.KeepAlive(ctx, x.id)
	if errors.Is(err, &op.Error{Code: op.SessionExpired}) {
		x.end(errSessionEnded)
		return err
	}
	if err == nil && x.beaten != nil {
		return x.beaten()
	}
	return nil
}

// Sessions for a lock or a candidacy.

// ownSession marks, as its metadata, a session that was made for one lock or candidacy, and ends with it.
func ownSession(dir string) []byte { return []byte("coord: for " + dir) }

// join connects to the session that the request acts in; without one, a lease is opened that belongs to dir. Everything
// in the query must have been taken.
func (c *call) join(dir string, ttl time.Duration) (*sessionConn, error) {
	id, err := c.session()
	if err != nil {
		return nil, err
	}
	if id != 0 && ttl != 0 {
		c.q.faults.add("ttl", "is that of the session that is made without Coord-Session")
	}
	if c.header("Idempotency-Key") != "" {
		c.q.faults.add("Idempotency-Key",
			"can't be used here; to repeat this safely, act in a session of your own, and look first")
	}
	c.fenceNothing()
	if err := c.q.done(); err != nil {
		return nil, err
	}
	if id == 0 {
		return c.openFor(dir, ttl)
	}
	s, err := c.findSession(id, op.Eventual)
	if err != nil {
		return nil, err
	}
	return c.connect(id, s.Timeout), nil
}

// fenceNothing refuses a fencing token where it would guard nothing.
func (c *call) fenceNothing() {
	if len(c.fence()) > 0 {
		c.q.faults.add("Coord-Fencing-Token", "can't guard this")
	}
	c.refuseConditions()
}

func (c *call) openFor(dir string, ttl time.Duration) (*sessionConn, error) {
	o := &op.OpenSession{Timeout: ttl, Name: label(dir), Metadata: ownSession(dir), Lease: true}
	if o.Timeout == 0 {
		o.Timeout = defaultTTL
	}
	secret := newSecret(&o.Secret)
	ctx, cancel := c.withTimeout()
	defer cancel()
	res := c.s.backend.Do(ctx, &op.Request{Auth: c.auth, Op: o})
	if res.Err != nil {
		return nil, res.Err
	}
	x := c.connect(res.Session.ID, time.Duration(res.Session.Timeout)*time.Millisecond)
	x.secret = secret
	return x, nil
}

// abandon ends the session if it was made for dir: with it goes what it holds.
func (x *sessionConn) abandon(dir string) error {
	if x.id == 0 {
		return nil
	}
	s, err := x.c.findSession(x.id, op.Eventual)
	if err != nil || string(s.Metadata) != string(ownSession(dir)) {
		return err
	}
	return x.endSession(false)
}

// endSession ends the session: for its owner, or as killed, when what outlives it stays for a while.
func (x *sessionConn) endSession(killed bool) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(x.c.r.Context()), x.c.s.limits.RequestTimeout)
	defer cancel()
	o := &op.CloseSession{Session: x.id, Killed: killed}
	if res := x.c.s.backend.Do(ctx, &op.Request{Session: x.id, Auth: x.c.auth, Op: o}); res.Err != nil {
		return res.Err
	}
	return nil
}

// owner connects to the session that the request must act in.
func (c *call) owner() (*sessionConn, error) {
	id, err := c.session()
	if err != nil {
		return nil, err
	}
	if id == 0 {
		c.q.faults.add("Coord-Session", "is required, with its secret, as the answer to the acquisition has it")
	}
	c.fenceNothing()
	if err := c.q.done(); err != nil {
		return nil, err
	}
	s, err := c.findSession(id, op.Eventual)
	if err != nil {
		return nil, err
	}
	return c.connect(id, s.Timeout), nil
}

// nobody connects without a session, to look or to use force. Everything in the query must have been taken.
func (c *call) nobody() (*sessionConn, error) {
	c.fenceNothing()
	if err := c.q.done(); err != nil {
		return nil, err
	}
	return c.connect(0, time.Hour), nil
}

// as does what f does as whom connect says, the owner or nobody, within the time of a request.
func (c *call) as(connect func() (*sessionConn, error), f func(context.Context, *sessionConn) error) error {
	x, err := connect()
	if err != nil {
		return err
	}
	defer x.close()
	ctx, cancel := c.withTimeout()
	defer cancel()
	return f(ctx, x)
}

// waitFor reads ?wait= or the preference for it. Without either it is as long as the connection lives if hold says so,
// else def.
func (c *call) waitFor(hold bool, def time.Duration) time.Duration {
	switch {
	case c.q.has("wait") || len(c.r.Header["Prefer"]) > 0:
		return c.pollWait()
	case hold:
		return asLongAsConnected
	}
	return def
}

// asLongAsConnected is a wait that the end of the connection ends.
const asLongAsConnected = -1

// within returns the request's context, ended when the wait is over.
func (c *call) within(wait time.Duration) (context.Context, context.CancelFunc) {
	if wait == asLongAsConnected {
		return context.WithCancel(c.r.Context())
	}
	return context.WithTimeout(c.r.Context(), wait)
}

// long counts a request that may wait for as long as its client likes.
func (c *call) long(serve func() error) error {
	defer c.s.watches.Add(-1)
	if c.s.watches.Add(1) > int64(c.s.limits.Watches) {
		return c.overloaded("as many requests wait as this member takes at once")
	}
	if c.s.isDraining() {
		return op.Errorf(op.Draining, "nothing is waited for here any more")
	}
	start := c.s.now()
	defer func() { c.waited = c.s.now().Sub(start) }()
	defer (&watching{c: c}).allowWrite()
	return serve()
}
