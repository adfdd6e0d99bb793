package api

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coord-kv/coord/fsm"
	"github.com/coord-kv/coord/internal/frame"
	"github.com/coord-kv/coord/op"
)

// counted is a fixture whose member tells its metrics what it applies.
func counted(t testing.TB) *fixture {
	f := newFixture(t)
	f.m.tell(func() { f.m.metrics = f.s.metrics })
	return f
}

func (f *fixture) wantMetrics(t *testing.T, wants ...string) {
	t.Helper()
	text := "\n" + string(f.must("GET", "/metrics", "").body)
	for _, want := range wants {
		if !strings.Contains(text, "\n"+want+"\n") {
			var like []string
			name, _, _ := strings.Cut(want, " ")
			name, _, _ = strings.Cut(name, "{")
			for line := range strings.Lines(text) {
				if strings.HasPrefix(line, name) {
					like = append(like, line)
				}
			}
			t.Errorf("there is no %s, but\n%s", want, strings.Join(like, ""))
		}
	}
}

// TestLockCounters: how locks were got and lost is counted, whoever did it and by whatever request.
func TestLockCounters(t *testing.T) {
	f := counted(t)
	f.must("POST", "/v1/locks/a?owner=one", "")
	f.send("POST", "/v1/locks/a?owner=two", "") // not free: it gives up at once
	waits := f.follow(t, "/v1/locks/a?hold&ttl=4s&owner=three")
	waits.want("waiting 1")
	f.wantMetrics(t, `coord_locks_held{mode="exclusive"} 1`, `coord_lock_waiters 1`,
		`coord_lock_acquisitions_total{result="acquired"} 1`, `coord_lock_acquisitions_total{result="gave_up"} 1`)
	f.must("DELETE", "/v1/locks/a?force", "")
	waits.next()
	f.wantMetrics(t, `coord_lock_acquisitions_total{result="acquired"} 2`, `coord_lock_lost_total{reason="broken_by_admin"} 1`,
		`coord_lock_wait_duration_seconds_count 2`, `coord_lock_hold_duration_seconds_count 1`, `coord_lock_waiters 0`)
	f.must("POST", "/v1/locks/b?ttl=4s", "")
	f.m.pass(10 * time.Second) // both holders' sessions end
	f.wantMetrics(t, `coord_lock_lost_total{reason="session_expired"} 2`, `coord_locks_held{mode="exclusive"} 0`,
		`coord_lock_hold_duration_seconds_count 3`)
}

// TestElectionCounters: terms are counted, and so are elections in which somebody stands.
func TestElectionCounters(t *testing.T) {
	f := counted(t)
	a := f.follow(t, "/v1/elections/e?hold&candidate=a")
	a.next()
	b := f.follow(t, "/v1/elections/e?hold&candidate=b")
	b.next()
	f.wantMetrics(t, `coord_elections 1`, `coord_election_leader_changes_total 1`)
	a.conn.Close()
	b.next()
	f.wantMetrics(t, `coord_elections 1`, `coord_election_leader_changes_total 2`, `coord_lock_acquisitions_total{result="acquired"} 0`)
}

// TestServiceGauge: instances are counted by their health.
func TestServiceGauge(t *testing.T) {
	f := counted(t)
	for i, status := range []string{"passing", "passing", "critical"} {
		target := fmt.Sprintf("/v1/services/web/instances/i%d", i)
		f.must("PUT", target, `{"address": "10.0.0.1", "port": 80, "ttl": "1m", "status": "`+status+`"}`)
	}
	f.must("PUT", "/v1/nodes/services/web/stray", "not an instance")
	f.wantMetrics(t, `coord_service_instances{state="passing"} 2`, `coord_service_instances{state="critical"} 1`, `coord_service_instances{state="warning"} 0`)
}

// TestOthersTurns: what came through another member is counted there, and known here.
func TestOthersTurns(t *testing.T) {
	f := newFixture(t)
	m := f.s.metrics
	turn := func(kind fsm.TurnKind, at op.Time, mine bool) {
		m.Turn(fsm.Turn{Kind: kind, Path: "/locks/x/a-lock-0000000001", Came: 1000, Why: fsm.Expired}, at, mine)
	}
	turn(fsm.TurnCame, 2000, false)
	turn(fsm.TurnEnded, 5000, true)
	turn(fsm.TurnLost, 5000, false)
	m.Turn(fsm.Turn{Kind: fsm.TurnCame, Path: "/queues/x/a-lock-0000000001"}, 1, true)
	m.Turn(fsm.Turn{Kind: fsm.TermBegan, Path: "/locks/x"}, 1, true)
	f.wantMetrics(t, `coord_lock_acquisitions_total{result="acquired"} 0`, `coord_lock_acquisitions_total{result="session_expired"} 0`,
		`coord_lock_hold_duration_seconds_sum 3`, `coord_lock_lost_total{reason="session_expired"} 1`, `coord_election_leader_changes_total 0`)
}

// TestDeliveryTimes: an event that a watch was there for is measured, over every transport; one from before isn't.
func TestDeliveryTimes(t *testing.T) {
	inBubble(t, Limits{}, func(b *bubble) {
		b.m.tell(func() { b.m.metrics = b.s.metrics })
		measured := func() uint64 {
			synctest.Wait()
			families, err := b.s.metrics.Registry().Gather()
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range families {
				if f.GetName() == "coord_watch_delivery_duration_seconds" {
					return f.GetMetric()[0].GetHistogram().GetSampleCount()
				}
			}
			return 0
		}
		b.write(set("/a", "1"))
		if b.ask("/v1/watch/a?since=0").body(); measured() != 0 {
			t.Error("an event was measured that happened before the watch")
		}
		c := b.events("/v1/watch/a")
		defer c.conn.Close()
		ws := b.wsDial(frame.Subprotocol)
		ws.open()
		ws.send(&frame.Watch{ID: 2, Path: "/a"})
		next[*frame.Watching](ws)
		answer := make(chan string, 1)
		poll := b.ask("/v1/watch/a?wait=10s")
		go func() { answer <- poll.body() }()
		synctest.Wait()
		b.write(set("/a", "2"))
		c.message()
		next[*frame.Events](ws)
		if <-answer; measured() != 3 {
			t.Errorf("%d deliveries were measured", measured())
		}
		ws.ws.Close()
	})
}

func TestAppliedTimes(t *testing.T) {
	var p appliedTimes
	at := func(n int) time.Time { return time.Unix(int64(n), 0) }
	for n := 1; n <= 3000; n++ {
		p.add(op.Zxid(2*n), at(n))
		p.add(op.Zxid(2*n), at(n+10_000)) // says nothing new
	}
	for z, want := range map[op.Zxid]int{6000: 3000, 5999: 3000, 5998: 2999, 3956: 1978} {
		if got, ok := p.of(z); !ok || !got.Equal(at(want)) {
			t.Errorf("%d: %v %v, not %v", z, got, ok, at(want))
		}
	}
	for _, z := range []op.Zxid{6001, 2, 3954} {
		if got, ok := p.of(z); ok {
			t.Errorf("%d: %v", z, got)
		}
	}
}

// BenchmarkScrape is what the gauges of locks cost: with 10,000 who wait for one, and with 10,000 locks.
func BenchmarkScrape(b *testing.B) {
	for _, shape := range []struct{ locks, waiters int }{{1, 10_000}, {10_000, 1}, {100_000, 1}} {
		b.Run(fmt.Sprintf("locks=%d/waiters=%d", shape.locks, shape.waiters), func(b *testing.B) {
			m := fsm.New()
			m.Apply(&op.Batch{Requests: []*op.Request{{Op: &op.OpenSession{Timeout: time.Minute}}}})
			limits := op.DefaultLimits()
			limits.Ephemerals, limits.ChangedNodes, limits.EventBytes = 1<<20, 1<<20, 1<<30
			m.Apply(&op.Batch{Requests: []*op.Request{{Op: &op.SetLimits{Limits: limits}}}})
			for i := range shape.locks * (shape.waiters + 1) {
				o := &op.Create{Path: fmt.Sprintf("/locks/l%d/x-lock-", i%shape.locks), Kind: op.Ephemeral, Sequence: true, Parents: true}
				if res := m.Apply(&op.Batch{Requests: []*op.Request{{Op: o, Session: 1}}}).Results[0]; res.Err != nil {
					b.Fatal(res.Err)
				}
			}
			v := m.View()
			for b.Loop() {
				countContests(v, time.Now())
			}
		})
	}
}
