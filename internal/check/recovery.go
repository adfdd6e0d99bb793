package check

import (
	"fmt"
	"time"
)

// Recovery is what came after the last fault.
type Recovery struct {
	Healed Moment        // Never if the history ends with faults
	Equal  Moment        // when all members were first at the same index, led by one of them
	Probed Moment        // when a write was answered that was begun after that
	End    Moment        // of the history
	Bound  time.Duration // from Healed to Probed
	Expiry time.Duration // from a session's timeout to its end
}

// Recovered checks that a cluster without faults finds a leader, brings all members to the same state and serves writes,
// without anybody's help and within the bound.
func Recovered(h *History) error {
	r := h.Recovery
	switch {
	case r.Healed.Never():
		return nil
	case r.Equal.Never():
		return fmt.Errorf("at %v, %v after the last fault, the members were not yet at the same index under a leader", r.End.At, r.End.At-r.Healed.At)
	case r.Probed.Never():
		return fmt.Errorf("at %v, %v after the last fault, no write had been answered", r.End.At, r.End.At-r.Healed.At)
	case r.Probed.At-r.Healed.At > r.Bound:
		return fmt.Errorf("it took %v from the last fault to the first answered write; the bound is %v", r.Probed.At-r.Healed.At, r.Bound)
	}
	return nil
}
