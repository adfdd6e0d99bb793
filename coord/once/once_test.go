package once_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/coord-kv/coord/coord"
	"github.com/coord-kv/coord/coord/internal/bubble"
	"github.com/coord-kv/coord/coord/once"
)

// TestOnce: one of two does it, in each period.
func TestOnce(t *testing.T) {
	bubble.Run(t, 1, func(w *bubble.World) {
		ctx, runs := w.Context(), 0
		a := once.New(w.Session(), "backup", time.Hour, once.Owner("a"))
		b := once.New(w.Session(), "backup", time.Hour, once.Owner("b"))
		if _, err := once.Last(ctx, w.Client, "backup"); !errors.Is(err, coord.ErrNoNode) {
			t.Errorf("the record of nothing: %v", err)
		}
		err := a.Do(ctx, func(ctx context.Context) error {
			runs++
			if err := b.Do(ctx, nil); !errors.Is(err, once.ErrRunning) {
				t.Errorf("beside a run: %v", err)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Do(ctx, nil); !errors.Is(err, once.ErrDone) {
			t.Errorf("after a run: %v", err)
		}
		r, err := once.Last(ctx, w.Client, "backup")
		if err != nil || r.Owner != "a" || r.Status != "ok" || r.Failed || r.Ended.Before(r.Began) {
			t.Errorf("%+v, %v", r, err)
		}
		time.Sleep(2 * time.Hour) // virtual
		broken := errors.New("no disk")
		if err := b.Do(ctx, func(context.Context) error { return broken }); !errors.Is(err, broken) {
			t.Errorf("a run that failed: %v", err)
		}
		if r, err := once.Last(ctx, w.Client, "backup"); err != nil || !r.Failed || r.Status != "no disk" {
			t.Errorf("%+v, %v", r, err)
		}
		if err := a.Do(ctx, func(context.Context) error { runs++; return nil }); err != nil || runs != 2 {
			t.Errorf("after a run that failed: %v", err)
		}
		if err := once.New(w.Session(), "a/b", time.Hour).Do(ctx, nil); !errors.Is(err, coord.ErrBadPath) {
			t.Errorf("a name with a slash: %v", err)
		}
		if _, err := once.New(w.Session(), "x", 0).Begin(ctx); err == nil {
			t.Error("a period of nothing was begun")
		}
	})
}

// TestDeath: if whoever runs it dies, the next one begins again, and with AtMostOnce it doesn't.
func TestDeath(t *testing.T) {
	bubble.Run(t, 3, func(w *bubble.World) {
		ctx := w.Context()
		for _, name := range []string{"retried", "given-up"} {
			s := w.Session()
			run, err := once.New(s, name, time.Hour).Begin(ctx)
			if err != nil {
				t.Fatal(err)
			}
			w.Cluster.ExpireSession(s.ID())
			<-run.Context().Done()
			if err := run.End(ctx, "ok"); err == nil {
				t.Error("a run was finished without its session")
			}
		}
		if err := once.New(w.Session(), "retried", time.Hour).Do(ctx, func(context.Context) error { return nil }); err != nil {
			t.Error(err)
		}
		if err := once.New(w.Session(), "given-up", time.Hour, once.AtMostOnce()).Do(ctx, nil); !errors.Is(err, once.ErrDone) {
			t.Errorf("at most once: %v", err)
		}
	})
}
