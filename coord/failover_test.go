package coord_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/coord-kv/coord/coord"
	"github.com/coord-kv/coord/coord/coordtest"
)

// grid is what all times are multiples of: things then happen at once, and requests are under way when members fall.
const grid = 50 * time.Millisecond

// disturb lets everything happen to members, one at a time so that a majority stays, until done is closed.
func disturb(cluster *coordtest.Cluster, done chan struct{}) {
	rng := rand.New(rand.NewPCG(1, 2))
	for round := 0; ; round++ {
		select {
		case <-done:
			return
		case <-time.After(grid * time.Duration(rng.IntN(60))):
		}
		i := rng.IntN(3)
		if round%2 == 0 {
			i = cluster.Leader()
		}
		switch round % 3 {
		case 0:
			cluster.Kill(i)
			time.Sleep(grid * time.Duration(rng.IntN(60)))
			cluster.Restart(i)
		case 1:
			cluster.Partition(i)
			time.Sleep(grid * time.Duration(rng.IntN(60)))
			cluster.Heal()
		case 2:
			cluster.Pause(i)
			time.Sleep(grid * time.Duration(rng.IntN(60)))
			cluster.Resume(i)
		}
	}
}

// Members are killed, paused and cut off. What a session writes takes effect once and in order, also where the answer
// was lost; what a keyed request writes, once; and a watch sees all of it, in the order in which it happened.
func TestFailover(t *testing.T) {
	bubble(t, 3, func(t *testing.T, cluster *coordtest.Cluster) { testFailover(t, cluster, 200) })
}

// The same over sockets, in real time, where requests take their time and break off anywhere.
func TestFailoverOverSockets(t *testing.T) {
	testFailover(t, coordtest.Start(t, 3), 40)
}

func testFailover(t *testing.T, cluster *coordtest.Cluster, rounds int) {
	ctx, c := t.Context(), cluster.Client(t)
	ses := ok(c.Session(ctx, coord.TTL(10*time.Minute)))(t)
	for _, path := range []string{"/seq", "/keyed", "/plain", "/count"} {
		ok(c.Create(ctx, path, []byte("0")))(t)
	}
	start := c.Zxid()
	done := make(chan struct{})
	var chaos sync.WaitGroup
	chaos.Go(func() { disturb(cluster, done) })
	w := writers{t: t, rounds: rounds, acked: map[string]int{}}
	for i := range 3 {
		w.run(func(int) (*coord.Node, error) { return ses.Create(ctx, "/seq/n-", nil, coord.Sequence()) })
		w.run(func(j int) (*coord.Node, error) {
			key := coord.IdempotencyKey(fmt.Sprintf("%d.%d", i, j))
			return c.Create(ctx, "/keyed/n-", nil, coord.Sequence(), key)
		})
		w.run(func(int) (*coord.Node, error) { return ses.Update(ctx, "/count", increment) })
	}
	w.run(func(j int) (*coord.Node, error) { return plainWrite(t, c, fmt.Sprintf("/plain/%d", j)) })
	w.Wait()
	close(done)
	chaos.Wait()
	for _, dir := range []string{"/seq", "/keyed"} {
		i := 0
		for n, err := range c.Children(ctx, dir) {
			if want := fmt.Sprintf("%s/n-%010d", dir, i); err != nil || n.Path != want || w.acked[n.Path] != 1 {
				t.Fatalf("child %d is %v, acknowledged %d times: %v", i, n, w.acked[n.Path], err)
			}
			i++
		}
		if i != 3*rounds {
			t.Errorf("%s has %d nodes", dir, i)
		}
	}
	if n := ok(c.Get(ctx, "/count"))(t); string(n.Data) != fmt.Sprint(3*rounds) {
		t.Errorf("it counted to %s, not %d", n.Data, 3*rounds)
	}
	if ses.Context().Err() != nil {
		t.Error("the session was lost")
	}
	ok(ses.Create(ctx, "/end", nil))(t)
	checkWatch(t, c, start, 3*rounds)
}

// writers write beside each other, and count by path what was acknowledged.
type writers struct {
	sync.WaitGroup
	t      *testing.T
	rounds int
	mu     sync.Mutex
	acked  map[string]int
}

func (w *writers) run(write func(i int) (*coord.Node, error)) {
	w.Go(func() {
		for i := range w.rounds {
			n, err := write(i)
			if err != nil {
				w.t.Error(err)
				return
			}
			w.mu.Lock()
			w.acked[n.Path]++
			w.mu.Unlock()
			time.Sleep(2 * grid)
		}
	})
}

// plainWrite writes without session and key: what it does may remain unknown, but what is acknowledged is there.
func plainWrite(t *testing.T, c *coord.Client, path string) (*coord.Node, error) {
	n, err := c.Create(t.Context(), path, nil)
	if errors.Is(err, coord.ErrOutcomeUnknown) {
		return &coord.Node{Path: path}, nil
	}
	if err != nil {
		return nil, err
	}
	if stat, err := c.Exists(t.Context(), path); err != nil || stat == nil {
		return nil, fmt.Errorf("%s was acknowledged and is not there: %w", path, err)
	}
	return n, nil
}

// checkWatch sees what has happened again.
func checkWatch(t *testing.T, c *coord.Client, since coord.Zxid, writes int) {
	var seq []string
	counted := 0
	for ev, err := range c.Watch(t.Context(), "/", coord.Recursive(), coord.Since(since)) {
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case ev.Path == "/end":
			if !slices.IsSorted(seq) || len(seq) != writes || counted != writes {
				t.Errorf("the watch saw %d nodes, and %d changes of the counter", len(seq), counted)
			}
			return
		case ev.Path == "/count":
			counted++
		case len(ev.Path) > 5 && ev.Path[:5] == "/seq/":
			seq = append(seq, ev.Path)
		}
	}
}

// A watch that runs while members are killed sees every change once, in order.
func TestWatchAcrossKills(t *testing.T) {
	bubble(t, 3, func(t *testing.T, cluster *coordtest.Cluster) {
		ctx := t.Context()
		writer, reader := cluster.Client(t), cluster.Client(t)
		ok(writer.Create(ctx, "/w", nil))(t)
		ses := ok(writer.Session(ctx, coord.TTL(30*time.Second)))(t)
		done := make(chan struct{})
		var all sync.WaitGroup
		all.Go(func() { disturb(cluster, done) })
		const changes = 200
		all.Go(func() {
			for i := range changes {
				ok(ses.Set(ctx, "/w", fmt.Append(nil, i)))(t)
				time.Sleep(grid)
			}
		})
		next := int32(1)
		for ev, err := range reader.Watch(ctx, "/w", coord.Since(reader.Zxid())) {
			if err != nil {
				t.Fatal(err)
			}
			if ev.Type == coord.Created {
				continue
			}
			if ev.Version != next {
				t.Fatalf("after version %d comes %d", next-1, ev.Version)
			}
			if next++; next > changes {
				break
			}
		}
		close(done)
		all.Wait()
	})
}

// A session is not lost while a majority is up, whatever happens to the member that it is connected to, and nothing
// else than the loss of the majority takes it from its holder; that does after the timeout, not before.
func TestMajorityLost(t *testing.T) {
	bubble(t, 3, func(t *testing.T, cluster *coordtest.Cluster) {
		c := cluster.Client(t)
		ses := ok(c.Session(t.Context(), coord.TTL(10*time.Second)))(t)
		ok(ses.Create(t.Context(), "/e", nil, coord.Ephemeral()))(t)
		for i := range 3 {
			cluster.Kill(i)
			time.Sleep(15 * time.Second)
			cluster.Restart(i)
		}
		cluster.Kill(0)
		cluster.Kill(1)
		start := time.Now()
		<-ses.Context().Done()
		if took := time.Since(start); took < 7*time.Second || took > 10*time.Second {
			t.Errorf("it was given up after %s", took)
		}
		cluster.Restart(0)
		for ok(c.Exists(t.Context(), "/e"))(t) != nil {
			time.Sleep(100 * time.Millisecond)
		}
	})
}

// Held up for less than its timeout a session goes on; for longer, it is lost on both sides, first on that of its
// holder.
func TestPauseSession(t *testing.T) {
	bubble(t, 3, func(t *testing.T, cluster *coordtest.Cluster) {
		c := cluster.Client(t)
		ses := ok(c.Session(t.Context(), coord.TTL(20*time.Second)))(t)
		ok(ses.Create(t.Context(), "/e", nil, coord.Ephemeral()))(t)
		cluster.PauseSession(ses.ID())
		time.Sleep(10 * time.Second)
		cluster.ResumeSession(ses.ID())
		ok(ses.Set(t.Context(), "/e", []byte("still mine")))(t)
		time.Sleep(5 * time.Second) // so that its life is confirmed
		cluster.PauseSession(ses.ID())
		<-ses.Context().Done()
		if ok(c.Exists(t.Context(), "/e"))(t) == nil {
			t.Error("the node went before its owner knew")
		}
		lost := time.Now()
		for ok(c.Exists(t.Context(), "/e"))(t) != nil {
			time.Sleep(100 * time.Millisecond)
		}
		if late := time.Since(lost); late > 8*time.Second {
			t.Errorf("the node outlived its session by %s", late)
		}
	})
}

func TestExpireSession(t *testing.T) {
	bubble(t, 3, func(t *testing.T, cluster *coordtest.Cluster) {
		c := cluster.Client(t)
		ses := ok(c.Session(t.Context()))(t)
		ok(ses.Create(t.Context(), "/e", nil, coord.Ephemeral()))(t)
		cluster.ExpireSession(ses.ID())
		<-ses.Context().Done()
		if _, err := ses.Get(t.Context(), "/e"); !errors.Is(err, coord.ErrSessionExpired) {
			t.Error(err)
		}
		if ok(c.Exists(t.Context(), "/e"))(t) != nil {
			t.Error("the node outlived its session")
		}
	})
}

// Over real sockets, nothing is left behind by clients that are closed, whatever they were doing.
func TestNothingIsLeftBehind(t *testing.T) {
	cluster := coordtest.Start(t, 1)
	settled := func() int { // goroutines of net/http take their time
		least := runtime.NumGoroutine()
		for range 100 {
			time.Sleep(time.Millisecond)
			least = min(least, runtime.NumGoroutine())
		}
		return least
	}
	before := settled()
	for range 20 {
		c, err := coord.Dial(t.Context(), coord.WithEndpoints(cluster.Endpoints()...))
		if err != nil {
			t.Fatal(err)
		}
		ok(c.Session(t.Context()))(t)
		go func() {
			for range c.Watch(t.Context(), "/") {
			}
		}()
		ok(c.Get(t.Context(), "/"))(t)
		c.Close()
	}
	for end := time.Now().Add(time.Minute); settled() > before; {
		if time.Now().After(end) {
			buf := make([]byte, 1<<20)
			t.Fatalf("there were %d goroutines, now there are more:\n%s", before, buf[:runtime.Stack(buf, true)])
		}
	}
}
