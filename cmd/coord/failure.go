package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/coord-kv/coord/internal/httpapi"
	"github.com/coord-kv/coord/op"
)

// advice is what one error code means on the command line. In next, {path} and {parent} are the node that the error is
// about and its parent; "" means the server's own hint.
type advice struct {
	exit int
	next string
}

// codes is the one table from error codes to exit codes. A test holds that it has every code.
var codes = map[op.Code]advice{
	op.BadRequest:           {exitUsage, "correct what is named above"},
	op.BadPath:              {exitUsage, "write a path as /name/name, without a slash at the end, and the name of a lock, queue or service without any"},
	op.UnknownField:         {exitUsage, "correct what is named above; docs/api.md has the fields that exist"},
	op.FutureZxid:           {exitUsage, "use a zxid that this cluster has answered; is it another cluster?"},
	op.InvalidACL:           {exitUsage, "write each entry as scheme:id:permissions, such as world:anyone:r"},
	op.InvalidConfig:        {exitUsage, "correct what is named above"},
	op.Unauthenticated:      {exitDenied, "set COORD_SESSION_SECRET, or --user and COORD_PASSWORD"},
	op.Denied:               {exitDenied, "say who you are with --user and COORD_PASSWORD"},
	op.NoNode:               {exitNotFound, "coord ls {parent}"},
	op.NoSession:            {exitNotFound, "coord session ls"},
	op.NoLock:               {exitNotFound, "coord locks ls"},
	op.NoMember:             {exitNotFound, "coord status"},
	op.SessionExpired:       {exitNotFound, "coord session open"},
	op.NodeExists:           {exitConflict, "coord get {path} --stat"},
	op.NotEmpty:             {exitConflict, "coord rm -R {path}"},
	op.ChildrenOfEphemeral:  {exitConflict, "create the node elsewhere, or make its parent anew without -e"},
	op.LockHeld:             {exitConflict, "wait for it, or try again later"},
	op.NotHolder:            {exitConflict, "acquire it first; somebody else stands before you"},
	op.NotLeaderCandidate:   {exitConflict, "campaign first"},
	op.MixedDialect:         {exitConflict, "use another name, or this one as what it is in use as"},
	op.Superseded:           {exitConflict, "stop acting in this session here: it continues elsewhere"},
	op.OutOfOrder:           {exitConflict, "send the session's requests in the order of their numbers"},
	op.BadVersion:           {exitConflict, "coord get {path} --stat"},
	op.PreconditionFailed:   {exitConflict, "read again, decide again, and try with what you have read"},
	op.StaleToken:           {exitConflict, "stop the work that the token protects: the lock or leadership has passed on"},
	op.PreconditionRequired: {exitConflict, "coord get {path} --stat"},
	op.HistoryGone:          {exitHistoryGone, "read the state anew, then watch without --since"},
	op.ClusterChanged:       {exitHistoryGone, "forget what was read before the restore, and read the state anew"},
	op.TooLarge:             {exitOther, "send less at once"},
	op.KeyMismatch:          {exitOther, "use another --idempotency-key; this one belongs to another request"},
	op.RateLimited:          {exitUnavailable, "wait a moment, then try again"},
	op.Overloaded:           {exitUnavailable, "wait a moment, then try again"},
	op.WindowFull:           {exitUnavailable, "wait until older idempotency keys have expired, then try again"},
	op.NoLeader:             {exitUnavailable, "coord status"},
	op.NoQuorum:             {exitUnavailable, "coord status"},
	op.Starting:             {exitUnavailable, "coord status"},
	op.Draining:             {exitUnavailable, "coord status"},
	op.ReconfigInProgress:   {exitUnavailable, "coord status"},
	op.NoSpace:              {exitUnavailable, "coord status"},
	op.OutcomeUnknown:       {exitUnavailable, "read the state to see whether it was done; it may still be done"},
	op.Timeout:              {exitUnavailable, "try again, with a longer --timeout or --consistency eventual"},
	op.QuotaExceeded:        {exitOther, "delete what is not needed, or have the quota raised"},
	op.SequenceExhausted:    {exitOther, "delete the empty directory and create it again"},
	op.Unsupported:          {exitOther, "coord status"},
	op.Internal:             {exitOther, "look into the log of the member that answered, and report it"},
}

const nobodyThere = "is it running? coord dev starts a service; --endpoints or COORD_ENDPOINTS says where it is"

// failed makes err, of a request, the error of a command: what could not be done, why, and what to do next.
func failed(err error, what string, args ...any) error {
	what = fmt.Sprintf("couldn't "+what, args...)
	if e, ok := errors.AsType[*exitError](err); ok {
		return e
	}
	if e, ok := errors.AsType[*httpapi.Error](err); ok {
		return problem(e, what)
	}
	out := &exitError{code: exitOther, err: errors.New(what), why: err.Error(), next: "coord status"}
	if e, ok := errors.AsType[*httpapi.UnreachableError](err); ok {
		out.code = exitUnavailable
		if !slices.ContainsFunc(e.Failures, httpapi.Failure.Tried) {
			out.next = nobodyThere
		}
	}
	if errors.Is(err, context.Canceled) {
		out.why, out.next = "interrupted", "try again"
	}
	return out
}

func problem(e *httpapi.Error, what string) error {
	out := &exitError{code: exitOther, err: errors.New(what), why: reason(e), next: e.Hint}
	code, known := op.CodeOf(e.Code)
	switch {
	case known:
		out.code, out.next = codes[code].exit, nextFor(e.Path, codes[code].next)
	case e.Status == 401 || e.Status == 403:
		out.code = exitDenied
	case e.Status == 404:
		out.code = exitNotFound
	case e.Status >= 502 && e.Status <= 504:
		out.code = exitUnavailable
	}
	if out.next == "" {
		out.next = "does --endpoints name members of a coord cluster?"
	}
	if e.Key != "" && code == op.OutcomeUnknown {
		out.next = "the same command with --idempotency-key " + e.Key + " is safe: it is done at most once"
	}
	return out
}

// nextFor fills in the paths. Without one, it leaves out what would stand for it.
func nextFor(path, next string) string {
	parent := "/"
	if p := op.Parent(path); op.CheckPath(path) == nil && p != "" {
		parent = p
	}
	next = strings.ReplaceAll(next, "{parent}", shellQuote(parent))
	return strings.TrimRight(strings.ReplaceAll(next, "{path}", shellQuote(path)), " ")
}

// shellQuote returns s as it can be pasted into a shell.
func shellQuote(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-:=@%+,", r)
	}
	if strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// reason says why, in one line.
func reason(err error) string {
	e, ok := errors.AsType[*httpapi.Error](err)
	if !ok {
		return strings.ReplaceAll(err.Error(), "\n", " ")
	}
	why := e.Error()
	for _, f := range e.FieldErrors {
		if text := f.Name + " " + f.Reason; !strings.Contains(why, f.Reason) {
			why += "; " + text
		}
	}
	if e.Operation != "" {
		why += " (" + e.Operation + ")"
	}
	if e.ServedBy != "" && e.Status >= 500 {
		why += ", says " + e.ServedBy
	}
	return strings.ReplaceAll(why, "\n", " ")
}
