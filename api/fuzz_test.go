package api

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/coord-kv/coord/op"
)

// FuzzRequest sends any request through the whole door. Whatever it is, the answer is no 5xx but those that say to try
// elsewhere or later, it is as the API is described, and the member still works.
func FuzzRequest(f *testing.F) {
	for _, s := range []string{
		"GET /v1/nodes/a?consistency=bounded&max=1s HTTP/1.1\nHost: localhost\nCoord-Min-Zxid: 0\n\n",
		"PUT /v1/nodes/a?parents&ttl=1s&acl=world:anyone:r HTTP/1.1\nHost: localhost\nIdempotency-Key: k\nContent-Length: 1\n\nx",
		"PUT /v1/nodes/a?version=0 HTTP/1.1\nHost: localhost\nIf-Match: \"1.0\"\nCoord-Fencing-Token: a=1, term:/b=2\n\n",
		"POST /v1/nodes/a?sequence=x&ephemeral HTTP/1.1\nHost: localhost\nCoord-Session: s-1\nCoord-Session-Secret: AAAAAAAAAAAAAAAAAAAAAA\n\n",
		"GET /v1/watch/?since=0&wait=1ms HTTP/1.1\nHost: 127.0.0.1:7070\nPrefer: wait=0\n\n",
		"DELETE /v1/nodes/a?recursive HTTP/1.1\nHost: [::1]\nAuthorization: Basic YTpi\n\n",
		"PUT /v1/nodes/a?acl HTTP/1.1\nHost: localhost\nContent-Length: 10\n\n{\"acl\":[]}",
		"POST /v1/sessions HTTP/1.1\nHost: localhost\nOrigin: http://evil\nContent-Length: 2\n\n{}",
		"GET /readyz?verbose HTTP/1.0\n\n",
	} {
		f.Add([]byte(strings.ReplaceAll(s, "\n", "\r\n")))
	}
	door := newFuzzedDoor(f)
	f.Fuzz(func(t *testing.T, wire []byte) { door.ask(t, wire) })
}

// FuzzQuery gives every operation any query. The same holds as for any request.
func FuzzQuery(f *testing.F) {
	door := newFuzzedDoor(f)
	for i, s := range []string{
		"raw", "children&stat&data&limit=2&after=a", "depth=1", "consistency=bounded&max=500ms", "version=-1&parents&ttl=1s&container",
		"acl=world:anyone:cdrwa&acl=ip:::1:r", "sequence=job-&ephemeral=true", "recursive=false", "since=0&wait=1ms", "children&initial",
		"hold&wait=1ms&ttl=5s&owner=me&shared", "limit=3&metadata=%00&at_least=1s", "token=1&force", "verbose&leader", "name=a&ttl=1h",
		"after", "after=", "a=%zz", "a;b", "&&=&", "limit=1e9", "limit=-1", "since=0x1", "wait=9e99h", "timeout=-1", "version=9007199254740993", "raw&raw",
		"consistency=maybe", "%ff=%ff", "passing&tag=a", "priority=-1&value=x", "at=9&key=a&author=me", "count=2&by=-1&max=1",
	} {
		f.Add(uint8(i), s)
	}
	f.Fuzz(func(t *testing.T, which uint8, query string) {
		rt := door.routes[int(which)%len(door.routes)]
		target := regexp.MustCompile(`\{[^}]*\}`).ReplaceAllString(rt.pattern, "a") + "?" + query
		if strings.ContainsAny(target, " \r\n") || rt.name == "profile" {
			return // that is the end of the request's line; and a profile takes its time
		}
		body := ""
		if rt.body == jsonBody {
			body = "{}"
		}
		door.ask(t, fmt.Appendf(nil, "%s %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s", rt.method, target, len(body), body))
	})
}

// fuzzedDoor is a server that is asked anything.
type fuzzedDoor struct {
	s      *Server
	routes []route
}

func newFuzzedDoor(f *testing.F) *fuzzedDoor {
	s, err := New(Config{Backend: newMember(), Name: "n1", Limits: Limits{RequestTimeout: time.Second, PollMax: 5 * time.Millisecond}})
	if err != nil {
		f.Fatal(err)
	}
	return &fuzzedDoor{s, s.routes()}
}

// ask sends what it takes for a request.
func (d *fuzzedDoor) ask(t *testing.T, wire []byte) {
	req, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(wire)))
	if err != nil {
		return
	}
	body, err := io.ReadAll(req.Body)
	if err != nil || strings.Contains(req.Header.Get("Accept"), "event-stream") {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	req = req.WithContext(ctx)
	req.Body, req.RemoteAddr = io.NopCloser(bytes.NewReader(body)), "192.0.2.1:1234"
	w := httptest.NewRecorder()
	d.s.Handler().ServeHTTP(w, req)
	resp := w.Result()
	if resp.StatusCode == 500 || resp.StatusCode == 501 {
		t.Fatalf("%q is answered %d:\n%s", wire, resp.StatusCode, w.Body)
	}
	req.Body = nil
	conform(t, d.s, req, body, resp, w.Body.Bytes())
}

// FuzzHeaders gives the small parsers of headers and parameters anything. What they accept means what it says.
func FuzzHeaders(f *testing.F) {
	for _, s := range []string{
		"linearizable", "bounded; max=500ms", "bounded;max=9e99h", `4294967311.0`, "1.-2", "nightly=41", "term:/a=1", "%41=1,b=2",
		"wait=30", "respond-async, wait=10", "world:anyone:r", "ip:::1:cdrwa", "digest:ann:hash=:rw",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if level, age, why := parseConsistency(s); why == "" && (level == op.Bounded) != (age > 0) {
			t.Errorf("%q is %s of %s", s, level, age)
		}
		if c, ok := parseETag(s); ok && (&op.Stat{Mzxid: c.Mzxid, Version: c.Version}).ETag() != s {
			t.Errorf("%q is read as %+v", s, c)
		}
		if check, why := parseFence(s); why == "" {
			checkFence(t, s, check)
		}
		if wait, ok := preferredWait([]string{s}); ok && wait < 0 {
			t.Errorf("%q waits %s", s, wait)
		}
		if a, ok := parseACLEntry(s); ok && (strings.Contains(a.Scheme, ":") || a.Perms&^op.AllPerm != 0) {
			t.Errorf("%q is %+v", s, a)
		}
		if hash, ok := hashSecret(s); ok && hash == (op.Hash{}) {
			t.Errorf("%q has no hash", s)
		}
	})
}

func checkFence(t *testing.T, s string, check op.Op) {
	var dir string
	var token op.Zxid
	switch x := check.(type) {
	case *op.Holder:
		dir, token = x.Dir, x.Token
	case *op.Term:
		dir, token = x.Dir, x.Token
	}
	if op.CheckPath(dir) != nil || token == 0 {
		t.Errorf("%q asks for %q, %d", s, dir, token)
	}
}
