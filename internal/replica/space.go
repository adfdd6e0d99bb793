package replica

import (
	"math"

	"github.com/coord-kv/coord/op"
)

// UnknownSpace is what a disk reports that can't tell how much room it has: it never counts as low.
const UnknownSpace = math.MaxInt64

// lowSpace reports whether writes must be refused: the leader's disk, or so many that a majority would be lost, has less
// room than Config.SpaceMark. It is asked at admission and never in apply, where members would differ.
func (d *digests) lowSpace() bool {
	if d.c.cfg.SpaceMark == 0 {
		return false
	}
	roomy, voters := 0, d.c.conf.GetVoters()
	for _, id := range voters {
		if d.room(id) {
			roomy++
		} else if id == d.c.lead {
			return true
		}
	}
	return roomy <= len(voters)/2
}

// room reports whether a member's disk has room, as far as is known.
func (d *digests) room(id uint64) bool {
	if id == d.c.cfg.Self {
		return d.free >= d.c.cfg.SpaceMark
	}
	b, heard := d.beat[id]
	return !heard || b.Free >= d.c.cfg.SpaceMark
}

// yieldSpace hands leadership away if only the leader's own disk is low.
func (d *digests) yieldSpace() {
	c := d.c
	if c.cfg.SpaceMark == 0 || !c.isLeader() || d.room(c.cfg.Self) || c.requests.handing > 0 {
		return
	}
	if next := c.successor(); next != 0 && d.room(next) {
		c.cfg.Fact(Warn, "the disk is nearly full: handing leadership to a member with room", "free", d.free, "to", next)
		c.HandOver()
	}
}

// frees reports whether a request can only make the state smaller, or ends something: those are admitted always, so that
// a full cluster can be emptied.
func frees(o op.Op) bool {
	switch o := o.(type) {
	case *op.Delete, *op.CloseSession, *op.Attach, *op.SetTimeout:
		return true
	case *op.Txn:
		for _, ops := range [][]op.Op{o.Then, o.Else} {
			for _, each := range ops {
				if _, ok := each.(*op.Delete); !ok {
					return false
				}
			}
		}
		return true
	}
	return false
}
