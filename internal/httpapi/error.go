package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/coord-kv/coord/op"
)

// Error is an answer that is not a success: a problem document, or what stands for one if the answer has none.
type Error struct {
	Code        string       `json:"code"` // one of op's names; "" if whoever answered is not coord
	Title       string       `json:"title"`
	Status      int          `json:"status"`
	Detail      string       `json:"detail"`
	Outcome     string       `json:"outcome"` // refused, decided or unknown
	Retryable   bool         `json:"retryable"`
	RetryAfter  int          `json:"retry_after,omitempty"` // seconds
	Path        string       `json:"path,omitempty"`
	Operation   string       `json:"operation,omitempty"` // which one of a transaction, such as ops[1]
	Zxid        op.Zxid      `json:"zxid,omitempty"`
	Current     *Current     `json:"current,omitempty"`
	Oldest      op.Zxid      `json:"oldest,omitempty"`
	Limit       int64        `json:"limit,omitempty"`
	Have        int64        `json:"have,omitempty"`
	Leader      string       `json:"leader,omitempty"`
	Instance    string       `json:"instance,omitempty"`
	FieldErrors []FieldError `json:"field_errors,omitempty"`
	Hint        string       `json:"hint"`

	Endpoint string `json:"-"` // that answered
	ServedBy string `json:"-"` // the member there
	Key      string `json:"-"` // of a write whose outcome is unknown: sent again with it, it is still done at most once
}

// Current is the node or configuration as it is, where a condition on it failed.
type Current struct {
	ETag    string  `json:"etag"`
	Version int64   `json:"version"`
	Zxid    op.Zxid `json:"zxid"`
}

// FieldError says what is wrong with one field, parameter or header.
type FieldError struct {
	Name   string `json:"name"`
	Reason string `json:"reason"`
}

// Error returns the code and why.
func (e *Error) Error() string {
	if e.Code == "" {
		return e.Detail
	}
	return e.Code + ": " + e.Detail
}

// Is reports whether target is an *op.Error with the same code, so that errors.Is(err, &op.Error{Code: op.NoNode})
// works as everywhere else.
func (e *Error) Is(target error) bool {
	t, ok := target.(*op.Error)
	return ok && t.Code.String() == e.Code
}

// newError reads the error that an endpoint has answered.
func newError(endpoint string, resp *http.Response) error {
	body, err := readAll(resp.Body)
	if err != nil {
		return err
	}
	e := &Error{}
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if kind != "application/problem+json" || json.Unmarshal(body, e) != nil || e.Code == "" {
		e = &Error{Detail: fmt.Sprintf("%s answered %q, which is no answer of coord's", endpoint, resp.Status)}
		if resp.StatusCode >= 500 {
			e.Outcome = op.Unknown.String() // something between may have lost the answer
		}
	}
	e.Status, e.Endpoint, e.ServedBy = resp.StatusCode, endpoint, resp.Header.Get("Coord-Served-By")
	return e
}

// elsewhere are codes that say that this member can't do now what another one, or the same one in a moment, may.
var elsewhere = []op.Code{
	op.RateLimited, op.Overloaded, op.WindowFull, op.NoLeader, op.NoQuorum, op.Starting, op.Draining,
	op.ReconfigInProgress,
}

// open are codes that leave open what became of the request.
var open = []op.Code{op.OutcomeUnknown, op.Timeout}

func (e *Error) in(codes []op.Code) bool {
	return slices.ContainsFunc(codes, func(c op.Code) bool { return c.String() == e.Code })
}

// again reports whether a request that got this answer should be sent again, there or elsewhere.
func (e *Error) again(r *Request) bool {
	switch {
	case e.in(elsewhere):
		return true
	case e.in(open):
		return r.repeatable()
	}
	return e.Code == "" && e.Status >= 502 && e.Status <= 504 && r.repeatable() // a proxy without its member
}

func (e *Error) inDoubt() bool { return e.Outcome == op.Unknown.String() }

// pause is how long to leave a member alone that has too much to do. Who has no leader is asked sooner.
func (e *Error) pause() time.Duration {
	if e.in(elsewhere[:3]) {
		return time.Duration(e.RetryAfter) * time.Second
	}
	return 0
}

// UnreachableError says that no endpoint has answered.
type UnreachableError struct{ Failures []Failure }

// Failure is why one endpoint has not answered.
type Failure struct {
	Endpoint string
	Err      error
}

func (e *UnreachableError) Error() string {
	var parts []string
	for _, f := range e.Failures {
		parts = append(parts, f.Endpoint+": "+f.Reason())
	}
	return strings.Join(parts, "; ")
}

// unconnectedError says that the time for an attempt was over before the endpoint had taken a connection.
type unconnectedError struct{ error }

func (e *unconnectedError) Unwrap() error { return e.error }

// Tried reports whether the endpoint may have got the request: it took the connection.
func (f Failure) Tried() bool { return !notSent(f.Err) }

// Reason returns why, without what the endpoint says already.
func (f Failure) Reason() string {
	err := f.Err
	if errors.Is(err, context.Canceled) {
		return "interrupted"
	}
	if _, ok := errors.AsType[*unconnectedError](err); ok {
		return "no connection in time"
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return "no answer in time"
	}
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	text := err.Error()
	if i := strings.LastIndex(text, "connect: "); i >= 0 {
		return text[i+len("connect: "):]
	}
	return text
}
