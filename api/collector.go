package api

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/coord-kv/coord/op"
)

// collector turns a member's status and the counts of its state into metrics when these are asked for.
type collector struct {
	backend Backend
	status  []statusMetric
	peers   []peerMetric
	nodes   *prometheus.Desc
	bytes   *prometheus.Desc
	open    *prometheus.Desc
	ended   *prometheus.Desc
	quota   *prometheus.Desc
	failed  *prometheus.Desc
	contest contestMetrics
}

type statusMetric struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	of   func(*op.Status) float64
}

type peerMetric struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	of   func(*op.MemberStatus) float64
}

func newCollector(b Backend) *collector {
	c := &collector{
		backend: b,
		nodes:   desc("tree_nodes", "Nodes by kind.", "kind"),
		bytes:   desc("tree_data_bytes", "Bytes of node data in the tree."),
		open:    desc("sessions", "Open sessions and leases.", "kind"),
		ended:   desc("sessions_closed_total", "Sessions and leases ended through this member, by reason; an expiry is the leader's.", "reason"),
		quota:   desc("store_quota_bytes", "Data quota of the whole tree; 0 means none."),
		failed:  desc("invariant_violations_total", "Runtime self-checks that failed; must stay 0.", "check"),
		contest: newContestMetrics(),
	}
	c.describeStatus()
	c.describePeers()
	return c
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("coord_"+name, help, labels, nil)
}

func (c *collector) describeStatus() {
	gauge := func(name, help string, of func(*op.Status) float64) {
		c.status = append(c.status, statusMetric{desc(name, help), prometheus.GaugeValue, of})
	}
	gauge("raft_has_leader", "1 if this member knows a leader, else 0.", func(s *op.Status) float64 { return truth(s.Leader != 0) })
	gauge("raft_is_leader", "1 if this member is the leader, else 0.", func(s *op.Status) float64 { return truth(s.Role == "leader") })
	gauge("raft_is_learner", "1 if this member is a learner (non-voter), else 0.", func(s *op.Status) float64 { return truth(s.Role == "learner") })
	gauge("raft_term", "Current Raft term.", func(s *op.Status) float64 { return float64(s.Term) })
	gauge("raft_proposals_pending", "Proposals waiting for commit.", func(s *op.Status) float64 { return float64(s.Pending) })
	gauge("raft_committed_index", "Highest committed log index known here.", func(s *op.Status) float64 { return float64(s.Committed) })
	gauge("raft_applied_index", "Highest log index applied here.", func(s *op.Status) float64 { return float64(s.Applied) })
	gauge("wal_size_bytes", "Bytes of WAL segments on disk.", func(s *op.Status) float64 { return float64(s.LogBytes) })
	gauge("store_size_bytes", "Size of the state's checkpoint file.", func(s *op.Status) float64 { return float64(s.CheckpointBytes) })
	gauge("data_dir_available_bytes", "Free bytes on the data directory's filesystem.", func(s *op.Status) float64 { return float64(s.FreeBytes) })
	gauge("zxid", "Last applied zxid (as a float: exact below 2^53).", func(s *op.Status) float64 { return float64(s.Zxid) })
	gauge("read_only", "1 if writes are refused because disks are nearly full.", func(s *op.Status) float64 { return truth(s.ReadOnly) })
	gauge("state_differs", "1 if this member's state differs from a majority's.", func(s *op.Status) float64 { return truth(s.Differs) })
	gauge("watch_history_events", "Events kept for resuming watches.", func(s *op.Status) float64 { return float64(s.History.Events) })
	gauge("watch_history_bytes", "Bytes of the events kept for resuming watches, packed.", func(s *op.Status) float64 { return float64(s.History.Bytes) })
	gauge("watches_behind", "Watches that have not been sent everything yet.", func(s *op.Status) float64 { return float64(s.History.Behind) })
	gauge("ready", "1 if this member serves, else 0.", func(s *op.Status) float64 { return truth(s.Ready) })
	counter := func(name, help string, of func(*op.Status) uint64) {
		c.status = append(c.status, statusMetric{
			desc(name, help), prometheus.CounterValue, func(s *op.Status) float64 { return float64(of(s)) },
		})
	}
	counter("raft_leader_changes_total", "Leader changes seen by this member.", func(s *op.Status) uint64 { return s.LeaderChanges })
	counter("wal_written_bytes_total", "Bytes appended to the WAL.", func(s *op.Status) uint64 { return s.LogWritten })
	counter("high_sequences_total", "Sequence nodes created with a number that is near 2^31, or above.", func(s *op.Status) uint64 { return s.HighSequences })
	counter("sessions_opened_total", "Sessions and leases opened through this member.", func(s *op.Status) uint64 { return s.SessionsOpened })
}

func (c *collector) describePeers() {
	add := func(kind prometheus.ValueType, name, help string, of func(*op.MemberStatus) float64) {
		c.peers = append(c.peers, peerMetric{desc(name, help, "peer"), kind, of})
	}
	gauge, counter := prometheus.GaugeValue, prometheus.CounterValue
	add(gauge, "raft_peer_up", "1 if the stream to the peer is established.", func(m *op.MemberStatus) float64 { return truth(m.Up) })
	add(counter, "raft_peer_sent_bytes_total", "Bytes sent to a peer.", func(m *op.MemberStatus) float64 { return float64(m.Sent) })
	add(counter, "raft_peer_received_bytes_total", "Bytes received from a peer.", func(m *op.MemberStatus) float64 { return float64(m.Received) })
	add(counter, "raft_peer_send_failures_total", "Failed or dropped messages to a peer.", func(m *op.MemberStatus) float64 { return float64(m.Dropped) })
	add(gauge, "raft_peer_match_lag_entries", "Entries a follower is behind (leader only).", func(m *op.MemberStatus) float64 { return float64(m.Lag) })
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// Describe sends the descriptions of all metrics.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, m := range c.status {
		ch <- m.desc
	}
	for _, m := range c.peers {
		ch <- m.desc
	}
	ch <- c.nodes
	ch <- c.bytes
	ch <- c.open
	ch <- c.ended
	ch <- c.quota
	ch <- c.failed
	c.contest.describe(ch)
}

// Collect asks the member once.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	st := c.backend.Status()
	for _, m := range c.status {
		ch <- prometheus.MustNewConstMetric(m.desc, m.kind, m.of(&st))
	}
	for i := range st.Members {
		if peer := &st.Members[i]; !peer.Self {
			c.collectPeer(ch, peer)
		}
	}
	for reason, n := range map[string]uint64{"client": st.SessionsClosed, "expired": st.SessionsExpired, "killed": st.SessionsKilled, "taken_over": st.SessionsTakenOver} {
		ch <- prometheus.MustNewConstMetric(c.ended, prometheus.CounterValue, float64(n), reason)
	}
	ch <- prometheus.MustNewConstMetric(c.failed, prometheus.CounterValue, float64(st.Differed), "state_digest")
	c.collectState(ch)
}

func (c *collector) collectPeer(ch chan<- prometheus.Metric, peer *op.MemberStatus) {
	for _, m := range c.peers {
		ch <- prometheus.MustNewConstMetric(m.desc, m.kind, m.of(peer), peer.Name)
	}
}

// collectTimeout bounds the wait for a view that should not take any.
const collectTimeout = time.Second

func (c *collector) collectState(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), collectTimeout)
	defer cancel()
	v, _, err := c.backend.View(ctx, op.ReadOptions{Level: op.Eventual})
	if err != nil {
		return // a member that doesn't serve yet has nothing to count
	}
	n := v.Counts()
	gauge := func(d *prometheus.Desc, v int64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), labels...)
	}
	for kind, count := range n.Nodes {
		gauge(c.nodes, count, kind.String())
	}
	gauge(c.bytes, n.DataBytes)
	all, _ := v.Usage(op.Root)
	gauge(c.quota, all.Quota.HardBytes)
	gauge(c.open, n.Sessions, "session")
	gauge(c.open, n.Leases, "lease")
	c.contest.collect(ch, countContests(v, time.Now()))
}
