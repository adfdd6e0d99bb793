package api

import (
	"sync"

	"github.com/coord-kv/coord/internal/frame"
	"github.com/coord-kv/coord/op"
)

// wsPongs answers pings whose signs of life are confirmed. Those of many connections are confirmed together, and most of
// these are quiet otherwise: to start a writer for each takes longer than to send. So one goroutine sends what can be sent
// without waiting. The rest, and whatever a connection has to send besides, is its writer's.
type wsPongs struct {
	mu      sync.Mutex
	due     []*wsBeat
	running bool

	// Of the goroutine.
	list  []*wsBeat
	frame frame.Pong
	buf   []byte
	raw   rawWrite
}

// add has a confirmed sign of life answered. Whoever drives the member calls it, so it doesn't wait.
func (x *wsPongs) add(b *wsBeat) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.due = append(x.due, b)
	if !x.running {
		x.running = true
		go x.run()
	}
}

func (x *wsPongs) run() {
	for x.take() {
		for i, b := range x.list {
			x.answer(b)
			b.free()
			x.list[i] = nil
		}
	}
}

// take takes what is due. If that is nothing, the goroutine is over.
func (x *wsPongs) take() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.list, x.due = x.due, x.list[:0]
	x.running = len(x.list) > 0
	return x.running
}

func (x *wsPongs) answer(b *wsBeat) {
	c := b.c
	defer func() {
		if p := recover(); p != nil {
			c.panicked(p)
		}
	}()
	c.mu.Lock()
	defer c.mu.Unlock()
	if x.sendLocked(b) {
		c.answeredLocked(b)
	} else {
		b.answerLocked(nil)
	}
}

// sendLocked sends the pongs if that can be done now, and reports whether it has. While mu is held nobody begins to write,
// but for the reader, which at its end says that the connection is closed.
func (x *wsPongs) sendLocked(b *wsBeat) bool {
	c := b.c
	s, ok := c.ws.NetConn().(*wsSocket)
	if !ok || s.raw == nil || c.writing || c.written || c.woken || c.atWork || c.ending != nil {
		return false
	}
	x.buf = append(x.buf[:0], make([]byte, shortHeader)...)
	for _, p := range b.asked {
		x.frame = frame.Pong{ID: p.id, TTL: b.ttl}
		x.buf = c.codec.append(x.buf, &x.frame)
	}
	message, rest := c.codec.message(x.buf)
	if len(rest) > 0 || len(message) > shortHeader+shortMessage {
		return false
	}
	putShortHeader(message, c.codec.messageType())
	n := x.raw.do(s.raw, message)
	if n > 0 && n < len(message) {
		c.rest = append([]byte(nil), message[n:]...)
		c.signal()
	}
	return n > 0
}

// answeredLocked notes that the pings of a sign of life have been answered.
func (c *wsConn) answeredLocked(b *wsBeat) {
	now := c.s.uptime()
	for _, p := range b.asked {
		c.s.metrics.RequestDone(WebSocket, "ping", op.OK, now-p.start)
	}
	c.count -= len(b.asked)
	c.room.Signal()
}

// A message of up to shortMessage bytes has a header of shortHeader: RFC 6455, 5.2.
const (
	shortHeader  = 2
	shortMessage = 125
)

// putShortHeader puts the header of a server's message into its first bytes. The types are the opcodes.
func putShortHeader(message []byte, kind int) {
	const final = 0x80
	message[0], message[1] = final|byte(kind), byte(len(message)-shortHeader)
}
