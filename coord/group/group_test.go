package group_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coord-kv/coord/coord"
	"github.com/coord-kv/coord/coord/group"
	"github.com/coord-kv/coord/coord/internal/bubble"
)

func shown(list []group.Member) (all []string) {
	for _, m := range list {
		all = append(all, m.ID+"="+string(m.Data))
	}
	return all
}

// TestMembership: who joins is there until it leaves or its session ends, and who watches sees that.
func TestMembership(t *testing.T) {
	bubble.Run(t, 1, func(w *bubble.World) {
		ctx, stop := context.WithCancel(w.Context())
		seen, ended := make(chan []string, 10), make(chan error, 1)
		go func() {
			for list, err := range group.Watch(ctx, w.Client, "workers") {
				if err != nil {
					ended <- err
					return
				}
				seen <- shown(list)
			}
		}()
		want := func(members ...string) {
			t.Helper()
			if got := <-seen; !slices.Equal(got, members) {
				t.Errorf("saw %v, not %v", got, members)
			}
			if list, err := group.Members(ctx, w.Client, "workers"); err != nil || !slices.Equal(shown(list), members) {
				t.Errorf("%v, %v, not %v", shown(list), err, members)
			}
		}
		want()
		one, two := w.Session(), w.Session()
		a := bubble.Must(group.Join(ctx, one, "workers", "a", group.Data([]byte("1"))))
		want("a=1")
		b := bubble.Must(group.Join(ctx, two, "workers", "b"))
		want("a=1", "b=")
		if err := a.SetData(ctx, []byte("2")); err != nil {
			t.Error(err)
		}
		want("a=2", "b=")
		if err := a.Leave(ctx); err != nil || context.Cause(a.Context()) != context.Canceled {
			t.Errorf("%v, and the context ended with %v", err, context.Cause(a.Context()))
		}
		want("b=")
		if err := a.Leave(ctx); !errors.Is(err, group.ErrNotMember) {
			t.Errorf("left twice: %v", err)
		}
		w.Cluster.ExpireSession(two.ID())
		<-b.Context().Done()
		want()
		// The end of the node and that of the session are told one after the other, in either order.
		over := func(err error) bool {
			return errors.Is(err, coord.ErrSessionExpired) || errors.Is(err, group.ErrNotMember)
		}
		if err := b.Leave(ctx); !over(err) {
			t.Errorf("left after its session had ended: %v", err)
		}
		if err := b.SetData(ctx, nil); !over(err) {
			t.Errorf("changed after its session had ended: %v", err)
		}
		stop()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

// TestReplace: an id is there once, and who is replaced or taken out is told so.
func TestReplace(t *testing.T) {
	bubble.Run(t, 1, func(w *bubble.World) {
		ctx := w.Context()
		old := bubble.Must(group.Join(ctx, w.Session(), "workers", "a"))
		s := w.Session()
		if _, err := group.Join(ctx, s, "workers", "a"); !errors.Is(err, coord.ErrNodeExists) {
			t.Errorf("%v", err)
		}
		now := bubble.Must(group.Join(ctx, s, "workers", "a", group.Replace(), group.Data([]byte("new"))))
		<-old.Context().Done()
		if err := context.Cause(old.Context()); !errors.Is(err, group.ErrNotMember) {
			t.Errorf("%v", err)
		}
		if err := old.Leave(ctx); !errors.Is(err, group.ErrNotMember) {
			t.Errorf("%v", err)
		}
		if list := bubble.Must(group.Members(ctx, s, "workers")); !slices.Equal(shown(list), []string{"a=new"}) {
			t.Errorf("%v", shown(list))
		}
		if err := group.Remove(ctx, w.Client, "workers", "a"); err != nil {
			t.Error(err)
		}
		<-now.Context().Done()
		if err := group.Remove(ctx, w.Client, "workers", "a"); !errors.Is(err, coord.ErrNoNode) {
			t.Errorf("%v", err)
		}
		if _, err := group.Join(ctx, s, "workers", "a/b"); !errors.Is(err, coord.ErrBadPath) {
			t.Errorf("%v", err)
		}
		if _, err := group.Members(ctx, s, ""); !errors.Is(err, coord.ErrBadPath) {
			t.Errorf("%v", err)
		}
		for _, err := range group.Watch(ctx, s, "") {
			if !errors.Is(err, coord.ErrBadPath) {
				t.Errorf("%v", err)
			}
		}
	})
}

// TestFaults: a member stays through the death and the silence of leaders, and goes when its own session is silent for
// too long.
func TestFaults(t *testing.T) {
	bubble.Run(t, 3, func(w *bubble.World) {
		ctx, s := w.Context(), w.Session()
		stays := bubble.Must(group.Join(ctx, w.Session(), "workers", "stays"))
		goes := bubble.Must(group.Join(ctx, s, "workers", "goes"))
		leader := w.Cluster.Leader()
		w.Cluster.Kill(leader)
		w.Cluster.Leader()
		w.Cluster.Restart(leader)
		w.Cluster.Partition(w.Cluster.Leader())
		time.Sleep(5 * time.Second)
		w.Cluster.Heal()
		synctest.Wait()
		if len(bubble.Must(group.Members(ctx, w.Client, "workers"))) != 2 {
			t.Error("a member whose session lives is missing")
		}
		w.Cluster.PauseSession(s.ID())
		<-goes.Context().Done()
		for list, err := range group.Watch(ctx, w.Client, "workers") {
			if err != nil {
				t.Fatal(err)
			}
			if slices.Equal(shown(list), []string{"stays="}) {
				break
			}
		}
		if err := stays.Leave(ctx); err != nil {
			t.Error(err)
		}
	})
}
