package coord

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/coord-kv/coord/op"
)

// Stats is what a Client and all of its sessions have done, and do now. Package coordprom makes metrics of it.
type Stats struct {
	Connections uint64         // that were made; more than there are sessions, and one, says that some were lost
	Connected   int            // those that stand now
	Waiting     int            // requests that are not answered yet
	Watches     int            // that are being followed
	Sessions    map[Phase]int  // that are open, by phase
	Requests    []RequestStats // that are over, of each operation and outcome that there was
}

// RequestStats are the requests of an operation that have come to the same.
type RequestStats struct {
	Operation string // such as "get", "create" or "txn"
	Outcome   string // "done", "refused", "decided" (against it) or "unknown", as of Error.Outcome
	Count     uint64
	Total     time.Duration // that they took together, with all waiting for members and connections
}

// outcomes are the names of outcomes, and the places of their counters: what was done has no error.
var outcomes = [...]string{Refused: "refused", Decided: "decided", Unknown: "unknown", done: "done"}

const done = max(Refused, Decided, Unknown) + 1

// counters are those of a Client and its sessions. They are safe for concurrent use.
type counters struct {
	connections atomic.Uint64
	requests    [][len(outcomes)]tally // by verb
}

type tally struct{ count, nanos atomic.Uint64 }

func newCounters() *counters {
	verbs := op.Verbs()
	return &counters{requests: make([][len(outcomes)]tally, verbs[len(verbs)-1]+1)}
}

// count counts a request that is over.
func (n *counters) count(v op.Verb, err error, took time.Duration) {
	outcome := done
	if e, ok := errors.AsType[*Error](err); ok {
		outcome = e.Outcome
	} else if err != nil {
		outcome = Refused
	}
	t := &n.requests[v][outcome]
	t.count.Add(1)
	t.nanos.Add(uint64(took))
}

func (n *counters) stats() (list []RequestStats) {
	for v := range n.requests {
		for o := range n.requests[v] {
			t := &n.requests[v][o]
			if count := t.count.Load(); count > 0 {
				list = append(list, RequestStats{op.Verb(v).String(), outcomes[o], count, time.Duration(t.nanos.Load())})
			}
		}
	}
	return list
}

// Stats returns what the Client and its sessions have done, and do now.
func (c *Client) Stats() Stats {
	s := Stats{
		Connections: c.cfg.counters.connections.Load(), Requests: c.cfg.counters.stats(),
		Sessions: map[Phase]int{Connected: 0, Suspended: 0},
	}
	c.e.addTo(&s)
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, x := range c.sessions {
		if x.e.life.Err() == nil {
			x.e.addTo(&s)
			s.Sessions[x.State().Phase]++
		}
	}
	return s
}

func (e *engine) addTo(s *Stats) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.link != nil {
		s.Connected++
	}
	s.Waiting += len(e.p.calls)
	s.Watches += len(e.p.subs) + len(e.p.waiting)
}
