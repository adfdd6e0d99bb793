package replica

import (
	"fmt"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/coord-kv/coord/fsm"
	"github.com/coord-kv/coord/op"
	"github.com/coord-kv/coord/session"
	"github.com/coord-kv/coord/watch"
)

// Clock is the time of one turn, given by whoever drives the core.
type Clock struct {
	Wall op.Time // for ctime and mtime only
	Mono uint64  // milliseconds of a clock that never jumps; its zero means nothing
}

// Config is what a core is told once. Zero durations and counts mean the default.
type Config struct {
	Self          uint64        // id of this member, never 0
	Boot          uint64        // how often it has started; durable before the core is made
	Tick          time.Duration // of liveness and elections; 50 ms
	ElectionTicks int           // without a leader before an election; 10
	SpaceMark     int64         // bytes below which a disk counts as nearly full; 0 for never
	Torn          bool          // the end of the log was cut, and it is not known to be whole again
	MaxLevel      uint32        // the highest level of the state that this member speaks; fsm.MaxLevel

	CutBytes int // of log between two checkpoints, at least; 64 MiB

	// Heard is called with how far another member says that it has applied the log, which its disk then holds. Nil: nobody
	// wants to know. It must not block.
	Heard   func(id, index uint64)
	Applied func(z op.Zxid)                           // called before the events of a batch up to z can be seen; nil: nobody counts
	Turned  func(t fsm.Turn, at op.Time, mine bool)   // called with each turn that was applied; nil: nobody counts them
	Beaten  func(left time.Duration)                  // called on a leader with what a session had left when heard; nil: nobody counts
	Publish func(Published)                           // called whenever the state has moved, before anybody is answered
	Fact    func(level Level, what string, kv ...any) // what happened, for the log; nil drops it
}

// Level is how much a fact matters.
type Level int8

// The levels of slog.
const (
	Debug Level = -4
	Info  Level = 0
	Warn  Level = 4
)

// Start is the state that a core begins from: what the disk held.
type Start struct {
	HardState *raftpb.HardState
	ConfState *raftpb.ConfState
	Index     uint64          // of the last entry that Machine has applied
	Term      uint64          // of that entry
	Base      uint64          // index before the first of Entries, at most Index
	BaseTerm  uint64          // of the entry at Base
	Entries   []*raftpb.Entry // of the log, up to Index at least
	Machine   *fsm.Machine
	History   *watch.History
}

// Published is what readers on other goroutines see of a core: it is replaced whole, never changed.
type Published struct {
	View    *fsm.View
	Serving bool   // the member has once caught up with a leader
	FreshAt uint64 // Clock.Mono when the last quorum round that View reflects began; 0 for never
}

// Core is one member without I/O: raft, the state machine, the session tracker, and everybody who waits for them. It
// takes inputs (Tick, Step, Submit, ...) and returns work (Turn); it never looks at a clock, a file or a socket and
// starts no goroutine, so that the same code runs in production and under a seeded simulator. It is not safe for
// concurrent use.
type Core struct {
	cfg     Config
	now     Clock
	raft    *raft.RawNode
	log     *memoryLog
	machine *fsm.Machine
	history *watch.History
	fatal   error // the member must stop

	// Who leads, as last noticed.
	lead    uint64
	term    uint64
	leading bool // this member leads and has applied an entry of its own term
	changes uint64
	raised  uint32 // the level that this leadership has proposed

	decided     uint64 // index of the last entry that raft has handed over
	applied     uint64 // index of the last one in the state: behind only while the member has halted
	appliedTerm uint64
	conf        *raftpb.ConfState
	pub         Published
	answers     []telling // to be given once the view is published
	spare       []telling // what was, to be filled anew

	requests requests
	reads    reads
	lives    lives
	ends     ends
	high     high
	digests  digests
	halt     quarantine
	vetting  vetting
	torn     torn
	cuts     cuts
	elect    takeover

	ready    raft.Ready
	hasReady bool
	early    []Message
	out      []Message
	ticked   bool // a tick has passed since the last turn
}

// New returns a core that begins from start. It returns an error if start contradicts itself.
func New(cfg Config, start Start) (*Core, error) {
	if cfg.Tick == 0 {
		cfg.Tick = DefaultTick
	}
	if cfg.ElectionTicks == 0 {
		cfg.ElectionTicks = DefaultElectionTicks
	}
	if cfg.MaxLevel == 0 {
		cfg.MaxLevel = fsm.MaxLevel
	}
	if cfg.Fact == nil {
		cfg.Fact = func(Level, string, ...any) {}
	}
	if cfg.Heard == nil {
		cfg.Heard = func(uint64, uint64) {}
	}
	if cfg.Publish == nil {
		cfg.Publish = func(Published) {}
	}
	c := &Core{
		cfg: cfg, machine: start.Machine, history: start.History,
		decided: start.Index, applied: start.Index, appliedTerm: start.Term, conf: start.ConfState,
	}
	if c.checkLevel(start.Index); c.fatal != nil {
		return nil, c.fatal
	}
	if err := c.loadLog(start); err != nil {
		return nil, err
	}
	node, err := raft.NewRawNode(c.raftConfig())
	if err != nil {
		return nil, fmt.Errorf("couldn't start raft: %w", err)
	}
	c.raft = node
	c.requests.init(c)
	c.reads.init(c)
	c.lives.init(c, session.NewTracker(cfg.Tick))
	c.digests.init(c)
	c.halt.c, c.vetting.c = c, c
	c.torn.init(c)
	c.cuts.init(c, start)
	if cfg.CutBytes > 0 {
		c.SetCutBytes(cfg.CutBytes)
	}
	c.elect.c = c
	c.pub.View = c.machine.View()
	c.cfg.Publish(c.pub)
	return c, nil
}

// DefaultTick and DefaultElectionTicks make an election timeout of half a second to a second, an eighth of the shortest
// session timeout that the state machine grants by default.
const (
	DefaultTick          = 50 * time.Millisecond
	DefaultElectionTicks = 10
)

// What one message and one turn may carry, and what may be under way to a peer.
const (
	maxMessageBytes  = 1 << 20
	maxApplyBytes    = 4 << 20
	maxInflight      = 256
	maxInflightBytes = 16 << 20
)

func (c *Core) raftConfig() *raft.Config {
	return &raft.Config{
		ID: c.cfg.Self, ElectionTick: c.cfg.ElectionTicks, HeartbeatTick: 1,
		Storage: c.log, Applied: c.applied,
		MaxSizePerMsg: maxMessageBytes, MaxCommittedSizePerReady: maxApplyBytes,
		MaxInflightMsgs: maxInflight, MaxInflightBytes: maxInflightBytes,
		CheckQuorum: true, PreVote: true, DisableProposalForwarding: true, StepDownOnRemoval: true,
		Logger: raftLog{c.cfg.Fact},
	}
}

func (c *Core) loadLog(s Start) error {
	c.log = &memoryLog{MemoryStorage: raft.NewMemoryStorage(), conf: s.ConfState}
	last := s.Base + uint64(len(s.Entries))
	if s.HardState.GetCommit() < s.Index || s.Base > s.Index || last < s.Index {
		return fmt.Errorf("the state has applied entry %d, but the log has entries %d to %d of which %d are decided",
			s.Index, s.Base+1, last, s.HardState.GetCommit())
	}
	if s.Base > 0 {
		if err := c.log.ApplySnapshot(snapshotAt(s.Base, s.BaseTerm, s.ConfState)); err != nil {
			return fmt.Errorf("couldn't place the log behind entry %d: %w", s.Base, err)
		}
	}
	if err := c.log.Append(s.Entries); err != nil {
		return fmt.Errorf("couldn't load the log: %w", err)
	}
	if s.Index > s.Base {
		if _, err := c.log.CreateSnapshot(s.Index, s.ConfState, nil); err != nil {
			return fmt.Errorf("couldn't place the state in the log: %w", err)
		}
	}
	return c.log.SetHardState(s.HardState)
}

// memoryLog is raft's log in memory. Its membership is known even while there is no snapshot.
type memoryLog struct {
	*raft.MemoryStorage
	conf *raftpb.ConfState
}

// InitialState returns what raft begins with.
func (l *memoryLog) InitialState() (*raftpb.HardState, *raftpb.ConfState, error) {
	hs, _, err := l.MemoryStorage.InitialState()
	return hs, l.conf, err
}

func snapshotAt(index, term uint64, conf *raftpb.ConfState) *raftpb.Snapshot {
	return &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{ConfState: conf, Index: &index, Term: &term}}
}

// Work is what the world must do for a core, in this order: install the snapshot, send the early messages, append the hard
// state and entries, make them durable if Sync says so, then send the other messages, then call Persisted.
type Work struct {
	Install   *Install
	Early     []Message // a leader's entries, which the other members sync while it does: Ongaro's thesis, 10.2.1
	HardState *raftpb.HardState
	Entries   []*raftpb.Entry
	Sync      bool
	Messages  []Message
	Discard   []*Install // received, and not wanted
	Whole     bool       // remember that the log, whose end was cut, is whole again
	Cut       *Cut       // begin writing this checkpoint in the background; CutDone tells how it went
}

// Begin says what time it is: before the inputs of a turn, and before Persisted, because writing takes time.
func (c *Core) Begin(now Clock) { c.now = now }

// Turn moves the core on as far as its inputs allow without I/O and returns the work that it then needs done; false
// means that there is none. Every Turn that returns true is followed by one Persisted.
func (c *Core) Turn(now Clock) (Work, bool) {
	c.now = now
	if c.fatal != nil {
		return Work{}, false
	}
	c.noticeLeader()
	c.elect.turn()
	c.torn.turn()
	c.lives.turn()
	c.requests.turn()
	c.reads.turn()
	c.ticked = false

	w := Work{Cut: c.cuts.take(), Whole: c.torn.done}
	c.torn.done = false
	if c.hasReady = c.raft.HasReady(); c.hasReady {
		c.ready = c.raft.Ready()
		w.HardState, w.Entries, w.Sync = c.ready.HardState, c.ready.Entries, c.ready.MustSync
		for _, m := range c.ready.Messages {
			c.sendRaft(m)
		}
	}
	w.Install, w.Discard = c.cuts.received(c.ready.Snapshot)
	w.Sync = w.Sync || w.Install != nil
	w.Early, c.early = c.early, nil
	w.Messages, c.out = c.out, nil
	if c.hasReady || len(w.Early) > 0 || len(w.Messages) > 0 || w.Cut != nil || w.Install != nil || w.Discard != nil || w.Whole {
		return w, true
	}
	c.settle()
	return w, false
}

// Persisted says that the work of the last Turn is done. Committed entries are applied here, never before: they may
// stand in the very batch of entries that Turn returned, and a state ahead of its log could not be explained after a
// power loss.
func (c *Core) Persisted() {
	if c.hasReady {
		c.hasReady = false
		rd := c.ready
		c.ready = raft.Ready{}
		c.stable(rd)
		for _, e := range rd.CommittedEntries {
			c.apply(e)
		}
		c.raft.Advance(rd)
		for _, rs := range rd.ReadStates {
			c.reads.confirmed(rs)
		}
	}
	if c.halt.healing != nil && c.cuts.installing == c.halt.healing {
		c.cuts.installing = nil
		c.halt.healed()
	}
	c.settle()
}

func (c *Core) stable(rd raft.Ready) {
	if !raft.IsEmptySnap(rd.Snapshot) {
		c.must(c.log.ApplySnapshot(rd.Snapshot))
		c.cuts.installed(rd.Snapshot)
	}
	c.must(c.log.Append(rd.Entries))
	if rd.HardState != nil {
		c.must(c.log.SetHardState(rd.HardState))
	}
}

func (c *Core) must(err error) {
	if err != nil {
		panic(fmt.Sprintf("replica: the log in memory refused what raft had made: %v", err))
	}
}

// settle publishes the state as it now stands, then answers everybody who waited for it. The events are published
// before the view, so that no reader can answer at a zxid before its events stand.
func (c *Core) settle() {
	c.reads.settle()
	if c.pub.View.Zxid() != c.machine.Zxid() || c.pub.Serving != c.reads.serving || c.pub.FreshAt != c.reads.freshAt {
		c.pub = Published{View: c.machine.View(), Serving: c.reads.serving, FreshAt: c.reads.freshAt}
		c.cfg.Publish(c.pub)
	}
	c.reads.answer()
	answers := c.answers
	c.answers = c.spare[:0]
	for i := range answers {
		answers[i].give()
	}
	clear(answers)
	c.spare = answers
}

// Tick says that one tick has passed. The caller gives at most one a turn, after everything that had arrived before
// it, and never makes up for ticks that it missed: otherwise a stalled disk would expire every live session at once.
func (c *Core) Tick() {
	c.ticked = true
	c.raft.Tick()
	c.lives.tick()
	c.requests.tick()
	c.reads.tick()
	c.digests.tick()
	c.halt.tick()
	c.vetting.tick()
	c.raiseLevel()
	c.elect.tick()
}

// Fatal returns why the member must stop, or nil.
func (c *Core) Fatal() error { return c.fatal }

func (c *Core) fail(format string, args ...any) {
	if c.fatal == nil {
		c.fatal = fmt.Errorf(format, args...)
	}
}

// noticeLeader reacts to a change of leader or of its term.
func (c *Core) noticeLeader() {
	st := c.raft.BasicStatus()
	lead, term := st.Lead, st.GetTerm()
	if lead == c.lead && term == c.term {
		return
	}
	was := c.lead
	c.lead, c.term, c.leading, c.raised = lead, term, false, 0
	if lead != 0 && lead != was {
		c.changes++
	}
	c.cfg.Fact(Info, "leader changed", "leader", lead, "term", term, "self", lead == c.cfg.Self)
	c.requests.leaderChanged()
	c.reads.leaderChanged()
	c.lives.leaderChanged()
	c.torn.leaderChanged()
}

// isLeader reports whether this member may propose.
func (c *Core) isLeader() bool { return c.lead == c.cfg.Self }

// telling is what somebody is told: what became of his call, or anything else.
type telling struct {
	call *Call
	res  *op.Result
	tell func() // if there is no call
}

func (t *telling) give() {
	if t.call != nil {
		t.call.answer(t.res)
		return
	}
	t.tell()
}

func (c *Core) answer(tell func()) { c.answers = append(c.answers, telling{tell: tell}) }

func (c *Core) answerCall(k *Call, r *op.Result) {
	c.answers = append(c.answers, telling{call: k, res: r})
}

// Leader returns the id of the leader as this member last noticed it, 0 for none.
func (c *Core) Leader() uint64 { return c.lead }

// Applied returns the index of the last entry applied.
func (c *Core) Applied() uint64 { return c.applied }

// Machine returns the state machine, which belongs to the core.
func (c *Core) Machine() *fsm.Machine { return c.machine }

// History returns the event history, which is safe for concurrent use.
func (c *Core) History() *watch.History { return c.history }
