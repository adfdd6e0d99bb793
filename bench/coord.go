package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/gorilla/websocket"

	"github.com/coord-kv/coord/internal/frame"
	"github.com/coord-kv/coord/op"
)

// service is coord, driven frame by frame.
type service struct{ addr string }

func (s *service) name() string { return "coord" }

type coordConn struct {
	ws      *websocket.Conn
	out     []byte
	message bytes.Buffer   // received last
	in      *frame.Decoder // of it
	ahead   frame.Frame    // decoded and not yet taken
	id, seq uint64
	// Answers to writes come in the order of their numbers. Of a workload that reads only, reads are counted, which does no
	// harm.
	answered uint64
	value    []byte
	self     int
	reply    *frame.Reply
}

func (s *service) dial(i int) (conn, error) { return s.connect(i, 10*time.Second) }

func (s *service) connect(i int, ttl time.Duration) (*coordConn, error) {
	// A member bounds the connections of one address, so these come from several.
	net := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(1+i/1000))}}
	d := websocket.Dialer{
		Subprotocols: []string{"coord.v1.bin"}, ReadBufferSize: 4096, WriteBufferSize: 4096, NetDialContext: net.DialContext,
	}
	ws, _, err := d.DialContext(context.Background(), "ws://"+s.addr+"/v1/ws", nil)
	if err != nil {
		return nil, err
	}
	secret := make([]byte, 16)
	rand.Read(secret)
	c := &coordConn{ws: ws, value: make([]byte, 100), self: i}
	c.id++
	c.put(&frame.Hello{ID: c.id, Client: "bench", Open: &frame.Open{Secret: secret, TTL: ttl}})
	if err := c.flush(); err != nil {
		return nil, err
	}
	f, err := c.next()
	if err != nil {
		return nil, err
	}
	w, ok := f.(*frame.Welcome)
	if !ok {
		return nil, fmt.Errorf("coord answered a hello with %T %+v", f, f)
	}
	c.seq = w.NextSeq - 1
	return c, nil
}

func (c *coordConn) put(f frame.Frame) { c.out = frame.Append(c.out, f) }

func (c *coordConn) flush() error {
	if len(c.out) == 0 {
		return nil
	}
	err := c.ws.WriteMessage(websocket.BinaryMessage, c.out)
	c.out = c.out[:0]
	if err != nil {
		if f, last := c.next(); last == nil {
			return fmt.Errorf("%w, after %+v", err, f)
		}
	}
	return err
}

// next returns the next frame.
func (c *coordConn) next() (frame.Frame, error) {
	for {
		if f := c.ahead; f != nil {
			c.ahead = nil
			return f, nil
		}
		if c.in != nil {
			if f, err := c.in.Next(); err != io.EOF {
				return f, err
			}
		}
		if err := c.receiveMessage(); err != nil {
			return nil, err
		}
	}
}

// receiveMessage reads the next message into the buffer of the one before. Of what was decoded from that only bytes are lost;
// strings are copies.
func (c *coordConn) receiveMessage() error {
	_, r, err := c.ws.NextReader()
	if err != nil {
		return err
	}
	c.message.Reset()
	_, err = c.message.ReadFrom(r)
	c.in = frame.FromServer(c.message.Bytes())
	return err
}

// waiting decodes the next frame of the message, if there is one.
func (c *coordConn) waiting() bool {
	if c.ahead == nil && c.in != nil {
		c.ahead, _ = c.in.Next()
	}
	return c.ahead != nil
}

func (c *coordConn) write(o op.Op) {
	c.id++
	c.seq++
	c.put(&frame.Write{ID: c.id, Seq: c.seq, Ack: c.answered + 1, Op: o})
}

func (c *coordConn) read(o op.Op, level op.Level) {
	c.id++
	c.put(&frame.Read{ID: c.id, Options: op.ReadOptions{Level: level}, Op: o})
}

func (c *coordConn) send(o operation, i int) error {
	switch o {
	case opCreate:
		c.write(&op.Create{Path: fmt.Sprintf("/bench/%d-%d", time.Now().UnixNano(), i), Data: c.value})
	case opSet:
		c.write(&op.Set{Path: key(i), Data: c.value, If: op.Always})
	case opGet:
		c.read(&op.Get{Path: key(i)}, op.Eventual)
	case opGetFresh:
		c.read(&op.Get{Path: key(i)}, op.Linearizable)
	}
	return nil
}

func (c *coordConn) close() { c.ws.Close() }

func (c *coordConn) receive() error {
	for {
		f, err := c.next()
		if err != nil {
			return err
		}
		switch x := f.(type) {
		case *frame.Reply:
			if x.Result.Err != nil {
				return fmt.Errorf("%w", x.Result.Err)
			}
			if c.reply = x; x.Result.Rank == nil {
				c.answered++
			}
			return nil
		case *frame.Failed:
			return x.Err
		case *frame.Pong:
			return nil
		}
	}
}

func (c *coordConn) call() (*op.Result, error) {
	if err := c.flush(); err != nil {
		return nil, err
	}
	if err := c.receive(); err != nil {
		return nil, err
	}
	return c.reply.Result, nil
}

// lock creates the contender and learns its rank in one transaction.
func (c *coordConn) lock() error {
	dir := fmt.Sprintf("/bench/lock%d", c.self)
	c.write(&op.Txn{Then: []op.Op{
		&op.Create{Path: dir + "/x-lock-", Data: c.value, Kind: op.Ephemeral, Sequence: true, Parents: true},
		&op.Rank{Of: 1},
	}})
	res, err := c.call()
	if err != nil {
		return err
	}
	if res.Results[1].Rank.Position != 0 {
		return fmt.Errorf("a lock of one has somebody else first")
	}
	mine := res.Results[0]
	c.write(&op.Delete{Path: mine.Path, If: op.Cond{Version: op.AnyVersion, Mzxid: mine.Stat.Mzxid}})
	_, err = c.call()
	return err
}

func (s *service) prepare(n int) error {
	c, err := s.connect(0, 10*time.Second)
	if err != nil {
		return err
	}
	defer c.close()
	for i := range n {
		c.write(&op.Create{Path: key(i), Parents: true, Replace: true})
		if _, err := c.call(); err != nil {
			return err
		}
	}
	return nil
}

func (s *service) idle(i int, ttl time.Duration) (idleSession, error) { return s.connect(i, ttl) }

func (c *coordConn) ping() error {
	c.id++
	c.put(&frame.Ping{ID: c.id})
	return c.flush()
}
