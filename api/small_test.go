package api

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

// TestHoldBarrier: a double barrier is entered by connections, and left when they end.
func TestHoldBarrier(t *testing.T) {
	f := newFixture(t)
	a := f.follow(t, "/v1/barriers/step/enter?count=2&hold")
	f.until(t, "/v1/barriers/step/round", `"members":1`)
	b := f.follow(t, "/v1/barriers/step/enter?count=2&hold")
	a.want("entered")
	b.want("entered")
	f.until(t, "/v1/barriers/step/round", `"round":`)
	done := make(chan *response, 1)
	go func() { done <- f.send("POST", "/v1/barriers/step/enter?count=1&wait=10m", "") }() // of the next round
	a.conn.Close()
	f.until(t, "/v1/barriers/step/round", `"members":1`)
	b.conn.Close()
	r := <-done
	var in struct{ Session, Secret string }
	if json.Unmarshal(r.body, &in); r.StatusCode != 201 || in.Secret == "" {
		t.Fatalf("%s %s", r.Status, r.body)
	}
	r = f.must("POST", "/v1/barriers/step/leave", "", "Coord-Session: "+in.Session, "Coord-Session-Secret: "+in.Secret)
	if !strings.Contains(string(r.body), `"over":true`) {
		t.Errorf("%s", r.body)
	}
	f.until(t, "/v1/sessions", `"sessions":[]`)
}

// TestWaiting: who waits for a barrier or a latch is answered when it comes to that.
func TestWaiting(t *testing.T) {
	f := newFixture(t)
	f.must("PUT", "/v1/barriers/upgrade", "")
	f.must("PUT", "/v1/latches/loaded?count=1", "")
	done := make(chan *response, 2)
	go func() { done <- f.send("GET", "/v1/barriers/upgrade?wait=10m", "") }()
	go func() { done <- f.send("GET", "/v1/latches/loaded?wait=10m", "") }()
	time.Sleep(10 * time.Millisecond) // so that they usually wait; the answer is the same if not
	f.must("DELETE", "/v1/barriers/upgrade", "")
	f.must("POST", "/v1/latches/loaded?id=a", "")
	for range 2 {
		r := <-done
		if body := string(r.body); !strings.Contains(body, `"closed":false`) && !strings.Contains(body, `"open":true`) {
			t.Errorf("%s", body)
		}
	}
}

// TestHoldMembership: a member is there as long as its connection.
func TestHoldMembership(t *testing.T) {
	f := newFixture(t)
	a := f.followed(t, "PUT", "/v1/groups/workers/members/a?hold")
	a.want("joined")
	b := f.followed(t, "PUT", "/v1/groups/workers/members/b?hold")
	b.want("joined")
	f.until(t, "/v1/groups/workers", `"id":"b"`)
	a.conn.Close()
	f.until(t, "/v1/groups/workers", `"members":[{"id":"b"`)
	f.must("DELETE", "/v1/groups/workers/members/b", "")
	b.want("lost broken")
	b.want("EOF")
	if r := f.send("PUT", "/v1/groups/a%00/members/b?hold", ""); r.code() != "bad_path" {
		t.Errorf("%s", r.body)
	}
	f.until(t, "/v1/sessions", `"sessions":[]`)
}

// TestItemLease: an item that is received without a session is returned when its lease ends, which it does at the end of
// the receipt at the latest; who goes away while it waits leaves nothing behind.
func TestItemLease(t *testing.T) {
	f := newFixture(t)
	f.must("POST", "/v1/queues/jobs/items", "one")
	receive := func() (in struct{ Session, Secret, Renew, Ack, Data string }) {
		t.Helper()
		r := f.must("POST", "/v1/queues/jobs/receive?ttl=30s&wait=10m", "")
		json.Unmarshal(r.body, &in)
		return in
	}
	first := receive()
	f.must("PUT", first.Renew, "", "Coord-Session-Secret: "+first.Secret)
	if r := f.must("POST", "/v1/queues/jobs/receive", ""); r.StatusCode != 204 {
		t.Errorf("received twice: %s", r.body)
	}
	f.must("DELETE", "/v1/sessions/"+first.Session, "", "Coord-Session-Secret: "+first.Secret)
	again := receive()
	if again.Data != "one" || again.Ack == first.Ack {
		t.Errorf("after %+v came %+v", first, again)
	}
	if r := f.send("DELETE", first.Ack, ""); r.code() != "not_holder" {
		t.Errorf("%s", r.body)
	}
	f.must("DELETE", again.Ack, "")
	w := f.follow(t, "/v1/queues/jobs/receive?wait=10m")
	f.until(t, "/v1/sessions", `"id":`)
	w.conn.Close()
	f.until(t, "/v1/sessions", `"sessions":[]`)
	f.until(t, "/v1/queues/jobs", `"length":0`)
}

// TestOnceLease: a run that is begun without a session lives by a lease, which ends with it; who has nothing to do leaves
// nothing behind.
func TestOnceLease(t *testing.T) {
	f := newFixture(t)
	var in struct {
		Begun                         bool
		State, Session, Secret, Renew string
	}
	begin := func() {
		t.Helper()
		in.State = ""
		json.Unmarshal(f.must("POST", "/v1/once/report?every=23h&ttl=30s", "").body, &in)
	}
	finish := func(how string) {
		t.Helper()
		f.must("POST", "/v1/once/report/"+how, "", "Coord-Session: "+in.Session, "Coord-Session-Secret: "+in.Secret)
		f.until(t, "/v1/sessions", `"sessions":[]`)
	}
	begin()
	first := in
	f.must("PUT", first.Renew, "", "Coord-Session-Secret: "+first.Secret)
	if begin(); in.Begun || in.State != "running" {
		t.Errorf("beside a run: %+v", in)
	}
	if list := f.must("GET", "/v1/sessions", ""); strings.Count(string(list.body), `"id":`) != 1 {
		t.Errorf("one run, and %s", list.body)
	}
	f.must("DELETE", "/v1/sessions/"+first.Session, "", "Coord-Session-Secret: "+first.Secret)
	begin()
	if !in.Begun || in.Session == first.Session {
		t.Errorf("after the end of a lease: %+v", in)
	}
	finish("fail")
	if begin(); !in.Begun {
		t.Errorf("after a failure: %+v", in)
	}
	finish("end?status=ok")
	if begin(); in.Begun || in.State != "done" {
		t.Errorf("after a run: %+v", in)
	}
	f.until(t, "/v1/sessions", `"sessions":[]`)
}

// Every answer says how long it is, whoever counts it.
func TestContentLength(t *testing.T) {
	f := newFixture(t)
	for _, n := range []int{0, 1, countedBody - 1, countedBody, countedBody + 1, 3 * countedBody} {
		f.must("PUT", "/v1/nodes/a", strings.Repeat("x", n))
		for _, method := range []string{"GET", "HEAD"} {
			if r := f.must(method, "/v1/nodes/a?raw", ""); r.ContentLength != int64(n) || method == "GET" && len(r.body) != n {
				t.Errorf("%s of %d bytes: %d are announced, %d come", method, n, r.ContentLength, len(r.body))
			}
		}
	}
}
