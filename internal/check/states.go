package check

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/coord-kv/coord/op"
)

// Digest is a member's fingerprint of its state after the entry at Index.
type Digest struct {
	Member uint64
	Index  uint64
	Value  [16]byte
}

// Final is the state in which a member ended.
type Final struct {
	Member   uint64
	Index    uint64
	Zxid     op.Zxid
	Nodes    []op.Node // parents before children, siblings in order
	Sessions []op.SessionID
}

// Replicas checks that members that have applied the same entries have the same state.
func Replicas(h *History) error {
	seen := map[uint64]Digest{}
	for _, d := range h.Digests {
		first, ok := seen[d.Index]
		if !ok {
			seen[d.Index] = d
			continue
		}
		if first.Value != d.Value {
			return fmt.Errorf("after entry %d member %x has the state %x and member %x %x", d.Index, first.Member, first.Value, d.Member, d.Value)
		}
	}
	return nil
}

// States checks that each member ended in the state that the log makes, to the last field of every stat.
func States(h *History) error {
	ns := NewNamespace()
	finals := slices.Clone(h.Finals)
	slices.SortFunc(finals, func(a, b Final) int { return cmp.Compare(a.Index, b.Index) })
	compare := func(before uint64) error {
		for ; len(finals) > 0 && finals[0].Index < before; finals = finals[1:] {
			if err := sameState(&finals[0], ns); err != nil {
				return fmt.Errorf("member %x after entry %d: %w", finals[0].Member, finals[0].Index, err)
			}
		}
		return nil
	}
	for i := range h.Log {
		one := &History{Log: h.Log[i : i+1]}
		if err := compare(h.Log[i].Index); err != nil {
			return err
		}
		for range one.Replay(ns) {
		}
	}
	return compare(1 << 63)
}

func sameState(f *Final, ns *Namespace) error {
	if f.Zxid != ns.Zxid() {
		return fmt.Errorf("zxid %d, not %d", f.Zxid, ns.Zxid())
	}
	if d := differNodes(f.Nodes, ns.Nodes()); d != "" {
		return fmt.Errorf("%s", d)
	}
	if !slices.Equal(f.Sessions, ns.Alive()) {
		return fmt.Errorf("the sessions %v are alive, not %v", f.Sessions, ns.Alive())
	}
	return nil
}

// Ephemerals checks that every ephemeral node in a final state belongs to a session that is alive there.
func Ephemerals(h *History) error {
	for _, f := range h.Finals {
		for _, n := range f.Nodes {
			if s := n.Stat.EphemeralOwner; s != 0 && !slices.Contains(f.Sessions, s) {
				return fmt.Errorf("member %x has %s of %v, which has ended", f.Member, n.Path, s)
			}
		}
	}
	return nil
}
