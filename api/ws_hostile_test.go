package api

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/coord-kv/coord/internal/frame"
	"github.com/coord-kv/coord/op"
)

// TestWebSocketHandshake: what doesn't become a connection, and why.
func TestWebSocketHandshake(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.AllowedOrigins = []string{"https://console.example.com"} })
	good := map[string]string{
		"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
		"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
	}
	try := func(change ...string) *response {
		lines := []string{"GET /v1/ws"}
		headers := map[string]string{}
		for k, v := range good {
			headers[k] = v
		}
		for i := 0; i < len(change); i += 2 {
			headers[change[i]] = change[i+1]
		}
		for k, v := range headers {
			if v != "" {
				lines = append(lines, k+": "+v)
			}
		}
		return f.handshake(strings.Join(lines, "\n") + "\n\n")
	}
	for _, c := range []struct {
		change []string
		want   int
	}{
		{nil, 101},
		{[]string{"Sec-WebSocket-Protocol", "coord.v1.bin"}, 101},
		{[]string{"Sec-WebSocket-Protocol", "graphql-ws, coord.v1.json"}, 101},
		{[]string{"Sec-WebSocket-Extensions", "permessage-deflate"}, 101},
		{[]string{"Origin", "http://localhost"}, 101},
		{[]string{"Origin", "https://console.example.com"}, 101},
		{[]string{"Origin", "https://evil.example"}, 403},
		{[]string{"Origin", "null"}, 403},
		{[]string{"Origin", "http://localhost", "Sec-Fetch-Site", "cross-site"}, 403},
		{[]string{"Origin", "http://evil.example", "Host", "evil.example"}, 421},
		{[]string{"Sec-WebSocket-Protocol", "graphql-ws"}, 501},
		{[]string{"Sec-WebSocket-Protocol", "coord.v1.json, coord.bearer.YW5uOmE"}, 101},
		{[]string{"Sec-WebSocket-Protocol", "coord.bearer.YW5uOmE"}, 101},
		{[]string{"Sec-WebSocket-Protocol", "graphql-ws, coord.bearer.YW5uOmE"}, 501},
		{[]string{"Sec-WebSocket-Protocol", "coord.v1.json, coord.bearer."}, 401},
		{[]string{"Sec-WebSocket-Protocol", "coord.v1.json, coord.bearer.YW5u"}, 401},
		{[]string{"Sec-WebSocket-Protocol", "coord.v1.json, coord.bearer.not-base64!"}, 401},
		{[]string{"Sec-WebSocket-Version", "12"}, 400},
		{[]string{"Sec-WebSocket-Version", ""}, 400},
		{[]string{"Sec-WebSocket-Key", ""}, 400},
		{[]string{"Sec-WebSocket-Key", "short"}, 400},
		{[]string{"Upgrade", ""}, 426},
		{[]string{"Connection", "keep-alive"}, 426},
	} {
		r := try(c.change...)
		if r.StatusCode != c.want {
			t.Errorf("%q: %s\n%s", c.change, r.Status, r.body)
		}
		if p := r.Header.Get("Sec-Websocket-Protocol"); strings.HasPrefix(p, "coord.bearer") {
			t.Errorf("%q: the credentials were chosen as the subprotocol", c.change)
		}
		if ext := r.Header.Get("Sec-Websocket-Extensions"); ext != "" {
			t.Errorf("%q: the extension %q was accepted", c.change, ext)
		}
	}
	if r := f.send("GET", "/v1/ws?x=1", ""); r.StatusCode != 400 {
		t.Errorf("a parameter: %s", r.Status)
	}
	if r := f.send("POST", "/v1/ws", ""); r.StatusCode != 405 {
		t.Errorf("POST: %s", r.Status)
	}
}

// handshake is exchange for a connection that may be taken over.
func (f *fixture) handshake(text string) *response {
	f.t.Helper()
	conn, err := net.Dial("tcp", f.addr)
	if err != nil {
		f.t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, onWire(text)); err != nil {
		f.t.Fatal(err)
	}
	resp, err := readResponse(conn)
	if err != nil {
		f.t.Fatal(err)
	}
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return &response{resp, nil}
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		f.t.Fatal(err)
	}
	return &response{resp, body}
}

func readResponse(conn net.Conn) (*http.Response, error) {
	return http.ReadResponse(bufio.NewReader(conn), nil)
}

// rawFrame is a frame of RFC 6455 as a client sends it, its mask being zero.
func rawFrame(first byte, payload []byte) []byte {
	b := []byte{first, 0x80}
	switch n := len(payload); {
	case n < 126:
		b[1] |= byte(n)
	case n < 1<<16:
		b[1] |= 126
		b = binary.BigEndian.AppendUint16(b, uint16(n))
	default:
		b[1] |= 127
		b = binary.BigEndian.AppendUint64(b, uint64(n))
	}
	return append(append(b, 0, 0, 0, 0), payload...)
}

// TestWebSocketHostileFrames: what no sound client sends ends its connection, with a code that says why, and harms nobody.
func TestWebSocketHostileFrames(t *testing.T) {
	f := newFixture(t)
	other := f.dialBin()
	other.plain()
	const text, bin, more, closing, ping = 0x81, 0x82, 0x80, 0x88, 0x89
	hello := string(rawFrame(text, []byte(`{"id":1,"op":"hello"}`)))
	helloBin := string(rawFrame(bin, frame.Append(nil, &frame.Hello{ID: 1})))
	code := func(n int) []byte { return binary.BigEndian.AppendUint16(nil, uint16(n)) }
	for name, c := range map[string]struct {
		protocol string
		bytes    string
		want     int
	}{
		"unmasked":                   {wsJSON, "\x81\x02{}", 1002},
		"reserved bits":              {wsJSON, string(rawFrame(text|0x70, []byte("{}"))), 1002},
		"unknown opcode":             {wsJSON, string(rawFrame(0x83, nil)), 1002},
		"fragmented ping":            {wsJSON, string(rawFrame(0x09, nil)), 1002},
		"ping of 126 bytes":          {wsJSON, string(rawFrame(ping, make([]byte, 126))), 1002},
		"continuation of nothing":    {wsJSON, string(rawFrame(more, []byte("x"))), 1002},
		"a length of 2^63":           {wsJSON, "\x81\xff\x80\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", 1002},
		"compressed":                 {wsJSON, string(rawFrame(0xc1, []byte("{}"))), 1002},
		"text that isn't UTF-8":      {wsJSON, string(rawFrame(text, []byte("\"\xff\""))), 4000},
		"empty":                      {wsJSON, string(rawFrame(text, nil)), 4000},
		"an array":                   {wsJSON, string(rawFrame(text, []byte("[]"))), 4000},
		"two objects":                {wsJSON, string(rawFrame(text, []byte("{}{}"))), 4000},
		"deep":                       {wsJSON, string(rawFrame(text, bytes.Repeat([]byte("["), 100_000))), 4000},
		"an id of text":              {wsJSON, hello + string(rawFrame(text, []byte(`{"id":"1","op":"ping"}`))), 4000},
		"an id of 2^64":              {wsJSON, hello + string(rawFrame(text, []byte(`{"id":18446744073709551616,"op":"ping"}`))), 4000},
		"binary where text is":       {wsJSON, string(rawFrame(bin, []byte("{}"))), 4000},
		"text where binary is":       {frame.Subprotocol, string(rawFrame(text, []byte("{}"))), 4000},
		"garbage":                    {frame.Subprotocol, string(rawFrame(bin, []byte("GET / HTTP/1.1"))), 4000},
		"a server's frame":           {frame.Subprotocol, helloBin + string(rawFrame(bin, frame.Append(nil, &frame.Pong{ID: 1}))), 4000},
		"ping before hello":          {frame.Subprotocol, string(rawFrame(bin, frame.Append(nil, &frame.Ping{ID: 1}))), 4000},
		"ping 0":                     {frame.Subprotocol, helloBin + string(rawFrame(bin, frame.Append(nil, &frame.Ping{}))), 4000},
		"two hellos":                 {frame.Subprotocol, helloBin + helloBin, 4000},
		"a hello without an id":      {frame.Subprotocol, string(rawFrame(bin, frame.Append(nil, &frame.Hello{}))), 4000},
		"a short secret":             {frame.Subprotocol, string(rawFrame(bin, frame.Append(nil, &frame.Hello{ID: 1, Open: &frame.Open{Secret: []byte("x")}}))), 4000},
		"a resumption without nonce": {frame.Subprotocol, string(rawFrame(bin, frame.Append(nil, &frame.Hello{ID: 1, Resume: &frame.Resume{Session: 1, Secret: []byte(binSecret)}}))), 4000},
		"a session that never was":   {frame.Subprotocol, string(rawFrame(bin, frame.Append(nil, &frame.Hello{ID: 1, Resume: &frame.Resume{Session: 1, Secret: []byte(binSecret), Nonce: 1}}))), 4001},
		"close with code 0":          {wsJSON, string(rawFrame(closing, code(0))), 1002},
		"close with code 1005":       {wsJSON, string(rawFrame(closing, code(1005))), 1002},
		"close with code 5000":       {wsJSON, string(rawFrame(closing, code(5000))), 1002},
		"close with half a code":     {wsJSON, string(rawFrame(closing, []byte{3})), 1005}, // gorilla takes it for none
		"close":                      {wsJSON, string(rawFrame(closing, code(1000))), 1000},
	} {
		t.Run(name, func(t *testing.T) {
			conn := f.dial(c.protocol)
			if _, err := conn.NetConn().Write([]byte(c.bytes)); err != nil {
				t.Fatal(err)
			}
			conn.SetReadDeadline(time.Now().Add(wsPatience))
			for {
				_, _, err := conn.ReadMessage()
				if err == nil {
					continue
				}
				if e, ok := err.(*websocket.CloseError); !ok || e.Code != c.want {
					t.Errorf("got %v, want %d", err, c.want)
				}
				return
			}
		})
	}
	other.send(&frame.Ping{ID: 2})
	if p := next[*frame.Pong](other); p.ID != 2 {
		t.Errorf("somebody else got %+v", p)
	}
	f.idle(1)
}

// idle waits until no more than that many connections are left, which hold nothing.
func (f *fixture) idle(conns int) {
	f.t.Helper()
	for end := time.Now().Add(wsPatience); ; time.Sleep(time.Millisecond) {
		f.s.sockets.mu.Lock()
		n := f.s.sockets.open.len
		f.s.sockets.mu.Unlock()
		if n <= conns && f.s.bodies.Load() == 0 {
			return
		}
		if time.Now().After(end) {
			f.t.Fatalf("%d connections and %d bytes are left", n, f.s.bodies.Load())
		}
	}
}

// Messages that are too large, whole or in endless fragments, are given up when they exceed the limit; what was only
// announced takes nothing.
func TestWebSocketOversized(t *testing.T) {
	f := newFixture(t)
	limit := int(op.DefaultLimits().RequestBytes) + 64<<10
	whole := f.dialBin()
	whole.plain()
	go whole.ws.NetConn().Write(rawFrame(0x82, make([]byte, limit+1)))
	if e := next[*frame.Failed](whole); e.Err.Code != op.TooLarge || e.Err.Limit != int64(limit) {
		t.Errorf("got %v", e.Err)
	}
	if code := whole.closed(); code != websocket.CloseMessageTooBig {
		t.Errorf("closed with %d", code)
	}

	endless := f.dialBin()
	endless.plain()
	go func() {
		part := rawFrame(0x02, make([]byte, 32<<10))
		for {
			if _, err := endless.ws.NetConn().Write(part); err != nil {
				return
			}
			part[0] = 0
		}
	}()
	if e := next[*frame.Failed](endless); e.Err.Code != op.TooLarge {
		t.Errorf("got %v", e.Err)
	}

	f.idle(1)
	announced := f.dialBin()
	announced.plain()
	announced.ws.NetConn().Write(rawFrame(0x82, make([]byte, limit))[:100])
	for range 100 {
		if n := f.s.bodies.Load(); n > 100 {
			t.Fatalf("%d bytes are held of a message of which 100 came", n)
		}
		runtime.Gosched()
	}
}

// What all connections together hold of messages is bounded; whoever would go beyond is told to come back later.
func TestWebSocketMemoryOfAll(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.Limits.BodyBytes = 1 << 20 })
	hog := f.dialBin()
	hog.plain()
	if _, err := hog.ws.NetConn().Write(rawFrame(0x82, make([]byte, 2<<20))[:1<<20-1<<10]); err != nil {
		t.Fatal(err)
	}
	for f.s.bodies.Load() < 1<<20-2<<10 {
		runtime.Gosched()
	}
	small := f.dialBin()
	small.plain() // small messages pass all the same
	small.send(&frame.Write{ID: 2, Op: put("/a", strings.Repeat("x", 100_000))})
	if e := next[*frame.Failed](small); e.Err.Code != op.Overloaded {
		t.Errorf("got %v", e.Err)
	}
	if code := small.closed(); code != websocket.CloseTryAgainLater {
		t.Errorf("closed with %d", code)
	}
	hog.ws.Close()
	f.idle(0)
}

// More watches than a connection may have are refused one by one, and cost nothing; the connection works on.
func TestWebSocketManySubscriptions(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.Limits.ConnWatches = 1000; c.Limits.Subscriptions = 1500 })
	subscribe := func(b *binConn, n int) (standing int) {
		b.plain()
		go func() {
			for i := 0; i < n; {
				var frames []frame.Frame
				for ; len(frames) < 1000 && i < n; i++ {
					frames = append(frames, &frame.Watch{ID: uint64(2 + i), Path: fmt.Sprintf("/w/%d", i)})
				}
				b.send(frames...)
			}
		}()
		for range n {
			x, err := b.read()
			if err != nil {
				t.Fatal(err)
			}
			switch x := x.(type) {
			case *frame.Watching:
				standing++
			case *frame.Failed:
				if x.Err.Code != op.Overloaded {
					t.Fatal(x.Err)
				}
			}
		}
		return standing
	}
	a, b := f.dialBin(), f.dialBin()
	if n := subscribe(a, 100_000); n != 1000 {
		t.Errorf("%d watches stand", n)
	}
	if n := subscribe(b, 1000); n != 500 {
		t.Errorf("%d watches stand on the other connection", n)
	}
	a.send(&frame.Unwatch{ID: 200_000, Watch: 2}, &frame.Watch{ID: 200_001, Path: "/w/0"})
	next[*frame.Reply](a)
	next[*frame.Watching](a)
	f.m.Do(t.Context(), &op.Request{Op: put("/w/0", "x")})
	if e := next[*frame.Events](a); e.Watch != 200_001 {
		t.Errorf("got %+v", e)
	}
	a.ws.Close()
	b.ws.Close()
	f.idle(0)
	for end := time.Now().Add(wsPatience); f.s.subscriptions.Load() != 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d watches are left", f.s.subscriptions.Load())
		}
	}
}

// An unwatch takes effect in its place in the pipeline: it ends a watch that has not been answered yet, and the number is
// free for what comes behind it.
func TestWebSocketUnwatchInThePipeline(t *testing.T) {
	f := newFixture(t)
	b := f.dialBin()
	b.plain()
	f.m.tell(func() { f.m.lagging = true })
	f.m.Do(t.Context(), &op.Request{Op: put("/a", "1")})
	late := op.ReadOptions{Level: op.Linearizable} // which is not to be had for now
	b.send(&frame.Watch{ID: 2, Path: "/a", Options: late}, &frame.Unwatch{ID: 3, Watch: 2}, &frame.Unwatch{ID: 4, Watch: 2},
		&frame.Watch{ID: 2, Path: "/b", Options: op.ReadOptions{Level: op.Eventual}})
	if e := next[*frame.Failed](b); e.ID != 2 || e.Err.Code != op.BadRequest {
		t.Errorf("the watch: %+v", e)
	}
	if r := next[*frame.Reply](b); r.ID != 3 || r.Result.Err != nil {
		t.Errorf("its unwatch: %+v", r)
	}
	if r := next[*frame.Reply](b); r.ID != 4 || r.Result.Err == nil {
		t.Errorf("another one: %+v", r)
	}
	next[*frame.Watching](b)
	f.m.tell(func() { f.m.lagging = false })
	f.m.Do(t.Context(), &op.Request{Op: put("/b", "1")})
	if e := next[*frame.Events](b); e.Watch != 2 || e.Events[0].Path != "/b" {
		t.Errorf("got %+v", e)
	}
	b.ws.Close()
	f.idle(0)
	if n := f.s.subscriptions.Load(); n != 0 {
		t.Errorf("%d watches are left", n)
	}
}

// A client that says no more, and still listens, is not answered any further: what it would have said to keep its session
// alive can't come. Its connection ends at once, and its session lives on.
func TestWebSocketHalfClose(t *testing.T) {
	f := newFixture(t)
	b := f.dialBin()
	w := b.open()
	b.send(&frame.Write{ID: 2, Seq: 1, Op: put("/a", "1")}, &frame.Watch{ID: 3, Path: "/a"})
	b.ws.NetConn().(*net.TCPConn).CloseWrite()
	for {
		if _, err := b.read(); err != nil {
			break
		}
	}
	f.idle(0)
	if r := f.must("GET", "/v1/nodes/a?raw", ""); string(r.body) != "1" {
		t.Errorf("what it had asked for: %s", r.body)
	}
	f.must("GET", "/v1/sessions/"+w.Session.String(), "")
}

// A flood of the protocol's own pings is answered by the last one at the least, and holds up nobody.
func TestWebSocketPingFlood(t *testing.T) {
	f := newFixture(t)
	b := f.dialBin()
	b.plain()
	pongs, last := 0, ""
	b.ws.SetPongHandler(func(data string) error { pongs++; last = data; return nil })
	go func() {
		for i := range 20_000 {
			b.ws.NetConn().Write(rawFrame(0x89, fmt.Appendf(nil, "%d", i)))
		}
		b.ws.NetConn().Write(rawFrame(0x82, frame.Append(nil, &frame.Ping{ID: 5})))
	}()
	if p := next[*frame.Pong](b); p.ID != 5 {
		t.Errorf("got %+v", p)
	}
	b.ws.NetConn().Write(rawFrame(0x82, frame.Append(nil, &frame.Ping{ID: 6})))
	next[*frame.Pong](b) // the pong of the protocol has come at the latest with the one before
	b.ws.NetConn().Write(rawFrame(0x82, frame.Append(nil, &frame.Ping{ID: 7})))
	next[*frame.Pong](b)
	if pongs == 0 || last != "19999" {
		t.Errorf("%d pongs, the last one %q", pongs, last)
	}
}

// A client that sends and never reads is slowed down by its own socket, not buffered for.
func TestWebSocketSendsAndNeverReads(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.Limits.WriteTimeout = 300 * time.Millisecond })
	f.must("PUT", "/v1/nodes/big", strings.Repeat("x", 1<<20))
	b := f.dialBin()
	b.plain()
	var reads []frame.Frame
	for i := range 10_000 {
		reads = append(reads, &frame.Read{ID: uint64(2 + i), Options: op.ReadOptions{Level: op.Eventual}, Op: &op.Get{Path: "/big"}})
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	b.send(reads...)
	f.idle(0)
	runtime.ReadMemStats(&after)
	if n := int64(after.TotalAlloc - before.TotalAlloc); n > 64<<20 {
		t.Errorf("%d bytes were allocated for somebody who reads nothing", n)
	}
}

// FuzzWebSocketJSON: nothing that is sent makes the door panic, and what is taken for a request can be written down.
func FuzzWebSocketJSON(f *testing.F) {
	for _, s := range []string{
		`{"id":1,"op":"hello","session":{"ttl":"10s","metadata":"m"}}`,
		`{"id":1,"op":"hello","session":{"resume":"s-1","secret":"AAAAAAAAAAAAAAAAAAAAAA"}}`,
		`{"id":2,"op":"txn","checks":[{"path":"/a","absent":true}],"ops":[{"op":"set","path":"/a","data":"x"}],"else":[]}`,
		`{"id":3,"op":"watch","path":"/a","types":["created"],"since":"7","data":false,"children":true}`,
		`{"id":4,"op":"create","path":"/a","kind":"ttl","ttl":"1s","acl":[{"scheme":"world","id":"anyone","perms":"r"}],"seq":3,"ack":1}`,
		`{"id":5,"op":"list","path":"/","consistency":"bounded; max=1s","min_zxid":"3"}`, `{"id":6,"op":"unwatch","watch":3}`,
		`{"id":7,"op":"lock","name":"a","wait":"0s","owner":"o","metadata":"m","at_least":"1s","delay":"1s"}`,
		`{"id":7,"op":"lock","name":"/a/b","shared":false}`, `{"id":7,"op":"lock","name":"a","limit":3}`,
		`{"id":8,"op":"unlock","name":"a","token":"42"}`, `{"id":9,"op":"resign","name":"a","term":"42"}`,
		`{"id":9,"op":"campaign","name":"a","candidate":"c","value":"v","priority":-1,"wait":"1m"}`,
		`{"id":10,"op":"register","service":"s","instance":"i","address":"h","port":1,"tags":["t"],"meta":{"k":"v"},"status":"passing"}`,
		`{"id":11,"op":"deregister","service":"s","instance":"i"}`, `{"id":12,"op":"hello","nonce":7,"credentials":"a:b"}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, message []byte) {
		codec, in := new(jsonCodec), &wsInput{message: message}
		for {
			x, err := codec.next(in)
			if err == io.EOF {
				return
			}
			if err != nil {
				if refused, ok := err.(*wsRefused); ok {
					err = refused.err
				}
				if p := newProblem(err, false); p.Code == op.Internal.String() {
					t.Fatalf("%v is nobody's fault", err)
				}
				return
			}
			f, isFrame := x.(frame.Frame)
			if !isFrame {
				continue
			}
			if got, err := frame.FromClient(frame.Append(nil, f)).Next(); err != nil {
				t.Fatalf("%+v can't be written down: %v", got, err)
			}
		}
	})
}

// What is wrong with a message is told shortly, however much that is, and costs no more than the message.
func TestWebSocketManyFaults(t *testing.T) {
	repeat := func(n int, item func(i int) string) string {
		items := make([]string, n)
		for i := range items {
			items[i] = item(i)
		}
		return strings.Join(items, ",")
	}
	field := func(i int) string { return fmt.Sprintf(`"x%d":0`, i) }
	empty := func(int) string { return "{}" }
	for name, message := range map[string]string{
		"fields":       `{"id":2,"op":"ping",` + repeat(50_000, field) + `}`,
		"more fields":  `{"id":2,"op":"ping",` + repeat(maxFields+1, field) + `}`,
		"operations":   `{"id":2,"op":"txn","ops":[` + repeat(5000, empty) + `]}`,
		"more of them": `{"id":2,"op":"txn","ops":[` + repeat(maxElements+1, empty) + `]}`,
		"tags":         `{"id":2,"op":"register","tags":[` + repeat(5000, empty) + `]}`,
		"meta":         `{"id":2,"op":"register","meta":{` + repeat(50_000, field) + `}}`,
		"types":        `{"id":2,"op":"watch","path":"/","types":[` + repeat(50_000, empty) + `]}`,
	} {
		f, err := new(jsonCodec).next(&wsInput{message: []byte(message)})
		if err == nil {
			t.Errorf("%s: taken for %+v", name, f)
			continue
		}
		if refused, ok := err.(*wsRefused); ok {
			err = refused.err
		}
		if said := (&jsonCodec{}).appendFailed(nil, 2, err); len(said) > 8<<10 {
			t.Errorf("%s: told in %d bytes", name, len(said))
		}
	}
}
