package op

import "fmt"

// Code says what is wrong, the same word on every surface. The list is closed and append-only: numbers are stored in
// dedup results and must never be reused or reordered.
type Code uint8

// The codes. Each door has one table from these to its own form.
const (
	OK Code = iota
	BadRequest
	BadPath
	UnknownField
	Unauthenticated
	Denied
	NoNode
	NoSession
	NoLock
	NoMember
	NodeExists
	NotEmpty
	ChildrenOfEphemeral
	LockHeld
	NotHolder
	NotLeaderCandidate
	HistoryGone
	SessionExpired
	ClusterChanged
	BadVersion
	PreconditionFailed
	StaleToken
	TooLarge
	InvalidACL
	InvalidConfig
	PreconditionRequired
	RateLimited
	Overloaded
	NoLeader
	NoQuorum
	Starting
	Draining
	ReconfigInProgress
	QuotaExceeded
	NoSpace
	OutcomeUnknown
	Timeout
	KeyMismatch
	WindowFull
	OutOfOrder
	FutureZxid
	MixedDialect
	Superseded
	SequenceExhausted
	Unsupported
	Internal
	numCodes
)

var codeNames = [numCodes]string{
	OK: "ok", BadRequest: "bad_request", BadPath: "bad_path", UnknownField: "unknown_field",
	Unauthenticated: "unauthenticated", Denied: "denied", NoNode: "no_node", NoSession: "no_session", NoLock: "no_lock",
	NoMember: "no_member", NodeExists: "node_exists", NotEmpty: "not_empty", ChildrenOfEphemeral: "children_of_ephemeral",
	LockHeld: "lock_held", NotHolder: "not_holder", NotLeaderCandidate: "not_leader_candidate",
	HistoryGone: "history_gone", SessionExpired: "session_expired", ClusterChanged: "cluster_changed",
	BadVersion: "bad_version", PreconditionFailed: "precondition_failed", StaleToken: "stale_token",
	TooLarge: "too_large", InvalidACL: "invalid_acl", InvalidConfig: "invalid_config",
	PreconditionRequired: "precondition_required", RateLimited: "rate_limited", Overloaded: "overloaded",
	NoLeader: "no_leader", NoQuorum: "no_quorum", Starting: "starting", Draining: "draining",
	ReconfigInProgress: "reconfig_in_progress", QuotaExceeded: "quota_exceeded", NoSpace: "no_space",
	OutcomeUnknown: "outcome_unknown", Timeout: "timeout", KeyMismatch: "key_mismatch", WindowFull: "window_full",
	OutOfOrder: "out_of_order", FutureZxid: "future_zxid", MixedDialect: "mixed_dialect", Superseded: "superseded",
	SequenceExhausted: "sequence_exhausted", Unsupported: "unsupported", Internal: "internal",
}

// String returns the code's stable name, such as "no_node".
func (c Code) String() string {
	if c < numCodes {
		return codeNames[c]
	}
	return fmt.Sprintf("code_%d", uint8(c))
}

// Codes returns every code but OK, in order, for tables that must cover them all.
func Codes() []Code {
	all := make([]Code, 0, numCodes-1)
	for c := OK + 1; c < numCodes; c++ {
		all = append(all, c)
	}
	return all
}

// CodeOf returns the code with that stable name, and whether there is one.
func CodeOf(name string) (Code, bool) {
	for c, n := range codeNames {
		if n == name {
			return Code(c), true
		}
	}
	return 0, false
}

// Outcome says what may have happened to a request that was answered with an error.
type Outcome uint8

const (
	// Refused: never entered the log. It has surely not been done and may be sent again as it is.
	Refused Outcome = iota
	// Decided: applied, and the answer is no. It has no effect, and the same answer is given to a retry.
	Decided
	// Unknown: it may have been applied or may be yet. Ask again with the same sequence number or idempotency key.
	Unknown
)

// String returns "refused", "decided" or "unknown".
func (o Outcome) String() string {
	return [...]string{"refused", "decided", "unknown"}[o]
}

// Error is the one error of coord: the same value in the state machine, at every door, and out of the client.
// errors.Is compares by Code, so a bare &Error{Code: NoNode} is a sentinel.
type Error struct {
	Code    Code
	Outcome Outcome
	Path    string // the node that it is about, if any
	Zxid    Zxid   // of the decision, if Decided
	Index   int32  // which operation of a transaction failed, from 0: its checks count first, then Then or Else
	Stat    *Stat  // of the node as it is, when a condition on it failed
	Limit   int64  // the limit that was hit, if one was
	Have    int64  // what was asked for against Limit
	Oldest  Zxid   // the oldest position kept, with HistoryGone
	Detail  string // why, in words for a person; never stored, so never set by the state machine
}

// Error returns the code, the path and what is known of why.
func (e *Error) Error() string {
	s := e.Code.String()
	if e.Path != "" {
		s += " " + e.Path
	}
	switch {
	case e.Detail != "":
		s += ": " + e.Detail
	case e.Limit != 0:
		s += fmt.Sprintf(": %d, the limit is %d", e.Have, e.Limit)
	case e.Code == BadVersion && e.Stat != nil:
		s += fmt.Sprintf(": the node is at %s", e.Stat.ETag())
	case e.Code == HistoryGone:
		s += fmt.Sprintf(": the oldest position kept is %d", e.Oldest)
	}
	return s
}

// Is reports whether target is an *Error with the same code.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code
}

// Errorf returns a refused error with a reason.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Detail: fmt.Sprintf(format, args...)}
}
