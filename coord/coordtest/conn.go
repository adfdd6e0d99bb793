package coordtest

import (
	"net"
	"os"
	"sync"
	"time"
)

// conn is a connection through the network of a cluster. While the network doesn't let bytes pass between its ends,
// reading and writing wait, as long as their deadlines let them.
type conn struct {
	net.Conn
	n       *network
	between ends
	local   net.Addr // instead of the Conn's own; nil for those
	remote  net.Addr

	once   sync.Once
	closed chan struct{}

	mu          sync.Mutex
	read, write deadline
	held        []byte // was read and could not be delivered in time
}

// deadline is a moment, and a channel that is closed when another one is set.
type deadline struct {
	at      time.Time
	changed chan struct{}
}

func (n *network) conn(c net.Conn, between ends) *conn {
	return &conn{
		Conn: c, n: n, between: between, closed: make(chan struct{}),
		read: deadline{changed: make(chan struct{})}, write: deadline{changed: make(chan struct{})},
	}
}

func (c *conn) LocalAddr() net.Addr {
	if c.local != nil {
		return c.local
	}
	return c.Conn.LocalAddr()
}

func (c *conn) RemoteAddr() net.Addr {
	if c.remote != nil {
		return c.remote
	}
	return c.Conn.RemoteAddr()
}

// Read delivers what has arrived once the network lets it through. It has one caller at a time.
func (c *conn) Read(p []byte) (int, error) {
	if len(c.held) == 0 {
		n, err := c.Conn.Read(p)
		if n == 0 || c.n.flows(c.between) {
			return n, err
		}
		c.held = append(c.held, p[:n]...)
	}
	if err := c.wait(&c.read); err != nil {
		return 0, err
	}
	n := copy(p, c.held)
	c.held = c.held[n:]
	return n, nil
}

func (c *conn) Write(p []byte) (int, error) {
	if err := c.wait(&c.write); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// wait returns when the network lets bytes through, the deadline is over, or the connection is closed.
func (c *conn) wait(d *deadline) error {
	for {
		flows, changed := c.n.watch(c.between)
		if flows {
			return nil
		}
		c.mu.Lock()
		at, moved := d.at, d.changed
		c.mu.Unlock()
		var over <-chan time.Time
		if !at.IsZero() {
			timer := time.NewTimer(time.Until(at))
			defer timer.Stop()
			over = timer.C
		}
		select {
		case <-changed:
		case <-moved:
		case <-over:
			return os.ErrDeadlineExceeded
		case <-c.closed:
			return net.ErrClosed
		}
	}
}

func (c *conn) set(d *deadline, t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	d.at = t
	close(d.changed)
	d.changed = make(chan struct{})
}

func (c *conn) SetDeadline(t time.Time) error {
	c.set(&c.read, t)
	c.set(&c.write, t)
	return c.Conn.SetDeadline(t)
}

func (c *conn) SetReadDeadline(t time.Time) error {
	c.set(&c.read, t)
	return c.Conn.SetReadDeadline(t)
}

func (c *conn) SetWriteDeadline(t time.Time) error {
	c.set(&c.write, t)
	return c.Conn.SetWriteDeadline(t)
}

func (c *conn) Close() error {
	c.once.Do(func() { close(c.closed) })
	c.n.forget(c)
	return c.Conn.Close()
}
