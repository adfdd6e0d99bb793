package registry_test

import (
	"context"
	"flag"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/coord-kv/coord/fsm"
	"github.com/coord-kv/coord/internal/recipe/lab"
	"github.com/coord-kv/coord/internal/registry"
	"github.com/coord-kv/coord/op"
)

var (
	seeds = flag.Uint64("seeds", 200, "interleavings to play")
	first = flag.Uint64("first-seed", 1, "the first of them")
)

// TestScenarios plays registrations one after another. Commands:
//
//	session NAME
//	expire SESSION
//	register SESSION SERVICE ID ADDRESS PORT [status=S] [tags=A,B] [replace]
//	status SESSION SERVICE ID STATUS [mine]     the reason is its input
//	deregister SESSION SERVICE ID [mine]
//	resolve SERVICE [passing] [tags=A,B]
//	services
//	watch NAME SERVICE [passing] [tags=A,B]
//	next WATCH          what comes next, or that nothing does
func TestScenarios(t *testing.T) {
	datadriven.Walk(t, "testdata/scenarios", func(t *testing.T, path string) {
		p := &play{w: lab.New(1), conns: map[string]*lab.Conn{}, watches: map[string]*registry.Watch{}}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string { return p.command(t, d) })
	})
}

type play struct {
	w       *lab.World
	conns   map[string]*lab.Conn
	watches map[string]*registry.Watch
}

func (p *play) command(t *testing.T, d *datadriven.TestData) string {
	ctx := context.Background()
	arg := func(i int) string { return d.CmdArgs[i].Key }
	switch d.Cmd {
	case "session":
		p.conns[arg(0)] = p.w.Open()
		return ""
	case "expire":
		p.w.Expire(p.conns[arg(0)])
		return ""
	case "register":
		port, err := strconv.ParseUint(arg(4), 10, 16)
		if err != nil {
			t.Fatal(err)
		}
		x := registry.Instance{Service: arg(1), ID: arg(2), Address: arg(3), Port: uint16(port), Tags: values(d, "tags")}
		for _, s := range values(d, "status") {
			x.Status = registry.Status(s)
		}
		return show(registry.New(p.conns[arg(0)]).Register(ctx, x, d.HasArg("replace")))
	case "status":
		r := registry.New(p.conns[arg(0)])
		return show(r.SetStatus(ctx, arg(1), arg(2), registry.Status(arg(3)), d.Input, d.HasArg("mine")))
	case "deregister":
		return fmt.Sprintln(registry.New(p.conns[arg(0)]).Deregister(ctx, arg(1), arg(2), d.HasArg("mine")))
	case "resolve":
		return showList(registry.New(p.w.Guest()).Resolve(ctx, arg(0), query(d), op.ReadOptions{}))
	case "services":
		list, at, err := registry.New(p.w.Guest()).Services(ctx, op.ReadOptions{})
		s := fmt.Sprintln("at", at, err)
		for _, x := range list {
			s += fmt.Sprintf("%s passing=%d warning=%d critical=%d %v\n", x.Name, x.Passing, x.Warning, x.Critical, x.Tags)
		}
		return s
	case "watch":
		p.watches[arg(0)] = registry.New(p.w.Guest()).Watch(arg(1), query(d))
		return ""
	case "next":
		out := "nothing\n"
		task := p.w.Go(func() { out = showList(p.watches[arg(0)].Next(ctx)) })
		p.w.Run()
		p.w.Kill(task)
		return out
	}
	t.Fatalf("%s: unknown command %s", d.Pos, d.Cmd)
	return ""
}

func values(d *datadriven.TestData, key string) []string {
	for _, a := range d.CmdArgs {
		if a.Key == key {
			return a.Vals
		}
	}
	return nil
}

func query(d *datadriven.TestData) registry.Query {
	return registry.Query{Passing: d.HasArg("passing"), Tags: values(d, "tags")}
}

func show(x registry.Instance, err error) string {
	if err != nil {
		return fmt.Sprintln(err)
	}
	why := ""
	if x.Reason != "" {
		why = fmt.Sprintf(" reason=%q", x.Reason)
	}
	return fmt.Sprintf("%s %s:%d %s since=%d registered=%d by=%s %v%s\n", x.ID, x.Address, x.Port, x.Status,
		x.Since%1e9, x.Registered%1e9, x.Session, x.Tags, why)
}

func showList(list []registry.Instance, at op.Zxid, err error) string {
	s := fmt.Sprintln("at", at, err)
	for _, x := range list {
		s += show(x, nil)
	}
	return s
}

// TestSeeds: whatever interleaves, each list that a watch yields is the service as it was at the position that comes with
// it, positions don't go back, and in the end the watch has shown what there is.
func TestSeeds(t *testing.T) {
	for seed := *first; seed < *first+*seeds; seed++ {
		if err := playSeed(seed); err != nil {
			t.Fatalf("-seeds 1 -first-seed %d: %v", seed, err)
		}
	}
}

func playSeed(seed uint64) (failure error) {
	w, ctx := lab.New(seed), context.Background()
	truth := map[op.Zxid]string{0: "[]"}
	w.Applied = func(v *fsm.View) { truth[v.Zxid()] = idsIn(v) }
	var shown string
	q := registry.Query{Passing: true}
	w.Go(func() {
		watch, before := registry.New(w.Guest()).Watch("web", q), op.Zxid(0)
		for {
			list, at, err := watch.Next(ctx)
			shown = ids(list)
			switch {
			case err != nil:
				failure = err
				return
			case at < before:
				failure = fmt.Errorf("the position goes back from %d to %d", before, at)
			case shown != truth[at]:
				failure = fmt.Errorf("at %d: %s is shown, and %s was there", at, shown, truth[at])
			}
			before = at
		}
	})
	for n := range 4 {
		c := w.Open()
		task := w.Go(func() { instanceLife(ctx, w, c, n) })
		if w.Chance(2) {
			for range w.Rand.IntN(40) {
				w.Step()
			}
			w.Kill(task)
			w.Expire(c)
		}
	}
	w.Run()
	if now := idsIn(w.View()); failure == nil && shown != now {
		failure = fmt.Errorf("in the end %s is shown, and %s is there", shown, now)
	}
	return failure
}

// instanceLife is what one program does with two ids, one of which others want as well.
func instanceLife(ctx context.Context, w *lab.World, c *lab.Conn, n int) {
	r := registry.New(c)
	for range 4 {
		id := []string{"shared", fmt.Sprint("own-", n)}[w.Rand.IntN(2)]
		x := registry.Instance{Service: "web", ID: id, Address: "10.0.0.1", Port: 80}
		switch w.Rand.IntN(4) {
		case 0:
			r.SetStatus(ctx, "web", id, registry.Critical, "", false)
		case 1:
			r.Deregister(ctx, "web", id, w.Chance(2))
		default:
			r.Register(ctx, x, w.Chance(2))
		}
	}
}

func ids(list []registry.Instance) string {
	all := []string{}
	for _, x := range list {
		all = append(all, x.ID+"/"+x.Session.String())
	}
	slices.Sort(all)
	return fmt.Sprint(all)
}

// idsIn finds the passing instances of web in a state, without the package under test.
func idsIn(v *fsm.View) string {
	all := []string{}
	for _, n := range v.Read(&op.Children{Path: "/services/web", WithData: true, WithStat: true}, nil).Nodes {
		if strings.Contains(string(n.Data), `"status":"passing"`) {
			all = append(all, op.Base(n.Path)+"/"+n.Stat.EphemeralOwner.String())
		}
	}
	slices.Sort(all)
	return fmt.Sprint(all)
}
