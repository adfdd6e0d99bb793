package api

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/coord-kv/coord/fsm"
	"github.com/coord-kv/coord/op"
)

// contests counts, in one view, who holds and who waits for the locks and elections. A scrape looks at no more than
// contestsCounted of each, so that it stays cheap however many there are.
type contests struct {
	held      map[string]int64 // by mode
	waiters   int64
	oldest    time.Duration // wait of those who wait now
	elections int64         // with at least one candidate
}

const contestsCounted = 10_000

// everything is the identity of the member itself: what it counts is of no use to find out what is in the tree.
var everything = []op.Identity{{Scheme: "super", ID: ""}}

func countContests(v *fsm.View, now time.Time) contests {
	c := contests{held: map[string]int64{fsm.Exclusive.String(): 0, fsm.Shared.String(): 0}}
	for dir := range directories(v, locksDir) {
		c.addLock(v, dir, now)
	}
	for dir := range directories(v, electionsDir) {
		for range v.Order(dir) {
			c.elections++
			break
		}
	}
	return c
}

// directories yields the directories of a recipe.
func directories(v *fsm.View, base string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		res := v.Read(&op.Children{Path: base, Limit: contestsCounted}, everything)
		for i := range res.Nodes {
			if !yield(op.Join(base, op.Base(res.Nodes[i].Path))) {
				return
			}
		}
	}
}

// addLock counts the contenders of one directory, in their order: the first one holds, and so do the shared ones behind a
// shared first, up to the first exclusive one. All others wait, the first of them for the longest.
func (c *contests) addLock(v *fsm.View, dir string, now time.Time) {
	holding, first := true, fsm.Class(0)
	position := 0
	for seat := range v.Order(dir) {
		if position == 0 {
			first = seat.Class
		} else if holding && (first == fsm.Exclusive || seat.Class == fsm.Exclusive) {
			holding = false
			c.noteWait(v, op.Join(dir, seat.Name), now)
		}
		position++
		if holding {
			c.held[seat.Class.String()]++
		} else {
			c.waiters++
		}
	}
}

func (c *contests) noteWait(v *fsm.View, path string, now time.Time) {
	if res := v.Read(&op.Exists{Path: path}, everything); res.Stat != nil {
		c.oldest = max(c.oldest, now.Sub(time.UnixMilli(int64(res.Stat.Ctime))))
	}
}

// contestMetrics describe contests.
type contestMetrics struct{ held, waiters, oldest, elections *prometheus.Desc }

func newContestMetrics() contestMetrics {
	return contestMetrics{
		held:      desc("locks_held", "Lock directories and the holders of shared ones, by mode.", "mode"),
		waiters:   desc("lock_waiters", "Contenders for locks that don't hold them."),
		oldest:    desc("lock_oldest_waiter_seconds", "Time for which the first waiter of any lock has waited."),
		elections: desc("elections", "Elections with at least one candidate."),
	}
}

func (m contestMetrics) describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.held, m.waiters, m.oldest, m.elections} {
		ch <- d
	}
}

func (m contestMetrics) collect(ch chan<- prometheus.Metric, c contests) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	for mode, n := range c.held {
		gauge(m.held, float64(n), mode)
	}
	gauge(m.waiters, float64(c.waiters))
	gauge(m.oldest, c.oldest.Seconds())
	gauge(m.elections, float64(c.elections))
}
