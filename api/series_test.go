package api

import (
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/coord-kv/coord/op"
)

// Requests that come for the first time at the same time are all counted, each where it belongs.
func TestSeriesConcurrent(t *testing.T) {
	m := NewMetrics()
	verbs := []string{"get", "set", "create", "delete"}
	const each = 100
	var g sync.WaitGroup
	for range 8 {
		g.Go(func() {
			for i := range each * len(verbs) {
				m.RequestDone(HTTP, verbs[i%len(verbs)], op.OK, time.Millisecond)
				m.ReadDone(op.ReadInfo{Level: op.Level(i % 2), Staleness: -1}, i%4 < 2)
			}
		})
	}
	g.Wait()
	for _, verb := range verbs {
		if n := testutil.ToFloat64(m.requests.WithLabelValues("http", verb, "ok")); n != 8*each {
			t.Errorf("%v of %d are counted as %s", n, 8*each, verb)
		}
	}
	for i := range 4 {
		by := []string{"leader", "local"}[i/2]
		if n := testutil.ToFloat64(m.reads.WithLabelValues(op.Level(i%2).String(), by)); n != 8*each {
			t.Errorf("%v of %d reads are counted at level %d as served by %s", n, 8*each, i%2, by)
		}
	}
}
