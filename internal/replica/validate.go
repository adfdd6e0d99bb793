package replica

import (
	"errors"
	"fmt"
	"slices"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

// Raft trusts its peers: it panics on about half of all malformed messages. Everything that comes from one is checked
// here first.

// fromPeers are the types that members send each other; all others are raft's own and must never come from outside.
var fromPeers = []raftpb.MessageType{
	raftpb.MsgApp, raftpb.MsgAppResp, raftpb.MsgHeartbeat, raftpb.MsgHeartbeatResp, raftpb.MsgVote, raftpb.MsgVoteResp,
	raftpb.MsgPreVote, raftpb.MsgPreVoteResp, raftpb.MsgTimeoutNow, raftpb.MsgReadIndex, raftpb.MsgReadIndexResp, raftpb.MsgSnap,
}

// check returns an error if m is not a message that a sound member would send here now.
func (c *Core) check(from uint64, m *raftpb.Message) error {
	switch {
	case m.GetFrom() != from:
		return fmt.Errorf("it says that it is from %x, but member %x sent it", m.GetFrom(), from)
	case m.GetTo() != c.cfg.Self:
		return fmt.Errorf("it is for member %x", m.GetTo())
	case !c.isMember(from):
		return fmt.Errorf("member %x is not of this cluster", from)
	case !slices.Contains(fromPeers, m.GetType()):
		return errors.New("its type is internal to raft")
	case m.GetTerm() == 0 && m.GetType() != raftpb.MsgReadIndex:
		return errors.New("it has no term")
	case len(m.GetResponses()) > 0:
		return errors.New("it carries responses")
	}
	switch m.GetType() {
	case raftpb.MsgApp:
		return c.checkAppend(m)
	case raftpb.MsgHeartbeat:
		return c.checkCommit(m.GetCommit(), m)
	case raftpb.MsgHeartbeatResp:
		if n := len(m.GetContext()); n != 0 && n != 8 {
			return fmt.Errorf("a context of %d bytes", n)
		}
	case raftpb.MsgReadIndex, raftpb.MsgReadIndexResp:
		if len(m.GetEntries()) != 1 || len(m.GetEntries()[0].GetData()) != 8 {
			return errors.New("it doesn't hold one question")
		}
	case raftpb.MsgAppResp:
		return c.checkMatch(m)
	case raftpb.MsgSnap:
		return c.checkSnapshot(m)
	}
	if m.GetType() != raftpb.MsgReadIndex && m.GetType() != raftpb.MsgReadIndexResp && len(m.GetEntries()) > 0 {
		return errors.New("it carries entries")
	}
	return nil
}

func (c *Core) isMember(id uint64) bool {
	return slices.Contains(c.conf.GetVoters(), id) || slices.Contains(c.conf.GetLearners(), id)
}

// checkAppend makes sure that entries are contiguous, of terms that don't fall, and don't contradict what is decided.
// Those of a deposed leader may: raft ignores them by their term.
func (c *Core) checkAppend(m *raftpb.Message) error {
	term := m.GetLogTerm()
	for i, e := range m.GetEntries() {
		switch {
		case e.GetIndex() != m.GetIndex()+1+uint64(i):
			return fmt.Errorf("entry %d stands where %d should", e.GetIndex(), m.GetIndex()+1+uint64(i))
		case e.GetTerm() < term || e.GetTerm() > m.GetTerm():
			return fmt.Errorf("entry %d has term %d", e.GetIndex(), e.GetTerm())
		case e.GetType() != raftpb.EntryNormal:
			return fmt.Errorf("entry %d is a change of membership", e.GetIndex())
		case m.GetTerm() >= c.raft.BasicStatus().GetTerm() && e.GetIndex() <= c.applied && c.contradicts(e):
			return fmt.Errorf("entry %d contradicts what is decided", e.GetIndex())
		}
		term = e.GetTerm()
	}
	return nil
}

func (c *Core) contradicts(e *raftpb.Entry) bool {
	term, err := c.log.Term(e.GetIndex())
	return err == nil && term != e.GetTerm()
}

// checkCommit stops the member if a leader knows more to be stored here than is: its disk has lost entries that it had
// acknowledged, so its vote could elect away a decision.
func (c *Core) checkCommit(commit uint64, m *raftpb.Message) error {
	last := c.lastIndex()
	if commit > last && m.GetTerm() >= c.term {
		c.fail("the leader has seen entry %d stored on this member, whose log ends at %d: its disk has lost acknowledged entries. "+
			"It must not go on: remove its data directory and replace it", commit, last)
	}
	return nil
}

func (c *Core) lastIndex() uint64 {
	last, err := c.log.LastIndex()
	if err != nil {
		panic(err)
	}
	return last
}

// checkMatch refuses an acknowledgement of entries that this leader doesn't have.
func (c *Core) checkMatch(m *raftpb.Message) error {
	if m.GetTerm() == c.term && c.isLeader() && !m.GetReject() && m.GetIndex() > c.lastIndex()+maxUnstable {
		return fmt.Errorf("it acknowledges entry %d, the log ends at %d", m.GetIndex(), c.lastIndex())
	}
	return nil
}

// maxUnstable is how far the log may be ahead of what has been stored when a message is checked: nothing, because a
// turn ends with everything stored.
const maxUnstable = 0

func (c *Core) checkSnapshot(m *raftpb.Message) error {
	s := m.GetSnapshot()
	meta := s.GetMetadata()
	switch {
	case raft.IsEmptySnap(s) || meta.GetTerm() == 0 || meta.GetTerm() > m.GetTerm():
		return errors.New("it is empty")
	case !slices.Contains(meta.GetConfState().GetVoters(), c.cfg.Self) && !slices.Contains(meta.GetConfState().GetLearners(), c.cfg.Self):
		return errors.New("its cluster doesn't have this member")
	case meta.GetConfState().Equivalent(c.conf) != nil:
		return errors.New("its membership differs from this member's")
	}
	return nil
}
