package barrier_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"testing"

	"github.com/coord-kv/coord/internal/recipe/barrier"
	"github.com/coord-kv/coord/internal/recipe/lab"
	"github.com/coord-kv/coord/op"
)

var (
	seeds = flag.Uint64("seeds", 300, "interleavings to play")
	first = flag.Uint64("first-seed", 1, "the first of them")
)

func eachSeed(t *testing.T, play func(w *lab.World) error) {
	for seed := *first; seed < *first+*seeds; seed++ {
		if err := play(lab.New(seed)); err != nil {
			t.Fatalf("-seeds 1 -first-seed %d: %v", seed, err)
		}
	}
}

// TestBarrier: nobody gets on while it is closed, and everybody when it is lifted.
func TestBarrier(t *testing.T) {
	ctx := context.Background()
	eachSeed(t, func(w *lab.World) (problem error) {
		owner, err := barrier.New(w.Guest(), "gate")
		if err != nil {
			return err
		}
		if err := errors.Join(owner.Close(ctx), owner.Close(ctx)); err != nil {
			return err
		}
		through, lifting := 0, false
		for range 3 {
			b, err := barrier.New(w.Guest(), "gate")
			if err != nil {
				return err
			}
			w.Go(func() {
				if err := b.Wait(ctx); err != nil || !lifting {
					problem = fmt.Errorf("through, and lifted is %v: %v", lifting, err)
				}
				through++
			})
		}
		for range w.Rand.IntN(20) {
			w.Step()
		}
		lifting = true
		if err := errors.Join(owner.Lift(ctx), owner.Lift(ctx)); err != nil {
			return err
		}
		w.Run()
		if through != 3 && problem == nil {
			problem = fmt.Errorf("%d of 3 got through", through)
		}
		return problem
	})
}

// TestLatch: it opens at the last count and not before, for those who wait before it is set, too; each id counts once,
// also if its program is killed and starts again.
func TestLatch(t *testing.T) {
	ctx := context.Background()
	eachSeed(t, func(w *lab.World) (problem error) {
		counted, through := map[string]bool{}, 0
		latch := func() *barrier.Latch {
			l, err := barrier.NewLatch(w.Guest(), "start")
			if err != nil {
				problem = err
			}
			return l
		}
		for range 2 {
			l := latch()
			w.Go(func() {
				if err := l.Wait(ctx); err != nil || len(counted) < 3 {
					problem = fmt.Errorf("open after %v: %v", counted, err)
				}
				through++
			})
		}
		for range 3 {
			l := latch()
			w.Go(func() {
				if err := l.Set(ctx, 3); err != nil {
					problem = err
				}
			})
		}
		for w.View().Read(&op.Exists{Path: "/latches/start"}, nil).Stat == nil {
			w.Step()
		}
		for i := range 5 {
			l, id := latch(), fmt.Sprint(i/2) // 0 0 1 1 2
			task := w.Go(func() {
				counted[id] = true
				if _, err := l.CountDown(ctx, id); err != nil {
					problem = err
				}
			})
			if i%2 == 1 && w.Chance(2) {
				for range w.Rand.IntN(20) {
					w.Step()
				}
				w.Kill(task)
			}
		}
		w.Run()
		if through != 2 && problem == nil {
			problem = fmt.Errorf("%d of 2 got through", through)
		}
		return problem
	})
}

// TestLatchCounts: what each count says, and that there must be a latch to count.
func TestLatchCounts(t *testing.T) {
	ctx := context.Background()
	l, err := barrier.NewLatch(lab.New(1).Guest(), "start")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.CountDown(ctx, "a"); !errors.Is(err, &op.Error{Code: op.NoNode}) {
		t.Error(err)
	}
	if err := l.Set(ctx, 0); err == nil {
		t.Error("set to 0")
	}
	if err := errors.Join(l.Set(ctx, 1), l.Delete(ctx), l.Set(ctx, 3), l.Set(ctx, 3)); err != nil {
		t.Error(err)
	}
	if err := l.Set(ctx, 2); !errors.Is(err, &op.Error{Code: op.NodeExists}) {
		t.Errorf("set to another count: %v", err)
	}
	for _, step := range []struct {
		id   string
		left int64
	}{{"a", 2}, {"a", 2}, {"", 1}, {"", 0}, {"a", 0}, {"b", 0}, {"", 0}} {
		if c, err := l.CountDown(ctx, step.id); err != nil || c.Left() != step.left || c.Open() != (step.left == 0) {
			t.Errorf("%q: %+v, %v", step.id, c, err)
		}
	}
	if ids, more, err := l.Counted(ctx, "", op.ReadOptions{}); len(ids) != 3 || more || err != nil {
		t.Errorf("%v, %v", ids, err)
	}
	if _, err := l.CountDown(ctx, "a/b"); !errors.Is(err, &op.Error{Code: op.BadPath}) {
		t.Error(err)
	}
}

// TestDouble: over several rounds, nobody begins before n have entered, nobody is through before all who began have left
// or died, and nobody waits for ever while enough are there.
func TestDouble(t *testing.T) {
	ctx := context.Background()
	const n, rounds = 3, 3
	eachSeed(t, func(w *lab.World) (problem error) {
		entered, left := make([]int, rounds), make([]int, rounds)
		through := 0
		for range n {
			conn := w.Open()
			d, err := barrier.NewDouble(conn, "step", n)
			if err != nil {
				return err
			}
			w.Go(func() {
				for i := range rounds {
					entered[i]++
					if err := d.Enter(ctx); err != nil || entered[i] < n {
						problem = fmt.Errorf("round %d begins with %d: %v", i, entered[i], err)
						return
					}
					left[i]++
					if err := d.Leave(ctx); err != nil || left[i] < n {
						problem = fmt.Errorf("round %d ends when %d have left: %v", i, left[i], err)
						return
					}
				}
				through++
			})
		}
		w.Run()
		if problem == nil && through != n {
			problem = fmt.Errorf("%d of %d got through: %v entered, %v left", through, n, entered, left)
		}
		return problem
	})
}

// TestDoubleDeath: members that die hold up nobody who has begun, and are replaced before that.
func TestDoubleDeath(t *testing.T) {
	ctx := context.Background()
	eachSeed(t, func(w *lab.World) error {
		through := 0
		member := func(conn *lab.Conn) func() {
			return func() {
				d, err := barrier.NewDouble(conn, "step", 2)
				if err == nil && d.Enter(ctx) == nil && d.Leave(ctx) == nil {
					through++
				}
			}
		}
		doomed := w.Open()
		task := w.Go(member(doomed))
		w.Go(member(w.Open()))
		for range w.Rand.IntN(60) {
			w.Step()
		}
		w.Kill(task)
		w.Expire(doomed)
		w.Run()
		w.Go(member(w.Open()))
		w.Go(member(w.Open()))
		w.Run()
		if through < 2 {
			return fmt.Errorf("only %d of those who live got through", through)
		}
		return nil
	})
}

// TestDoubleOvertaken: one who looks for the end of its round when the next has begun doesn't wait for that one's.
func TestDoubleOvertaken(t *testing.T) {
	ctx := context.Background()
	eachSeed(t, func(w *lab.World) error {
		slow, errSlow := barrier.NewDouble(w.Open(), "step", 1)
		next, errNext := barrier.NewDouble(w.Open(), "step", 1)
		if err := errors.Join(errSlow, errNext, slow.Enter(ctx)); err != nil {
			return err
		}
		var left error
		task := w.Go(func() { left = slow.Leave(ctx) })
		members := func() int {
			return int(w.View().Read(&op.Exists{Path: "/double-barriers/step/members"}, nil).Stat.NumChildren)
		}
		for members() > 0 {
			w.Step()
		}
		if err := next.Enter(ctx); err != nil { // and it stays in
			return err
		}
		if w.Run(); !task.Over() {
			return errors.New("it waits for those of the next round")
		}
		return left
	})
}
