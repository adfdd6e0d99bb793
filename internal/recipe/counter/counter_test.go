package counter_test

import (
	"context"
	"flag"
	"fmt"
	"testing"

	"github.com/coord-kv/coord/internal/recipe/counter"
	"github.com/coord-kv/coord/internal/recipe/lab"
	"github.com/coord-kv/coord/op"
)

var (
	seeds = flag.Uint64("seeds", 200, "interleavings to play")
	first = flag.Uint64("first-seed", 1, "the first of them")
)

// TestSeeds: the value is the sum of what was added, each acknowledged addition counted once, those of killed programs at
// most once; it never leaves the bounds; and no two additions lead to the same value when all go up.
func TestSeeds(t *testing.T) {
	for seed := *first; seed < *first+*seeds; seed++ {
		if err := playSeed(seed); err != nil {
			t.Fatalf("-seeds 1 -first-seed %d: %v", seed, err)
		}
	}
}

func playSeed(seed uint64) (failure error) {
	w, ctx := lab.New(seed), context.Background()
	bounds := counter.Bounds{Min: 0, Max: 9}
	reached, acked, started := map[int64]bool{}, int64(0), int64(0)
	for range 4 {
		conn := w.Guest()
		task := w.Go(func() {
			c, err := counter.New(conn, "hits")
			for range 4 {
				started++
				v, addErr := c.Add(ctx, 1, bounds)
				if err != nil || addErr != nil {
					started--
					continue
				}
				if acked++; reached[v.N] || v.N > bounds.Max {
					failure = fmt.Errorf("%d was reached twice, or is out of bounds", v.N)
				}
				reached[v.N] = true
			}
		})
		if w.Chance(3) {
			for range w.Rand.IntN(30) {
				w.Step()
			}
			w.Kill(task)
		}
	}
	w.Run()
	c, err := counter.New(w.Guest(), "hits")
	if err != nil {
		return err
	}
	v, err := c.Get(ctx, op.ReadOptions{})
	if err == nil && failure == nil && (v.N < acked || v.N > started || v.N > bounds.Max) {
		failure = fmt.Errorf("%d were acknowledged of %d, and it is at %d", acked, started, v.N)
	}
	if err != nil {
		return err
	}
	return failure
}

// TestBounds: what would lead out of the bounds changes nothing, and no sum overflows.
func TestBounds(t *testing.T) {
	ctx := context.Background()
	c, err := counter.New(lab.New(1).Guest(), "seats")
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		delta, lo, hi, want int64
		ok                  bool
	}{
		{5, 0, 5, 5, true},
		{1, 0, 5, 5, false},
		{-6, 0, 5, 5, false},
		{-5, 0, 5, 0, true},
		{1<<63 - 1, -1 << 63, 1<<63 - 1, 0, false},
		{-1 << 63, -1 << 63, 1<<63 - 1, 0, false},
		{counter.Limit, -1 << 63, 1<<63 - 1, counter.Limit, true},
		{1, -1 << 63, 1<<63 - 1, counter.Limit, false},
		{-2 * counter.Limit, -1 << 63, 1<<63 - 1, -counter.Limit, true},
		{0, 0, 5, -counter.Limit, true},
	} {
		_, err := c.Add(ctx, step.delta, counter.Bounds{Min: step.lo, Max: step.hi})
		v, getErr := c.Get(ctx, op.ReadOptions{})
		if (err == nil) != step.ok || getErr != nil || v.N != step.want {
			t.Errorf("%+v: %v, then %d, %v", step, err, v.N, getErr)
		}
	}
	if _, err := c.Set(ctx, counter.Limit+1); err == nil {
		t.Error("a value beyond the limit was set")
	}
}
