package barrier_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coord-kv/coord/coord"
	"github.com/coord-kv/coord/coord/barrier"
	"github.com/coord-kv/coord/coord/internal/bubble"
)

// TestBarrier: who comes while it is closed waits until it is lifted, through the death of the leader.
func TestBarrier(t *testing.T) {
	bubble.Run(t, 3, func(w *bubble.World) {
		ctx, b := w.Context(), barrier.New(w.Client, "upgrade")
		if err := errors.Join(b.Wait(ctx), b.Lift(ctx), b.Close(ctx), b.Close(ctx)); err != nil {
			t.Fatal(err)
		}
		var through atomic.Int32
		done := make(chan error, 3)
		for range 3 {
			gate := barrier.New(w.Session(), "upgrade")
			go func() {
				err := gate.Wait(ctx)
				through.Add(1)
				done <- err
			}()
		}
		synctest.Wait()
		w.Cluster.Kill(w.Cluster.Leader())
		w.Cluster.Leader()
		time.Sleep(bubble.TTL)
		if closed := bubble.Must(b.Closed(ctx)); !closed || through.Load() != 0 {
			t.Errorf("%v, and %d are through", closed, through.Load())
		}
		if err := b.Lift(ctx); err != nil {
			t.Error(err)
		}
		for range 3 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	})
}

// TestWaitEnds: with its context, and with its session.
func TestWaitEnds(t *testing.T) {
	bubble.Run(t, 1, func(w *bubble.World) {
		s := w.Session()
		b := barrier.New(s, "x")
		if err := b.Close(w.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(w.Context(), time.Minute)
		defer cancel()
		if err := b.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("its time was over: %v", err)
		}
		got := make(chan error, 1)
		go func() { got <- b.Wait(w.Context()) }()
		synctest.Wait()
		w.Cluster.ExpireSession(s.ID())
		if err := <-got; !errors.Is(err, coord.ErrSessionExpired) {
			t.Errorf("its session has ended: %v", err)
		}
		for what, err := range map[string]error{
			"wait": barrier.New(w.Client, "a/b").Wait(ctx), "latch": barrier.NewLatch(w.Client, "").Set(ctx, 1),
			"double": barrier.NewDouble(w.Session(), "..", 2).Enter(ctx),
		} {
			if !errors.Is(err, coord.ErrBadPath) {
				t.Errorf("%s at a bad name: %v", what, err)
			}
		}
	})
}

// TestLatch: it opens at the last count, for good; each id counts once, and through faults each call.
func TestLatch(t *testing.T) {
	bubble.Run(t, 3, func(w *bubble.World) {
		ctx, l := w.Context(), barrier.NewLatch(w.Session(), "loaded")
		if _, err := l.CountDown(ctx, "a"); !errors.Is(err, barrier.ErrNotSet) {
			t.Errorf("counted before it is set: %v", err)
		}
		if err := errors.Join(l.Set(ctx, 4), l.Set(ctx, 4)); err != nil {
			t.Fatal(err)
		}
		if err := l.Set(ctx, 5); !errors.Is(err, coord.ErrNodeExists) {
			t.Errorf("set to another count: %v", err)
		}
		got := make(chan error, 1)
		go func() { got <- barrier.NewLatch(w.Client, "loaded").Wait(ctx) }()
		for i, id := range []string{"a", "a", "b", "", ""} {
			if i == 2 {
				w.Cluster.Kill(w.Cluster.Leader())
			}
			if left := bubble.Must(l.CountDown(ctx, id)); left != []int{3, 3, 2, 1, 0}[i] {
				t.Errorf("after %q %d are left", id, left)
			}
			if synctest.Wait(); i < 4 && len(got) > 0 {
				t.Errorf("after %q it is open", id)
			}
		}
		if left, err := l.Left(ctx); left != 0 || err != nil {
			t.Errorf("%d, %v", left, err)
		}
		if err := errors.Join(<-got, l.Delete(ctx)); err != nil {
			t.Error(err)
		}
	})
}

// TestDouble: over several rounds, with a leader that dies, nobody begins before all are there, or is through before all
// have ended.
func TestDouble(t *testing.T) {
	bubble.Run(t, 3, func(w *bubble.World) {
		const n, rounds = 3, 4
		var began, ended [rounds]atomic.Int32
		done := make(chan error, n)
		for i := range n {
			d := barrier.NewDouble(w.Session(), "step", n)
			go func() {
				var failed error
				for r := range rounds {
					time.Sleep(time.Duration(i) * 100 * time.Millisecond)
					began[r].Add(1)
					err := d.Do(w.Context(), func(context.Context) error {
						if b := began[r].Load(); b != n {
							return fmt.Errorf("round %d begins with %d", r, b)
						}
						time.Sleep(time.Duration(n-i) * 300 * time.Millisecond)
						ended[r].Add(1)
						return nil
					})
					if e := ended[r].Load(); e != n {
						err = errors.Join(err, fmt.Errorf("round %d is over when %d have ended", r, e))
					}
					failed = errors.Join(failed, err)
				}
				done <- failed
			}()
		}
		time.Sleep(time.Second)
		w.Cluster.Kill(w.Cluster.Leader())
		for range n {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	})
}

// TestDoubleDies: one whose session ends isn't counted before the beginning and holds up nobody after it; one who gives
// up isn't in any more.
func TestDoubleDies(t *testing.T) {
	bubble.Run(t, 1, func(w *bubble.World) {
		enter := func(s *coord.Session) (*barrier.Double, chan error) {
			d, got := barrier.NewDouble(s, "step", 2), make(chan error, 1)
			go func() { got <- d.Enter(w.Context()) }()
			synctest.Wait()
			return d, got
		}
		dies, alive := w.Session(), w.Session()
		_, died := enter(dies)
		w.Cluster.ExpireSession(dies.ID())
		if err := <-died; !errors.Is(err, coord.ErrSessionExpired) {
			t.Errorf("%v", err)
		}
		ctx, cancel := context.WithTimeout(w.Context(), time.Second)
		defer cancel()
		if err := barrier.NewDouble(alive, "step", 2).Enter(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
		other := w.Session()
		if err := barrier.NewDouble(other, "step", 2).Leave(w.Context()); !errors.Is(err, barrier.ErrNotIn) {
			t.Errorf("left without having entered: %v", err)
		}
		a, gotA := enter(alive)
		if len(gotA) > 0 {
			t.Fatal("it began with those who had gone")
		}
		if err := barrier.NewDouble(alive, "step", 2).Enter(w.Context()); !errors.Is(err, coord.ErrNodeExists) {
			t.Errorf("a session entered twice: %v", err)
		}
		_, gotB := enter(other)
		if err := errors.Join(<-gotA, <-gotB); err != nil {
			t.Fatal(err)
		}
		left := make(chan error, 1)
		go func() { left <- a.Leave(w.Context()) }()
		synctest.Wait()
		if len(left) > 0 {
			t.Error("it ended while somebody was in")
		}
		w.Cluster.ExpireSession(other.ID())
		if err := <-left; err != nil {
			t.Error(err)
		}
	})
}

// TestDoLosesTheSession: the work is told, and so is the caller.
func TestDoLosesTheSession(t *testing.T) {
	bubble.Run(t, 1, func(w *bubble.World) {
		s := w.Session()
		err := barrier.NewDouble(s, "solo", 1).Do(w.Context(), func(ctx context.Context) error {
			w.Cluster.PauseSession(s.ID())
			<-ctx.Done()
			return nil
		})
		if !errors.Is(err, coord.ErrSessionExpired) {
			t.Errorf("%v", err)
		}
	})
}
