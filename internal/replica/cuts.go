package replica

import (
	"fmt"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/coord-kv/coord/fsm"
	"github.com/coord-kv/coord/op"
	"github.com/coord-kv/coord/watch"
)

// When a checkpoint is written, and how much log is kept behind it.
const (
	minCutBytes  = 64 << 20 // of log since the last one
	entryCost    = 64       // bytes that an entry costs beyond its data
	maxTailBytes = 32 << 20 // of entries before the checkpoint, kept for members that are behind
	maxTailCount = 20_000
)

// Cut is a state to be written as a checkpoint.
type Cut struct {
	Index, Term uint64
	Conf        *raftpb.ConfState
	View        *fsm.View
	Zxid        op.Zxid
	Digest      fsm.Digest
}

// Install is a received snapshot, checked and loaded, that is to become this member's state.
type Install struct {
	Message *raftpb.Message
	Machine *fsm.Machine
	History []watch.Chunk // that came with it
	Content any           // the receiver's own, such as the file

	Keep bool // the core's: the log stays and goes on from the snapshot, which may be older than the checkpoint
}

func (in *Install) index() uint64 { return in.Message.GetSnapshot().GetMetadata().GetIndex() }

// cuts decides when the state is written to disk and the log before it dropped.
type cuts struct {
	c          *Core
	min        int
	tailMax    int    // bytes of log kept before a checkpoint
	since      int    // bytes of log applied since the last checkpoint
	size       int64  // of the last checkpoint
	index      uint64 // of it
	busy       bool
	wanted     bool            // cut at the next index at which that is possible
	sending    map[uint64]bool // members that a checkpoint is being sent to, which raft has not asked for
	next       *Cut
	installing *Install   // between a turn and Persisted
	incoming   []*Install // received since the last turn, of which raft takes one at the most
}

func (q *cuts) init(c *Core, s Start) {
	q.c, q.min, q.tailMax, q.index = c, minCutBytes, maxTailBytes, s.Index
	q.sending = map[uint64]bool{}
}

// SetCutBytes changes how much log makes a checkpoint due, and keeps a quarter of that before it; for simulations,
// which have little.
func (c *Core) SetCutBytes(n int) { c.cuts.min, c.cuts.tailMax = n, n/4 }

// applied notes an entry of n bytes. A checkpoint is cut only at an index that every member remembers the digest of.
func (q *cuts) applied(n int) {
	q.since += n + entryCost
	if q.busy || q.c.halt.halted() || q.c.applied%CutEvery != 0 || !q.wanted && q.since < max(q.min, int(q.size/4*3)) {
		return
	}
	q.busy, q.wanted, q.since = true, false, 0
	q.c.history.Cut()
	q.next = &Cut{
		Index: q.c.applied, Term: q.c.appliedTerm, Conf: q.c.conf,
		View: q.c.machine.View(), Zxid: q.c.machine.Zxid(), Digest: q.c.machine.Digest(),
	}
}

func (q *cuts) take() *Cut {
	cut := q.next
	q.next = nil
	return cut
}

// CutDone says that a checkpoint of that index and size is durable and current, or that writing it failed harmlessly
// (no space), in which case it is tried again after as much log again.
func (c *Core) CutDone(index uint64, size int64, err error) {
	c.cuts.busy = false
	if err != nil {
		c.cfg.Fact(Warn, "checkpoint postponed", "err", err)
		return
	}
	c.cuts.size, c.cuts.index = size, index
	if _, err := c.log.CreateSnapshot(index, c.conf, nil); err != nil {
		return // a snapshot from the leader has overtaken it
	}
	if keep := c.cuts.tail(index); keep > 0 {
		c.log.Compact(keep)
	}
}

// tail returns the index up to which the log can go: not all of what the checkpoint covers, so that a member that is
// a little behind gets entries instead of a snapshot.
func (q *cuts) tail(index uint64) uint64 {
	first, err := q.c.log.FirstIndex()
	q.c.must(err)
	kept, count := 0, 0
	for i := index; i >= first; i-- {
		entries, err := q.c.log.Entries(i, i+1, 1)
		q.c.must(err)
		kept += len(entries[0].GetData()) + entryCost
		if count++; kept > q.tailMax || count > maxTailCount {
			return i
		}
	}
	return 0
}

// FirstIndex returns the index of the first log entry that this member still needs for others.
func (c *Core) FirstIndex() uint64 {
	first, err := c.log.FirstIndex()
	c.must(err)
	return first
}

// SnapshotSent tells raft how the transfer of a checkpoint to a member ended. Every transfer must be reported: until
// then the member is sent nothing else.
func (c *Core) SnapshotSent(to uint64, err error) {
	delete(c.cuts.sending, to)
	status := raftSnapshotOK
	if err != nil {
		status = raftSnapshotFailed
	}
	c.raft.ReportSnapshot(to, status)
}

// Receive takes a snapshot from the leader, complete and checked. A later Turn says what becomes of it: Install, if it
// is wanted and nobody contradicts it, or Discard. After an error it is the caller's to discard.
func (c *Core) Receive(from uint64, in *Install) error {
	if in.Message.GetType() != raftpb.MsgSnap {
		return fmt.Errorf("a snapshot stream that begins with a %v message", in.Message.GetType())
	}
	if err := c.check(from, in.Message); err != nil {
		return fmt.Errorf("a snapshot: %w", err)
	}
	c.vetting.begin(from, in)
	return nil
}

// admit takes a snapshot that nobody contradicts: as the state of a quarantined member, or as raft's.
func (c *Core) admit(from uint64, in *Install) {
	if c.halt.why == Quarantined && c.halt.healing == nil && c.halt.reachable(in.Message.GetSnapshot()) {
		c.halt.healing = in
		return
	}
	if err := c.stepChecked(from, in.Message); err != nil {
		c.cfg.Fact(Warn, "refused a snapshot", "member", from, "err", err)
	}
	c.cuts.incoming = append(c.cuts.incoming, in)
}

// received returns, of what arrived since the last turn, that which is installed, and the rest. What raft wants goes
// before what a quarantine does. s may be nil or empty.
func (q *cuts) received(s *raftpb.Snapshot) (install *Install, discard []*Install) {
	for _, in := range q.incoming {
		if install == nil && !raft.IsEmptySnap(s) && in.index() == s.GetMetadata().GetIndex() {
			install = in
		} else {
			discard = append(discard, in)
		}
	}
	switch own := q.c.halt.take(); {
	case own == nil:
	case install == nil && raft.IsEmptySnap(s):
		install = own
	default:
		q.c.halt.healing = nil
		discard = append(discard, own)
	}
	if install == nil && !raft.IsEmptySnap(s) {
		panic("replica: raft wants to install a snapshot that has not been received")
	}
	q.incoming, q.installing = nil, install
	return install, discard
}

// installed replaces the state by the snapshot's.
func (q *cuts) installed(s *raftpb.Snapshot) {
	c := q.c
	in := q.installing
	q.installing = nil
	c.halt.resume()
	c.replaceState(in, s.GetMetadata().GetIndex(), s.GetMetadata().GetTerm())
	c.decided = c.applied
	c.requests.installed()
	c.lives.installed()
}

// replaceState puts a received state in place of the own one.
func (c *Core) replaceState(in *Install, index, term uint64) {
	c.machine, c.applied, c.appliedTerm = in.Machine, index, term
	c.cuts.since, c.cuts.next, c.cuts.index = 0, nil, index
	c.digests.begin()
	c.replaceHistory(in.History)
}

// replaceHistory goes on behind a snapshot with the event history that came with it. Without a usable one nothing
// before the snapshot is kept, and streams that need more are told so.
func (c *Core) replaceHistory(stored []watch.Chunk) {
	floor, zxid := c.machine.Floor(), c.machine.Zxid()
	if err := c.history.Replace(floor, stored, zxid); err != nil {
		c.cfg.Fact(Warn, "the event history that came with a snapshot is of no use", "err", err)
		c.must(c.history.Replace(floor, nil, zxid))
	}
}
