package api

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// gate counts the connections of a server's listeners and turns away those that are too many, with an answer instead of
// a wait: connections that wait in the kernel's queue look like a network that has failed, and slow ones would keep
// everybody else out.
type gate struct {
	max, perIP int
	metrics    *Metrics

	mu   sync.Mutex
	open int // those that have become WebSocket connections included
	ws   int
	byIP map[netip.Addr]int
}

func newGate(max, perIP int, m *Metrics) *gate {
	return &gate{max: max, perIP: perIP, metrics: m, byIP: make(map[netip.Addr]int)}
}

func (g *gate) listen(ln net.Listener) net.Listener { return &gateListener{ln, g} }

// enter counts a connection from ip, unless that would be one too many.
func (g *gate) enter(ip netip.Addr) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open >= g.max || g.byIP[ip] >= g.perIP {
		return false
	}
	g.open++
	g.byIP[ip]++
	g.count()
	return true
}

func (g *gate) leave(ip netip.Addr) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open--
	if g.byIP[ip]--; g.byIP[ip] == 0 {
		delete(g.byIP, ip)
	}
	g.count()
}

// upgraded counts a connection as a WebSocket one until done is called.
func (g *gate) upgraded() (done func()) {
	change := func(by int) {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.ws += by
		g.count()
	}
	change(1)
	return func() { change(-1) }
}

// count tells the metrics. Connections of a server that isn't coord's own are known only once they are WebSocket ones.
func (g *gate) count() {
	g.metrics.connections.Set(float64(max(g.open-g.ws, 0)))
	g.metrics.wsConns.Set(float64(g.ws))
}

type gateListener struct {
	net.Listener
	gate *gate
}

// Accept returns the next connection that is let in.
func (l *gateListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		ip := addrOf(conn.RemoteAddr())
		if l.gate.enter(ip) {
			return &gateConn{Conn: conn, gate: l.gate, ip: ip}, nil
		}
		l.gate.metrics.rejected.WithLabelValues("connections").Inc()
		turnAway(conn)
	}
}

const turnedAway = "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 1\r\n" +
	"Content-Type: text/plain; charset=utf-8\r\nContent-Length: 43\r\n\r\ntoo many connections; try another endpoint\n"

// turnAway answers and closes. What fits into a fresh socket's buffer doesn't block; the deadline is for a conn that is
// not of the kernel.
func turnAway(conn net.Conn) {
	conn.SetWriteDeadline(time.Now().Add(10 * time.Millisecond))
	conn.Write([]byte(turnedAway))
	conn.Close()
}

type gateConn struct {
	net.Conn
	gate *gate
	ip   netip.Addr
	left atomic.Bool
}

// SyscallConn gives access to the socket, if the connection is one.
func (c *gateConn) SyscallConn() (syscall.RawConn, error) {
	if x, ok := c.Conn.(syscall.Conn); ok {
		return x.SyscallConn()
	}
	return nil, errors.ErrUnsupported
}

// Close may be called more than once.
func (c *gateConn) Close() error {
	if !c.left.Swap(true) {
		c.gate.leave(c.ip)
	}
	return c.Conn.Close()
}
