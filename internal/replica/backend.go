package replica

import (
	"bytes"
	"context"
	"sync"
	"time"

	"github.com/coord-kv/coord/fsm"
	"github.com/coord-kv/coord/internal/patience"
	"github.com/coord-kv/coord/op"
	"github.com/coord-kv/coord/watch"
)

// errStopped answers what comes after the loop has ended.
var errStopped = op.Errorf(op.Draining, "this member is stopping; ask another one")

func (r *Replica) refusal() *op.Error {
	select {
	case <-r.done:
		return errStopped
	default:
		return op.Errorf(op.Overloaded, "too much waits on this member; try again, or another member")
	}
}

// notInTime says why a wait that the caller gave up was in vain.
func (r *Replica) notInTime() *op.Error {
	switch {
	case r.leader.Load() == 0:
		return op.Errorf(op.NoLeader, "no leader was known in time; a majority of the members must be up and reach each other")
	case !r.pub.Load().Serving:
		return op.Errorf(op.Starting, "this member has not caught up with the leader yet")
	}
	return op.Errorf(op.NoQuorum, "the leader didn't reach a majority of the members in time")
}

// Do proposes the request and waits until it is decided and applied on this member. When ctx ends first, the result's
// error says whether the request surely has not been done (refused) or may have been (unknown).
func (r *Replica) Do(ctx context.Context, req *op.Request) *op.Result {
	ch := make(chan *op.Result, 1)
	k := r.Start(req, func(res *op.Result) { ch <- res })
	if k == nil {
		return &op.Result{Err: r.refusal()}
	}
	r.Drive()
	select {
	case res := <-ch: // who has driven the core often has the answer at once
		return res
	default:
	}
	done, late := patience.Ends(ctx)
	select {
	case res := <-ch:
		return res
	case <-done:
	case <-late:
	case <-r.done:
	}
	return r.abandon(k, ch)
}

func (r *Replica) abandon(k *Call, ch chan *op.Result) *op.Result {
	if k.Abandon() {
		return &op.Result{Err: r.notInTime()}
	}
	select {
	case res := <-ch:
		return res
	default:
	}
	return &op.Result{Err: unknown("no answer in time")}
}

// bodies are lent while a request is encoded, so that what is kept takes no more than it needs.
var bodies = sync.Pool{New: func() any { return new(make([]byte, 0, 512)) }}

// maxLentBody is from how many bytes on a body is not copied, but keeps what was lent.
const maxLentBody = 16 << 10

// encoded returns the request's body.
func encoded(req *op.Request) []byte {
	lent := bodies.Get().(*[]byte)
	b := req.AppendBody((*lent)[:0])
	if cap(b) > maxLentBody {
		return b
	}
	*lent = b
	defer bodies.Put(lent)
	return bytes.Clone(b)
}

// Start hands over the request, which is proposed when the core is next driven, and returns at once; done is called by
// whoever drives it, so it must not block. It returns nil if the request is refused because too much waits.
func (r *Replica) Start(req *op.Request, done func(*op.Result)) *Call {
	k := &Call{Request: req, Body: encoded(req), Done: done}
	if r.watch.observe != nil {
		k.watch, k.start = &r.watch, time.Now()
	}
	if !r.inbox.put(k) {
		return nil
	}
	return k
}

// Submit is Start for callers that can't be refused otherwise than by done. Its result is Call.Abandon of the call.
func (r *Replica) Submit(req *op.Request, done func(*op.Result)) (abandon func() bool) {
	if k := r.Start(req, done); k != nil {
		return k.Abandon
	}
	done(&op.Result{Err: r.refusal()})
	return func() bool { return true }
}

// ViewNow is View as far as it needs no wait; ok is false if it does.
func (r *Replica) ViewNow(o op.ReadOptions) (v *fsm.View, info op.ReadInfo, err error, ok bool) {
	return r.pub.Load().Serve(o, r.opt.Now().Mono)
}

// ViewLater is View for callers that don't wait: it calls done once, at once if the state is fresh enough, else when
// the core has been driven, unless the wait is abandoned first. Abandon is nil if it was called.
func (r *Replica) ViewLater(o op.ReadOptions, done func(*fsm.View, op.ReadInfo, error)) (abandon func() bool) {
	if v, info, err, ok := r.ViewNow(o); ok {
		done(v, info, err)
		return nil
	}
	read := &Read{Options: o, Done: done}
	if !r.inbox.put(read) {
		done(nil, op.ReadInfo{}, r.refusal())
		return nil
	}
	return read.Abandon
}

// Watch subscribes to events after from.
func (r *Replica) Watch(f watch.Filter, from op.Zxid) (*watch.Stream, error) {
	if !r.pub.Load().Serving {
		return nil, op.Errorf(op.Starting, "this member has not caught up with the leader yet")
	}
	return r.history.Subscribe(f, from)
}

// KeepAlive gives a sign of life of the session and waits until a leader has confirmed it. It returns the timeout for which
// the session is safe from then on, counted from when KeepAlive was called: one that was in force after the confirmation.
// This member may know an older, longer one, so it is looked up linearizably, for all sessions that are confirmed together
// by one round. Signs of life are reported once a tick, so nobody is woken for it.
func (r *Replica) KeepAlive(ctx context.Context, id op.SessionID) (time.Duration, error) {
	type answer struct {
		timeout time.Duration
		err     error
	}
	ch := make(chan answer, 1)
	r.KeepAliveLater(id, func(err error) {
		if err != nil {
			ch <- answer{0, err}
		}
	}, func(timeout time.Duration, err error) { ch <- answer{timeout, err} })
	done, late := patience.Ends(ctx)
	select {
	case a := <-ch:
		return a.timeout, a.err
	case <-done:
		return 0, r.notInTime()
	case <-late:
		return 0, r.notInTime()
	case <-r.done:
		return 0, errStopped
	}
}

// KeepAliveLater is KeepAlive for callers that don't wait: done and timeout are called by whoever drives the core, as those of
// the KeepAlive of the core. Timeout may be nil. Nothing is hurried for it.
func (r *Replica) KeepAliveLater(id op.SessionID, done func(error), timeout func(time.Duration, error)) {
	if !r.inbox.put(&KeepAlive{Session: id, Done: done, Timeout: timeout}) {
		done(r.refusal())
	}
}

// Follow has told called by whoever drives the core with what becomes of the session, beginning with how it stands, until stop is
// called. Told must not block.
func (r *Replica) Follow(id op.SessionID, told func(fsm.SessionChange)) (stop func()) {
	f := &Follow{Session: id, Told: told}
	r.tell(func(c *Core) { c.Follow(f) })
	return func() { r.tell(func(c *Core) { c.Unfollow(f) }) }
}

// TimeLeft returns how long the session has to live unless it gives another sign of life, as the leader counts.
func (r *Replica) TimeLeft(ctx context.Context, id op.SessionID) (time.Duration, error) {
	type answer struct {
		left time.Duration
		err  error
	}
	ch := make(chan answer, 1)
	if !r.inbox.put(&TimeLeft{Session: id, Done: func(d time.Duration, err error) { ch <- answer{d, err} }}) {
		return 0, r.refusal()
	}
	r.Drive()
	select {
	case a := <-ch:
		return a.left, a.err
	case <-ctx.Done():
		return 0, r.notInTime()
	case <-r.done:
		return 0, errStopped
	}
}

// Status returns what the member knows of itself and the cluster.
func (r *Replica) Status() op.Status {
	ch := make(chan op.Status, 1)
	if !r.tell(func(c *Core) { ch <- c.Status() }) {
		return op.Status{Reason: errStopped.Detail}
	}
	select {
	case s := <-ch:
		h := r.history.Stats()
		s.History = op.HistoryStatus{Events: h.Events, Bytes: h.Bytes, Behind: h.Behind}
		return s
	case <-r.done:
		return op.Status{Reason: errStopped.Detail}
	}
}
