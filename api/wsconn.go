package api

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"

	"github.com/coord-kv/coord/fsm"
	"github.com/coord-kv/coord/internal/frame"
	"github.com/coord-kv/coord/op"
)

// wsConn is one WebSocket connection. Its reader is a goroutine that takes requests and hands them to the member; before it
// waits for more, it has the member do them and sends what there is to send. What comes up while it waits a writer sends:
// it is started when there is something to send, and ends when there is nothing more, so that a connection that is quiet
// has none. One goroutine of the server sweeps over all connections, for what is late or due.
//
// Answers come from whoever drives the member on, who only appends them here and sees that somebody writes. What a client
// doesn't read is not made: an answer is encoded, and a watch asked for more, when the one before has been sent. Reads that
// need no wait the reader answers itself, and is who sends until it waits.
type wsConn struct {
	s     *Server
	ws    *websocket.Conn
	codec wsCodec
	id    string // in the log

	limit int64         // bytes of one message
	seen  atomic.Uint64 // the newest state that the client has been shown
	read  wsReader
	write *wsWriter // lent while somebody sends
	sweep wsSweep

	mu           sync.Mutex
	room         sync.Cond             // signalled when requests have been answered, or the connection or its writer ends
	atWork       bool                  // the reader will look whether there is something to send before it waits
	writing      bool                  // somebody sends: the writer, or the reader
	woken        bool                  // it has to look once more before it ends
	written      bool                  // it is not started again
	pending      map[uint64]*wsRequest // like all maps here, nil until something is in it
	done         []*wsRequest          // answers not sent yet
	direct       []frame.Frame
	rest         []byte // of a message that has been sent in part
	count        int    // requests read and not answered
	held         int64  // bytes of messages that they keep
	watches      map[uint64]*wsWatch
	ready        []*wsWatch // that have something to send
	contests     wsContestants
	pong         *string // what a ping of the protocol itself is to be answered with
	pingDue      bool
	bookmarksDue bool          // for watches that were quiet
	heardAt      time.Duration // of the server's uptime, like all times here
	limited      bool          // reading has a deadline
	session      wsSession
	ending       *wsEnd // set once
}

// wsReader is what belongs to the reader.
type wsReader struct {
	greeted bool
	auth    []op.Identity
	resumed bool          // the session was, not opened
	handed  bool          // something has been handed to the member that it may not have done
	sends   bool          // it is who sends, and has appended something that leaves when it pauses
	ending  bool          // the connection ends, as was seen last
	now     time.Duration // when what is taken came; 0 if that isn't known yet
	seq     uint64        // the highest sequence number that may have been handed to a leader
	stop    func()        // stops following the session
}

// wsWriter is what belongs to the writer. When it rests, nothing is in it.
type wsWriter struct {
	buf     []byte
	frames  int          // in buf
	answers []*wsRequest // taken, and not sent yet
	events  []op.Zxid    // in buf, those of which is measured how long they took
	taken   int64        // of the room for large answers, by those in buf

	at time.Duration // when the latest answers were appended; 0 if that isn't known

	// Lent to whoever appends an answer.
	reply frame.Reply
	now   wsRequest // that is answered at once
}

// wsEnd says how a connection ends.
type wsEnd struct {
	code  int
	text  string
	frame frame.Frame // the last one but one; nil for none
	id    uint64      // of the request that err is about; 0 for the connection
	err   error       // the last thing that is said; nil for nothing
}

// wsRequest is one request under way.
type wsRequest struct {
	frame   any   // frame.Frame or *contest
	op      op.Op // of a write or read
	start   time.Duration
	msg     *wsMessage
	bytes   int64       // of the connection's share
	repeat  bool        // an earlier copy may have been done, or may be yet
	abandon func() bool // under wsConn.mu; nil if there is nothing to give up
	watch   *wsWatch    // that is to begin
	parked  bool        // an await that has waited: it is not one of count any more
	ended   *wsWatch    // that the client doesn't want any more, and nobody else has

	res  *op.Result
	view *fsm.View
	info op.ReadInfo
	form any // of the answer to a contest
	err  error
}

// wsMessage is a message whose bytes are kept as long as one of its requests is under way.
type wsMessage struct {
	s     *Server
	bytes int64
	refs  atomic.Int32
}

func (m *wsMessage) release() {
	if m.refs.Add(-1) == 0 {
		m.s.bodies.Add(-m.bytes)
	}
}

func newWSConn(s *Server, ws *websocket.Conn, id string, auth []op.Identity, requestBytes int64) *wsConn {
	c := &wsConn{
		s: s, ws: ws, id: id, heardAt: s.uptime(), read: wsReader{auth: auth, stop: func() {}},
		sweep: wsSweep{next: &nextOfNone},
	}
	c.room.L = &c.mu
	if s, ok := ws.NetConn().(*wsSocket); ok {
		s.reader = c
	}
	c.codec, c.limit = wsCodec(&jsonCodec{}), 2*requestBytes // escapes and base64
	if ws.Subprotocol() == frame.Subprotocol {
		c.codec, c.limit = binCodec{}, requestBytes+64<<10
	}
	ws.SetPingHandler(func(data string) error {
		c.hear()
		c.mu.Lock()
		c.pong = &data // the last one is enough, says RFC 6455
		c.signal()
		c.mu.Unlock()
		return nil
	})
	ws.SetPongHandler(func(string) error { c.hear(); return nil })
	ws.SetCloseHandler(func(int, string) error { return nil }) // readFailed answers it
	return c
}

// serve reads until the connection ends, and waits for the writer.
func (c *wsConn) serve() {
	c.runReader()
	c.pause()
	c.stopWaiting()
	c.endWriting()
	c.ws.Close()
	c.read.stop()
	c.hangUp()
	c.abandonAll()
	c.dropWatches() // those that came after the writer had ended
}

// signal says that there is something for the writer. Whoever puts something where takeWork finds it calls this before mu is
// unlocked.
func (c *wsConn) signal() {
	c.woken = true
	if !c.writing && !c.written && !c.atWork {
		c.writing = true
		go c.runWriter()
	}
}

// pause is what the reader does before it waits, for the client or for anything else. To send what there is costs nobody a
// goroutine and its waking up then. A client that doesn't read is not read from while its socket is full, until that has
// lasted too long.
func (c *wsConn) pause() {
	c.read.now = 0
	if c.read.handed {
		c.read.handed = false
		c.s.backend.Drive()
	}
	c.mu.Lock()
	c.atWork = false
	mine := c.read.sends || c.woken && !c.writing && !c.written
	if !mine {
		c.mu.Unlock()
		return
	}
	c.writing, c.read.sends = true, false
	w := c.takeWorkLocked()
	c.mu.Unlock()
	if c.send(w) {
		c.leaveRest()
	}
}

// sendsAtOnce makes the reader who sends until it pauses, so that it can append an answer itself, unless somebody else
// does, or there is something about the connection, its session or the id that keeps it from being answered.
func (c *wsConn) sendsAtOnce(id uint64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ending != nil || c.session.ended != nil || !c.isFreeLocked(id) {
		return false
	}
	if !c.read.sends && (c.writing || c.written) {
		return false
	}
	c.writing, c.woken, c.read.sends = true, true, true
	c.lendLocked()
	return true
}

// leaveRest ends the reader's writing: what has come up meanwhile is the writer's.
func (c *wsConn) leaveRest() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.woken {
		go c.runWriter()
		return
	}
	c.restLocked()
}

// resume is the end of a wait for the client.
func (c *wsConn) resume() {
	c.mu.Lock()
	c.atWork = true
	c.read.ending = c.ending != nil
	c.mu.Unlock()
}

// awaitRoom waits while there is no room, as full says, and the connection doesn't end. The reader calls it, with mu.
func (c *wsConn) awaitRoom(full func() bool) {
	if c.ending != nil || !full() {
		return
	}
	c.mu.Unlock()
	c.pause()
	c.mu.Lock()
	for c.ending == nil && full() {
		c.room.Wait()
	}
}

// endWriting waits for the writer, whose last words are those of the end that the reader came to, and lets none start any
// more. Nobody is left to read much.
func (c *wsConn) endWriting() {
	c.ws.NetConn().SetWriteDeadline(time.Now().Add(wsGoodbye))
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.writing {
		c.room.Wait()
	}
	c.written = true
}

// end makes the writer send what is ready, then the last frames, and close the connection. The first call counts.
func (c *wsConn) end(e wsEnd) {
	c.mu.Lock()
	c.endLocked(e)
	c.mu.Unlock()
}

// endLocked is end for those who hold mu.
func (c *wsConn) endLocked(e wsEnd) {
	if c.ending == nil {
		c.ending = &e
	}
	c.room.Broadcast()
	c.signal()
}

// fail ends the connection for a reason that is told.
func (c *wsConn) fail(code int, err *op.Error) { c.end(failure(code, err)) }

func failure(code int, err *op.Error) wsEnd {
	return wsEnd{code: code, text: err.Code.String(), err: err}
}

func (c *wsConn) isEnding() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ending != nil
}

// The reader.

func (c *wsConn) runReader() {
	defer func() {
		if p := recover(); p != nil {
			c.panicked(p)
		}
	}()
	c.mu.Lock()
	c.limitLocked(c.s.limits.BodyTimeout) // for hello
	c.mu.Unlock()
	for {
		msg, p, err := c.readMessage()
		if err != nil {
			c.readFailed(err)
			return
		}
		if msg == nil { // the connection ends, and what comes is thrown away
			continue
		}
		c.take(msg, p)
		msg.release()
		c.hear()
	}
}

// readFailed notes why nothing can be read any more.
func (c *wsConn) readFailed(err error) {
	closed, isClose := errors.AsType[*websocket.CloseError](err)
	switch {
	case isClose && closed.Code != websocket.CloseAbnormalClosure:
		c.end(wsEnd{code: websocket.CloseNormalClosure})
		c.ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(closed.Code, ""), time.Now().Add(wsGoodbye))
	case isTimeout(err) && !c.isEnding():
		c.s.metrics.slowConsumers.Inc()
		c.fail(frame.CloseSlow, op.Errorf(op.Timeout, "nothing was heard of the client for too long"))
	default:
		c.end(wsEnd{code: websocket.CloseProtocolError})
	}
}

// isTimeout reports whether a deadline has passed. Gorilla puts an error of its own in place of the net package's.
func isTimeout(err error) bool {
	e, ok := errors.AsType[net.Error](err)
	return ok && e.Timeout()
}

var errNoText, errNoBinary = op.Errorf(op.BadRequest, "messages are binary in "+frame.Subprotocol),
	op.Errorf(op.BadRequest, "messages are text in "+wsJSON)

// readMessage reads the next message. Without a message and an error, the connection ends.
func (c *wsConn) readMessage() (*wsMessage, []byte, error) {
	kind, r, err := c.ws.NextReader()
	if err != nil {
		return nil, nil, err
	}
	if c.read.ending {
		_, err := io.Copy(io.Discard, r)
		return nil, nil, err
	}
	if kind != c.codec.messageType() {
		wrong := errNoBinary
		if kind == websocket.TextMessage {
			wrong = errNoText
		}
		c.fail(frame.CloseProtocol, wrong)
		return nil, nil, nil
	}
	m := &wsMessage{s: c.s}
	m.refs.Store(1)
	p, err := c.readAll(m, r)
	if err != nil || p == nil {
		m.release()
		return nil, nil, err
	}
	return m, p, nil
}

// scratch is lent to readers while a message arrives, as slices of up to wsScratch bytes.
var scratch = sync.Pool{New: func() any { return new(make([]byte, 0, 512)) }}

// readAll reads a message as far as the limits let. It counts what has come, not what was announced. A short message is
// copied out of the scratch.
func (c *wsConn) readAll(m *wsMessage, r io.Reader) ([]byte, error) {
	lent := scratch.Get().(*[]byte)
	defer scratch.Put(lent)
	p, err := c.readInto((*lent)[:0], m, r)
	if err != nil || p == nil || cap(p) > wsScratch {
		return p, err
	}
	*lent = p
	return append(make([]byte, 0, len(p)), p...), nil
}

// readInto reads a message behind p. Without one and an error, the connection ends.
func (c *wsConn) readInto(p []byte, m *wsMessage, r io.Reader) ([]byte, error) {
	for {
		if len(p) == cap(p) {
			p = append(p, make([]byte, cap(p))...)[:len(p)]
		}
		n, err := r.Read(p[len(p):cap(p)])
		p = p[:len(p)+n]
		m.bytes += int64(n)
		total := c.s.bodies.Add(int64(n))
		switch {
		case err == io.EOF:
			return p, nil
		case err != nil:
			return nil, err
		case m.bytes > c.limit:
			c.fail(websocket.CloseMessageTooBig, &op.Error{Code: op.TooLarge, Have: m.bytes, Limit: c.limit})
			return nil, nil
		case total > c.s.limits.BodyBytes && m.bytes > wsScratch:
			c.s.metrics.rejected.WithLabelValues("overload").Inc()
			c.fail(websocket.CloseTryAgainLater, op.Errorf(op.Overloaded, "messages of other connections take up all the room"))
			return nil, nil
		}
	}
}

// inputs are lent while a message is decoded.
var inputs = sync.Pool{New: func() any { return new(wsInput) }}

// take hands over the requests of a message.
func (c *wsConn) take(m *wsMessage, p []byte) {
	in := inputs.Get().(*wsInput)
	*in = wsInput{message: p}
	defer func() {
		*in = wsInput{}
		inputs.Put(in)
	}()
	for {
		f, err := c.codec.next(in)
		refused, isRefused := err.(*wsRefused)
		switch {
		case err == io.EOF:
			return
		case isRefused && !c.read.greeted:
			c.failHello(refused.id, refused.err)
			return
		case isRefused:
			c.refuse(refused.id, refused.op, refused.err)
		case err != nil:
			c.fail(frame.CloseProtocol, protocolError(err))
			return
		case !c.handle(m, f):
			return
		}
	}
}

// protocolError is the error of a message that can't be understood.
func protocolError(err error) *op.Error {
	if e, ok := errors.AsType[*op.Error](err); ok {
		return e
	}
	return op.Errorf(op.BadRequest, "%s", err)
}

// arrived returns when what the reader takes came: the clock is read once, until it waits again.
func (c *wsConn) arrived() time.Duration {
	if c.read.now == 0 {
		c.read.now = c.s.uptime()
	}
	return c.read.now
}

// hear notes a sign of life. Until hello has come it buys no time.
func (c *wsConn) hear() {
	now := c.arrived()
	c.mu.Lock()
	c.heardAt = now
	c.read.ending = c.ending != nil
	if c.limited && c.ending == nil && c.read.greeted {
		c.limited = false
		c.ws.SetReadDeadline(time.Time{})
	}
	b := c.beatLocked(now)
	c.mu.Unlock()
	b.give()
}

// limitLocked has reading fail in that time, unless a sign of life comes first. A client that gives one in time never gets
// there, so that no message of its has to move a deadline.
func (c *wsConn) limitLocked(in time.Duration) {
	if c.limited || c.ending != nil {
		return
	}
	c.limited = true
	c.ws.SetReadDeadline(time.Now().Add(in))
}
