package lock_test

import (
	"bufio"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/coord-kv/coord/coord/internal/bubble"
	"github.com/coord-kv/coord/coord/lock"
)

// cost is what the members have counted so far.
type cost struct {
	requests int   // that lock and unlock wait for; the watch by which a holder learns that it lost the lock is none
	syncs    []int // of the log, on each member
}

func costOf(w *bubble.World) (c cost) {
	w.Helper()
	client := http.Client{Transport: &http.Transport{DialContext: w.Cluster.Dialer()}}
	defer client.CloseIdleConnections()
	for _, url := range w.Cluster.Endpoints() {
		resp := bubble.Must(client.Get(url + "/metrics"))
		for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
			name, value, _ := strings.Cut(lines.Text(), " ")
			switch {
			case strings.Contains(name, `watch"`):
			case strings.HasPrefix(name, "coord_requests_total{") && strings.Contains(name, `transport="ws"`):
				c.requests += bubble.Must(strconv.Atoi(value))
			case name == "coord_wal_fsync_duration_seconds_count":
				c.syncs = append(c.syncs, bubble.Must(strconv.Atoi(value)))
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
		bubble.Run(t, members, func(w *bubble.World) {
			l := lock.New(w.Session(), "nightly")
			turn := func() {
				if err := bubble.Must(l.Lock(w.Context())).Unlock(w.Context()); err != nil {
					t.Error(err)
				}
				synctest.Wait()
			}
			turn() // makes the directory
			before := costOf(w)
			const turns = 10
			for range turns {
				turn()
			}
			after := costOf(w)
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
