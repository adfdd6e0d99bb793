package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/coord-kv/coord/fsm"
	"github.com/coord-kv/coord/internal/patience"
	"github.com/coord-kv/coord/op"
)

// call is one request on its way through the door. It belongs to the goroutine that serves the request.
type call struct {
	s       *Server
	w       http.ResponseWriter
	r       *http.Request
	number  uint64      // among the requests of this server
	leader  *agedStatus // of when it came
	route   *route
	arg     string // the node's path, or the {id}
	q       query
	body    []byte
	held    int64 // bytes of it that are counted in Server.bodies
	counted bool  // in Server.requests
	auth    []op.Identity
	keyed   bool // the request carries an idempotency key
	tested  bool // its conditions have been read
	waited  time.Duration
	replied bool
	broken  bool // the answer had begun when it failed
	noRoom  bool // for the answer

	values    [6]string // of the answer's headers, see setHeader
	ownValues int       // how many of them are in use
}

// serveHTTP takes a request through what all requests have in common.
func (s *Server) serveHTTP(w http.ResponseWriter, r *http.Request) {
	start := s.now()
	c := &call{s: s, w: w, r: r, number: s.lastID.Add(1), leader: s.status.at(s, start)}
	s.metrics.inFlight.Inc()
	defer s.metrics.inFlight.Dec()
	c.setCommonHeaders()
	err := c.run()
	code := c.finish(err)
	s.metrics.RequestDone(HTTP, c.routeName(), code, s.now().Sub(start)-c.waited)
	if c.broken {
		panic(http.ErrAbortHandler) // which net/http takes as: close the connection
	}
}

// id names the request in the log and to its sender, if anything is to be said of it.
func (c *call) id() string { return c.s.ids + "-" + strconv.FormatUint(c.number, 10) }

func (c *call) setCommonHeaders() {
	h := c.w.Header()
	h["Coord-Served-By"] = c.s.servedBy
	h["X-Content-Type-Options"] = noSniff
	h["Cache-Control"] = noCache
	if len(c.leader.header) > 0 {
		h["Coord-Leader"] = c.leader.header
	}
	if c.s.isDraining() {
		c.setHeader("Connection", "close")
	}
}

// Values of headers that never change are shared between answers; net/http only reads them.
var (
	noSniff    = []string{"nosniff"}
	noCache    = []string{"no-cache"}
	jsonType   = []string{"application/json"}
	octets     = []string{"application/octet-stream"}
	attachment = []string{"attachment"}
	sandbox    = []string{"sandbox"}
)

func (c *call) routeName() string {
	if c.route == nil {
		return "none"
	}
	return c.route.name
}

// run does what is asked. A panic is an error inside of coord: it ends this request and no other.
func (c *call) run() (err error) {
	defer func() {
		if p := recover(); p != nil {
			c.s.log.Error("panic in a request", "request", c.id(), "op", c.routeName(), "panic", p, "stack", string(debug.Stack()))
			err = errPanic
		}
	}()
	if err := c.admit(); err != nil {
		return err
	}
	if err := c.find(); err != nil {
		return err
	}
	if c.r.Method == http.MethodOptions {
		return nil
	}
	if err = c.q.parse(c.r.URL.RawQuery); err != nil {
		return err
	}
	c.q.route = c.route
	c.checkHeaders()
	if err := c.authenticate(); err != nil {
		return err
	}
	if c.counted = !c.route.uncounted; c.counted {
		if c.s.requests.Add(1) > int64(c.s.limits.Requests) {
			err = c.overloaded("as many requests are being served as this member takes at once")
		}
	}
	defer c.makeRoom()
	if err != nil {
		return err
	}
	if err := c.readBody(); err != nil {
		return err
	}
	if err := c.route.serve(c); err != nil || !c.noRoom {
		return err
	}
	return c.overloaded(noAnswerRoom)
}

// makeRoom gives back the place and the body of a request. One that is going to wait for long does so before.
func (c *call) makeRoom() {
	if c.counted {
		c.s.requests.Add(-1)
	}
	if c.held > 0 {
		c.s.bodies.Add(-c.held)
	}
	c.counted, c.held, c.body = false, 0, nil
}

// overloaded returns the error of a request that is refused because too much is going on.
func (c *call) overloaded(why string) error {
	c.s.metrics.rejected.WithLabelValues("overload").Inc()
	return op.Errorf(op.Overloaded, "%s", why)
}

var errPanic = errors.New("panic")

// finish answers an error and returns the code for the metrics.
func (c *call) finish(err error) op.Code {
	if err == nil {
		return op.OK
	}
	e := unwrap(err).what
	level := slog.LevelDebug
	if e.Code == op.Internal {
		level = slog.LevelError
	}
	c.s.log.Log(c.r.Context(), level, "a request failed", "request", c.id(), "op", c.routeName(), "code", e.Code.String(), "error", err)
	if c.broken = c.replied; c.broken {
		return e.Code
	}
	return c.writeProblem(err)
}

// admit refuses what is not meant for this server or is too much for it.
func (c *call) admit() error {
	if !c.s.hosts.allows(c.r) {
		return withHint(http.StatusMisdirectedRequest, op.Denied,
			"Ask at localhost or at the address that the server listens on, or start it with --allow-host and that name.",
			"this server doesn't go by the name %.256q", hostOnly(c.r.Host))
	}
	if err := c.s.origins.Check(c.r); err != nil {
		return foreignOrigin("change anything", err)
	}
	return nil
}

// foreignOrigin is the error of what a page of another origin may not do.
func foreignOrigin(what string, err error) error {
	return withHint(0, op.Denied, "If its pages should be able to, start the member with --allow-origin and that origin.",
		"a page of another origin may not %s here: %s", what, err)
}

// find finds the route. OPTIONS asks for what there is to do.
func (c *call) find() error {
	rt, arg, err := c.s.router.find(c.r.Method, sentPath(c.r.URL))
	e, ok := errors.AsType[*httpError](err)
	if ok && e.allow != "" {
		c.w.Header().Set("Allow", e.allow+", OPTIONS")
		if c.r.Method == http.MethodOptions {
			c.w.WriteHeader(http.StatusNoContent)
			return nil
		}
	}
	c.route, c.arg = rt, arg
	return err
}

// readBody reads the whole body, so that net/http sees when the sender goes away.
func (c *call) readBody() error {
	if c.r.ContentLength == 0 || c.r.Body == http.NoBody {
		return nil
	}
	limit, err := c.bodyLimit()
	if err != nil {
		return err
	}
	if c.r.ContentLength > limit {
		return tooLarge(c.r.ContentLength, limit)
	}
	c.body, err = c.readAll(limit)
	return err
}

// bodyLimit returns how long the body may be, and an error if it can't be read at all.
func (c *call) bodyLimit() (int64, error) {
	if enc := c.r.Header.Get("Content-Encoding"); enc != "" && enc != "identity" {
		return 0, withHint(http.StatusUnsupportedMediaType, op.BadRequest, "Send the body as it is, without Content-Encoding.",
			"the body is encoded as %.64q", enc)
	}
	if strings.HasPrefix(c.r.Header.Get("Content-Type"), "multipart/") {
		return 0, withHint(http.StatusUnsupportedMediaType, op.BadRequest,
			"Send the bytes alone, with curl --data-binary instead of -F.", "the body is multipart")
	}
	limit := c.s.stateLimits(c.r.Context()).RequestBytes
	switch c.route.body {
	case noBody:
		return 0, op.Errorf(op.BadRequest, "%s has no body here; parameters stand in the URL, behind a ?", c.r.Method)
	case jsonBody:
		limit *= 2 // escapes and base64
	}
	return limit, nil
}

// readAll reads the body within BodyTimeout. The deadline is taken back: net/http reads on to see the sender go away.
func (c *call) readAll(limit int64) ([]byte, error) {
	rc := http.NewResponseController(c.w)
	rc.SetReadDeadline(time.Now().Add(c.s.limits.BodyTimeout))
	body, err := c.receive(limit)
	if err != nil {
		return nil, c.bodyError(err)
	}
	rc.SetReadDeadline(time.Time{})
	return body, nil
}

// shortBody is up to how many bytes a body gets room when it is announced: no more than who sends nothing takes anyway.
const shortBody = 1024

func (c *call) receive(limit int64) ([]byte, error) {
	n := c.r.ContentLength
	if n < 0 || n > shortBody {
		return io.ReadAll(meteredBody{c, http.MaxBytesReader(c.w, c.r.Body, limit)})
	}
	body := make([]byte, n)
	_, err := io.ReadFull(meteredBody{c, c.r.Body}, body)
	return body, err
}

// meteredBody counts what has come of a body against what all requests together may hold. What was only announced
// doesn't count, so that somebody who announces much and sends little takes nothing away from others.
type meteredBody struct {
	c *call
	r io.Reader
}

func (m meteredBody) Read(p []byte) (int, error) {
	n, err := m.r.Read(p)
	m.c.held += int64(n)
	if m.c.s.bodies.Add(int64(n)) > m.c.s.limits.BodyBytes {
		return 0, errNoRoom // not all of it, whoever asks
	}
	return n, err
}

var errNoRoom = errors.New("no room for the body")

func (c *call) bodyError(err error) error {
	if e, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return tooLarge(e.Limit+1, e.Limit)
	}
	if errors.Is(err, errNoRoom) {
		return c.overloaded("the bodies of other requests take up all the room")
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return withHint(http.StatusRequestTimeout, op.Timeout, "Send it again, all of it within that time, or have --body-timeout raised.",
			"the body did not come within %s", c.s.limits.BodyTimeout)
	}
	return op.Errorf(op.BadRequest, "the body could not be read: %s", err)
}

func tooLarge(have, limit int64) error {
	return &op.Error{Code: op.TooLarge, Have: have, Limit: limit}
}

// respond writes the whole answer.
func (c *call) respond(status int, contentType string, body []byte) {
	c.write(status, []string{contentType}, body)
}

// respondBytes writes an answer that is JSON already. A large one that was only read may find no room, and is refused;
// what was done is told in any case.
func (c *call) respondBytes(status int, body []byte) {
	taken, ok := c.s.answers.take(len(body))
	if !ok && c.r.Method == http.MethodGet {
		c.noRoom = true
		return
	}
	defer c.s.answers.give(taken)
	c.write(status, jsonType, body)
}

func (c *call) respondJSON(status int, v any) { c.respondBytes(status, marshal(v)) }

// countedBody is how long a body may be whose length net/http adds by itself, at less than what a header costs.
const countedBody = 2048

func (c *call) write(status int, contentType []string, body []byte) {
	c.replied = true
	c.w.Header()["Content-Type"] = contentType
	if len(body) > countedBody || c.r.Method == http.MethodHead {
		c.setHeader("Content-Length", strconv.Itoa(len(body)))
	}
	c.w.WriteHeader(status)
	c.w.Write(body)
}

// withTimeout returns the request's context, ended after RequestTimeout.
func (c *call) withTimeout() (context.Context, context.CancelFunc) {
	p := patience.New(c.r.Context(), c.s.limits.RequestTimeout)
	return p, p.End
}

// view returns a state that is as fresh as the caller asks, and says in the answer's headers how fresh that is. Everything
// in the query must have been taken.
func (c *call) view() (*fsm.View, error) {
	o := c.readOptions()
	if len(c.r.Header["Coord-Fencing-Token"]) > 0 {
		c.q.faults.add("Coord-Fencing-Token", "guards writes only")
	}
	if err := c.q.done(); err != nil {
		return nil, err
	}
	v, info, err := c.viewAt(o)
	if err == nil {
		c.setFreshness(info)
	}
	return v, err
}

func (c *call) viewAt(o op.ReadOptions) (*fsm.View, op.ReadInfo, error) {
	v, info, err, ok := c.s.backend.ViewNow(o)
	if !ok { // even an eventual read waits at a member that doesn't serve yet
		ctx, cancel := c.withTimeout()
		defer cancel()
		v, info, err = c.s.backend.View(ctx, o)
	}
	if err != nil {
		return nil, info, readError(err)
	}
	c.s.metrics.ReadDone(info, c.leader.leads)
	return v, info, nil
}

// readError makes an error of coord's out of the end of a wait.
func readError(err error) error {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return op.Errorf(op.Timeout, "no state was fresh enough in time")
	}
	return err
}

// do has o decided in the name of the caller, behind the fence that the caller asks for. Everything in the query must
// have been taken.
func (c *call) do(o op.Op) (*op.Result, error) {
	session, err := c.session()
	if err != nil {
		return nil, err
	}
	return c.propose(session, o)
}

func (c *call) propose(session op.SessionID, o op.Op) (*op.Result, error) {
	key, checks := c.key(session), c.fence()
	c.refuseConditions()
	if len(checks) > 0 && !o.Verb().InTxn() && o.Verb() != op.VerbTxn {
		c.q.faults.add("Coord-Fencing-Token", "can't guard this")
	}
	if err := c.q.done(); err != nil {
		return nil, err
	}
	c.keyed = key != nil
	ctx, cancel := c.withTimeout()
	defer cancel()
	if c.keyed {
		window := c.s.stateLimits(ctx).KeyWindow
		c.w.Header()["Coord-Idempotency-Window"] = []string{strconv.FormatInt(int64(window/time.Second), 10)}
	}
	res := c.s.backend.Do(ctx, &op.Request{Session: session, Key: key, Auth: c.auth, Op: fenced(checks, o)})
	if res.Err != nil {
		return nil, located(c.withCurrent(res), o, len(checks))
	}
	c.setZxid(res.Zxid)
	return unfenced(len(checks), o, res), nil
}

// withCurrent adds the node that exists already to a node_exists error, if the caller may read it: this member has
// applied the decision, so its own state has the node, unless that has gone again.
func (c *call) withCurrent(res *op.Result) *op.Result {
	if res.Err.Code != op.NodeExists || res.Err.Stat != nil {
		return res
	}
	v, err := c.viewFor(op.Eventual)
	if err != nil {
		return res
	}
	out, e := *res, *res.Err
	e.Stat = v.Read(&op.Exists{Path: e.Path}, c.auth).Stat
	out.Err = &e
	return &out
}

// explain says in words what an error of that code means in a request that knows more of it.
func explain(err error, code op.Code, format string, args ...any) error {
	e, ok := errors.AsType[*op.Error](err)
	if !ok || e.Code != code || e.Detail != "" {
		return err
	}
	out := *e
	out.Detail = fmt.Sprintf(format, args...)
	return &out
}
