package api

import (
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/coord-kv/coord/fsm"
	"github.com/coord-kv/coord/internal/registry"
	"github.com/coord-kv/coord/op"
)

// Locks, elections and services are nodes, and whoever works with them may run the recipe himself. So what is counted here
// is what the state machine sees: whose turn came, and who went. That holds for every client, ZooKeeper's included.
//
// Gauges are read from one view when they are asked for. A lock costs constant time, however many wait for it; a scrape
// looks at no more than contestsCounted locks, elections and services' instances each. They are the same on all members.
// Counters are fed by turns as they are applied, and count what came through this member: over all members each turn is
// counted once.

// contestsCounted bounds the directories of each recipe that a scrape looks at.
const contestsCounted = 10_000

// everything is the identity of the member itself: what it counts is of no use to find out what is in the tree.
var everything = []op.Identity{{Scheme: "super", ID: ""}}

// contests are the gauges.
type contests struct {
	held      map[fsm.Mode]int64
	waiters   int64
	oldest    time.Duration // wait of those who wait now
	elections int64         // with at least one candidate
	instances map[registry.Status]int64
}

func countContests(v *fsm.View, now time.Time) contests {
	c := contests{
		held:      map[fsm.Mode]int64{fsm.Mutex: 0, fsm.SharedLock: 0, fsm.Semaphore: 0},
		instances: map[registry.Status]int64{registry.Passing: 0, registry.Warning: 0, registry.Critical: 0},
	}
	for _, lock := range children(v, locksDir, false, contestsCounted) {
		l := v.Line(lock.Path)
		c.held[l.Mode] += int64(l.Held)
		c.waiters += int64(l.Waiting)
		if l.Waiting > 0 {
			c.oldest = max(c.oldest, now.Sub(time.UnixMilli(int64(l.Since))))
		}
	}
	for _, election := range children(v, electionsDir, false, contestsCounted) {
		if v.Line(election.Path).Held > 0 {
			c.elections++
		}
	}
	c.countInstances(v)
	return c
}

func (c *contests) countInstances(v *fsm.View) {
	left := contestsCounted
	for _, service := range children(v, registry.Dir, false, contestsCounted) {
		instances := children(v, service.Path, true, left)
		for _, n := range instances {
			if status, ok := registry.StatusOf(n.Data); ok {
				c.instances[status]++
			}
		}
		if left -= len(instances); left <= 0 {
			return
		}
	}
}

func children(v *fsm.View, dir string, data bool, limit int) []op.Node {
	return v.Read(&op.Children{Path: dir, WithData: data, Limit: int32(limit)}, everything).Nodes
}

// contestMetrics describe contests.
type contestMetrics struct{ held, waiters, oldest, elections, instances *prometheus.Desc }

func newContestMetrics() contestMetrics {
	return contestMetrics{
		held:      desc("locks_held", "Holders of locks, by mode.", "mode"),
		waiters:   desc("lock_waiters", "Clients queued for locks."),
		oldest:    desc("lock_oldest_waiter_seconds", "Time for which the first waiter of any lock has waited."),
		elections: desc("elections", "Elections with at least one candidate."),
		instances: desc("service_instances", "Registered service instances, by health.", "state"),
	}
}

func (m contestMetrics) describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.held, m.waiters, m.oldest, m.elections, m.instances} {
		ch <- d
	}
}

func (m contestMetrics) collect(ch chan<- prometheus.Metric, c contests) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	for mode, n := range c.held {
		gauge(m.held, float64(n), mode.String())
	}
	for status, n := range c.instances {
		gauge(m.instances, float64(n), string(status))
	}
	gauge(m.waiters, float64(c.waiters))
	gauge(m.oldest, c.oldest.Seconds())
	gauge(m.elections, float64(c.elections))
}

// contestCounters count turns.
type contestCounters struct {
	acquisitions *prometheus.CounterVec
	waits, holds prometheus.Observer
	lost         *prometheus.CounterVec
	terms        prometheus.Counter

	mu    sync.Mutex
	since map[string]op.Time // of each lock's holders by path, as far as their turn came while this member ran
}

const sinceKept = 100_000

// partings say why one left who was still waiting, losses why a holder did without giving back.
var (
	partings = [...]string{fsm.ClosedByOwner: "gave_up", fsm.Killed: "removed", fsm.Expired: "session_expired", fsm.TakenOver: "taken_over"}
	losses   = [...]string{fsm.ClosedByOwner: "", fsm.Killed: "broken_by_admin", fsm.Expired: "session_expired", fsm.TakenOver: "taken_over"}
)

func (m *Metrics) makeContests() {
	c := &m.contests
	c.acquisitions = preset(m.counters("lock_acquisitions_total", "Lock attempts by result.", "result"), append(partings[:], "acquired")...)
	c.waits = m.histogram("lock_wait_duration_seconds", "Time a successful acquirer waited.", holdBuckets)
	c.holds = m.histogram("lock_hold_duration_seconds", "Time locks were held.", holdBuckets)
	c.lost = preset(m.counters("lock_lost_total", "Locks lost without release, by reason.", "reason"), losses[1:]...)
	c.terms = m.counter("election_leader_changes_total", "Terms of elections that have begun.")
	c.since = map[string]op.Time{}
}

// Turn takes note of a turn that was applied at that time. All turns must be given, in order; those that are mine are counted.
func (m *Metrics) Turn(t fsm.Turn, at op.Time, mine bool) {
	c := &m.contests
	switch {
	case t.Kind == fsm.TermBegan && mine && strings.HasPrefix(t.Path, electionsDir+"/"):
		c.terms.Inc()
	case !strings.HasPrefix(t.Path, locksDir+"/"):
	case t.Kind == fsm.TurnCame:
		c.came(t, at, mine)
	case t.Kind == fsm.TurnEnded:
		c.ended(t, at, mine)
	case t.Kind == fsm.TurnLost && mine:
		c.acquisitions.WithLabelValues(partings[t.Why]).Inc()
	}
}

func (c *contestCounters) came(t fsm.Turn, at op.Time, mine bool) {
	c.mu.Lock()
	if len(c.since) >= sinceKept { // a state that came as a snapshot has left some behind
		clear(c.since)
	}
	c.since[t.Path] = at
	c.mu.Unlock()
	if mine {
		c.acquisitions.WithLabelValues("acquired").Inc()
		c.waits.Observe(between(t.Came, at).Seconds())
	}
}

func (c *contestCounters) ended(t fsm.Turn, at op.Time, mine bool) {
	c.mu.Lock()
	since, known := c.since[t.Path]
	delete(c.since, t.Path)
	c.mu.Unlock()
	if !mine {
		return
	}
	if known {
		c.holds.Observe(between(since, at).Seconds())
	}
	if t.Why != fsm.ClosedByOwner {
		c.lost.WithLabelValues(losses[t.Why]).Inc()
	}
}

// between returns the time from one to the other. Leaders' clocks differ, so it may come out below zero.
func between(from, to op.Time) time.Duration {
	return max(time.Duration(to-from)*time.Millisecond, 0)
}
