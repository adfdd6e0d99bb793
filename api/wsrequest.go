package api

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/gorilla/websocket"

	"github.com/coord-kv/coord/internal/frame"
	"github.com/coord-kv/coord/op"
)

// Requests: taken and handed over by the reader, answered by the writer.

// handle takes one frame. False means that the connection ends.
func (c *wsConn) handle(m *wsMessage, f any) bool {
	hello, isHello := f.(*frame.Hello)
	switch {
	case isHello == c.read.greeted:
		why := "the first message must be hello"
		if isHello {
			why = "a second hello"
		}
		c.fail(frame.CloseProtocol, op.Errorf(op.BadRequest, "%s", why))
		return false
	case isHello:
		return c.hello(hello)
	}
	if ping, ok := f.(*frame.Ping); ok {
		return c.ping(ping.ID)
	}
	if f, ok := f.(*frame.Read); ok && c.readNow(f) {
		return true
	}
	r := c.begin(m, f)
	if r == nil {
		return false
	}
	switch f := f.(type) {
	case *frame.Write:
		c.startWrite(r, f)
	case *frame.Read:
		c.startRead(r, f)
	case *frame.Watch:
		c.startWatch(r, f)
	case *frame.Await:
		c.startAwait(r, f)
	case *frame.Unwatch:
		c.unwatch(r, f.Watch)
	case *frame.Bye:
		c.bye(r)
	case *contest:
		c.startContest(r, f)
	}
	return true
}

func requestID(f any) uint64 {
	switch f := f.(type) {
	case *contest:
		return f.id
	case *frame.Write:
		return f.ID
	case *frame.Read:
		return f.ID
	case *frame.Watch:
		return f.ID
	case *frame.Await:
		return f.ID
	case *frame.Unwatch:
		return f.ID
	case *frame.Bye:
		return f.ID
	}
	return 0
}

// begin admits a request: it waits until there is room, so that a client that sends faster than it is answered is slowed
// down by its own socket. Nil means that the connection ends.
func (c *wsConn) begin(m *wsMessage, f any) *wsRequest {
	r := &wsRequest{frame: f, start: c.arrived(), msg: m, bytes: weight(f, m.bytes)}
	id := requestID(f)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.awaitRoom(func() bool { return c.count >= c.s.limits.ConnRequests || c.held >= wsHeldBytes })
	switch {
	case c.ending != nil:
		return nil
	case !c.isFreeLocked(id):
		err := op.Errorf(op.BadRequest, "the id %d belongs to another request or watch, or to none: take a number above 0 "+
			"that isn't in use", id)
		c.endLocked(failure(frame.CloseProtocol, err))
		return nil
	}
	if c.pending == nil {
		c.pending = make(map[uint64]*wsRequest)
	}
	c.pending[id] = r
	c.sweep.next.Store(0)
	c.count++
	c.held += r.bytes
	m.refs.Add(1)
	c.s.metrics.wsInFlight.Inc()
	return r
}

// isFreeLocked reports whether a request may have that id.
func (c *wsConn) isFreeLocked(id uint64) bool {
	_, used := c.pending[id]
	_, watched := c.watches[id]
	return id != 0 && !used && !watched
}

// weight is what a request counts for of the bytes that a connection may hold: those of its message, or of the answer that
// it may get, if that is much more.
func weight(f any, bytes int64) int64 {
	w, ok := f.(*frame.Write)
	if !ok || w.Seq != 0 || w.Key != "" { // whose answers are kept, and short
		return bytes
	}
	t, ok := w.Op.(*op.Txn)
	if ok && slices.ContainsFunc(slices.Concat(t.Then, t.Else), func(o op.Op) bool { return isRead(o.Verb()) }) {
		return max(bytes, wsHeldBytes/2)
	}
	return bytes
}

// refuse answers a request that is not one.
func (c *wsConn) refuse(id uint64, name string, err error) {
	r := &wsRequest{frame: &frame.Unwatch{ID: id}, start: c.s.uptime(), err: &wsRefused{id, name, err}}
	c.mu.Lock()
	c.awaitRoom(func() bool { return c.count >= c.s.limits.ConnRequests })
	c.count++
	c.answerLocked(r)
	c.mu.Unlock()
}

// finish hands a request to the writer. Whoever drives the member calls it, so it doesn't wait.
func (c *wsConn) finish(r *wsRequest) {
	c.mu.Lock()
	c.finishLocked(r)
	c.mu.Unlock()
}

// finishLocked is finish for those who hold mu.
func (c *wsConn) finishLocked(r *wsRequest) {
	id := requestID(r.frame)
	if c.pending[id] != r { // it was given up
		return
	}
	delete(c.pending, id)
	c.answerLocked(r)
}

// answerLocked has the writer answer a request that isn't pending any more.
func (c *wsConn) answerLocked(r *wsRequest) {
	c.done = append(c.done, r)
	c.signal()
}

func (c *wsConn) finishWith(r *wsRequest, err error) {
	r.err = err
	c.finish(r)
}

// abandonable notes how a request is given up, unless it is answered already.
func (c *wsConn) abandonable(r *wsRequest, abandon func() bool) {
	c.mu.Lock()
	r.abandon = abandon
	c.mu.Unlock()
}

// giveUp answers the requests that have waited for too long: as refused if they surely won't be done, else as unknown.
func (c *wsConn) giveUp(now time.Duration) {
	c.mu.Lock()
	var late []*wsRequest
	for id, r := range c.pending {
		if now-r.start > c.s.limits.RequestTimeout && r.abandon != nil {
			late = append(late, r)
			delete(c.pending, id)
		}
	}
	c.mu.Unlock()
	slices.SortFunc(late, func(a, b *wsRequest) int { return cmp.Compare(requestID(a.frame), requestID(b.frame)) })
	for _, r := range late {
		g := r.withoutAnswer()
		g.err = c.tooLate(g, r.abandon())
		c.mu.Lock()
		c.answerLocked(g)
		c.mu.Unlock()
	}
}

// withoutAnswer returns the request to be answered otherwise. What becomes of one that isn't pending any more is
// lost, so it is not looked at.
func (r *wsRequest) withoutAnswer() *wsRequest {
	return &wsRequest{
		frame: r.frame, op: r.op, start: r.start, parked: r.parked, msg: r.msg, bytes: r.bytes, repeat: r.repeat, watch: r.watch,
	}
}

func (c *wsConn) tooLate(r *wsRequest, surely bool) *op.Error {
	_, isWrite := r.frame.(*frame.Write)
	switch {
	case !isWrite:
		return op.Errorf(op.Timeout, "no state was fresh enough in time")
	case !surely:
		return &op.Error{Code: op.OutcomeUnknown, Outcome: op.Unknown, Detail: "not answered in time"}
	case c.s.leaderName() == "":
		return op.Errorf(op.NoLeader, "no leader was known in time; a majority of the members must be up and reach each other")
	}
	return op.Errorf(op.NoQuorum, "the leader didn't reach a majority of the members in time")
}

// abandonAll gives up everything: the connection has ended, and so has its writer.
func (c *wsConn) abandonAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.pending {
		if r.abandon != nil {
			r.abandon()
		}
		r.drop()
	}
	for _, r := range c.done {
		r.drop()
	}
	c.pending, c.done, c.direct = nil, nil, nil
}

// drop lets go of what a request holds. One that was refused when it was read holds nothing.
func (r *wsRequest) drop() {
	if r.ended != nil {
		r.ended.close()
	}
	if r.msg != nil {
		r.msg.release()
		r.msg.s.metrics.wsInFlight.Dec()
	}
}

// Writes.

func (c *wsConn) startWrite(r *wsRequest, w *frame.Write) {
	if err := c.checkWrite(w); err != nil {
		c.finishWith(r, err)
		return
	}
	r.op = w.Op
	req := &op.Request{Session: c.session.id, Auth: c.read.auth, Op: w.Op}
	switch {
	case w.Seq != 0:
		req.Seq, req.Ack, req.Epoch = w.Seq, w.Ack, c.session.epoch
		r.repeat = w.Seq <= c.read.seq
		c.read.seq = max(c.read.seq, w.Seq)
	case w.Key != "":
		req.Key = wsKey(principalOf(c.session.id, c.read.auth), w)
		r.repeat = true // for all that this member knows
	}
	c.doLater(r, req)
}

// doLater has a request decided, and its answer sent.
func (c *wsConn) doLater(r *wsRequest, req *op.Request) {
	c.read.handed = true
	c.abandonable(r, c.s.backend.DoLater(req, func(res *op.Result) {
		r.res = res
		c.finish(r)
	}))
}

func wsKey(principal string, w *frame.Write) *op.Key {
	k := &op.Key{Principal: principal, Key: w.Key}
	sum := sha256.Sum256(op.AppendOp([]byte("ws"), w.Op)) // differs from what HTTP hashes, so that forms don't mix
	copy(k.Hash[:], sum[:])
	return k
}

// checkWrite refuses what a door can refuse. The session's own connection is the one to attach it.
func (c *wsConn) checkWrite(w *frame.Write) error {
	verb := w.Op.Verb()
	if x, ok := w.Op.(*op.SetTimeout); ok && x.Session == 0 {
		x.Session = c.session.id
	}
	switch {
	case verb.Internal() || verb == op.VerbAttach || isRead(verb):
		return op.Errorf(op.BadRequest, "%s is not a write", verb)
	case w.Seq != 0 && c.session.id == 0:
		return op.Errorf(op.BadRequest, "a sequence number belongs to a session, and this connection has none")
	case verb == op.VerbSetTimeout && c.session.id == 0:
		return op.Errorf(op.NoSession, "this connection has no session whose timeout it could change")
	case w.Seq != 0 && w.Key != "":
		return op.Errorf(op.BadRequest, "a request has a sequence number or an idempotency key, not both")
	case !validKey(w.Key):
		return op.Errorf(op.BadRequest, "an idempotency key has at most %d visible ASCII characters", maxKeyBytes)
	}
	return nil
}

func validKey(key string) bool {
	return len(key) <= maxKeyBytes && !strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r >= 0x7f })
}

// answer sends what became of a request.
func (c *wsConn) answer(r *wsRequest) error {
	defer r.drop()
	c.appendDone(r)
	c.mu.Lock()
	if !r.parked {
		c.count--
		c.held -= r.bytes
		c.room.Signal()
	}
	c.mu.Unlock()
	return c.appended()
}

// appendDone appends the answer, and counts the request.
func (c *wsConn) appendDone(r *wsRequest) {
	from := len(c.write.buf)
	verb, err := c.appendAnswer(r)
	code := op.OK
	if err != nil {
		code = unwrap(err).what.Code
	}
	// The clock is read once for short answers that leave together.
	if c.write.at == 0 || len(c.write.buf)-from > wsShort {
		c.write.at = c.s.uptime()
	}
	c.s.metrics.RequestDone(WebSocket, verb, code, max(0, c.write.at-r.start))
}

// appendAnswer appends the answer, and returns what the request was and what was wrong.
func (c *wsConn) appendAnswer(r *wsRequest) (verb string, err error) {
	if refused, ok := errors.AsType[*wsRefused](r.err); ok {
		c.write.buf = c.codec.appendFailed(c.write.buf, refused.id, refused.err)
		return cmp.Or(refused.op, "none"), refused.err
	}
	switch f := r.frame.(type) {
	case *frame.Write:
		return f.Op.Verb().String(), c.appendWritten(r)
	case *frame.Read:
		return f.Op.Verb().String(), c.appendRead(r, f.Op)
	case *frame.Watch:
		return "watch", c.appendWatching(r, f)
	case *frame.Await:
		return "await", c.appendAwaited(r, f)
	case *frame.Unwatch:
		return "unwatch", c.appendUnwatched(r)
	case *frame.Bye:
		c.end(wsEnd{code: websocket.CloseNormalClosure})
		return "bye", c.appendWritten(r)
	case *contest:
		if r.err != nil {
			c.write.buf = c.codec.appendFailed(c.write.buf, f.id, r.err)
		} else {
			c.write.buf = appendForm(c.write.buf, f.id, r.form)
		}
		return f.verb, r.err
	case *frame.Pong:
		c.write.buf = c.codec.append(c.write.buf, f)
		return "ping", nil
	}
	panic("api: a request without an answer")
}

func (c *wsConn) appendWritten(r *wsRequest) error {
	res := r.res
	if r.err != nil {
		res = &op.Result{Err: unwrap(readError(r.err)).what}
	}
	if res.Err != nil && r.repeat && res.Err.Outcome == op.Refused {
		e := *res.Err // an earlier copy was not refused for all that is known
		e.Outcome = op.Unknown
		res = &op.Result{Zxid: res.Zxid, Err: &e}
	}
	c.show(res.Zxid)
	c.appendReply(r, op.ReadInfo{Zxid: res.Zxid}, res)
	if res.Err != nil {
		return res.Err
	}
	return nil
}

func (c *wsConn) appendReply(r *wsRequest, info op.ReadInfo, res *op.Result) {
	reply := &c.write.reply
	*reply = frame.Reply{ID: requestID(r.frame), Info: info, Result: res}
	c.write.buf = c.codec.appendReply(c.write.buf, r.op, reply)
	*reply = frame.Reply{}
}

// bye ends the session and the connection.
func (c *wsConn) bye(r *wsRequest) {
	if c.session.id == 0 {
		r.res = &op.Result{}
		c.finish(r)
		return
	}
	c.mu.Lock()
	c.session.leaving = true
	c.mu.Unlock()
	c.doLater(r, &op.Request{Session: c.session.id, Auth: c.read.auth, Op: &op.CloseSession{Session: c.session.id}})
}
