package peer

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestThreeMembersOverTCP(t *testing.T) {
	leakCheck(t)
	tcp := newLoopback()
	// All must listen before any dials, so that the addresses are known.
	nodes := map[uint64]*node{}
	for id := range uint64(3) {
		tcp.Listen(t, addrOf(id+1)).Close()
	}
	for _, id := range []uint64{1, 2, 3} {
		others := slices.DeleteFunc([]uint64{1, 2, 3}, func(o uint64) bool { return o == id })
		nodes[id] = start(t, tcp, id, 1, others...)
	}
	for _, a := range nodes {
		for _, b := range nodes {
			if a != b {
				awaitUp(t, a, b)
			}
		}
	}
	for from, a := range nodes {
		for to := range nodes {
			for i := range 100 {
				if to != from && !a.Send(to, Bulk, 1, bytes.Repeat([]byte{byte(from)}, 1000*i)) {
					t.Fatal("dropped")
				}
			}
		}
	}
	for id, n := range nodes {
		next := map[byte]int{}
		for _, f := range n.awaitFrames(t, 200) {
			if len(f.Payload) > 0 {
				next[f.Payload[0]] += len(f.Payload)
			}
		}
		for from, sum := range next {
			if sum != 1000*99*100/2 || uint64(from) == id {
				t.Errorf("member %d got %d bytes of member %d", id, sum, from)
			}
		}
	}
	nodes[3].stop() // which is noticed by the end of its connections, long before it has been silent for too long
	nodes[1].awaitEvent(t, "down 3", 1)
	nodes[2].awaitEvent(t, "down 3", 1)
	start(t, tcp, 3, 2, 1, 2)
	nodes[1].awaitEvent(t, "up 3 boot 2", 1)
}

// hostile is a member that strangers talk to.
type hostile struct {
	*node
	addr string
}

func startHostile(t *testing.T, change func(*Config)) *hostile {
	t.Helper()
	leakCheck(t)
	tcp := newLoopback()
	cfg := config(1, 7, 2)
	cfg.MaxFrame = 1 << 20
	if change != nil {
		change(&cfg)
	}
	n := startWith(t, tcp, cfg)
	return &hostile{node: n, addr: tcp.ports[addrOf(1)]}
}

// say writes to the port and returns everything that comes back until the member closes the connection.
func (h *hostile) say(t *testing.T, words []byte, thenClose bool) []byte {
	t.Helper()
	conn, err := net.Dial("tcp", h.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(slowest)); err != nil {
		t.Fatal(err)
	}
	_, _ = conn.Write(words) // the member may close before it has read all of it
	if thenClose {
		_ = conn.(*net.TCPConn).CloseWrite()
	}
	answer, err := io.ReadAll(conn)
	if ne, ok := err.(net.Error); ok && ne.Timeout() {
		t.Fatalf("the connection stayed open after %q", clip(string(words)))
	}
	return answer
}

func greet(change func(*greeting)) []byte {
	g := greeting{role: roleBulk, from: Identity{Cluster: testCluster, Member: 2, Boot: 3, Name: "n2"}, to: 1}
	change(&g)
	return opening{version: protocolVersion, kind: openGreeting, body: g.encode()}.encode()
}

func meeting(in Introduction) []byte {
	return opening{version: protocolVersion, kind: openMeet, body: in.encode()}.encode()
}

var confirm = opening{version: protocolVersion, kind: openConfirm}.encode()

// Whatever a stranger says, it gets a reason in words if it spoke the protocol at all, and changes nothing for others.
func TestStrangersAreRefused(t *testing.T) {
	h, hurried := startHostile(t, nil), startHostile(t, hurry)
	h.recorder.onMeet = func(Introduction) Introduction { return Introduction{} }
	valid := greet(func(*greeting) {})
	for name, row := range map[string]struct {
		words []byte
		want  string // in the refusal; "" if there is none
	}{
		"HTTP":                    {[]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), ""},
		"TLS":                     {[]byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + strings.Repeat("x", 500)), ""},
		"zeros":                   {make([]byte, 10_000), ""},
		"ones":                    {bytes.Repeat([]byte{0xFF}, 10_000), ""},
		"ruok":                    {[]byte("ruok"), ""},
		"another version":         {opening{version: 2, kind: openGreeting, body: valid[openingHeader:]}.encode(), "version 1"},
		"a welcome":               {opening{version: 1, kind: openWelcome, body: valid[openingHeader:]}.encode(), "expects a greeting"},
		"a confirmation":          {confirm, "expects a greeting"},
		"a refusal":               {opening{version: 1, kind: openRefusal, body: []byte("no")}.encode(), "expects a greeting"},
		"a wrong checksum":        {append(bytes.Clone(valid[:len(valid)-1]), 'x'), ""},
		"an empty greeting":       {opening{version: 1, kind: openGreeting}.encode(), "malformed greeting"},
		"a longer greeting":       {opening{version: 1, kind: openGreeting, body: append(bytes.Clone(valid[openingHeader:]), 0)}.encode(), "too many"},
		"64 KiB of greeting":      {opening{version: 1, kind: openGreeting, body: make([]byte, 1<<16-1)}.encode(), "many"},
		"a promise of a greeting": {[]byte(magic + "\x01\x01\xff\xff\x00\x00\x00\x00"), ""},
		"no role":                 {greet(func(g *greeting) { g.role = 0 }), "purpose"},
		"an unknown role":         {greet(func(g *greeting) { g.role = 77 }), "purpose"},
		"no cluster":              {greet(func(g *greeting) { g.from.Cluster = 0 }), "without a cluster"},
		"no member":               {greet(func(g *greeting) { g.from.Member = 0 }), "without a cluster"},
		"no boot number":          {greet(func(g *greeting) { g.from.Boot = 0 }), "without a cluster"},
		"nobody":                  {greet(func(g *greeting) { g.to = 0 }), "without a cluster"},
		"another cluster":         {greet(func(g *greeting) { g.from.Cluster = 0xBAD }), `this is member 1 ("n1") of cluster c1; you asked for member 1 of cluster bad`},
		"another member":          {greet(func(g *greeting) { g.to = 9 }), "you asked for member 9 of cluster c1"},
		"from an unknown":         {greet(func(g *greeting) { g.from.Member = 9 }), `knows no member 9 ("n2")`},
		"from this one":           {greet(func(g *greeting) { g.from.Member = 1 }), "knows no member 1"},
		"not confirmed":           {append(bytes.Clone(valid), valid...), ""},
		"refused by the dialler":  {append(bytes.Clone(valid), opening{version: 1, kind: openRefusal, body: []byte("no")}.encode()...), ""},
		"snapshot, not confirmed": {greet(func(g *greeting) { g.role = roleSnapshot }), ""},
		"introduction cut short":  {opening{version: 1, kind: openMeet, body: startedIntroduction().encode()[:30]}.encode(), "malformed introduction"},
		"introduction of no one":  {meeting(Introduction{}), "introduction without"},
		"introduction, no answer": {meeting(freshIntroduction()), "can't introduce itself"},
	} {
		from := h
		if row.want == "" {
			from = hurried // some of these may be the beginning of something
		}
		answer := from.say(t, row.words, false)
		o, err := readOpening(bytes.NewReader(answer))
		if err == nil && o.kind == openWelcome {
			o, err = opening{}, io.EOF
		}
		switch {
		case row.want == "" && err == nil:
			t.Errorf("%s: answered %q", name, o.body)
		case row.want != "" && (err != nil || o.kind != openRefusal || !strings.Contains(string(o.body), row.want)):
			t.Errorf("%s: answered %q, %v", name, answer, err)
		}
	}
	refused := uint64(0)
	for _, h := range []*hostile{h, hurried} {
		if events := h.history(); len(events) > 0 || len(h.received()) > 0 {
			t.Errorf("a stranger was heard: %q", events)
		}
		s := h.Stats()
		if refused += uint64(s.Refused); s.Pending != 0 || s.Peers[0].Up {
			t.Errorf("%+v", s)
		}
	}
	if refused < 29 {
		t.Errorf("%d were refused", refused)
	}
}

// A member that says something wrong after its handshake loses its stream, and only that.
func TestWrongFramesEndTheStream(t *testing.T) {
	h := startHostile(t, nil)
	handshake := append(greet(func(*greeting) {}), confirm...)
	good := encodeFrame(t, 5, []byte("good"))
	wrong := bytes.Clone(good)
	wrong[len(wrong)-1]++
	for i, words := range [][]byte{
		binary.BigEndian.AppendUint32(nil, 1<<20+1),
		{0xFF, 0xFF, 0xFF, 0xFF, 1, 0, 0, 0, 0},
		wrong,
		encodeFrame(t, kindPing, []byte("short")),
		encodeFrame(t, kindPong, make([]byte, 8)),
		encodeFrame(t, kindChunk, make([]byte, 80)),
		encodeFrame(t, 0xFF),
		handshake,
		[]byte("GET / HTTP/1.1\r\n\r\n"),
	} {
		h.say(t, slices.Concat(handshake, good, words, good), true)
		h.awaitEvent(t, "down 2", i+1)
		if n := len(h.received()); n != i+1 {
			t.Fatalf("row %d: %d frames were received, %d of them before something wrong", i, n, i+1)
		}
	}
}

// session is what a well-behaved member writes, from its greeting to its end, and how many frames are complete after each byte.
func session(t *testing.T) (words []byte, complete func(n int) int) {
	words = append(greet(func(*greeting) {}), confirm...)
	var ends []int
	for i := range 5 {
		if i == 2 {
			words = append(words, encodeFrame(t, kindPing, make([]byte, 8))...)
		}
		words = append(words, encodeFrame(t, uint8(i), bytes.Repeat([]byte{byte(i)}, 10*i))...)
		ends = append(ends, len(words))
	}
	return words, func(n int) int {
		i, _ := slices.BinarySearch(ends, n+1)
		return i
	}
}

func checkPrefix(t *testing.T, what string, frames []Frame) {
	t.Helper()
	for i, f := range frames {
		if f.Kind != uint8(i) || !bytes.Equal(f.Payload, bytes.Repeat([]byte{byte(i)}, 10*i)) {
			t.Errorf("%s: frame %d is of kind %d: % x", what, i, f.Kind, f.Payload)
		}
	}
}

func (h *hostile) forget() (frames []Frame, events []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	frames, events = h.frames, h.events
	h.frames, h.events = nil, nil
	return frames, events
}

func TestSessionCutAtEveryByte(t *testing.T) {
	h := startHostile(t, nil)
	words, complete := session(t)
	handshake := len(greet(func(*greeting) {})) + len(confirm)
	for n := range len(words) + 1 {
		h.say(t, words[:n], true)
		what := fmt.Sprintf("cut after %d bytes", n)
		if n >= handshake {
			h.awaitEvent(t, "down 2", 1)
		}
		frames, events := h.forget()
		checkPrefix(t, what, frames)
		if len(frames) != complete(n) {
			t.Errorf("%s: %d frames", what, len(frames))
		}
		if n < handshake && len(events) > 0 || n >= handshake && len(events) != 3 {
			t.Errorf("%s: %q", what, events)
		}
	}
}

func TestSessionDamagedAtEveryByte(t *testing.T) {
	h := startHostile(t, nil)
	words, complete := session(t)
	for n := range words {
		damaged := bytes.Clone(words)
		damaged[n] ^= 0x10
		h.say(t, damaged, true)
		h.await(t, "the end of the stream", func() bool { return count(h.events, "up 2 boot 3") == count(h.events, "down 2") })
		frames, _ := h.forget()
		checkPrefix(t, fmt.Sprintf("byte %d damaged", n), frames)
		if len(frames) > complete(n) {
			t.Errorf("byte %d damaged: %d frames got through", n, len(frames))
		}
	}
}

// hurry has a handshake be over soon.
func hurry(c *Config) { c.HandshakeTimeout = 200 * time.Millisecond }

// A byte at a time doesn't keep a connection: the time is that of the whole handshake.
func TestSlowHandshakeIsCutOff(t *testing.T) {
	h := startHostile(t, hurry)
	conn, err := net.Dial("tcp", h.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	trickle := time.NewTicker(50 * time.Millisecond)
	defer trickle.Stop()
	for _, b := range greet(func(g *greeting) { g.from.Name = strings.Repeat("n", 200) }) {
		<-trickle.C
		if _, err := conn.Write([]byte{b}); err != nil {
			return
		}
	}
	t.Error("a greeting of more than ten seconds was taken")
}

// Connections that say nothing can't keep members out.
func TestFullLobbyLetsMembersIn(t *testing.T) {
	h := startHostile(t, func(c *Config) {
		c.MaxPending = 10
	})
	var silent []net.Conn
	for range 30 {
		conn, err := net.Dial("tcp", h.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		silent = append(silent, conn)
	}
	words, complete := session(t)
	h.say(t, words, true)
	if n := len(h.awaitFrames(t, 1)); n > complete(len(words)) {
		t.Errorf("%d frames", n)
	}
	if n := h.Stats().Pending; n > 10 {
		t.Errorf("%d connections are pending", n)
	}
	if _, err := silent[0].Read(make([]byte, 1)); err == nil {
		t.Error("the oldest is still welcome")
	}
}

// Lengths and sizes that a stranger, or a member gone mad, only promises must cost nothing.
func TestPromisesCostNoMemory(t *testing.T) {
	h := startHostile(t, func(c *Config) { c.MaxFrame = 32<<20 - 64; c.SilenceTimeout = 3 * time.Second })
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	promise := slices.Concat(greet(func(*greeting) {}), confirm, binary.BigEndian.AppendUint32(nil, 32<<20-64), make([]byte, 5+100))
	for range 20 {
		h.say(t, promise, true)
	}
	runtime.ReadMemStats(&after)
	if grew := after.TotalAlloc - before.TotalAlloc; grew > 40<<20 {
		t.Errorf("%d promises of 32 MiB made %d MiB be allocated", 20, grew>>20)
	}
}

func TestServeEndsWithItsListenerOrContext(t *testing.T) {
	leakCheck(t)
	n, err := New(patient(config(1, 1, 2)))
	if err != nil {
		t.Fatal(err)
	}
	ln := newLoopback().Listen(t, addrOf(1))
	ln.Close()
	if err := n.Serve(t.Context(), ln); err == nil {
		t.Error("served on a closed listener")
	}
	ctx, cancel := context.WithCancel(t.Context())
	var serving sync.WaitGroup
	ln = newLoopback().Listen(t, addrOf(1))
	serving.Go(func() { check(t, n.Serve(ctx, ln)) })
	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write(append(greet(func(*greeting) {}), confirm...)); err != nil {
		t.Fatal(err)
	}
	rec := n.cfg.Handler.(*recorder)
	rec.awaitEvent(t, "up 2 boot 3", 1)
	cancel()
	serving.Wait()
	if events := rec.history(); events[len(events)-1] != "down 2" {
		t.Errorf("Serve returned before its streams had ended: %q", events)
	}
	_, _ = readOpening(conn)
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("the connection is still open")
	}
}
