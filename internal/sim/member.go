package sim

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/coord-kv/coord/internal/check"
	adapter "github.com/coord-kv/coord/internal/member"
	"github.com/coord-kv/coord/internal/replica"
	"github.com/coord-kv/coord/internal/storage"
	"github.com/coord-kv/coord/op"
)

// member is one of the cluster, alive or not.
type member struct {
	w     *world
	index int
	id    uint64
	disk  *disk
	life  *life // nil while its process doesn't run

	drift float64       // how much faster than time its clock is
	wall  time.Duration // how wrong its wall clock is

	flipped bool // its state, in memory at least, is not what the log makes: nobody may believe it

	entries map[uint64]*raftpb.Entry // all that it has ever written to its log and not replaced
}

// serving returns the life of the member if clients may ask it.
func (m *member) serving() *life {
	if m.flipped {
		return nil
	}
	return m.life
}

// flip changes a node in the state of a member, as a bit that fell over in its memory would.
func (l *life) flip() {
	w := l.w
	if l.m.flipped || slices.ContainsFunc(w.members, func(m *member) bool { return m.flipped }) {
		return
	}
	w.count.Flips++
	w.note("%v has a node flipped", l.m)
	l.m.flipped = true
	l.core.Machine().Apply(&op.Batch{Requests: []*op.Request{{Op: &op.Create{Path: fmt.Sprintf("/flip%d", w.count.Flips)}}}})
}

func (m *member) String() string { return fmt.Sprintf("m%d", m.index+1) }

// life is one run of a member's process: what internal/replica's loop does, with simulated time.
type life struct {
	m     *member
	w     *world
	dead  bool
	torn  bool // its log was cut
	boot  uint64
	began time.Duration
	grip  *grip
	store *storage.Store
	disk  *adapter.Disk
	core  *replica.Core
	pub   replica.Published

	inbox   []func()
	tick    bool // one has come and not been taken in
	woken   bool
	turning bool
	ticking bool // the present turn took in a tick
	synced  bool // the present turn has synced the log
	write   func() error
	paused  time.Duration             // the process stands still until then
	jobs    []func()                  // stop those that end with the process
	pausing func(time.Duration) error // interrupts the job that writes a checkpoint
	noted   uint64                    // index up to which decisions are in the history
	lead    uint64
}

const (
	loopDelay    = 20 * time.Microsecond
	clusterID    = 0xc0de
	wallBeginsAt = 1_700_000_000_000 // milliseconds since 1970
)

// start runs the member's process. If it ends while it reads its disk it is tried again.
func (m *member) start() {
	if m.life != nil {
		return
	}
	l := &life{m: m, w: m.w, began: m.w.now, grip: &grip{d: m.disk}}
	if m.w.chance(m.w.profile.CrashAtStart) {
		l.grip.doom(1+m.w.rng.IntN(20), nil)
	}
	if err := l.open(); err != nil {
		if !errors.Is(err, errDead) {
			m.w.fail("%v can't start: %v", m, err)
			return
		}
		m.w.note("%v ends while it starts: %v", m, err)
		m.w.count.CrashesAtStart++
		m.disk.fs.Crash(m.w.rng)
		m.w.after(m.w.between(time.Millisecond, time.Second), m.start)
		return
	}
	m.life = l
	m.w.note("%v starts, boot %d, applied %d", m, l.boot, l.core.Applied())
	m.w.net.started(m)
	l.tickLater()
}

// open reads the disk and makes the core.
func (l *life) open() error {
	store, found, err := storage.Open(l.grip.options(l.w.profile.SegmentBytes))
	if err != nil {
		return err
	}
	if found.Cut.Bytes > 0 {
		l.w.count.TornTails++
	}
	if found.Fresh {
		if err := l.found(store, found); err != nil {
			return err
		}
	}
	l.torn = found.Torn
	if l.boot, err = store.NextBoot(); err != nil {
		return err
	}
	begin, err := adapter.Load(store, found, l.w.profile.History)
	if err != nil {
		return err
	}
	l.store, l.disk = store, adapter.NewDisk(store, found)
	l.disk.Pace = l.pace
	return l.makeCore(begin)
}

// found makes an empty disk that of a member of the cluster. A process that ends in the middle has left a disk that is
// neither empty nor a member's, which is for package member to repair and not simulated.
func (l *life) found(store *storage.Store, found *storage.Recovered) error {
	l.grip.counts = false
	conf := &raftpb.ConfState{}
	for _, m := range l.w.members {
		conf.Voters = append(conf.Voters, m.id)
	}
	if err := store.Identify(l.m.id, l.m.String()); err != nil {
		return err
	}
	found.HardState, found.ConfState = &raftpb.HardState{}, conf
	return store.Found(clusterID, conf)
}

func (l *life) makeCore(begin replica.Start) (err error) {
	for _, e := range begin.Entries {
		l.m.entries[e.GetIndex()] = e
	}
	cfg := replica.Config{
		Self: l.m.id, Boot: l.boot, Torn: l.torn, Tick: l.w.profile.Tick, ElectionTicks: l.w.profile.ElectionTicks,
		Publish: l.publish,
		Fact: func(level replica.Level, what string, kv ...any) {
			if level >= replica.Info {
				l.w.note("%v: %s %v", l.m, what, kv)
			}
		},
	}
	if l.core, err = replica.New(cfg, begin); err != nil {
		return err
	}
	l.noted = begin.Index
	l.m.flipped = l.w.wrong[begin.Machine.Digest()]
	l.core.SetCutBytes(l.w.profile.CutBytes)
	return nil
}

// after lets f happen unless the process has ended by then. A process that stands still does it later.
func (l *life) after(d time.Duration, f func()) {
	l.w.after(d, func() {
		switch {
		case l.dead:
		case l.w.now < l.paused:
			l.after(l.paused-l.w.now, f)
		default:
			f()
		}
	})
}

func (l *life) clock() replica.Clock {
	mono := time.Duration(float64(l.w.now-l.began) * (1 + l.m.drift))
	return replica.Clock{Wall: op.Time(wallBeginsAt + (l.w.now + l.m.wall).Milliseconds()), Mono: uint64(mono.Milliseconds()) + 1}
}

// tickLater is a ticker that holds one tick at the most.
func (l *life) tickLater() {
	l.after(time.Duration(float64(l.w.profile.Tick)/(1+l.m.drift)), func() {
		if l.grip.dead { // it ended in the middle of what a job was doing
			l.diskFailed(errDead)
			return
		}
		l.tick = true
		l.wake()
		l.tickLater()
	})
}

// input hands something to the loop.
func (l *life) input(f func()) {
	if !l.dead {
		l.inbox = append(l.inbox, f)
		l.wake()
	}
}

func (l *life) wake() {
	if !l.turning && !l.woken {
		l.woken = true
		l.after(loopDelay, l.turn)
	}
}

// turn takes in all that waits, then does all the work that follows from it.
func (l *life) turn() {
	l.woken, l.turning, l.synced = false, true, false
	l.core.Begin(l.clock())
	inbox := l.inbox
	l.inbox = nil
	for _, in := range inbox {
		in()
	}
	if l.ticking, l.tick = l.tick, false; l.ticking {
		l.core.Free(l.disk.Free())
		l.core.Tick()
	}
	l.work()
}

// work lets the core do its turns, each of which may have to wait for the disk.
func (l *life) work() {
	for !l.dead {
		w, more := l.core.Turn(l.clock())
		l.noticeLeader()
		if !more {
			l.noteDecisions() // a member that had halted goes on without any work
			l.endTurn()
			return
		}
		for _, m := range w.Early {
			l.send(m)
		}
		if w.Install != nil || w.Discard != nil || w.Whole || w.HardState != nil || len(w.Entries) > 0 {
			l.persist(w)
			return
		}
		l.release(w)
	}
}

// persist writes after the time that it takes, and then goes on with the turn.
func (l *life) persist(w replica.Work) {
	l.write = func() error {
		if w.Install != nil {
			if err := l.disk.Install(w.Install); err != nil {
				return err
			}
		}
		for _, in := range w.Discard {
			if err := l.disk.Discard(in); err != nil {
				return err
			}
		}
		if w.Whole {
			if err := l.disk.Whole(); err != nil {
				return err
			}
		}
		return l.disk.Append(w.HardState, w.Entries, w.Sync)
	}
	l.after(l.m.disk.latency(w.Sync), func() {
		write := l.write
		l.write = nil
		if err := write(); err != nil {
			l.diskFailed(err)
			return
		}
		for _, e := range w.Entries {
			l.m.entries[e.GetIndex()] = e
		}
		l.synced = l.synced || w.Sync
		l.release(w)
		l.work()
	})
}

// release does what comes after the write.
func (l *life) release(w replica.Work) {
	for _, m := range w.Messages {
		l.send(m)
	}
	if w.Cut != nil {
		if l.m.flipped {
			l.w.wrong[w.Cut.Digest] = true
		}
		l.checkpoint(w.Cut)
	}
	l.core.Begin(l.clock())
	if w.Install != nil {
		l.m.flipped = l.w.wrong[w.Install.Machine.Digest()]
	}
	l.core.Persisted()
	switch {
	case w.Install == nil:
	case w.Install.Keep:
		l.w.count.Heals++
		l.w.note("%v has taken another member's state, and is at entry %d", l.m, l.core.Applied())
	default:
		l.w.count.Installs++
		if l.core.History().Oldest() < l.core.Machine().Zxid() {
			l.w.count.Histories++
		}
		l.w.note("%v installs the snapshot of entry %d", l.m, l.core.Applied())
		l.noted = l.core.Applied()
	}
	l.noteDecisions()
}

func (l *life) endTurn() {
	if l.ticking && !l.synced {
		if err := l.disk.Quiet(); err != nil {
			l.diskFailed(err)
			return
		}
	}
	if err := l.core.Fatal(); err != nil {
		l.w.fail("%v stops: %v", l.m, err)
		return
	}
	l.turning = false
	if l.tick || len(l.inbox) > 0 {
		l.wake()
	}
}

// diskFailed ends the process, which nobody can save after a failed sync.
func (l *life) diskFailed(err error) {
	switch {
	case errors.Is(err, errDead):
	case errors.Is(err, storage.ErrDisk):
		l.w.count.DiskErrors++
	default:
		l.w.fail("%v can't write: %v", l.m, err)
	}
	l.m.end(false)
	l.w.after(l.w.between(time.Millisecond, 2*time.Second), l.m.start)
}

// noteDecisions adds to the history what this member is the first to apply, and checks that it agrees with the others
// about what was decided.
func (l *life) noteDecisions() {
	applied := l.core.Applied()
	if applied == l.noted {
		return
	}
	for l.noted < applied {
		l.noted++
		l.w.decided(l.m, l.m.entries[l.noted])
	}
	if l.m.flipped {
		return
	}
	l.w.history.Digests = append(l.w.history.Digests, check.Digest{Member: l.m.id, Index: applied, Value: l.core.Machine().Digest()})
}

func (w *world) decided(m *member, e *raftpb.Entry) {
	log := w.history.Log
	switch index := e.GetIndex(); {
	case index == uint64(len(log))+1:
		w.note("%v decides entry %d of term %d, %d bytes", m, index, e.GetTerm(), len(e.GetData()))
		w.history.Log = append(log, check.Entry{Index: index, Term: e.GetTerm(), Data: e.GetData(), Applied: w.moment()})
	case index > uint64(len(log)):
		w.fail("%v applies entry %d, but nobody has applied %d", m, index, len(log)+1)
	case log[index-1].Term != e.GetTerm() || string(log[index-1].Data) != string(e.GetData()):
		w.fail("%v applies another entry %d, of term %d, than was decided before, of term %d", m, index, e.GetTerm(), log[index-1].Term)
	}
}

func (l *life) noticeLeader() {
	if lead := l.core.Leader(); lead != l.lead {
		l.lead = lead
		if lead == l.m.id {
			l.w.count.Leaders++
		}
	}
}

// end ends the process. Its machine may go with it, and what was not synced.
func (m *member) end(power bool) {
	l := m.life
	if l == nil {
		return
	}
	if l.write != nil && m.w.chance(60) { // in the middle of it, or after it was done and before anybody knew
		l.grip.doom(1+m.w.rng.IntN(6), nil)
		if err := l.write(); err != nil {
			m.w.count.CrashesInWrite++
		}
	}
	m.w.note("%v ends", m)
	m.w.net.ended(m, !power)
	l.dead, l.grip.dead, m.life = true, true, nil
	for _, stop := range l.jobs {
		stop()
	}
	if power || m.w.chance(m.w.profile.PowerLoss) {
		m.w.count.PowerLosses++
		m.disk.fs.Crash(m.w.rng)
	} else {
		m.disk.fs.Kill()
	}
}

// receive takes a frame of another member.
func (l *life) receive(from uint64, f *frame) {
	l.input(func() {
		if err := l.core.Step(from, f.kind, f.payload); err != nil {
			l.w.fail("%v refuses a frame of kind %d of member %x, which is sound: %v", l.m, f.kind, from, err)
		}
	})
}

func (l *life) streamDown(other *member, class int) {
	down := !l.w.net.up(l.m, other)
	l.input(func() {
		if class == bulk {
			l.core.StreamBroken(other.id)
		}
		if down {
			l.core.PeerDown(other.id)
		}
	})
}

func (l *life) send(m replica.Message) {
	to := l.w.memberOf(m.To)
	if m.Kind == replica.FrameSnapshot {
		l.sendSnapshot(to, m)
		return
	}
	class := bulk
	if m.Urgent {
		class = urgent
	}
	if !l.w.net.streams[l.m.index][to.index][class].send(m.Kind, m.Payload) {
		l.w.count.NotSent++
		l.core.NotSent(m)
	}
}

func (w *world) memberOf(id uint64) *member {
	for _, m := range w.members {
		if m.id == id {
			return m
		}
	}
	panic(fmt.Sprintf("sim: no member %x", id))
}

func (l *life) publish(p replica.Published) { l.pub = p }
