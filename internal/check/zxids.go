package check

import (
	"fmt"

	"github.com/coord-kv/coord/op"
)

// Zxids checks zxids against real time: what began after something had been answered has no lower zxid, a write after a
// write a higher one, and no two writes share one. Reads that didn't ask to be linearizable may be behind. With Answers
// and Reads this is linearizability in linear time, provided that zxids can be trusted.
func Zxids(h *History) error {
	ended := byEnd(h.Calls)
	var last *Call // of those that had ended before the call at hand began, the one with the highest zxid
	for _, c := range byStart(h.Calls) {
		for len(ended) > 0 && ended[0].End.Order < c.Start.Order {
			if ended[0].Decided() && (last == nil || zxidOf(ended[0]) > zxidOf(last)) {
				last = ended[0]
			}
			ended = ended[1:]
		}
		if last != nil && c.Decided() && behind(c, last) {
			return fmt.Errorf("%v has zxid %d, but began after the answer to %v, which has %d", c, zxidOf(c), last, zxidOf(last))
		}
	}
	return uniqueZxids(h.Calls)
}

func zxidOf(c *Call) op.Zxid {
	if c.Read != nil {
		return c.Info.Zxid
	}
	return c.Result.Zxid
}

// behind reports whether c, which began after last was answered, has a zxid that says otherwise.
func behind(c, last *Call) bool {
	switch {
	case c.Read != nil && c.Read.Level != op.Linearizable:
		return false
	case c.Read == nil && last.Read == nil:
		return zxidOf(c) <= zxidOf(last)
	}
	return zxidOf(c) < zxidOf(last)
}

func uniqueZxids(calls []*Call) error {
	seen := map[op.Zxid]*Call{}
	for _, c := range calls {
		if c.Read != nil || !c.Decided() {
			continue
		}
		if other := seen[zxidOf(c)]; other != nil {
			return fmt.Errorf("%v and %v both have zxid %d", other, c, zxidOf(c))
		}
		seen[zxidOf(c)] = c
	}
	return nil
}
