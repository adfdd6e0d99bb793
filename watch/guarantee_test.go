package watch

import (
	"fmt"
	"testing"

	"github.com/coord-kv/coord/op"
)

// Each test shows one of the guarantees of the package comment.

func TestFiltered(t *testing.T) {
	ann := []op.Identity{{Scheme: "digest", ID: "ann:x"}}
	h := New(Limits{}, nil, 0, 0)
	h.Publish([]op.Event{
		{Zxid: 1, Type: op.Created, Path: "/", ACL: openToAll},
		{Zxid: 2, Type: op.Created, Path: "/a", ACL: openToAll},
		{Zxid: 3, Type: op.Changed, Path: "/a", ACL: openToAll},
		{Zxid: 4, Type: op.Created, Path: "/a/b", ACL: openToAll},
		{Zxid: 5, Type: op.Changed, Path: "/a/b", ACL: secret},
		{Zxid: 6, Type: op.Created, Path: "/a/b/c", ACL: openToAll},
		{Zxid: 7, Type: op.Deleted, Path: "/a/b/c", ACL: secret},
		{Zxid: 8, Type: op.ACLChanged, Path: "/ab", ACL: openToAll},
	}, 8)
	for _, c := range []struct {
		name   string
		filter Filter
		want   string
	}{
		{"exact", Filter{Path: "/a"}, "2 /a, 3 /a"},
		{"exact, root", Filter{Path: "/"}, "1 /"},
		{"exact, one type", Filter{Path: "/a", Types: TypesOf(op.Changed)}, "3 /a"},
		{"children", Filter{Path: "/a", Scope: Children}, "2 /a, 3 /a, 4 /a/b"},
		{"children of the root", Filter{Path: "/", Scope: Children}, "1 /, 2 /a, 3 /a, 8 /ab"},
		{"children, two types", Filter{Path: "/a", Scope: Children, Types: TypesOf(op.Created, op.Deleted)}, "2 /a, 4 /a/b"},
		{"subtree", Filter{Path: "/a", Scope: Subtree}, "2 /a, 3 /a, 4 /a/b, 6 /a/b/c"},
		{"subtree, allowed more", Filter{Path: "/a", Scope: Subtree, Auth: ann}, "2 /a, 3 /a, 4 /a/b, 5 /a/b, 6 /a/b/c, 7 /a/b/c"},
		{"denied", Filter{Path: "/a/b/c", Types: TypesOf(op.Deleted)}, ""},
		{"nothing there", Filter{Path: "/x", Scope: Subtree}, ""},
	} {
		s := subscribe(t, h, c.filter, 0)
		events, pos := takeAll(t, s)
		if got := brief(events); got != c.want || pos != 8 {
			t.Errorf("%s: got %s up to %d, want %s", c.name, got, pos, c.want)
		}
	}
}

func TestOrdered(t *testing.T) {
	h := New(Limits{ChunkBytes: 40}, nil, 0, 0)
	behind := subscribe(t, h, everything, 0)
	live := subscribe(t, h, everything, 0)
	var heard []op.Event
	for i := range 50 {
		publish(h, fmt.Sprintf("/b%d", i), "/a")
		events, _ := takeAll(t, live)
		heard = append(heard, events...)
	}
	caught, _ := takeAll(t, behind)
	if !sameEvents(heard, caught) || len(heard) != 100 {
		t.Errorf("heard %s\ncaught %s", brief(heard), brief(caught))
	}
	for i, ev := range caught {
		if ev.Zxid != op.Zxid(i/2+1) || (i%2 == 1) != (ev.Path == "/a") {
			t.Fatalf("event %d is %d %s", i, ev.Zxid, ev.Path)
		}
	}
}

// A node that is matched in several ways, and a reader that asks more often than needed, give no event twice.
func TestUnique(t *testing.T) {
	h := New(Limits{}, nil, 0, 0)
	s := subscribe(t, h, Filter{Path: "/", Scope: Children}, 0)
	publish(h, "/", "/a")
	publish(h, "/")
	want(t, first(s.Take(1)), "1 /, 1 /a")
	want(t, first(s.Take(1)), "2 /")
	for range 3 {
		want(t, first(s.Take(1)), "")
	}
}

// However the history is cut into chunks and the reading into takes, nothing is missing between two events.
func TestReliable(t *testing.T) {
	for _, chunkBytes := range []int{1, 50, 1000} {
		for _, take := range []int{1, 3, 100} {
			h := New(Limits{ChunkBytes: chunkBytes}, nil, 0, 0)
			s := subscribe(t, h, Filter{Path: "/odd"}, 0)
			next := op.Zxid(1)
			for range 200 {
				publish(h, "/even")
				publish(h, "/odd")
				if h.Current()%13 != 0 {
					continue
				}
				for signalled(s) {
					for _, ev := range first(s.Take(take)) {
						if next++; ev.Zxid != next {
							t.Fatalf("chunks of %d, takes of %d: got %d, want %d", chunkBytes, take, ev.Zxid, next)
						}
						next++
					}
				}
			}
			if next < 390 {
				t.Errorf("chunks of %d, takes of %d: only came up to %d", chunkBytes, take, next)
			}
		}
	}
}

func TestAtomic(t *testing.T) {
	h := New(Limits{ChunkBytes: 20}, nil, 0, 0)
	s := subscribe(t, h, Filter{Path: "/a", Scope: Children}, 0)
	publish(h, "/a/1", "/x", "/a/2", "/a/3", "/a/4")
	publish(h, "/a/5")
	want(t, first(s.Take(2)), "1 /a/1, 1 /a/2, 1 /a/3, 1 /a/4")
	if !signalled(s) {
		t.Error("there is more, and no signal")
	}
	want(t, first(s.Take(0)), "2 /a/5")
}

// A stream that begins where another one stopped, on another member that packs its chunks differently, continues it.
func TestResumable(t *testing.T) {
	one, other := New(Limits{ChunkBytes: 30}, nil, 0, 0), New(Limits{ChunkBytes: 300}, nil, 0, 0)
	for range 40 {
		publish(one, "/a", "/b", "/c")
		publish(other, "/a", "/b", "/c")
	}
	whole, _ := takeAll(t, subscribe(t, one, everything, 0))
	var parts []op.Event
	for pos, h := op.Zxid(0), one; pos < one.Current(); {
		events, reached, err := subscribe(t, h, everything, pos).Take(7)
		if err != nil {
			t.Fatal(err)
		}
		parts, pos = append(parts, events...), reached
		if h == one {
			h = other
		} else {
			h = one
		}
	}
	if !sameEvents(whole, parts) {
		t.Errorf("whole %s\nparts %s", brief(whole), brief(parts))
	}
}

func TestBookmarkable(t *testing.T) {
	h := New(Limits{}, nil, 0, 10)
	s := subscribe(t, h, Filter{Path: "/a"}, 10)
	position := func() op.Zxid {
		t.Helper()
		_, pos, err := s.Take(1)
		if err != nil {
			t.Fatal(err)
		}
		return pos
	}
	steps := []struct {
		do    func()
		after op.Zxid
		what  string
	}{
		{func() {}, 10, "nothing has happened"},
		{func() { publish(h, "/b") }, 11, "a change that does not match"},
		{func() { h.Publish(nil, 20) }, 20, "decisions that changed nothing"},
		{func() { publish(h, "/a"); publish(h, "/b"); publish(h, "/a") }, 21, "stopped at the first match"},
		{func() {}, 23, "the second match"},
	}
	for _, step := range steps {
		step.do()
		if pos := position(); pos != step.after {
			t.Errorf("%s: at %d, want %d", step.what, pos, step.after)
		}
	}
}

// A stream that waits for what does not happen keeps its position although the history it began in is long gone.
func TestQuietStreamsDoNotFallOff(t *testing.T) {
	h := New(Limits{ChunkBytes: 50, MemoryBytes: 200}, nil, 0, 0)
	quiet := subscribe(t, h, Filter{Path: "/quiet"}, 0)
	slow := subscribe(t, h, Filter{Path: "/busy"}, 0)
	for range 100 {
		publish(h, "/busy")
	}
	publish(h, "/quiet")
	if events, pos := takeAll(t, quiet); brief(events) != "101 /quiet" || pos != 101 {
		t.Errorf("got %s up to %d", brief(events), pos)
	}
	_, _, err := slow.Take(1)
	wantCode(t, err, op.HistoryGone)
	if gone := err.(*op.Error); gone.Oldest != h.Oldest() || gone.Oldest == 0 {
		t.Errorf("the error says %d, the history %d", gone.Oldest, h.Oldest())
	}
	publish(h, "/busy")
	_, _, err = slow.Take(1)
	wantCode(t, err, op.HistoryGone)
	if n := h.Stats().Gone; n != 1 {
		t.Errorf("%d streams were cut off, want 1", n)
	}
}

func first[A, B, C any](a A, _ B, _ C) A { return a }
