package once_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"testing"
	"time"

	"github.com/coord-kv/coord/internal/recipe/lab"
	"github.com/coord-kv/coord/internal/recipe/once"
	"github.com/coord-kv/coord/op"
)

var (
	seeds = flag.Uint64("seeds", 200, "interleavings to play")
	first = flag.Uint64("first-seed", 1, "the first of them")
)

// TestSeeds: whatever order everything comes in and whichever sessions end, no two run at once, nothing is begun in a period
// in which it was finished, and with atMostOnce in none in which it was begun.
func TestSeeds(t *testing.T) {
	for seed := *first; seed < *first+*seeds; seed++ {
		for _, atMostOnce := range []bool{false, true} {
			if err := playSeed(seed, atMostOnce); err != nil {
				t.Fatalf("-seeds 1 -first-seed %d: %v", seed, err)
			}
		}
	}
}

// playSeed has programs run a job in one period that never ends.
func playSeed(seed uint64, atMostOnce bool) (failure error) {
	w, ctx := lab.New(seed), context.Background()
	fail := func(format string, args ...any) {
		if failure == nil {
			failure = fmt.Errorf(format, args...)
		}
	}
	var running *lab.Conn
	begun, finished, expired := 0, 0, 0
	for i := range 4 {
		conn := w.Open()
		w.Go(func() {
			o, err := once.New(conn, "job")
			if err != nil {
				fail("%v", err)
				return
			}
			run, err := o.Begin(ctx, fmt.Sprint(i), time.Hour, atMostOnce)
			if _, taken := errors.AsType[*once.Taken](err); taken || conn.Context().Err() != nil {
				return
			}
			if err != nil {
				fail("begin: %v", err)
				return
			}
			switch {
			case running != nil && running.Context().Err() == nil:
				fail("two run at once")
			case finished > 0:
				fail("it was begun again after it had been finished")
			case atMostOnce && begun > 0:
				fail("it was begun again")
			}
			running, begun = conn, begun+1
			w.Pause()
			if err := run.End(ctx, "ok", false); err == nil {
				running, finished = nil, finished+1
			} else if conn.Context().Err() == nil {
				fail("end: %v", err)
			}
		})
		if w.Chance(3) {
			for range w.Rand.IntN(20) {
				w.Step()
			}
			w.Expire(conn)
			expired++
		}
	}
	w.Run()
	if begun == 0 && expired == 0 {
		fail("nobody has begun it")
	}
	return failure
}

// TestPeriods: a new period begins when the old one is over, and a run that failed leaves it open.
func TestPeriods(t *testing.T) {
	w, ctx := lab.New(1), context.Background()
	o, err := once.New(w.Open(), "job")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := o.Last(ctx); !errors.Is(err, &op.Error{Code: op.NoNode}) {
		t.Errorf("the record of nothing: %v", err)
	}
	begin := func(want string) *once.Run {
		t.Helper()
		run, err := o.Begin(ctx, "ann", time.Minute, false)
		if got := fmt.Sprint(err); got != want {
			t.Fatalf("%s, not %s", got, want)
		}
		return run
	}
	end := func(r *once.Run, status string, failed bool) {
		t.Helper()
		if err := r.End(ctx, status, failed); err != nil {
			t.Fatal(err)
		}
	}
	run := begin("<nil>")
	begin("it is run by ann")
	end(run, "exit status 1", true)
	run = begin("<nil>")
	end(run, "ok", false)
	begin("it was run by ann in this period: ok")
	if err := run.End(ctx, "ok", false); !errors.Is(err, &op.Error{Code: op.NotHolder}) {
		t.Errorf("ended twice: %v", err)
	}
	last, err := o.Last(ctx)
	if err != nil || last.Status != "ok" || last.Owner != "ann" || last.Token != run.Token || last.Failed {
		t.Errorf("%+v, %v", last, err)
	}
	w.Pass(2 * time.Minute)
	end(begin("<nil>"), "ok", false)
	if _, err := once.New(w.Open(), "a/b"); !errors.Is(err, &op.Error{Code: op.BadPath}) {
		t.Errorf("a name with a slash: %v", err)
	}
}
