// Package httpapi is a client of coord's HTTP API, for the command line.
//
// A client has a list of endpoints, any of which answers any request. What it promises:
//
//   - A request goes to one endpoint. If that one can't be reached, or says that it can't serve just now, the request
//     goes to the next one, and around again until the context ends. With a deadline, it isn't waited for if nobody
//     listens at any endpoint.
//   - A write takes effect at most once, however often it was sent: each has an Idempotency-Key, and all attempts carry
//     the same one. A failure that leaves open whether it took effect is an [Error] with the code outcome_unknown and
//     no other, also when the last attempt was refused, since that says nothing of those before it.
//   - A watch goes on at the next endpoint from where it was, without a gap.
//
// What hurts: without a deadline in its context, a request is tried for ever. Answers are held in memory, up to 64 MiB.
package httpapi

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/coord-kv/coord/op"
)

// Config says where a cluster is and who asks. Endpoints is required.
type Config struct {
	Endpoints []string // base URLs such as http://127.0.0.1:7070; host:port means http
	User      string   // name of a digest identity; "" for none
	Password  string
	Agent     string            // User-Agent
	Trace     func(Attempt)     // called after each attempt, by the goroutine that makes it; nil for nobody
	Transport http.RoundTripper // nil for one of its own
	Idle      time.Duration     // a watch without a message for so long is taken for broken; 0 means 20 s
}

// Attempt is one exchange with one endpoint.
type Attempt struct {
	Method, URL string
	ServedBy    string // the member that answered, if it said so
	Err         error  // nil if it was answered with success
	Took        time.Duration
}

// Client is safe for concurrent use.
type Client struct {
	cfg       Config
	endpoints []string
	http      *http.Client
	next      atomic.Int64 // the endpoint to ask first: the last one that answered
}

const (
	maxAnswer      = 64 << 20
	defaultIdle    = 20 * time.Second        // the server sends something every 5 s
	defaultAttempt = 5 * time.Second         // of one attempt, where the context has no deadline to share out
	deafRounds     = 5                       // when nobody listens anywhere; about half a second
	firstPause     = 50 * time.Millisecond   // after all endpoints have been asked once
	longestPause   = 1000 * time.Millisecond // as long as an election takes
)

// New checks the endpoints and returns a client. It doesn't connect.
func New(cfg Config) (*Client, error) {
	c := &Client{cfg: cfg}
	for _, e := range cfg.Endpoints {
		base, err := parseEndpoint(e)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(c.endpoints, base) {
			c.endpoints = append(c.endpoints, base)
		}
	}
	if len(c.endpoints) == 0 {
		return nil, errors.New("there is no endpoint")
	}
	c.cfg.Idle = cmp.Or(cfg.Idle, defaultIdle)
	transport := cfg.Transport
	if transport == nil {
		t := http.DefaultTransport.(*http.Transport).Clone()
		t.DisableCompression = true
		transport = t
	}
	// A redirect is no answer of coord's. Followed, it could carry a write to another node.
	c.http = &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}
	return c, nil
}

// Endpoints returns the base URLs, each once.
func (c *Client) Endpoints() []string { return slices.Clone(c.endpoints) }

// defaultPort is where a member listens for clients, as the Go client has it too.
const defaultPort = "7070"

// parseEndpoint reads "host", "host:port" or "http[s]://host[:port]".
func parseEndpoint(s string) (string, error) {
	s = strings.TrimSpace(s)
	text := s
	if !strings.Contains(s, "://") {
		text = "http://" + s
	}
	u, err := url.Parse(text)
	switch {
	case s == "":
		return "", errors.New("an endpoint is empty")
	case err != nil, u.Host == "", u.Hostname() == "":
		return "", fmt.Errorf("endpoint %q is not a URL such as http://127.0.0.1:7070", s)
	case u.Scheme != "http" && u.Scheme != "https":
		return "", fmt.Errorf("endpoint %q has the scheme %s; it is http or https", s, u.Scheme)
	case u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.Trim(u.Path, "/") != "":
		return "", fmt.Errorf("endpoint %q has more than a scheme, a host and a port", s)
	}
	port := cmp.Or(u.Port(), defaultPort)
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", fmt.Errorf("endpoint %q has a port that is not 1 to 65535", s)
	}
	return u.Scheme + "://" + net.JoinHostPort(u.Hostname(), port), nil
}

// Request is one request, whichever endpoint it goes to.
type Request struct {
	Method string
	Path   string // escaped
	Query  url.Values
	Header http.Header
	Body   []byte
	Key    string // Idempotency-Key; a write without one is sent again only if it surely was not done

	Harmless bool // it is no write, whatever the method says: to repeat it does no harm
}

// NewKey returns a new Idempotency-Key.
func NewKey() string { return rand.Text() }

func (r *Request) repeatable() bool { return r.Key != "" || r.harmless() }
func (r *Request) harmless() bool   { return r.Harmless || r.Method == http.MethodGet }

// Answer is what an endpoint has answered.
type Answer struct {
	Endpoint string
	Status   int
	Header   http.Header
	Body     []byte
}

// Zxid returns the state that the answer reflects, 0 if it doesn't say.
func (a *Answer) Zxid() op.Zxid { return zxidHeader(a.Header, "Coord-Zxid") }

func zxidHeader(h http.Header, name string) op.Zxid {
	z, _ := strconv.ParseUint(h.Get(name), 10, 63)
	return op.Zxid(z)
}

// Do sends a request until it is answered with success or with a decision, or ctx ends. Errors are *[Error] or
// *[UnreachableError].
func (c *Client) Do(ctx context.Context, r *Request) (*Answer, error) {
	var a *Answer
	err := c.try(ctx, r, func(base string, limit time.Duration) (err error) {
		ctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		a, err = c.exchange(ctx, base, r)
		return err
	})
	if err != nil {
		return nil, err
	}
	return a, nil
}

// exchange sends a request to one endpoint and reads the whole answer.
func (c *Client) exchange(ctx context.Context, base string, r *Request) (*Answer, error) {
	start := time.Now()
	resp, err := c.send(ctx, base, r)
	var body []byte
	if err == nil {
		defer resp.Body.Close()
		body, err = readAll(resp.Body)
	}
	c.trace(base, r, resp, err, time.Since(start))
	if err != nil {
		return nil, err
	}
	return &Answer{base, resp.StatusCode, resp.Header, body}, nil
}

func readAll(r io.Reader) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(r, maxAnswer+1))
	if err == nil && len(body) > maxAnswer {
		return nil, fmt.Errorf("the answer is longer than %d bytes", maxAnswer)
	}
	return body, err
}

func (c *Client) trace(base string, r *Request, resp *http.Response, err error, took time.Duration) {
	if c.cfg.Trace == nil {
		return
	}
	t := Attempt{Method: r.Method, URL: target(base, r), Err: err, Took: took}
	if resp != nil {
		t.ServedBy = resp.Header.Get("Coord-Served-By")
	}
	c.cfg.Trace(t)
}

func target(base string, r *Request) string {
	if len(r.Query) == 0 {
		return base + r.Path
	}
	return base + r.Path + "?" + r.Query.Encode()
}

// send sends a request to one endpoint and returns a good answer with its body unread, or an error.
func (c *Client) send(ctx context.Context, base string, r *Request) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, r.Method, target(base, r), bytes.NewReader(r.Body))
	if err != nil {
		return nil, err
	}
	for name, v := range r.Header {
		req.Header[name] = v
	}
	if r.Key != "" {
		req.Header.Set("Idempotency-Key", r.Key)
	}
	if c.cfg.User != "" {
		req.SetBasicAuth(c.cfg.User, c.cfg.Password)
	}
	req.Header.Set("User-Agent", c.cfg.Agent)
	resp, err := c.do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode >= 300 {
		defer resp.Body.Close()
		return resp, newError(base, resp)
	}
	return resp, nil
}

// do is http.Client.Do, with an *unconnectedError if the time was over before there was a connection.
func (c *Client) do(req *http.Request) (*http.Response, error) {
	if err := req.Context().Err(); err != nil {
		return nil, &unconnectedError{err}
	}
	var waits, connected atomic.Bool
	trace := &httptrace.ClientTrace{
		GetConn: func(string) { waits.Store(true) },
		GotConn: func(httptrace.GotConnInfo) { connected.Store(true) },
	}
	resp, err := c.http.Do(req.WithContext(httptrace.WithClientTrace(req.Context(), trace)))
	if err != nil && req.Context().Err() != nil && waits.Load() && !connected.Load() {
		return nil, &unconnectedError{err}
	}
	return resp, err
}

// try makes attempts until one succeeds, one fails for good, or ctx ends.
func (c *Client) try(ctx context.Context, r *Request, one func(base string, limit time.Duration) error) error {
	var seen failures
	_, bounded := ctx.Deadline()
	for round, pause := 1, firstPause; ; round, pause = round+1, min(2*pause, longestPause) {
		first := int(c.next.Load())
		for i := range c.endpoints {
			at := (first + i) % len(c.endpoints)
			err := one(c.endpoints[at], share(ctx, len(c.endpoints)-i))
			if err == nil {
				c.next.Store(int64(at))
				return nil
			}
			if again := seen.add(c.endpoints[at], r, err); !again || ctx.Err() != nil {
				return seen.conclude(r)
			}
		}
		if bounded && round == deafRounds && seen.deaf() {
			return seen.conclude(r)
		}
		if !sleep(ctx, max(seen.wait, pause/2+mathrand.N(pause/2))) {
			return seen.conclude(r)
		}
	}
}

// share returns how long one of n attempts may take, so that a stopped member, whose kernel still takes connections,
// leaves time for the others.
func share(ctx context.Context, n int) time.Duration {
	deadline, ok := ctx.Deadline()
	if !ok {
		return defaultAttempt
	}
	return time.Until(deadline) / time.Duration(n)
}

// sleep reports whether the time passed before ctx ended. It doesn't wait for a deadline that comes first.
func sleep(ctx context.Context, d time.Duration) bool {
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < d {
		return false
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// failures is what has gone wrong with one request so far.
type failures struct {
	last    map[string]error // by endpoint
	order   []string
	problem *Error        // the last answer that was one
	final   error         // ends the request
	doubt   bool          // some attempt may have taken effect
	wait    time.Duration // asked for by a member that has too much to do
}

// add takes the error of an attempt in, and reports whether another one makes sense.
func (f *failures) add(endpoint string, r *Request, err error) (again bool) {
	if f.last == nil {
		f.last = map[string]error{}
	}
	_, known := f.last[endpoint]
	if !known {
		f.order = append(f.order, endpoint)
	}
	if _, short := errors.AsType[*unconnectedError](err); !known || !short { // what an attempt with more time found says more
		f.last[endpoint] = err
	}
	if e, ok := errors.AsType[*Error](err); ok {
		f.problem, f.wait = e, e.pause()
		f.doubt = f.doubt || e.inDoubt()
		if again = e.again(r); !again {
			f.final = e
		}
		return again
	}
	if notSent(err) {
		return true
	}
	f.doubt = true
	return r.repeatable()
}

// deaf reports whether no endpoint has taken a connection.
func (f *failures) deaf() bool { return f.problem == nil && !f.doubt }

// notSent reports whether an attempt failed before anything was sent.
func notSent(err error) bool {
	if _, ok := errors.AsType[*unconnectedError](err); ok {
		return true
	}
	e, ok := errors.AsType[*net.OpError](err)
	return ok && e.Op == "dial"
}

// conclude returns the error of the whole request.
func (f *failures) conclude(r *Request) error {
	unreachable := &UnreachableError{}
	for _, e := range f.order {
		unreachable.Failures = append(unreachable.Failures, Failure{e, f.last[e]})
	}
	switch {
	case f.final != nil && f.problem.Outcome == op.Decided.String():
		return f.final
	case f.doubt && !r.harmless():
		return f.unknown(r, unreachable)
	case f.final != nil:
		return f.final
	case f.problem != nil:
		return f.problem
	}
	return unreachable
}

// unknown is the error of a write of which nobody knows whether it took effect.
func (f *failures) unknown(r *Request, cause error) error {
	e := &Error{Status: http.StatusGatewayTimeout}
	if f.problem != nil {
		*e = *f.problem
		cause = f.problem
	}
	if e.Code != op.OutcomeUnknown.String() {
		e.Code, e.Title = op.OutcomeUnknown.String(), "It is not known whether this took effect"
		e.Detail = "it was sent, and the answer was lost; in the end: " + cause.Error()
	}
	e.Outcome, e.Key = op.Unknown.String(), r.Key
	return e
}
