package member

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coord-kv/coord/fsm"
	"github.com/coord-kv/coord/internal/peer"
	"github.com/coord-kv/coord/internal/replica"
	"github.com/coord-kv/coord/internal/storage"
	"github.com/coord-kv/coord/internal/vfs"
	"github.com/coord-kv/coord/op"
	"github.com/coord-kv/coord/watch"
)

// cluster is some members in this process, on loopback, each with a disk that survives it.
type cluster struct {
	t     *testing.T
	list  []peer.Member
	nodes []*node
}

type node struct {
	c    *cluster
	cfg  Config
	addr string
	log  *lines

	*Member
	stop context.CancelFunc
	done chan error
}

// lines is a log that can be asked.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) has(words string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.buf.String(), words)
}

// newCluster starts n members whose every CutEvery-th entry makes a checkpoint and leaves no log before it.
func newCluster(t *testing.T, n int) *cluster {
	c := &cluster{t: t}
	for i := range n {
		x := &node{c: c, log: new(lines), addr: freeAddr(t)}
		x.cfg = Config{
			Name: fmt.Sprintf("n%d", i+1), Dir: "/data", Logger: slog.New(slog.NewTextHandler(x.log, nil)),
			Replica: replica.Config{CutBytes: 1, SpaceMark: 1},
			Disk:    storage.Options{FS: vfs.NewMem(), Manifest: storage.NewMemManifest().Open, SegmentBytes: 16 << 10},
		}
		c.nodes = append(c.nodes, x)
		c.list = append(c.list, peer.Member{Name: x.cfg.Name, Addr: x.addr})
	}
	t.Cleanup(func() {
		for _, x := range c.nodes {
			x.halt()
			if t.Failed() {
				t.Logf("log of %s:\n%s", x.cfg.Name, x.log.buf.String())
			}
		}
	})
	return c
}

func (c *cluster) start() *cluster {
	c.t.Helper()
	for _, x := range c.nodes {
		x.start()
	}
	for _, x := range c.nodes {
		c.until(x.cfg.Name+" is ready", func() bool { return x.Status().Ready })
	}
	return c
}

// freeAddr returns a loopback address that nobody listens on, with a port below those that the kernel gives to outgoing
// connections, so that none of them takes it while its member is down.
func freeAddr(t *testing.T) string {
	for range 1000 {
		addr := fmt.Sprintf("127.0.0.1:%d", 10_000+rand.IntN(20_000))
		if ln, err := net.Listen("tcp", addr); err == nil {
			ln.Close()
			return addr
		}
	}
	t.Fatal("no port is free")
	return ""
}

func (x *node) start() {
	x.c.t.Helper()
	x.cfg.Members = x.c.list
	m, err := Open(x.cfg)
	must(x.c.t, err)
	if len(x.c.list) > 1 {
		m.cfg.Listener, err = net.Listen("tcp", x.addr)
		must(x.c.t, err)
	}
	ctx, cancel := context.WithCancel(x.c.t.Context())
	x.Member, x.stop, x.done = m, cancel, make(chan error, 1)
	go func() { x.done <- m.Run(ctx) }()
}

// halt ends the member, if it runs, and expects that to be no failure.
func (x *node) halt() {
	if x.Member == nil {
		return
	}
	x.stop()
	if err := <-x.done; err != nil {
		x.c.t.Errorf("%s ended: %v", x.cfg.Name, err)
	}
	x.Member = nil
}

// until waits for a condition, for as long as a slow machine may need.
func (c *cluster) until(what string, holds func() bool) {
	c.t.Helper()
	for limit := time.Now().Add(2 * time.Minute); !holds(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(limit) {
			c.t.Fatalf("it never came that %s", what)
		}
	}
}

// create makes a node, however often it has to be asked for, and returns its zxid.
func (x *node) create(path string) (z op.Zxid) {
	x.c.t.Helper()
	x.c.until(path+" is made", func() bool {
		ctx, cancel := context.WithTimeout(x.c.t.Context(), 10*time.Second)
		defer cancel()
		r := x.Do(ctx, &op.Request{
			Op: &op.Create{Path: path}, Key: &op.Key{Principal: "world", Key: path},
		})
		z = r.Zxid
		return r.Err == nil
	})
	return z
}

// created returns the paths whose creation a watch from a position reports, up to a position.
func (x *node) created(from, upTo op.Zxid) (paths []string) {
	x.c.t.Helper()
	ctx, cancel := context.WithTimeout(x.c.t.Context(), 2*time.Minute)
	defer cancel()
	s, err := x.Watch(watch.Filter{Path: "/", Scope: watch.Subtree}, from)
	must(x.c.t, err)
	defer s.Close()
	for pos := from; pos < upTo; {
		events, at, err := s.Next(ctx)
		must(x.c.t, err)
		for _, e := range events {
			if e.Type == op.Created {
				paths = append(paths, e.Path)
			}
		}
		pos = at
	}
	return paths
}

// A member whose log was left behind is brought up by a snapshot, and whoever resumes a watch there, from whatever
// position, gets every event once.
func TestWatchResumesAfterSnapshot(t *testing.T) {
	c := newCluster(t, 3).start()
	n1, n3 := c.nodes[0], c.nodes[2]
	var want []string
	first := n1.create("/first")
	c.until("n3 has the first", func() bool { return n3.Status().Zxid >= first })
	n3.halt()
	var last op.Zxid
	for i := range 3 * replica.CutEvery {
		want = append(want, fmt.Sprintf("/n%03d", i))
		last = n1.create(want[i])
	}
	for _, x := range c.nodes[:2] { // whoever leads: its log begins behind what n3 has
		c.until("the others have a checkpoint", func() bool { return x.Status().CheckpointIndex >= replica.CutEvery })
	}
	n3.start()
	c.until("n3 has caught up", func() bool { return n3.Status().Ready && n3.Status().Zxid >= last })
	if !n3.log.has("received a snapshot") {
		t.Fatal("n3 came up by its log: the test shows nothing")
	}
	if got := n3.created(first, last); !slices.Equal(got, want) {
		t.Errorf("from %d on there are %d events: %q", first, len(got), got)
	}
	if got := n3.created(0, last); !slices.Equal(got, append([]string{"/first"}, want...)) {
		t.Errorf("from the beginning there are %d events: %q", len(got), got)
	}
	if got := n3.created(last-10, last); !slices.Equal(got, want[len(want)-10:]) {
		t.Errorf("at the end there are %q", got)
	}
}

// A member that comes back with an older copy of its directory is refused by those that know what it had, and told why;
// the others go on. With the directory that it had it is welcome again.
func TestOlderDirectoryIsRefused(t *testing.T) {
	dir := t.TempDir() // before the cluster, so that it goes after it
	c := newCluster(t, 3)
	for _, x := range c.nodes {
		x.cfg.Dir = filepath.Join(dir, x.cfg.Name)
		x.cfg.Disk = storage.Options{SegmentBytes: 16 << 10}
		x.cfg.Replica.CutBytes = 0
	}
	c.start()
	n1, n3 := c.nodes[0], c.nodes[2]
	n1.create("/a")
	n3.halt()
	older := n3.cfg.Dir + "-copy"
	must(t, os.CopyFS(older, os.DirFS(n3.cfg.Dir)))
	must(t, os.Chmod(older, 0o700))
	must(t, filepath.Walk(older, func(p string, i os.FileInfo, err error) error {
		if err == nil && !i.IsDir() {
			err = os.Chmod(p, 0o600)
		}
		return err
	}))
	n3.start()
	last := n1.create("/b")
	c.until("n1 knows that n3 has it", func() bool {
		return n3.Status().Zxid >= last && n1.acked.of(n3.id) == n3.Status().Last
	})
	n3.halt()

	newer := n3.cfg.Dir
	n3.cfg.Dir = older
	n3.start()
	c.until("n1 refuses n3", func() bool { return n1.log.has("had acknowledged entry") })
	n1.create("/c")
	if n3.Status().Ready {
		t.Error("n3 serves")
	}
	n3.halt()

	n3.cfg.Dir = newer
	n3.start()
	last = n1.create("/d")
	c.until("n3 has caught up", func() bool { return n3.Status().Ready && n3.Status().Zxid >= last })
}

// What a member knows of the others it knows after a restart.
func TestAcknowledgedIsRemembered(t *testing.T) {
	c := newCluster(t, 3).start()
	n1, n2 := c.nodes[0], c.nodes[1]
	n1.create("/a")
	c.until("n1 knows how far n2 is", func() bool { return n1.acked.of(n2.id) > 0 })
	id, acked := n2.id, n1.acked.of(n2.id)
	n1.halt()
	m, err := Open(n1.cfg)
	must(t, err)
	defer m.Close()
	if got := m.acked.of(id); got < acked {
		t.Errorf("it remembers %d, and knew %d", got, acked)
	}
	if got := m.boots()[id]; got != 1 {
		t.Errorf("it remembers boot %d", got)
	}
}

// A member alone: what it was told it has after a restart, and it has nobody to hand over to.
func TestAlone(t *testing.T) {
	c := newCluster(t, 1).start()
	x := c.nodes[0]
	last := x.create("/a")
	must(t, x.HandOver(t.Context()))
	s := x.Status()
	if len(s.Members) != 1 || !s.Members[0].Self || !s.Members[0].Up || s.Members[0].PeerAddr != "" {
		t.Errorf("its members are %+v", s.Members)
	}
	x.halt()
	x.start()
	c.until("it is ready again", func() bool { return x.Status().Ready })
	if got := x.Status(); got.Zxid != last || got.Boot != s.Boot+1 || got.Member != s.Member {
		t.Errorf("after a restart it is %+v", got)
	}
}

// Who follows a session is told of its end before anybody can see that its nodes are gone: neither by an event nor by
// reading. Otherwise a client took the end of its session for a node that somebody has deleted.
func TestEndIsToldFirst(t *testing.T) {
	c := newCluster(t, 1).start()
	x := c.nodes[0]
	for i := range 50 {
		path := fmt.Sprintf("/e%d", i)
		id := x.Do(t.Context(), &op.Request{Op: &op.OpenSession{Timeout: time.Minute}}).Session.ID
		made := x.Do(t.Context(), &op.Request{Session: id, Op: &op.Create{Path: path, Kind: op.Ephemeral}})
		if made.Err != nil {
			t.Fatal(made.Err)
		}
		events, err := x.Watch(watch.Filter{Path: path}, made.Zxid)
		must(t, err)
		told := make(chan string, 1)
		stop := x.FollowSession(id, func(s fsm.SessionChange) {
			if !s.Ended {
				return
			}
			var seen string
			if list, _, err := events.Take(10); len(list) > 0 || err != nil {
				seen = fmt.Sprintf("%v, %v", list, err)
			}
			if v := x.replica.Load().Published().View; v.Read(&op.Exists{Path: path}, nil).Stat == nil {
				seen += " a state without the node"
			}
			told <- seen
		})
		gone := x.Do(t.Context(), &op.Request{Op: &op.CloseSession{Session: id, Killed: true}})
		if gone.Err != nil {
			t.Fatal(gone.Err)
		}
		if seen := <-told; seen != "" {
			t.Errorf("when the end was told there had been %s", seen)
		}
		stop()
		events.Close()
	}
}

// A sign of life is worth the timeout that the session has when it is confirmed, and nothing once the session has ended.
func TestKeepAlive(t *testing.T) {
	x := newCluster(t, 1).start().nodes[0]
	do := func(session op.SessionID, o op.Op) *op.Result {
		t.Helper()
		res := x.Do(t.Context(), &op.Request{Session: session, Op: o})
		if res.Err != nil {
			t.Fatal(res.Err)
		}
		return res
	}
	id := do(0, &op.OpenSession{Timeout: time.Minute}).Session.ID
	for _, want := range []time.Duration{time.Minute, 50 * time.Second, 55 * time.Second} {
		do(id, &op.SetTimeout{Session: id, Timeout: want})
		if got, err := x.KeepAlive(t.Context(), id); got != want || err != nil {
			t.Errorf("it is worth %s, %v; want %s", got, err, want)
		}
	}
	do(id, &op.CloseSession{Session: id})
	if _, err := x.KeepAlive(t.Context(), id); !errors.Is(err, &op.Error{Code: op.SessionExpired}) {
		t.Errorf("after its end: %v", err)
	}
}

// Leadership that is handed over arrives, and the member that had it goes on.
func TestHandOver(t *testing.T) {
	c := newCluster(t, 3).start()
	old := c.leader()
	must(t, old.HandOver(t.Context()))
	c.until("another leads", func() bool {
		lead := old.Status().Leader
		return lead != 0 && lead != old.id
	})
	old.create("/a")
}

func (c *cluster) leader() (lead *node) {
	c.t.Helper()
	c.until("somebody leads", func() bool {
		for _, x := range c.nodes {
			if x.replica.Load().Leads() {
				lead = x
			}
		}
		return lead != nil
	})
	return lead
}

// A directory is a member's, of a cluster: another name or list is refused, and changes nothing.
func TestForeignDirectories(t *testing.T) {
	c := newCluster(t, 1).start()
	x := c.nodes[0]
	x.create("/a")
	x.halt()
	for what, cfg := range map[string]func(*Config){
		"another name": func(c *Config) { c.Name = "n2" },
		"another list": func(c *Config) { c.Members = []peer.Member{{Name: "n1"}, {Name: "n2"}} },
	} {
		other := x.cfg
		cfg(&other)
		var refused *storage.RefusedError
		if m, err := Open(other); !errors.As(err, &refused) || refused.Remedy == "" {
			t.Errorf("with %s: %v, %v", what, m, err)
		}
	}
	x.start()
	c.until("it is ready", func() bool { return x.Status().Ready })
}

// Until its cluster is there a member says so, and answers nothing.
func TestWaitsForItsCluster(t *testing.T) {
	c := newCluster(t, 3)
	x := c.nodes[0]
	x.start()
	c.until("it names those it waits for", func() bool {
		return strings.Contains(x.Status().Reason, "n2 ("+c.nodes[1].addr+") has not answered; n3")
	})
	if s := x.Status(); s.Ready || len(s.Members) != 3 || !s.Members[0].Up || s.Members[1].Up || s.Members[1].Name != "n2" {
		t.Errorf("its status is %+v", s)
	}
	if r := x.Do(t.Context(), &op.Request{Op: &op.Create{Path: "/a"}}); r.Err == nil || r.Err.Code != op.Starting || !strings.Contains(r.Err.Detail, "n2 (") {
		t.Errorf("it answers %+v", r)
	}
	if _, err := x.Watch(watch.Filter{Path: "/"}, 0); err == nil {
		t.Error("it can be watched")
	}
}
