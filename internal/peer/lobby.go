package peer

import (
	"net"
	"slices"
	"sync"
)

// lobby holds the accepted connections that have not said who they are. When it is full the oldest has to go: a member says who it is
// within a round trip, so those that have waited longest are the least likely to be one, and nobody can keep members out by filling it.
type lobby struct {
	max int

	mu    sync.Mutex
	conns []net.Conn // oldest first
}

func (l *lobby) enter(conn net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.conns) == l.max {
		l.conns[0].Close()
		l.conns = slices.Delete(l.conns, 0, 1)
	}
	l.conns = append(l.conns, conn)
}

func (l *lobby) leave(conn net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns = slices.DeleteFunc(l.conns, func(c net.Conn) bool { return c == conn })
}

func (l *lobby) size() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.conns)
}
