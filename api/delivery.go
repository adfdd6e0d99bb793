package api

import (
	"sort"
	"sync"
	"time"

	"github.com/coord-kv/coord/op"
)

// appliedTimes remembers when the latest batches were applied, to tell how long events took from there to a client's
// socket. It is written once for each batch, and asked once for each message that is written.
type appliedTimes struct {
	mu   sync.Mutex
	ring [1024]appliedAt
	next int // place of the next one; the newest is the one before
}

type appliedAt struct {
	zxid op.Zxid
	at   time.Time
}

func (p *appliedTimes) add(z op.Zxid, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.newest(0).zxid < z {
		p.ring[p.next] = appliedAt{z, now}
		p.next = (p.next + 1) % len(p.ring)
	}
}

// newest returns the i-th newest entry, from 0.
func (p *appliedTimes) newest(i int) appliedAt {
	return p.ring[(p.next-1-i+2*len(p.ring))%len(p.ring)]
}

// of returns when z was applied: with the first batch that reached it. It is false if that isn't known any more.
func (p *appliedTimes) of(z op.Zxid) (at time.Time, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	older := sort.Search(len(p.ring), func(i int) bool { return p.newest(i).zxid < z })
	if older == 0 || older == len(p.ring) {
		return time.Time{}, false
	}
	return p.newest(older - 1).at, true
}

// Applied says that everything up to z can be seen from now on.
func (m *Metrics) Applied(z op.Zxid) { m.applied.add(z, time.Now()) }

// delivered measures how long the event z took to be written, if it is newer than live: one that a watch has caught up
// with waited for the client.
func (m *Metrics) delivered(z, live op.Zxid) {
	if z <= live {
		return
	}
	if at, ok := m.applied.of(z); ok {
		m.deliveries.Observe(time.Since(at).Seconds())
	}
}
