package api

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// holder is a request with ?hold, and its events.
type holder struct {
	t    *testing.T
	conn net.Conn
	in   *bufio.Reader
}

// follow sends a request and returns it with its answer still coming.
func (f *fixture) follow(t *testing.T, target string) *holder { return f.followed(t, "POST", target) }

func (f *fixture) followed(t *testing.T, method, target string) *holder {
	t.Helper()
	conn, err := net.Dial("tcp", f.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	io.WriteString(conn, onWire(method+" "+target))
	return &holder{t: t, conn: conn}
}

// next returns the next event but alive, as "event token position reason".
func (h *holder) next() string {
	h.t.Helper()
	h.conn.SetReadDeadline(time.Now().Add(wsPatience))
	if h.in == nil {
		resp, err := http.ReadResponse(bufio.NewReader(h.conn), nil)
		if err != nil {
			h.t.Fatal(err)
		}
		if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "application/x-ndjson" {
			h.t.Fatalf("%s %s", resp.Status, resp.Header.Get("Content-Type"))
		}
		h.in = bufio.NewReader(resp.Body)
	}
	for {
		line, err := h.in.ReadBytes('\n')
		if err != nil {
			return err.Error()
		}
		var e struct {
			Event, Token, Term, Reason string
			Position                   int
			Problem                    struct{ Code string }
		}
		if err := json.Unmarshal(line, &e); err != nil {
			h.t.Fatalf("%v: %s", err, line)
		}
		if e.Event != "alive" {
			words := []string{e.Event, e.Token, e.Term, e.Reason, e.Problem.Code}
			if e.Position > 0 {
				words = append(words, fmt.Sprint(e.Position))
			}
			return strings.Join(strings.Fields(strings.Join(words, " ")), " ")
		}
	}
}

func (h *holder) want(event string) {
	h.t.Helper()
	if got := h.next(); got != event {
		h.t.Fatalf("got %q, not %q", got, event)
	}
}

// until polls a lock or election until the answer contains the text.
func (f *fixture) until(t *testing.T, target, text string) {
	t.Helper()
	var r *response
	for end := time.Now().Add(wsPatience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if r = f.send("GET", target, ""); strings.Contains(string(r.body), text) {
			return
		}
	}
	t.Fatalf("%s never had %s, but %s", target, text, r.body)
}

// TestHold: a lock is held as long as a connection lives, and waited for as long as one does.
func TestHold(t *testing.T) {
	f := newFixture(t)
	a := f.follow(t, "/v1/locks/x?hold&owner=a")
	a.want("acquired 2")
	b := f.follow(t, "/v1/locks/x?hold&owner=b")
	b.want("waiting 1")
	c := f.follow(t, "/v1/locks/x?hold&owner=c")
	c.want("waiting 2")
	d := f.follow(t, "/v1/locks/x?owner=d&wait=10m")
	f.until(t, "/v1/locks/x", `"owner":"d"`)
	b.conn.Close() // as when its process is killed
	c.want("waiting 1")
	a.conn.Close()
	if got := c.next(); !strings.HasPrefix(got, "acquired ") {
		t.Fatalf("c: %s", got)
	}
	f.until(t, "/v1/locks/x", `"released":"released"`)
	d.conn.Close()
	f.until(t, "/v1/locks/x", `"waiters":[]`)
	f.must("DELETE", "/v1/locks/x?force", "")
	c.want("lost broken")
	c.want("EOF")
	if r := f.must("GET", "/v1/sessions", ""); string(r.body) != "{\"sessions\":[]}\n" {
		t.Errorf("sessions are left: %s", r.body)
	}
}

// acquires reads events until the lock is acquired.
func (h *holder) acquires() {
	h.t.Helper()
	for {
		switch got := h.next(); {
		case strings.HasPrefix(got, "acquired "):
			return
		case !strings.HasPrefix(got, "waiting "):
			h.t.Fatalf("got %q", got)
		}
	}
}

// TestHoldWithDelay: a connection that ends is no release of a lock with a delay. The same owner goes before who waits,
// and a release ends it all.
func TestHoldWithDelay(t *testing.T) {
	f := newFixture(t)
	a := f.follow(t, "/v1/locks/x?hold&owner=a&delay=1h")
	a.acquires()
	b := f.follow(t, "/v1/locks/x?hold&owner=b")
	b.want("waiting 1")
	a.conn.Close()
	f.until(t, "/v1/locks/x", `"delayed":{"owner":"a"`)
	again := f.follow(t, "/v1/locks/x?hold&owner=a&delay=1h")
	again.acquires()
	f.until(t, "/v1/locks/x", `"holders":[{"owner":"a"`)
	f.must("DELETE", "/v1/locks/x?force", "")
	again.want("lost broken")
	b.acquires()
}

// TestHoldEnds: what ends a hold beside its client, and what a wait that ended is told.
func TestHoldEnds(t *testing.T) {
	f := newFixture(t)
	a := f.follow(t, "/v1/locks/x?hold&owner=a")
	a.want("acquired 2")
	b := f.follow(t, "/v1/locks/x?hold&wait=1ms")
	b.want("waiting 1")
	b.want("failed lock_held")
	b.want("EOF")
	f.must("DELETE", "/v1/sessions/s-1", "")
	a.want("lost session_expired")
	c := f.follow(t, "/v1/locks/y?hold")
	if got := c.next(); !strings.HasPrefix(got, "acquired ") {
		t.Fatal(got)
	}
	w := f.follow(t, "/v1/locks/y?hold")
	w.want("waiting 1")
	f.s.StartDraining()
	c.want("lost draining")
	if got := w.next(); strings.HasPrefix(got, "acquired ") { // what c gave back was w's for a moment
		w.want("lost draining")
	} else if got != "failed draining" {
		t.Fatalf("w: %s", got)
	}
	if r := f.send("POST", "/v1/locks/z?wait=1s", ""); r.code() != "draining" {
		t.Errorf("while draining: %s", r.body)
	}
}

// TestWaitEndsWithSession: a session that ends while waiting gets an error, at once.
func TestWaitEndsWithSession(t *testing.T) {
	f := newFixture(t)
	f.follow(t, "/v1/locks/x?hold").want("acquired 2")
	w := f.follow(t, "/v1/locks/x?hold")
	w.want("waiting 1")
	f.must("DELETE", "/v1/sessions/s-3", "")
	w.want("failed session_expired")
	f.until(t, "/v1/locks/x", `"waiters":[]`)
}

// TestHoldKeepsAlive: who holds, and who waits, is kept alive by that.
func TestHoldKeepsAlive(t *testing.T) {
	f := newFixture(t)
	a := f.follow(t, "/v1/locks/x?hold&ttl=4s")
	a.want("acquired 2")
	a.in.ReadBytes('\n') // alive
	f.must("GET", "/v1/sessions/s-1", "")
}

// TestHoldElection: an election is held the same way.
func TestHoldElection(t *testing.T) {
	f := newFixture(t)
	a := f.follow(t, "/v1/elections/boss?hold&candidate=a")
	a.want("elected 3")
	b := f.follow(t, "/v1/elections/boss?hold&candidate=b")
	b.want("waiting 1")
	c := f.follow(t, "/v1/elections/boss?hold&candidate=c")
	c.want("waiting 2")
	f.must("POST", "/v1/elections/boss/transfer?to=c", "")
	a.want("lost broken")
	if got := c.next(); !strings.HasPrefix(got, "elected ") {
		t.Fatalf("c: %s", got)
	}
	f.until(t, "/v1/elections/boss", `"candidate":"c"`)
	b.want("waiting 1")
	c.conn.Close()
	if got := b.next(); !strings.HasPrefix(got, "elected ") {
		t.Fatalf("b: %s", got)
	}
	done, since := make(chan *response), f.term()
	go func() { done <- f.send("GET", "/v1/elections/boss?wait=10m&since="+since, "") }()
	b.conn.Close()
	if r := <-done; !strings.Contains(string(r.body), `"leader":null`) {
		t.Errorf("observed %s", r.body)
	}
}

// term returns the present term of the election boss.
func (f *fixture) term() string {
	var e struct{ Leader struct{ Term string } }
	json.Unmarshal(f.must("GET", "/v1/elections/boss", "").body, &e)
	return e.Leader.Term
}
