package main

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// zookeeper is driven by as little code as its protocol allows: a length, a header, the record. Its answers come in the
// order of the requests.
type zookeeper struct{ addr string }

func (z *zookeeper) name() string { return "zookeeper" }

type zkConn struct {
	nc    net.Conn
	in    *bufio.Reader
	out   *bufio.Writer
	xid   int32
	buf   []byte
	value []byte
	self  int

	events int // that have come and nobody has waited for yet
}

const (
	zkCreate, zkDelete, zkExists, zkGetData, zkSetData, zkGetChildren = 1, 2, 3, 4, 5, 8
	zkPing                                                            = 11
)

func (z *zookeeper) dial(i int) (conn, error) { return z.connect(i, 10*time.Second) }

func (z *zookeeper) connect(i int, timeout time.Duration) (*zkConn, error) {
	nc, err := net.Dial("tcp", z.addr)
	if err != nil {
		return nil, err
	}
	nc.SetDeadline(time.Now().Add(5 * time.Second)) // a server that is about to start forgets who has asked before
	c := &zkConn{nc: nc, in: bufio.NewReaderSize(nc, 4096), out: bufio.NewWriterSize(nc, 4096), value: make([]byte, 100), self: i}
	var b []byte
	b = binary.BigEndian.AppendUint32(b, 0) // protocol version
	b = binary.BigEndian.AppendUint64(b, 0) // last zxid seen
	b = binary.BigEndian.AppendUint32(b, uint32(timeout.Milliseconds()))
	b = binary.BigEndian.AppendUint64(b, 0) // no session yet
	b = zkBytes(b, make([]byte, 16))
	b = append(b, 0) // not read-only
	c.write(b)
	if err := c.flush(); err != nil {
		return nil, err
	}
	_, err = c.frame()
	nc.SetDeadline(time.Time{})
	return c, err
}

func zkBytes(b, v []byte) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(v))), v...)
}

func (c *zkConn) write(b []byte) {
	var n [4]byte
	binary.BigEndian.PutUint32(n[:], uint32(len(b)))
	c.out.Write(n[:])
	c.out.Write(b)
}

// frame reads one answer; it is good until the next.
func (c *zkConn) frame() ([]byte, error) {
	var n [4]byte
	if _, err := io.ReadFull(c.in, n[:]); err != nil {
		return nil, err
	}
	size := int(binary.BigEndian.Uint32(n[:]))
	if cap(c.buf) < size {
		c.buf = make([]byte, size)
	}
	_, err := io.ReadFull(c.in, c.buf[:size])
	return c.buf[:size], err
}

func (c *zkConn) request(kind uint32, body func([]byte) []byte) {
	c.xid++
	b := binary.BigEndian.AppendUint32(make([]byte, 0, 256), uint32(c.xid))
	c.write(body(binary.BigEndian.AppendUint32(b, kind)))
}

func (c *zkConn) create(path string, flags uint32) {
	c.request(zkCreate, func(b []byte) []byte {
		b = zkBytes(zkBytes(b, []byte(path)), c.value)
		b = binary.BigEndian.AppendUint32(b, 1) // one ACL: everything, for anyone
		b = binary.BigEndian.AppendUint32(b, 31)
		b = zkBytes(zkBytes(b, []byte("world")), []byte("anyone"))
		return binary.BigEndian.AppendUint32(b, flags)
	})
}

func (c *zkConn) send(o operation, i int) error {
	switch o {
	case opCreate:
		c.create(fmt.Sprintf("/bench/%d-%d", time.Now().UnixNano(), i), 0)
	case opSet:
		c.request(zkSetData, func(b []byte) []byte {
			b = zkBytes(zkBytes(b, []byte(key(i))), c.value)
			return binary.BigEndian.AppendUint32(b, 0xffffffff)
		})
	case opGet, opGetFresh:
		c.request(zkGetData, func(b []byte) []byte { return append(zkBytes(b, []byte(key(i))), 0) })
	}
	return nil
}

func key(i int) string { return fmt.Sprintf("/bench/k%d", i%keys) }

func (c *zkConn) flush() error  { return c.out.Flush() }
func (c *zkConn) waiting() bool { return c.in.Buffered() > 0 }
func (c *zkConn) close()        { c.nc.Close() }

func (c *zkConn) receive() error {
	_, err := c.answer()
	return err
}

// answer returns the body of the next answer.
func (c *zkConn) answer() ([]byte, error) {
	b, err := c.frame()
	if err != nil {
		return nil, err
	}
	if isEvent(b) {
		c.events++
		return c.answer()
	}
	if code := int32(binary.BigEndian.Uint32(b[12:16])); code != 0 {
		return nil, fmt.Errorf("zookeeper answers %d", code)
	}
	return b[16:], nil
}

func isEvent(b []byte) bool { return binary.BigEndian.Uint32(b) == 0xffffffff }

// event waits for one.
func (c *zkConn) event() error {
	for c.events == 0 {
		b, err := c.frame()
		if err != nil {
			return err
		}
		if isEvent(b) {
			c.events++
		}
	}
	c.events--
	return nil
}

func (c *zkConn) call() ([]byte, error) {
	if err := c.flush(); err != nil {
		return nil, err
	}
	return c.answer()
}

// lock is what Curator and kazoo do for a lock that nobody else wants: create, list, and later delete.
func (c *zkConn) lock() error {
	dir := fmt.Sprintf("/bench/lock%d", c.self)
	c.create(dir+"/x-lock-", 3)
	b, err := c.call()
	if err != nil {
		if !strings.Contains(err.Error(), "-101") {
			return err
		}
		c.create(dir, 0)
		_, err = c.call()
		return err
	}
	mine := string(b[4:])
	c.request(zkGetChildren, func(b []byte) []byte { return append(zkBytes(b, []byte(dir)), 0) })
	if b, err = c.call(); err != nil {
		return err
	}
	if n := binary.BigEndian.Uint32(b); n != 1 {
		return fmt.Errorf("%d contenders for a lock of one", n)
	}
	c.request(zkDelete, func(b []byte) []byte {
		return binary.BigEndian.AppendUint32(zkBytes(b, []byte(mine)), 0xffffffff)
	})
	_, err = c.call()
	return err
}

func (z *zookeeper) prepare(n int) error {
	c, err := z.connect(0, 10*time.Second)
	if err != nil {
		return err
	}
	defer c.close()
	paths := []string{"/bench"}
	for i := range n {
		paths = append(paths, key(i))
	}
	for _, p := range paths {
		c.create(p, 0)
		if _, err := c.call(); err != nil && !strings.Contains(err.Error(), "-110") {
			return err
		}
	}
	return nil
}

func (z *zookeeper) idle(i int, timeout time.Duration) (idleSession, error) {
	return z.connect(i, timeout)
}

func (c *zkConn) ping() error {
	b := binary.BigEndian.AppendUint32(nil, 0xfffffffe)
	c.write(binary.BigEndian.AppendUint32(b, zkPing))
	return c.flush()
}
