package op

import "time"

// Limits that are part of the notation itself and never change.
const (
	MaxDepth     = 256
	MaxPathBytes = 8192
	HighSequence = 1 << 31 / 10 * 9 // from here on it is told: clients of ZooKeeper keep the number in 32 bits
	MaxSequence  = 9_999_999_999    // ten digits: as far as text order is number order
	MaxMetadata  = 4096             // bytes of a session's metadata
	MaxLabel     = 512              // bytes of a session's name, of an identity, of a principal, of an idempotency key
)

// Limits are what Apply checks. They live in the replicated state and are changed by a logged command only: were they
// flags, members started with different ones would decide differently.
type Limits struct {
	DataBytes       int64 // of one node
	RequestBytes    int64 // of one encoded request
	TxnOps          int64 // operations of one transaction, all branches
	ChangedNodes    int64 // nodes that one request creates, changes or deletes
	EventBytes      int64 // encoded events of one request
	ReadBytes       int64 // of the reads of one sequenced or keyed transaction
	Ephemerals      int64 // of one session
	Sessions        int64 // sessions and leases alive
	SeqWindow       int64 // sequence numbers that a session may be ahead of its lowest unanswered one
	SessionResults  int64 // bytes of results kept for one session
	AllResults      int64 // bytes of results kept for all sessions and keys
	PrincipalKeys   int64 // idempotency keys kept for one principal
	KeyWindow       time.Duration
	SessionMin      time.Duration // shortest session timeout
	SessionMax      time.Duration // longest
	ContainerUnused time.Duration // a container that never had a child is reaped after this
	ACLEntries      int64         // of one node
}

// DefaultLimits are those of a new cluster.
func DefaultLimits() Limits {
	return Limits{
		DataBytes: 1 << 20, RequestBytes: 4 << 20, TxnOps: 4096, ChangedNodes: 10_000, EventBytes: 1 << 20,
		ReadBytes: 64 << 10, Ephemerals: 10_000, Sessions: 1_000_000, SeqWindow: 1024,
		SessionResults: 256 << 10, AllResults: 256 << 20, PrincipalKeys: 100_000, KeyWindow: time.Hour,
		SessionMin: 4 * time.Second, SessionMax: 24 * time.Hour, ContainerUnused: 5 * time.Minute, ACLEntries: 128,
	}
}

// most are the highest values that can be set. What one request may do is bounded so that applying it never takes longer
// than a tick, fits into one frame between members (8 MiB), and leaves room in the event history for many of its kind; the
// rest so that no typing error takes all memory.
var most = Limits{
	DataBytes: 4 << 20, RequestBytes: 6 << 20, TxnOps: 10_000, ChangedNodes: 10_000, EventBytes: 1 << 20,
	ReadBytes: 16 << 20, Ephemerals: 10_000, Sessions: 100_000_000, SeqWindow: 65_536,
	SessionResults: 64 << 20, AllResults: 16 << 30, PrincipalKeys: 100_000_000, KeyWindow: 30 * 24 * time.Hour,
	SessionMin: time.Hour, SessionMax: 30 * 24 * time.Hour, ContainerUnused: 30 * 24 * time.Hour, ACLEntries: 1024,
}

// leastRequest is the lowest limit on the size of a request: with less, not even the limits could be set again.
const leastRequest = 1 << 10

// Merge returns the limits, with those of y in their place that aren't 0.
func (x Limits) Merge(y Limits) Limits {
	counts, times := x.fields()
	otherCounts, otherTimes := y.fields()
	for i, c := range otherCounts {
		if *c != 0 {
			*counts[i] = *c
		}
	}
	for i, t := range otherTimes {
		if *t != 0 {
			*times[i] = *t
		}
	}
	return x
}

// Check returns nil if the limits can be set: each is in its range, and the bounds of the session timeout are in order. Else
// it returns an invalid_config error.
func (x *Limits) Check() error {
	counts, times := x.fields()
	mostCounts, mostTimes := most.fields()
	for i, c := range counts {
		if *c < 1 || *c > *mostCounts[i] {
			return Errorf(InvalidConfig, "%s = %d is not from 1 to %d", limitNames[i], *c, *mostCounts[i])
		}
	}
	for i, t := range times {
		if *t < time.Millisecond || *t > *mostTimes[i] {
			return Errorf(InvalidConfig, "%s = %s is not from 1ms to %s", limitNames[len(counts)+i], *t, *mostTimes[i])
		}
	}
	switch {
	case x.RequestBytes < leastRequest:
		return Errorf(InvalidConfig, "request_bytes = %d is below %d", x.RequestBytes, leastRequest)
	case x.SessionMin > x.SessionMax:
		return Errorf(InvalidConfig, "session_min = %s is above session_max = %s", x.SessionMin, x.SessionMax)
	}
	return nil
}

// limitNames are the names of the limits, in the order of their encoding.
var limitNames = []string{
	"data_bytes", "request_bytes", "txn_ops", "changed_nodes", "event_bytes", "read_bytes", "ephemerals", "sessions",
	"seq_window", "session_results", "all_results", "principal_keys", "acl_entries",
	"key_window", "session_min", "session_max", "container_unused",
}
