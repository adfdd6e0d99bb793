package queue_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coord-kv/coord/coord"
	"github.com/coord-kv/coord/coord/internal/bubble"
	"github.com/coord-kv/coord/coord/queue"
)

// TestOrder: priorities first, then as they were pushed; one that is returned has its place again.
func TestOrder(t *testing.T) {
	bubble.Run(t, 1, func(w *bubble.World) {
		ctx := w.Context()
		in, out := queue.New(w.Client, "jobs"), queue.New(w.Session(), "jobs")
		for i, p := range []int{0, 0, 9, 0} {
			bubble.Must(in.Push(ctx, []byte(fmt.Sprint(i)), queue.Priority(p)))
		}
		var got []string
		for i := range 5 {
			x := bubble.Must(out.TryReceive(ctx))
			got = append(got, string(x.Data))
			settle := x.Ack
			if i == 1 {
				settle = x.Return
			}
			if err := settle(ctx); err != nil || context.Cause(x.Context()) != context.Canceled {
				t.Errorf("%v, and its context ended with %v", err, context.Cause(x.Context()))
			}
			if err := x.Ack(ctx); !errors.Is(err, queue.ErrNotHeld) {
				t.Errorf("settled twice: %v", err)
			}
		}
		if want := []string{"2", "0", "0", "1", "3"}; !slices.Equal(got, want) {
			t.Errorf("received %v, not %v", got, want)
		}
		if _, err := out.TryReceive(ctx); !errors.Is(err, queue.ErrEmpty) {
			t.Errorf("%v", err)
		}
		if _, err := in.Receive(ctx); err == nil {
			t.Error("received without a session")
		}
	})
}

// TestConsumerDies: what it had is somebody else's when its session has ended, and it is told so.
func TestConsumerDies(t *testing.T) {
	bubble.Run(t, 1, func(w *bubble.World) {
		ctx, s := w.Context(), w.Session()
		dies, next := queue.New(s, "jobs"), queue.New(w.Session(), "jobs")
		bubble.Must(next.Push(ctx, []byte("one")))
		x := bubble.Must(dies.Receive(ctx))
		got := make(chan *queue.Item, 1)
		go func() { got <- bubble.Must(next.Receive(ctx)) }()
		synctest.Wait()
		w.Cluster.PauseSession(s.ID())
		<-x.Context().Done()
		y := <-got
		if y.ID != x.ID || y.Token <= x.Token || string(y.Data) != "one" {
			t.Errorf("after %+v came %+v", x, y)
		}
		w.Cluster.ResumeSession(s.ID())
		if err := x.Ack(ctx); !errors.Is(err, coord.ErrSessionExpired) {
			t.Errorf("acknowledged by one who had lost it: %v", err)
		}
		if err := y.Ack(ctx); err != nil {
			t.Error(err)
		}
		if i := bubble.Must(next.Info(ctx)); i.Len != 0 || i.Received != 0 {
			t.Errorf("%+v", i)
		}
	})
}

// TestDo: nil acknowledges, an error and a panic return.
func TestDo(t *testing.T) {
	bubble.Run(t, 1, func(w *bubble.World) {
		ctx, q, mine := w.Context(), queue.New(w.Session(), "jobs"), errors.New("mine")
		bubble.Must(q.Push(ctx, []byte("x")))
		if err := q.Do(ctx, func(context.Context, *queue.Item) error { return mine }); !errors.Is(err, mine) {
			t.Errorf("%v", err)
		}
		func() {
			defer func() { recover() }()
			q.Do(ctx, func(context.Context, *queue.Item) error { panic("now") })
		}()
		if i := bubble.Must(q.Info(ctx)); i.Len != 1 || i.Received != 0 {
			t.Errorf("it wasn't returned: %+v", i)
		}
		if err := q.Do(ctx, func(context.Context, *queue.Item) error { return nil }); err != nil {
			t.Error(err)
		}
		if i := bubble.Must(q.Info(ctx)); i.Len != 0 {
			t.Errorf("it wasn't acknowledged: %+v", i)
		}
		bubble.Must(q.Push(ctx, nil))
		err := q.Do(ctx, func(ctx context.Context, x *queue.Item) error { return x.Ack(ctx) })
		if err != nil {
			t.Errorf("acknowledged by itself: %v", err)
		}
		bubble.Must(q.Push(ctx, nil))
		err = q.Do(ctx, func(context.Context, *queue.Item) error { return q.Delete(ctx) })
		if !errors.Is(err, queue.ErrNotHeld) {
			t.Errorf("the queue was deleted meanwhile: %v", err)
		}
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		if err := q.Do(ctx, nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("nothing came: %v", err)
		}
	})
}

// TestLimits: what is in a queue, and that it can be full.
func TestLimits(t *testing.T) {
	bubble.Run(t, 1, func(w *bubble.World) {
		ctx, q := w.Context(), queue.New(w.Session(), "jobs")
		if _, err := q.Info(ctx); !errors.Is(err, coord.ErrNoNode) {
			t.Errorf("%v", err)
		}
		for range q.Items(ctx) {
			t.Error("a queue that isn't there has an item")
		}
		if err := q.Configure(ctx, queue.Limits{Items: 2, Bytes: 100}); err != nil {
			t.Fatal(err)
		}
		bubble.Must(q.Push(ctx, []byte("a")))
		bubble.Must(q.Push(ctx, []byte("b"), queue.Priority(queue.MaxPriority)))
		if _, err := q.Push(ctx, nil); !errors.Is(err, queue.ErrFull) {
			t.Errorf("%v", err)
		}
		if _, err := q.Push(ctx, nil, queue.Priority(queue.MaxPriority+1)); err == nil {
			t.Error("a priority beyond the highest")
		}
		x := bubble.Must(q.Receive(ctx))
		var all []string
		for i, err := range q.Items(ctx) {
			all = append(all, fmt.Sprintf("%s %d %v %v", i.Data, i.Priority, i.Token == x.Token, err))
		}
		if want := []string{"b 99 true <nil>", "a 0 false <nil>"}; !slices.Equal(all, want) {
			t.Errorf("%v", all)
		}
		if i := bubble.Must(q.Info(ctx)); i != (queue.Info{Limits: queue.Limits{Items: 2, Bytes: 100}, Len: 2, Received: 1}) {
			t.Errorf("%+v", i)
		}
		if _, err := queue.New(w.Client, "a/b").Push(ctx, nil); !errors.Is(err, coord.ErrBadPath) {
			t.Errorf("%v", err)
		}
	})
}

// TestFaults: while members and consumers die, every item is acknowledged, once, and in the end none is left.
func TestFaults(t *testing.T) {
	bubble.Run(t, 3, func(w *bubble.World) {
		const items, consumers = 40, 3
		ctx, cancel := context.WithCancel(w.Context())
		defer cancel()
		var mu sync.Mutex
		acked := map[string]int{}
		var tasks sync.WaitGroup
		for i := range consumers {
			s := w.Session()
			tasks.Go(func() {
				q := queue.New(s, "jobs")
				for n := 0; ; n++ {
					x, err := q.Receive(ctx)
					if ctx.Err() != nil {
						return
					}
					if errors.Is(err, coord.ErrSessionExpired) {
						s = w.Session() // as a program that is started again
						q = queue.New(s, "jobs")
						continue
					}
					if err != nil {
						t.Error(err)
						return
					}
					time.Sleep(20 * time.Millisecond)
					if n == 3*i+2 {
						w.Cluster.ExpireSession(s.ID())
					}
					if x.Ack(ctx) == nil {
						mu.Lock()
						acked[x.ID]++
						mu.Unlock()
					}
				}
			})
		}
		in := queue.New(w.Session(), "jobs")
		for i := range items {
			if i == items/2 {
				leader := w.Cluster.Leader()
				w.Cluster.Kill(leader)
				w.Cluster.Leader()
				w.Cluster.Restart(leader)
			}
			bubble.Must(in.Push(w.Context(), []byte(fmt.Sprint(i))))
		}
		for bubble.Must(in.Info(w.Context())).Len > 0 {
			time.Sleep(time.Second)
		}
		cancel()
		tasks.Wait()
		if len(acked) != items {
			t.Errorf("%d of %d were acknowledged", len(acked), items)
		}
		for id, n := range acked {
			if n != 1 {
				t.Errorf("%s was acknowledged %d times", id, n)
			}
		}
	})
}
