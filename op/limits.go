package op

import "time"

// Limits that are part of the notation itself and never change.
const (
	MaxDepth     = 256
	MaxPathBytes = 8192
	MaxSequence  = 9_999_999_999 // ten digits: as far as text order is number order
	MaxMetadata  = 4096          // bytes of a session's metadata
	MaxLabel     = 512           // bytes of a session's name, of an identity, of a principal, of an idempotency key
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

// Check returns nil if the limits can be set: all are positive, and the bounds of the session timeout are in order. Else it
// returns an invalid_config error.
func (x *Limits) Check() error {
	counts, times := x.fields()
	for _, c := range counts {
		if *c <= 0 {
			return Errorf(InvalidConfig, "a limit of %d", *c)
		}
	}
	for _, t := range times {
		if *t < time.Millisecond {
			return Errorf(InvalidConfig, "a limit of %s; durations are at least 1 ms", *t)
		}
	}
	if x.SessionMin > x.SessionMax {
		return Errorf(InvalidConfig, "the shortest session timeout, %s, is above the longest, %s", x.SessionMin, x.SessionMax)
	}
	return nil
}
