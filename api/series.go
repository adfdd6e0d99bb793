package api

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/coord-kv/coord/op"
)

// series are what is measured for each of a closed set of keys: the children of vectors, found once. A vector makes text of
// the labels and takes a lock each time that it is asked for one; here it is a load, and a look into a map that is never
// changed, but replaced when a key comes for the first time.
type series[K comparable, V any] struct {
	find  func(K) V
	known atomic.Pointer[map[K]V]
	mu    sync.Mutex // for those who add to it
}

func newSeries[K comparable, V any](find func(K) V) *series[K, V] {
	s := &series[K, V]{find: find}
	s.known.Store(&map[K]V{})
	return s
}

func (s *series[K, V]) of(k K) V {
	if v, ok := (*s.known.Load())[k]; ok {
		return v
	}
	return s.add(k)
}

func (s *series[K, V]) add(k K) V {
	s.mu.Lock()
	defer s.mu.Unlock()
	more := maps.Clone(*s.known.Load())
	more[k] = s.find(k) // which is the same child each time
	s.known.Store(&more)
	return more[k]
}

// timed counts and measures.
type timed struct {
	count prometheus.Counter
	took  prometheus.Observer
}

func (x timed) done(d time.Duration) {
	x.count.Inc()
	x.took.Observe(d.Seconds())
}

type requestKey struct {
	transport Transport
	verb      string
	code      op.Code
}

type readKey struct {
	level    op.Level
	byLeader bool
}

func (m *Metrics) makeSeries() {
	m.requestSeries = newSeries(func(k requestKey) timed {
		return timed{
			m.requests.WithLabelValues(string(k.transport), k.verb, k.code.String()),
			m.durations.WithLabelValues(string(k.transport), k.verb),
		}
	})
	m.readSeries = newSeries(func(k readKey) timed {
		servedBy := "local"
		if k.byLeader {
			servedBy = "leader"
		}
		return timed{m.reads.WithLabelValues(k.level.String(), servedBy), m.staleness.WithLabelValues(k.level.String())}
	})
	m.proposalSeries = newSeries(func(outcome op.Outcome) timed {
		return timed{m.proposals.WithLabelValues(outcome.String()), m.proposalTimes}
	})
}
