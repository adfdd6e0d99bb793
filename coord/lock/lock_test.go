package lock_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coord-kv/coord/coord"
	"github.com/coord-kv/coord/coord/internal/bubble"
	"github.com/coord-kv/coord/coord/lock"
)

// TestExclusive: a second one waits until the first has unlocked, and has a higher token.
func TestExclusive(t *testing.T) {
	bubble.Run(t, 1, func(w *bubble.World) {
		a := lock.New(w.Session(), "nightly", lock.Owner("a"), lock.Metadata("in rack 7"))
		ahead := -1
		b := lock.New(w.Session(), "nightly", lock.Owner("b"), lock.OnWait(func(n int) { ahead = n }))
		first := bubble.Must(a.Lock(w.Context()))
		_, err := b.TryLock(w.Context())
		var held *lock.HeldError
		if !errors.As(err, &held) || !errors.Is(err, lock.ErrHeld) {
			t.Fatalf("a lock that is held was tried: %v", err)
		}
		if h, ok := held.Holder(); !ok || h.Owner != "a" || h.Metadata != "in rack 7" || h.Token != first.Token().Zxid {
			t.Errorf("the holder is %+v", h)
		}
		got := make(chan *lock.Held, 1)
		go func() { got <- bubble.Must(b.Lock(w.Context())) }()
		synctest.Wait()
		if i := bubble.Must(a.Inspect(w.Context())); len(i.Waiters) != 1 || i.Waiters[0].Owner != "b" || ahead != 1 {
			t.Errorf("the one who waits behind %d is %+v", ahead, i.Waiters)
		}
		if err := first.Unlock(w.Context()); err != nil {
			t.Error(err)
		}
		second := <-got
		if second.Token().Zxid <= first.Token().Zxid || second.Token().String() == first.Token().String() {
			t.Errorf("the tokens are %v and %v", first.Token(), second.Token())
		}
		if err := context.Cause(first.Context()); err != context.Canceled {
			t.Errorf("the first one's context: %v", err)
		}
		if err := first.Unlock(w.Context()); !errors.Is(err, lock.ErrNotHeld) {
			t.Errorf("unlocked twice: %v", err)
		}
		if second.Context().Err() != nil {
			t.Error("that took the lock from the second")
		}
	})
}

// TestReentrance: who would wait for itself is told so; another owner of the session may wait.
func TestReentrance(t *testing.T) {
	bubble.Run(t, 1, func(w *bubble.World) {
		s := w.Session()
		m := lock.New(s, "x")
		held := bubble.Must(m.Lock(w.Context()))
		_, err := m.Lock(w.Context())
		var e *lock.HeldError
		if !errors.Is(err, lock.ErrHeld) || errors.As(err, &e) {
			t.Errorf("reentrant: %v", err)
		}
		other := make(chan error, 1)
		go func() {
			h, err := lock.New(s, "x", lock.Owner("another thread")).Lock(w.Context())
			other <- errors.Join(err, h.Unlock(w.Context()))
		}()
		synctest.Wait()
		held.Unlock(w.Context())
		if err := <-other; err != nil {
			t.Error(err)
		}
	})
}

// TestGivingUp: when its context ends, one who waits leaves the line.
func TestGivingUp(t *testing.T) {
	bubble.Run(t, 1, func(w *bubble.World) {
		held := bubble.Must(lock.New(w.Session(), "x").Lock(w.Context()))
		ctx, cancel := context.WithTimeout(w.Context(), time.Minute)
		defer cancel()
		_, err := lock.New(w.Session(), "x").Lock(ctx)
		if !errors.Is(err, lock.ErrHeld) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
		if i := bubble.Must(lock.Inspect(w.Context(), w.Client, "x")); len(i.Waiters) != 0 || len(i.Holders) != 1 {
			t.Errorf("%+v", i)
		}
		held.Unlock(w.Context())
	})
}

// TestDoEndsWithTheLock: the context of Do ends when the lock is broken, when its session expires, and when nobody can
// say that the session lives; what was fenced is refused afterwards.
func TestDoEndsWithTheLock(t *testing.T) {
	for what, lose := range map[string]func(w *bubble.World, s *coord.Session){
		"broken": func(w *bubble.World, _ *coord.Session) {
			if err := lock.Break(w.Context(), w.Client, "x", 0, "an admin"); err != nil {
				w.Error(err)
			}
		},
		"expired": func(w *bubble.World, s *coord.Session) { w.Cluster.ExpireSession(s.ID()) },
		"paused":  func(w *bubble.World, s *coord.Session) { w.Cluster.PauseSession(s.ID()) },
	} {
		t.Run(what, func(t *testing.T) {
			bubble.Run(t, 1, func(w *bubble.World) {
				s := w.Session()
				want := map[string]error{"broken": lock.ErrNotHeld}[what]
				if want == nil {
					want = coord.ErrSessionExpired
				}
				err := lock.New(s, "x").Do(w.Context(), func(ctx context.Context, token coord.Token) error {
					if _, err := w.Client.Create(ctx, "/"+what, nil, coord.Fenced(token)); err != nil {
						t.Error(err)
					}
					start := time.Now()
					lose(w, s)
					<-ctx.Done()
					if cause := context.Cause(ctx); !errors.Is(cause, want) {
						t.Errorf("the cause is %v", cause)
					}
					if took := time.Since(start); took > bubble.TTL {
						t.Errorf("it ended after %s", took)
					}
					next := bubble.Must(lock.New(w.Session(), "x").Lock(w.Context()))
					defer next.Unlock(w.Context())
					_, err := w.Client.Set(w.Context(), "/"+what, nil, coord.Fenced(token))
					if !errors.Is(err, coord.ErrStaleToken) {
						t.Errorf("a write with the old token: %v", err)
					}
					return nil
				})
				if !errors.Is(err, want) {
					t.Errorf("Do returned %v", err)
				}
			})
		})
	}
}

// TestDoReturns what its function does, and has given the lock back, also when that panics.
func TestDoReturns(t *testing.T) {
	bubble.Run(t, 1, func(w *bubble.World) {
		m, mine := lock.New(w.Session(), "x"), errors.New("mine")
		if err := m.Do(w.Context(), func(context.Context, coord.Token) error { return mine }); err != mine {
			t.Errorf("%v", err)
		}
		func() {
			defer func() { recover() }()
			m.Do(w.Context(), func(context.Context, coord.Token) error { panic("now") })
		}()
		held := bubble.Must(m.TryLock(w.Context()))
		held.Unlock(w.Context())
		i := bubble.Must(m.Inspect(w.Context()))
		if len(i.Holders) != 0 || len(i.History) != 3 || i.History[0].Ended != "released" || i.History[0].Until.IsZero() {
			t.Errorf("%+v", i)
		}
	})
}

// TestWithinDo: the context of Do ends with that of its caller, and the lock is given back all the same.
func TestWithinDo(t *testing.T) {
	bubble.Run(t, 1, func(w *bubble.World) {
		ctx, cancel := context.WithCancel(w.Context())
		m := lock.New(w.Session(), "x")
		err := m.Do(ctx, func(ctx context.Context, _ coord.Token) error {
			cancel()
			<-ctx.Done()
			return ctx.Err()
		})
		if err != context.Canceled {
			t.Errorf("%v", err)
		}
		bubble.Must(m.TryLock(w.Context())).Unlock(w.Context())
	})
}

// TestSessionEndsWhileWaiting: an error, never a late grant.
func TestSessionEndsWhileWaiting(t *testing.T) {
	bubble.Run(t, 1, func(w *bubble.World) {
		held := bubble.Must(lock.New(w.Session(), "x").Lock(w.Context()))
		s := w.Session()
		got := make(chan error, 1)
		go func() {
			_, err := lock.New(s, "x").Lock(w.Context())
			got <- err
		}()
		synctest.Wait()
		w.Cluster.PauseSession(s.ID())
		time.Sleep(2 * bubble.TTL)
		held.Unlock(w.Context())
		w.Cluster.ResumeSession(s.ID())
		if err := <-got; !errors.Is(err, coord.ErrSessionExpired) {
			t.Errorf("%v", err)
		}
	})
}

// TestReadersAndSlots: readers share a lock, so do as many as a semaphore has slots; each can write under their token.
func TestReadersAndSlots(t *testing.T) {
	bubble.Run(t, 1, func(w *bubble.World) {
		s := w.Session()
		write := func(h *lock.Held) error {
			_, err := w.Client.Create(w.Context(), "/w-", nil, coord.Sequence(), coord.Fenced(h.Token()))
			return err
		}
		rw := lock.NewRW(s, "rw", lock.AtLeast(time.Second))
		r1 := bubble.Must(rw.Reader().Lock(w.Context()))
		r2 := bubble.Must(lock.NewRW(w.Session(), "rw").Reader().Lock(w.Context()))
		if _, err := lock.NewRW(w.Session(), "rw").TryLock(w.Context()); !errors.Is(err, lock.ErrHeld) {
			t.Errorf("a writer among readers: %v", err)
		}
		if err := errors.Join(write(r1), write(r2), lock.UnlockAll(w.Context(), r1, r2), write(bubble.Must(rw.Lock(w.Context())))); err != nil {
			t.Error(err)
		}
		a := bubble.Must(lock.NewSemaphore(s, "sem", 2, lock.Owner("a")).Lock(w.Context()))
		b := bubble.Must(lock.NewSemaphore(s, "sem", 2, lock.Owner("b")).Lock(w.Context()))
		if err := errors.Join(write(a), write(b)); err != nil {
			t.Error(err)
		}
		if _, err := lock.NewSemaphore(s, "sem", 2, lock.Owner("c")).TryLock(w.Context()); !errors.Is(err, lock.ErrHeld) {
			t.Errorf("a third one of two: %v", err)
		}
		if _, err := lock.NewSemaphore(s, "sem", 3, lock.Owner("d")).TryLock(w.Context()); !errors.Is(err, lock.ErrMixed) {
			t.Errorf("one who takes it for three: %v", err)
		}
		lock.UnlockAll(w.Context(), a, b)
		if err := write(a); !errors.Is(err, coord.ErrStaleToken) {
			t.Errorf("a write without the slot: %v", err)
		}
	})
}

// TestMinimumHold: a lock that was held for a moment stays taken for as long as its holder wanted.
func TestMinimumHold(t *testing.T) {
	bubble.Run(t, 1, func(w *bubble.World) {
		start := time.Now()
		held := bubble.Must(lock.New(w.Session(), "x", lock.AtLeast(time.Minute)).Lock(w.Context()))
		held.Unlock(w.Context())
		next := bubble.Must(lock.New(w.Session(), "x").Lock(w.Context()))
		if took := time.Since(start); took < time.Minute {
			t.Errorf("it was free after %s", took)
		}
		next.Unlock(w.Context())
	})
}

// TestDelay: a lock whose holder's session expires is closed to others for the delay, and open to the same owner, also
// while others wait for it.
func TestDelay(t *testing.T) {
	bubble.Run(t, 1, func(w *bubble.World) {
		dies := func(s *coord.Session) time.Time {
			w.Cluster.ExpireSession(s.ID())
			<-s.Context().Done()
			return time.Now()
		}
		s := w.Session()
		first := bubble.Must(lock.New(s, "x", lock.Owner("a"), lock.Delay(time.Minute)).Lock(w.Context()))
		dies(s)
		_, err := lock.New(w.Session(), "x", lock.Owner("b")).TryLock(w.Context())
		var held *lock.HeldError
		if !errors.As(err, &held) || held.Info.Delayed == nil || held.Info.Delayed.Owner != "a" || held.Info.Delayed.Token != first.Token().Zxid {
			t.Fatalf("%v", err)
		}
		if d := held.Info.Delayed; d.Until.Sub(d.Since) != time.Minute {
			t.Errorf("%+v", d)
		}

		waiting, got := make(chan struct{}, 10), make(chan *lock.Held)
		go func() {
			m := lock.New(w.Session(), "x", lock.Owner("b"), lock.OnWait(func(int) { waiting <- struct{}{} }))
			got <- bubble.Must(m.Lock(w.Context()))
		}()
		<-waiting
		s = w.Session()
		second := bubble.Must(lock.New(s, "x", lock.Owner("a"), lock.Delay(time.Minute)).Lock(w.Context()))
		select {
		case <-got:
			t.Fatal("both hold it")
		default:
		}
		lost := dies(s)
		third := <-got
		if took := time.Since(lost); took < time.Minute-time.Second {
			t.Errorf("it was open to another one after %s", took)
		}
		if second.Token().Zxid <= first.Token().Zxid || third.Token().Zxid <= second.Token().Zxid {
			t.Errorf("tokens %v, %v, %v", first.Token(), second.Token(), third.Token())
		}
		if err := third.Unlock(w.Context()); err != nil {
			t.Error(err)
		}
	})
}

// TestDelayIsForLosses: who unlocks, or closes the session, leaves the lock open.
func TestDelayIsForLosses(t *testing.T) {
	bubble.Run(t, 1, func(w *bubble.World) {
		s := w.Session()
		bubble.Must(lock.New(s, "x", lock.Delay(time.Hour)).Lock(w.Context())).Unlock(w.Context())
		bubble.Must(lock.New(w.Session(), "x").TryLock(w.Context())).Unlock(w.Context())
		bubble.Must(lock.NewRW(s, "rw", lock.Delay(time.Hour)).Reader().Lock(w.Context()))
		bubble.Must(lock.New(s, "y", lock.Delay(time.Hour)).Lock(w.Context()))
		if err := s.Close(w.Context()); err != nil {
			t.Fatal(err)
		}
		bubble.Must(lock.New(w.Session(), "y", lock.Delay(time.Hour)).TryLock(w.Context()))
		if err := lock.Break(w.Context(), w.Client, "y", 0, "ops"); err != nil {
			t.Fatal(err)
		}
		bubble.Must(lock.New(w.Session(), "y").TryLock(w.Context()))
	})
}

// TestSeveral: two who take the same two locks in different order don't wait for each other; all or none are taken.
func TestSeveral(t *testing.T) {
	bubble.Run(t, 1, func(w *bubble.World) {
		done := make(chan error, 20)
		for i := range 20 {
			s := w.Session()
			both := []*lock.Mutex{lock.New(s, "a"), lock.New(s, "b")}
			if i%2 == 0 {
				slices.Reverse(both)
			}
			go func() {
				held, err := lock.LockAll(w.Context(), both...)
				if err == nil {
					err = lock.UnlockAll(w.Context(), held...)
				}
				done <- errors.Join(err, s.Close(w.Context()))
			}()
		}
		for range 20 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		s := w.Session()
		held := bubble.Must(lock.New(w.Session(), "b").Lock(w.Context()))
		if _, err := lock.TryLockAll(w.Context(), lock.New(s, "a"), lock.New(s, "b")); !errors.Is(err, lock.ErrHeld) {
			t.Errorf("%v", err)
		}
		bubble.Must(lock.New(s, "a").TryLock(w.Context())).Unlock(w.Context())
		held.Unlock(w.Context())
		if _, err := lock.LockAll(w.Context(), lock.New(s, "a"), lock.New(w.Session(), "b")); err == nil {
			t.Error("locks of two sessions were taken together")
		}
	})
}

// TestFailover: a lock is held on through the death of the leader, and is passed on after it.
func TestFailover(t *testing.T) {
	bubble.Run(t, 3, func(w *bubble.World) {
		held := bubble.Must(lock.New(w.Session(), "x").Lock(w.Context()))
		got := make(chan *lock.Held, 1)
		next := w.Session()
		go func() { got <- bubble.Must(lock.New(next, "x").Lock(w.Context())) }()
		synctest.Wait()
		w.Cluster.Kill(w.Cluster.Leader())
		w.Cluster.Leader()
		time.Sleep(2 * bubble.TTL)
		if err := context.Cause(held.Context()); err != nil {
			t.Fatalf("the lock was lost: %v", err)
		}
		if err := held.Unlock(w.Context()); err != nil {
			t.Error(err)
		}
		if h := <-got; h.Token().Zxid <= held.Token().Zxid {
			t.Errorf("the tokens are %v and %v", held.Token(), h.Token())
		}
	})
}

// TestBadLocks: names and options that can't be are refused when the lock is wanted.
func TestBadLocks(t *testing.T) {
	bubble.Run(t, 1, func(w *bubble.World) {
		s := w.Session()
		for what, m := range map[string]*lock.Mutex{
			"no name": lock.New(s, ""), "a slash": lock.New(s, "a/b"), "the root": lock.New(s, "/"),
			"no slots": lock.NewSemaphore(s, "x", 0), "a hold of a part": lock.New(s, "x", lock.AtLeast(time.Microsecond)),
			"a delay of a part": lock.New(s, "x", lock.Delay(time.Microsecond)), "a delay of days": lock.New(s, "x", lock.Delay(25*time.Hour)),
			"a hold of a slot": lock.NewSemaphore(s, "x", 2, lock.AtLeast(time.Second)), "an owner": lock.New(s, "x", lock.Owner("\xff")),
		} {
			var e *coord.Error
			if _, err := m.Lock(w.Context()); !errors.As(err, &e) || e.Outcome != coord.Refused {
				t.Errorf("%s: %v", what, err)
			}
		}
		if _, err := lock.Inspect(w.Context(), w.Client, "never"); !errors.Is(err, lock.ErrNoLock) {
			t.Errorf("%v", err)
		}
		held := bubble.Must(lock.New(s, "/some/where").Lock(w.Context()))
		for name, err := range lock.Names(w.Context(), w.Client) {
			t.Errorf("%s, %v", name, err)
		}
		held.Unlock(w.Context())
	})
}

// TestUnlockWithoutAService: who can't wait for an answer isn't kept, and the lock is free later.
func TestUnlockWithoutAService(t *testing.T) {
	bubble.Run(t, 1, func(w *bubble.World) {
		s := w.Session()
		held := bubble.Must(lock.New(s, "x").Lock(w.Context()))
		w.Cluster.PauseSession(s.ID())
		ctx, cancel := context.WithTimeout(w.Context(), time.Second)
		defer cancel()
		if err := held.Unlock(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
		w.Cluster.ResumeSession(s.ID())
		bubble.Must(lock.New(w.Session(), "x").Lock(w.Context())).Unlock(w.Context())
	})
}
