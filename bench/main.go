// Command bench puts coord beside ZooKeeper and etcd: one member of each on this machine, the same workloads in turn,
// everything synced to disk, and prints what each did and the ratios. Only ratios of one run mean anything.
//
//	cd bench && go build -o /tmp/coord ../cmd/coord && go run . -coord /tmp/coord
//
// ZooKeeper and etcd are those of Debian's packages zookeeper and etcd-server, or are left out with -systems. coord and
// ZooKeeper are driven by lean pipelining clients of this program, etcd by its own client. Besides the systems it
// measures the disk: how many syncs of 512 bytes a second it does.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

var workloads = []workload{
	{"create 1x1", opCreate, 1, 1},
	{"set 1x1", opSet, 1, 1},
	{"create 64x1", opCreate, 64, 1},
	{"set 64x1", opSet, 64, 1},
	{"set 64x16", opSet, 64, 16},
	{"read 64x1", opGet, 64, 1},
	{"read 64x16", opGet, 64, 16},
	{"fresh read 64x1", opGetFresh, 64, 1},
	{"fresh read 64x16", opGetFresh, 64, 16},
	{"lock+unlock 1", opLock, 1, 1},
	{"lock+unlock 16", opLock, 16, 1},
}

func main() {
	coord := flag.String("coord", "coord", "the coord binary")
	etcdBinary := flag.String("etcd", "etcd", "the etcd binary")
	systems := flag.String("systems", "coord,zookeeper,etcd", "which systems, the first is compared with the others")
	only := flag.String("only", "", "workloads that contain this")
	took := flag.Duration("time", 3*time.Second, "of each measurement")
	repeats := flag.Int("repeats", 3, "interleaved; medians are shown")
	sessions := flag.Int("sessions", 0, "also hold so many idle sessions on connections of their own")
	flag.Parse()
	if err := run(*systems, map[string]string{"coord": *coord, "etcd": *etcdBinary}, *only, *took, *repeats, *sessions); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(systems string, binaries map[string]string, only string, took time.Duration, repeats, sessions int) error {
	dir, err := os.MkdirTemp(".", "bench-data")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	dir, _ = filepath.Abs(dir)
	syncs, err := syncRate(dir, took)
	if err != nil {
		return err
	}
	fmt.Printf("the disk: %.0f syncs of 512 bytes a second\n\n", syncs)
	var servers []*server
	for name := range strings.SplitSeq(systems, ",") {
		s, err := start(name, binaries[name], dir)
		if err != nil {
			return err
		}
		defer s.stop()
		servers = append(servers, s)
	}
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "workload\tsystem\tops/s\tp50\tp99\tserver µs/op\tratio\t")
	for _, w := range workloads {
		if strings.Contains(w.id, only) {
			compare(table, servers, w, took, repeats)
			table.Flush()
		}
	}
	if sessions > 0 {
		return idleSessions(servers, sessions, took)
	}
	return nil
}

// compare runs the workload on each server in turn, several times, and prints the medians. The ratio is the first
// server's throughput over this one's.
func compare(table *tabwriter.Writer, servers []*server, w workload, took time.Duration, repeats int) {
	type sample struct {
		result
		cpu time.Duration
	}
	samples := make([][]sample, len(servers))
	for range repeats {
		for i, s := range servers {
			before := s.cpu()
			r, err := drive(s, w, took)
			if err != nil {
				r = result{errors: 1, example: err, took: took}
			}
			samples[i] = append(samples[i], sample{r, s.cpu() - before})
		}
	}
	first := 0.0
	for i, s := range servers {
		all := samples[i]
		slices.SortFunc(all, func(a, b sample) int { return int(a.rate() - b.rate()) })
		m := all[len(all)/2]
		if i == 0 {
			first = m.rate()
		}
		ratio, perOp := "", 0.0
		if m.ops > 0 {
			perOp = float64(m.cpu.Microseconds()) / float64(m.ops)
			if i > 0 {
				ratio = fmt.Sprintf("%.1f x", first/m.rate())
			}
		}
		fmt.Fprintf(table, "%s\t%s\t%.0f\t%s\t%s\t%.1f\t%s\t\n", w.id, s.name(), m.rate(), short(m.quantile(.5)), short(m.quantile(.99)), perOp, ratio)
		if m.errors > 0 {
			fmt.Fprintf(table, "\t%d errors, such as: %v\t\n", m.errors, m.example)
		}
	}
}

func short(d time.Duration) string { return fmt.Sprintf("%.2f ms", d.Seconds()*1000) }

// syncRate measures the floor of every durable write.
func syncRate(dir string, took time.Duration) (float64, error) {
	f, err := os.Create(filepath.Join(dir, "sync"))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	block, n, start := make([]byte, 512), 0, time.Now()
	for time.Since(start) < took/2 {
		if _, err := f.Write(block); err != nil {
			return 0, err
		}
		if err := f.Sync(); err != nil {
			return 0, err
		}
		n++
	}
	return float64(n) / time.Since(start).Seconds(), nil
}

// idler is a system that can hold an idle session on a connection of its own.
type idler interface {
	idle(i int, timeout time.Duration) (idleSession, error)
}

// idleSession gives a sign of life by ping, which receive sees answered.
type idleSession interface {
	ping() error
	receive() error
}

// idleSessions opens n sessions, keeps them alive for a while, and prints what each costs.
func idleSessions(servers []*server, n int, took time.Duration) error {
	const timeout = 30 * time.Second
	for _, s := range servers {
		holder, ok := s.system.(idler)
		if !ok {
			continue
		}
		memory := s.resident()
		sessions := make([]idleSession, n)
		for i := range sessions {
			var err error
			if sessions[i], err = holder.idle(i, timeout); err != nil {
				return fmt.Errorf("session %d of %s: %w", i, s.name(), err)
			}
		}
		cpu, start := s.cpu(), time.Now()
		if err := keepAlive(sessions, timeout/3, start.Add(took+timeout/3)); err != nil {
			return fmt.Errorf("%s: %w", s.name(), err)
		}
		spent := (s.cpu() - cpu).Seconds() / time.Since(start).Seconds() * 100
		fmt.Printf("%d idle sessions, %s: %.1f KiB each, %.1f %% of a core\n", n, s.name(), float64(s.resident()-memory)/1024/float64(n), spent)
	}
	return nil
}

// keepAlive has each session give a sign of life once in every period, spread over it.
func keepAlive(sessions []idleSession, period time.Duration, until time.Time) error {
	const together = 50
	groups := (len(sessions) + together - 1) / together
	for due := time.Now(); due.Before(until); {
		for group := range slices.Chunk(sessions, together) {
			for _, s := range group {
				if err := s.ping(); err != nil {
					return err
				}
			}
			for _, s := range group {
				if err := s.receive(); err != nil {
					return err
				}
			}
			due = due.Add(period / time.Duration(groups))
			time.Sleep(time.Until(due))
		}
	}
	return nil
}
