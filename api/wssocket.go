package api

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"
)

// wsSocket is the connection below, as its reader sees it: to ask for more bytes is to have used up those that have come.
// They are read into a buffer that is lent for as long as some of them are left, so that a connection that is quiet holds
// none, and one that is busy reads many requests at once.
type wsSocket struct {
	net.Conn
	reader *wsConn         // set before anything is read
	raw    syscall.RawConn // nil if the kernel's bytes are not the reader's, as with TLS
	buf    *[]byte         // lent; without raw the connection's own
	left   []byte          // of buf, not taken yet
	err    error           // found by receive, after which nothing comes

	onReady func(fd uintptr) bool // receive, made once

	mu      sync.Mutex
	writeBy time.Time // deadline of writing
}

const (
	wsReadBytes = 4 << 10 // of a buffer that is lent
	wsOwnBytes  = 512     // of one that isn't
)

// readBuffers are lent to connections while there is something to read, as slices of wsReadBytes.
var readBuffers = sync.Pool{New: func() any { return new(make([]byte, wsReadBytes)) }}

// socketTaker is a ResponseWriter whose connection is taken over as a wsSocket.
type socketTaker struct{ http.ResponseWriter }

// Hijack takes over the connection.
func (t socketTaker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(t.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	return newWSSocket(conn), rw, nil
}

func newWSSocket(conn net.Conn) *wsSocket {
	s := &wsSocket{Conn: conn}
	if x, ok := conn.(syscall.Conn); ok && canReadRaw {
		s.raw, _ = x.SyscallConn() // an error says that it has none
	}
	if s.onReady = s.receive; s.raw == nil {
		s.buf = new(make([]byte, wsOwnBytes))
	}
	return s
}

// wsSlack is how much later than asked for a write may fail.
const wsSlack = 100 * time.Millisecond

// SetWriteDeadline lets a deadline stand that is late enough and at most wsSlack too late. Every message asks for one of its
// own, and to move one takes as long as to find the node that is read.
func (s *wsSocket) SetWriteDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if late := s.writeBy.Sub(t); late >= 0 && late <= wsSlack {
		return nil
	}
	if s.writeBy = t; !t.IsZero() {
		s.writeBy = t.Add(wsSlack)
	}
	return s.Conn.SetWriteDeadline(s.writeBy)
}

// Read reads what the client sends. What is too long for a buffer goes where it belongs at once.
//
// Here is where an idle connection waits. A stack of 8 KiB, to which a request can have it grow, is halved only if less than
// 1,248 bytes of it are in use then, which is as good as all: what is added to this and to its callers counts.
func (s *wsSocket) Read(p []byte) (n int, err error) {
	if len(s.left) > 0 {
		return s.take(p), nil
	}
	s.reader.pause()
	switch {
	case len(p) >= wsReadBytes:
		n, err = s.Conn.Read(p)
	case s.raw == nil:
		err = s.fill()
	default:
		err = s.raw.Read(s.onReady)
	}
	s.reader.resume()
	if n > 0 || err != nil {
		return n, err
	}
	return s.take(p), s.err
}

// take moves bytes that have come to p, and gives back the buffer that was lent when none are left.
func (s *wsSocket) take(p []byte) int {
	n := copy(p, s.left)
	if s.left = s.left[n:]; len(s.left) == 0 && s.raw != nil && s.buf != nil {
		readBuffers.Put(s.buf)
		s.buf, s.left = nil, nil
	}
	return n
}

// fill waits for bytes where there is no raw.
func (s *wsSocket) fill() error {
	n, err := s.Conn.Read(*s.buf)
	if s.left = (*s.buf)[:n]; n > 0 {
		return nil // an error comes again
	}
	return err
}

// receive takes what the kernel has, and reports whether that was something: bytes, their end, or an error. It is called
// anew when there is something, so that nothing is lent while the reader waits.
func (s *wsSocket) receive(fd uintptr) bool {
	buf := readBuffers.Get().(*[]byte)
	n, err := readRaw(fd, *buf)
	if n > 0 {
		s.buf, s.left = buf, (*buf)[:n]
		return true
	}
	readBuffers.Put(buf)
	switch err {
	case syscall.EAGAIN:
		return false
	case nil:
		err = io.EOF
	}
	s.err = err
	return true
}

// rawWrite writes to sockets without waiting. It is kept, so that what it calls isn't made anew each time.
type rawWrite struct {
	p     []byte
	n     int
	write func(fd uintptr)
}

// do writes as much of p as the kernel takes now, and returns how much that is. An error counts as nothing: whoever writes
// the rest finds it.
func (w *rawWrite) do(raw syscall.RawConn, p []byte) int {
	if w.write == nil {
		w.write = func(fd uintptr) { w.n, _ = writeRaw(fd, w.p) }
	}
	w.p, w.n = p, 0
	if raw.Control(w.write) != nil {
		return 0
	}
	return max(w.n, 0)
}
