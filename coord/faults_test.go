package coord

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coord-kv/coord/op"
	"github.com/coord-kv/coord/watch"
)

func noLog() *slog.Logger { return slog.New(slog.DiscardHandler) }

// faulty is a service at which everything goes wrong now and then.
func faulty(seed uint64) *service {
	s := newService(seed)
	s.cutBefore, s.cutAfter, s.refuse, s.unknown, s.lag = 3, 3, 5, 3, 3
	return s
}

const seeds = 20

func forSeeds(t *testing.T, test func(t *testing.T, s *service)) {
	for seed := range uint64(seeds) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { test(t, faulty(seed)) })
		})
	}
}

// Writes of a session take effect once each, in the order of the calls, and each gets the answer to itself.
func TestSessionWritesOnce(t *testing.T) {
	forSeeds(t, func(t *testing.T, s *service) {
		c := s.client()
		defer c.Close()
		ses := must(c.Session(t.Context()))(t)
		var all sync.WaitGroup
		const writers, each = 8, 30
		for i := range writers {
			all.Go(func() {
				for j := range each {
					n, err := ses.Create(t.Context(), name(i, j), []byte("x"))
					if err != nil || n.Path != name(i, j) {
						t.Errorf("create %s: %v, %v", name(i, j), n, err)
					}
				}
			})
		}
		all.Wait()
		applied := s.paths()
		for i := range writers {
			last := -1
			for j := range each {
				at := slices.Index(applied, name(i, j))
				if at <= last || count(applied, name(i, j)) != 1 {
					t.Errorf("%s stands at %d after %d, %d times", name(i, j), at, last, count(applied, name(i, j)))
				}
				last = at
			}
		}
		if err := ses.Close(t.Context()); err != nil {
			t.Errorf("close: %v", err)
		}
	})
}

// A session's caller that gives up learns whether its write may take effect, and disturbs nobody else's.
func TestSessionWritesAbandoned(t *testing.T) {
	forSeeds(t, func(t *testing.T, s *service) {
		c := s.client()
		defer c.Close()
		ses := must(c.Session(t.Context()))(t)
		var all sync.WaitGroup
		for i := range 8 {
			all.Go(func() {
				for j := range 30 {
					ctx, cancel := context.WithTimeout(t.Context(), time.Duration(s.float()*float64(30*time.Millisecond)))
					data := []byte("x")
					_, err := ses.Create(ctx, name(i, j), data)
					data[0] = 0 // the caller's again
					cancel()
					s.expect(t, name(i, j), err)
				}
			})
		}
		all.Wait()
	})
}

// expect checks what an error says against what happened.
func (s *service) expect(t *testing.T, path string, err error) {
	var e *Error
	n := count(s.paths(), path)
	switch errors.As(err, &e); {
	case err == nil && n != 1:
		t.Errorf("%s was acknowledged and stands %d times", path, n)
	case err == nil:
	case e == nil:
		t.Errorf("%s: %v", path, err)
	case e.Outcome == Refused && n != 0:
		t.Errorf("%s was refused and stands %d times: %v", path, n, err)
	case n > 1:
		t.Errorf("%s stands %d times: %v", path, n, err)
	case e.Path != path:
		t.Errorf("%s: the error is about %q", path, e.Path)
	}
}

// A Client's write is never done twice; without a key, a broken connection leaves it unknown.
func TestPlainWritesAtMostOnce(t *testing.T) {
	forSeeds(t, func(t *testing.T, s *service) {
		c := s.client()
		defer c.Close()
		var all sync.WaitGroup
		for i := range 8 {
			all.Go(func() {
				for j := range 30 {
					_, err := c.Create(t.Context(), name(i, j), nil)
					s.expect(t, name(i, j), err)
					if err != nil && !errors.Is(err, ErrOutcomeUnknown) {
						t.Errorf("%s: %v", name(i, j), err)
					}
				}
			})
		}
		all.Wait()
	})
}

// With a key it is asked again until the answer is known.
func TestKeyedWritesOnce(t *testing.T) {
	forSeeds(t, func(t *testing.T, s *service) {
		c := s.client()
		defer c.Close()
		var all sync.WaitGroup
		for i := range 8 {
			all.Go(func() {
				for j := range 30 {
					_, err := c.Create(t.Context(), name(i, j), nil, IdempotencyKey(name(i, j)))
					if err != nil || count(s.paths(), name(i, j)) != 1 {
						t.Errorf("%s stands %d times: %v", name(i, j), count(s.paths(), name(i, j)), err)
					}
				}
			})
		}
		all.Wait()
	})
}

// A watch sees every change once and in order, whatever happens to its connection and however slow its reader is.
func TestWatchMissesNothing(t *testing.T) {
	forSeeds(t, func(t *testing.T, s *service) {
		c := s.client()
		defer c.Close()
		const changes = 3000
		go func() {
			for i := range changes {
				s.set(func() { s.apply(&op.Create{Path: name(0, i)}) })
				time.Sleep(time.Duration(s.float() * float64(2*time.Millisecond)))
				if i%100 == 0 {
					s.cut()
				}
			}
		}()
		i := 0
		for ev, err := range c.Watch(t.Context(), "/", Recursive(), Since(100)) {
			if err != nil {
				t.Fatal(err)
			}
			if ev.Path != name(0, i) || ev.Zxid != Zxid(101+i) {
				t.Fatalf("change %d is %s", i, ev)
			}
			if i++; i == changes {
				break
			}
			if i%500 == 0 {
				time.Sleep(3 * time.Second) // so that the buffer fills
			}
		}
	})
}

// An await is answered after each change, whatever happens to its connection, and never with what was there before.
func TestAwaitMissesNothing(t *testing.T) {
	forSeeds(t, func(t *testing.T, s *service) {
		c := s.client()
		defer c.Close()
		const changes = 1000
		go func() {
			for i := range changes {
				s.set(func() { s.apply(&op.Create{Path: name(0, i)}) })
				time.Sleep(time.Duration(s.float() * float64(20*time.Millisecond)))
				if i%100 == 0 {
					s.cut()
				}
			}
		}()
		for at := Zxid(100); at < 100+changes; {
			res, err := conn{c.tree}.Await(t.Context(), watch.Filter{Path: "/"}, at, &op.Get{Path: "/"})
			if err != nil || res.Zxid <= at {
				t.Fatalf("after %d: %+v, %v", at, res, err)
			}
			at = res.Zxid
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err := conn{c.tree}.Await(ctx, watch.Filter{Path: "/"}, 100+changes, &op.Get{Path: "/"})
		if err != ctx.Err() {
			t.Errorf("nothing happens, and the answer is %v", err)
		}
	})
}

// The state that a watch begins with comes whole, once, and what comes after follows on it.
func TestWatchInitial(t *testing.T) {
	forSeeds(t, func(t *testing.T, s *service) {
		c := s.client()
		defer c.Close()
		const before, after = 20, 50
		for i := range before {
			s.set(func() { s.apply(&op.Create{Path: name(0, i)}) })
		}
		i := 0
		for ev, err := range c.Watch(t.Context(), "/", Recursive(), WithInitial()) {
			switch {
			case err != nil:
				t.Fatal(err)
			case i == before && ev.Type == Bookmark:
				for j := range after {
					s.set(func() { s.apply(&op.Create{Path: name(0, before+j)}) })
				}
				s.cut()
				continue
			case ev.Path != name(0, i) || (ev.Type == Present) != (i < before):
				t.Fatalf("event %d is %s", i, ev)
			}
			if i++; i == before+after {
				break
			}
		}
	})
}

func TestHistoryGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newService(1).client()
		defer c.Close()
		for ev, err := range c.Watch(t.Context(), "/", Since(1)) {
			var e *Error
			if !errors.Is(err, ErrHistoryGone) || !errors.As(err, &e) || e.Oldest != 100 {
				t.Errorf("%v, %v", ev, err)
			}
		}
	})
}

// A decided no is an answer, not a reason to stop what is behind it.
func TestDecidedNo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newService(1).client()
		defer c.Close()
		ses := must(c.Session(t.Context()))(t)
		_, err := ses.Create(t.Context(), "/bad", nil)
		if !errors.Is(err, ErrNodeExists) {
			t.Error(err)
		}
		must(ses.Create(t.Context(), "/good", nil))(t)
	})
}

// What a server would not take is refused here, and its number is used by the next one.
func TestTooLarge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newService(1).client()
		defer c.Close()
		ses := must(c.Session(t.Context()))(t)
		if _, err := ses.Create(t.Context(), "/large", make([]byte, 2<<20)); !errors.Is(err, ErrTooLarge) {
			t.Error(err)
		}
		must(ses.Create(t.Context(), "/small", nil))(t)
	})
}
