package replica

import (
	"fmt"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/coord-kv/coord/op/wire"
)

// Halt says whether, and why, a member's state counts for nothing.
type Halt uint8

// A member that has halted serves nothing, and goes on storing, acknowledging and voting: its log is sound. In doubt it
// goes on applying too, so as to go on comparing, and holds back what would tell anybody of it. In quarantine its state
// stands still, and what is decided waits in the log.
const (
	Running     Halt = iota
	Doubtful         // another member's state is different, and no majority is known to have this one
	Quarantined      // a majority has another state; this one is to be replaced
)

// String names the halt for people.
func (h Halt) String() string { return [...]string{"running", "doubtful", "quarantined"}[h] }

// quarantine decides what becomes of a member when states differ. A strict majority of the voters stands. Whoever
// differs from one drops its state, never its log, and takes that of a majority's member: a checkpoint that its own log
// goes on from. Its own checkpoint is replaced in the step in which the other one is in place, not dropped before: a
// directory without any could not be started. Where there is no majority everybody stops serving, and keeps all data,
// for people to look at.
type quarantine struct {
	c       *Core
	why     Halt
	times   uint64   // how often the state was found to be in question
	healing *Install // a majority's state, to be installed
	ticks   int      // since the leader was last asked for one
	told    uint64   // index up to which everybody was told what was done
	held    []func() // what they are to be told of what came after it, in doubt
}

// halted reports whether the state must be shown to nobody.
func (q *quarantine) halted() bool { return q.why != Running }

// frozen reports whether the state stands still: in quarantine, or when too much is held back.
func (q *quarantine) frozen() bool { return q.why == Quarantined || len(q.held) >= maxHeld }

const maxHeld = 1 << 14 // three for an entry

// tell does f, which tells others of the state: at once, or when the state has turned out right.
func (q *quarantine) tell(f func()) {
	if q.halted() {
		q.held = append(q.held, f)
	} else {
		f()
	}
}

// resume makes the state count again: another one, or this one. What is held back is the caller's to tell.
func (q *quarantine) resume() (held []func()) {
	held = q.held
	q.why, q.held = Running, nil
	return held
}

// reason says why the member serves nothing, and what to do where it can't help itself.
func (q *quarantine) reason() string {
	running := 0
	for _, id := range q.c.conf.GetVoters() {
		if b, heard := q.c.digests.beat[id]; heard && b.Halt == Running && b.Speaks != 0 {
			running++
		}
	}
	switch {
	case q.why == Quarantined && running > 0:
		return "this member's state differs from a majority's: it waits for theirs"
	default:
		return "the members' states differ, and no majority is known to have one: start the members that are away, or " +
			"compare their data directories, which are kept as they are, and replace those that are wrong"
	}
}

// Halted returns whether, and why, the member serves nothing because states differ.
func (c *Core) Halted() Halt { return c.halt.why }

// judge reacts to what is known of the members' states.
func (q *quarantine) judge() {
	d, voters := &q.c.digests, len(q.c.conf.GetVoters())
	switch {
	case q.why == Quarantined: // only another state ends that
	case 2*len(d.differ) > voters:
		q.stop(Quarantined, "this member's state differs from a majority's: it serves nothing until it has theirs")
		q.ticks = q.c.cfg.ElectionTicks
	case len(d.differ) > 0 && 2*d.agreeing() <= voters:
		if q.why == Running {
			q.stop(Doubtful, "no majority of the members is known to have this member's state: it serves nothing until one is")
			q.ask()
		}
	case q.why == Doubtful:
		q.c.cfg.Fact(Info, "a majority of the members has this member's state")
		for _, f := range q.resume() {
			f()
		}
		q.c.catchUp()
	}
}

func (q *quarantine) stop(why Halt, what string) {
	if q.why == Running {
		q.times++
		q.told = q.c.applied
	}
	q.why, q.held = why, nil
	q.c.reads.halt()
	q.c.cfg.Fact(Warn, what, "index", q.c.applied)
}

// ask asks all others for their digest of where this member stands.
func (q *quarantine) ask() { q.c.sendOthers(FrameRecall, wire.Uint(nil, q.c.applied)) }

// tick gives leadership to a member whose state is right, if there is one, and asks the leader for its state.
func (q *quarantine) tick() {
	c := q.c
	switch {
	case q.why != Quarantined:
	case !c.isLeader():
		q.fetch()
	case c.requests.handing == 0:
		c.HandOver()
	}
}

// fetch asks the leader for its state, every election timeout.
func (q *quarantine) fetch() {
	c := q.c
	if q.ticks++; q.ticks < c.cfg.ElectionTicks || c.lead == 0 || c.cuts.busy || q.healing != nil || c.vetting.busy() {
		return
	}
	q.ticks = 0
	c.send(c.lead, true, FrameFetch, wire.Uint(nil, c.FirstIndex()-1))
}

// reachable reports whether the own log goes on from a snapshot.
func (q *quarantine) reachable(s *raftpb.Snapshot) bool {
	term, err := q.c.log.Term(s.GetMetadata().GetIndex())
	return err == nil && term == s.GetMetadata().GetTerm() && s.GetMetadata().GetIndex() <= q.c.decided
}

// take returns the state to be installed in this turn, if there is one.
func (q *quarantine) take() *Install {
	if q.healing != nil {
		q.healing.Keep = true
	}
	return q.healing
}

// healed puts a majority's state in place of the own one, and goes on from there by the own log. Calls whose fate lies
// in entries that nobody has looked at here are resolved as behind any snapshot.
func (q *quarantine) healed() {
	c, in := q.c, q.healing
	at := in.Message.GetSnapshot().GetMetadata()
	skipped := at.GetIndex() > q.told
	q.healing = nil
	q.resume()
	c.replaceState(in, at.GetIndex(), at.GetTerm())
	if skipped {
		c.requests.installed()
	}
	c.lives.installed()
	c.cuts.wanted = true // raft may know of a checkpoint that is no more
	c.cfg.Fact(Info, "this member has a majority's state again", "index", at.GetIndex())
	c.catchUp()
}

// fetched sends a quarantined member the current checkpoint, if its log goes on from there, or makes a new one due.
func (q *quarantine) fetched(from uint64, payload []byte) error {
	r := wire.NewReader(payload)
	base := r.Uint()
	if err := r.Done(); err != nil {
		return err
	}
	c := q.c
	switch {
	case !c.isMember(from):
		return fmt.Errorf("member %x, which is not of this cluster, asks for a state", from)
	case !c.isLeader() || q.halted() || c.cuts.busy || c.cuts.sending[from]:
	case c.cuts.index == 0 || c.cuts.index < base:
		c.cuts.wanted = true
		c.pad()
	default:
		c.sendCheckpoint(from)
	}
	return nil
}

// sendCheckpoint sends the current checkpoint as if raft had asked for it.
func (c *Core) sendCheckpoint(to uint64) {
	index := c.cuts.index
	term, err := c.log.Term(index)
	if err != nil {
		return // raft has installed another since
	}
	m := &raftpb.Message{
		Type: raftpb.MsgSnap.Enum(), From: &c.cfg.Self, To: &to, Term: &c.term, Snapshot: snapshotAt(index, term, c.conf),
	}
	payload, err := proto.Marshal(m)
	if err != nil {
		panic(fmt.Sprintf("replica: a snapshot's header can't be encoded: %v", err))
	}
	c.cuts.sending[to] = true
	c.out = append(c.out, Message{To: to, Kind: FrameSnapshot, Payload: payload, Index: index})
}

// pad brings an idle log to an index at which a checkpoint can be cut.
func (c *Core) pad() {
	last := c.lastIndex()
	if c.applied != last {
		return
	}
	for range CutEvery - last%CutEvery {
		if err := c.raft.Propose(nil); err != nil {
			return // leadership is on its way to another
		}
	}
}
