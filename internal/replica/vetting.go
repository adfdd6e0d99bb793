package replica

import (
	"slices"

	"github.com/coord-kv/coord/fsm"
	"github.com/coord-kv/coord/op/wire"
)

// vetting has a received snapshot confirmed before it is installed, by a second voter that still remembers its digest:
// the sender's disk alone may be wrong, and its digest then is wrong with it. Where nobody remembers, or nobody answers
// within an election timeout, the sender's word has to do: a member that is behind must not depend on two others.
type vetting struct {
	c     *Core
	cases []*vetted
}

// vetted is a snapshot whose digest others are asked about.
type vetted struct {
	in     *Install
	from   uint64
	digest fsm.Digest
	open   map[uint64]bool // who has not answered
	denied bool            // somebody remembers another digest
	ticks  int
}

func (v *vetting) busy() bool { return len(v.cases) > 0 }

// begin asks about a snapshot.
func (v *vetting) begin(from uint64, in *Install) {
	x := &vetted{in: in, from: from, digest: in.Machine.Digest(), open: map[uint64]bool{}}
	for _, id := range v.c.conf.GetVoters() {
		if id != v.c.cfg.Self && id != from {
			x.open[id] = true
			v.c.send(id, true, FrameRecall, wire.Uint(nil, in.index()))
		}
	}
	v.cases = append(v.cases, x)
	v.settle(x)
}

func (v *vetting) answered(from, index uint64, known bool, digest fsm.Digest) {
	for _, x := range slices.Clone(v.cases) {
		if x.in.index() != index || !x.open[from] {
			continue
		}
		delete(x.open, from)
		switch {
		case known && digest == x.digest:
			clear(x.open)
			x.denied = false
		case known:
			x.denied = true
		}
		v.settle(x)
	}
}

func (v *vetting) tick() {
	for _, x := range slices.Clone(v.cases) {
		if x.ticks++; x.ticks > v.c.cfg.ElectionTicks {
			clear(x.open)
			v.settle(x)
		}
	}
}

// settle ends a case in which nobody is left to answer.
func (v *vetting) settle(x *vetted) {
	if len(x.open) > 0 {
		return
	}
	v.cases = slices.DeleteFunc(v.cases, func(y *vetted) bool { return y == x })
	if x.denied {
		v.c.cfg.Fact(Warn, "refused a snapshot that no other member confirms", "member", x.from, "index", x.in.index())
		v.c.cuts.incoming = append(v.c.cuts.incoming, x.in)
		return
	}
	v.c.admit(x.from, x.in)
}
