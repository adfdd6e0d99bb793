package counter_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coord-kv/coord/coord"
	"github.com/coord-kv/coord/coord/counter"
	"github.com/coord-kv/coord/coord/internal/bubble"
)

// TestCounter: what changes lead to, and what can't be.
func TestCounter(t *testing.T) {
	bubble.Run(t, 1, func(w *bubble.World) {
		ctx, c := w.Context(), counter.New(w.Client, "hits")
		want := func(n int64, v int64, err error) {
			t.Helper()
			if v != n || err != nil {
				t.Errorf("%d, %v, not %d", v, err, n)
			}
		}
		get := func(n int64) {
			t.Helper()
			v, err := c.Get(ctx)
			want(n, v, err)
		}
		get(0)
		v, err := c.Add(ctx, 3)
		want(3, v, err)
		v, err = c.AddWithin(ctx, -2, 0, 3)
		want(1, v, err)
		if _, err := c.AddWithin(ctx, -2, 0, 3); !errors.Is(err, counter.ErrOutOfBounds) {
			t.Errorf("below the bounds: %v", err)
		}
		if _, err := c.Add(ctx, counter.Limit); !errors.Is(err, counter.ErrOutOfBounds) {
			t.Errorf("beyond the limit: %v", err)
		}
		get(1)
		if err := errors.Join(c.Set(ctx, -7), c.Delete(ctx)); err != nil {
			t.Error(err)
		}
		get(0)
		if err := c.Delete(ctx); !errors.Is(err, coord.ErrNoNode) {
			t.Errorf("deleted twice: %v", err)
		}
		if err := c.Set(ctx, counter.Limit+1); err == nil {
			t.Error("set beyond the limit")
		}
		bad := counter.New(w.Client, "a/b")
		_, errAdd := bad.Add(ctx, 1)
		for _, err := range bad.Watch(ctx) {
			errAdd = errors.Join(errAdd, err)
		}
		if !errors.Is(errAdd, coord.ErrBadPath) || !errors.Is(bad.Delete(ctx), coord.ErrBadPath) {
			t.Errorf("a name with a slash: %v", errAdd)
		}
		w.Client.Create(ctx, "/counters/text", []byte("many"))
		if _, err := counter.New(w.Client, "text").Add(ctx, 1); err == nil {
			t.Error("what is no number was counted")
		}
	})
}

// TestFaults: while members die, stand still and are cut off, every addition of a session counts once.
func TestFaults(t *testing.T) {
	bubble.Run(t, 3, func(w *bubble.World) {
		const programs, each = 3, 40
		done := make(chan error, programs)
		for range programs {
			c := counter.New(w.Session(), "hits")
			go func() {
				for range each {
					if _, err := c.Add(w.Context(), 1); err != nil {
						done <- err
						return
					}
					time.Sleep(50 * time.Millisecond)
				}
				done <- nil
			}()
		}
		for i := range 3 {
			time.Sleep(500 * time.Millisecond)
			switch leader := w.Cluster.Leader(); i {
			case 0:
				w.Cluster.Kill(leader)
				w.Cluster.Leader()
				w.Cluster.Restart(leader)
			case 1:
				w.Cluster.Pause(leader)
				time.Sleep(3 * time.Second)
				w.Cluster.Resume(leader)
			case 2:
				w.Cluster.Partition(leader)
				time.Sleep(3 * time.Second)
				w.Cluster.Heal()
			}
		}
		for range programs {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if v, err := counter.New(w.Client, "hits").Get(w.Context()); v != programs*each || err != nil {
			t.Errorf("%d, %v, of %d", v, err, programs*each)
		}
	})
}

// TestWatch: the value as it is, and what it has become, until the loop ends or the Client does.
func TestWatch(t *testing.T) {
	bubble.Run(t, 1, func(w *bubble.World) {
		c := counter.New(w.Session(), "hits")
		ctx, cancel := context.WithCancel(w.Context())
		seen := make(chan int64)
		ended := make(chan error, 1)
		go func() {
			for v, err := range counter.New(w.Client, "hits").Watch(ctx) {
				if err != nil {
					ended <- err
					return
				}
				seen <- v
			}
		}()
		for n := int64(0); n < 3; n++ {
			if v := <-seen; v != n {
				t.Errorf("saw %d, not %d", v, n)
			}
			bubble.Must(c.Add(w.Context(), 1))
		}
		<-seen
		synctest.Wait()
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("ended with %v", err)
		}
	})
}
