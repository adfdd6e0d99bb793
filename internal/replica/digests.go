package replica

import (
	"fmt"

	"github.com/coord-kv/coord/fsm"
	"github.com/coord-kv/coord/op/wire"
)

// How many digests a member remembers: after each of its last entries, and further back at every checkpointable index.
const (
	recentDigests = 4096
	sparseDigests = 1024
	// CutEvery divides the index of every checkpoint, so that other members still remember their digest there.
	CutEvery = 64
)

// digests compares the members' states while they run. Each tells the others, once a tick, the digest of its state at
// its newest index; whoever remembers that index compares. A member that differs from a majority has gone wrong: it
// stops serving, and goes on storing and voting, because its log is sound.
type digests struct {
	c      *Core
	recent [recentDigests]digestAt
	sparse [sparseDigests]digestAt
	differ map[uint64]uint64 // member -> index at which its digest was another
	beat   map[uint64]Beacon
	free   int64 // bytes on the own disk
	wrong  bool
}

type digestAt struct {
	index  uint64
	digest fsm.Digest
}

// Beacon is what a member tells the others once a tick.
type Beacon struct {
	Index  uint64
	Digest fsm.Digest
	Free   int64 // bytes
}

func (d *digests) init(c *Core) {
	d.c = c
	d.differ, d.beat = map[uint64]uint64{}, map[uint64]Beacon{}
	d.free = UnknownSpace
	d.record(c.applied)
}

func (d *digests) record(index uint64) {
	at := digestAt{index, d.c.machine.Digest()}
	d.recent[index%recentDigests] = at
	if index%CutEvery == 0 {
		d.sparse[index/CutEvery%sparseDigests] = at
	}
}

func (d *digests) at(index uint64) (fsm.Digest, bool) {
	if r := d.recent[index%recentDigests]; r.index == index {
		return r.digest, true
	}
	s := d.sparse[index/CutEvery%sparseDigests]
	return s.digest, s.index == index && index%CutEvery == 0
}

func (d *digests) tick() {
	d.yieldSpace()
	own := d.recent[d.c.applied%recentDigests]
	payload := wire.Uint(nil, own.index)
	payload = wire.Fixed(payload, own.digest[:])
	payload = wire.Uint(payload, uint64(max(0, d.free)))
	for _, id := range d.c.conf.GetVoters() {
		if id != d.c.cfg.Self {
			d.c.send(id, true, FrameBeacon, payload)
		}
	}
}

func (d *digests) heard(from uint64, payload []byte) error {
	r := wire.NewReader(payload)
	b := Beacon{Index: r.Uint()}
	r.Fixed(b.Digest[:])
	b.Free = int64(r.Uint())
	if err := r.Done(); err != nil {
		return err
	}
	if !d.c.isMember(from) {
		return fmt.Errorf("a beacon of member %x, which is not of this cluster", from)
	}
	d.beat[from] = b
	d.c.cfg.Heard(from, b.Index)
	if own, ok := d.at(b.Index); ok {
		d.compare(from, b, own)
	}
	return nil
}

func (d *digests) compare(from uint64, b Beacon, own fsm.Digest) {
	if b.Digest == own {
		delete(d.differ, from)
		return
	}
	if _, known := d.differ[from]; !known {
		d.c.cfg.Fact(Warn, "state differs from another member's", "member", from, "index", b.Index, "own", own.String(), "other", b.Digest.String())
	}
	d.differ[from] = b.Index
	if voters := len(d.c.conf.GetVoters()); len(d.differ) > voters/2 && !d.wrong {
		d.wrong = true
		d.c.cfg.Fact(Warn, "this member's state differs from a majority's; it serves nothing any more", "index", b.Index)
		d.c.HandOver()
	}
}

// quarantined reports whether this member's state is known to be wrong.
func (d *digests) quarantined() bool { return d.wrong }

// Differ returns the members whose state was seen to differ, with the index where.
func (c *Core) Differ() map[uint64]uint64 { return c.digests.differ }
