package replica

import (
	"slices"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/tracker"
)

const (
	raftSnapshotOK     = raft.SnapshotFinish
	raftSnapshotFailed = raft.SnapshotFailure
)

// takeover hurries elections along. A dead process closes its sockets at once, so a broken stream to the leader is
// worth asking the others about right away instead of waiting out the election timeout. It is only worth asking: with
// pre-votes, members that still hear the leader refuse, and nothing changes. The members take turns by id, one a tick,
// so that they don't split the vote.
type takeover struct {
	c     *Core
	armed bool
	ticks int
	place int // of this member's turn among those who may stand
	of    int
	now   bool
}

// PeerDown says that the last stream to or from a member has broken.
func (c *Core) PeerDown(id uint64) {
	c.raft.ReportUnreachable(id)
	c.digests.gone(id)
	if id != c.lead || c.isLeader() {
		return
	}
	c.raft.ForgetLeader()
	c.elect.arm(id)
}

// Campaign asks for an election now: for a member without others, and for the first of a new cluster.
func (c *Core) Campaign() { c.elect.arm(0) }

func (t *takeover) arm(dead uint64) {
	others := slices.DeleteFunc(slices.Clone(t.c.conf.GetVoters()), func(id uint64) bool { return id == dead })
	slices.Sort(others)
	t.armed, t.ticks = true, 0
	t.place, t.of = slices.Index(others, t.c.cfg.Self), max(1, len(others))
	t.now = t.place == 0
}

func (t *takeover) tick() {
	if !t.armed {
		return
	}
	t.ticks++
	t.now = t.now || t.ticks%t.of == t.place
	t.armed = t.ticks <= t.c.cfg.ElectionTicks
}

func (t *takeover) turn() {
	if t.armed && t.c.lead != 0 {
		t.armed = false
	}
	if t.armed && t.now && t.c.mayLead() {
		t.now = false
		t.c.raft.Campaign()
	}
}

// HandOver gives leadership to the member that is furthest along, if this one leads and there is another. From now on
// nothing more is proposed, until the leader changes or it becomes clear that it doesn't: what waits goes to the next
// leader. The transfer begins when everything that was proposed has been decided. It returns false if there is nothing to hand over,
// or nobody to take it.
func (c *Core) HandOver() bool {
	if !c.isLeader() || c.successor() == 0 {
		return false
	}
	c.requests.handing = 2 * c.cfg.ElectionTicks
	return true
}

func (c *Core) transfer() {
	if c.raft.BasicStatus().LeadTransferee == 0 && c.isLeader() {
		c.raft.TransferLeader(c.successor())
	}
}

// successor returns the voter that is heard, may lead and is furthest along, 0 if there is none.
func (c *Core) successor() uint64 {
	var best, match uint64
	c.raft.WithProgress(func(id uint64, typ raft.ProgressType, pr tracker.Progress) {
		fits := id != c.cfg.Self && typ == raft.ProgressTypePeer && pr.RecentActive && c.fits(id)
		if fits && (best == 0 || pr.Match > match) {
			best, match = id, pr.Match
		}
	})
	return best
}
