package api

import (
	"context"

	"github.com/coord-kv/coord/fsm"
	"github.com/coord-kv/coord/internal/frame"
	"github.com/coord-kv/coord/op"
	"github.com/coord-kv/coord/watch"
)

// wsWatch is one watch of a connection: a cursor that the writer reads when it has nothing older to send.
type wsWatch struct {
	filter watch.Filter
	data   bool
	gauge  func()     // takes it out of the metrics
	queued bool       // in wsConn.ready; guarded by wsConn.mu
	await  *wsRequest // that is answered with the first event, and is pending until then; nil for a watch

	// The writer's.
	begun  bool // the stream of an await was there
	id     uint64
	stream *watch.Stream // nil until it is answered
	state  *fsm.View     // of which parts are still to be sent
	after  string        // the last path of it that was
	pos    op.Zxid       // everything up to here has been sent or doesn't match
	told   op.Zxid       // the last position that the client knows
	live   op.Zxid       // what came after it happened while the watch was there
}

// startWatch reserves a place for the watch, and asks for the state that it begins with.
func (c *wsConn) startWatch(r *wsRequest, f *frame.Watch) {
	w := &wsWatch{id: f.ID, data: f.Data}
	w.filter = watch.Filter{Path: f.Path, Scope: f.Scope, Types: f.Types, Auth: c.read.auth}
	if err := c.reserve(w); err != nil {
		c.finishWith(r, err)
		return
	}
	r.watch = w
	o := f.Options
	if f.Start == frame.FromSince {
		o = op.ReadOptions{Level: op.Eventual, MinZxid: f.Since} // proves that it is no position of the future
	}
	c.viewLater(r, o)
}

func (c *wsConn) reserve(w *wsWatch) error {
	all := c.s.subscriptions.Add(1)
	c.mu.Lock()
	defer c.mu.Unlock()
	n := len(c.watches)
	if n < c.s.limits.ConnWatches && all <= int64(c.s.limits.Subscriptions) {
		if c.watches == nil {
			c.watches = make(map[uint64]*wsWatch)
		}
		c.watches[w.id] = w
		return nil
	}
	c.s.subscriptions.Add(-1)
	c.s.metrics.rejected.WithLabelValues("overload").Inc()
	if n < c.s.limits.ConnWatches {
		return op.Errorf(op.Overloaded, "this member has as many watches as it takes; connect to another one")
	}
	return &op.Error{
		Code: op.Overloaded, Limit: int64(c.s.limits.ConnWatches), Have: int64(n) + 1,
		Detail: "this connection has as many watches as it may have; watch a subtree instead of each node, or end some",
	}
}

// remove takes a watch out and ends it, unless somebody else does.
func (c *wsConn) remove(w *wsWatch) {
	c.mu.Lock()
	mine := c.takeOutLocked(w)
	c.mu.Unlock()
	if mine {
		w.close()
	}
}

// takeOutLocked frees the place and the number of a watch. Whoever is told true closes it.
func (c *wsConn) takeOutLocked(w *wsWatch) bool {
	if c.watches[w.id] != w {
		return false
	}
	delete(c.watches, w.id)
	c.s.subscriptions.Add(-1)
	return true
}

// close ends the stream.
func (w *wsWatch) close() {
	if w.stream != nil {
		w.stream.Close()
		w.stream, w.state = nil, nil
		w.gauge()
	}
}

// unwatch ends a watch that the client doesn't want any more. Its place and its number are free at once, for what follows
// in the pipeline; the stream is the writer's to close. A watch that hasn't been answered is answered first.
func (c *wsConn) unwatch(r *wsRequest, id uint64) {
	c.mu.Lock()
	w, begun := c.watches[id], c.pending[id]
	abandon := func() bool { return false }
	switch {
	case w == nil:
		r.err = op.Errorf(op.BadRequest, "there is no watch %d on this connection", id)
	case begun != nil:
		delete(c.pending, id)
		if begun.parked {
			begun.start = c.s.uptime()
		}
		c.answerLocked(begun.withoutAnswer())
		if begun.abandon != nil {
			abandon = begun.abandon
		}
		fallthrough
	default:
		c.takeOutLocked(w)
		r.ended = w
	}
	c.mu.Unlock()
	abandon()
	c.finish(r)
}

// isOpen reports whether the watch has a place.
func (c *wsConn) isOpen(w *wsWatch) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return w != nil && c.watches[w.id] == w
}

// dropWatches ends all of them; the reader may still reserve one meanwhile, which never gets a stream.
func (c *wsConn) dropWatches() {
	c.mu.Lock()
	all := make([]*wsWatch, 0, len(c.watches))
	for _, w := range c.watches {
		all = append(all, w)
	}
	c.mu.Unlock()
	for _, w := range all {
		c.remove(w)
	}
}

// appendWatching begins the watch, now that there is a state to begin with.
func (c *wsConn) appendWatching(r *wsRequest, f *frame.Watch) error {
	w, err := r.watch, r.err
	switch {
	case err != nil:
	case !c.isOpen(w):
		err = op.Errorf(op.BadRequest, "unwatch came before the watch had begun")
	default:
		err = c.open(w, r.view, f)
	}
	if err != nil {
		err = readError(err)
		if w != nil {
			c.remove(w)
		}
		c.write.buf = c.codec.appendFailed(c.write.buf, f.ID, err)
		return err
	}
	c.show(w.pos)
	c.write.buf = c.codec.append(c.write.buf, &frame.Watching{Watch: f.ID, Pos: w.pos})
	if w.state != nil {
		c.again(w)
	} else {
		w.stream.OnReady(func() { c.again(w) })
	}
	return nil
}

func (c *wsConn) open(w *wsWatch, v *fsm.View, f *frame.Watch) (err error) {
	w.pos = v.Zxid()
	w.live = w.pos
	if f.Start == frame.FromSince {
		w.pos = f.Since
	}
	w.told = w.pos
	if f.Start == frame.FromInitial {
		if _, err := w.page(v); err != nil {
			return err
		}
		w.state = v
	}
	w.stream, err = c.s.backend.Watch(w.filter, w.pos)
	if f.Start == frame.FromSince {
		c.s.metrics.resumed(err, w.pos == v.Zxid())
	}
	if err == nil {
		w.gauge = c.s.metrics.watching(w.filter.Scope)
	}
	return err
}

// again says that the watch may have something to send. It is called with the history locked.
func (c *wsConn) again(w *wsWatch) {
	c.mu.Lock()
	if !w.queued {
		w.queued = true
		c.ready = append(c.ready, w)
		c.signal()
	}
	c.mu.Unlock()
}

// page reads the next part of the state that the watch begins with.
func (w *wsWatch) page(v *fsm.View) (*op.Result, error) {
	return readInitial(v, &w.filter, w.after)
}

// deliverAll sends what the watches have next, and to those that were quiet where they are if that is due.
func (c *wsConn) deliverAll(ready []*wsWatch, bookmark bool) error {
	for _, w := range ready {
		if err := c.deliver(w); err != nil {
			return err
		}
	}
	if bookmark {
		return c.sendBookmarks()
	}
	return nil
}

// deliver sends what the watch has next, as much as goes into one message.
func (c *wsConn) deliver(w *wsWatch) error {
	switch {
	case w.await != nil:
		return c.deliverAwait(w)
	case w.stream == nil, c.sessionOver() != nil: // ended meanwhile
		return nil
	case w.state != nil:
		return c.deliverInitial(w)
	}
	events, pos, err := w.stream.Take(takeEvents)
	if err != nil {
		return c.endWatch(w, err)
	}
	if c.sessionOver() != nil {
		return nil // which is what the client is told instead
	}
	if len(events) == 0 {
		w.pos = pos
		return nil
	}
	if err := c.appendEvents(w, events, pos); err != nil {
		return c.endWatch(w, err)
	}
	return c.appended()
}

func (c *wsConn) deliverInitial(w *wsWatch) error {
	page, err := w.page(w.state)
	if err != nil {
		return c.endWatch(w, err)
	}
	part := &frame.Initial{Watch: w.id, Pos: w.pos, Nodes: page.Nodes, More: page.More}
	if err := c.appendLarge(len(page.Nodes), func() { c.write.buf = c.codec.append(c.write.buf, part) }); err != nil {
		return c.endWatch(w, err)
	}
	if page.More {
		w.after = page.Nodes[len(page.Nodes)-1].Path
		c.again(w)
	} else {
		w.state = nil
		w.stream.OnReady(func() { c.again(w) })
	}
	return c.appended()
}

// endWatch says that the watch can't go on. The connection can. Where there was no room for what the watch has next, its
// client begins it again where it was: so events wait in the history, not in a buffer for somebody who doesn't read.
func (c *wsConn) endWatch(w *wsWatch, err error) error {
	e := unwrap(err).what
	switch {
	case positionLost(err):
		c.s.metrics.slowConsumers.Inc()
	case e.Code != op.Overloaded:
		c.s.log.Warn("a watch broke off", "connection", c.id, "error", err)
	}
	c.remove(w)
	c.write.buf = c.codec.append(c.write.buf, &frame.Ended{Watch: w.id, Pos: w.pos, Err: e})
	return c.appended()
}

// appendEvents appends whole transactions up to pos, with the data of nodes as far as the state still has what the events
// tell of.
func (c *wsConn) appendEvents(w *wsWatch, events []op.Event, pos op.Zxid) error {
	f := &frame.Events{Watch: w.id, Pos: pos, Events: make([]frame.Event, len(events))}
	show := eventData{room: answerData, auth: w.filter.Auth}
	if w.data {
		show.view = c.viewAt(events[len(events)-1].Zxid)
	}
	err := c.appendLarge(len(events), func() {
		for i := range events {
			e := &f.Events[i]
			e.Event = events[i]
			e.ACL = nil
			e.Data, e.HasData = show.of(&events[i])
		}
		c.write.buf = c.codec.append(c.write.buf, f)
	})
	if err != nil {
		return err
	}
	for i := range events {
		c.s.metrics.watchEvents.WithLabelValues(events[i].Type.String()).Inc()
	}
	w.pos, w.told = pos, pos
	c.show(pos)
	if first := events[0].Zxid; first > w.live {
		c.write.events = append(c.write.events, first)
	}
	return nil
}

// viewAt returns a state that has reached z, nil if there is none in time. Events are published before the state that they
// lead to, so this may wait for a moment.
func (c *wsConn) viewAt(z op.Zxid) *fsm.View {
	ctx, cancel := context.WithTimeout(context.Background(), c.s.limits.RequestTimeout)
	defer cancel()
	v, _, err := c.s.backend.View(ctx, op.ReadOptions{Level: op.Eventual, MinZxid: z})
	if err != nil {
		return nil
	}
	return v
}

// appendUnwatched says that a watch has ended, or that there was none.
func (c *wsConn) appendUnwatched(r *wsRequest) error {
	res := &op.Result{}
	if r.err != nil {
		res.Err = unwrap(r.err).what
	}
	c.write.buf = c.codec.appendReply(c.write.buf, nil, &frame.Reply{ID: requestID(r.frame), Result: res})
	return r.err
}

// sendBookmarks tells the watches that were quiet where they are, so that none falls off the end of the history while
// nothing happens that it would tell.
func (c *wsConn) sendBookmarks() error {
	c.mu.Lock()
	var quiet []*wsWatch
	for _, w := range c.watches {
		if !w.queued {
			quiet = append(quiet, w)
		}
	}
	c.mu.Unlock()
	for _, w := range quiet {
		if w.stream == nil || w.state != nil {
			continue
		}
		if err := c.deliver(w); err != nil {
			return err
		}
		if w.stream == nil || w.await != nil || w.pos <= w.told {
			continue
		}
		w.told = w.pos
		c.show(w.pos)
		c.write.buf = c.codec.append(c.write.buf, &frame.Bookmark{Watch: w.id, Pos: w.pos})
		if err := c.appended(); err != nil {
			return err
		}
	}
	return nil
}
