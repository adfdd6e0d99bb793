package api

import (
	"context"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"

	"github.com/coord-kv/coord/internal/frame"
)

// sockets are the WebSocket connections that are open. net/http doesn't know of them any more.
type sockets struct {
	mu     sync.Mutex
	open   wsSlots
	none   chan struct{} // closed when the last of those that are open leaves
	closed bool          // no more are let in
	ending chan struct{} // closed when connections shall end
	empty  chan struct{} // closed when ending, and none is left
}

func newSockets() *sockets {
	return &sockets{ending: make(chan struct{}), empty: make(chan struct{})}
}

// enterSocket lets a connection in, unless none is any more. The first one begins the sweep, which ends with the last.
func (s *Server) enterSocket(c *wsConn) bool {
	x := s.sockets
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.closed {
		return false
	}
	if x.open.len == 0 {
		x.none = make(chan struct{})
		go s.sweep(x.none)
	}
	x.open.add(c)
	return true
}

func (s *sockets) leave(c *wsConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open.remove(c)
	if s.open.len > 0 {
		return
	}
	close(s.none)
	if s.closed {
		close(s.empty)
	}
}

// due appends the connections that are open and have to be looked at by then.
func (s *sockets) due(by time.Duration, list []*wsConn) []*wsConn {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open.due(by, list)
}

// end asks all connections to end.
func (s *sockets) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.closed = true
	close(s.ending)
	if s.open.len == 0 {
		close(s.empty)
	}
}

// wait waits for all connections to end, as long as ctx lets, and breaks off those that are left.
func (s *sockets) wait(ctx context.Context) {
	select {
	case <-s.empty:
		return
	case <-ctx.Done():
	}
	for _, c := range s.due(forever, nil) {
		c.ws.Close()
	}
	<-s.empty
}

// The sweep: one goroutine looks once a tick for what is late or due at the connections. So a connection that is idle has no
// timer, and a message moves no deadline. Each says when it has to be looked at again, and one that is idle isn't until then.

// forever is later than everything.
const forever = math.MaxInt64

// wsTick is how often that is.
func (s *Server) wsTick() time.Duration {
	return max(min(s.limits.Bookmark, s.limits.RequestTimeout/4, s.limits.DrainTimeout/4, time.Second), 20*time.Millisecond)
}

func (s *Server) sweep(stop <-chan struct{}) {
	tick := time.NewTicker(s.wsTick())
	defer tick.Stop()
	draining, ending := s.draining, s.sockets.ending
	var list []*wsConn
	for {
		select {
		case <-tick.C:
		case <-draining:
			draining = nil
		case <-ending:
			ending = nil
		case <-stop:
			return
		}
		now := s.uptime()
		by := now
		if draining == nil || ending == nil {
			by = forever
		}
		list = s.sockets.due(by, list[:0])
		for _, c := range list {
			c.swept(now, draining == nil, ending == nil)
		}
		clear(list)
	}
}

// wsSweep is what belongs to the sweep.
type wsSweep struct {
	// next is the uptime of the server at which to look again; both are changed with wsConn.mu held. Whatever may be late or
	// due before that sets it when it begins, to 0 for the next tick: a request, a ping, a sign of life, another timeout of the
	// session.
	next       *atomic.Int64
	slot       int
	goneAway   bool
	endBy      time.Duration // when requests under way are not waited for any longer; 0: the server goes on
	pinged     time.Duration
	bookmarked time.Duration
}

// swept does what is due. It must not block: all connections wait for it.
func (c *wsConn) swept(now time.Duration, draining, ending bool) {
	defer func() {
		if p := recover(); p != nil {
			c.panicked(p)
		}
	}()
	c.giveUp(now)
	c.beatAgain(now)
	c.sayDue(now, draining, ending)
}

// sayDue has the writer say what is due on the server's own account.
func (c *wsConn) sayDue(now time.Duration, draining, ending bool) {
	x := &c.sweep
	c.mu.Lock()
	defer c.mu.Unlock()
	if draining && !x.goneAway {
		x.goneAway = true
		c.direct = append(c.direct, &frame.Goaway{Reason: "draining", Endpoints: c.s.endpoints})
		c.signal()
	}
	if ending && x.endBy == 0 {
		x.endBy = now + c.s.limits.DrainTimeout/2
	}
	if ending && (c.count == 0 || now > x.endBy) {
		c.endLocked(wsEnd{code: websocket.CloseGoingAway, text: "draining"})
	}
	if silence := c.session.silence(); now-c.heardAt >= silence {
		c.limitLocked((wsSilences - 1) * silence)
		if now-x.pinged >= silence {
			x.pinged, c.pingDue = now, true
			c.signal()
		}
	}
	if now-x.bookmarked >= c.s.limits.Bookmark && len(c.watches) > 0 {
		x.bookmarked, c.bookmarksDue = now, true
		c.signal()
	}
	x.next.Store(int64(c.nextLocked()))
}

// nextLocked returns when the connection has to be looked at again if nothing happens until then; 0 for the next tick.
func (c *wsConn) nextLocked() time.Duration {
	s := &c.session
	if len(c.pending) > 0 || s.next != nil && !s.beating {
		return 0
	}
	next := max(c.heardAt, c.sweep.pinged) + s.silence()
	if s.waiting != 0 {
		next = min(next, s.lostAt())
	}
	if s.id != 0 && c.heardAt > s.began && !s.beating {
		next = min(next, s.began+s.ttl/3)
	}
	if len(c.watches) > 0 {
		next = min(next, c.sweep.bookmarked+c.s.limits.Bookmark)
	}
	return next
}

// wsSlots are connections, and beside each other when each has to be looked at again. To look for those that are due takes
// little of what it takes to look into each of them, as none has been for a while.
type wsSlots struct {
	blocks []*wsBlock // never moved: each connection knows where its time is
	free   []int
	len    int
}

type wsBlock struct {
	next  [wsBlockLen]atomic.Int64 // forever if there is no connection
	conns [wsBlockLen]*wsConn
}

const wsBlockLen = 256

// nextOfNone is where those write that have no slot, any more or yet.
var nextOfNone atomic.Int64

func (x *wsSlots) add(c *wsConn) {
	if len(x.free) == 0 {
		x.grow()
	}
	slot := x.free[len(x.free)-1]
	x.free = x.free[:len(x.free)-1]
	x.len++
	b, i := x.blocks[slot/wsBlockLen], slot%wsBlockLen
	b.conns[i] = c
	b.next[i].Store(0)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sweep.slot, c.sweep.next = slot, &b.next[i]
}

func (x *wsSlots) grow() {
	first, b := len(x.blocks)*wsBlockLen, new(wsBlock)
	x.blocks = append(x.blocks, b)
	for i := range b.next {
		b.next[i].Store(forever)
		x.free = append(x.free, first+wsBlockLen-1-i)
	}
}

func (x *wsSlots) remove(c *wsConn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	slot := c.sweep.slot
	c.sweep.next = &nextOfNone
	b, i := x.blocks[slot/wsBlockLen], slot%wsBlockLen
	b.conns[i] = nil
	b.next[i].Store(forever)
	x.free = append(x.free, slot)
	x.len--
}

// due appends the connections that have to be looked at by then.
func (x *wsSlots) due(by time.Duration, list []*wsConn) []*wsConn {
	for _, b := range x.blocks {
		for i := range b.next {
			if time.Duration(b.next[i].Load()) <= by && b.conns[i] != nil {
				list = append(list, b.conns[i])
			}
		}
	}
	return list
}
