package api

import (
	"errors"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/coord-kv/coord/op"
	"github.com/coord-kv/coord/watch"
)

// Metrics are the measurements of one member, in a registry of their own. Label values are closed sets, never a path, a
// session or anything else that a caller chooses. Its methods are for the parts of the member that do what is measured;
// they may be called concurrently and cost about a hundred nanoseconds.
type Metrics struct {
	registry *prometheus.Registry

	requests    *prometheus.CounterVec
	durations   *prometheus.HistogramVec
	inFlight    prometheus.Gauge
	wsInFlight  prometheus.Gauge
	rejected    *prometheus.CounterVec
	reads       *prometheus.CounterVec
	staleness   *prometheus.HistogramVec
	connections prometheus.Gauge
	wsConns     prometheus.Gauge

	watches       *prometheus.GaugeVec
	watchEvents   *prometheus.CounterVec
	slowConsumers prometheus.Counter
	resumes       *prometheus.CounterVec

	commits    prometheus.Observer
	roundTrips *prometheus.HistogramVec
	heartbeats prometheus.Observer
	contests   contestCounters
	applied    appliedTimes
	deliveries prometheus.Observer

	// Of what is counted for each request.
	requestSeries  *series[requestKey, timed]
	readSeries     *series[readKey, timed]
	proposalSeries *series[op.Outcome, timed]

	fenced       prometheus.Counter
	authFailures *prometheus.CounterVec
	dnsQueries   *prometheus.CounterVec

	syncs         prometheus.Observer
	proposals     *prometheus.CounterVec
	proposalTimes prometheus.Observer
	readRounds    prometheus.Observer
	snapshots     *prometheus.CounterVec
	snapshotTimes *prometheus.HistogramVec
}

// Transport is the way by which a request came.
type Transport string

// The transports.
const (
	HTTP      Transport = "http"
	WebSocket Transport = "ws"
	ZooKeeper Transport = "zk"
)

// NewMetrics returns metrics in a new registry.
func NewMetrics() *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry()}
	m.makeDoor()
	m.makeWatch()
	m.makeContests()
	m.makeMember()
	m.makeSeries()
	return m
}

// Registry returns the registry, for other collectors of the same member and for /metrics elsewhere.
func (m *Metrics) Registry() *prometheus.Registry { return m.registry }

// Buckets are in seconds. Native histograms are finer; these are for servers that don't read them.
var (
	requestBuckets = []float64{.0005, .001, .005, .025, .1, .5, 2.5, 10}
	slackBuckets   = []float64{.1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300}
	holdBuckets    = []float64{.001, .01, .1, .5, 1, 5, 15, 60, 300, 1800, 7200}
	diskBuckets    = []float64{.0001, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, 1, 5}
	longBuckets    = []float64{.01, .1, .5, 1, 2.5, 5, 10, 30, 60, 300}
)

func (m *Metrics) makeDoor() {
	m.requests = m.counters("requests_total", "Requests by transport, operation and result code.", "transport", "op", "code")
	m.durations = m.histograms("request_duration_seconds", "Request latency, long-poll wait excluded.", requestBuckets, "transport", "op")
	inFlight := m.gauges("requests_in_flight", "Requests being served.", "transport")
	m.inFlight, m.wsInFlight = inFlight.WithLabelValues(string(HTTP)), inFlight.WithLabelValues(string(WebSocket))
	m.rejected = preset(m.counters("requests_rejected_total", "Requests refused before work.", "reason"), "overload", "connections", "draining")
	m.reads = m.counters("reads_total", "Reads by effective consistency and by who served them.", "consistency", "served_by")
	m.staleness = m.histograms("read_staleness_seconds", "Upper bound of staleness of served reads.", requestBuckets, "consistency")
	connections := m.gauges("connections", "Open client connections.", "transport")
	m.connections, m.wsConns = connections.WithLabelValues(string(HTTP)), connections.WithLabelValues(string(WebSocket))
	m.fenced = m.counter("fencing_rejections_total", "Writes refused because their fencing token was stale.")
	m.authFailures = preset(m.counters("auth_failures_total", "Authentication and authorization failures.", "reason"),
		"bad_credentials", "bad_session_secret", "bad_hello", "denied")
	m.dnsQueries = m.counters("dns_queries_total", "DNS queries by type and result.", "type", "result")
}

func (m *Metrics) makeWatch() {
	m.watches = m.gauges("watches", "Active watches.", "kind")
	m.watchEvents = preset(m.counters("watch_events_total", "Events delivered to watchers.", "type"), "created", "changed", "deleted", "acl_changed")
	m.slowConsumers = m.counter("watch_slow_consumers_total", "Watches cut off because the client could not keep up.")
	m.resumes = preset(m.counters("watch_resumes_total", "Watch resumes by result.", "result"), "replayed", "current", "history_gone")
	m.deliveries = m.histogram("watch_delivery_duration_seconds", "Time from apply to the event being written to the client's socket, of watches that follow.", requestBuckets)
}

func (m *Metrics) makeMember() {
	m.syncs = m.histogram("wal_fsync_duration_seconds", "WAL fsync latency.", diskBuckets)
	m.proposals = preset(m.counters("raft_proposals_total", "Proposals by result.", "result"), "decided", "refused", "unknown")
	m.proposalTimes = m.histogram("raft_proposal_duration_seconds", "Time from propose to applied on this member.", diskBuckets)
	m.readRounds = m.histogram("raft_read_index_duration_seconds", "Time to confirm a linearizable read point.", diskBuckets)
	m.snapshots = m.counters("raft_snapshots_total", "Snapshots created, sent and received.", "op", "result")
	m.commits = m.histogram("store_commit_duration_seconds", "Latency of a durable change of the manifest, such as a new checkpoint.", diskBuckets)
	m.roundTrips = m.histograms("raft_peer_round_trip_seconds", "Round trip time to a peer.", diskBuckets, "peer")
	m.heartbeats = m.histogram("session_heartbeat_slack_seconds", "Time left before expiry when a heartbeat arrived, on the leader; small is dangerous.", slackBuckets)
	m.snapshotTimes = m.histograms("raft_snapshot_duration_seconds", "Snapshot duration.", longBuckets, "op")
	for _, what := range []SnapshotOp{SnapshotCreate, SnapshotSend, SnapshotReceive} {
		m.snapshotTimes.WithLabelValues(string(what))
		m.snapshots.WithLabelValues(string(what), "ok")
		m.snapshots.WithLabelValues(string(what), "error")
	}
}

func (m *Metrics) counters(name, help string, labels ...string) *prometheus.CounterVec {
	v := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "coord", Name: name, Help: help}, labels)
	m.registry.MustRegister(v)
	return v
}

// preset makes the series of those label values exist before anything is counted: an increase from nothing is none for
// Prometheus.
func preset(v *prometheus.CounterVec, values ...string) *prometheus.CounterVec {
	for _, value := range values {
		v.WithLabelValues(value)
	}
	return v
}

func (m *Metrics) counter(name, help string) prometheus.Counter {
	return m.counters(name, help).WithLabelValues()
}

func (m *Metrics) gauges(name, help string, labels ...string) *prometheus.GaugeVec {
	v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "coord", Name: name, Help: help}, labels)
	m.registry.MustRegister(v)
	return v
}

func (m *Metrics) histograms(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	v := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: "coord", Name: name, Help: help, Buckets: buckets,
		NativeHistogramBucketFactor: 1.2, NativeHistogramMaxBucketNumber: 100,
	}, labels)
	m.registry.MustRegister(v)
	return v
}

func (m *Metrics) histogram(name, help string, buckets []float64) prometheus.Observer {
	return m.histograms(name, help, buckets).WithLabelValues()
}

// RequestDone counts a request of a door. The verb must be of a closed set, and d excludes time that the caller asked to
// wait.
func (m *Metrics) RequestDone(t Transport, verb string, code op.Code, d time.Duration) {
	m.requestSeries.of(requestKey{t, verb, code}).done(d)
	switch code {
	case op.StaleToken:
		if verb != op.VerbHolder.String() && verb != op.VerbTerm.String() { // by themselves, these ask who it is now
			m.fenced.Inc()
		}
	case op.Draining:
		m.rejected.WithLabelValues("draining").Inc()
	case op.Denied:
		m.authFailures.WithLabelValues("denied").Inc()
	}
}

// ReadDone counts a read that was served from a view.
func (m *Metrics) ReadDone(info op.ReadInfo, byLeader bool) {
	reads := m.readSeries.of(readKey{info.Level, byLeader})
	reads.count.Inc()
	if info.Staleness >= 0 {
		reads.took.Observe(info.Staleness.Seconds())
	}
}

// DNSQueryDone counts a DNS query. Both must be of closed sets.
func (m *Metrics) DNSQueryDone(kind, result string) { m.dnsQueries.WithLabelValues(kind, result).Inc() }

// SyncDone measures one fdatasync of the write-ahead log.
func (m *Metrics) SyncDone(d time.Duration) { m.syncs.Observe(d.Seconds()) }

// ProposalDone counts a proposal, by what became of it, and measures the time from its arrival until it was applied on this
// member. Decided is what was decided, a yes included.
func (m *Metrics) ProposalDone(d time.Duration, outcome op.Outcome) {
	m.proposalSeries.of(outcome).done(d)
}

// ReadRound measures one confirmation of leadership for linearizable reads.
func (m *Metrics) ReadRound(d time.Duration) { m.readRounds.Observe(d.Seconds()) }

// CommitDone measures one durable change of the manifest.
func (m *Metrics) CommitDone(d time.Duration) { m.commits.Observe(d.Seconds()) }

// RoundTrip measures one round trip to another member.
func (m *Metrics) RoundTrip(peer string, d time.Duration) {
	m.roundTrips.WithLabelValues(peer).Observe(d.Seconds())
}

// Heartbeat measures how long a session still had when a sign of life of it arrived.
func (m *Metrics) Heartbeat(left time.Duration) { m.heartbeats.Observe(left.Seconds()) }

// SnapshotOp is what was done with a snapshot.
type SnapshotOp string

// What is done with snapshots.
const (
	SnapshotCreate  SnapshotOp = "create" // a checkpoint
	SnapshotSend    SnapshotOp = "send"
	SnapshotReceive SnapshotOp = "receive"
)

// CheckpointDone counts and measures what was done with a snapshot; a nil err is success.
func (m *Metrics) CheckpointDone(what SnapshotOp, d time.Duration, err error) {
	result := "ok"
	if err != nil {
		result = "error"
	}
	m.snapshots.WithLabelValues(string(what), result).Inc()
	m.snapshotTimes.WithLabelValues(string(what)).Observe(d.Seconds())
}

// watching counts a watch and returns what takes it out again.
func (m *Metrics) watching(scope watch.Scope) (done func()) {
	g := m.watches.WithLabelValues(scope.String())
	g.Inc()
	return g.Dec
}

// resumed counts a watch that went on from a position.
func (m *Metrics) resumed(err error, current bool) {
	result := "replayed"
	switch {
	case errors.Is(err, &op.Error{Code: op.HistoryGone}):
		result = "history_gone"
	case err != nil:
		return
	case current:
		result = "current"
	}
	m.resumes.WithLabelValues(result).Inc()
}

// observe adds what the member knows of itself: read when it is asked for.
func (m *Metrics) observe(b Backend, version string) {
	info := m.gauges("build_info", "Build metadata; always 1.", "version", "revision", "goversion")
	info.WithLabelValues(version, revision(), runtime.Version()).Set(1)
	m.registry.MustRegister(newCollector(b))
}

// revision returns the commit that the program was built from, as the Go toolchain has stamped it.
func revision() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				return s.Value
			}
		}
	}
	return "unknown"
}
