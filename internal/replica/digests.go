package replica

import (
	"fmt"
	"slices"

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
// its newest index; whoever remembers that index compares, at once or when its own state gets there. What a difference
// leads to is the business of quarantine.
type digests struct {
	c      *Core
	recent [recentDigests]digestAt
	sparse [sparseDigests]digestAt
	ahead  map[uint64]digestAt // told by a member, and not reached here yet
	same   map[uint64]uint64   // member -> newest index at which its state was seen to be this one's
	differ map[uint64]uint64   // member -> index at which it was first seen to be another
	beat   map[uint64]Beacon
	free   int64 // bytes on the own disk
}

type digestAt struct {
	index  uint64
	digest fsm.Digest
	known  bool
}

// Beacon is what a member tells the others once a tick.
type Beacon struct {
	Index  uint64
	Digest fsm.Digest
	Free   int64  // bytes
	Speaks uint32 // the highest level of the state that it speaks; 0 when nothing is heard of it any more
	Level  uint32 // that its state is at
	Halt   Halt
	Term   uint64
	Leads  bool   // it leads in that term
	End    logEnd // of its log
}

func (b *Beacon) encode() []byte {
	payload := wire.Uint(nil, b.Index)
	payload = wire.Fixed(payload, b.Digest[:])
	payload = wire.Uint(payload, uint64(max(0, b.Free)))
	payload = wire.Uint(payload, uint64(b.Speaks))
	payload = wire.Uint(payload, uint64(b.Level))
	payload = wire.Uint(payload, uint64(b.Halt))
	payload = wire.Bool(wire.Uint(payload, b.Term), b.Leads)
	return wire.Uint(wire.Uint(payload, b.End.term), b.End.index)
}

func decodeBeacon(payload []byte) (Beacon, error) {
	r := wire.NewReader(payload)
	b := Beacon{Index: r.Uint()}
	r.Fixed(b.Digest[:])
	b.Free, b.Speaks, b.Level, b.Halt = int64(r.Uint()), uint32(r.Uint()), uint32(r.Uint()), Halt(r.Uint())
	b.Term, b.Leads, b.End = r.Uint(), r.Bool(), logEnd{r.Uint(), r.Uint()}
	if b.Halt > Quarantined {
		r.Fail("a beacon of halt %d", b.Halt)
	}
	return b, r.Done()
}

func (d *digests) init(c *Core) {
	d.c = c
	d.beat = map[uint64]Beacon{}
	d.free = UnknownSpace
	d.begin()
}

// begin forgets what a state before this one was like.
func (d *digests) begin() {
	d.recent, d.sparse = [recentDigests]digestAt{}, [sparseDigests]digestAt{}
	d.ahead, d.same, d.differ = map[uint64]digestAt{}, map[uint64]uint64{}, map[uint64]uint64{}
	d.record(d.c.applied)
}

func (d *digests) record(index uint64) {
	at := digestAt{index, d.c.machine.Digest(), true}
	d.recent[index%recentDigests] = at
	if index%CutEvery == 0 {
		d.sparse[index/CutEvery%sparseDigests] = at
	}
}

func (d *digests) at(index uint64) (fsm.Digest, bool) {
	if r := d.recent[index%recentDigests]; r.known && r.index == index {
		return r.digest, true
	}
	s := d.sparse[index/CutEvery%sparseDigests]
	return s.digest, s.known && s.index == index
}

func (d *digests) tick() {
	c := d.c
	d.yieldSpace()
	for _, id := range sortedKeys(d.ahead) {
		if at := d.ahead[id]; at.index <= c.applied {
			delete(d.ahead, id)
			d.told(id, at.index, at.digest)
		}
	}
	own := d.recent[c.applied%recentDigests]
	b := Beacon{
		Index: own.index, Digest: own.digest, Free: d.free,
		Speaks: c.cfg.MaxLevel, Level: c.machine.Level(), Halt: c.halt.why,
		Term: c.term, Leads: c.isLeader(), End: c.end(),
	}
	c.sendOthers(FrameBeacon, b.encode())
}

// sendOthers sends an urgent frame to all other voters.
func (c *Core) sendOthers(kind uint8, payload []byte) {
	for _, id := range c.conf.GetVoters() {
		if id != c.cfg.Self {
			c.send(id, true, kind, payload)
		}
	}
}

// heard takes a beacon. A member that has halted waits to be told how its state compares, so it is told.
func (d *digests) heard(from uint64, payload []byte) error {
	b, err := decodeBeacon(payload)
	if err != nil {
		return err
	}
	if !d.c.isMember(from) {
		return fmt.Errorf("a beacon of member %x, which is not of this cluster", from)
	}
	d.beat[from] = b
	d.c.cfg.Heard(from, b.Index)
	d.c.torn.heard(from, &b)
	if b.Halt == Quarantined { // what it has is on its way out, and says nothing about others
		delete(d.ahead, from)
		delete(d.same, from)
		delete(d.differ, from)
		d.c.halt.judge()
		return nil
	}
	if b.Halt != Running {
		d.tell(from, b.Index)
	}
	if b.Index > d.c.applied {
		if _, waits := d.ahead[from]; !waits { // else a busy member's would never be reached
			d.ahead[from] = digestAt{b.Index, b.Digest, true}
		}
		return nil
	}
	d.told(from, b.Index, b.Digest)
	return nil
}

// gone says that nothing is heard of a member any more: it may come back with another program.
func (d *digests) gone(id uint64) {
	b := d.beat[id]
	b.Speaks = 0
	d.beat[id] = b
}

// tell answers what this member's digest was at an index, if that means anything and it remembers.
func (d *digests) tell(to, index uint64) {
	own, known := d.at(index)
	known = known && d.c.halt.why != Quarantined
	d.c.send(to, true, FrameDigest, wire.Fixed(wire.Bool(wire.Uint(nil, index), known), own[:]))
}

func (d *digests) answered(from uint64, payload []byte) error {
	r := wire.NewReader(payload)
	index, known := r.Uint(), r.Bool()
	var digest fsm.Digest
	r.Fixed(digest[:])
	if err := r.Done(); err != nil {
		return err
	}
	d.c.vetting.answered(from, index, known, digest)
	if known {
		d.told(from, index, digest)
	}
	return nil
}

func (d *digests) asked(from uint64, payload []byte) error {
	r := wire.NewReader(payload)
	index := r.Uint()
	if err := r.Done(); err != nil {
		return err
	}
	d.tell(from, index)
	return nil
}

// told compares another member's digest with the own one of that index.
func (d *digests) told(from uint64, index uint64, digest fsm.Digest) {
	own, ok := d.at(index)
	if !ok || !slices.Contains(d.c.conf.GetVoters(), from) {
		return
	}
	first, differs := d.differ[from]
	switch {
	case digest != own && !differs:
		d.differ[from] = index
		d.c.cfg.Fact(Warn, "state differs from another member's",
			"member", from, "index", index, "own", own.String(), "other", digest.String())
	case digest == own:
		d.same[from] = max(index, d.same[from])
		if differs && index >= first {
			delete(d.differ, from)
		}
	}
	d.c.halt.judge()
}

// agreeing returns how many voters, this one included, are known to have its state since the first difference was seen.
func (d *digests) agreeing() int {
	first := ^uint64(0)
	for _, index := range d.differ {
		first = min(first, index)
	}
	n := 1
	for _, index := range d.same {
		if index >= first {
			n++
		}
	}
	return n
}

// Differ returns the members whose state was seen to differ, with the index where.
func (c *Core) Differ() map[uint64]uint64 { return c.digests.differ }
