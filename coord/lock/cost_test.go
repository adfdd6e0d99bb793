package lock_test

import (
	"bufio"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/coord-kv/coord/coord/lock"
)

// cost is what the members have counted so far.
type cost struct {
	requests int   // that lock and unlock wait for; the watch by which a holder learns that it lost the lock is none
	syncs    []int // of the log, on each member
}

func (w *world) cost() (c cost) {
	w.Helper()
	client := http.Client{Transport: &http.Transport{DialContext: w.cluster.Dialer()}}
	defer client.CloseIdleConnections()
	for _, url := range w.cluster.Endpoints() {
		resp := must(client.Get(url + "/metrics"))
		for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
			name, value, _ := strings.Cut(lines.Text(), " ")
			switch {
			case strings.Contains(name, `watch"`):
			case strings.HasPrefix(name, "coord_requests_total{") && strings.Contains(name, `transport="ws"`):
				c.requests += must(strconv.Atoi(value))
			case name == "coord_wal_fsync_duration_seconds_count":
				c.syncs = append(c.syncs, must(strconv.Atoi(value)))
			}
		}
		resp.Body.Close()
	}
	return c
}

// TestCost: a lock that nobody else wants takes one request to acquire and one to release, and each member syncs its log once
// for each. One whose answer isn't needed for a majority may be late, and then syncs once for several.
func TestCost(t *testing.T) {
	for _, members := range []int{1, 3} {
		bubble(t, members, func(w *world) {
			l := lock.New(w.session(), "nightly")
			turn := func() {
				if err := must(l.Lock(w.Context())).Unlock(w.Context()); err != nil {
					t.Error(err)
				}
				synctest.Wait()
			}
			turn() // makes the directory
			before := w.cost()
			const turns = 10
			for range turns {
				turn()
			}
			after := w.cost()
			if n := after.requests - before.requests; n != 2*turns {
				t.Errorf("%d members: %d requests for %d turns", members, n, turns)
			}
			if len(after.syncs) != members {
				t.Fatalf("%d members: syncs %v", members, after.syncs)
			}
			most := 0
			for i := range after.syncs {
				most = max(most, after.syncs[i]-before.syncs[i])
			}
			if most != 2*turns {
				t.Errorf("%d members: a log was synced %d times for %d turns", members, most, turns)
			}
		})
	}
}
