package discovery_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coord-kv/coord/coord"
	"github.com/coord-kv/coord/coord/coordtest"
	"github.com/coord-kv/coord/coord/discovery"
	"github.com/coord-kv/coord/coord/internal/bubble"
)

// TestNoGhosts: programs register, deregister, lose their sessions and stand still for ever, while members are killed,
// stand still and are cut off. Once that is over and each timeout with it, just those are registered whose programs still
// hold their registration, and each watch, of whichever member, has ended up with them.
func TestNoGhosts(t *testing.T) {
	for seed := range bubble.Seeds(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			inBubble(t, 3, func(t *testing.T, cluster *coordtest.Cluster) { playFaults(t, cluster, seed) })
		})
	}
}

const (
	programs  = 6
	faults    = 10
	ghostTTL  = 8 * time.Second
	settled   = 2 * time.Minute // all timeouts, with elections between them
	eachFault = 10 * time.Second
)

// faulty is a cluster with faults, and the programs that use it.
type faulty struct {
	t       *testing.T
	cluster *coordtest.Cluster
	calm    chan struct{} // closed when no program begins anything any more

	mu   sync.Mutex
	held map[string]*discovery.Registration // by program, as "id session"
	lost int                                // registrations whose session has ended, or was left to
	runs int
}

func playFaults(t *testing.T, cluster *coordtest.Cluster, seed uint64) {
	f := &faulty{t: t, cluster: cluster, calm: make(chan struct{}), held: map[string]*discovery.Registration{}}
	ctx, stop := context.WithCancel(t.Context())
	var watches, running sync.WaitGroup
	shown := make([]string, 4) // by watch: one of any member, and one of each member alone
	for i := range shown {
		c := cluster.Client(t)
		if i > 0 {
			c = pinned(t, cluster, i-1)
		}
		watches.Go(func() { f.watch(ctx, c, &shown[i]) })
	}
	for n := range programs {
		c := cluster.Client(t)
		running.Go(func() { f.program(c, fmt.Sprint("p", n), rand.New(rand.NewPCG(seed, uint64(n)))) })
	}
	f.harm(rand.New(rand.NewPCG(seed, programs)))
	close(f.calm)
	running.Wait()
	time.Sleep(settled)
	stop()
	watches.Wait()
	want := f.alive()
	if got := registered(t, cluster.Client(t)); got != want {
		t.Errorf("registered is %s\nand held %s", got, want)
	}
	for i, got := range shown {
		if got != want {
			t.Errorf("watch %d has ended up with %s\nand held is %s", i, got, want)
		}
	}
	if f.runs < 3*programs || f.lost == 0 || want == "" {
		t.Errorf("it was too quiet to say something: %d registrations, %d lost, held %q", f.runs, f.lost, want)
	}
}

// pinned returns a client that knows one member alone.
func pinned(t *testing.T, cluster *coordtest.Cluster, i int) *coord.Client {
	c, err := coord.Dial(t.Context(), coord.WithEndpoints(cluster.Endpoints()[i]), coord.WithDialer(cluster.Dialer()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// watch follows the service and keeps what it was shown last.
func (f *faulty) watch(ctx context.Context, c *coord.Client, last *string) {
	for list, err := range discovery.Watch(ctx, c, "web") {
		if err != nil {
			if ctx.Err() == nil {
				f.t.Errorf("a watch has ended: %v", err)
			}
			return
		}
		*last = keys(list)
	}
}

func key(x discovery.Instance) string { return x.ID + " of " + x.Session }

func keys(list []discovery.Instance) string {
	var all []string
	for _, x := range list {
		all = append(all, key(x))
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

func registered(t *testing.T, c *coord.Client) string {
	list, err := discovery.Resolve(t.Context(), c, "web")
	if err != nil {
		t.Fatal(err)
	}
	return keys(list)
}

// alive returns what programs hold.
func (f *faulty) alive() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []discovery.Instance
	for _, r := range f.held {
		if r.Context().Err() == nil {
			all = append(all, r.Instance())
		}
	}
	return keys(all)
}

// program registers again and again, each time in a session of its own.
func (f *faulty) program(c *coord.Client, id string, random *rand.Rand) {
	for {
		select {
		case <-f.calm:
			return
		default:
		}
		ctx, cancel := context.WithTimeout(f.t.Context(), time.Minute)
		f.once(ctx, c, id, random)
		cancel()
	}
}

func (f *faulty) once(ctx context.Context, c *coord.Client, id string, random *rand.Rand) {
	s, err := c.Session(ctx, coord.TTL(ghostTTL))
	if err != nil {
		return
	}
	x := discovery.Instance{Service: "web", ID: id, Address: "10.0.0.1", Port: 80}
	r, err := discovery.Register(ctx, s, x, discovery.Replace())
	if err != nil {
		s.Close(ctx)
		return
	}
	f.mu.Lock()
	f.held[id] = r
	f.runs++
	f.mu.Unlock()
	select {
	case <-f.calm:
		return // and it stays registered
	case <-r.Context().Done():
	case <-time.After(time.Duration(random.IntN(20)) * time.Second):
	}
	switch random.IntN(4) {
	case 0:
		r.Close(ctx)
		s.Close(ctx)
	case 1:
		s.Close(ctx)
	case 2:
		f.cluster.ExpireSession(s.ID())
		f.gone()
	case 3: // its machine stands still, and is started anew
		f.cluster.PauseSession(s.ID())
		f.gone()
	}
}

func (f *faulty) gone() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lost++
}

// harm does one thing after the other to a member.
func (f *faulty) harm(random *rand.Rand) {
	for range faults {
		i := random.IntN(3)
		switch random.IntN(3) {
		case 0:
			f.cluster.Kill(i)
			time.Sleep(eachFault)
			f.cluster.Restart(i)
		case 1:
			f.cluster.Pause(i)
			time.Sleep(eachFault)
			f.cluster.Resume(i)
		case 2:
			f.cluster.Partition(i)
			time.Sleep(eachFault)
			f.cluster.Heal()
		}
		time.Sleep(time.Duration(random.IntN(10)) * time.Second)
	}
}
