package replica

import "github.com/coord-kv/coord/op"

// Raising the level of the state. What Apply does follows from the level in the state, so a cluster of two versions
// behaves as the older one, until every member has said that it speaks a higher level. Then the leader has it raised by
// a command in the log: from that entry on all behave as the newer one. A member that comes back with an older version
// can't go on, and stops; it doesn't stand for election either, because as a leader it could only stop.

// raiseLevel proposes the highest level that every member speaks.
func (c *Core) raiseLevel() {
	if !c.leading || c.halt.halted() {
		return
	}
	level := c.cfg.MaxLevel
	for _, m := range c.members() {
		if !m.Self {
			level = min(level, c.digests.beat[m.ID].Speaks)
		}
	}
	if level > c.machine.Level() && level > c.raised {
		c.raised = level
		c.cfg.Fact(Info, "every member speaks a higher level of the state: raising it", "level", level)
		c.requests.own(&op.SetLevel{Level: level})
	}
}

// checkLevel stops the member if the state is beyond what it speaks.
func (c *Core) checkLevel(index uint64) bool {
	if level := c.machine.Level(); level > c.cfg.MaxLevel {
		c.fail("entry %d raises the level of the state to %d, and this version of coord speaks %d; start a newer one",
			index, level, c.cfg.MaxLevel)
		return false
	}
	return true
}

// outdated reports whether some member's state is at a level that this one doesn't speak.
func (c *Core) outdated() bool {
	for _, b := range c.digests.beat {
		if b.Level > c.cfg.MaxLevel {
			return true
		}
	}
	return false
}

// mayLead reports whether this member may stand for election.
func (c *Core) mayLead() bool {
	return c.halt.why != Quarantined && !c.outdated() && c.torn.permits(c.cfg.Self, c.end())
}

// fits reports whether another member could lead, as far as is known.
func (c *Core) fits(id uint64) bool {
	b, heard := c.digests.beat[id]
	return !heard || b.Halt != Quarantined && (b.Speaks == 0 || b.Speaks >= c.machine.Level())
}
