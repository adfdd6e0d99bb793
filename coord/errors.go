package coord

import (
	"context"
	"errors"
	"fmt"

	"github.com/coord-kv/coord/op"
)

// Error is what every method returns when the service says no, or can't be asked. Look at its Code for what is wrong,
// and at its Outcome for what may have happened: Refused, Decided or Unknown.
type Error = op.Error

// Outcome says what may have happened to a request that was answered with an error.
type Outcome = op.Outcome

// The outcomes.
const (
	// Refused: it has surely not been done, and never will be.
	Refused = op.Refused
	// Decided: the answer is no, and nothing was changed.
	Decided = op.Decided
	// Unknown: it may have been done, or may be yet.
	Unknown = op.Unknown
)

// Sentinels for errors.Is, one for each code that a program may want to tell apart. They are compared by code alone.
var (
	ErrBadPath             error = &Error{Code: op.BadPath}
	ErrDenied              error = &Error{Code: op.Denied}
	ErrUnauthenticated     error = &Error{Code: op.Unauthenticated}
	ErrNoNode              error = &Error{Code: op.NoNode}
	ErrNodeExists          error = &Error{Code: op.NodeExists}
	ErrNotEmpty            error = &Error{Code: op.NotEmpty}
	ErrChildrenOfEphemeral error = &Error{Code: op.ChildrenOfEphemeral}
	ErrBadVersion          error = &Error{Code: op.BadVersion}
	ErrPreconditionFailed  error = &Error{Code: op.PreconditionFailed}
	ErrStaleToken          error = &Error{Code: op.StaleToken}
	ErrSessionExpired      error = &Error{Code: op.SessionExpired}
	ErrHistoryGone         error = &Error{Code: op.HistoryGone}
	ErrClusterChanged      error = &Error{Code: op.ClusterChanged}
	ErrKeyMismatch         error = &Error{Code: op.KeyMismatch}
	ErrTooLarge            error = &Error{Code: op.TooLarge}
	ErrQuotaExceeded       error = &Error{Code: op.QuotaExceeded}
	ErrNoSpace             error = &Error{Code: op.NoSpace}
	ErrOutcomeUnknown      error = &Error{Code: op.OutcomeUnknown}
	ErrTimeout             error = &Error{Code: op.Timeout}
)

// ErrClosed is the cause of everything that ends because its Client or Session was closed.
var ErrClosed = errors.New("coord: closed")

// interrupted is the error of a call whose wait ended before its answer came. It is both what it says of the request,
// an *Error, and why the wait ended: the context's error, ErrClosed, or what ended the session.
type interrupted struct {
	what *Error
	why  error
}

func (e *interrupted) Error() string   { return e.what.Error() }
func (e *interrupted) Unwrap() []error { return []error{e.what, e.why} }

// interrupt returns the error of a call that may have been done or surely was not, and whose wait ended because of why.
// trouble, if any, is what stood in the way of an answer until then.
func interrupt(path string, unknown bool, why, trouble error) error {
	e := &Error{Code: op.Timeout, Path: path, Detail: fmt.Sprintf("not done: %v", why)}
	if unknown {
		e.Code, e.Outcome, e.Detail = op.OutcomeUnknown, Unknown, fmt.Sprintf("no answer before it ended: %v", why)
	}
	if lost := (*Error)(nil); errors.As(why, &lost) && (lost.Code == op.SessionExpired || lost.Code == op.ClusterChanged) {
		e.Code = lost.Code
	}
	if trouble != nil && trouble != why {
		e.Detail += fmt.Sprintf(" (%v)", trouble)
	}
	return &interrupted{e, why}
}

// Hint returns what to do about an error of this package, in one sentence; "" if there is nothing to say.
func Hint(err error) string {
	e, ok := errors.AsType[*Error](err)
	switch {
	case ok:
		return hints[e.Code]
	case errors.Is(err, context.DeadlineExceeded):
		return hints[op.Timeout]
	}
	return ""
}

var hints = map[op.Code]string{
	op.BadRequest: "Correct the arguments of the call.",
	op.BadPath: "Write paths like /app/name: absolute, no empty, \".\" or \"..\" names, no slash at the end; the name of a lock " +
		"or another recipe is one such name, without slashes.",
	op.Unauthenticated:     "Check the credentials that WithBasicAuth or WithToken gives.",
	op.Denied:              "Ask whoever administers the node for the permission, or connect as somebody who has it.",
	op.NoNode:              "Create the node first, with Parents if its parents are missing, too; Create with OrSet creates or sets.",
	op.NodeExists:          "Set it instead, or create it with OrSet.",
	op.NotEmpty:            "Delete what is below it first, or use Recursive.",
	op.ChildrenOfEphemeral: "Put the node somewhere else: an ephemeral node can't have children.",
	op.BadVersion:          "Read the node again, decide again, and write with IfMatch; Update does that.",
	op.PreconditionFailed:  "Read again, decide again, and write with what was read.",
	op.StaleToken:          "Stop the work that the token protects: somebody else may be doing it now.",
	op.SessionExpired:      "Open a new session and create its ephemeral nodes again.",
	op.Superseded:          "Stop acting in this session: another connection has taken it over.",
	op.HistoryGone:         "Watch anew with WithInitial, which begins with the state as it is.",
	op.ClusterChanged:      "Forget what was read before the cluster was restored or replaced, and read it anew.",
	op.FutureZxid:          "Check that the position comes from this cluster.",
	op.InvalidACL:          "Give each entry a scheme, an id of that scheme, and at least one permission.",
	op.KeyMismatch:         "Use a new idempotency key for each request.",
	op.WindowFull:          "Wait until older idempotency keys have expired, or write in a session instead.",
	op.TooLarge:            "Send less at once: Limit says how much is allowed.",
	op.QuotaExceeded:       "Delete what is not needed any more, or raise the quota.",
	op.NoSpace:             "Free disk space on the members; reads and deletions still work.",
	op.SequenceExhausted:   "Delete the empty directory and create it again, which starts from 0.",
	op.OutcomeUnknown: "Read to see whether it happened; it may still happen. In a Session, or with IdempotencyKey, the " +
		"client finds out by itself.",
	op.Timeout:     "Give the context more time, and check that a majority of the members is up.",
	op.NoLeader:    "Bring a majority of the members back; an election takes about a second.",
	op.NoQuorum:    "Bring a majority of the members back; reads with Eventual still work.",
	op.Unsupported: "Use a member of a version that supports it.",
	op.Internal:    "Look into the log of the member, and report it.",
}
