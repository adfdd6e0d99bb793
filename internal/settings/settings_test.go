package settings_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/coord-kv/coord/fsm"
	"github.com/coord-kv/coord/internal/recipe"
	"github.com/coord-kv/coord/internal/recipe/lab"
	"github.com/coord-kv/coord/internal/settings"
	"github.com/coord-kv/coord/op"
)

var (
	seeds = flag.Uint64("seeds", 100, "interleavings to play")
	first = flag.Uint64("first-seed", 1, "the first of them")
)

// TestScenarios plays commits one after another. Commands:
//
//	commit APP [KEY=VALUE | KEY=]... [replace] [if=ETAG | absent]    KEY= deletes
//	get APP
//	at APP VERSION
//	history APP [KEY]
//	diff APP FROM TO
//	rollback APP VERSION [KEY]...
//	apps
//	node PATH [data]         writes around the commits; without data, deletes
//	acl PATH                 takes the permission to administer away
//	quota PATH COUNT
//	fill APP N SIZE [ctrl]   commits N times, a value of so many bytes, or control characters
//	watch APP                what a watch of Filter gets from here on
//	events
func TestScenarios(t *testing.T) {
	datadriven.Walk(t, "testdata/scenarios", func(t *testing.T, path string) {
		p := &play{w: lab.New(1)}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string { return p.command(t, d) })
	})
}

type play struct {
	w      *lab.World
	events recipe.Events
}

func (p *play) command(t *testing.T, d *datadriven.TestData) string {
	ctx, conn := context.Background(), p.w.Guest()
	s, latest := settings.New(conn), op.ReadOptions{}
	arg := func(i int) string { return d.CmdArgs[i].Key }
	number := func(i int) int64 {
		n, err := strconv.ParseInt(arg(i), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	do := func(o op.Op) string {
		_, err := conn.Do(ctx, o)
		return fmt.Sprintln(err)
	}
	switch d.Cmd {
	case "commit":
		return show(s.Commit(ctx, arg(0), change(t, d.CmdArgs[1:])))
	case "get":
		return showConfig(s.Get(ctx, arg(0), latest))
	case "at":
		return showConfig(s.At(ctx, arg(0), number(1), latest))
	case "history":
		if len(d.CmdArgs) > 1 {
			return showKeyHistory(s.KeyHistory(ctx, arg(0), arg(1), latest))
		}
		return showHistory(s.History(ctx, arg(0), latest))
	case "diff":
		return diff(ctx, s, arg(0), number(1), number(2))
	case "rollback":
		x := settings.Change{Author: "ann"}
		for _, a := range d.CmdArgs[2:] {
			x.Keys = append(x.Keys, a.Key)
		}
		return show(s.Rollback(ctx, arg(0), number(1), x))
	case "apps":
		return fmt.Sprintln(s.Apps(ctx, latest))
	case "node":
		if len(d.CmdArgs) == 1 {
			return do(&op.Delete{Path: arg(0), If: op.Always})
		}
		return do(&op.Create{Path: arg(0), Data: []byte(arg(1)), Replace: true, Parents: true})
	case "acl":
		only := []op.ACL{
			{Perms: op.AllPerm &^ op.Admin, Scheme: "world", ID: "anyone"},
			{Perms: op.AllPerm, Scheme: "digest", ID: "ann:tOQbEqjWrdzcxHExXzmrGkyXkUk="},
		}
		return do(&op.SetACL{Path: arg(0), ACL: only, Version: op.AnyVersion})
	case "quota":
		return do(&op.SetQuota{Path: arg(0), Quota: op.Quota{HardCount: number(1)}})
	case "fill":
		char := "x"
		if len(d.CmdArgs) > 3 {
			char = "\x01"
		}
		return fill(ctx, s, arg(0), number(1), strings.Repeat(char, int(number(2))))
	case "watch":
		p.events, _ = conn.Watch(ctx, settings.Filter(arg(0)), p.w.View().Zxid())
		return ""
	case "events":
		list, pos, err := p.events.Next(ctx)
		out := fmt.Sprintln("at", pos, err)
		for _, e := range list {
			out += fmt.Sprintln(e.Zxid, e.Type, e.Path)
		}
		return out
	}
	t.Fatalf("%s: unknown command %s", d.Pos, d.Cmd)
	return ""
}

func change(t *testing.T, args []datadriven.CmdArg) settings.Change {
	x := settings.Change{Values: map[string]*string{}, Author: "ann", Comment: "because"}
	for _, a := range args {
		switch {
		case a.Key == "replace":
			x.Replace = true
		case a.Key == "absent":
			x.If = &op.Cond{Absent: true}
		case a.Key == "if":
			x.If = etag(t, a.Vals[0])
		case len(a.Vals) == 0 || a.Vals[0] == "":
			x.Values[a.Key] = nil
		default:
			x.Values[a.Key] = &a.Vals[0]
		}
	}
	return x
}

func etag(t *testing.T, s string) *op.Cond {
	mzxid, version, _ := strings.Cut(s, ".")
	z, err := strconv.ParseUint(mzxid, 10, 63)
	v, err2 := strconv.ParseInt(version, 10, 32)
	if err != nil || err2 != nil {
		t.Fatal(s)
	}
	return &op.Cond{Version: int32(v), Mzxid: op.Zxid(z)}
}

func show(c settings.Committed, err error) string {
	if err != nil {
		return fmt.Sprintln(err)
	}
	return fmt.Sprintf("etag %s: %s", c.Node.ETag(), showVersion(c.Version))
}

func showVersion(v settings.Version) string {
	return fmt.Sprintf("version %d by %q: %q, set=%d deleted=%d rolled_back=%d at=%d\n", v.Number, v.Author, v.Comment, v.Set,
		v.Deleted, v.RolledBack, v.At%1e9)
}

func showConfig(c settings.Config, err error) string {
	if err != nil {
		return fmt.Sprintln(err)
	}
	out := showVersion(c.Version)
	for _, k := range slices.Sorted(maps.Keys(c.Values)) {
		out += fmt.Sprintf("%s=%.20q\n", k, c.Values[k])
	}
	return out
}

func showHistory(list []settings.Version, err error) string {
	if len(list) > 10 {
		return fmt.Sprintf("%d versions, %d to %d %v\n", len(list), list[0].Number, list[len(list)-1].Number, err)
	}
	out := fmt.Sprintln(err)
	for _, v := range list {
		out += showVersion(v)
	}
	return out
}

func showKeyHistory(list []settings.KeyVersion, err error) string {
	out := fmt.Sprintln(err)
	for _, v := range list {
		value := "nothing"
		if v.Value != nil {
			value = strconv.Quote(*v.Value)
		}
		out += fmt.Sprintf("%s: %s", value, showVersion(v.Version))
	}
	return out
}

func diff(ctx context.Context, s *settings.Settings, app string, from, to int64) string {
	a, err := s.At(ctx, app, from, op.ReadOptions{})
	if err != nil {
		return fmt.Sprintln(err)
	}
	b, err := s.At(ctx, app, to, op.ReadOptions{})
	if err != nil {
		return fmt.Sprintln(err)
	}
	text := func(v *string) string {
		if v == nil {
			return "nothing"
		}
		return strconv.Quote(*v)
	}
	out := ""
	for _, d := range settings.Diff(a, b) {
		out += fmt.Sprintf("%s: %s -> %s\n", d.Key, text(d.From), text(d.To))
	}
	return out
}

func fill(ctx context.Context, s *settings.Settings, app string, times int64, text string) string {
	for i := range times {
		v := strconv.FormatInt(i, 10) + text
		if _, err := s.Commit(ctx, app, settings.Change{Values: map[string]*string{"big": &v}}); err != nil {
			return fmt.Sprintln(err)
		}
	}
	return ""
}

// TestSeeds: whatever interleaves, each version is one more than the one before and has the values that the nodes have in
// the very state that brought it; what is acknowledged is there, once; a commit on a condition is based on the version
// that it names; and what a watch shows is each time a state as it was.
func TestSeeds(t *testing.T) {
	for seed := *first; seed < *first+*seeds; seed++ {
		if err := playSeed(seed); err != nil {
			t.Fatalf("-seeds 1 -first-seed %d: %v", seed, err)
		}
	}
}

func playSeed(seed uint64) (failure error) {
	w, ctx := lab.New(seed), context.Background()
	fail := func(format string, args ...any) {
		if failure == nil {
			failure = fmt.Errorf(format, args...)
		}
	}
	last, truth := int64(0), map[op.Zxid]string{0: "map[]"}
	w.Applied = func(v *fsm.View) {
		truth[v.Zxid()] = fmt.Sprint(valuesIn(v))
		if err := checkVersion(v, &last); err != nil {
			fail("at %d: %v", v.Zxid(), err)
		}
	}
	w.Go(func() {
		watch := settings.New(w.Guest()).Watch("app")
		for {
			c, at, err := watch.Next(ctx)
			if err != nil || fmt.Sprint(c.Values) != truth[at] {
				fail("at %d: %v is shown, and %s was there: %v", at, c.Values, truth[at], err)
				return
			}
		}
	})
	acked := map[string]bool{}
	for n := range 3 {
		task := w.Go(func() { committer(ctx, w, n, acked, fail) })
		if w.Chance(3) {
			for range w.Rand.IntN(60) {
				w.Step()
			}
			w.Kill(task)
		}
	}
	w.Run()
	versions, err := settings.New(w.Guest()).History(ctx, "app", op.ReadOptions{})
	there := map[string]int{}
	for _, v := range versions {
		if there[v.Comment]++; there[v.Comment] > 1 {
			fail("%q took effect twice", v.Comment)
		}
	}
	for comment := range acked {
		if err != nil || there[comment] != 1 {
			fail("%q was acknowledged and is not there: %v", comment, err)
		}
	}
	return failure
}

// committer commits under comments of its own, and notes which of them were acknowledged.
func committer(ctx context.Context, w *lab.World, n int, acked map[string]bool, fail func(string, ...any)) {
	s := settings.New(w.Guest())
	for i := range 4 {
		value, comment := strconv.Itoa(w.Rand.IntN(1000)), fmt.Sprintf("try-%d-%d", n, i)
		x := settings.Change{Comment: comment, Replace: w.Chance(4), Values: map[string]*string{"shared": &value}}
		x.Values[fmt.Sprint("own-", n)] = &value
		base, err := s.Get(ctx, "app", op.ReadOptions{Level: op.Eventual})
		if err == nil && base.Number > 0 && w.Chance(2) {
			x.If = &op.Cond{Version: base.Node.Version, Mzxid: base.Node.Mzxid}
		}
		c, err := s.Commit(ctx, "app", x)
		if err != nil || c.Comment != comment {
			continue
		}
		acked[comment] = true
		if x.If != nil && c.Number != base.Number+1 {
			fail("based on %d, it has become %d", base.Number, c.Number)
		}
	}
}

// valuesIn reads the values without the package under test.
func valuesIn(v *fsm.View) map[string]string {
	m := map[string]string{}
	for _, n := range v.Read(&op.Children{Path: "/config/app", WithData: true}, nil).Nodes {
		if op.Base(n.Path) != ".history" {
			m[op.Base(n.Path)] = string(n.Data)
		}
	}
	return m
}

// checkVersion checks the newest version of a state, if it is another one than the last.
func checkVersion(v *fsm.View, last *int64) error {
	var rec struct{ Version int64 }
	res := v.Read(&op.Get{Path: "/config/app"}, nil)
	if res.Err != nil || json.Unmarshal(res.Data, &rec) != nil || rec.Version == *last {
		return nil
	}
	kept := map[string]string{}
	path := fmt.Sprintf("/config/app/.history/%010d/values", rec.Version)
	if err := json.Unmarshal(v.Read(&op.Get{Path: path}, nil).Data, &kept); err != nil {
		return err
	}
	if rec.Version != *last+1 || !maps.Equal(kept, valuesIn(v)) {
		return fmt.Errorf("version %d after %d has %v, and the nodes %v", rec.Version, *last, kept, valuesIn(v))
	}
	*last = rec.Version
	return nil
}
