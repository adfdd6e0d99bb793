package replica

import (
	"fmt"

	"go.etcd.io/raft/v3/raftpb"
)

// torn holds back a member whose disk has cut the end of its log. What was cut should never have been acknowledged, but
// after a power loss under load several disks may have lost more than they should, and two members that have both lost
// an acknowledged write could elect away the third, which has it. So until it holds all that a leader had when they
// met, such a member votes only for a candidate whose log ends below no voter's, every voter asked since this start,
// and stands for election only as such a one. If a voter is gone for good that never comes true, and somebody has to
// say that what may be lost may be lost.
type torn struct {
	c    *Core
	cut  bool
	ends map[uint64]logEnd // of the other voters, heard since the start
	goal logEnd            // of the present leader's log, when it was first heard; zero for not yet
	done bool              // the disk has yet to be told that the log is whole
}

// logEnd is the last entry of a log.
type logEnd struct{ term, index uint64 }

func (e logEnd) below(o logEnd) bool { return e.term < o.term || e.term == o.term && e.index < o.index }

func (t *torn) init(c *Core) {
	t.c, t.cut = c, c.cfg.Torn
	t.ends = map[uint64]logEnd{}
	if t.cut {
		c.cfg.Fact(Warn, "the end of this member's log was cut: until it has caught up with a leader it votes only for a member "+
			"that no voter is ahead of, every voter asked; if one is gone for good, accept that acknowledged writes may be lost")
	}
}

// heard takes where another member's log ends.
func (t *torn) heard(from uint64, b *Beacon) {
	if !t.cut {
		return
	}
	t.ends[from] = b.End
	if b.Leads && from == t.c.lead && b.Term == t.c.term && t.goal == (logEnd{}) {
		t.goal = b.End
	}
}

func (t *torn) leaderChanged() { t.goal = logEnd{} }

// turn ends the restriction when the log is known to be whole: it holds what a leader had, or this member leads.
func (t *torn) turn() {
	if !t.cut || !t.c.leading && !t.reached() {
		return
	}
	t.cut, t.done = false, true
	t.c.cfg.Fact(Info, "the log, whose end was cut, is whole again")
}

func (t *torn) reached() bool {
	if t.goal == (logEnd{}) {
		return false
	}
	term, err := t.c.log.Term(t.goal.index)
	return t.c.decided >= t.goal.index || err == nil && term == t.goal.term
}

// permits reports whether a member whose log ends there may lead, as far as this one has a say.
func (t *torn) permits(id uint64, end logEnd) bool {
	if !t.cut {
		return true
	}
	for _, voter := range t.c.conf.GetVoters() {
		if voter == id || voter == t.c.cfg.Self {
			continue
		}
		if other, heard := t.ends[voter]; !heard || end.below(other) {
			return false
		}
	}
	return true
}

// refuses reports whether a message asks for a vote that must not be given.
func (t *torn) refuses(m *raftpb.Message) bool {
	asks := m.GetType() == raftpb.MsgVote || m.GetType() == raftpb.MsgPreVote
	return asks && !t.permits(m.GetFrom(), logEnd{m.GetLogTerm(), m.GetIndex()})
}

// reason says what a cluster without a leader waits for, "" if it isn't this.
func (t *torn) reason() string {
	if !t.cut {
		return ""
	}
	var missing []string
	for _, voter := range t.c.conf.GetVoters() {
		if _, heard := t.ends[voter]; !heard && voter != t.c.cfg.Self {
			missing = append(missing, fmt.Sprintf("%x", voter))
		}
	}
	if missing == nil {
		return ""
	}
	return fmt.Sprintf("no leader is known: the end of this member's log was cut, and it can vote only when it has heard all "+
		"others; start members %v, or, if they are gone for good, this one with --accept-cut-tail", missing)
}

func (c *Core) end() logEnd {
	last := c.lastIndex()
	term, err := c.log.Term(last)
	c.must(err)
	return logEnd{term, last}
}
