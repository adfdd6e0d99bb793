package config_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/coord-kv/coord/coord"
	"github.com/coord-kv/coord/coord/config"
	"github.com/coord-kv/coord/coord/coordtest"
)

func TestChanges(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, cluster *coordtest.Cluster) {
		c, ctx := cluster.Client(t), t.Context()
		none, err := config.Get(ctx, c, "shop")
		if err != nil || none.Number != 0 || none.Version.Zxid != 0 || len(none.Values) != 0 {
			t.Fatal(none, err)
		}
		first, err := config.Set(ctx, c, "shop", map[string]string{"a": "1", "b": "1"},
			config.Author("ann"), config.Comment("why not"), config.IfUnchanged(none.Version))
		if err != nil || first.Number != 1 || first.Set != 2 || first.Author != "ann" || first.Comment != "why not" || first.Time.IsZero() {
			t.Fatal(first, err)
		}
		if _, err := config.Delete(ctx, c, "shop", []string{"b"}, config.IfUnchanged(none.Version)); !errors.Is(err, coord.ErrNodeExists) {
			t.Error(err)
		}
		second, err := config.Delete(ctx, c, "shop", []string{"b", "zzz"}, config.IfUnchanged(first))
		if err != nil || second.Number != 2 || second.Deleted != 1 {
			t.Error(second, err)
		}
		if _, err := config.Replace(ctx, c, "shop", nil, config.IfUnchanged(first)); !errors.Is(err, coord.ErrBadVersion) {
			t.Error(err)
		}
		if same, err := config.Set(ctx, c, "shop", map[string]string{"a": "1"}); err != nil || same != second {
			t.Error("it changes nothing, and makes a version:", same, err)
		}
		third, err := config.Replace(ctx, c, "shop", map[string]string{"c": "3"})
		if err != nil || third.Set != 1 || third.Deleted != 1 {
			t.Error(third, err)
		}
		fourth, err := config.Rollback(ctx, c, "shop", 1, config.Author("bob"))
		if err != nil || fourth.RolledBackTo != 1 || fourth.Author != "bob" {
			t.Error(fourth, err)
		}
		now, err := config.Get(ctx, c, "shop")
		old, err2 := config.At(ctx, c, "shop", 1)
		if err != nil || err2 != nil || now.Version != fourth || old.Version != first || len(config.Diff(old, now)) != 0 {
			t.Error(now, old, err, err2)
		}
		list, err := config.History(ctx, c, "shop")
		if err != nil || fmt.Sprint(list) != fmt.Sprint([]config.Version{fourth, third, second, first}) {
			t.Error(list, err)
		}
		ofA, err := config.KeyHistory(ctx, c, "shop", "a")
		if err != nil || len(ofA) != 3 || ofA[0].Version != fourth || ofA[1].Version != third || ofA[2].Version != first ||
			*ofA[0].Value != "1" || ofA[1].Value != nil || *ofA[2].Value != "1" {
			t.Errorf("the second version has not changed it: %+v, %v", ofA, err)
		}
		if none, err := config.KeyHistory(ctx, c, "shop", "zzz"); err != nil || len(none) != 0 {
			t.Error(none, err)
		}
		if _, err := config.KeyHistory(ctx, c, "shop", "a/b"); !errors.Is(err, coord.ErrBadPath) {
			t.Error(err)
		}
		if _, err := config.At(ctx, c, "shop", 99); !errors.Is(err, coord.ErrNoNode) {
			t.Error(err)
		}
		if _, err := config.Rollback(ctx, c, "shop", 99); !errors.Is(err, coord.ErrNoNode) {
			t.Error(err)
		}
		fifth, err := config.RollbackKeys(ctx, c, "shop", 3, []string{"b", "c"}, config.Comment("these two"))
		now, _ = config.Get(ctx, c, "shop")
		if err != nil || fifth.Number != 5 || fifth.RolledBackTo != 0 || fifth.Comment != "these two" || fmt.Sprint(now.Values) != "map[a:1 c:3]" {
			t.Error(fifth, now, err)
		}
		if same, err := config.RollbackKeys(ctx, c, "shop", 1, nil); err != nil || same != fifth {
			t.Error("without keys:", same, err)
		}
		if _, err := config.RollbackKeys(ctx, c, "shop", 1, []string{"a/b"}); !errors.Is(err, coord.ErrBadPath) {
			t.Error(err)
		}
		if apps, err := config.Apps(ctx, c); err != nil || fmt.Sprint(apps) != "[shop]" {
			t.Error(apps, err)
		}
		two, _ := config.At(ctx, c, "shop", 2)
		d := config.Diff(two, now)
		if len(d) != 1 || d[0].Key != "c" || d[0].From != nil || *d[0].To != "3" {
			t.Error(d)
		}
	})
}

// A change that was refused has changed nothing, and says why.
func TestChangesRefused(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, cluster *coordtest.Cluster) {
		c := cluster.Client(t)
		many := map[string]string{}
		for i := range 1001 {
			many[fmt.Sprint("k", i)] = ""
		}
		for what, values := range map[string]map[string]string{
			"begins with a dot": {"a": "1", ".b": "1"}, `"" can't be a name`: {"": "1"}, `"a/b" can't be a name`: {"a/b": "1"},
			"is not UTF-8": {"a": "\xff"}, "too_large": many, "the limit is 262144": {"a": strings.Repeat("x", 300_000)},
		} {
			if _, err := config.Set(t.Context(), c, "shop", values); err == nil || !strings.Contains(err.Error(), what) {
				t.Errorf("%q: %v", what, err)
			}
		}
		if _, err := config.Set(t.Context(), c, "shop", map[string]string{"a": "1"}, config.Author(strings.Repeat("x", 513))); err == nil {
			t.Error("an author of 513 bytes is accepted")
		}
		if all, err := config.Get(t.Context(), c, "shop"); err != nil || all.Number != 0 {
			t.Error(all, err)
		}
		failed := errors.New("no")
		if _, err := config.Update(t.Context(), c, "shop", func(map[string]string) error { return failed }); err != failed {
			t.Error(err)
		}
		// A node that is no value is in the way: that is told, not tried for ever.
		if _, err := c.Create(t.Context(), "/config/shop/dir/x", nil, coord.Parents()); err != nil {
			t.Fatal(err)
		}
		_, err := config.Update(t.Context(), c, "shop", func(values map[string]string) error { values["dir"] = "1"; return nil })
		if !errors.Is(err, coord.ErrNodeExists) {
			t.Error(err)
		}
	})
}

func TestWatch(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, cluster *coordtest.Cluster) {
		c := cluster.Client(t)
		n := int64(0)
		for all, err := range config.Watch(t.Context(), c, "shop") {
			if err != nil || all.Number != n {
				t.Fatal(all, n, err)
			}
			if n++; n == 4 {
				break
			}
			set(t, c, fmt.Sprint("a=", n))
		}
		for _, err := range config.Watch(t.Context(), c, ".shop") {
			if err == nil {
				t.Error("a wrong name is accepted")
			}
		}
		c.Close()
		for _, err := range config.Watch(t.Context(), c, "shop") {
			if err != coord.ErrClosed {
				t.Error(err)
			}
		}
	})
}
