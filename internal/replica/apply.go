package replica

import (
	"errors"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/coord-kv/coord/fsm"
	"github.com/coord-kv/coord/op"
)

// apply takes one committed entry. A member whose state stands still leaves it in the log for later.
func (c *Core) apply(e *raftpb.Entry) {
	if c.fatal != nil {
		return
	}
	if e.GetType() != raftpb.EntryNormal {
		c.fail("entry %d changes the membership, which this version of coord does not know; run a newer one", e.GetIndex())
		return
	}
	if e.GetIndex() != c.decided+1 {
		panic("replica: an entry was applied out of order")
	}
	c.decided = e.GetIndex()
	if c.isLeader() && e.GetTerm() == c.term && len(e.GetData()) > 0 {
		c.requests.entryDecided()
	}
	if !c.halt.frozen() {
		c.enter(e)
	}
}

// catchUp hands the state machine what was decided while the state stood still.
func (c *Core) catchUp() {
	for c.applied < c.decided && c.fatal == nil {
		entries, err := c.log.Entries(c.applied+1, c.decided+1, maxApplyBytes)
		c.must(err)
		for _, e := range entries {
			if c.fatal == nil {
				c.enter(e)
			}
		}
	}
}

// enter hands one entry to the state machine, and what follows from it to everybody who waits.
func (c *Core) enter(e *raftpb.Entry) {
	if len(e.GetData()) > 0 && !c.applyBatch(e) {
		return
	}
	if e.GetTerm() != c.appliedTerm {
		c.halt.tell(func() { c.requests.termApplied(e.GetTerm()) })
	}
	c.applied, c.appliedTerm = e.GetIndex(), e.GetTerm()
	c.digests.record(c.applied)
	c.cuts.applied(len(e.GetData()))
	c.halt.tell(func() {
		if c.isLeader() && !c.leading && e.GetTerm() == c.term {
			c.leading = true
			c.lives.lead()
		}
	})
}

func (c *Core) applyBatch(e *raftpb.Entry) bool {
	batch, err := op.DecodeBatch(e.GetData())
	var newer *op.FormatError
	switch {
	case errors.As(err, &newer):
		c.fail("entry %d: %w; upgrade this member", e.GetIndex(), err)
		return false
	case err != nil:
		c.fail("entry %d of the log is damaged although its checksum holds: %w", e.GetIndex(), err)
		return false
	}
	done := c.machine.Apply(batch)
	if !c.checkLevel(e.GetIndex()) {
		return false
	}
	zxid := c.machine.Zxid()
	c.halt.tell(func() { c.announce(batch, &done, zxid) })
	return true
}

// announce publishes the events of a batch and answers those who wait for it. Whoever follows a session is told of its
// end before the events of that are published, and so before a state without its nodes is: who learns from either that
// a node of the session is gone knows why.
func (c *Core) announce(batch *op.Batch, done *fsm.Applied, zxid op.Zxid) {
	for _, s := range done.Sessions {
		if s.Ended {
			c.lives.tellEnd(s)
		}
	}
	if len(done.Events) > 0 || zxid > c.history.Current() {
		if c.cfg.Applied != nil {
			c.cfg.Applied(zxid)
		}
		c.history.Publish(done.Events, zxid)
	}
	for i, r := range batch.Requests {
		if c.mine(batch, i) {
			c.requests.decided(r.Tag.Call, &done.Results[i])
		}
	}
	for _, s := range done.Sessions {
		if c.mine(batch, s.Request) {
			c.ends.count(s)
		}
		c.lives.changed(s)
	}
	if c.cfg.Turned != nil {
		for _, t := range done.Turns {
			c.cfg.Turned(t, batch.Wall, c.mine(batch, t.Request))
		}
	}
	if len(done.High) > 0 {
		c.noteHigh(done.High)
	}
	for _, r := range batch.Requests {
		if x, ok := r.Op.(*op.Expire); ok {
			c.lives.expired(x)
		}
	}
}

// mine reports whether a request of the batch came through this core. It does for one member at most.
func (c *Core) mine(batch *op.Batch, request int) bool {
	tag := batch.Requests[request].Tag
	return tag.Member == c.cfg.Self && tag.Boot == c.cfg.Boot
}

// high counts the sequence nodes whose numbers clients with 32 bits soon can't count beyond.
type high struct {
	count uint64
	told  uint64 // the clock when that was logged last
}

// highEvery is how often it is logged, in milliseconds: that somebody does something about it takes longer.
const highEvery = 3_600_000

// noteHigh takes note of the paths of such nodes.
func (c *Core) noteHigh(paths []string) {
	c.high.count += uint64(len(paths))
	if c.high.told != 0 && c.now.Mono-c.high.told < highEvery {
		return
	}
	c.high.told = max(c.now.Mono, 1)
	c.cfg.Fact(Warn, "the sequence numbers of a directory come near 2^31, beyond which clients of ZooKeeper can't count: delete the "+
		"directory while it is empty, or use another one", "path", paths[len(paths)-1])
}

// ends counts the sessions that were opened and ended by requests of this core.
type ends struct{ opened, closed, expired, killed, takenOver uint64 }

func (n *ends) count(s fsm.SessionChange) {
	switch {
	case s.Opened:
		n.opened++
	case !s.Ended:
	case s.Why == fsm.ClosedByOwner:
		n.closed++
	case s.Why == fsm.Killed:
		n.killed++
	case s.Why == fsm.Expired:
		n.expired++
	case s.Why == fsm.TakenOver:
		n.takenOver++
	}
}
