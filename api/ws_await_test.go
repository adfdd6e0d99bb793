package api

import (
	"strings"
	"testing"
	"time"

	"github.com/coord-kv/coord/internal/frame"
	"github.com/coord-kv/coord/op"
	"github.com/coord-kv/coord/watch"
)

func get(path string) op.Op { return &op.Get{Path: path} }

// What waits takes no request's place and has no time limit: many may, and others are served meanwhile. Each is answered from
// a state that has its event, also where the event comes before the state.
func TestWebSocketAwait(t *testing.T) {
	inBubble(t, Limits{ConnRequests: 4}, func(f *bubble) {
		b := f.wsDial(frame.Subprotocol)
		defer b.ws.Close()
		b.plain()
		const many = 50
		for i := range uint64(many) {
			b.send(&frame.Await{ID: 100 + i, Path: "/a", Op: get("/a")})
		}
		b.send(&frame.Await{ID: 99, Path: "/a", Types: watch.TypesOf(op.Deleted), Op: get("/b")})
		for range 10 {
			time.Sleep(f.s.limits.RequestTimeout)
			b.send(&frame.Read{ID: 2, Op: &op.Exists{Path: "/a"}})
			if r := next[*frame.Reply](b); r.ID != 2 {
				t.Fatalf("got %+v", r)
			}
		}
		f.m.tell(func() { f.m.lagging = true })
		f.write(put("/a", "1"))
		b.send(&frame.Unwatch{ID: 3, Watch: 1000}) // is answered, since the awaits have room to
		if r := next[*frame.Reply](b); r.ID != 3 {
			t.Fatalf("before there is a state to answer from: %+v, %v", r, r.Result)
		}
		f.m.tell(func() { f.m.lagging = false })
		for range many {
			r := next[*frame.Reply](b)
			if r.ID < 100 || r.Result.Err != nil || string(r.Result.Data) != "1" || r.Info.Zxid != 1 {
				t.Fatalf("got %+v", r.Result)
			}
		}
		f.write(&op.Delete{Path: "/a", If: op.Always})
		if r := next[*frame.Reply](b); r.ID != 99 || r.Result.Err == nil || r.Result.Err.Code != op.NoNode || r.Info.Zxid != 2 {
			t.Fatalf("got %+v", r.Result)
		}
		if n := f.s.subscriptions.Load(); n != 0 {
			t.Errorf("%d places are taken", n)
		}
	})
}

// An await that is not wanted any more is answered as ended, and so is one that could not begin.
func TestWebSocketAwaitEnds(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.Limits.ConnWatches = 1 })
	b := f.dialBin()
	b.plain()
	fails := func(id uint64, want op.Code) {
		t.Helper()
		if r := next[*frame.Reply](b); r.ID != id || r.Result.Err == nil || r.Result.Err.Code != want {
			t.Errorf("got %d, %+v, want %d, %s", r.ID, r.Result, id, want)
		}
	}
	b.send(&frame.Await{ID: 2, Path: "/a", Op: get("/a")}, &frame.Await{ID: 3, Path: "/a", Op: get("/a")})
	fails(3, op.Overloaded)
	b.send(&frame.Unwatch{ID: 4, Watch: 2})
	fails(2, op.BadRequest)
	if r := next[*frame.Reply](b); r.ID != 4 || r.Result.Err != nil {
		t.Errorf("got %+v", r)
	}
	b.send(&frame.Await{ID: 2, Path: "/a", Op: get("/a")}, &frame.Unwatch{ID: 3, Watch: 2}) // perhaps before it has begun
	fails(2, op.BadRequest)
	next[*frame.Reply](b)
	b.send(&frame.Await{ID: 5, Path: "/a", Op: put("/a", "1")})
	fails(5, op.BadRequest)
	b.send(&frame.Await{ID: 6, Path: "/a", Since: 1 << 40, Op: get("/a")})
	fails(6, op.FutureZxid)
	f.m.Do(t.Context(), &op.Request{Op: put("/a", "0")})
	for range 1000 { // more than is kept
		f.m.Do(t.Context(), &op.Request{Op: set("/a", "1")})
	}
	b.send(&frame.Await{ID: 7, Path: "/b", Since: 1, Op: get("/a")})
	if r := next[*frame.Reply](b); r.ID != 7 || string(r.Result.Data) != "1" {
		t.Errorf("where something may have been missed: %+v", r.Result)
	}
	f.m.tell(func() { f.m.history = watch.New(watch.Limits{}, nil, 1001, 1001) }) // as after a restore from a backup
	b.send(&frame.Await{ID: 7, Path: "/b", Since: 1000, Op: get("/a")})
	fails(7, op.ClusterChanged)
	b.send(&frame.Await{ID: 8, Path: "/c", Since: 1001, Op: get("/c")})
	b.ws.Close()
	f.idle(0)
	for end := time.Now().Add(wsPatience); f.s.subscriptions.Load() != 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d places are taken", f.s.subscriptions.Load())
		}
	}
}

// The time for which an await has waited is not the server's, whatever ends it.
func TestWebSocketAwaitTakesNoTime(t *testing.T) {
	inBubble(t, Limits{}, func(f *bubble) {
		b := f.wsDial(frame.Subprotocol)
		defer b.ws.Close()
		b.plain()
		b.send(&frame.Await{ID: 2, Path: "/a", Op: get("/a")}, &frame.Await{ID: 3, Path: "/b", Op: get("/a")})
		time.Sleep(30 * time.Second)
		f.write(put("/a", "1"))
		next[*frame.Reply](b)
		b.send(&frame.Unwatch{ID: 4, Watch: 3})
		next[*frame.Reply](b)
		next[*frame.Reply](b)
		text, want := f.ask("/metrics").body(), `coord_request_duration_seconds_bucket{op="await",transport="ws",le="10"} 2`
		if !strings.Contains(text, want) {
			t.Errorf("%s isn't in\n%s", want, text)
		}
	})
}
