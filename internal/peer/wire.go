package peer

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"time"
)

// wire is a connection on which every read and every write has to get somewhere within its time. It counts the bytes for statistics.
// One goroutine may read while another writes.
type wire struct {
	net.Conn
	silence  time.Duration // the longest wait for the next byte
	stall    time.Duration // the longest wait for writeSize bytes to leave, 0 for no limit
	received *atomic.Uint64
	sent     *atomic.Uint64
}

func (w *wire) Read(p []byte) (int, error) {
	if err := w.SetReadDeadline(time.Now().Add(w.silence)); err != nil {
		return 0, err
	}
	n, err := w.Conn.Read(p)
	w.received.Add(uint64(n))
	return n, err
}

// Write gives each piece a deadline of its own: on a slow line a large frame takes long, and is not for that reason dead.
func (w *wire) Write(p []byte) (int, error) {
	done := 0
	for done < len(p) {
		if err := w.limitWrite(); err != nil {
			return done, err
		}
		n, err := w.Conn.Write(p[done:min(len(p), done+writeSize)])
		done += n
		w.sent.Add(uint64(n))
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

func (w *wire) limitWrite() error {
	if w.stall == 0 {
		return nil
	}
	return w.SetWriteDeadline(time.Now().Add(w.stall))
}

// answeringWire is a wire whose reader also answers: besides its answers to pings, it says now and then that bytes are arriving.
// Else the sender of a frame that takes longer than SilenceTimeout on a slow line would hear nothing, break the stream, and begin the
// same frame again for ever. Only the goroutine that reads may write.
type answeringWire struct {
	*wire
	every time.Duration
	said  time.Time
	out   *bufio.Writer
}

func newAnsweringWire(w *wire, every time.Duration) *answeringWire {
	return &answeringWire{wire: w, every: every, said: time.Now(), out: bufio.NewWriterSize(w, 64)}
}

func (a *answeringWire) Read(p []byte) (int, error) {
	n, err := a.wire.Read(p)
	if err != nil || time.Since(a.said) < a.every {
		return n, err
	}
	return n, a.say(nil)
}

func (a *answeringWire) say(token []byte) error {
	a.said = time.Now()
	if err := writeFrame(a.out, kindPong, token); err != nil {
		return err
	}
	return a.out.Flush()
}

func dialTCP(ctx context.Context, addr string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", addr)
}

// tune sets what a stream of small urgent frames needs of TCP, also under TLS. The kernel's keep-alive is the second line behind the
// pings: it covers the connections that wait for a snapshot's verdict from a machine that is gone.
func tune(conn net.Conn) {
	if inner, ok := conn.(interface{ NetConn() net.Conn }); ok {
		conn = inner.NetConn()
	}
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return
	}
	// Neither can fail on a connection that stands; one that broke meanwhile says so at its first use.
	_ = tcp.SetNoDelay(true)
	_ = tcp.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 2 * time.Second, Count: 3})
}

// closedHere says that an operation failed because this side closed the connection, so that the reason lies elsewhere.
func closedHere(err error) bool {
	return errors.Is(err, net.ErrClosed) || errors.Is(err, io.ErrClosedPipe)
}

// closeOn closes conn when ctx ends, which ends whatever waits on it. The caller calls stop when it is done with conn.
func closeOn(ctx context.Context, conn net.Conn) (stop func() bool) {
	return context.AfterFunc(ctx, func() { conn.Close() })
}
