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
}

// cuts decides when the state is written to disk and the log before it dropped.
type cuts struct {
	c          *Core
	min        int
	tailMax    int    // bytes of log kept before a checkpoint
	since      int    // bytes of log applied since the last checkpoint
	size       int64  // of the last checkpoint
	index      uint64 // of it
	busy       bool
	next       *Cut
	installing *Install   // between a turn and Persisted
	incoming   []*Install // received since the last turn, of which raft takes one at the most
}

func (q *cuts) init(c *Core, s Start) {
	q.c, q.min, q.tailMax, q.index = c, minCutBytes, maxTailBytes, s.Index
}

// SetCutBytes changes how much log makes a checkpoint due, and keeps a quarter of that before it; for simulations, which
// have little.
func (c *Core) SetCutBytes(n int) { c.cuts.min, c.cuts.tailMax = n, n/4 }

// applied notes an entry of n bytes. A checkpoint is cut only at an index that every member remembers the digest of.
func (q *cuts) applied(n int) {
	q.since += n + entryCost
	if q.busy || q.c.applied%CutEvery != 0 || q.since < max(q.min, int(q.size/4*3)) || q.c.digests.quarantined() {
		return
	}
	q.busy, q.since = true, 0
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
	status := raftSnapshotOK
	if err != nil {
		status = raftSnapshotFailed
	}
	c.raft.ReportSnapshot(to, status)
}

// Receive takes a snapshot from the leader, complete and checked. The next Turn says what becomes of it: Install, if raft
// wants it, or Discard. After an error it is the caller's to discard.
func (c *Core) Receive(from uint64, in *Install) error {
	if in.Message.GetType() != raftpb.MsgSnap {
		return fmt.Errorf("a snapshot stream that begins with a %v message", in.Message.GetType())
	}
	if err := c.stepChecked(from, in.Message); err != nil {
		return err
	}
	c.cuts.incoming = append(c.cuts.incoming, in)
	return nil
}

// received returns, of what arrived since the last turn, that which raft installs, and the rest. s may be nil or empty.
func (q *cuts) received(s *raftpb.Snapshot) (install *Install, discard []*Install) {
	for _, in := range q.incoming {
		if install == nil && !raft.IsEmptySnap(s) && in.Message.GetSnapshot().GetMetadata().GetIndex() == s.GetMetadata().GetIndex() {
			install = in
		} else {
			discard = append(discard, in)
		}
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
	c.machine, q.installing = in.Machine, nil
	c.applied, c.appliedTerm = s.GetMetadata().GetIndex(), s.GetMetadata().GetTerm()
	q.since, q.next, q.index = 0, nil, c.applied
	c.digests.record(c.applied)
	c.replaceHistory(in.History)
	c.requests.installed()
	c.lives.installed()
}

// replaceHistory goes on behind a snapshot with the event history that came with it. Without a usable one nothing before
// the snapshot is kept, and streams that need more are told so.
func (c *Core) replaceHistory(stored []watch.Chunk) {
	floor, zxid := c.machine.Floor(), c.machine.Zxid()
	if err := c.history.Replace(floor, stored, zxid); err != nil {
		c.cfg.Fact(Warn, "the event history that came with a snapshot is of no use", "err", err)
		c.must(c.history.Replace(floor, nil, zxid))
	}
}
