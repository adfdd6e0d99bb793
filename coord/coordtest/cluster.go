package coordtest

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/coord-kv/coord/api"
	"github.com/coord-kv/coord/coord"
	"github.com/coord-kv/coord/internal/member"
	"github.com/coord-kv/coord/internal/peer"
	"github.com/coord-kv/coord/internal/storage"
	"github.com/coord-kv/coord/internal/vfs"
	"github.com/coord-kv/coord/op"
)

// Cluster is a cluster that runs in the process of a test. Its methods may be called concurrently, except those that
// change the same member. Members are counted from 0. Whatever goes wrong in the cluster itself fails the test.
type Cluster struct {
	t       testing.TB
	cfg     config
	net     *network
	members []*node
}

type config struct {
	memory bool
	log    *slog.Logger
}

// Option sets something of a Cluster.
type Option func(*config)

// InMemory joins members and clients by pipes instead of loopback sockets. All of it can then run in a bubble of
// testing/synctest, on virtual time. Only clients that use the cluster's Dialer reach such members.
func InMemory() Option { return func(c *config) { c.memory = true } }

// Logger has the members log. By default they are silent.
func Logger(l *slog.Logger) Option { return func(c *config) { c.log = l } }

// readyLimit is how long members may take until they serve; a machine may be very slow.
const readyLimit = 2 * time.Minute

// Start starts a cluster of one or three members, and waits until all of them serve. The end of the test ends it.
func Start(t testing.TB, members int, opts ...Option) *Cluster {
	t.Helper()
	if members != 1 && members != 3 {
		t.Fatalf("coordtest: %d members: a cluster has 1 or 3", members)
	}
	c := &Cluster{t: t, cfg: config{log: slog.New(slog.DiscardHandler)}}
	for _, o := range opts {
		o(&c.cfg)
	}
	c.net = newNetwork(c.cfg.memory)
	var accepting sync.WaitGroup
	t.Cleanup(func() {
		c.stop()
		accepting.Wait()
	})
	for i := range members {
		n := &node{c: c, index: i, name: fmt.Sprintf("n%d", i+1), fs: vfs.NewMem(), manifest: storage.NewMemManifest()}
		n.clients, n.peers = c.listen(i, true), c.listen(i, false)
		accepting.Go(n.clients.serve)
		accepting.Go(n.peers.serve)
		c.members = append(c.members, n)
	}
	for _, n := range c.members {
		n.start()
	}
	for i := range c.members {
		c.awaitReady(i)
	}
	return c
}

func (c *Cluster) listen(owner int, client bool) *port {
	p, err := c.net.listen(owner, client)
	if err != nil {
		c.t.Fatalf("coordtest: %v", err)
	}
	return p
}

func (c *Cluster) stop() {
	for _, n := range c.members {
		n.kill()
		n.clients.close()
		n.peers.close()
	}
}

// Endpoints returns the URLs of the members, in order.
func (c *Cluster) Endpoints() []string {
	var urls []string
	for _, n := range c.members {
		urls = append(urls, n.url())
	}
	return urls
}

// Dialer is what a client needs to reach members InMemory, and to be held up by PauseSession: give it to
// coord.WithDialer. Clients of Client have it.
func (c *Cluster) Dialer() func(ctx context.Context, network, addr string) (net.Conn, error) {
	return c.net.dialClient
}

// Client returns a client of the cluster, which the end of the test closes.
func (c *Cluster) Client(t testing.TB, opts ...coord.Option) *coord.Client {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), readyLimit)
	defer cancel()
	all := []coord.Option{coord.WithEndpoints(c.Endpoints()...), coord.WithDialer(c.Dialer()), coord.WithLogger(c.cfg.log)}
	client, err := coord.Dial(ctx, append(all, opts...)...)
	if err != nil {
		t.Fatalf("coordtest: %v", err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

// Kill ends a member as kill -9 does: at once, without a farewell. What it had written stays, as on a disk.
func (c *Cluster) Kill(i int) { c.members[i].kill() }

// Restart starts a member that was killed, at its old addresses, and waits until it serves, unless a majority is down.
func (c *Cluster) Restart(i int) {
	c.t.Helper()
	c.members[i].start()
	if c.running() > len(c.members)/2 {
		c.awaitReady(i)
	}
}

func (c *Cluster) running() (n int) {
	for _, m := range c.members {
		if m.life() != nil {
			n++
		}
	}
	return n
}

// Pause lets nothing that the member sends arrive, and nothing reach it, as if its machine stood still. Connections
// stay. Resume ends that, and what was sent meanwhile arrives.
func (c *Cluster) Pause(i int) { c.net.change(func() { c.net.paused[i] = true }) }

// Resume ends Pause.
func (c *Cluster) Resume(i int) { c.net.change(func() { delete(c.net.paused, i) }) }

// Partition cuts a member off from the other members. Clients still reach it.
func (c *Cluster) Partition(i int) { c.net.change(func() { c.net.cutOff[i] = true }) }

// Heal ends every Partition.
func (c *Cluster) Heal() { c.net.change(func() { clear(c.net.cutOff) }) }

// PauseSession lets nothing pass between the session of that id and the members, as if its client's machine stood
// still: the session is suspended, and expires if that lasts. The client must have the cluster's Dialer.
func (c *Cluster) PauseSession(id string) { c.net.change(func() { c.net.stopped[id] = true }) }

// ResumeSession ends PauseSession.
func (c *Cluster) ResumeSession(id string) { c.net.change(func() { delete(c.net.stopped, id) }) }

// ExpireSession ends the session of that id at once, as if its timeout were over.
func (c *Cluster) ExpireSession(id string) {
	c.t.Helper()
	var n op.SessionID
	if err := n.UnmarshalText([]byte(id)); err != nil {
		c.t.Fatalf("coordtest: %v", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), readyLimit)
	defer cancel()
	req := &op.Request{Op: &op.CloseSession{Session: n, Killed: true}, Auth: []op.Identity{{Scheme: "super"}}}
	for ctx.Err() == nil {
		m := c.anyRunning()
		if m == nil {
			c.t.Fatal("coordtest: no member runs that could end the session")
		}
		err := m.Do(ctx, req).Err
		if err == nil || err.Code == op.SessionExpired || err.Code == op.NoSession {
			return
		}
		time.Sleep(pollEvery) // an election may be going on
	}
	c.t.Fatalf("coordtest: the session %s was not ended in time", id)
}

func (c *Cluster) anyRunning() *member.Member {
	for _, n := range c.members {
		if l := n.life(); l != nil {
			return l.m
		}
	}
	return nil
}

// Leader returns the member that leads. It waits until one does.
func (c *Cluster) Leader() int {
	c.t.Helper()
	found := nobody
	c.poll("no member leads", func() bool {
		for i, n := range c.members {
			if l := n.life(); l != nil && l.m.Status().Role == "leader" && l.m.Status().Ready {
				found = i
			}
		}
		return found != nobody
	})
	return found
}

const pollEvery = 5 * time.Millisecond

func (c *Cluster) awaitReady(i int) {
	c.t.Helper()
	c.poll(fmt.Sprintf("member %d does not serve", i), func() bool {
		l := c.members[i].life()
		if l == nil {
			return false
		}
		s := l.m.Status()
		return s.Ready && s.Leader != 0
	})
}

func (c *Cluster) poll(problem string, done func() bool) {
	c.t.Helper()
	for end := time.Now().Add(readyLimit); !done(); time.Sleep(pollEvery) {
		if time.Now().After(end) {
			c.t.Fatalf("coordtest: %s", problem)
		}
	}
}

// node is one member over all its lives.
type node struct {
	c              *Cluster
	index          int
	name           string
	clients, peers *port
	fs             *vfs.Mem
	manifest       *storage.MemManifest

	mu  sync.Mutex
	now *life // nil while it is down
}

// life is a member from a start to the next kill.
type life struct {
	m      *member.Member
	cancel context.CancelFunc
	dying  chan struct{} // closed when it is killed
	tasks  sync.WaitGroup
}

func (n *node) url() string { return "http://" + n.clients.addr.String() }

func (n *node) life() *life {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.now
}

func (n *node) start() {
	n.c.t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.now != nil {
		n.c.t.Fatalf("coordtest: member %d runs already", n.index)
	}
	log := n.c.cfg.log.With("member", n.name)
	metrics := api.NewMetrics()
	m, err := member.Open(member.Config{
		Name: n.name, Memory: true, Members: n.c.list(), Listener: n.peers.open(), Dial: n.c.net.dialMember(n.index),
		Logger: log, Observe: observer{metrics}, Disk: storage.Options{FS: n.fs, Manifest: n.manifest.Open, SegmentBytes: 4 << 20},
	})
	if err != nil {
		n.c.t.Fatalf("coordtest: couldn't start member %d: %v", n.index, err)
	}
	door, err := api.New(api.Config{
		Backend: m, Name: n.name, Version: "coordtest", Logger: log, Metrics: metrics, Limits: api.Limits{DrainTimeout: time.Second},
	})
	if err != nil {
		n.c.t.Fatalf("coordtest: couldn't start member %d: %v", n.index, err)
	}
	ln := n.clients.open() // now: who is told that the member serves must find its port open
	ctx, cancel := context.WithCancel(context.Background())
	n.now = &life{m: m, cancel: cancel, dying: make(chan struct{})}
	n.now.run(n, "member", func() error { return m.Run(ctx) })
	n.now.run(n, "door", func() error { return door.Serve(ctx, ln) })
}

// observer tells the metrics of a member's door what the member has done.
type observer struct{ *api.Metrics }

func (o observer) CheckpointDone(what string, d time.Duration, err error) {
	o.Metrics.CheckpointDone(api.SnapshotOp(what), d, err)
}

// run runs a part of the member. An error before it is killed fails the test.
func (l *life) run(n *node, what string, f func() error) {
	l.tasks.Go(func() {
		err := f()
		select {
		case <-l.dying:
		default:
			n.c.t.Errorf("coordtest: the %s of member %d ended: %v", what, n.index, err)
		}
	})
}

// list returns the members as they are configured.
func (c *Cluster) list() []peer.Member {
	var list []peer.Member
	for _, n := range c.members {
		list = append(list, peer.Member{Name: n.name, Addr: n.peers.addr.String()})
	}
	return list
}

// kill ends the member: first nothing that it sends or writes counts any more, then it goes.
func (n *node) kill() {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := n.now
	if l == nil {
		return
	}
	close(l.dying)
	n.fs.Kill()
	for _, p := range [...]*port{n.clients, n.peers} {
		p.mu.Lock()
		d := p.door
		p.mu.Unlock()
		if d != nil {
			d.Close()
		}
	}
	n.c.net.breakAll(n.index)
	l.cancel()
	l.tasks.Wait()
	n.c.net.breakAll(n.index)
	n.now = nil
}
