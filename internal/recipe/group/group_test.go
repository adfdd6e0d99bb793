package group_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coord-kv/coord/internal/recipe/group"
	"github.com/coord-kv/coord/internal/recipe/lab"
	"github.com/coord-kv/coord/op"
)

var (
	seeds = flag.Uint64("seeds", 300, "interleavings to play")
	first = flag.Uint64("first-seed", 1, "the first of them")
)

func open(t *testing.T, c *lab.Conn) *group.Group {
	t.Helper()
	g, err := group.New(c, "workers")
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func ids(list []group.Member) (all []string) {
	for _, m := range list {
		all = append(all, m.ID+"="+string(m.Data))
	}
	return all
}

func has(err error, code op.Code) bool { return errors.Is(err, &op.Error{Code: code}) }

// TestMembership: who joins is there, with its data, until it leaves or its session ends; what is empty goes.
func TestMembership(t *testing.T) {
	w, ctx := lab.New(1), context.Background()
	one, two := w.Open(), w.Open()
	a, b, anybody := open(t, one), open(t, two), open(t, w.Guest())
	want := func(members ...string) {
		t.Helper()
		list, _, err := anybody.Members(ctx, op.ReadOptions{Level: op.Linearizable})
		if err != nil || !slices.Equal(ids(list), members) {
			t.Errorf("%v, %v, not %v", ids(list), err, members)
		}
	}
	want()
	join := func(g *group.Group, id, data string, replace bool, code op.Code) {
		t.Helper()
		m, err := g.Join(ctx, id, []byte(data), replace)
		if code != op.OK && !has(err, code) || code == op.OK && (err != nil || string(m.Data) != data) {
			t.Errorf("%s: %+v, %v, not %s", id, m, err, code)
		}
	}
	join(a, "a", "1", false, op.OK)
	join(b, "b", "1", false, op.OK)
	join(a, "a", "2", false, op.OK) // its own
	join(b, "a", "9", false, op.NodeExists)
	want("a=2", "b=1")
	join(b, "a", "9", true, op.OK)
	join(anybody, "c", "", false, op.BadRequest) // by no session
	join(a, "c/d", "", false, op.BadPath)
	join(a, "..", "", false, op.BadPath)
	join(a, strings.Repeat("x", 256), "", false, op.BadPath)
	if m, err := anybody.Member(ctx, "a", op.ReadOptions{}); err != nil || m.Stat.EphemeralOwner != two.Session() {
		t.Errorf("%+v, %v", m, err)
	}
	if err := a.Leave(ctx, "a", true); !has(err, op.NotHolder) {
		t.Errorf("another's member left: %v", err)
	}
	if err := a.Leave(ctx, "z", true); !has(err, op.NoNode) {
		t.Errorf("nobody left: %v", err)
	}
	m, err := a.Update(ctx, "b", func(m group.Member) ([]byte, error) { return append(m.Data, '0'), nil })
	if err != nil || string(m.Data) != "10" {
		t.Errorf("%+v, %v", m, err)
	}
	if err := errors.Join(b.Leave(ctx, "b", true), a.Leave(ctx, "a", false)); err != nil {
		t.Error(err)
	}
	want()
	w.Pass(time.Hour)
	if w.View().Read(&op.Exists{Path: "/groups/workers"}, nil).Stat != nil {
		t.Error("the directory of nobody stays")
	}
	join(a, "a", "3", false, op.OK) // and is made again
	w.Expire(one)
	want()
}

// TestMany: a group that takes more than one page is listed whole.
func TestMany(t *testing.T) {
	w, ctx := lab.New(1), context.Background()
	g := open(t, w.Open())
	data := []byte(strings.Repeat("x", 200<<10))
	for i := range 12 {
		if _, err := g.Join(ctx, fmt.Sprintf("%02d", i), data, false); err != nil {
			t.Fatal(err)
		}
	}
	list, _, err := g.Members(ctx, op.ReadOptions{})
	if err != nil || len(list) != 12 || list[11].ID != "11" {
		t.Errorf("%d, %v", len(list), err)
	}
}

// TestSeeds: members come, change, are replaced and die at any moment. Who watches sees, in the end, those whose sessions
// live and who have not left; and at no time an id of a session that had ended in the state that was shown.
func TestSeeds(t *testing.T) {
	for seed := *first; seed < *first+*seeds; seed++ {
		if err := playSeed(seed); err != nil {
			t.Fatalf("-seeds 1 -first-seed %d: %v", seed, err)
		}
	}
}

func playSeed(seed uint64) (problem error) {
	w, ctx := lab.New(seed), context.Background()
	watcher, err := group.New(w.Guest(), "workers")
	if err != nil {
		return err
	}
	dead := map[op.SessionID]op.Zxid{}
	var shown []group.Member
	w.Go(func() {
		f := watcher.Watch()
		defer f.Close()
		for {
			list, at, err := f.Next(ctx)
			if err != nil {
				problem = err
				return
			}
			shown = list
			for _, m := range list {
				if end := dead[m.Stat.EphemeralOwner]; end != 0 && end <= at {
					problem = fmt.Errorf("%s is shown as of %d, and its session ended at %d", m.ID, at, end)
				}
			}
		}
	})
	for i := range 4 {
		conn := w.Open()
		id := fmt.Sprint(i % 3) // the last one replaces the first
		g, err := group.New(conn, "workers")
		if err != nil {
			return err
		}
		task := w.Go(func() {
			for range 1 + w.Rand.IntN(3) {
				m, err := g.Join(ctx, id, []byte{byte('a' + w.Rand.IntN(3))}, true)
				if err != nil || m.Stat.EphemeralOwner != conn.Session() {
					problem = fmt.Errorf("%s has come as %+v: %v", id, m, err)
				}
				if w.Chance(3) {
					if err := g.Leave(ctx, id, true); err != nil && !has(err, op.NotHolder) && !has(err, op.NoNode) {
						problem = err
					}
				}
			}
		})
		if w.Chance(3) {
			for range w.Rand.IntN(40) {
				w.Step()
			}
			w.Kill(task)
			w.Expire(conn)
			dead[conn.Session()] = w.View().Zxid()
		}
	}
	w.Run()
	there := w.View().Read(&op.Children{Path: "/groups/workers", WithData: true, WithStat: true}, nil).Nodes
	var want []string
	for _, n := range there {
		want = append(want, op.Base(n.Path)+"="+string(n.Data))
		if dead[n.Stat.EphemeralOwner] != 0 {
			problem = fmt.Errorf("%s is there, of a session that has ended", n.Path)
		}
	}
	if problem == nil && !slices.Equal(ids(shown), want) {
		problem = fmt.Errorf("%v are there, and %v were seen last", want, ids(shown))
	}
	return problem
}
