package check

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/coord-kv/coord/op"
)

// Reads checks that every read was answered from the state of the zxid that it names, and that this state was as fresh as
// the caller had asked for. What linearizable reads owe to real time is in Zxids.
func Reads(h *History) error {
	reads := slices.DeleteFunc(slices.Clone(h.Calls), func(c *Call) bool { return c.Read == nil || !c.Decided() })
	for _, check := range []func(*History, []*Call) error{readValues, readPositions, readAges} {
		if err := check(h, reads); err != nil {
			return err
		}
	}
	return nil
}

// readValues checks what was read.
func readValues(h *History, reads []*Call) error {
	reads = slices.SortedStableFunc(slices.Values(reads), func(a, b *Call) int { return cmp.Compare(a.Info.Zxid, b.Info.Zxid) })
	ns := NewNamespace()
	compare := func() error {
		for ; len(reads) > 0 && reads[0].Info.Zxid == ns.Zxid(); reads = reads[1:] {
			want := ns.Read(reads[0].Request.Op)
			if diff := differ(reads[0].Result, &want); diff != "" {
				return fmt.Errorf("%v at zxid %d: %s", reads[0], ns.Zxid(), diff)
			}
		}
		return nil
	}
	if err := compare(); err != nil {
		return err
	}
	for d := range h.Replay(ns) {
		if err := compare(); d.Fresh && err != nil {
			return err
		}
	}
	if len(reads) > 0 {
		return fmt.Errorf("%v was answered from zxid %d, which there never was", reads[0], reads[0].Info.Zxid)
	}
	return nil
}

// readPositions checks that no read is older than the position that it asked for, nor, if it is at least sequential, than
// anything that its client had seen.
func readPositions(h *History, _ []*Call) error {
	seen := map[int]op.Zxid{}
	ended := byEnd(h.Calls)
	for _, c := range byStart(h.Calls) {
		for ; len(ended) > 0 && ended[0].End.Order < c.Start.Order; ended = ended[1:] {
			if ended[0].Decided() {
				seen[ended[0].Client] = max(seen[ended[0].Client], zxidOf(ended[0]))
			}
		}
		if c.Read == nil || !c.Decided() {
			continue
		}
		if c.Info.Zxid < c.Read.MinZxid {
			return fmt.Errorf("%v was answered from zxid %d, but asked for %d", c, c.Info.Zxid, c.Read.MinZxid)
		}
		if c.Read.Level <= op.Sequential && c.Info.Zxid < seen[c.Client] {
			return fmt.Errorf("%v, %s, was answered from zxid %d, but its client had seen %d", c, c.Read.Level, c.Info.Zxid, seen[c.Client])
		}
	}
	return nil
}

// readAges checks the bounds of staleness, those that were asked for and those that were claimed.
func readAges(h *History, reads []*Call) error {
	var times []decided
	for d := range h.Replay(NewNamespace()) {
		if d.Fresh {
			times = append(times, decided{d.Result.Zxid, d.Entry.Applied.At})
		}
	}
	for _, c := range reads {
		bound := c.Info.Staleness
		if c.Read.Level == op.Bounded {
			bound = min(bound, c.Read.Max)
		}
		if c.Read.Level == op.Bounded && bound < 0 {
			return fmt.Errorf("%v, bounded, was answered by a member that did not know how old its state was", c)
		}
		if age := ageOf(c, times); bound >= 0 && age > bound+drift(bound) {
			return fmt.Errorf("%v was answered from a state that was %v old; it was to be at most %v", c, age, bound)
		}
	}
	return nil
}

type decided struct {
	zxid op.Zxid
	at   time.Duration
}

// ageOf returns for how long, when the read began, a decision had been applied somewhere that it didn't see.
func ageOf(c *Call, times []decided) time.Duration {
	i, _ := slices.BinarySearchFunc(times, c.Info.Zxid+1, func(d decided, z op.Zxid) int { return cmp.Compare(d.zxid, z) })
	if i == len(times) {
		return 0
	}
	return max(0, c.Start.At-times[i].at)
}

// drift is by how much a member's clock may be wrong about a duration: a member measures its staleness by its own clock,
// in whole milliseconds.
func drift(d time.Duration) time.Duration { return d/100 + 2*time.Millisecond }
