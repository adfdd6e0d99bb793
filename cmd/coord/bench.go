package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/coord-kv/coord/coord"
	"github.com/coord-kv/coord/internal/recipe"
	"github.com/coord-kv/coord/op"
)

// bench is one measurement of a cluster as a Go program would use it: a closed loop, in which each of so many
// goroutines asks again as soon as it was answered.
type bench struct {
	*globals
	connections, inFlight, keys, size int
	duration                          time.Duration

	dir   string
	value []byte
	done  atomic.Int64
}

func newBench(g *globals) *cobra.Command {
	c := parent(&cobra.Command{
		Use:   "bench",
		Short: "Measure a cluster: writes, reads, watches and locks",
		Long: `Measure a cluster over the Go client. Everything happens below a node of its own under /coord-bench, which is deleted
at the end. What is measured is the cluster, the network and this program together: on one machine they share its
processors, so only compare what was measured in the same way. The comparison with ZooKeeper and etcd, side by side, is a
program of its own in the source: bench/, described in docs/performance.md.`,
		Example: "  coord bench write\n  coord bench read --consistency eventual",
	})
	c.AddCommand(
		g.newBenchOf("write", "Set nodes, each to a value of --size bytes", "--connections 1 --in-flight 1", (*bench).write),
		g.newBenchOf("read", "Read nodes, as fresh as --consistency says", "--consistency eventual --connections 64", (*bench).read),
		g.newBenchOf("watch", "Change a node, and wait until the last of all watchers knows", "--connections 20 --in-flight 500",
			(*bench).watch),
		g.newBenchOf("lock", "Take and release locks that nobody else wants", "--connections 16 --in-flight 1", (*bench).lock),
		g.newBenchOf("handover", "Take and release one lock that all want, in turn", "--connections 32 --in-flight 1",
			(*bench).handOver),
	)
	return c
}

type benchRun = func(*bench, context.Context) (*tally, error)

func (g *globals) newBenchOf(name, short, example string, run benchRun) *cobra.Command {
	b := &bench{globals: g}
	c := &cobra.Command{Use: name, Short: short, Args: cobra.NoArgs, Example: "  coord bench " + name + " " + example}
	f := c.Flags()
	f.IntVar(&b.connections, "connections", 8, "connections, 1 to 10000")
	f.IntVar(&b.inFlight, "in-flight", 16, "requests, or watchers, on each connection at once, 1 to 10000")
	f.IntVar(&b.keys, "keys", 1000, "different nodes")
	f.IntVar(&b.size, "size", 100, "bytes of a value")
	f.DurationVar(&b.duration, "duration", 5*time.Second, "for how long")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := b.prepare(c); err != nil {
			return err
		}
		if b.connections < 1 || b.connections > 10_000 || b.inFlight < 1 || b.inFlight > 10_000 || b.keys < 1 || b.size < 0 || b.duration <= 0 {
			return usageError(c, fmt.Errorf("--connections and --in-flight are 1 to 10000, --keys and --duration more than 0"))
		}
		return b.measure(c, name, run)
	}
	return g.command(c)
}

// measure runs one benchmark and shows what came of it.
func (b *bench) measure(c *cobra.Command, name string, run benchRun) error {
	ctx := c.Context()
	b.dir, b.value = "/coord-bench/"+rand.Text(), make([]byte, b.size)
	cl, err := b.dial(ctx)
	if err != nil {
		return benchError(err)
	}
	defer cl.Close()
	if _, err := cl.Create(ctx, b.dir, nil, coord.Parents()); err != nil {
		return benchError(err)
	}
	defer b.cleanUp(cl)
	stop := b.progress(name)
	t, err := run(b, ctx)
	stop()
	if err != nil {
		return benchError(err)
	}
	return b.show(name, t)
}

func benchError(err error) error {
	return &exitError{code: exitUnavailable, err: fmt.Errorf("couldn't measure: %w", err), why: coord.Hint(err), next: "coord status"}
}

// cleanUp deletes what the benchmark has made, also when it was interrupted.
func (b *bench) cleanUp(cl *coord.Client) {
	ctx, cancel := context.WithTimeout(context.Background(), b.timeout)
	defer cancel()
	err := cl.Delete(ctx, b.dir, coord.Recursive())
	if errors.Is(err, coord.ErrTooLarge) { // too much for one request
		for i := range b.keys {
			cl.Delete(ctx, b.key(i))
		}
		err = cl.Delete(ctx, b.dir, coord.Recursive())
	}
	cl.Delete(ctx, "/coord-bench") // unless another one is running
	if err != nil {
		b.note("couldn't delete %s: %v; see: coord rm -R %s", b.dir, err, b.dir)
	}
}

// progress shows each second how it goes.
func (b *bench) progress(name string) (stop func()) {
	end := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for last := int64(0); ; {
			select {
			case <-end:
				return
			case <-tick.C:
				now := b.done.Load()
				b.note("%s: %d in the last second", name, now-last)
				last = now
			}
		}
	})
	return func() { close(end); wg.Wait() }
}

func (b *bench) key(i int) string { return fmt.Sprintf("%s/k%d", b.dir, i%b.keys) }

// tally is what was measured.
type tally struct {
	took   time.Duration
	waits  []time.Duration
	failed int
	first  error // of those that failed
}

func (t *tally) quantile(q float64) time.Duration {
	if len(t.waits) == 0 {
		return 0
	}
	return t.waits[min(len(t.waits)-1, int(q*float64(len(t.waits))))]
}

// askOne is one request of worker w, its i-th.
type askOne func(ctx context.Context, w, i int) error

// loop has each worker ask for the duration. start makes the workers of one connection.
func (b *bench) loop(ctx context.Context, start func(ctx context.Context, cl *coord.Client) (askOne, error)) (*tally, error) {
	asks := make([]askOne, b.connections)
	for i := range asks {
		cl, err := b.dial(ctx)
		if err != nil {
			return nil, err
		}
		defer cl.Close()
		if asks[i], err = start(ctx, cl); err != nil {
			return nil, err
		}
	}
	begin := time.Now()
	var all tally
	var mu sync.Mutex
	var wg sync.WaitGroup
	for c, ask := range asks {
		for k := range b.inFlight {
			wg.Go(func() {
				t := b.worker(ctx, ask, c*b.inFlight+k, begin.Add(b.duration))
				mu.Lock()
				defer mu.Unlock()
				all.waits, all.failed = append(all.waits, t.waits...), all.failed+t.failed
				if all.first == nil {
					all.first = t.first
				}
			})
		}
	}
	wg.Wait()
	all.took = time.Since(begin)
	slices.Sort(all.waits)
	return &all, nil
}

// worker asks until the time is over; what is under way then is waited for.
func (b *bench) worker(ctx context.Context, ask askOne, self int, until time.Time) (t tally) {
	for i, start := self, time.Now(); i == self || start.Before(until); i, start = i+b.connections*b.inFlight, time.Now() {
		err := ask(ctx, self, i)
		if err == nil {
			t.waits = append(t.waits, time.Since(start))
			b.done.Add(1)
			continue
		}
		if t.failed++; t.first == nil {
			t.first = err
		}
		if t.failed > 100 || ctx.Err() != nil {
			return t
		}
	}
	return t
}

// fill makes the nodes that are read or set.
func (b *bench) fill(ctx context.Context) error {
	cl, err := b.dial(ctx)
	if err != nil {
		return err
	}
	defer cl.Close()
	for i := range b.keys {
		if _, err := cl.Create(ctx, b.key(i), b.value); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) write(ctx context.Context) (*tally, error) {
	if err := b.fill(ctx); err != nil {
		return nil, err
	}
	return b.loop(ctx, func(_ context.Context, cl *coord.Client) (askOne, error) {
		return func(ctx context.Context, _, i int) error {
			_, err := cl.Set(ctx, b.key(i), b.value)
			return err
		}, nil
	})
}

func (b *bench) read(ctx context.Context) (*tally, error) {
	if err := b.fill(ctx); err != nil {
		return nil, err
	}
	return b.loop(ctx, func(_ context.Context, cl *coord.Client) (askOne, error) {
		return func(ctx context.Context, _, i int) error {
			_, err := cl.Get(ctx, b.key(i), b.freshness())
			return err
		}, nil
	})
}

// freshness is the read option that --consistency names.
func (b *bench) freshness() coord.ReadOption {
	o := b.globals.read()
	switch o.Consistency {
	case op.Eventual.String():
		return coord.Eventual()
	case op.Sequential.String():
		return coord.Sequential()
	}
	if text, ok := strings.CutPrefix(o.Consistency, op.Bounded.String()+"; max="); ok {
		oldest, _ := time.ParseDuration(text) // prepare has checked it
		return coord.Bounded(oldest)
	}
	return coord.Linearizable()
}

// lock has each worker take a lock of its own.
func (b *bench) lock(ctx context.Context) (*tally, error) {
	return b.locks(ctx, func(w int) string { return fmt.Sprintf("%s/lock%d", b.dir, w) })
}

// handOver has all workers take the same lock.
func (b *bench) handOver(ctx context.Context) (*tally, error) {
	return b.locks(ctx, func(int) string { return b.dir + "/lock" })
}

// locks has one session for each connection.
func (b *bench) locks(ctx context.Context, name func(w int) string) (*tally, error) {
	return b.loop(ctx, func(ctx context.Context, cl *coord.Client) (askOne, error) {
		s, err := cl.Session(ctx, coord.Name("coord bench"))
		if err != nil {
			return nil, err
		}
		return func(ctx context.Context, w, _ int) error {
			l, err := recipe.NewLock(s.Conn(), recipe.Spec{Name: name(w), Owner: fmt.Sprintf("worker %d", w)})
			if err != nil {
				return err
			}
			g, err := l.Acquire(ctx)
			if err != nil {
				return err
			}
			return g.Release(ctx)
		}, nil
	})
}

// watch measures from asking for a change until every watcher has been told of it.
func (b *bench) watch(ctx context.Context) (*tally, error) {
	cl, err := b.dial(ctx)
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	node, err := cl.Create(ctx, b.key(0), b.value)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	told := make(chan struct{}, b.connections*b.inFlight)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel(nil)
	for range b.connections {
		watcher, err := b.dial(ctx)
		if err != nil {
			return nil, err
		}
		defer watcher.Close()
		for range b.inFlight {
			wg.Go(func() {
				for ev, err := range watcher.Watch(ctx, b.key(0), coord.Since(node.Stat.Mzxid)) {
					if err != nil {
						cancel(err)
						return
					}
					if ev.Type == coord.Changed {
						told <- struct{}{}
					}
				}
			})
		}
	}
	return b.changes(ctx, cl, told)
}

func (b *bench) changes(ctx context.Context, cl *coord.Client, told <-chan struct{}) (*tally, error) {
	t := &tally{}
	for begin := time.Now(); t.took < b.duration; t.took = time.Since(begin) {
		start := time.Now()
		if _, err := cl.Set(ctx, b.key(0), b.value); err != nil {
			return nil, err
		}
		for range b.connections * b.inFlight {
			select {
			case <-told:
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
		}
		t.waits = append(t.waits, time.Since(start))
		b.done.Add(1)
	}
	slices.Sort(t.waits)
	return t, nil
}

func (b *bench) show(name string, t *tally) error {
	out := newPrinter(b.globals)
	rate := float64(len(t.waits)) / t.took.Seconds()
	if b.output == "json" {
		ms := func(q float64) float64 { return float64(t.quantile(q).Microseconds()) / 1000 }
		out.encode(map[string]any{
			"what": name, "connections": b.connections, "in_flight": b.inFlight, "operations": len(t.waits), "failed": t.failed,
			"seconds": t.took.Seconds(), "per_second": rate, "p50_ms": ms(.5), "p99_ms": ms(.99), "p999_ms": ms(.999), "max_ms": ms(1),
		})
		return out.flush()
	}
	out.table([][]string{
		{"WHAT", "DONE", "FAILED", "PER SECOND", "P50", "P99", "P99.9", "MAX"},
		{name, fmt.Sprint(len(t.waits)), fmt.Sprint(t.failed), fmt.Sprintf("%.0f", rate),
			round(t.quantile(.5)), round(t.quantile(.99)), round(t.quantile(.999)), round(t.quantile(1))},
	})
	if err := out.flush(); err != nil || t.failed == 0 {
		return err
	}
	return benchError(fmt.Errorf("%d requests failed, the first with: %w", t.failed, t.first))
}

func round(d time.Duration) string { return d.Round(10 * time.Microsecond).String() }
