package replica

import (
	"cmp"
	"slices"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"

	"github.com/coord-kv/coord/op"
)

// Status returns what the core knows of the member and its cluster; the shell adds what only it knows.
func (c *Core) Status() op.Status {
	st := c.raft.BasicStatus()
	digest := c.machine.Digest()
	s := op.Status{
		Member: c.cfg.Self, Boot: c.cfg.Boot, Leader: c.lead, Term: st.GetTerm(), Role: c.role(st.RaftState),
		Committed: st.GetCommit(), Applied: c.applied, Last: c.lastIndex(),
		Zxid: c.machine.Zxid(), Level: c.machine.Level(), CheckpointIndex: c.cuts.index, Sessions: int(c.machine.Counts().Sessions), Oldest: c.history.Oldest(), Digest: digest.String(),
		Pending: len(c.requests.pending), PendingBytes: int64(c.requests.bytes), LeaderChanges: c.changes,
		ReadOnly: c.digests.lowSpace(), Differs: c.halt.halted(), Differed: c.halt.times,
		SessionsOpened: c.ends.opened, SessionsClosed: c.ends.closed, SessionsExpired: c.ends.expired, SessionsKilled: c.ends.killed,
		SessionsTakenOver: c.ends.takenOver, HighSequences: c.high.count,
		Staleness: c.pub.info(op.Eventual, c.now.Mono).Staleness,
	}
	s.Ready, s.Reason = c.serves()
	s.Members = c.members()
	return s
}

func (c *Core) serves() (bool, string) {
	switch {
	case c.fatal != nil:
		return false, c.fatal.Error()
	case c.lead == 0 && c.torn.reason() != "":
		return false, c.torn.reason()
	case c.halt.halted():
		return false, c.halt.reason()
	case !c.reads.serving && c.lead == 0:
		return false, "no leader is known yet"
	case !c.reads.serving:
		return false, "catching up with the leader"
	case c.digests.lowSpace():
		return true, "a disk of the cluster is nearly full: writes are refused until there is room"
	case c.lead == 0:
		return false, "no leader is known: writes and linearizable reads wait"
	}
	return true, ""
}

func (c *Core) role(state raft.StateType) string {
	switch {
	case slices.Contains(c.conf.GetLearners(), c.cfg.Self):
		return "learner"
	case state == raft.StateLeader:
		return "leader"
	case state == raft.StateFollower:
		return "follower"
	}
	return "candidate"
}

func (c *Core) members() []op.MemberStatus {
	var all []op.MemberStatus
	add := func(ids []uint64, learner bool) {
		for _, id := range ids {
			all = append(all, op.MemberStatus{ID: id, Learner: learner, Self: id == c.cfg.Self, Leader: id == c.lead})
		}
	}
	add(c.conf.GetVoters(), false)
	add(c.conf.GetLearners(), true)
	slices.SortFunc(all, func(a, b op.MemberStatus) int { return cmp.Compare(a.ID, b.ID) })
	if c.isLeader() {
		last := c.lastIndex()
		c.raft.WithProgress(func(id uint64, _ raft.ProgressType, pr tracker.Progress) {
			for i := range all {
				if all[i].ID == id && id != c.cfg.Self {
					all[i].Lag = last - min(last, pr.Match)
				}
			}
		})
	}
	return all
}

// Members returns the ids of all members, and the cluster's membership as raft has it.
func (c *Core) Members() *raftpb.ConfState { return c.conf }

// Free tells the core how much space is left on the member's disk, for the others to know.
func (c *Core) Free(bytes int64) { c.digests.free = bytes }
