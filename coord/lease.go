package coord

import "time"

// lease is what a session knows of its own life: the time until which it is proven to live. It reads no clock.
//
// A confirmation proves that the leader, after it had heard the sign of life, still led; the session then lives its
// timeout, counted from some moment after the sign was sent. So it is safe for its timeout from the moment of
// sending, by the local clock, less what that clock may lose against the leader's.
type lease struct {
	ttl   time.Duration
	until time.Time
	pings []ping // unconfirmed, oldest first; at most maxPings
}

type ping struct {
	id uint64
	at time.Time
}

const (
	// driftShare is the part of a timeout that the local clock and the leader's may come apart while it passes: one
	// hundredth, where the clocks of machines differ by a ten-thousandth.
	driftShare = 100
	// maxPings bounds the signs of life that are remembered. Older ones prove less than the newer.
	maxPings = 16
	// pingsPerTTL is how many signs of life are sent while a timeout passes, so that several may be lost.
	pingsPerTTL = 5
)

// begun says that the session was opened or resumed by what was sent at that time.
func (l *lease) begun(at time.Time, ttl time.Duration) {
	l.ttl = ttl
	l.prove(at)
	l.pings = l.pings[:0]
}

// sent notes a sign of life.
func (l *lease) sent(id uint64, at time.Time) {
	if len(l.pings) == maxPings {
		copy(l.pings, l.pings[1:])
		l.pings = l.pings[:maxPings-1]
	}
	l.pings = append(l.pings, ping{id, at})
}

// confirmed takes the confirmation of a sign of life; one that isn't remembered says nothing.
func (l *lease) confirmed(id uint64, ttl time.Duration) {
	for i, p := range l.pings {
		if p.id == id {
			l.ttl = ttl
			l.prove(p.at)
			l.pings = append(l.pings[:0], l.pings[i+1:]...)
			return
		}
	}
}

func (l *lease) prove(at time.Time) {
	if until := at.Add(l.ttl - l.ttl/driftShare); until.After(l.until) {
		l.until = until
	}
}

// interval is the time between two signs of life.
func (l *lease) interval() time.Duration { return l.ttl / pingsPerTTL }

// doubtful reports whether confirmations are overdue at now: three signs of life have gone unanswered.
func (l *lease) doubtful(now time.Time) bool {
	return l.until.Sub(now) < l.ttl-3*l.interval()
}
