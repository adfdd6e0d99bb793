package api

import (
	"errors"
	"math"
	"net"
	"runtime/debug"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"github.com/coord-kv/coord/internal/frame"
	"github.com/coord-kv/coord/op"
)

// runWriter sends what there is to send.
func (c *wsConn) runWriter() {
	for {
		w, more := c.takeWork()
		if !more || !c.send(w) {
			return
		}
	}
}

// send sends what waited. It reports whether there may be more, and the caller still is who sends.
func (c *wsConn) send(w wsWork) (more bool) {
	defer func() {
		if p := recover(); p != nil {
			c.panicked(p)
			c.ws.Close()
			c.lastWritten()
		}
	}()
	if last, err := c.writeRound(w); last || err != nil {
		c.writeFailed(err)
		c.lastWritten()
		return false
	}
	return true
}

// writeFailed notes why nothing can be written any more; nil if the connection has been ended.
func (c *wsConn) writeFailed(err error) {
	switch {
	case isTimeout(err):
		c.s.metrics.slowConsumers.Inc()
	case err != nil && !errors.Is(err, net.ErrClosed):
		c.s.log.Debug("a connection broke off", "connection", c.id, "error", err)
	}
	if err != nil {
		c.ws.Close() // which the reader notices
	}
}

// lastWritten is the end of the writer for good.
func (c *wsConn) lastWritten() {
	c.freeRoom()
	c.dropWatches()
	c.end(wsEnd{code: websocket.CloseAbnormalClosure}) // nobody waits for room any more
	c.mu.Lock()
	defer c.mu.Unlock()
	c.written = true
	c.done = append(c.write.answers, c.done...)
	c.write = nil // it may be in the middle of something
	c.restLocked()
}

// restLocked is the end of the writer for now.
func (c *wsConn) restLocked() {
	c.writing = false
	c.room.Broadcast()
	if w := c.write; w != nil {
		w.answers = nil
		c.write = nil
		writers.Put(w)
	}
}

// writers are lent to connections while they write.
var writers = sync.Pool{New: func() any { return new(wsWriter) }}

func (c *wsConn) panicked(p any) {
	c.s.log.Error("panic in a connection", "connection", c.id, "panic", p, "stack", string(debug.Stack()))
	c.end(wsEnd{code: websocket.CloseInternalServerErr, text: "internal"})
}

// wsWork is what waits to be sent.
type wsWork struct {
	rest     []byte
	direct   []frame.Frame
	done     []*wsRequest
	ready    []*wsWatch
	news     []*contest
	notes    [][]byte
	pong     *string
	ping     bool
	bookmark bool
	ending   *wsEnd
}

// takeWork takes what waits. If nothing was said since it did last, the writer is over: whoever says something later starts
// another one.
func (c *wsConn) takeWork() (work wsWork, more bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.woken {
		c.restLocked()
		return wsWork{}, false
	}
	return c.takeWorkLocked(), true
}

// lendLocked gives who sends a writer, if there is none.
func (c *wsConn) lendLocked() {
	if c.write == nil {
		c.write = writers.Get().(*wsWriter)
	}
}

// takeWorkLocked is takeWork for who holds mu, and knows that something was said.
func (c *wsConn) takeWorkLocked() wsWork {
	c.woken = false
	c.lendLocked()
	c.write.at = 0
	w := wsWork{c.rest, c.direct, c.done, c.ready, c.contests.news, c.contests.notes, c.pong, c.pingDue, c.bookmarksDue, c.ending}
	c.contests.news, c.contests.notes = nil, nil
	c.rest, c.direct, c.done, c.ready, c.pong, c.pingDue, c.bookmarksDue = nil, nil, nil, nil, nil, false, false
	for _, watch := range w.ready {
		watch.queued = false
	}
	return w
}

// writeRound sends what waits. It reports whether that was the last.
func (c *wsConn) writeRound(w wsWork) (last bool, err error) {
	if len(w.rest) > 0 {
		c.ws.NetConn().SetWriteDeadline(c.writeDeadline())
		if _, err := c.ws.NetConn().Write(w.rest); err != nil {
			return false, err
		}
	}
	for _, f := range w.direct {
		c.append(f)
	}
	for c.write.answers = w.done; len(c.write.answers) > 0; {
		r := c.write.answers[0]
		c.write.answers = c.write.answers[1:]
		if err := c.answer(r); err != nil {
			return false, err
		}
	}
	if err := c.appendContestNews(w.news, w.notes); err != nil {
		return false, err
	}
	if w.ending == nil {
		if err := c.deliverAll(w.ready, w.bookmark); err != nil {
			return false, err
		}
	}
	if err := c.flush(); err != nil {
		return false, err
	}
	if w.pong != nil {
		c.ws.WriteControl(websocket.PongMessage, []byte(*w.pong), c.writeDeadline())
	}
	if w.ping {
		c.ws.WriteControl(websocket.PingMessage, nil, c.writeDeadline())
	}
	if w.ending != nil {
		return true, c.sayGoodbye(w.ending)
	}
	return false, nil
}

// sayGoodbye sends the last frames and closes. The client has a moment to answer: a connection that is closed while
// something has not been read yet is reset, and what was sent last is lost with it.
func (c *wsConn) sayGoodbye(e *wsEnd) error {
	if e.frame != nil {
		c.append(e.frame)
	}
	if e.err != nil {
		c.write.buf = c.codec.appendFailed(c.write.buf, e.id, e.err)
		c.write.frames++
	}
	if err := c.flush(); err != nil {
		return err
	}
	c.ws.SetReadDeadline(time.Now().Add(wsGoodbye))
	c.ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(e.code, e.text), c.writeDeadline())
	return nil
}

func (c *wsConn) writeDeadline() time.Time { return time.Now().Add(c.s.limits.WriteTimeout) }

// append puts a frame into the buffer.
func (c *wsConn) append(f frame.Frame) {
	c.write.buf = c.codec.append(c.write.buf, f)
	c.write.frames++
}

// appended sends what is in the buffer if that is much, or if a message holds one frame only.
func (c *wsConn) appended() error {
	c.write.frames++
	if len(c.write.buf) >= wsFlush {
		return c.flush()
	}
	return nil
}

func (c *wsConn) flush() error {
	p := c.write.buf
	if c.write.frames == 0 {
		return nil
	}
	defer c.freeRoom()
	c.write.frames, c.write.at = 0, 0
	c.write.buf = p[:0]
	if cap(p) > 2*wsFlush {
		c.write.buf = nil
	}
	for len(p) > 0 {
		var message []byte
		message, p = c.codec.message(p)
		c.ws.SetWriteDeadline(c.writeDeadline())
		if err := c.ws.WriteMessage(c.codec.messageType(), message); err != nil {
			return err
		}
	}
	for _, z := range c.write.events {
		c.s.metrics.delivered(z, 0)
	}
	c.write.events = c.write.events[:0]
	return nil
}

// freeRoom gives back what the answers took that have left, or never will.
func (c *wsConn) freeRoom() {
	c.s.answers.give(c.write.taken)
	c.write.taken = 0
}

// show notes that the client is shown a state.
func (c *wsConn) show(z op.Zxid) {
	for {
		old := c.seen.Load()
		if uint64(z) <= old || z > math.MaxInt64 || c.seen.CompareAndSwap(old, uint64(z)) {
			return
		}
	}
}
