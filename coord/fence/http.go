package fence

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/coord-kv/coord/coord"
	"github.com/coord-kv/coord/op"
)

// Header carries the token of a request, as NAME=TOKEN: nightly=41, or term:boss=57 for an election. coord's own API
// takes the same one.
const Header = "Coord-Fencing-Token"

// Set gives a request the token of the lock or term in which it is sent.
func Set(h http.Header, token coord.Token) { h.Set(Header, token.String()) }

// Handler returns a handler that has next serve only requests with a token that is not stale; see Do for the context that
// they have. GET, HEAD and OPTIONS need no token, unless GuardReads says so, but one that they bring is checked. Others
// are answered with a problem (RFC 9457) whose code is
//
//	precondition_required  428  there is no token
//	bad_request            400  it is none, there are several, or it is that of another lock
//	stale_token            412  a higher one has been here: the sender is not the holder any more
//	overloaded             503  the store doesn't answer, or an older use has not ended: send it again later
func (g *Guard) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		values := r.Header.Values(Header)
		if len(values) == 0 && !g.reads && harmless(r.Method) {
			next.ServeHTTP(w, r)
			return
		}
		token, err := one(values)
		if err == nil {
			served := false
			err = g.Do(r.Context(), token, func(ctx context.Context) error {
				served = true
				next.ServeHTTP(w, r.WithContext(ctx))
				return nil
			})
			if served {
				return
			}
		}
		refuse(w, err)
	})
}

func harmless(method string) bool {
	return method == http.MethodGet || method == http.MethodHead || method == http.MethodOptions
}

// one returns the only token of a request.
func one(values []string) (coord.Token, error) {
	switch len(values) {
	case 0:
		return coord.Token{}, op.Errorf(op.PreconditionRequired, "the request has no %s", Header)
	case 1:
		return coord.ParseToken(values[0])
	}
	return coord.Token{}, op.Errorf(op.BadRequest, "the request has %d of %s; one says who may", len(values), Header)
}

// problem is the body of a refusal, with the members that the errors of coord's API have.
type problem struct {
	Type      string `json:"type"`
	Title     string `json:"title"`
	Status    int    `json:"status"`
	Detail    string `json:"detail"`
	Code      string `json:"code"`
	Retryable bool   `json:"retryable"`
	Hint      string `json:"hint"`
}

var (
	required = problem{
		Status: http.StatusPreconditionRequired, Title: "A fencing token is required here",
		Hint: "Send the token of the lock or leadership that the request is made under, as Coord-Fencing-Token: NAME=TOKEN.",
	}
	wrong = problem{
		Status: http.StatusBadRequest, Title: "The fencing token is not valid",
		Hint: "Send one Coord-Fencing-Token: NAME=TOKEN, with the lock that guards this resource.",
	}
	old = problem{
		Status: http.StatusPreconditionFailed, Title: "The fencing token is stale",
		Hint: "Stop the work that the token protects: the lock or leadership has passed on. Acquire it again first.",
	}
	undecided = problem{
		Status: http.StatusServiceUnavailable, Title: "Whether the fencing token is stale can't be told now", Retryable: true,
		Hint: "Wait for Retry-After, then send it again, while the lock is still held.",
	}
)

// refuse answers with why a request isn't served. Why a store doesn't answer is for the guard's owner, not for the sender.
func refuse(w http.ResponseWriter, err error) {
	p, code, detail := undecided, op.Overloaded, "the guard of this resource has no answer"
	switch e, _ := errors.AsType[*coord.Error](err); {
	case errors.Is(err, coord.ErrStaleToken):
		p, code, detail = old, op.StaleToken, e.Detail
	case errors.Is(err, &coord.Error{Code: op.PreconditionRequired}):
		p, code, detail = required, op.PreconditionRequired, e.Detail
	case isRefusal(err):
		p, code, detail = wrong, e.Code, e.Detail
	}
	p.Type, p.Code, p.Detail = "urn:coord:error:"+code.String(), code.String(), detail
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Cache-Control", "no-store")
	if p.Retryable {
		w.Header().Set("Retry-After", "1")
	}
	w.WriteHeader(p.Status)
	json.NewEncoder(w).Encode(p)
}
