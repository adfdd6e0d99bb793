package peer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

const testCluster = 0xC1

// recorder is a Handler that remembers what it was told, in order.
type recorder struct {
	mu      sync.Mutex
	events  []string
	frames  []Frame
	changed chan struct{} // closed and replaced at each change

	onReceive  func(from uint64, f Frame)
	onSnapshot func(ctx context.Context, from uint64, t *Transfer) error
	onMeet     func(Introduction) Introduction
}

func newRecorder() *recorder { return &recorder{changed: make(chan struct{})} }

func (r *recorder) change(do func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	do()
	close(r.changed)
	r.changed = make(chan struct{})
}

func (r *recorder) note(format string, args ...any) {
	r.change(func() { r.events = append(r.events, fmt.Sprintf(format, args...)) })
}

func (r *recorder) Receive(from uint64, f Frame, more bool) {
	if r.onReceive != nil {
		r.onReceive(from, f)
	}
	r.change(func() { r.frames = append(r.frames, f) })
}

func (r *recorder) Snapshot(ctx context.Context, from uint64, t *Transfer) error {
	return r.onSnapshot(ctx, from, t)
}

func (r *recorder) PeerUp(id, boot uint64)                { r.note("up %d boot %d", id, boot) }
func (r *recorder) PeerDown(id uint64)                    { r.note("down %d", id) }
func (r *recorder) StreamUp(id uint64, class Class)       { r.note("stream up %d %v", id, class) }
func (r *recorder) StreamDown(id uint64, class Class)     { r.note("stream down %d %v", id, class) }
func (r *recorder) Meet(theirs Introduction) Introduction { return r.onMeet(theirs) }

// await waits until cond holds of what was recorded.
func (r *recorder) await(t testing.TB, what string, cond func() bool) {
	t.Helper()
	timeout := time.NewTimer(slowest)
	defer timeout.Stop()
	for {
		r.mu.Lock()
		ok, changed := cond(), r.changed
		r.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-timeout.C:
			t.Fatalf("waited in vain for %s; events: %q", what, r.history())
		}
	}
}

func (r *recorder) awaitEvent(t testing.TB, event string, times int) {
	t.Helper()
	r.await(t, fmt.Sprintf("%q (%d times)", event, times), func() bool { return count(r.events, event) >= times })
}

func (r *recorder) awaitFrames(t testing.TB, n int) []Frame {
	t.Helper()
	r.await(t, fmt.Sprintf("%d frames", n), func() bool { return len(r.frames) >= n })
	return r.received()
}

func (r *recorder) history() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.events)
}

func (r *recorder) received() []Frame {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.frames)
}

func count(events []string, event string) int {
	n := 0
	for _, e := range events {
		if e == event {
			n++
		}
	}
	return n
}

// node is one process of a member: a Network that serves and runs until it is stopped.
type node struct {
	*Network
	*recorder
	stop func() // ends it and waits until it has ended
}

// medium is where members reach each other: TCP, or a simulation of it.
type medium interface {
	Dial(ctx context.Context, addr string) (net.Conn, error)
	Listen(t testing.TB, addr string) net.Listener
}

func addrOf(id uint64) string { return fmt.Sprintf("member%d:7071", id) }

func start(t testing.TB, m medium, id, boot uint64, others ...uint64) *node {
	t.Helper()
	return startWith(t, m, config(id, boot, others...))
}

func config(id, boot uint64, others ...uint64) Config {
	addrs := make(map[uint64]string)
	for _, other := range others {
		addrs[other] = addrOf(other)
	}
	return Config{
		Self:    Identity{Cluster: testCluster, Member: id, Boot: boot, Name: fmt.Sprintf("n%d", id)},
		Addrs:   addrs,
		Handler: newRecorder(),
	}
}

// slowest is how long something may take on a slow machine, where time is real.
const slowest = 2 * time.Minute

// patient has nothing given up because the machine pauses.
func patient(cfg Config) Config {
	for _, d := range []*time.Duration{&cfg.DialTimeout, &cfg.HandshakeTimeout, &cfg.WriteTimeout, &cfg.SilenceTimeout} {
		setDefault(d, time.Hour)
	}
	return cfg
}

func startWith(t testing.TB, m medium, cfg Config) *node {
	t.Helper()
	if _, real := m.(*loopback); real {
		cfg = patient(cfg)
	}
	cfg.Dial = m.Dial
	if cfg.Logger == nil && testing.Verbose() {
		cfg.Logger = slog.New(slog.NewTextHandler(t.Output(), nil)).With("self", cfg.Self.Member)
	}
	n, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	ln := m.Listen(t, addrOf(cfg.Self.Member))
	running.Go(func() { check(t, n.Serve(ctx, ln)) })
	running.Go(func() { check(t, n.Run(ctx)) })
	stop := func() { cancel(); running.Wait() }
	t.Cleanup(stop)
	rec, _ := cfg.Handler.(*recorder)
	return &node{Network: n, recorder: rec, stop: stop}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Error(err)
	}
}

// awaitUp waits until both members have both their outgoing streams.
func awaitUp(t testing.TB, a, b *node) {
	t.Helper()
	for _, class := range classes {
		a.awaitEvent(t, fmt.Sprintf("stream up %d %v", b.cfg.Self.Member, class), 1)
		b.awaitEvent(t, fmt.Sprintf("stream up %d %v", a.cfg.Self.Member, class), 1)
	}
}

// loopback is real TCP on 127.0.0.1. Members' addresses stand for ports that the kernel chose.
type loopback struct {
	mu    sync.Mutex
	ports map[string]string
}

func newLoopback() *loopback { return &loopback{ports: make(map[string]string)} }

func (l *loopback) Listen(t testing.TB, addr string) net.Listener {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	at := l.ports[addr]
	if at == "" {
		at = "127.0.0.1:0"
	}
	ln, err := net.Listen("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	l.ports[addr] = ln.Addr().String()
	return ln
}

func (l *loopback) Dial(ctx context.Context, addr string) (net.Conn, error) {
	l.mu.Lock()
	at := l.ports[addr]
	l.mu.Unlock()
	if at == "" {
		return nil, errors.New("no such host")
	}
	return dialTCP(ctx, at)
}

// leakCheck fails the test if goroutines of this package outlive everything that the test stopped. It is called first, so that its
// cleanup runs last.
func leakCheck(t *testing.T) {
	t.Helper()
	before := goroutines()
	t.Cleanup(func() {
		deadline := time.Now().Add(slowest)
		for goroutines() > before {
			if time.Now().After(deadline) {
				buf := make([]byte, 1<<20)
				t.Fatalf("goroutines leak:\n%s", buf[:runtime.Stack(buf, true)])
			}
			runtime.Gosched()
		}
	})
}

// goroutines counts those that this package or its connections started.
func goroutines() int {
	buf := make([]byte, 1<<20)
	return strings.Count(string(buf[:runtime.Stack(buf, true)]), "created by github.com/coord-kv/coord/internal/peer")
}
