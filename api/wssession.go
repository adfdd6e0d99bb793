package api

import (
	"context"
	"crypto/sha256"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"github.com/coord-kv/coord/fsm"
	"github.com/coord-kv/coord/internal/frame"
	"github.com/coord-kv/coord/op"
)

// wsSession is the session of a connection, and what keeps it alive. The reader sets id and epoch before any other
// goroutine looks at them; the rest is guarded by wsConn.mu.
//
// Any frame is a sign of life. Signs of life are handed to the member one at a time, a plain one no more often than every
// third of the timeout: a ping asks when one that was heard after it is confirmed, and takes the next.
type wsSession struct {
	id    op.SessionID // 0 if there is none
	epoch uint64

	ttl     time.Duration
	leaving bool      // the client has said bye
	ended   *op.Error // set when the session has ended otherwise

	beating bool          // a sign of life waits for its confirmation
	began   time.Duration // when the last one was given
	waiting time.Duration // when the first one was given that is not confirmed; 0 if all are
	next    *wsBeat       // with the pings that wait for the next sign of life; nil if none does
}

type wsPing struct {
	id    uint64
	start time.Duration
}

// lostAt returns when the connection is given up unless something is confirmed before.
func (s *wsSession) lostAt() time.Duration { return s.waiting + s.ttl/2 + 1 }

// silence is how long a client may be quiet until it is asked whether it is there.
func (s *wsSession) silence() time.Duration {
	if s.id == 0 {
		return wsSilence
	}
	return min(max(s.ttl/3, time.Second), wsSilence)
}

// hello opens or resumes a session, as far as one is asked for, and welcomes the client. Requests that follow wait in the
// socket: until it is known who asks, none can be decided.
func (c *wsConn) hello(f *frame.Hello) bool {
	c.pause()
	start := c.s.uptime()
	w, err := c.greetApart(f)
	code := op.OK
	if err != nil {
		code = unwrap(err).what.Code
	}
	c.s.metrics.RequestDone(WebSocket, "hello", code, c.s.uptime()-start)
	if err != nil {
		c.failHello(f.ID, err)
		return false
	}
	c.read.greeted = true
	c.show(w.Zxid)
	c.mu.Lock()
	c.direct = append(c.direct, w)
	c.signal()
	c.mu.Unlock()
	if c.session.id != 0 {
		c.read.stop = c.s.backend.FollowSession(c.session.id, c.sessionChanged)
	}
	return true
}

// failHello says why there is no welcome, and ends the connection.
func (c *wsConn) failHello(id uint64, err error) {
	e := unwrap(err).what
	code := websocket.CloseTryAgainLater
	switch e.Code {
	case op.SessionExpired:
		code = frame.CloseExpired
	case op.Denied, op.Unauthenticated:
		code = frame.CloseDenied
		c.s.metrics.authFailures.WithLabelValues("bad_hello").Inc()
	case op.BadRequest, op.UnknownField, op.TooLarge:
		code = frame.CloseProtocol
	}
	c.end(wsEnd{code: code, text: e.Code.String(), id: id, err: err})
}

// greetApart greets on a goroutine of its own, whose stack goes with it: to open a session may mean to move the core on,
// which takes a deeper one than a reader without anything to do should keep.
func (c *wsConn) greetApart(f *frame.Hello) (w *frame.Welcome, err error) {
	done := make(chan any)
	go func() {
		defer func() { done <- recover() }()
		w, err = c.greet(f)
	}()
	if p := <-done; p != nil {
		panic(p)
	}
	return w, err
}

func (c *wsConn) greet(f *frame.Hello) (*frame.Welcome, error) {
	if err := c.checkHello(f); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), c.s.limits.RequestTimeout)
	defer cancel()
	st := c.s.status.get(c.s)
	limits := c.s.stateLimits(ctx)
	w := &frame.Welcome{
		ID: f.ID, Member: c.s.name, Cluster: st.Cluster, Oldest: st.Oldest, KeyWindow: limits.KeyWindow,
		Message: uint64(c.limit), Requests: uint64(c.s.limits.ConnRequests), Watches: uint64(c.s.limits.ConnWatches),
		Endpoints: c.s.endpoints,
	}
	o := sessionOp(f)
	if o == nil {
		v, _, err := c.s.backend.View(ctx, op.ReadOptions{Level: op.Eventual})
		if err != nil {
			return nil, readError(err)
		}
		w.Zxid = v.Zxid()
		return w, nil
	}
	res := c.s.backend.Do(ctx, &op.Request{Auth: c.read.auth, Op: o})
	if res.Err != nil {
		return nil, explainHello(res.Err, f)
	}
	info := res.Session
	w.Session, w.Epoch, w.NextSeq, w.Zxid = info.ID, info.Epoch, info.NextSeq, res.Zxid
	w.TTL = time.Duration(info.Timeout) * time.Millisecond
	c.mu.Lock()
	c.session = wsSession{id: info.ID, epoch: info.Epoch, ttl: w.TTL, began: c.s.uptime()}
	c.mu.Unlock()
	c.read.seq = info.NextSeq - 1
	c.read.resumed = f.Resume != nil
	return w, nil
}

func explainHello(err error, f *frame.Hello) error {
	if f.Resume != nil {
		return explain(err, op.Denied, "that is not the secret of session %s", f.Resume.Session)
	}
	return explain(err, op.Denied, "a live session has the identity %q; send its secret as previous_secret, or the "+
		"credentials of whoever opened it", f.Open.Identity)
}

// checkHello refuses a hello that is not sound, and finds out who the client has proven to be.
func (c *wsConn) checkHello(f *frame.Hello) error {
	switch {
	case f.ID == 0:
		return op.Errorf(op.BadRequest, "hello must have an id above 0")
	case len(f.Client) > op.MaxLabel:
		return &op.Error{Code: op.TooLarge, Limit: op.MaxLabel, Have: int64(len(f.Client)), Detail: "the name of the client is too long"}
	case f.Open != nil && (len(f.Open.Secret) != secretBytes || f.Open.ProofSecret != nil && len(f.Open.ProofSecret) != secretBytes):
		return op.Errorf(op.BadRequest, "a session's secret has %d bytes", secretBytes)
	case f.Resume != nil && (len(f.Resume.Secret) != secretBytes || f.Resume.Nonce == 0 || f.Resume.Session == 0):
		return op.Errorf(op.BadRequest, "to resume takes the session, its secret of %d bytes, and a nonce above 0", secretBytes)
	case f.Credentials == "":
		return nil
	}
	user, password, ok := strings.Cut(f.Credentials, ":")
	if !ok || user == "" {
		return op.Errorf(op.Unauthenticated, "credentials must be a user name, a colon and a password")
	}
	c.read.auth = append(c.read.auth, c.s.digestIdentities(user, password)...)
	return nil
}

// sessionOp returns what hello asks to be decided, nil if nothing.
func sessionOp(f *frame.Hello) op.Op {
	switch {
	case f.Open != nil:
		o := &op.OpenSession{
			Secret: sha256.Sum256(f.Open.Secret), Timeout: f.Open.TTL, Name: f.Open.Name, Identity: f.Open.Identity,
			Metadata: f.Open.Metadata,
		}
		if o.Timeout == 0 {
			o.Timeout = defaultTTL
		}
		if f.Open.ProofSecret != nil {
			o.Proof = sha256.Sum256(f.Open.ProofSecret)
		}
		return o
	case f.Resume != nil:
		return &op.Attach{Session: f.Resume.Session, Secret: sha256.Sum256(f.Resume.Secret), Nonce: f.Resume.Nonce}
	}
	return nil
}

// sessionOver returns the error that the end of the session is; nil while it lives. A state without its nodes, and the
// events of that, come after its end: who asks before he shows them never shows that a node is gone whose session
// seems to be alive.
func (c *wsConn) sessionOver() *op.Error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.session.ended
}

// sessionChanged is told by whoever drives the member what becomes of the session.
func (c *wsConn) sessionChanged(s fsm.SessionChange) {
	c.mu.Lock()
	if s.Ended {
		c.endContestsLocked(c.session.leaving)
	}
	switch {
	case s.Ended && c.session.leaving:
	case s.Ended:
		err := &op.Error{Code: op.SessionExpired, Outcome: op.Decided, Detail: "the session has ended"}
		c.session.ended = err
		c.endLocked(sessionEnd(frame.CloseExpired, s.ID, err))
	case s.Epoch > c.session.epoch:
		err := op.Errorf(op.Superseded, "the session was resumed on another connection")
		c.endLocked(sessionEnd(frame.CloseSuperseded, s.ID, err))
		c.stopWaiting() // what waits here would be in the way there
	default:
		c.session.ttl = s.Timeout
		c.sweep.next.Store(0)
	}
	c.mu.Unlock()
}

func sessionEnd(code int, id op.SessionID, err *op.Error) wsEnd {
	return wsEnd{code: code, text: err.Code.String(), frame: &frame.SessionEnded{Session: id, Err: err}}
}

// ping asks for the next confirmation. The sign of life that it is follows when its message has been taken.
func (c *wsConn) ping(id uint64) bool {
	p := wsPing{id, c.s.uptime()}
	c.mu.Lock()
	c.awaitRoom(func() bool { return c.count >= c.s.limits.ConnRequests })
	ended := c.ending != nil
	switch {
	case ended:
	case id == 0:
		c.endLocked(failure(frame.CloseProtocol, op.Errorf(op.BadRequest, "a ping must have an id above 0")))
	case c.session.id == 0:
		c.count++
		c.answerLocked(pongRequest(p, 0, nil))
	default:
		c.count++
		if c.session.next == nil {
			c.session.next = newBeat(c)
		}
		c.session.next.asked = append(c.session.next.asked, p)
		c.sweep.next.Store(0)
	}
	c.mu.Unlock()
	return !ended
}

// wsBeat is a sign of life, and the pings that wait for its confirmation. Each is used again when all has been told of it.
type wsBeat struct {
	c     *wsConn
	asked []wsPing
	ttl   time.Duration // that they are told

	onDone    func(error) // done and confirm, made once
	onConfirm func(time.Duration, error)
}

var beats = sync.Pool{New: func() any { return new(wsBeat) }}

func newBeat(c *wsConn) *wsBeat {
	b := beats.Get().(*wsBeat)
	if b.c = c; b.onDone == nil {
		b.onDone, b.onConfirm = b.done, b.confirm
	}
	return b
}

// free lets it be used again.
func (b *wsBeat) free() {
	if cap(b.asked) > wsKeptPings {
		b.asked = nil
	}
	b.c, b.asked = nil, b.asked[:0]
	beats.Put(b)
}

// wsKeptPings is for how many pings one that isn't in use has room.
const wsKeptPings = 8

// beat gives a sign of life, if the last one is confirmed, and a ping waits or it is time.
func (c *wsConn) beat() {
	c.mu.Lock()
	b := c.beatLocked(c.s.uptime())
	c.mu.Unlock()
	b.give()
}

// beatLocked returns the sign of life that is due, which its caller then gives; nil for none.
func (c *wsConn) beatLocked(now time.Duration) *wsBeat {
	b := c.takeBeatLocked(now)
	c.sweep.next.Store(int64(c.nextLocked()))
	return b
}

func (c *wsConn) takeBeatLocked(now time.Duration) *wsBeat {
	s := &c.session
	if s.id == 0 || s.beating || c.ending != nil || s.next == nil && now-s.began < s.ttl/3 {
		return nil
	}
	s.beating, s.began = true, now
	if s.waiting == 0 {
		s.waiting = now
	}
	b := s.next
	if s.next = nil; b == nil {
		b = newBeat(c)
	}
	return b
}

// give hands it to the member. Nil gives none.
func (b *wsBeat) give() {
	switch {
	case b == nil:
	case len(b.asked) == 0:
		b.c.s.backend.KeepAliveLater(b.c.session.id, b.onDone, nil)
	default:
		b.c.s.backend.KeepAliveLater(b.c.session.id, b.onDone, b.onConfirm)
	}
}

// done is told by whoever drives the member that the sign of life is confirmed, or why it is not.
func (b *wsBeat) done(err error) {
	c := b.c
	c.mu.Lock()
	s := &c.session
	s.beating = false
	if err == nil {
		s.waiting = 0
	}
	retry := err != nil && len(b.asked) > 0 && !errors.Is(err, &op.Error{Code: op.SessionExpired})
	if retry { // by the sweep
		if s.next != nil {
			b.asked = append(b.asked, s.next.asked...)
			s.next.free()
		}
		s.next = b
	}
	more := err == nil && s.next != nil
	c.sweep.next.Store(int64(c.nextLocked()))
	c.mu.Unlock()
	if !retry && (err != nil || len(b.asked) == 0) { // else confirm follows
		b.free()
	}
	if more {
		c.beat() // for pings that came meanwhile
	}
}

// confirm answers the pings. The end of the session is told otherwise.
func (b *wsBeat) confirm(ttl time.Duration, err error) {
	if b.ttl = ttl; err == nil {
		b.c.s.pongs.add(b)
		return
	}
	if !errors.Is(err, &op.Error{Code: op.SessionExpired}) {
		b.c.mu.Lock()
		b.answerLocked(err)
		b.c.mu.Unlock()
	}
	b.free()
}

// answerLocked has the writer answer the pings.
func (b *wsBeat) answerLocked(err error) {
	for _, p := range b.asked {
		b.c.answerLocked(pongRequest(p, b.ttl, err))
	}
}

func pongRequest(p wsPing, ttl time.Duration, err error) *wsRequest {
	r := &wsRequest{frame: &frame.Pong{ID: p.id, TTL: ttl}, start: p.start}
	if err != nil {
		r.err = &wsRefused{p.id, "ping", readError(err)}
	}
	return r
}

// beatAgain is done once a tick of the sweep: it gives the sign of life that is due, and ends a connection whose session can't be
// proven alive for half its timeout, so that the client has time to find a member that can.
func (c *wsConn) beatAgain(now time.Duration) {
	c.mu.Lock()
	s := &c.session
	lost := s.waiting != 0 && now >= s.lostAt()
	fresh := c.heardAt > s.began || s.next != nil
	c.mu.Unlock()
	switch {
	case lost:
		err := op.Errorf(op.NoLeader, "no leader has confirmed for half the session's timeout that it lives; try another member")
		c.end(wsEnd{
			code: websocket.CloseServiceRestart, text: "unconfirmed", err: err,
			frame: &frame.Goaway{Reason: "unconfirmed", Endpoints: c.s.endpoints},
		})
	case fresh:
		c.beat()
	}
}
