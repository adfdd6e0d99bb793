package replica

import (
	"encoding/binary"
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3"

	"github.com/coord-kv/coord/fsm"
	"github.com/coord-kv/coord/op"
)

// Read is a wait for a state that is fresh enough.
type Read struct {
	Options op.ReadOptions
	Done    func(*fsm.View, op.ReadInfo, error) // called once, unless abandoned

	round     freshness // of the finished round that it waited for
	abandoned atomic.Bool
}

// Abandon ends the wait; true says that nothing has been done, as ever for a read. Safe for concurrent use with the core.
func (r *Read) Abandon() bool {
	r.abandoned.Store(true)
	return true
}

// round is one question to a quorum whether its leader still leads, and up to where the log is decided. At most one is
// in flight. It serves every read that waited when it began, and on a leader it confirms the keep-alives heard, and
// backs the expiries due, before it began.
type round struct {
	id    uint64
	start uint64 // Clock.Mono
	ticks int    // since it was last asked
	reads []*Read
	lives *livesRound // on a leader
}

// reads makes reads wait for rounds. Each attempt carries a number of its own, in all lives of the member: an answer to
// an earlier attempt says nothing about a read that came after it.
type reads struct {
	c       *Core
	next    uint64
	waiting []*Read // for a round to begin
	round   *round
	asked   []*Read      // served by a finished round, waiting for its index to be applied
	fresh   [2]freshness // of the rounds that the state doesn't reflect yet, the first finished and the last

	serving bool
	freshAt uint64
}

// freshness is what a finished round says: whoever has applied index knows all that was decided at start, a Clock.Mono.
type freshness struct{ index, start uint64 }

func (q *reads) init(c *Core) { q.c, q.next = c, c.firstNumber() }

// Read makes r wait for its level. Levels that this member can serve from what it has published are not its business.
func (c *Core) Read(r *Read) { c.reads.waiting = append(c.reads.waiting, r) }

// turn begins a round if somebody needs one. Reads begin one at once, and so does a member that has never caught up, for
// which the round tells when it has; keep-alives and expiries wait for a tick. A new leader waits until it has applied
// an entry of its own term: raft sees to that itself, but not where the leader is the only voter, which after a restart
// would name an index below entries that it had acknowledged.
func (q *reads) turn() {
	lives := q.c.leading && q.c.ticked && q.c.lives.wantRound()
	if q.round != nil || q.c.lead == 0 || q.c.isLeader() && !q.c.leading || len(q.waiting) == 0 && !lives && (q.serving || q.fresh[0].start != 0) {
		return
	}
	q.round = &round{start: q.c.now.Mono, reads: q.waiting}
	q.waiting = nil
	if q.c.leading {
		q.round.lives = q.c.lives.beginRound()
	}
	q.ask()
}

func (q *reads) ask() {
	q.next++
	q.round.id, q.round.ticks = q.next, 0
	q.c.raft.ReadIndex(binary.BigEndian.AppendUint64(nil, q.next))
}

// tick asks again if the question or its answer was lost: raft drops either without a word.
func (q *reads) tick() {
	if q.round == nil {
		return
	}
	if q.round.ticks++; q.round.ticks >= q.c.cfg.ElectionTicks {
		q.restart()
	}
}

// leaderChanged gives up the round: what it confirms would be somebody else's leadership.
func (q *reads) leaderChanged() {
	if q.round != nil {
		q.restart()
	}
}

func (q *reads) restart() {
	live := q.round.reads[:0]
	for _, r := range q.round.reads {
		if !r.abandoned.Load() {
			live = append(live, r)
		}
	}
	q.waiting = append(live, q.waiting...)
	if q.round.lives != nil {
		q.c.lives.abandonRound(q.round.lives)
	}
	q.round = nil
}

// confirmed takes raft's answer to a round.
func (q *reads) confirmed(rs raft.ReadState) {
	if q.round == nil || len(rs.RequestCtx) != 8 || binary.BigEndian.Uint64(rs.RequestCtx) != q.round.id {
		return
	}
	r := q.round
	q.round = nil
	told := freshness{rs.Index, r.start}
	for _, read := range r.reads {
		read.round = told
	}
	q.asked = append(q.asked, r.reads...)
	// The first one is kept until it is applied: on a member that always lags the last one never would be.
	if q.fresh[1] = told; q.fresh[0].start == 0 {
		q.fresh[0] = told
	}
	if r.lives != nil {
		q.c.lives.endRound(r.lives)
	}
}

// settle finds out which reads the state as it stands can answer.
func (q *reads) settle() {
	for range q.fresh {
		first := q.fresh[0]
		if q.c.halt.halted() || first.start == 0 || q.c.applied < first.index {
			return
		}
		q.freshAt, q.serving = first.start, true
		if q.fresh[0] = q.fresh[1]; first == q.fresh[1] {
			q.fresh = [2]freshness{}
		}
	}
}

// halt stops serving. What waits goes on waiting, and so does what comes.
func (q *reads) halt() { q.serving, q.freshAt, q.fresh = false, 0, [2]freshness{} }

// answer gives the published view to every read that it satisfies.
func (q *reads) answer() {
	q.asked = q.sift(q.asked, func(r *Read) bool { return !q.c.halt.halted() && q.c.applied >= r.round.index })
	q.waiting = q.sift(q.waiting, q.early)
	if q.round != nil {
		q.round.reads = q.sift(q.round.reads, q.early)
	}
}

// early reports whether a read that only asks for a zxid can be served without its round.
func (q *reads) early(r *Read) bool {
	return q.serving && r.Options.Level == op.Sequential && q.c.pub.View.Zxid() >= r.Options.MinZxid
}

func (q *reads) sift(list []*Read, ready func(*Read) bool) []*Read {
	if len(list) == 0 {
		return nil
	}
	keep := list[:0]
	for _, r := range list {
		switch {
		case r.abandoned.Load():
		case ready(r):
			q.finish(r)
		default:
			keep = append(keep, r)
		}
	}
	return keep
}

// finish answers a read with the published view, which is at least as fresh as the round that the read waited for. Behind
// a round that began after the read did, a position that is still ahead is one that no state of this cluster has reached.
func (q *reads) finish(r *Read) {
	p := q.c.pub
	p.FreshAt = max(p.FreshAt, r.round.start)
	v, info := p.View, p.info(r.Options.Level, q.c.now.Mono)
	q.c.answer(func() {
		if err := checkPosition(v, r.Options.MinZxid); err != nil {
			r.Done(nil, op.ReadInfo{}, err)
			return
		}
		r.Done(v, info, nil)
	})
}

func checkPosition(v *fsm.View, min op.Zxid) error {
	switch {
	case min > v.Zxid():
		return &op.Error{Code: op.FutureZxid, Detail: "no state of this cluster has reached that zxid; it may be from another cluster or from before a restore"}
	case min != 0 && min < v.Floor():
		return &op.Error{Code: op.ClusterChanged, Oldest: v.Floor(), Detail: "that zxid is from before this cluster was restored from a backup; start over without it"}
	}
	return nil
}

func (p *Published) info(level op.Level, now uint64) op.ReadInfo {
	info := op.ReadInfo{Level: level, Zxid: p.View.Zxid(), Staleness: -1}
	if p.FreshAt != 0 {
		info.Staleness = time.Duration(now-p.FreshAt) * time.Millisecond
	}
	return info
}

// Serve answers a read from what is published, or returns false if it has to wait in the core. Safe for concurrent
// use: it is how reads that ask for no round never enter the loop.
func (p *Published) Serve(o op.ReadOptions, now uint64) (*fsm.View, op.ReadInfo, error, bool) {
	if !p.Serving {
		return nil, op.ReadInfo{}, nil, false
	}
	info := p.info(o.Level, now)
	fresh := o.MinZxid <= info.Zxid
	switch o.Level {
	case op.Linearizable:
		fresh = false
	case op.Bounded:
		fresh = fresh && info.Staleness >= 0 && info.Staleness <= o.Max
	}
	if !fresh {
		return nil, op.ReadInfo{}, nil, false
	}
	if err := checkPosition(p.View, o.MinZxid); err != nil {
		return nil, op.ReadInfo{}, err, true
	}
	return p.View, info, nil, true
}
