package api

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/coord-kv/coord/internal/frame"
	"github.com/coord-kv/coord/op"
	"github.com/coord-kv/coord/watch"
)

// TestAnswerRoom: answers that nobody takes hold no more memory than there is room for. Those that find none are refused,
// small ones are not, and when one has been taken there is room again.
func TestAnswerRoom(t *testing.T) {
	inBubble(t, Limits{AnswerBytes: 2 * largeAnswer}, func(b *bubble) {
		b.write(set("/app/large", strings.Repeat("x", largeAnswer)), set("/app/small", "x"))
		slow := b.ask("/v1/nodes/app?depth=0").head()
		for _, target := range []string{"/v1/nodes/app?depth=0", "/v1/nodes/app?children&data", "/v1/watch/app?since=0", "/v1/nodes/app/large"} {
			if got := b.ask(target).body(); !strings.HasPrefix(got, "503 ") || !strings.Contains(got, `"code":"overloaded"`) {
				t.Errorf("%s: %.200s", target, got)
			}
		}
		c := b.ask("/v1/watch/app?since=0", "Accept: text/event-stream").head()
		c.expect("retry: 1000", "end")
		c.conn.Close()
		for _, target := range []string{"/v1/nodes/app/small", "/v1/nodes/app/large?raw", "/v1/nodes/app?children", "/v1/nodes/app?depth=0&after=/app/large"} {
			if got := b.ask(target).body(); !strings.HasPrefix(got, "200 ") {
				t.Errorf("%s: %.200s", target, got)
			}
		}
		if all, err := io.ReadAll(slow.in); err != nil || !strings.HasSuffix(string(all), "}\n") {
			t.Errorf("the slow one got %d bytes, %v", len(all), err)
		}
		slow.conn.Close()
		synctest.Wait()
		if held := b.s.answers.held.Load(); held != 0 {
			t.Errorf("%d bytes are held for nobody", held)
		}
		if got := b.ask("/v1/nodes/app?depth=0").body(); !strings.HasPrefix(got, "200 ") {
			t.Errorf("with room again: %.200s", got)
		}
	})
}

// TestAnswerRoomOfSockets: on a WebSocket connection, an answer that finds no room is an error, and the connection goes on.
// What has left gives its room back.
func TestAnswerRoomOfSockets(t *testing.T) {
	f := newFixture(t)
	for i := range 2 {
		f.must("PUT", fmt.Sprintf("/v1/nodes/app/n%d?parents", i), strings.Repeat("x", largeAnswer))
	}
	c, _ := f.dialJSON(`{"id":1,"op":"hello"}`)
	ask := func(id int, op string) string {
		s := c.ask(fmt.Sprintf(`{"id":%d,%s,"consistency":"eventual"}`, id, op))
		if s.ID != id {
			t.Fatalf("answer %d to %d", s.ID, id)
		}
		if s.Error != nil {
			return s.Error.Code
		}
		return "ok"
	}
	const large, small = `"op":"subtree","path":"/app"`, `"op":"get","path":"/app"`
	f.s.answers.held.Store(f.s.answers.limit) // by clients that take nothing
	for i, want := range map[int]string{2: "overloaded", 3: "ok"} {
		if got := ask(i, map[int]string{2: large, 3: small}[i]); got != want {
			t.Errorf("without room, %d: %s", i, got)
		}
	}
	f.s.answers.held.Store(0)
	if got := ask(4, large); got != "ok" {
		t.Errorf("with room: %s", got)
	}
	eventually(t, "all room given back", func() bool { return f.s.answers.held.Load() == 0 })
}

// TestAnswerRoomOfWatches: what a watch has next and finds no room ends the watch, not the connection. Begun again where it
// was, it has missed nothing.
func TestAnswerRoomOfWatches(t *testing.T) {
	f := newFixture(t)
	b := f.dialBin()
	b.plain()
	write := func(name string) {
		t.Helper()
		f.must("PUT", "/v1/nodes/app/"+name+"?parents", strings.Repeat("x", largeAnswer))
	}
	ended := func(what string) *frame.Ended {
		t.Helper()
		e := next[*frame.Ended](b)
		if e.Err.Code != op.Overloaded {
			t.Errorf("%s: it ended with %v", what, e.Err)
		}
		return e
	}
	request := frame.Watch{ID: 1, Path: "/app", Scope: watch.Subtree, Data: true}
	begin := func(start frame.Start, since op.Zxid) {
		request.ID++
		request.Start, request.Since = start, since
		b.send(&request)
		next[*frame.Watching](b)
	}
	room := func(held int64) {
		eventually(t, "all room given back", func() bool { return f.s.answers.held.Load() == 0 })
		f.s.answers.held.Store(held) // by clients that take nothing
	}
	begin(frame.FromNow, 0)
	room(f.s.answers.limit)
	write("a")
	e := ended("events")
	f.s.answers.held.Store(0)
	begin(frame.FromSince, e.Pos)
	for seen := false; !seen; {
		for _, ev := range next[*frame.Events](b).Events {
			seen = ev.Path == "/app/a" && ev.HasData && len(ev.Data) == largeAnswer
		}
	}
	room(f.s.answers.limit)
	begin(frame.FromInitial, 0)
	ended("state")
	f.s.answers.held.Store(0)
	begin(frame.FromInitial, 0)
	if n := next[*frame.Initial](b).Nodes; len(n) != 2 || len(n[1].Data) != largeAnswer {
		t.Errorf("with room, the state has %d nodes", len(n))
	}
	room(0)
}
