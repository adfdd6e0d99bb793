package peer

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"testing"
	"time"
)

// simnet is a network in memory, for bubbles of testing/synctest: lines can be cut, frozen and slow.
type simnet struct {
	mu        sync.Mutex
	listeners map[string]*simListener
	lines     []*line
	frozen    chan struct{} // while not nil, nothing moves until it is closed
	rate      int           // bytes a second of each direction of each line, 0 for no limit
	dials     int
}

func newSimnet() *simnet { return &simnet{listeners: make(map[string]*simListener)} }

// line is one connection: two pipes, with the net between them moving the bytes.
type line struct {
	addr   string
	ends   [2]net.Conn
	once   sync.Once
	broken chan struct{}
}

func (s *simnet) Dial(ctx context.Context, addr string) (net.Conn, error) {
	s.mu.Lock()
	s.dials++
	ln, frozen := s.listeners[addr], s.frozen
	s.mu.Unlock()
	if frozen != nil {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if ln == nil {
		return nil, errors.New("connection refused")
	}
	here, inner := net.Pipe()
	other, there := net.Pipe()
	l := &line{addr: addr, ends: [2]net.Conn{inner, other}, broken: make(chan struct{})}
	s.mu.Lock()
	s.lines = append(s.lines, l)
	s.mu.Unlock()
	go s.move(l, 0)
	go s.move(l, 1)
	select {
	case ln.conns <- there:
		return here, nil
	case <-ln.closed:
		l.cut()
		return nil, errors.New("connection refused")
	}
}

// move carries the bytes of one direction until either end closes, and then closes both.
func (s *simnet) move(l *line, from int) {
	defer l.cut()
	buf := make([]byte, 16<<10)
	for {
		n, err := l.ends[from].Read(buf)
		if err != nil {
			return
		}
		s.mu.Lock()
		frozen, rate := s.frozen, s.rate
		s.mu.Unlock()
		if frozen != nil {
			l.wait(frozen)
		}
		if rate > 0 {
			l.delay(time.Duration(n) * time.Second / time.Duration(rate))
		}
		if _, err := l.ends[1-from].Write(buf[:n]); err != nil {
			return
		}
	}
}

func (l *line) wait(c <-chan struct{}) {
	select {
	case <-c:
	case <-l.broken:
	}
}

func (l *line) delay(d time.Duration) {
	arrival := time.NewTimer(d)
	defer arrival.Stop()
	select {
	case <-arrival.C:
	case <-l.broken:
	}
}

func (l *line) cut() {
	l.once.Do(func() {
		close(l.broken)
		l.ends[0].Close()
		l.ends[1].Close()
	})
}

// cut breaks every line to addr, "" for all.
func (s *simnet) cut(addr string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = slices.DeleteFunc(s.lines, func(l *line) bool {
		hit := addr == "" || l.addr == addr
		if hit {
			l.cut()
		}
		return hit
	})
}

// freeze stops everything until thaw is called or the test ends.
func (s *simnet) freeze(t testing.TB) (thaw func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	frozen := make(chan struct{})
	s.frozen = frozen
	thaw = sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.frozen = nil
		close(frozen)
	})
	t.Cleanup(thaw)
	return thaw
}

func (s *simnet) dialled() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dials
}

func (s *simnet) Listen(_ testing.TB, addr string) net.Listener {
	s.mu.Lock()
	defer s.mu.Unlock()
	ln := &simListener{net: s, addr: addr, conns: make(chan net.Conn), closed: make(chan struct{})}
	s.listeners[addr] = ln
	return ln
}

type simListener struct {
	net    *simnet
	addr   string
	conns  chan net.Conn
	once   sync.Once
	closed chan struct{}
}

func (l *simListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *simListener) Close() error {
	l.once.Do(func() {
		close(l.closed)
		l.net.mu.Lock()
		defer l.net.mu.Unlock()
		if l.net.listeners[l.addr] == l {
			delete(l.net.listeners, l.addr)
		}
	})
	return nil
}

func (l *simListener) Addr() net.Addr { return simAddr(l.addr) }

type simAddr string

func (a simAddr) Network() string { return "sim" }
func (a simAddr) String() string  { return string(a) }
