package api

import (
	"errors"

	"github.com/coord-kv/coord/fsm"
	"github.com/coord-kv/coord/internal/frame"
	"github.com/coord-kv/coord/op"
	"github.com/coord-kv/coord/watch"
)

// An await is a read that is answered when something has happened: a watch that ends with its first event and brings the
// answer to a read along, so that who waits for an event in order to read has both at once. While it waits it takes the place
// of a watch, not of a request.

// startAwait reserves the place. The watch begins when there is a state that proves since to be no position of the future.
func (c *wsConn) startAwait(r *wsRequest, f *frame.Await) {
	if !isRead(f.Op.Verb()) {
		c.finishWith(r, op.Errorf(op.BadRequest, "%s is not a read", f.Op.Verb()))
		return
	}
	r.op = f.Op
	w := &wsWatch{id: f.ID, await: r, pos: f.Since}
	w.filter = watch.Filter{Path: f.Path, Scope: f.Scope, Types: f.Types, Auth: c.read.auth}
	if err := c.reserve(w); err != nil {
		c.finishWith(r, err)
		return
	}
	r.watch = w
	o := op.ReadOptions{Level: op.Eventual, MinZxid: f.Since}
	abandon := c.s.backend.ViewLater(o, func(_ *fsm.View, _ op.ReadInfo, err error) {
		if err != nil {
			c.finishWith(r, err)
		} else {
			c.again(w)
		}
	})
	c.mu.Lock()
	if !r.parked {
		r.abandon = abandon
	}
	c.mu.Unlock()
}

// historyGone reports whether something may have happened that nobody can tell any more: then an await is answered. Other
// errors are its answer: to await again from the same position would be of no use.
func historyGone(err error) bool { return errors.Is(err, &op.Error{Code: op.HistoryGone}) }

// deliverAwait answers what was waited for, if it has come.
func (c *wsConn) deliverAwait(w *wsWatch) error {
	switch {
	case !c.isOpen(w) || c.sessionOver() != nil: // ended meanwhile
		return nil
	case w.stream == nil:
		if !w.begun {
			c.beginAwait(w)
		}
		return nil
	}
	events, pos, err := w.stream.Take(1)
	switch {
	case len(events) > 0, historyGone(err):
		c.awaited(w, pos)
	case err != nil:
		c.finishWith(w.await, err)
	}
	return nil
}

// beginAwait begins the watch, which says at once that there may be something.
func (c *wsConn) beginAwait(w *wsWatch) {
	w.begun = true
	stream, err := c.s.backend.Watch(w.filter, w.pos)
	switch {
	case historyGone(err):
		c.awaited(w, w.pos)
	case err != nil:
		c.finishWith(w.await, err)
	default:
		w.stream, w.gauge = stream, c.s.metrics.watching(w.filter.Scope)
		if c.parks(w.await) {
			stream.OnReady(func() { c.again(w) })
		}
	}
}

// parks makes a request hold nothing any more but the place, and have all the time there is; unless it was given up.
func (c *wsConn) parks(r *wsRequest) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pending[requestID(r.frame)] != r {
		return false
	}
	r.abandon, r.parked = nil, true
	c.count--
	c.letGoLocked(r)
	return true
}

// awaited reads what was asked for from a state that has reached z, and answers that. The place is kept until then, so that
// a client that doesn't read can't have more answers made than it has places.
func (c *wsConn) awaited(w *wsWatch, z op.Zxid) {
	w.close()
	c.mu.Lock()
	wanted := c.pending[w.id] == w.await
	if wanted {
		w.await.start = c.s.uptime() // the wait is not the server's time
	}
	c.mu.Unlock()
	if !wanted { // it was given up
		return
	}
	if c.view(w.await, op.ReadOptions{Level: op.Eventual, MinZxid: z}) {
		c.s.backend.Drive() // events are published before the state that they lead to
	}
}

// appendAwaited appends the answer of an await, or why it has none.
func (c *wsConn) appendAwaited(r *wsRequest, f *frame.Await) error {
	if r.watch != nil {
		c.remove(r.watch)
	}
	if r.err == nil && r.view == nil {
		r.err = op.Errorf(op.BadRequest, "unwatch came before there was anything to answer")
	}
	return c.appendRead(r, f.Op)
}
