package api

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"

	"github.com/coord-kv/coord/internal/frame"
	"github.com/coord-kv/coord/op"
	"github.com/coord-kv/coord/watch"
)

func sequence(path string) op.Op { return &op.Create{Path: path, Sequence: true} }

// Requests of one message and of several are answered all; the writes of a session take effect in the order of their
// numbers, and are answered in it.
func TestWebSocketPipelining(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.Limits.ConnRequests = 16 })
	b := f.dialBin()
	b.open()
	const n = 500
	var frames []frame.Frame
	for i := range uint64(n) {
		frames = append(frames,
			&frame.Write{ID: 100 + i, Seq: 1 + i, Op: sequence("/job-")},
			&frame.Read{ID: 10_000 + i, Op: &op.Exists{Path: "/"}},
			&frame.Ping{ID: 20_000 + i})
	}
	go func() {
		for len(frames) > 0 {
			k := min(len(frames), 77)
			b.send(frames[:k]...)
			frames = frames[k:]
		}
	}()
	var writes, reads, pongs int
	var last op.Zxid
	for writes+reads+pongs < 3*n {
		got, err := b.read()
		if err != nil {
			t.Fatal(err)
		}
		switch x := got.(type) {
		case *frame.Pong:
			pongs++
		case *frame.Reply:
			if x.Result.Err != nil {
				t.Fatal(x.Result.Err)
			}
			if x.ID >= 10_000 {
				reads++
				continue
			}
			if x.ID != uint64(100+writes) || x.Result.Zxid <= last || x.Result.Path != fmt.Sprintf("/job-%010d", writes) {
				t.Fatalf("answer %d is %+v, after zxid %d", writes, x.Result, last)
			}
			last = x.Result.Zxid
			writes++
		}
	}
}

// A client whose connection breaks before it was answered resumes elsewhere and asks again under the same numbers: what
// had taken effect gets its first answer, and what had not takes effect now.
func TestWebSocketResumeAsksAgain(t *testing.T) {
	f := newFixture(t)
	b := f.dialBin()
	w := b.open()
	b.send(&frame.Write{ID: 2, Seq: 1, Ack: 1, Op: sequence("/a-")})
	first := next[*frame.Reply](b).Result.Path
	f.m.tell(func() { f.m.silent = true })
	b.send(&frame.Write{ID: 3, Seq: 2, Ack: 2, Op: sequence("/a-")}, &frame.Unwatch{ID: 4})
	next[*frame.Reply](b) // of the unwatch: the write before it has been handed over
	b.ws.NetConn().Close()
	f.m.tell(func() { f.m.silent = false })

	b = f.dialBin()
	b.send(&frame.Hello{ID: 1, Resume: &frame.Resume{Session: w.Session, Secret: []byte(binSecret), Nonce: 7}})
	again := next[*frame.Welcome](b)
	if again.NextSeq != 3 || again.Epoch != w.Epoch+1 || again.Session != w.Session {
		t.Fatalf("got %+v", again)
	}
	b.send(&frame.Write{ID: 2, Seq: 2, Ack: 2, Op: sequence("/a-")}, &frame.Write{ID: 3, Seq: 3, Ack: 2, Op: sequence("/a-")})
	second, third := next[*frame.Reply](b).Result, next[*frame.Reply](b).Result
	if first != "/a-0000000000" || second.Path != "/a-0000000001" || third.Path != "/a-0000000002" {
		t.Errorf("got %q, %+v, %+v", first, second, third)
	}
}

// What a request is told when it isn't decided: refused only if it surely has not been done.
func TestWebSocketOutcomes(t *testing.T) {
	inBubble(t, Limits{}, func(f *bubble) {
		b := f.wsDial(frame.Subprotocol)
		defer b.ws.Close()
		b.open()
		ask := func(w *frame.Write, want op.Code, outcome op.Outcome) {
			t.Helper()
			b.send(w)
			if err := next[*frame.Reply](b).Result.Err; err == nil || err.Code != want || err.Outcome != outcome {
				t.Errorf("got %v, want %s, %s", err, want, outcome)
			}
		}
		f.m.tell(func() { f.m.refuse = op.Errorf(op.NoLeader, "for now") })
		ask(&frame.Write{ID: 2, Seq: 1, Op: sequence("/a-")}, op.NoLeader, op.Refused)
		ask(&frame.Write{ID: 3, Seq: 1, Op: sequence("/a-")}, op.NoLeader, op.Unknown) // the first one might have been forwarded
		ask(&frame.Write{ID: 4, Op: sequence("/b-")}, op.NoLeader, op.Refused)
		ask(&frame.Write{ID: 5, Key: "k", Op: sequence("/b-")}, op.NoLeader, op.Unknown) // another member may have got it before
		f.m.tell(func() { f.m.refuse, f.m.silent = nil, true })
		ask(&frame.Write{ID: 6, Seq: 1, Op: sequence("/a-")}, op.OutcomeUnknown, op.Unknown)
		f.m.tell(func() { f.m.silent = false })
		b.send(&frame.Write{ID: 7, Seq: 1, Op: sequence("/a-")})
		if res := next[*frame.Reply](b).Result; res.Path != "/a-0000000000" {
			t.Errorf("got %+v", res)
		}
		ask(&frame.Write{ID: 8, Op: &op.Attach{Session: 1}}, op.BadRequest, op.Refused)
		ask(&frame.Write{ID: 9, Op: &op.Expire{}}, op.BadRequest, op.Refused)
		ask(&frame.Write{ID: 10, Op: &op.Get{Path: "/"}}, op.BadRequest, op.Refused)
		b.send(&frame.Read{ID: 11, Op: sequence("/c-")})
		if err := next[*frame.Reply](b).Result.Err; err == nil || err.Code != op.BadRequest {
			t.Errorf("a create read: %v", err)
		}
	})
}

// "Sequential" is not older than anything that this connection has shown, on a member that lags too.
func TestWebSocketSequential(t *testing.T) {
	inBubble(t, Limits{}, func(f *bubble) {
		b := f.wsDial(frame.Subprotocol)
		defer b.ws.Close()
		b.plain()
		b.send(&frame.Write{ID: 2, Op: put("/a", "1")})
		next[*frame.Reply](b)
		f.m.tell(func() { f.m.lagging = true })
		f.write(set("/a", "2"))
		read := func(level op.Level) *frame.Reply {
			b.send(&frame.Read{ID: 3, Options: op.ReadOptions{Level: level}, Op: &op.Get{Path: "/a"}})
			return next[*frame.Reply](b)
		}
		if r := read(op.Sequential); string(r.Result.Data) != "1" || r.Info.Level != op.Sequential {
			t.Errorf("before it has seen more: %+v, %+v", r.Info, r.Result)
		}
		b.send(&frame.Write{ID: 4, Op: put("/a", "3")})
		next[*frame.Reply](b)
		if r := read(op.Eventual); string(r.Result.Data) != "1" {
			t.Errorf("eventual: %+v", r.Result)
		}
		if r := read(op.Sequential); r.Result.Err == nil || r.Result.Err.Code != op.Timeout {
			t.Errorf("an old state: %+v", r.Result)
		}
		f.m.tell(func() { f.m.lagging = false })
		if r := read(op.Sequential); string(r.Result.Data) != "3" {
			t.Errorf("got %+v", r.Result)
		}
	})
}

// wsDial opens a connection in the bubble. Over a pipe nothing is buffered on the way: who writes waits for who reads.
func (b *bubble) wsDial(subprotocol string) *binConn {
	b.Helper()
	ws, err := wsOver(b.pipes.dial(), subprotocol)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { ws.Close() })
	return &binConn{t: b.T, ws: ws}
}

// A session that no leader confirms for half its timeout: its client is sent away while there is time.
func TestWebSocketUnconfirmed(t *testing.T) {
	inBubble(t, Limits{}, func(b *bubble) {
		c := b.wsDial(frame.Subprotocol)
		c.open()
		b.m.tell(func() { b.m.unproven = true })
		start := time.Now()
		c.send(&frame.Ping{ID: 2})
		if g := next[*frame.Goaway](c); g.Reason != "unconfirmed" {
			t.Errorf("got %+v", g)
		}
		if f := next[*frame.Failed](c); f.ID != 0 || f.Err.Code != op.NoLeader {
			t.Errorf("got %+v", f)
		}
		if code, took := c.closed(), time.Since(start); code != websocket.CloseServiceRestart || took < binTTL/2 || took > binTTL/2+2*time.Second {
			t.Errorf("closed with %d after %s", code, took)
		}
	})
}

// The timeout that a pong names is not older than the confirmation, although this member has not heard yet that it was
// shortened.
func TestWebSocketPongTimeout(t *testing.T) {
	inBubble(t, Limits{}, func(b *bubble) {
		c := b.wsDial(frame.Subprotocol)
		w := c.open()
		c.send(&frame.Ping{ID: 2})
		if p := next[*frame.Pong](c); p.ID != 2 || p.TTL != binTTL {
			t.Errorf("got %+v", p)
		}
		b.m.tell(func() { b.m.lagging = true })
		b.m.Do(b.Context(), &op.Request{Session: w.Session, Op: &op.SetTimeout{Session: w.Session, Timeout: 5 * time.Second}})
		c.send(&frame.Ping{ID: 3})
		time.Sleep(time.Second)
		b.m.tell(func() { b.m.lagging = false })
		if p := next[*frame.Pong](c); p.ID != 3 || p.TTL != 5*time.Second {
			t.Errorf("got %+v", p)
		}
		c.ws.Close()
	})
}

// A session lives as long as anything is heard of its client, be it the answer to a ping of the protocol itself.
func TestWebSocketKeepsAlive(t *testing.T) {
	inBubble(t, Limits{}, func(b *bubble) {
		c := b.wsDial(frame.Subprotocol)
		w := c.open()
		go func() { // pongs are sent by whoever reads
			for {
				if _, err := c.read(); err != nil {
					return
				}
			}
		}()
		for range 100 {
			time.Sleep(time.Second)
			b.m.pass(time.Second)
		}
		v, _, _ := b.m.View(b.Context(), op.ReadOptions{})
		if _, ok := v.Session(w.Session); !ok {
			t.Error("the session has ended although its client was there")
		}
		c.ws.Close()
	})
}

// A connection that is idle is left alone by the sweep until its client has been silent for long; one with something under way
// is looked at in every tick.
func TestWebSocketIdle(t *testing.T) {
	inBubble(t, Limits{}, func(b *bubble) {
		b.wsDial(frame.Subprotocol).plain()
		c := b.wsDial(frame.Subprotocol)
		c.open()
		due := func(want int) {
			t.Helper()
			time.Sleep(b.s.wsTick() * 3 / 2) // between two ticks
			synctest.Wait()
			if got := len(b.s.sockets.due(b.s.uptime(), nil)); got != want {
				t.Errorf("%d connections have to be looked at, want %d", got, want)
			}
			time.Sleep(b.s.wsTick() / 2)
		}
		due(0)
		b.m.tell(func() { b.m.silent = true })
		c.send(&frame.Write{ID: 2, Op: set("/a", "1")})
		due(1)
		due(1)
		if res := next[*frame.Reply](c).Result; res.Err == nil || res.Err.Code != op.OutcomeUnknown {
			t.Errorf("got %+v", res)
		}
		due(0)
		c.ws.Close()
	})
}

// A client that answers nothing is given up.
func TestWebSocketSilence(t *testing.T) {
	inBubble(t, Limits{}, func(b *bubble) {
		c := b.wsDial(frame.Subprotocol)
		c.plain()
		c.ws.SetPingHandler(func(string) error { return nil })
		start := time.Now()
		if code, took := c.closed(), time.Since(start); code != frame.CloseSlow || took != wsSilences*wsSilence {
			t.Errorf("closed with %d after %s", code, took)
		}
		c = b.wsDial(frame.Subprotocol) // nor does one that says nothing at all stay
		start = time.Now()
		if code, took := c.closed(), time.Since(start); code != frame.CloseSlow || took != DefaultLimits().BodyTimeout {
			t.Errorf("closed with %d after %s", code, took)
		}
	})
}

// A client that never reads is cut off after WriteTimeout, and one that sends a byte a second when its message is not there
// in time. Nobody else notices.
func TestWebSocketSlowClients(t *testing.T) {
	inBubble(t, Limits{WriteTimeout: 10 * time.Second}, func(b *bubble) {
		mute := b.wsDial(frame.Subprotocol)
		mute.plain()
		mute.send(&frame.Watch{ID: 2, Path: "/", Scope: watch.Subtree})
		other := b.wsDial(frame.Subprotocol)
		other.plain()
		b.write(set("/a", "1"))
		time.Sleep(5 * time.Second)
		other.send(&frame.Read{ID: 2, Op: &op.Get{Path: "/a"}})
		if r := next[*frame.Reply](other); string(r.Result.Data) != "1" {
			t.Errorf("got %+v", r.Result)
		}
		time.Sleep(6 * time.Second)
		if _, err := mute.read(); err == nil {
			t.Error("the connection still stands")
		}

		other.ws.SetPingHandler(func(string) error { return nil }) // a pong would land inside of the message
		drip := other.ws.NetConn()
		start := time.Now()
		frameOf1000 := append([]byte{0x82, 0xfe, 0x03, 0xe8, 0, 0, 0, 0}, make([]byte, 1000)...)
		var dripping sync.WaitGroup
		dripping.Go(func() {
			for i := range frameOf1000 {
				if _, err := drip.Write(frameOf1000[i : i+1]); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		})
		if code, took := other.closed(), time.Since(start); code != frame.CloseSlow || took > wsSilences*wsSilence {
			t.Errorf("closed with %d after %s", code, took)
		}
		drip.Close()
		dripping.Wait()
	})
}

// A watch that lags costs nobody anything. One that has fallen off the history is told so, and the connection and its other
// watches live on.
func TestWebSocketLaggingWatch(t *testing.T) {
	inBubble(t, Limits{}, func(b *bubble) {
		c := b.wsDial(frame.Subprotocol)
		c.plain()
		c.send(&frame.Watch{ID: 2, Path: "/busy", Scope: watch.Subtree}, &frame.Watch{ID: 3, Path: "/quiet", Scope: watch.Subtree})
		next[*frame.Watching](c)
		next[*frame.Watching](c)
		b.write(set("/busy", "first"))
		synctest.Wait()      // until the writer has that event, and nobody takes it from there
		for i := range 200 { // more than the history of this member holds
			b.write(set("/busy", fmt.Sprint(i)))
		}
		told := next[*frame.Events](c).Pos
		ended := next[*frame.Ended](c)
		if ended.Watch != 2 || ended.Err.Code != op.HistoryGone || ended.Err.Oldest <= told || ended.Pos != told {
			t.Errorf("got %+v, %v; the client has been told of %d", ended, ended.Err, told)
		}
		b.write(set("/quiet", "1"))
		if e := next[*frame.Events](c); e.Watch != 3 || e.Events[0].Path != "/quiet" {
			t.Errorf("got %+v", e)
		}
		c.send(&frame.Watch{ID: 2, Path: "/busy", Start: frame.FromSince, Since: ended.Pos})
		if f := next[*frame.Failed](c); f.ID != 2 || f.Err.Code != op.HistoryGone {
			t.Errorf("from where it was: %+v", f)
		}
		c.send(&frame.Watch{ID: 2, Path: "/busy", Start: frame.FromInitial})
		next[*frame.Watching](c)
		if n := next[*frame.Initial](c); n.More || string(n.Nodes[0].Data) != "199" {
			t.Errorf("got %+v", n)
		}
		c.ws.Close()
	})
}

// While nothing happens that a watch would tell, it is told now and then where it is.
func TestWebSocketBookmarks(t *testing.T) {
	inBubble(t, Limits{}, func(b *bubble) {
		c := b.wsDial(frame.Subprotocol)
		c.plain()
		c.send(&frame.Watch{ID: 2, Path: "/quiet"})
		pos := next[*frame.Watching](c).Pos
		b.write(set("/else", "1"))
		if m := next[*frame.Bookmark](c); m.Watch != 2 || m.Pos <= pos {
			t.Errorf("got %+v", m)
		}
		c.ws.Close()
	})
}

// The state comes in parts, and what changes meanwhile after it; nothing is lost in between.
func TestWebSocketInitialInParts(t *testing.T) {
	inBubble(t, Limits{}, func(b *bubble) {
		var nodes []op.Op
		for i := range 2500 {
			nodes = append(nodes, set(fmt.Sprintf("/d/%04d", i), "x"))
		}
		b.write(nodes...)
		c := b.wsDial(frame.Subprotocol)
		c.plain()
		c.send(&frame.Watch{ID: 2, Path: "/d", Scope: watch.Subtree, Start: frame.FromInitial, Data: true})
		pos := next[*frame.Watching](c).Pos
		part := next[*frame.Initial](c)
		b.write(set("/d/0001", "y"), set("/d/new", "z"))
		n, last := len(part.Nodes), ""
		for ; part.More; n += len(part.Nodes) {
			part = next[*frame.Initial](c)
			if part.Pos != pos || part.Nodes[0].Path <= last {
				t.Fatalf("a part of %d, from %s, after %s", part.Pos, part.Nodes[0].Path, last)
			}
			last = part.Nodes[len(part.Nodes)-1].Path
		}
		e := next[*frame.Events](c)
		if n != 2501 || len(e.Events) != 2 || string(e.Events[0].Data) != "y" || string(e.Events[1].Data) != "z" {
			t.Errorf("%d nodes, then %+v", n, e)
		}
		c.ws.Close()
	})
}

// A server that stops asks its clients to go, answers what is under way, and closes.
func TestWebSocketDrain(t *testing.T) {
	inBubble(t, Limits{RequestTimeout: time.Second}, func(f *bubble) {
		f.s.endpoints = []string{"http://n2:7070"}
		b := f.wsDial(frame.Subprotocol)
		if w := b.open(); len(w.Endpoints) != 1 {
			t.Errorf("got %+v", w)
		}
		f.s.StartDraining()
		if g := next[*frame.Goaway](b); g.Reason != "draining" || len(g.Endpoints) != 1 || g.Endpoints[0] != "http://n2:7070" {
			t.Errorf("got %+v", g)
		}
		b.send(&frame.Write{ID: 2, Seq: 1, Op: put("/a", "1")})
		if r := next[*frame.Reply](b); r.Result.Err != nil {
			t.Errorf("a request while it drains: %v", r.Result.Err)
		}
		if _, err := wsOver(f.pipes.dial(), frame.Subprotocol); !errors.Is(err, websocket.ErrBadHandshake) {
			t.Errorf("another connection: %v", err)
		}
		f.m.tell(func() { f.m.silent = true })
		b.send(&frame.Write{ID: 3, Seq: 2, Op: put("/a", "2")}, &frame.Unwatch{ID: 4})
		next[*frame.Reply](b) // of the unwatch
		f.stop()
		if r := next[*frame.Reply](b); r.ID != 3 || r.Result.Err.Outcome != op.Unknown {
			t.Errorf("what was under way: %+v", r)
		}
		if code := b.closed(); code != websocket.CloseGoingAway {
			t.Errorf("closed with %d", code)
		}
	})
}

// TestWebSocketMetrics: requests, connections, watches and events are counted as those of this transport.
func TestWebSocketMetrics(t *testing.T) {
	f := newFixture(t)
	b := f.dialBin()
	b.plain()
	b.send(&frame.Watch{ID: 2, Path: "/a"})
	next[*frame.Watching](b)
	b.send(&frame.Write{ID: 3, Op: put("/a", "1")}, &frame.Write{ID: 4, Op: &op.Delete{Path: "/b", If: op.Always}})
	for events, replies := 0, 0; events < 1 || replies < 2; {
		x, err := b.read()
		if err != nil {
			t.Fatal(err)
		}
		switch x.(type) {
		case *frame.Events:
			events++
		case *frame.Reply:
			replies++
		}
	}
	text := string(f.must("GET", "/metrics", "").body)
	for _, want := range []string{
		`coord_connections{transport="ws"} 1`, `coord_watches{kind="exact"} 1`, `coord_watch_events_total{type="created"} 1`,
		`coord_requests_total{code="ok",op="hello",transport="ws"} 1`, `coord_requests_total{code="ok",op="create",transport="ws"} 1`,
		`coord_requests_total{code="no_node",op="delete",transport="ws"} 1`, `coord_requests_in_flight{transport="ws"} 0`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("there is no %s", want)
		}
	}
}
