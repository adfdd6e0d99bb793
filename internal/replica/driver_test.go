package replica

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/coord-kv/coord/fsm"
	"github.com/coord-kv/coord/internal/patience"
	"github.com/coord-kv/coord/op"
	"github.com/coord-kv/coord/watch"
)

// gatedDisk keeps nothing. A test can hold its appends up, or have them fail.
type gatedDisk struct {
	Disk
	mu   sync.Mutex
	gate chan struct{} // appends wait for it to be closed; nil for none
	err  error
	boom bool
	asks int // how much is free
}

func (d *gatedDisk) set(change func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change()
}

func (d *gatedDisk) Append(*raftpb.HardState, []*raftpb.Entry, bool) error {
	d.mu.Lock()
	gate, err, boom := d.gate, d.err, d.boom
	d.mu.Unlock()
	if boom {
		panic("the core is broken")
	}
	if gate != nil {
		<-gate
	}
	return err
}

func (d *gatedDisk) Quiet() error { return nil }

func (d *gatedDisk) Free() int64 {
	d.set(func() { d.asks++ })
	return UnknownSpace
}

func (d *gatedDisk) asked() (n int) {
	d.set(func() { n, d.asks = d.asks, 0 })
	return n
}

// nobody is a network without other members.
type nobody struct{}

func (nobody) Send(Message) bool                           { return false }
func (nobody) SendSnapshot(context.Context, Message) error { return errors.New("nobody is there") }

// startReplica runs a member alone that leads. Ended gets what Run returns.
func startReplica(t *testing.T, disk *gatedDisk) (r *Replica, stop func(), ended chan error) {
	t.Helper()
	m := fsm.New()
	r, err := NewReplica(Options{
		Config: Config{Self: 1, Boot: 1},
		Start: Start{
			HardState: &raftpb.HardState{}, ConfState: &raftpb.ConfState{Voters: []uint64{1}},
			Machine: m, History: watch.New(watch.Limits{}, nil, 0, m.Zxid()),
		},
		Disk: disk, Network: nobody{}, Logger: slog.New(slog.DiscardHandler),
		Now: func() Clock { return Clock{Wall: 1, Mono: uint64(time.Now().UnixMilli())} },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended = make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	r.Campaign()
	synctest.Wait()
	if !r.Leads() {
		t.Fatal("the member alone doesn't lead")
	}
	return r, stop, ended
}

func create(path string) *op.Request { return &op.Request{Op: &op.Create{Path: path}} }

// What is handed over is done by the time that Drive returns, on the goroutine that called it.
func TestDriveDoesWhatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, stop, _ := startReplica(t, &gatedDisk{})
		defer stop()
		var answers []string
		for i := range 3 {
			r.Submit(create(fmt.Sprint("/", i)), func(res *op.Result) { answers = append(answers, res.Path) })
		}
		if len(answers) > 0 {
			t.Error("answered before anybody drove the core:", answers)
		}
		r.Drive()
		if got := strings.Join(answers, " "); got != "/0 /1 /2" { // no lock: nobody else touches answers
			t.Errorf("answered %q", got)
		}
	})
}

// How much is free is asked soon when something is written, and now and then when nothing is.
func TestSpaceIsAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := &gatedDisk{}
		r, stop, _ := startReplica(t, disk)
		defer stop()
		pass := func(ticks int) int {
			time.Sleep(time.Duration(ticks) * DefaultTick)
			synctest.Wait()
			return disk.asked()
		}
		pass(10)
		if n := pass(10 * (spaceTicks + 1)); n != 10 {
			t.Errorf("asked %d times in %d ticks without a write, want 10", n, 10*(spaceTicks+1))
		}
		for range 5 {
			r.Submit(create("/x"), func(*op.Result) {})
			if pass(2) == 0 {
				t.Error("not asked after a write")
			}
		}
	})
}

// Who waits for the confirmation of a sign of life, which comes with a tick, gives up when his patience or his request ends.
func TestKeepAliveEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, stop, _ := startReplica(t, &gatedDisk{})
		defer stop()
		id := r.Do(t.Context(), &op.Request{Op: &op.OpenSession{Timeout: time.Minute}}).Session.ID
		alive := func(ctx context.Context) error {
			timeout, err := r.KeepAlive(ctx, id)
			if err == nil && timeout != time.Minute {
				t.Error("it is told to live", timeout)
			}
			return err
		}
		impatient := patience.New(t.Context(), time.Millisecond)
		defer impatient.End()
		if err := alive(impatient); !errors.Is(err, &op.Error{Code: op.NoQuorum}) {
			t.Error("without patience:", err)
		}
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		if err := alive(gone); !errors.Is(err, &op.Error{Code: op.NoQuorum}) {
			t.Error("without its client:", err)
		}
		patient := patience.New(t.Context(), time.Second)
		defer patient.End()
		if err := alive(patient); err != nil {
			t.Error(err)
		}
	})
}

// What nobody drives for is done with the next tick.
func TestTickDoesWhatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, stop, _ := startReplica(t, &gatedDisk{})
		defer stop()
		done := make(chan struct{})
		begin := time.Now()
		r.Submit(create("/x"), func(*op.Result) { close(done) })
		<-done
		if took := time.Since(begin); took > DefaultTick {
			t.Error("took", took)
		}
	})
}

// Nobody waits for another one's turn to drive, and what comes during a turn is done after it.
func TestDriveWhileAnotherIsAtWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := &gatedDisk{}
		r, stop, _ := startReplica(t, disk)
		defer stop()
		gate := make(chan struct{})
		disk.set(func() { disk.gate = gate })
		first := make(chan *op.Result, 1)
		go func() { first <- r.Do(t.Context(), create("/first")) }()
		synctest.Wait() // it waits for the disk
		second := make(chan *op.Result, 1)
		r.Submit(create("/second"), func(res *op.Result) { second <- res })
		r.Drive() // returns
		if len(second) > 0 {
			t.Error("the second request was answered without the disk")
		}
		close(gate)
		synctest.Wait() // no tick is needed
		for _, ch := range []chan *op.Result{first, second} {
			select {
			case res := <-ch:
				if res.Err != nil {
					t.Error(res.Err)
				}
			default:
				t.Error("a request wasn't answered")
			}
		}
	})
}

// A disk that fails under whoever drives the core ends the member, and whoever comes later is refused.
func TestDriverMeetsADiskThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := &gatedDisk{}
		r, stop, ended := startReplica(t, disk)
		defer stop()
		broken := errors.New("the disk is broken")
		disk.set(func() { disk.err = broken })
		if res := r.Do(t.Context(), create("/x")); res.Err == nil || res.Err.Outcome != op.Unknown {
			t.Errorf("a request that may be in the log got %v", res.Err)
		}
		if err := <-ended; !errors.Is(err, broken) {
			t.Error("the member ended with", err)
		}
		if res := r.Do(t.Context(), create("/y")); res.Err == nil || res.Err.Outcome != op.Refused {
			t.Errorf("a member that has ended answered %v", res.Err)
		}
		r.Drive()
	})
}

// Requests of many goroutines, with and without a wait, are all answered, once.
func TestManyDrive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, stop, _ := startReplica(t, &gatedDisk{})
		defer stop()
		before, _ := r.Published().View.Usage("/")
		var all sync.WaitGroup
		for i := range 16 {
			all.Go(func() {
				for j := range 50 {
					if res := r.Do(t.Context(), create(fmt.Sprintf("/do-%d-%d", i, j))); res.Err != nil {
						t.Error(res.Err)
					}
					all.Add(1)
					r.Submit(create(fmt.Sprintf("/later-%d-%d", i, j)), func(res *op.Result) {
						if res.Err != nil {
							t.Error(res.Err)
						}
						all.Done()
					})
					if j%3 == 0 {
						r.Drive()
					}
				}
			})
		}
		all.Wait()
		if after, _ := r.Published().View.Usage("/"); after.Nodes-before.Nodes != 16*100 {
			t.Errorf("%d nodes more", after.Nodes-before.Nodes)
		}
	})
}

// TestCoreThatPanics is of a process: it ends, though the goroutine that drove the core recovers from panics of its own, as
// those of net/http do.
func TestCoreThatPanics(t *testing.T) {
	if os.Getenv("CORE_PANICS") != "" {
		synctest.Test(t, func(t *testing.T) {
			disk := &gatedDisk{}
			r, _, _ := startReplica(t, disk)
			disk.set(func() { disk.boom = true })
			defer func() { fmt.Println("recovered from", recover()) }()
			r.Do(t.Context(), create("/x"))
		})
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run", "^TestCoreThatPanics$")
	cmd.Env = append(os.Environ(), "CORE_PANICS=1")
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "panic: the core is broken") || strings.Contains(string(out), "recovered") {
		t.Errorf("%v, and it said:\n%s", err, out)
	}
}
