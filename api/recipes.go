package api

import (
	"cmp"
	"context"
	"strconv"
	"time"

	"github.com/coord-kv/coord/fsm"
	"github.com/coord-kv/coord/internal/recipe"
	"github.com/coord-kv/coord/internal/recipe/attempt"
	"github.com/coord-kv/coord/op"
	"github.com/coord-kv/coord/watch"
)

// requestConn is one request as the connection of a recipe: what the recipe does is done in the name of the request's
// sender, and behind the fence that the sender asks for.
//
// A recipe may write several times, say because somebody else was faster. With an Idempotency-Key each of its writes has
// a key of its own, made of that one and a number, so that a retry gets the answers that were given then, one after the
// other. That takes a recipe whose every write has the same form, whatever it reads before, and whose answer is in the
// results of its writes alone. Recipes that merely say how something shall be need no key, and take none.
type requestConn struct {
	c       *call
	session op.SessionID
	state   *fsm.View // what reads are from, unless they ask for more; nil for what each of them asks
	key     *op.Key
	fence   []op.Op
	writes  int
	wrote   op.Zxid
}

var (
	_ recipe.Conn       = (*requestConn)(nil)
	_ attempt.Repeating = (*requestConn)(nil)
)

// reading returns a connection that reads from a state as fresh as the caller asks, and from one state only. Everything
// in the query must have been taken.
func (c *call) reading() (*requestConn, error) {
	v, err := c.view()
	return &requestConn{c: c, state: v}, err
}

// writing returns a connection that writes in the caller's name what can be repeated without harm. Everything in the
// query must have been taken.
func (c *call) writing() (*requestConn, error) {
	x, err := c.newWriting()
	if err == nil && c.header("Idempotency-Key") != "" {
		c.q.faults.add("Idempotency-Key", "is of no use here: this request can be repeated as it is")
	}
	return x, cmp.Or(err, c.q.done())
}

// writingOnce returns a connection that writes in the caller's name what a key keeps from being done twice.
func (c *call) writingOnce() (*requestConn, error) {
	x, err := c.newWriting()
	if err != nil {
		return nil, err
	}
	x.key = c.key(x.session)
	if c.keyed = x.key != nil; c.keyed {
		window := c.s.stateLimits(c.r.Context()).KeyWindow
		c.w.Header()["Coord-Idempotency-Window"] = []string{strconv.FormatInt(int64(window/time.Second), 10)}
	}
	return x, c.q.done()
}

func (c *call) newWriting() (*requestConn, error) {
	session, err := c.session()
	x := &requestConn{c: c, session: session, fence: c.fence()}
	c.refuseConditions()
	return x, err
}

// Session returns the session that the request acts in; 0 for none.
func (x *requestConn) Session() op.SessionID { return x.session }

// Context is the request's: whether the session lives is decided with each write.
func (x *requestConn) Context() context.Context { return x.c.r.Context() }

// Do has o decided.
func (x *requestConn) Do(ctx context.Context, o op.Op) (*op.Result, error) {
	checks := x.fence
	if !o.Verb().InTxn() && o.Verb() != op.VerbTxn {
		checks = nil // it is about a session, which no fence guards
	}
	r := &op.Request{Session: x.session, Key: x.nextKey(), Auth: x.c.auth, Op: fenced(checks, o)}
	res := x.c.s.backend.Do(ctx, r)
	x.wrote = max(x.wrote, res.Zxid)
	if res.Err != nil {
		return nil, res.Err
	}
	x.c.setZxid(x.wrote)
	return unfenced(len(checks), o, res), nil
}

// Repeating reports whether the request has a key, so that what it asks for may have been done.
func (x *requestConn) Repeating() bool { return x.key != nil }

func (x *requestConn) nextKey() *op.Key {
	if x.key == nil {
		return nil
	}
	x.writes++
	k := *x.key
	k.Key += "/" + strconv.Itoa(x.writes)
	return &k
}

// Read reads from the connection's state if that will do, else from one that o asks for.
func (x *requestConn) Read(_ context.Context, o op.Op, ro op.ReadOptions) (*op.Result, error) {
	v := x.state
	if ro.MinZxid = max(ro.MinZxid, x.wrote); v == nil || v.Zxid() < ro.MinZxid {
		var err error
		if v, _, err = x.c.viewAt(ro); err != nil {
			return nil, err
		}
	}
	return x.c.readFrom(v, o)
}

// Watch watches what this member applies.
func (x *requestConn) Watch(_ context.Context, f watch.Filter, from op.Zxid) (recipe.Events, error) {
	f.Auth = x.c.auth
	return x.c.s.backend.Watch(f, from)
}

// The polls of recipes answer with the state, not with events: nothing is lost when history is, so that is no error here.

// pollReading is reading for what can be waited for: with ?since it is a state in which something that f matches has
// changed after that position, or the one in which the wait was over.
func (c *call) pollReading(f watch.Filter) (*requestConn, error) {
	if !c.q.has("since") {
		c.q.none("is for a request with since: the position to wait for a change after", "wait")
		return c.reading()
	}
	since, wait := c.q.zxid("since"), c.pollWait()
	o := c.readOptions()
	if err := c.q.done(); err != nil {
		return nil, err
	}
	pos, err := c.awaitChange(f, since, wait)
	if err != nil {
		return nil, err
	}
	o.MinZxid = max(o.MinZxid, pos)
	v, info, err := c.viewAt(o)
	if err != nil {
		return nil, err
	}
	c.setFreshness(info)
	return &requestConn{c: c, state: v}, nil
}

// awaitChange waits for a change that f matches after since, and returns where that has led to; since if there was none in
// time, and 0 if that can't be told any more.
func (c *call) awaitChange(f watch.Filter, since op.Zxid, wait time.Duration) (op.Zxid, error) {
	defer c.s.watches.Add(-1)
	if c.s.watches.Add(1) > int64(c.s.limits.Watches) {
		return 0, c.overloaded("as many watches are open as this member takes at once")
	}
	// A state that has reached the position proves that it is none of another history.
	if _, _, err := c.viewAt(op.ReadOptions{Level: op.Eventual, MinZxid: since}); err != nil {
		return 0, err
	}
	f.Auth = c.auth
	stream, err := c.s.backend.Watch(f, since)
	if positionLost(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer stream.Close()
	defer c.s.metrics.watching(f.Scope)()
	return c.nextChange(stream, since, wait)
}

func (c *call) nextChange(stream *watch.Stream, since op.Zxid, wait time.Duration) (op.Zxid, error) {
	start := c.s.now()
	defer func() { c.waited = c.s.now().Sub(start) }()
	over := time.NewTimer(wait)
	defer over.Stop()
	defer c.allowWrite()
	for last := false; ; {
		events, pos, err := stream.Take(takeEvents)
		switch {
		case positionLost(err):
			return 0, nil
		case err != nil:
			return 0, err
		case len(events) > 0:
			return pos, nil
		case last:
			return max(since, pos), nil
		}
		select {
		case <-stream.Ready():
		case <-over.C:
			last = true
		case <-c.s.draining:
			last = true
		case <-c.r.Context().Done():
			last = true
		}
	}
}

// allowWrite gives the answer its time; the deadline that net/http has set may be long over.
func (c *call) allowWrite() {
	(&watching{c: c}).allowWrite()
}
