package api

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/coord-kv/coord/internal/frame"
)

// Pings of many connections at once are answered, each with its own timeout, however many there are in a message.
func TestWebSocketPongs(t *testing.T) {
	f := newFixture(t)
	conns := make([]*binConn, 20)
	ttl := func(i int) time.Duration { return binTTL + time.Duration(i)*time.Second }
	for i := range conns {
		conns[i] = f.dialBin()
		conns[i].send(&frame.Hello{ID: 1, Open: &frame.Open{Secret: []byte(binSecret), TTL: ttl(i)}})
		next[*frame.Welcome](conns[i])
	}
	for id := uint64(2); id < 100; id += 20 {
		for i, c := range conns {
			var pings []frame.Frame
			for j := range i + 1 {
				pings = append(pings, &frame.Ping{ID: id + uint64(j)})
			}
			c.send(pings...)
		}
		for i, c := range conns {
			for j := range i + 1 {
				if p := next[*frame.Pong](c); p.ID != id+uint64(j) || p.TTL != ttl(i) {
					t.Errorf("connection %d got %+v for the ping %d", i, p, id+uint64(j))
				}
			}
		}
	}
}

// So are those of the JSON form, one in a message.
func TestWebSocketPongsJSON(t *testing.T) {
	f := newFixture(t)
	ws := f.dial(wsJSON)
	say := func(text string) {
		t.Helper()
		if err := ws.WriteMessage(websocket.TextMessage, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	hear := func() string {
		t.Helper()
		ws.SetReadDeadline(time.Now().Add(wsPatience))
		_, p, err := ws.ReadMessage()
		if err != nil {
			t.Fatal(err)
		}
		return string(p)
	}
	say(fmt.Sprintf(`{"op":"hello","id":1,"session":{"ttl":"%s"}}`, binTTL))
	if got := hear(); !strings.Contains(got, `"ok"`) {
		t.Fatal(got)
	}
	for id := 2; id < 20; id++ {
		say(fmt.Sprintf(`{"op":"ping","id":%d}`, id))
		if got, want := hear(), fmt.Sprintf(`{"id":%d,"ok":{"ttl":"2m0s"}}`, id); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// What doesn't fit into a socket whose client reads nothing is sent when it does, and nobody waits for that.
func TestWebSocketPongsToAFullSocket(t *testing.T) {
	f := newFixture(t)
	b := f.dialBin()
	b.open()
	c := f.onlySocket()
	socket := c.ws.NetConn().(*wsSocket)
	socket.Conn.(*gateConn).Conn.(*net.TCPConn).SetWriteBuffer(4 << 10)
	b.ws.NetConn().(*net.TCPConn).SetReadBuffer(4 << 10)
	var x wsPongs
	sent := uint64(0)
	pong := func() (full bool) {
		sent++
		c.mu.Lock()
		c.count++
		c.mu.Unlock()
		x.answer(&wsBeat{c: c, asked: []wsPing{{sent, c.s.uptime()}}, ttl: binTTL})
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.writing
	}
	for !pong() {
	}
	for range 10 {
		pong()
	}
	for id := range sent {
		if p := next[*frame.Pong](b); p.ID != id+1 || p.TTL != binTTL {
			t.Fatalf("got %+v, want %d of %d", p, id+1, sent)
		}
	}
}

// The second half of a message whose first half was sent already comes before anything else.
func TestWebSocketRest(t *testing.T) {
	f := newFixture(t)
	b := f.dialBin()
	b.open()
	c := f.onlySocket()
	message := frame.Append(make([]byte, shortHeader), &frame.Pong{ID: 7, TTL: binTTL})
	putShortHeader(message, websocket.BinaryMessage)
	if n := new(rawWrite).do(c.ws.NetConn().(*wsSocket).raw, message[:5]); n != 5 {
		t.Fatalf("%d bytes were sent", n)
	}
	c.mu.Lock()
	c.rest = message[5:]
	c.direct = append(c.direct, &frame.Pong{ID: 8, TTL: binTTL})
	c.signal()
	c.mu.Unlock()
	for id := uint64(7); id <= 8; id++ {
		if p := next[*frame.Pong](b); p.ID != id || p.TTL != binTTL {
			t.Errorf("got %+v, want %d", p, id)
		}
	}
}

// onlySocket returns the connection that is open.
func (f *fixture) onlySocket() *wsConn {
	f.t.Helper()
	all := f.s.sockets.due(forever, nil)
	if len(all) != 1 {
		f.t.Fatalf("%d connections are open", len(all))
	}
	return all[0]
}
