package recipe

import (
	"context"
	"math/rand/v2"
	"testing"

	"github.com/coord-kv/coord/op"
)

// TestObserveAtAnyMoment: whatever happens between the reads of an observer, it sees the leader who stays.
func TestObserveAtAnyMoment(t *testing.T) {
	for seed := range uint64(300) {
		w := newWorld(t)
		var last Leader
		var seen []op.Zxid
		w.spawn("observer", func(ctx context.Context, task *task) {
			defer stopped()
			o, err := Observe(w.open().as(task), "x")
			for err == nil {
				if last, err = o.Next(ctx); err == nil {
					seen = append(seen, last.Token)
				}
			}
			t.Errorf("seed %d: %v", seed, err)
		})
		var led []op.Zxid
		for _, id := range []string{"first", "second"} {
			c := w.open()
			w.spawn(id, func(ctx context.Context, task *task) {
				defer stopped()
				e, err := NewElection(c.as(task), Candidacy{Name: "x", ID: id, Rand: w})
				if err != nil {
					t.Error(err)
					return
				}
				term, err := e.Campaign(ctx)
				if err != nil {
					t.Errorf("seed %d: %v", seed, err)
					return
				}
				if led = append(led, term.Token); len(led) == 1 {
					term.Resign(ctx)
				}
			})
		}
		w.run(rand.New(rand.NewPCG(seed, 0)), nil)
		if len(led) != 2 || last.Token != led[1] {
			t.Errorf("seed %d: %v led, %v were seen", seed, led, seen)
		}
	}
}
