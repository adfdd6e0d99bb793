package watch

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coord-kv/coord/op"
)

func TestReadySaysThatThereIsSomething(t *testing.T) {
	h := New(Limits{}, nil, 0, 0)
	fill(h, 3)
	caughtUp := subscribe(t, h, Filter{Path: "/a"}, 3)
	behind := subscribe(t, h, Filter{Path: "/a"}, 2)
	if signalled(caughtUp) || !signalled(behind) {
		t.Error("only the one that is behind has something to read")
	}
	publish(h, "/b", "/a/b", "/")
	if signalled(caughtUp) {
		t.Error("signalled for changes that do not match")
	}
	publish(h, "/a")
	publish(h, "/a")
	if !signalled(caughtUp) || signalled(caughtUp) {
		t.Error("two matching changes are one signal")
	}
	takeAll(t, caughtUp)
	publish(h, "/a")
	takeAll(t, caughtUp)
	if signalled(caughtUp) {
		t.Error("still signalled after everything was taken")
	}
}

func TestTypesDecideWhoIsWoken(t *testing.T) {
	h := New(Limits{}, nil, 0, 0)
	all := subscribe(t, h, Filter{Path: "/", Scope: Children}, 0)
	births := subscribe(t, h, Filter{Path: "/", Scope: Children, Types: TypesOf(op.Created, op.Deleted)}, 0)
	publish(h, "/a")
	if !signalled(all) || signalled(births) {
		t.Error("a change of data wakes who asked for it, and nobody else")
	}
	ev := change(2, "/b")
	ev.Type = op.Created
	h.Publish([]op.Event{ev}, 2)
	if !signalled(births) {
		t.Error("a creation wakes nobody")
	}
}

// One Take looks at a bounded part of the history, also if nothing in it matches.
func TestTakeIsBounded(t *testing.T) {
	h := New(Limits{ChunkBytes: 1}, nil, 0, 0)
	s := subscribe(t, h, Filter{Path: "/b"}, 0)
	s2 := subscribe(t, h, everything, 0)
	fill(h, 3*takeChunks)
	publish(h, "/b")
	want(t, first(s.Take(1)), "49 /b") // it was caught up, so the change says where to look

	s = subscribe(t, h, Filter{Path: "/b"}, 0)
	for i := range 3 {
		if !signalled(s) {
			t.Error("no signal although it is behind")
		}
		events, pos, err := s.Take(1)
		if len(events) > 0 || pos != op.Zxid((i+1)*takeChunks) || err != nil {
			t.Errorf("got %s up to %d, %v", brief(events), pos, err)
		}
	}
	want(t, first(s.Take(1)), "49 /b")
	if events, _, _ := s2.Take(1000); len(events) != takeChunks {
		t.Errorf("got %d events", len(events))
	}
}

func TestNextWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := New(Limits{ChunkBytes: 1}, nil, 0, 0)
		s := subscribe(t, h, Filter{Path: "/a"}, 0)
		ctx, cancel := context.WithCancel(t.Context())
		type answer struct {
			events []op.Event
			pos    op.Zxid
			err    error
		}
		answers := make(chan answer)
		go func() {
			for {
				events, pos, err := s.Next(ctx)
				answers <- answer{events, pos, err}
				if err != nil {
					return
				}
			}
		}()
		waits := func() {
			t.Helper()
			synctest.Wait()
			select {
			case a := <-answers:
				t.Fatalf("did not wait: %+v", a)
			default:
			}
		}
		waits()
		publish(h, "/b")
		waits()
		publish(h, "/a")
		a := <-answers
		want(t, a.events, "2 /a")
		waits()
		time.Sleep(time.Hour)
		waits()
		publish(h, "/b")
		cancel()
		if a := <-answers; !errors.Is(a.err, context.Canceled) || len(a.events) > 0 || a.pos < 2 {
			t.Errorf("%+v", a)
		}
		publish(h, "/a")
		want(t, first(s.Next(t.Context())), "4 /a")
	})
}

func TestCloseWakesTheReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := New(Limits{}, nil, 0, 0)
		s := subscribe(t, h, everything, 0)
		done := make(chan error)
		go func() {
			_, _, err := s.Next(t.Context())
			done <- err
		}()
		synctest.Wait()
		s.Close()
		s.Close()
		if err := <-done; err != ErrClosed {
			t.Errorf("got %v", err)
		}
		if _, _, err := s.Take(1); err != ErrClosed {
			t.Errorf("got %v", err)
		}
		publish(h, "/a")
		if st := h.Stats(); st.Streams != [3]int{} || st.Behind != 0 || len(h.index.places) != 0 || h.index.subtrees != 0 {
			t.Errorf("something is left of it: %+v", st)
		}
	})
}

func TestSubscribeRefuses(t *testing.T) {
	h := New(Limits{MaxStreams: 2}, nil, 0, 0)
	_, err := h.Subscribe(Filter{Path: "a"}, 0)
	wantCode(t, err, op.BadPath)
	_, err = h.Subscribe(Filter{Path: "/a", Scope: numScopes}, 0)
	wantCode(t, err, op.BadRequest)
	_, err = h.Subscribe(everything, 1)
	wantCode(t, err, op.FutureZxid)

	one := subscribe(t, h, everything, 0)
	subscribe(t, h, everything, 0)
	_, err = h.Subscribe(everything, 0)
	wantCode(t, err, op.Overloaded)
	one.Close()
	subscribe(t, h, everything, 0)
}

func TestStatsCountStreams(t *testing.T) {
	h := New(Limits{}, nil, 0, 0)
	fill(h, 2)
	subscribe(t, h, Filter{Path: "/a"}, 0)
	subscribe(t, h, Filter{Path: "/a", Scope: Children}, 2)
	subscribe(t, h, everything, 2)
	behind := subscribe(t, h, everything, 1)
	if s := h.Stats(); s.Streams != [3]int{1, 1, 2} || s.Behind != 2 {
		t.Errorf("%+v", s)
	}
	publish(h, "/b")
	if s := h.Stats(); s.Behind != 3 {
		t.Errorf("%+v", s)
	}
	takeAll(t, behind)
	behind.Close()
	if s := h.Stats(); s.Streams != [3]int{1, 1, 1} || s.Behind != 2 {
		t.Errorf("%+v", s)
	}
}

// One publisher, readers fast and slow, streams that come and go, and an archive writer, all at once: every reader that
// stays sees every transaction whole and in order.
func TestConcurrent(t *testing.T) {
	const last = 3000
	d := newDisk()
	h := New(Limits{ChunkBytes: 500, MemoryBytes: 4000, TotalBytes: 1 << 30}, d, 0, 0)
	var all sync.WaitGroup
	published := make(chan struct{})
	for i := range 8 {
		s := subscribe(t, h, everything, 0)
		all.Go(func() { follow(t, s, 1+i*5, last) })
	}
	for i := range 2 {
		all.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-published:
					return
				default:
				}
				comeAndGo(t, h, fmt.Sprintf("/%d", (n+i)%7))
			}
		})
	}
	all.Go(func() {
		for saved := false; !saved; d.save(h) {
			select {
			case <-published:
				saved = true
			default:
			}
		}
	})
	for z := op.Zxid(1); z <= last; z++ {
		path := fmt.Sprintf("/%d", z%7)
		h.Publish([]op.Event{change(z, path), change(z, path+"/x"), change(z, path)}, z)
		if z%500 == 0 {
			h.Cut()
		}
		for h.Stats().MemoryBytes > 6000 { // else it outruns the archive and history goes
			runtime.Gosched()
		}
	}
	close(published)
	all.Wait()
	if s := h.Stats(); s.Oldest != 0 || s.Events != 3*last {
		t.Errorf("%+v", s)
	}
}

// follow reads up to the zxid last and checks that three events come of each.
func follow(t *testing.T, s *Stream, maxEvents int, last op.Zxid) {
	defer s.Close()
	var seen int
	for pos := op.Zxid(0); pos < last; {
		events, reached, err := s.Take(maxEvents)
		if err != nil {
			t.Errorf("after %d: %v", pos, err)
			return
		}
		if len(events)%3 != 0 {
			t.Errorf("after %d: %d events", pos, len(events))
		}
		for _, ev := range events {
			if want := op.Zxid(seen/3 + 1); ev.Zxid != want {
				t.Errorf("got %d, want %d", ev.Zxid, want)
				return
			}
			seen++
		}
		pos = reached
		if len(events) == 0 && pos < last {
			<-s.Ready()
		}
	}
}

func comeAndGo(t *testing.T, h *History, path string) {
	from := h.Current()
	s, err := h.Subscribe(Filter{Path: path, Scope: Subtree}, from)
	if err != nil {
		t.Error(err)
		return
	}
	var closing sync.WaitGroup
	closing.Go(func() {
		<-s.Ready()
		s.Close()
	})
	for {
		events, _, err := s.Take(5)
		if err == ErrClosed {
			break
		}
		if err != nil {
			t.Error(err)
			s.Close()
			break
		}
		for _, ev := range events {
			if ev.Zxid <= from || !op.Within(ev.Path, path) {
				t.Errorf("after %d in %s: %d %s", from, path, ev.Zxid, ev.Path)
			}
		}
		if len(events) > 0 || s.h.Current() == 3000 {
			s.Close()
		}
	}
	closing.Wait()
}

// A reader of many streams is told of each that has something, as often as Ready would be.
func TestOnReady(t *testing.T) {
	h := New(Limits{}, nil, 0, 0)
	s, err := h.Subscribe(Filter{Path: "/a", Scope: Subtree}, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	calls := 0
	s.OnReady(func() { calls++ })
	if calls != 1 {
		t.Fatalf("%d calls at first: what came before would be missed", calls)
	}
	acl := &op.ACLRef{ID: 1, List: op.OpenACL}
	h.Publish([]op.Event{{Zxid: 1, Type: op.Created, Path: "/b", ACL: acl}}, 1)
	if calls != 1 {
		t.Error("called for what doesn't match")
	}
	h.Publish([]op.Event{{Zxid: 2, Type: op.Created, Path: "/a/b", ACL: acl}}, 2)
	if events, _, err := s.Take(10); calls != 2 || len(events) != 1 || err != nil {
		t.Errorf("%d calls, %v, %v", calls, events, err)
	}
}
