package check

import (
	"fmt"
	"time"

	"github.com/coord-kv/coord/op"
)

// Promise is what the holder of a session was told: that it lives for its timeout, counted from when the sign of life
// was sent.
type Promise struct {
	Session op.SessionID
	Sent    Moment
	Told    Moment
	Timeout time.Duration
}

// Life is a session and the last that it gave of itself.
type Life struct {
	Session op.SessionID
	Last    Moment // its last sign of life, heard or not
	Timeout time.Duration
}

// Sessions checks that no session was expired before the time until which its holder had been told, or was told later,
// that it is safe.
func Sessions(h *History) error {
	expired := expiries(h)
	for _, p := range h.Promises {
		at, ok := expired[p.Session]
		if safe := p.Sent.At + p.Timeout; ok && at.At < safe {
			return fmt.Errorf("%v was expired at %v, but its holder was told at %v that it is safe until %v", p.Session, at.At, p.Told.At, safe)
		}
	}
	return nil
}

// expiries returns when the sessions were ended that were ended for their silence.
func expiries(h *History) map[op.SessionID]Moment {
	ns, at := NewNamespace(), map[op.SessionID]Moment{}
	before := ns.Alive()
	for d := range h.Replay(ns) {
		if d.Request.Op.Verb() == op.VerbExpire {
			for _, id := range before {
				if ns.sessions[id] == nil {
					at[id] = d.Entry.Applied
				}
			}
		}
		if d.Request.Op.Verb() >= op.VerbOpenSession {
			before = ns.Alive()
		}
	}
	return at
}

// Expiry checks that a session of which nothing is heard any more ends soon: within its timeout and Recovery.Expiry,
// counted from its last sign of life or, if faults kept the cluster from noticing, from when they were healed.
func Expiry(h *History) error {
	if h.Recovery.Healed.Never() {
		return nil
	}
	ns := NewNamespace()
	for range h.Replay(ns) {
	}
	for _, l := range h.Lives {
		due := max(l.Last.At, h.Recovery.Healed.At) + l.Timeout + h.Recovery.Expiry
		if ns.sessions[l.Session] != nil && due < h.Recovery.End.At {
			return fmt.Errorf("%v is still alive at %v, although it last gave a sign of life at %v and its timeout is %v", l.Session, h.Recovery.End.At, l.Last.At, l.Timeout)
		}
	}
	return nil
}
