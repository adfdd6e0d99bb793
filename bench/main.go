// Command bench puts coord beside ZooKeeper and etcd: one member of each on this machine, or three, the same workloads in turn,
// everything synced to disk, and prints what each did and the ratios. Only ratios of one run mean anything.
//
//	cd bench && go build -o /tmp/coord ../cmd/coord && go run . -coord /tmp/coord
//
// ZooKeeper and etcd are those of Debian's packages zookeeper and etcd-server, or are left out with -systems. coord and
// ZooKeeper are driven by lean pipelining clients of this program, etcd by its own client. Beside the systems stand what
// none can be faster than: the disk, a server that echoes, and a net/http handler that does nothing.
package main

import (
	"cmp"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const peers = "zookeeper,etcd"

var workloads = []workload{
	{"P1", "create 1x1", opCreate, 1, 1, peers, 1},
	{"P1", "set 1x1", opSet, 1, 1, peers, 1},
	{"P2", "create 64x1", opCreate, 64, 1, peers, 1},
	{"P2", "set 64x1", opSet, 64, 1, peers, 1},
	{"P3", "set 64x16", opSet, 64, 16, peers, 1},
	{"P4", "read 64x1", opGet, 64, 1, peers + ",echo", 1},
	{"P4", "read 64x16", opGet, 64, 16, peers + ",echo", 1},
	{"P5", "linearizable read 64x1", opGetFresh, 64, 1, peers, 1},
	{"P5", "linearizable read 64x16", opGetFresh, 64, 16, peers, 1},
	{"P6", "lock+unlock, 1 client", opLock, 1, 1, peers, 1},
	{"P6", "lock+unlock, 16 clients", opLock, 16, 1, peers, 1},
	{"P6", "lock+unlock, 1 client, 3 members", opLock, 1, 1, peers, 3},
	{"P7", "one lock, 32 contenders", opContest, 32, 1, peers, 1},
	{"P8", "event to 1000 connections", opFan, 1000, 1, "zookeeper", 1},
	{"P8", "event to 20x500 watches", opFan, 20, 500, "etcd", 1},
	{"P14", "HTTP get 64x1", opWebGet, 64, 1, "etcd,net/http", 1},
	{"P14", "HTTP put 64x1", opWebPut, 64, 1, "etcd,net/http", 1},
}

// sessionsGoal is measured in another way than the workloads.
const sessionsGoal = "P9"

type options struct {
	systems, only string
	binaries      map[string]string
	took          time.Duration
	repeats       int
	sessions      int
	markdown      bool
}

func main() {
	o := options{}
	coord := flag.String("coord", "coord", "the coord binary")
	etcdBinary := flag.String("etcd", "etcd", "the etcd binary")
	flag.StringVar(&o.systems, "systems", "coord,"+peers, "which systems; the first is compared with the others")
	flag.StringVar(&o.only, "only", "", "what to measure: goals (P3) or parts of names (read), with commas between them; everything if empty")
	list := flag.Bool("list", false, "say what there is to measure, and measure nothing")
	flag.DurationVar(&o.took, "time", 3*time.Second, "of each measurement")
	flag.IntVar(&o.repeats, "repeats", 3, "interleaved; medians are shown, and between which figures they lie")
	flag.IntVar(&o.sessions, "sessions", 10_000, "how many idle sessions")
	flag.BoolVar(&o.markdown, "markdown", false, "print tables in Markdown")
	childOf := flag.String("child", "", "be a server to compare with: echo or net/http; used by this program itself")
	listen := flag.String("listen", "", "where that listens")
	flag.Parse()
	o.binaries = map[string]string{"coord": *coord, "etcd": *etcdBinary}
	var err error
	switch {
	case *childOf != "":
		err = child(*childOf, *listen)
	case *list:
		for _, w := range workloads {
			fmt.Printf("%s\t%s\n", w.goal, w.id)
		}
		fmt.Printf("%s\tidle sessions and leases\n", sessionsGoal)
	default:
		err = run(o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func (o *options) wants(goal, id string) bool {
	if o.only == "" {
		return true
	}
	for part := range strings.SplitSeq(o.only, ",") {
		if part == goal || strings.Contains(id, part) && part != "" {
			return true
		}
	}
	return false
}

func run(o options) error {
	var wanted []workload
	for _, w := range workloads {
		if o.wants(w.goal, w.id) {
			wanted = append(wanted, w)
		}
	}
	sessions := o.wants(sessionsGoal, "idle sessions and leases")
	if len(wanted) == 0 && !sessions {
		return fmt.Errorf("nothing is called %q; see -list", o.only)
	}
	dir, err := os.MkdirTemp(".", "bench-data")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	dir, _ = filepath.Abs(dir)
	syncs, err := syncRate(dir, o.took/2)
	if err != nil {
		return err
	}
	fmt.Printf("the disk, before all else: %.0f syncs of 512 bytes a second\n\n", syncs)
	for _, members := range []int{1, 3} {
		some := slices.DeleteFunc(slices.Clone(wanted), func(w workload) bool { return w.members != members })
		if err := o.compareAll(some, dir, members); err != nil {
			return err
		}
	}
	if sessions {
		return o.idleSessions(dir)
	}
	return nil
}

// compareAll starts the systems that the workloads take, and measures.
func (o *options) compareAll(wanted []workload, dir string, members int) error {
	running := map[string]*server{}
	t := newTable(o.markdown, "goal", "workload", "system", "per second", "between", "p50", "p99", "server µs each", "coord is", "CPU of coord's")
	for _, w := range wanted {
		var servers []*server
		for name := range strings.SplitSeq(o.systems+",echo,net/http", ",") {
			if name != "coord" && !slices.Contains(strings.Split(w.systems, ","), name) {
				continue
			}
			if running[name] == nil {
				s, err := start(name, o.binaries[name], dir, members)
				if err != nil {
					return err
				}
				defer s.stop()
				running[name] = s
			}
			servers = append(servers, running[name])
		}
		o.compare(t, servers, w)
		t.flush()
	}
	return nil
}

// sample is one measurement of one server.
type sample struct {
	result
	cpu time.Duration
}

func (s *sample) perOp() float64 {
	if s.ops == 0 {
		return 0
	}
	return float64(s.cpu.Microseconds()) / float64(s.ops)
}

// compare runs the workload on each server in turn, several times, and shows the medians.
func (o *options) compare(t *table, servers []*server, w workload) {
	samples := make([][]sample, len(servers))
	for n := range o.repeats + 1 {
		for i, s := range servers {
			d := o.took
			if n == 0 { // to warm up: compilers, caches, connections
				d = min(o.took, time.Second)
			}
			before := s.cpu()
			r, ok := drive(s.system, w, d)
			if !ok || n == 0 && r.errors == 0 {
				continue
			}
			samples[i] = append(samples[i], sample{r, s.cpu() - before})
			fmt.Fprintf(os.Stderr, "%s %s, %s, %d of %d: %.0f/s\n", w.goal, w.id, s.name(), n, o.repeats, r.rate())
		}
	}
	var first *sample
	for i, s := range servers {
		if len(samples[i]) == 0 {
			continue
		}
		first = show(t, w, s.name(), samples[i], first)
	}
}

// show adds a row for one server, compared with the first, which it returns.
func show(t *table, w workload, name string, all []sample, first *sample) *sample {
	slices.SortFunc(all, func(a, b sample) int { return cmp.Compare(a.rate(), b.rate()) })
	m := &all[len(all)/2]
	ratio, cpu := "", ""
	switch {
	case first == nil:
		first = m
	case m.ops == 0 || first.ops == 0:
	default:
		ratio = fmt.Sprintf("%.1f x as many", first.rate()/m.rate())
		if w.byTime() {
			ratio = fmt.Sprintf("%.2f x the time", float64(first.quantile(.5))/float64(m.quantile(.5)))
		}
		if m.perOp() > 0 {
			cpu = fmt.Sprintf("%.2f x", first.perOp()/m.perOp())
		}
	}
	t.row(w.goal, w.id, name, fmt.Sprintf("%.0f", m.rate()), fmt.Sprintf("%.0f to %.0f", all[0].rate(), all[len(all)-1].rate()),
		short(m.quantile(.5)), short(m.quantile(.99)), fmt.Sprintf("%.1f", m.perOp()), ratio, cpu)
	for _, s := range all {
		if s.errors > 0 {
			t.note("%s, %s: %d errors, such as: %v", w.id, name, s.errors, s.example)
		}
	}
	return first
}

func short(d time.Duration) string { return fmt.Sprintf("%.2f ms", d.Seconds()*1000) }
