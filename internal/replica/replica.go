package replica

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"golang.org/x/sync/errgroup"

	"github.com/coord-kv/coord/fsm"
	"github.com/coord-kv/coord/op"
	"github.com/coord-kv/coord/watch"
)

// Disk is what a replica needs of a data directory. Every error but those of WriteCheckpoint ends the member: after a
// failed sync nobody knows what is stored.
type Disk interface {
	// Append adds to the log, and makes everything appended so far durable if sync is true.
	Append(hs *raftpb.HardState, entries []*raftpb.Entry, sync bool) error
	// Quiet is called once in a tick without appends.
	Quiet() error
	// WriteCheckpoint makes the cut, and the sealed event history with it, the current checkpoint, and returns its
	// size. It runs beside Append. fatal is about what can't be taken back; err alone did no harm.
	WriteCheckpoint(cut *Cut, h *watch.History) (size int64, err error, fatal error)
	// Compact says that entries before index are not needed from the log any more.
	Compact(index uint64) error
	// Install replaces everything by a received snapshot.
	Install(in *Install) error
	// Discard takes a received snapshot away.
	Discard(in *Install) error
	// Whole says that the log, whose end was cut, is whole again; see Config.Torn.
	Whole() error
	// Free returns the bytes left on the file system.
	Free() int64
}

// Network is what a replica needs of the streams to other members.
type Network interface {
	// Send never blocks; false means that the frame was not taken.
	Send(m Message) bool
	// SendSnapshot streams the current checkpoint behind m's header and waits for the receiver's verdict.
	SendSnapshot(ctx context.Context, m Message) error
}

// Observer is told how long things took, for metrics. Its methods must not block.
type Observer interface {
	SyncDone(d time.Duration)
	ProposalDone(d time.Duration, outcome op.Outcome)
	ReadRound(d time.Duration) // from asking for a linearizable read until there was a view for it
	CheckpointDone(what string, d time.Duration, err error)
	// Applied is called before the events of a batch up to z can be seen.
	Applied(z op.Zxid)
	// Turn is called for each turn that this member applies, in order. Mine says that the request came through this
	// member: of all members, one at most counts it as its own.
	Turn(t fsm.Turn, at op.Time, mine bool)
	// Heartbeat is called on a leader with how long a session still had when a sign of life of it arrived.
	Heartbeat(left time.Duration)
}

// Options are what a Replica is made of.
type Options struct {
	Config  Config
	Start   Start
	Disk    Disk
	Network Network
	Now     func() Clock
	Logger  *slog.Logger
	Observe Observer // nil: nobody
}

// Replica is a member: a Core, and who drives it. Its methods are safe for concurrent use.
type Replica struct {
	opt     Options
	inbox   inbox
	driver  driver
	core    *Core     // the driver's
	watch   stopwatch // likewise, but for what it tells
	pub     atomic.Pointer[Published]
	leader  atomic.Uint64
	history *watch.History
	space   space
	done    chan struct{} // closed when the loop has ended
	jobs    *errgroup.Group
	jobsCtx context.Context
}

// NewReplica returns a replica that begins from what its disk held. Run makes it go.
func NewReplica(opt Options) (*Replica, error) {
	r := &Replica{opt: opt, done: make(chan struct{}), history: opt.Start.History}
	r.inbox.init()
	r.driver.init()
	opt.Config.Publish = func(p Published) { r.pub.Store(&p) }
	if o := opt.Observe; o != nil {
		r.watch.observe = o
		opt.Config.Applied, opt.Config.Turned, opt.Config.Beaten = o.Applied, o.Turn, o.Heartbeat
	}
	opt.Config.Fact = func(l Level, what string, kv ...any) {
		opt.Logger.Log(context.Background(), slog.Level(l), what, kv...)
	}
	core, err := New(opt.Config, opt.Start)
	if err != nil {
		return nil, err
	}
	r.core = core
	return r, nil
}

// Run drives the replica until ctx ends, which is no error, or the member cannot go on. It may be called once.
func (r *Replica) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	r.jobs, r.jobsCtx = g, ctx
	g.Go(func() error {
		defer close(r.done)
		defer r.inbox.close()
		return r.loop(ctx)
	})
	return g.Wait()
}

// turn takes in all that waits, then does all the work that follows from it.
func (r *Replica) turn(tick bool) error {
	defer crash()
	r.core.Begin(r.opt.Now())
	for _, in := range r.inbox.take() {
		r.input(in)
	}
	if tick {
		if r.space.isDue() {
			r.core.Free(r.opt.Disk.Free())
		}
		r.core.Tick()
	}
	appended := false
	for {
		r.watch.now = time.Time{}
		w, more := r.core.Turn(r.opt.Now())
		r.leader.Store(r.core.lead)
		if !more {
			break
		}
		if err := r.work(w); err != nil {
			return err
		}
		appended = appended || w.Sync
		r.core.Begin(r.opt.Now())
		r.watch.now = time.Time{}
		r.core.Persisted()
	}
	if tick && !appended {
		if err := r.opt.Disk.Quiet(); err != nil {
			return fmt.Errorf("couldn't write to the log: %w", err)
		}
	}
	return r.core.Fatal()
}

// space says when the disk is asked how much room it has: in the first tick, in each after something was written, and else
// once in a while, for what others write.
type space struct {
	used  bool
	ticks int // until it is asked anyway
}

// spaceTicks is how often that is: once a second, with ticks of the usual length.
const spaceTicks = 20

// isDue is called once a tick.
func (s *space) isDue() bool {
	s.ticks--
	due := s.used || s.ticks < 0
	if due {
		*s = space{ticks: spaceTicks}
	}
	return due
}

func (r *Replica) input(in any) {
	switch in := in.(type) {
	case *Call:
		r.core.Submit(in)
	case *Read:
		r.core.Read(in)
	case *KeepAlive:
		r.core.KeepAlive(in)
	case *TimeLeft:
		r.core.TimeLeft(in)
	case *frame:
		if err := r.core.Step(in.from, in.kind, in.payload); err != nil {
			r.opt.Logger.Warn("a member sent what no sound member sends", "member", in.from, "err", err)
		}
	case func(*Core):
		in(r.core)
	}
}

type frame struct {
	from    uint64
	kind    uint8
	payload []byte
}

func (r *Replica) work(w Work) error {
	if w.Install != nil {
		if err := r.opt.Disk.Install(w.Install); err != nil {
			return fmt.Errorf("couldn't install a snapshot: %w", err)
		}
	}
	for _, in := range w.Discard {
		if err := r.opt.Disk.Discard(in); err != nil {
			return fmt.Errorf("couldn't discard a snapshot: %w", err)
		}
	}
	if w.Whole {
		if err := r.opt.Disk.Whole(); err != nil {
			return fmt.Errorf("couldn't remember that the log is whole: %w", err)
		}
	}
	for _, m := range w.Early {
		r.send(m)
	}
	if len(w.Early) > 0 {
		runtime.Gosched() // the streams' writers send before this goroutine waits for the disk
	}
	if w.HardState != nil || len(w.Entries) > 0 {
		if err := r.append(w); err != nil {
			return fmt.Errorf("couldn't write to the log: %w", err)
		}
	}
	for _, m := range w.Messages {
		r.send(m)
	}
	if w.Cut != nil {
		r.jobs.Go(func() error { return r.writeCheckpoint(w.Cut) })
	}
	return nil
}

func (r *Replica) append(w Work) error {
	r.space.used = true
	start := time.Now()
	err := r.opt.Disk.Append(w.HardState, w.Entries, w.Sync)
	if w.Sync && r.opt.Observe != nil {
		r.opt.Observe.SyncDone(time.Since(start))
	}
	return err
}

func (r *Replica) send(m Message) {
	if m.Kind != FrameSnapshot {
		if !r.opt.Network.Send(m) {
			r.core.NotSent(m)
		}
		return
	}
	r.jobs.Go(func() error {
		start := time.Now()
		err := r.opt.Network.SendSnapshot(r.jobsCtx, m)
		r.observe("send", start, err)
		if err != nil {
			r.opt.Logger.Warn("couldn't send a snapshot", "member", m.To, "err", err)
		}
		r.tell(func(c *Core) { c.SnapshotSent(m.To, err) })
		return nil
	})
}

func (r *Replica) observe(what string, start time.Time, err error) {
	if r.opt.Observe != nil {
		r.opt.Observe.CheckpointDone(what, time.Since(start), err)
	}
}

func (r *Replica) writeCheckpoint(cut *Cut) error {
	start := time.Now()
	size, err, fatal := r.opt.Disk.WriteCheckpoint(cut, r.history)
	r.observe("create", start, err)
	if fatal != nil {
		return fmt.Errorf("couldn't write a checkpoint: %w", fatal)
	}
	r.opt.Logger.Info("checkpoint", "index", cut.Index, "bytes", size, "took", time.Since(start), "err", err)
	r.tell(func(c *Core) {
		c.CutDone(cut.Index, size, err)
		if first := c.FirstIndex(); err == nil {
			r.jobs.Go(func() error { return r.opt.Disk.Compact(first) })
		}
	})
	return nil
}

// tell has the loop do something; false means that there is no loop any more.
func (r *Replica) tell(do func(*Core)) bool {
	ok := r.inbox.putWait(do)
	r.inbox.signal()
	return ok
}

// Receive takes a frame of another member, in the order of its stream. More says that the next one is there already, so
// that it is worth doing both in one turn.
func (r *Replica) Receive(from uint64, kind uint8, payload []byte, more bool) {
	if r.inbox.putWait(&frame{from, kind, payload}) && !more {
		r.Drive()
	}
}

// ReceiveSnapshot takes a snapshot of another member that is complete, checked and loaded.
func (r *Replica) ReceiveSnapshot(from uint64, in *Install) error {
	verdict := make(chan error, 1)
	if !r.tell(func(c *Core) { verdict <- c.Receive(from, in) }) {
		return errStopped
	}
	select {
	case err := <-verdict:
		return err
	case <-r.done:
		return errStopped
	}
}

// PeerDown says that the last stream to or from a member has broken.
func (r *Replica) PeerDown(id uint64) { r.tell(func(c *Core) { c.PeerDown(id) }) }

// StreamBroken says that the outgoing bulk stream to a member broke.
func (r *Replica) StreamBroken(id uint64) { r.tell(func(c *Core) { c.StreamBroken(id) }) }

// Campaign asks for an election now.
func (r *Replica) Campaign() { r.tell(func(c *Core) { c.Campaign() }) }

// Leads reports whether this member leads, as it last noticed.
func (r *Replica) Leads() bool { return r.leader.Load() == r.core.cfg.Self }

// HandOver gives leadership to another member and waits until it is gone or ctx ends. It returns at once if this member
// doesn't lead, or has nobody to lead after it.
func (r *Replica) HandOver(ctx context.Context) error {
	begun := make(chan bool, 1)
	if !r.Leads() || !r.tell(func(c *Core) { begun <- c.HandOver() }) {
		return nil
	}
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	for r.Leads() {
		select {
		case ok := <-begun:
			if !ok {
				return nil
			}
		case <-poll.C:
		case <-r.done:
			return nil
		case <-ctx.Done():
			return fmt.Errorf("leadership was not taken over: %w", ctx.Err())
		}
	}
	return nil
}

// Published returns what readers see now.
func (r *Replica) Published() *Published { return r.pub.Load() }

// View returns the state as a view at least as fresh as o asks for.
func (r *Replica) View(ctx context.Context, o op.ReadOptions) (*fsm.View, op.ReadInfo, error) {
	if v, info, err, ok := r.ViewNow(o); ok {
		return v, info, err
	}
	type answer struct {
		v    *fsm.View
		info op.ReadInfo
		err  error
	}
	ch := make(chan answer, 1)
	read := &Read{Options: o, Done: func(v *fsm.View, info op.ReadInfo, err error) { ch <- answer{v, info, err} }}
	start := time.Now()
	if !r.inbox.put(read) {
		return nil, op.ReadInfo{}, r.refusal()
	}
	r.Drive()
	select {
	case a := <-ch:
		if r.opt.Observe != nil && o.Level == op.Linearizable && a.err == nil {
			r.opt.Observe.ReadRound(time.Since(start))
		}
		return a.v, a.info, a.err
	case <-ctx.Done():
		read.Abandon()
		return nil, op.ReadInfo{}, r.notInTime()
	case <-r.done:
		return nil, op.ReadInfo{}, errStopped
	}
}
