package api

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/coord-kv/coord/internal/recipe"
	"github.com/coord-kv/coord/internal/settings"
	"github.com/coord-kv/coord/op"
)

// meaning is what one error code is over HTTP.
type meaning struct {
	status int
	zk     int  // the code that a ZooKeeper client gets for the same error; 0 if it has none
	retry  bool // the same request may succeed later as it is
	title  string
	hint   string // what to do next; /v1/nodes{path} and /v1/nodes{parent} are the URLs of the node and its parent
}

// meanings is the one table from codes to HTTP (RFC 9457 problems). A test holds that it has every code.
var meanings = map[op.Code]meaning{
	op.BadRequest: {400, -8, false, "The request is not valid",
		"Correct what field_errors or detail names; /openapi.json has every parameter."},
	op.BadPath: {400, -8, false, "The path is not valid",
		"Correct what detail says: a path is /v1/nodes/ and names joined by single slashes, percent-encoded, without a slash at " +
			"the end; what has a name, such as a lock, has one without slashes."},
	op.UnknownField: {400, -8, false, "The request has a field that does not exist here",
		"Remove or correct the fields that field_errors names; /openapi.json has those that exist."},
	op.FutureZxid: {400, 0, false, "The zxid is ahead of everything that this cluster has decided",
		"Send a Coord-Zxid that this cluster has answered."},
	op.Unauthenticated: {401, -115, false, "The credentials are missing or wrong",
		"Send Authorization: Basic, or for a session the Coord-Session-Secret that its creation answered."},
	op.Denied: {403, -102, false, "Not permitted",
		"See GET /v1/nodes{path}?acl for who may, and GET /v1/whoami for who you are."},
	op.NoNode: {404, -101, false, "No such node",
		"List what is there with GET /v1/nodes{parent}?children, or create it with PUT; ?parents makes missing parents."},
	op.NoSession: {404, -101, false, "No such session or lease",
		"List them with GET /v1/sessions, or open one with POST /v1/sessions."},
	op.NoLock: {404, -101, false, "No such lock",
		"List what is in use with GET /v1/locks or /v1/elections."},
	op.NoMember: {404, -101, false, "No such member",
		"See GET /v1/cluster/members."},
	op.NodeExists: {409, -110, false, "The node exists already",
		"Leave out If-None-Match to replace its data, or send its ETag as If-Match to change what you have read."},
	op.NotEmpty: {409, -111, false, "The node has children",
		"Delete the children first, or the whole subtree with DELETE ?recursive."},
	op.ChildrenOfEphemeral: {409, -108, false, "An ephemeral node can't have children",
		"Create the node elsewhere, or make its parent anew as a persistent one."},
	op.LockHeld: {409, -110, true, "The lock is held",
		"Wait for it with ?wait=30s, or try again later; GET /v1/locks/{name} shows who holds it and who waits."},
	op.NotHolder: {409, -102, false, "Not the holder",
		"Acquire it first; somebody else stands before you."},
	op.NotLeaderCandidate: {409, -102, false, "Not a candidate of the election",
		"Campaign first."},
	op.MixedDialect: {409, 0, false, "The lock directory is in use by clients of another recipe",
		"Use another name, or the client library whose nodes stand in the directory."},
	op.Superseded: {409, 0, false, "The session continues elsewhere",
		"Stop acting in this session here; another connection has taken it over."},
	op.HistoryGone: {410, -112, false, "The position is older than the history kept",
		"Read the state anew and watch from the Coord-Zxid of that answer, or watch with ?initial=true."},
	op.SessionExpired: {410, -112, false, "The session has ended",
		"Open a new one with POST /v1/sessions and create its ephemeral nodes again."},
	op.ClusterChanged: {410, -112, false, "The position is from before the cluster was restored from a backup",
		"Forget what was read before the restore, and read the state anew."},
	op.BadVersion: {412, -103, false, "The node has changed",
		"Read it again, decide again, and send the new ETag or version; current has it."},
	op.PreconditionFailed: {412, -103, false, "A condition does not hold",
		"Read again, decide again, and send the request with what you have read."},
	op.StaleToken: {412, -103, false, "The fencing token is stale",
		"Stop the work that the token protects: the lock or leadership has passed on. Acquire it again first."},
	op.TooLarge: {413, -8, false, "Too large",
		"Send less at once: limit is the limit that was hit, have is what the request came to."},
	op.InvalidACL: {422, -114, false, "The access control list is not valid",
		"Give each entry a scheme (world, auth, digest, ip, x509), an id of that scheme, and permissions of the letters cdrwa."},
	op.InvalidConfig: {422, -114, false, "The configuration is not valid",
		"Correct what detail names."},
	op.KeyMismatch: {422, 0, false, "The idempotency key belongs to another request",
		"Use a new Idempotency-Key for each request, and the same key only to repeat the very same request."},
	op.PreconditionRequired: {428, 0, false, "A condition is required here",
		"Read the node and send its ETag as If-Match."},
	op.RateLimited: {429, -127, true, "Too many requests",
		"Wait for Retry-After, then send it again."},
	op.Overloaded: {503, -127, true, "This member has too much to do",
		"Wait for Retry-After, then send it again, here or to another member."},
	op.WindowFull: {503, -127, true, "Too many results are kept for retries",
		"Wait until older idempotency keys have expired, or send the request without one."},
	op.NoLeader: {503, -4, true, "The cluster has no leader just now",
		"Wait for Retry-After, then send it again; an election takes about a second."},
	op.NoQuorum: {503, -4, true, "Too few members can be reached",
		"Bring members back: see GET /v1/cluster. Reads with ?consistency=eventual still work."},
	op.Starting: {503, -4, true, "This member is still starting",
		"Ask another member, or wait until /readyz is 200; /readyz?verbose says what it waits for."},
	op.Draining: {503, -4, true, "This member is shutting down",
		"Send it to another member; see GET /v1/cluster/members."},
	op.ReconfigInProgress: {503, -14, true, "A change of the membership is under way",
		"Wait until GET /v1/cluster shows that it is done, then send it again."},
	op.QuotaExceeded: {507, -125, false, "A quota is used up",
		"Delete what is not needed any more, or raise the quota with PUT ?quota."},
	op.NoSpace: {507, -125, true, "A disk is nearly full, so writes are refused",
		"Free space on the members that GET /v1/cluster names; reads and deletions still work."},
	op.SequenceExhausted: {507, -125, false, "The directory has given out all its sequence numbers",
		"Delete the empty directory and create it again, which starts from 0."},
	op.OutcomeUnknown: {504, -4, false, "It is not known whether this took effect",
		"Send it again with the same Idempotency-Key; without one, read the state to see whether it happened. It may still happen."},
	op.Timeout: {504, -7, true, "Not answered in time",
		"Send it again, or ask for a weaker Coord-Consistency."},
	op.OutOfOrder: {409, -8, false, "The request is out of order in its session",
		"Send the session's requests in the order of their numbers, and again from the first that was not answered."},
	op.Unsupported: {501, -6, false, "Not supported",
		"See /openapi.json for what this version can do."},
	op.Internal: {500, -1, false, "An error inside of coord",
		"Look for the instance in the log of the member that Coord-Served-By names, and report it."},
}

// httpError is an error with what only HTTP knows of it.
type httpError struct {
	what   *op.Error
	status int // instead of the code's own, if not 0
	fields []fieldError
	allow  string // methods, with status 405
	at     string // which operation of a transaction failed, such as "ops[2]"
	hint   string // instead of the code's own, if not empty
}

func (e *httpError) Error() string { return e.what.Error() }
func (e *httpError) Unwrap() error { return e.what }

// fieldError says what is wrong with one field of a body, query or header.
type fieldError struct {
	Name   string `json:"name"`
	Reason string `json:"reason"`
}

// statusError is an error of HTTP itself, for which the code's own status is too coarse.
func statusError(status int, code op.Code, format string, args ...any) error {
	return &httpError{what: op.Errorf(code, format, args...), status: status}
}

// withHint is statusError with something else to do next than what the code says. A status of 0 is the code's own.
func withHint(status int, code op.Code, hint, format string, args ...any) error {
	return &httpError{what: op.Errorf(code, format, args...), status: status, hint: hint}
}

// problem is the body of every error answer: RFC 9457 with coord's members.
type problem struct {
	Type        string       `json:"type"`
	Title       string       `json:"title"`
	Status      int          `json:"status"`
	Detail      string       `json:"detail"`
	Instance    string       `json:"instance,omitempty"`
	Code        string       `json:"code"`
	Outcome     string       `json:"outcome"`
	ZKCode      int          `json:"zk_code,omitempty"`
	Retryable   bool         `json:"retryable"`
	RetryAfter  int          `json:"retry_after,omitempty"`
	Path        string       `json:"path,omitempty"`
	Operation   string       `json:"operation,omitempty"`
	Zxid        op.Zxid      `json:"zxid,omitempty"`
	Current     *current     `json:"current,omitempty"`
	Oldest      op.Zxid      `json:"oldest,omitempty"`
	Limit       int64        `json:"limit,omitempty"`
	Have        int64        `json:"have,omitempty"`
	Leader      string       `json:"leader,omitempty"`
	Holder      *holderForm  `json:"holder,omitempty"`
	Waiters     *int         `json:"waiters,omitempty"`
	FieldErrors []fieldError `json:"field_errors,omitempty"`
	Hint        string       `json:"hint"`
}

// current is the node, or the configuration, as it is, where a condition on it failed.
type current struct {
	ETag    string  `json:"etag"`
	Version int64   `json:"version"`
	Zxid    op.Zxid `json:"zxid"`
}

// holderForm is who holds what was not got.
type holderForm struct {
	Owner     string       `json:"owner"`
	Token     op.Zxid      `json:"token"`
	Session   op.SessionID `json:"session"`
	Since     op.Time      `json:"since"`
	HeldFor   *duration    `json:"held_for,omitempty"`
	ExpiresIn *duration    `json:"expires_in,omitempty"`
}

// name adds who holds a lock, and how many wait for it.
func (p *problem) name(i *recipe.Info) {
	if i == nil {
		return
	}
	n := len(i.Waiters)
	p.Waiters = &n
	if len(i.Holders) > 0 {
		h := i.Holders[0]
		p.Holder = &holderForm{Owner: h.Owner, Token: h.Token, Session: h.Session, Since: h.Since}
	}
}

// ownHint is for one who wants what is held by himself: to wait for that would be of no use.
const ownHint = "It is this session's already: a GET of it shows its token. Give it back before you ask for it again."

// newProblem describes err. keyed says that the request can be repeated safely although its outcome is unknown.
func newProblem(err error, keyed bool) *problem {
	h := unwrap(err)
	e, status := h.what, h.status
	m := meanings[e.Code]
	if status == 0 {
		status = m.status
	}
	p := &problem{
		Type: "urn:coord:error:" + e.Code.String(), Title: m.title, Status: status, Detail: detail(e),
		Code: e.Code.String(), Outcome: e.Outcome.String(), ZKCode: m.zk,
		Retryable: m.retry || e.Code == op.OutcomeUnknown && keyed,
		Path:      e.Path, Zxid: e.Zxid, Oldest: e.Oldest, Limit: e.Limit, Have: e.Have,
		Operation: h.at, FieldErrors: h.fields, Hint: cmp.Or(h.hint, m.hintFor(e.Path)),
	}
	if status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests {
		p.RetryAfter = 1
	}
	if busy, ok := errors.AsType[*recipe.Occupied](err); ok {
		p.name(busy.Info)
	} else if e.Code == op.LockHeld {
		p.Retryable, p.Hint = false, ownHint
	}
	if len(e.Path) > op.MaxPathBytes {
		p.Path = "" // it is what is wrong
	}
	if e.Stat != nil {
		p.Current = &current{e.Stat.ETag(), int64(e.Stat.Version), e.Stat.Mzxid}
	}
	if conflict, ok := errors.AsType[*settings.Conflict](err); ok && p.Current != nil {
		p.Current.Version = conflict.Number
	}
	return p
}

// newProblem describes what came of this request.
func (c *call) newProblem(err error) *problem {
	p := newProblem(err, c.keyed)
	if h := p.Holder; h != nil {
		h.HeldFor, h.ExpiresIn = c.since(h.Since), c.timeLeft(c.r.Context(), h.Session)
	}
	e := unwrap(err)
	switch {
	case e.hint != "", p.Hint == ownHint:
	case e.what.Code == op.NoLeader || e.what.Code == op.NoQuorum:
		p.Hint = cmp.Or(lostQuorum(c.s.status.get(c.s)), p.Hint)
	default:
		p.Hint = cmp.Or(c.recipeHint(e.what.Code), p.Hint)
	}
	return p
}

// unwrap returns what err says, as internal if it is no error of coord's: those come with a reason that may be for
// operators only, so it goes to the log and not to the caller.
func unwrap(err error) *httpError {
	if h, ok := errors.AsType[*httpError](err); ok {
		return h
	}
	if e, ok := errors.AsType[*op.Error](err); ok {
		return &httpError{what: e}
	}
	return &httpError{what: &op.Error{Code: op.Internal, Outcome: op.Unknown, Detail: "see the log"}}
}

// detail returns why, without the code and path that stand beside it.
func detail(e *op.Error) string {
	switch {
	case e.Detail != "":
		return e.Detail
	case e.Limit != 0:
		return fmt.Sprintf("it comes to %d, the limit is %d", e.Have, e.Limit)
	case e.Stat != nil:
		return fmt.Sprintf("%s is at version %d, ETag %q", e.Path, e.Stat.Version, e.Stat.ETag())
	case e.Code == op.HistoryGone:
		return fmt.Sprintf("the oldest position kept is %d", e.Oldest)
	case e.Path != "":
		return fmt.Sprintf("%s: %s", e.Path, strings.ToLower(meanings[e.Code].title))
	}
	return meanings[e.Code].title
}

// hintFor returns the hint with the URLs of the node at path and its parent in it.
func (m meaning) hintFor(path string) string {
	if !strings.Contains(m.hint, "{") {
		return m.hint
	}
	url, parent := nodesURL+"/{path}", nodesURL+"/{parent}"
	if path != "" && op.CheckPath(path) == nil {
		url, parent = nodeURL(nodesURL, path), nodeURL(nodesURL, cmp.Or(op.Parent(path), op.Root))
	}
	return strings.ReplaceAll(strings.ReplaceAll(m.hint, nodesURL+"{path}", url), nodesURL+"{parent}", parent)
}

// writeProblem answers with err. It returns the code, for the metrics.
func (c *call) writeProblem(err error) op.Code {
	p := c.newProblem(err)
	p.Instance = "urn:coord:request:" + c.id()
	p.Leader = c.s.leaderName()
	h := c.w.Header()
	if p.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(p.RetryAfter))
	}
	if p.Status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", `Basic realm="coord", charset="UTF-8"`)
	}
	if p.Zxid != 0 {
		h.Set("Coord-Zxid", strconv.FormatUint(uint64(p.Zxid), 10))
	}
	c.respond(p.Status, "application/problem+json", marshal(p))
	code, _ := op.CodeOf(p.Code)
	return code
}

// marshal returns v as JSON and a newline. The forms of this package can't fail to encode.
func marshal(v any) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic(fmt.Sprintf("couldn't encode %T: %v", v, err))
	}
	return b.Bytes()
}
