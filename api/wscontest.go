package api

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/coord-kv/coord/internal/recipe"
	"github.com/coord-kv/coord/op"
	"github.com/coord-kv/coord/watch"
)

// Requests of the JSON form that a recipe carries out next to the server: locks, candidacies, instances. The binary form
// has none, because who speaks it runs recipes itself.
//
// Each has a goroutine, since a recipe waits. What it waits for ends with the connection: a waiter that nobody hears of is
// gone at once. What it was granted is the session's, and outlives the connection as that does; asked for again on
// another one, it is taken up as it is.

// wsContests is how many of them one connection may have, under way and held.
const wsContests = 128

// contest is one such request. Its fields below run are guarded by wsConn.mu.
type contest struct {
	id    uint64
	verb  string
	kind  string // of what is contended for: "lock" or "election"; "" for nothing
	dir   string
	name  string
	owner string        // as it was asked for
	wait  time.Duration // or asLongAsConnected
	run   func(ctx context.Context, x *contestConn, k *contest) (form any, held holdable, err error)

	req      *wsRequest
	cancel   context.CancelFunc
	answered chan struct{} // closed when the wait is over
	ahead    int           // how many must leave first, as last heard
	waited   bool
	queued   bool // in wsContestants.news
	token    op.Zxid
	held     holdable // nil while it waits
}

// holdable is what can be held, and lost: a *recipe.Grant or a *recipe.Term.
type holdable interface {
	Lost(context.Context) error
}

// wsContestants are the contests of a connection. All is guarded by wsConn.mu but going.
type wsContestants struct {
	open  map[*contest]bool
	news  []*contest // that have moved in their line
	notes [][]byte   // of what was lost
	going sync.WaitGroup
	conn  *contestConn // made for the first of them
}

// contestConn is the connection's session as recipes use it.
type contestConn struct {
	c       *wsConn
	auth    []op.Identity
	resumed bool
	ctx     context.Context // of the session; it outlives the connection by what recipes do to leave no traces
	end     context.CancelCauseFunc
	wait    context.Context // of the connection
	hangUp  context.CancelFunc
}

var _ recipe.Conn = (*contestConn)(nil)

// contestConn returns the one of this connection. The reader calls it.
func (c *wsConn) contestConn() *contestConn {
	c.mu.Lock()
	defer c.mu.Unlock()
	x := c.contests.conn
	if x == nil {
		x = &contestConn{c: c, auth: c.read.auth, resumed: c.read.resumed}
		x.ctx, x.end = context.WithCancelCause(context.Background())
		x.wait, x.hangUp = context.WithCancel(x.ctx)
		c.contests.conn, c.contests.open = x, make(map[*contest]bool)
	}
	if c.ending != nil { // its session may have ended, or gone on elsewhere, before there was anybody to tell
		x.hangUp()
	}
	return x
}

// Session returns the session of the connection.
func (x *contestConn) Session() op.SessionID { return x.c.session.id }

// Context ends with the session.
func (x *contestConn) Context() context.Context { return x.ctx }

// Do has o decided. It waits for that no longer than a request may take.
func (x *contestConn) Do(ctx context.Context, o op.Op) (*op.Result, error) {
	ctx, cancel := context.WithTimeout(ctx, x.c.s.limits.RequestTimeout)
	defer cancel()
	res := x.c.s.backend.Do(ctx, &op.Request{Session: x.Session(), Auth: x.auth, Op: o})
	if res.Err != nil {
		return nil, res.Err
	}
	x.c.show(res.Zxid)
	return res, nil
}

// Read reads from a state as fresh as ro asks.
func (x *contestConn) Read(ctx context.Context, o op.Op, ro op.ReadOptions) (*op.Result, error) {
	ctx, cancel := context.WithTimeout(ctx, x.c.s.limits.RequestTimeout)
	defer cancel()
	v, _, err := x.c.s.backend.View(ctx, ro)
	if err != nil {
		return nil, readError(err)
	}
	res := v.Read(o, x.auth)
	if res.Err != nil {
		return nil, res.Err
	}
	return &res, nil
}

// Watch watches what this member applies.
func (x *contestConn) Watch(_ context.Context, f watch.Filter, from op.Zxid) (recipe.Events, error) {
	f.Auth = x.auth
	s, err := x.c.s.backend.Watch(f, from)
	if err != nil {
		return nil, err
	}
	return &contestEvents{s, x.c.s.draining}, nil
}

// contestEvents is a stream that is waited for until the server drains. The client's frames keep the session alive.
type contestEvents struct {
	*watch.Stream
	draining <-chan struct{}
}

// Next waits for events.
func (e *contestEvents) Next(ctx context.Context) ([]op.Event, op.Zxid, error) {
	for {
		events, pos, err := e.Take(takeEvents)
		if len(events) > 0 || err != nil {
			return events, pos, err
		}
		select {
		case <-e.Ready():
		case <-e.draining:
			return nil, pos, op.Errorf(op.Draining, "waiting here ends; ask another member")
		case <-ctx.Done():
			return nil, pos, ctx.Err()
		}
	}
}

// startContest hands a request over to a goroutine. What its message holds is let go: it may wait for long.
func (c *wsConn) startContest(r *wsRequest, k *contest) {
	if c.session.id == 0 {
		c.finishWith(r, op.Errorf(op.NoSession, "%s is done in a session, and this connection has none: ask for one with hello", k.verb))
		return
	}
	c.letGo(r)
	x := c.contestConn()
	ctx := x.wait
	if k.wait == asLongAsConnected {
		ctx, k.cancel = context.WithCancel(ctx)
	} else {
		ctx, k.cancel = context.WithTimeout(ctx, k.wait)
	}
	k.req, k.answered = r, make(chan struct{})
	if err := c.admit(k); err != nil {
		k.cancel()
		c.s.metrics.rejected.WithLabelValues("overload").Inc()
		c.finishWith(r, err)
		return
	}
	c.contests.going.Go(func() {
		defer c.dismiss(k)
		defer func() {
			if p := recover(); p != nil {
				c.panicked(p)
				k.over()
			}
		}()
		c.contend(ctx, x, k)
	})
}

// letGo gives back what the request's message holds.
func (c *wsConn) letGo(r *wsRequest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.letGoLocked(r)
}

// letGoLocked is letGo for those who hold mu.
func (c *wsConn) letGoLocked(r *wsRequest) {
	c.held -= r.bytes
	r.bytes = 0
	c.room.Signal()
	r.msg.release()
	r.msg = &wsMessage{s: c.s}
	r.msg.refs.Store(1)
}

// admit finds room for a contest. For what gives something back there is some yet where there is none for more.
func (c *wsConn) admit(k *contest) error {
	most := wsContests
	if k.kind == "" {
		most *= 2
	} else if c.s.watches.Add(1) > int64(c.s.limits.Watches) {
		c.s.watches.Add(-1)
		return op.Errorf(op.Overloaded, "as many requests wait as this member takes at once; connect to another one")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.contests.open) < most {
		c.contests.open[k] = true
		return nil
	}
	if k.kind != "" {
		c.s.watches.Add(-1)
	}
	return &op.Error{
		Code: op.Overloaded, Limit: wsContests,
		Detail: "this connection holds and waits for as much as it may; use several",
	}
}

// dismiss is the end of a contest's goroutine.
func (c *wsConn) dismiss(k *contest) {
	k.cancel()
	if k.kind != "" {
		c.s.watches.Add(-1)
	}
}

// contend carries a request out, answers it, and tells when what it was granted is lost.
func (c *wsConn) contend(ctx context.Context, x *contestConn, k *contest) {
	form, held, err := k.run(ctx, x, k)
	if !c.answerContest(k, form, held, err) {
		return
	}
	for {
		err := held.Lost(x.wait)
		e, ok := errors.AsType[*op.Error](err)
		switch {
		case !ok || e.Code == op.SessionExpired || e.Code == op.Draining || x.wait.Err() != nil:
			return // who is told of that, is told by others
		case e.Code == op.NotHolder:
			c.loseContest(k, "broken", e.Detail)
			return
		}
		c.s.log.Debug("couldn't find out whether a lock is held", "connection", c.id, "error", err)
		select { // it is held for all that is known
		case <-time.After(time.Second):
		case <-x.wait.Done():
		}
	}
}

// answerContest says what came of a request, unless its session has ended meanwhile, and reports whether something is held
// from here on.
func (c *wsConn) answerContest(k *contest, form any, held holdable, err error) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	k.over()
	if !c.contests.open[k] {
		return false
	}
	if err != nil || held == nil {
		delete(c.contests.open, k)
	} else {
		k.held = held
	}
	if k.waited {
		k.req.start = c.s.uptime() // the wait is not the server's time
	}
	k.req.form, k.req.err = form, err
	c.finishLocked(k.req)
	return err == nil && held != nil
}

// granted notes the fencing token of what will be answered.
func (c *wsConn) granted(k *contest, token op.Zxid) {
	c.mu.Lock()
	k.token = token
	c.mu.Unlock()
}

// over says that the wait is. It is called by the contest's goroutine, perhaps twice.
func (k *contest) over() {
	select {
	case <-k.answered:
	default:
		close(k.answered)
	}
}

// moved notes how many stand before a contender. Only the last word is sent to a client that is slow to read.
func (c *wsConn) moved(k *contest, ahead int) {
	c.mu.Lock()
	k.ahead, k.waited = ahead, true
	if !k.queued && c.contests.open[k] {
		k.queued = true
		c.contests.news = append(c.contests.news, k)
		c.signal()
	}
	c.mu.Unlock()
}

// loseContest tells that something is not held any more, unless the client has given it back.
func (c *wsConn) loseContest(k *contest, why, detail string) {
	c.mu.Lock()
	c.loseLocked(k, why, detail)
	c.mu.Unlock()
}

func (c *wsConn) loseLocked(k *contest, why, detail string) {
	if c.contests.open[k] {
		delete(c.contests.open, k)
		c.contests.notes = append(c.contests.notes, appendLost(nil, k, why, detail))
		c.signal()
	}
}

// endContestsLocked is the end of the session, which takes all with it: what is held is lost, who waits gets an error, and
// whatever the recipes still find out comes too late.
func (c *wsConn) endContestsLocked(leaving bool) {
	if c.contests.conn == nil {
		return
	}
	all := make([]*contest, 0, len(c.contests.open))
	for k := range c.contests.open {
		all = append(all, k)
	}
	slices.SortFunc(all, func(a, b *contest) int { return cmp.Compare(a.id, b.id) })
	for _, k := range all {
		switch {
		case k.held == nil:
			k.req.err = &op.Error{Code: op.SessionExpired, Outcome: op.Decided, Detail: "the session has ended"}
			c.finishLocked(k.req)
		case !leaving:
			c.loseLocked(k, op.SessionExpired.String(), "")
		}
		delete(c.contests.open, k)
	}
	c.contests.conn.end(errSessionEnded)
}

// stopWaiting ends the waits: nothing is heard of the client any more. It is called by the reader, or with mu held.
func (c *wsConn) stopWaiting() {
	if c.contests.conn != nil {
		c.contests.conn.hangUp()
	}
}

// hangUp returns when nothing is left of those who waited.
func (c *wsConn) hangUp() {
	if c.contests.conn != nil {
		c.contests.going.Wait()
		c.contests.conn.end(errHungUp)
	}
}

// errHungUp is why the context of a contestConn ends with its connection.
var errHungUp = errors.New("the connection has ended")

// contestOf returns what the connection holds or waits for, by a token or as the only one of its kind in that directory; nil
// if there is none. Then the session may hold it all the same, since before it came here.
func (c *wsConn) contestOf(kind, dir string, token op.Zxid) (*contest, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var found *contest
	for k := range c.contests.open {
		if k.kind != kind || k.dir != dir || token != 0 && k.token != token {
			continue
		}
		if found != nil {
			return nil, op.Errorf(op.BadRequest, "this connection holds or awaits %s more than once; say which by its token", dir)
		}
		found = k
	}
	return found, nil
}

// appendContestNews appends where contenders stand and what was lost.
func (c *wsConn) appendContestNews(news []*contest, notes [][]byte) error {
	for _, k := range news {
		c.mu.Lock()
		waits, ahead := c.contests.open[k] && k.held == nil, k.ahead
		k.queued = false
		c.mu.Unlock()
		if !waits {
			continue
		}
		c.write.buf = appendProgress(c.write.buf, k.id, ahead)
		if err := c.appended(); err != nil {
			return err
		}
	}
	for _, note := range notes {
		c.write.buf = append(c.write.buf, note...)
		if err := c.appended(); err != nil {
			return err
		}
	}
	return nil
}
