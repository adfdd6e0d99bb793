package api

import (
	"errors"
	"flag"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/coord-kv/coord/op"
	"github.com/coord-kv/coord/watch"
)

var update = flag.Bool("update", false, "write testdata/metrics.txt anew")

// exercise uses every metric once.
func exercise(f *fixture) {
	m := f.s.metrics
	f.must("PUT", "/v1/nodes/a", "x")
	f.must("GET", "/v1/watch/?since=0", "")
	f.send("PUT", "/v1/nodes/a", "x", "Coord-Fencing-Token: a=1")
	f.send("GET", "/v1/nodes/a", "", "Authorization: Bearer x")
	m.rejected.WithLabelValues("overload").Inc()
	m.slowConsumers.Inc()
	m.SyncDone(time.Millisecond)
	m.DNSQueryDone("srv", "noerror")
	m.ProposalDone(time.Millisecond, op.Decided)
	m.ReadRound(time.Millisecond)
	m.CheckpointDone(SnapshotCreate, time.Second, nil)
	m.CheckpointDone(SnapshotSend, time.Second, errors.New("no"))
	m.RequestDone(ZooKeeper, "getData", op.NoNode, time.Millisecond)
	m.RequestDone(WebSocket, "term", op.StaleToken, time.Millisecond) // a question, not a write
	m.watching(watch.Exact)()
	m.CommitDone(time.Millisecond)
	m.RoundTrip("n2", time.Millisecond)
	m.Heartbeat(time.Second)
}

// TestMetricNames: a metric's name, type and labels are what dashboards and alerts are written for. Changing one is a
// decision: run with -update.
func TestMetricNames(t *testing.T) {
	f := newFixture(t)
	exercise(f)
	families, err := f.s.metrics.Registry().Gather()
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, mf := range families {
		var labels []string
		for _, l := range mf.GetMetric()[0].GetLabel() {
			labels = append(labels, l.GetName())
		}
		lines = append(lines, strings.ToLower(mf.GetType().String())+" "+mf.GetName()+"{"+strings.Join(labels, ",")+"} "+mf.GetHelp())
	}
	got := strings.Join(lines, "\n") + "\n"
	const golden = "testdata/metrics.txt"
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("the metrics are not those of %s:\n%s", golden, got)
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
}

// TestMetricsEndpoint: what was gathered is served, in both formats.
func TestMetricsEndpoint(t *testing.T) {
	f := newFixture(t)
	exercise(f)
	text := string(f.must("GET", "/metrics", "").body)
	for _, want := range []string{
		`coord_build_info{goversion="`, `version="v0-test"} 1`,
		`coord_raft_has_leader 1`, `coord_raft_is_leader 1`, `coord_raft_term 3`, `coord_zxid 2`,
		`coord_raft_peer_up{peer="n2"} 1`, `coord_raft_peer_match_lag_entries{peer="n2"} 2`, `coord_raft_peer_sent_bytes_total{peer="n2"} 9`,
		`coord_tree_nodes{kind="persistent"} 5`, `coord_tree_data_bytes 1`, `coord_sessions{kind="session"} 0`,
		`coord_requests_total{code="ok",op="put",transport="http"} 1`,
		`coord_requests_total{code="stale_token",op="put",transport="http"} 1`,
		`coord_requests_total{code="unauthenticated",op="read",transport="http"} 1`,
		`coord_requests_total{code="no_node",op="getData",transport="zk"} 1`,
		`coord_request_duration_seconds_bucket{op="put",transport="http",le="10"} 2`,
		`coord_fencing_rejections_total 1`, `coord_auth_failures_total{reason="bad_credentials"} 1`,
		`coord_watch_events_total{type="created"} 1`, `coord_watch_resumes_total{result="replayed"} 1`,
		`coord_session_heartbeat_slack_seconds_count 1`, `coord_store_commit_duration_seconds_count 1`,
		`coord_raft_peer_round_trip_seconds_count{peer="n2"} 1`, `coord_invariant_violations_total{check="state_digest"} 0`,
		`coord_store_quota_bytes 0`, `coord_lock_lost_total{reason="session_expired"} 0`,
		`coord_raft_snapshots_total{op="send",result="error"} 1`, `coord_raft_proposals_total{result="decided"} 1`,
		`coord_reads_total{consistency="eventual",served_by="leader"} 1`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("there is no %s in\n%s", want, text)
		}
	}
	r := f.must("GET", "/metrics", "", "Accept: application/openmetrics-text; version=1.0.0")
	if !strings.HasPrefix(r.Header.Get("Content-Type"), "application/openmetrics-text") || !strings.HasSuffix(string(r.body), "# EOF\n") {
		t.Errorf("%s", r.Header.Get("Content-Type"))
	}
}

// TestCardinality: hostile traffic can't make metrics without end.
func TestCardinality(t *testing.T) {
	f := newFixture(t)
	exercise(f)
	before := testutil.CollectAndCount(f.s.metrics.requests)
	for i := range 200 {
		path := "/v1/nodes/" + strings.Repeat("x", i+1)
		f.send("PUT", path, "x")
		f.send("BREW"+strings.Repeat("X", i%50), path, "")
		f.send("GET", "/"+strings.Repeat("y", i+1), "")
		f.send("GET", "/v1/sessions/s-"+strings.Repeat("1", i%16+1), "")
	}
	if after := testutil.CollectAndCount(f.s.metrics.requests); after > before+5 {
		t.Errorf("%d series became %d", before, after)
	}
	series := 0
	for _, line := range strings.Split(string(f.must("GET", "/metrics", "").body), "\n") {
		if line != "" && !strings.HasPrefix(line, "#") {
			series++
		}
	}
	if series > 500 {
		t.Errorf("there are %d series", series)
	}
}

// TestRouteNames: the operations in metrics are a closed and small set.
func TestRouteNames(t *testing.T) {
	f := newFixture(t)
	var names []string
	for _, rt := range f.s.routes() {
		if !slices.Contains(names, rt.name) {
			names = append(names, rt.name)
		}
	}
	if len(names) > 40 || slices.Contains(names, "") || slices.Contains(names, "none") {
		t.Errorf("%v", names)
	}
}
