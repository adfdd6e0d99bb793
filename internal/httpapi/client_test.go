package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coord-kv/coord/op"
)

// endpoint is a server that answers as a test says, request by request; the last answer stands for all that follow.
type endpoint struct {
	*httptest.Server
	mu      sync.Mutex
	answers []http.HandlerFunc
	seen    []*http.Request
}

func newEndpoint(t *testing.T, answers ...http.HandlerFunc) *endpoint {
	e := &endpoint{answers: answers}
	e.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		e.mu.Lock()
		answer := e.answers[0]
		if len(e.answers) > 1 {
			e.answers = e.answers[1:]
		}
		e.seen = append(e.seen, r)
		e.mu.Unlock()
		answer(w, r)
	}))
	t.Cleanup(e.Close)
	return e
}

func (e *endpoint) requests() []*http.Request {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.seen)
}

func good(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, body) }
}

func trouble(status int, code op.Code, outcome op.Outcome) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/problem+json")
		w.Header().Set("Coord-Served-By", "n1")
		w.WriteHeader(status)
		json.NewEncoder(w).Encode(Error{Code: code.String(), Status: status, Outcome: outcome.String(), Detail: "so it is"})
	}
}

// hangUp takes the request and closes the connection: the answer is lost.
func hangUp(w http.ResponseWriter, _ *http.Request) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err == nil {
		conn.Close()
	}
}

// nobody returns an endpoint where nobody listens.
func nobody(t *testing.T) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
	return "http://" + ln.Addr().String()
}

func newClient(t *testing.T, endpoints ...string) *Client {
	c, err := New(Config{Endpoints: endpoints})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func isCode(err error, code op.Code) bool { return errors.Is(err, &op.Error{Code: code}) }

// TestFailover: an endpoint that can't be reached, and one that can't serve, are passed over; the one that has answered is
// asked first from then on.
func TestFailover(t *testing.T) {
	starting := newEndpoint(t, trouble(503, op.Starting, op.Refused))
	serving := newEndpoint(t, good(`{"path":"/x","data":"1"}`))
	c := newClient(t, nobody(t), starting.URL, serving.URL)
	for range 3 {
		n, err := c.Get(t.Context(), "/x", Read{})
		if err != nil || string(n.Bytes()) != "1" || n.Endpoint != serving.URL {
			t.Fatalf("got %+v, %v", n, err)
		}
	}
	if n := len(starting.requests()); n != 1 {
		t.Errorf("the endpoint that can't serve was asked %d times, want once", n)
	}
}

// TestAgain: endpoints are asked again until one has a leader.
func TestAgain(t *testing.T) {
	e := newEndpoint(t, trouble(503, op.NoLeader, op.Refused), trouble(503, op.NoLeader, op.Refused), good(`{}`))
	if _, err := newClient(t, e.URL).Set(t.Context(), "/x", nil, Create{}, Write{}); err != nil {
		t.Fatal(err)
	}
}

// TestSameKey: a write whose answer is lost is sent again with the same key, the next write with another.
func TestSameKey(t *testing.T) {
	lost, e := newEndpoint(t, hangUp), newEndpoint(t, trouble(504, op.OutcomeUnknown, op.Unknown), good(`{}`))
	c := newClient(t, lost.URL, e.URL)
	if _, err := c.Set(t.Context(), "/x", []byte("v"), Create{}, Write{}); err != nil {
		t.Fatal(err)
	}
	keys := map[string]bool{}
	for _, r := range append(lost.requests(), e.requests()...) {
		keys[r.Header.Get("Idempotency-Key")] = true
	}
	if len(keys) != 1 || keys[""] {
		t.Errorf("keys of one write: %v", keys)
	}
	before := len(e.requests())
	if _, err := c.Set(t.Context(), "/x", []byte("v"), Create{}, Write{}); err != nil {
		t.Fatal(err)
	}
	if all := e.requests(); len(all) != before+1 || keys[all[before].Header.Get("Idempotency-Key")] {
		t.Error("the second write had the key of the first")
	}
}

// TestOutcomes: what a write is answered with in the end, by what its attempts were answered.
func TestOutcomes(t *testing.T) {
	for _, test := range []struct {
		name    string
		answers []http.HandlerFunc
		code    op.Code
		outcome op.Outcome
	}{
		{"refused", []http.HandlerFunc{trouble(403, op.Denied, op.Refused)}, op.Denied, op.Refused},
		{"decided", []http.HandlerFunc{trouble(412, op.BadVersion, op.Decided)}, op.BadVersion, op.Decided},
		{"lost, then decided", []http.HandlerFunc{hangUp, trouble(412, op.BadVersion, op.Decided)}, op.BadVersion, op.Decided},
		{"lost, then refused", []http.HandlerFunc{hangUp, trouble(403, op.Denied, op.Refused)}, op.OutcomeUnknown, op.Unknown},
		{"unknown, then refused", []http.HandlerFunc{
			trouble(504, op.OutcomeUnknown, op.Unknown), trouble(503, op.Draining, op.Refused),
			trouble(403, op.Denied, op.Refused),
		}, op.OutcomeUnknown, op.Unknown},
		{"internal", []http.HandlerFunc{trouble(500, op.Internal, op.Unknown)}, op.OutcomeUnknown, op.Unknown},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newClient(t, newEndpoint(t, test.answers...).URL)
			_, err := c.Delete(t.Context(), "/x", false, Write{Key: "k1"})
			e, ok := errors.AsType[*Error](err)
			if !ok || !isCode(err, test.code) || e.Outcome != test.outcome.String() {
				t.Fatalf("got %+v, want %s, %s", err, test.code, test.outcome)
			}
			if test.code == op.OutcomeUnknown && e.Key != "k1" {
				t.Errorf("the key to repeat it with is %q", e.Key)
			}
		})
	}
}

// TestReadIsNeverUnknown: a read that gets no answer has done nothing.
func TestReadIsNeverUnknown(t *testing.T) {
	c := newClient(t, newEndpoint(t, hangUp, trouble(403, op.Denied, op.Refused)).URL)
	if _, err := c.Get(t.Context(), "/x", Read{}); !isCode(err, op.Denied) {
		t.Error(err)
	}
}

// TestNotCoord: whoever answers is named if it is not coord, and a redirect isn't followed.
func TestNotCoord(t *testing.T) {
	for _, answer := range []http.HandlerFunc{
		http.NotFound,
		good("<html>hello"),
		func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		},
	} {
		e := newEndpoint(t, answer)
		_, err := newClient(t, e.URL).Set(t.Context(), "/x", nil, Create{}, Write{})
		if p, ok := errors.AsType[*Error](err); !ok || p.Code != "" || !strings.Contains(err.Error(), e.URL) {
			t.Errorf("got %v", err)
		}
		if n := len(e.requests()); n != 1 {
			t.Errorf("%d requests", n)
		}
	}
}

// TestEndpoints: what may stand for an endpoint.
func TestEndpoints(t *testing.T) {
	c, err := New(Config{Endpoints: []string{"localhost:7070", "http://localhost:7070/", "localhost", "https://h", "https://h:7070", "http://[::1]:7070"}})
	want := []string{"http://localhost:7070", "https://h:7070", "http://[::1]:7070"}
	if err != nil || !slices.Equal(c.Endpoints(), want) {
		t.Errorf("got %v, %v", c.Endpoints(), err)
	}
	for _, bad := range []string{
		"", " ", "ftp://h", "http://", "http://u:p@h", "http://h/v1", "http://h?x", "http://:7070", "http://h:0", "http://h:65536", "h:99999", "\x7f",
	} {
		if _, err := New(Config{Endpoints: []string{bad}}); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

// network is a transport without a network, for tests in which time matters: it runs on the bubble's clock.
type network func(r *http.Request) (*http.Response, error)

func (n network) RoundTrip(r *http.Request) (*http.Response, error) { return n(r) }

func answerOf(body io.ReadCloser) *http.Response {
	return &http.Response{Status: "200 OK", StatusCode: 200, Header: http.Header{}, Body: body}
}

// TestHungEndpoint: an endpoint that takes connections and never answers leaves time for the others.
func TestHungEndpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, err := New(Config{Endpoints: []string{"http://hung", "http://good"}, Transport: network(
			func(r *http.Request) (*http.Response, error) {
				if r.URL.Host == "hung:7070" {
					<-r.Context().Done()
					return nil, r.Context().Err()
				}
				return answerOf(io.NopCloser(strings.NewReader(`{}`))), nil
			})})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		start := time.Now()
		if _, err := c.Set(ctx, "/x", nil, Create{}, Write{}); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took != 5*time.Second {
			t.Errorf("it took %s, want half of the time that there was", took)
		}
	})
}

// TestDeadline: a request is tried until its context ends, and the error says what was wrong.
func TestDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		attempts := 0
		c, err := New(Config{Endpoints: []string{"http://a", "http://b"}, Transport: network(
			func(*http.Request) (*http.Response, error) {
				attempts++
				resp := answerOf(io.NopCloser(strings.NewReader(`{"code":"no_leader","outcome":"refused"}`)))
				resp.StatusCode = 503
				resp.Header.Set("Content-Type", "application/problem+json")
				return resp, nil
			})})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if _, err = c.Set(ctx, "/x", nil, Create{}, Write{}); !isCode(err, op.NoLeader) {
			t.Error(err)
		}
		if attempts < 20 || attempts > 100 {
			t.Errorf("%d attempts in 10 s", attempts)
		}
	})
}

// TestNobodyThere: where nobody listens at any endpoint, a request is given up soon.
func TestNobodyThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, err := New(Config{Endpoints: []string{"http://a", "http://b"}, Transport: network(
			func(*http.Request) (*http.Response, error) {
				return nil, &net.OpError{Op: "dial", Err: errors.New("connect: connection refused")}
			})})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		start := time.Now()
		_, err = c.Set(ctx, "/x", nil, Create{}, Write{})
		if want := "http://a:7070: connection refused; http://b:7070: connection refused"; err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("it took %s", took)
		}
	})
}

// TestTimeOver: where the time ends while an attempt waits for a connection, nothing was sent, and what an earlier attempt
// has found is what is told. Where it ends after that, nobody knows what became of a write.
func TestTimeOver(t *testing.T) {
	refused := func() (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Err: errors.New("connect: connection refused")}
	}
	var over chan struct{} // when the test is
	lost := func() (net.Conn, error) { <-over; return refused() }
	silent := func() (net.Conn, error) {
		conn, other := net.Pipe()
		go io.Copy(io.Discard, other)
		return conn, nil
	}
	for want, dial := range map[string]func(attempt int) (net.Conn, error){
		"http://a:7070: no connection in time": func(int) (net.Conn, error) { return lost() },
		"http://a:7070: connection refused": func(attempt int) (net.Conn, error) {
			if attempt == 1 {
				return refused()
			}
			return lost()
		},
		"outcome_unknown: it was sent, and the answer was lost; in the end: http://a:7070: no answer in time": func(
			int) (net.Conn, error) {
			return silent()
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			var attempts atomic.Int32
			over = make(chan struct{})
			defer close(over)
			c, err := New(Config{Endpoints: []string{"http://a"}, Transport: &http.Transport{
				DialContext: func(context.Context, string, string) (net.Conn, error) { return dial(int(attempts.Add(1))) },
			}})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err = c.Set(ctx, "/x", nil, Create{}, Write{})
			if err == nil || err.Error() != want {
				t.Errorf("got %v, want %s", err, want)
			}
			if e, ok := errors.AsType[*UnreachableError](err); ok && e.Failures[0].Tried() {
				t.Errorf("%v: it says that something was sent", err)
			}
			if _, err = c.Set(ctx, "/x", nil, Create{}, Write{}); err == nil || err.Error() != "http://a:7070: no connection in time" {
				t.Errorf("when the time is over: %v", err)
			}
			if _, err := follow(t.Context(), c, WatchOptions{Connect: time.Second}); err == nil || strings.Contains(err.Error(), "interrupted") {
				t.Errorf("a watch: %v", err)
			}
		})
	}
}

func ExampleError() {
	err := error(&Error{Code: "no_node", Detail: "/x: no such node"})
	fmt.Println(err, errors.Is(err, &op.Error{Code: op.NoNode}))
	// Output: no_node: /x: no such node true
}
