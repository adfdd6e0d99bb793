package api

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

// TestBadInput sends what no client of good will sends. Each gets a 4xx or the end of its connection, and the next one is
// served as if nothing had been.
func TestBadInput(t *testing.T) {
	f := newFixture(t, func(c *Config) {
		c.Limits.BodyTimeout, c.Limits.HeaderTimeout = 100*time.Millisecond, 200*time.Millisecond
	})
	const get, put = "GET /v1/nodes/ HTTP/1.1\r\n", "PUT /v1/nodes/a HTTP/1.1\r\n"
	const host = "Host: localhost\r\n"
	for name, wire := range map[string]string{
		"path too long":            "GET /v1/nodes/" + strings.Repeat("a", 1<<20) + " HTTP/1.1\r\n" + host + "\r\n",
		"path of many segments":    "GET /v1/nodes" + strings.Repeat("/a", 4000) + " HTTP/1.1\r\n" + host + "\r\n",
		"path with a NUL":          "GET /v1/nodes/%00 HTTP/1.1\r\n" + host + "\r\n",
		"path with a raw NUL":      "GET /v1/nodes/\x00 HTTP/1.1\r\n" + host + "\r\n",
		"path that goes up":        "GET /v1/nodes/../../etc/passwd HTTP/1.1\r\n" + host + "\r\n",
		"path that goes up, coded": "GET /v1/nodes/%2e%2e/x HTTP/1.1\r\n" + host + "\r\n",
		"slash in a name":          "PUT /v1/nodes/a%2fb HTTP/1.1\r\n" + host + "\r\n",
		"broken percent":           "GET /v1/nodes/%zz HTTP/1.1\r\n" + host + "\r\n",
		"trailing slash":           "PUT /v1/nodes/a/ HTTP/1.1\r\n" + host + "\r\n",
		"resource in capitals":     "GET /V1/NODES/a HTTP/1.1\r\n" + host + "\r\n",
		"header too large":         get + host + "X: " + strings.Repeat("x", 1<<20) + "\r\n\r\n",
		"too many headers":         get + host + strings.Repeat("X: y\r\n", 10_000) + "\r\n",
		"no host":                  get + "\r\n",
		"two hosts":                get + host + host + "\r\n",
		"empty host":               get + "Host:\r\n\r\n",
		"host in the target":       "PUT http://evil.example.com/v1/nodes/a HTTP/1.1\r\n" + host + "Content-Length: 1\r\n\r\nx",
		"method too long":          strings.Repeat("M", 100_000) + " /v1/nodes/ HTTP/1.1\r\n" + host + "\r\n",
		"session in a trailer": "PUT /v1/nodes/a?ephemeral HTTP/1.1\r\n" + host +
			"Transfer-Encoding: chunked\r\nTrailer: Coord-Session\r\n\r\n1\r\nx\r\n0\r\nCoord-Session: s-1\r\n\r\n",
		"key too long":             put + host + "Idempotency-Key: " + strings.Repeat("k", 1000) + "\r\nContent-Length: 1\r\n\r\nx",
		"poll without an end":      "GET /v1/watch/?wait=9e99h HTTP/1.1\r\n" + host + "\r\n",
		"level given twice":        get + host + "Coord-Consistency: linearizable\r\nCoord-Consistency: eventual\r\n\r\n",
		"bad host":                 get + "Host: a b\r\n\r\n",
		"two lengths":              put + host + "Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
		"length and chunks":        put + host + "Content-Length: 9\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
		"negative length":          put + host + "Content-Length: -1\r\n\r\n",
		"length beyond 64 bits":    put + host + "Content-Length: 99999999999999999999\r\n\r\n",
		"length beyond the limit":  put + host + "Content-Length: 99999999999\r\n\r\n",
		"chunk of bad size":        put + host + "Transfer-Encoding: chunked\r\n\r\nzz\r\nx\r\n0\r\n\r\n",
		"chunk too large":          put + host + "Transfer-Encoding: chunked\r\n\r\n7fffffffffffffff\r\nx",
		"folded header":            get + host + "X: a\r\n b\r\n\r\n",
		"header without a name":    get + host + ": x\r\n\r\n",
		"header with a NUL":        get + host + "X: a\x00b\r\n\r\n",
		"HTTP/0.9":                 "GET /v1/nodes/\r\n",
		"HTTP/9.9":                 "GET /v1/nodes/ HTTP/9.9\r\n" + host + "\r\n",
		"not HTTP":                 "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
		"unknown method":           strings.Repeat("M", 64) + " /v1/nodes/ HTTP/1.1\r\n" + host + "\r\n",
		"TRACE":                    "TRACE /v1/nodes/ HTTP/1.1\r\n" + host + "\r\n",
		"CONNECT":                  "CONNECT localhost:80 HTTP/1.1\r\n" + host + "\r\n",
		"OPTIONS *":                "OPTIONS * HTTP/1.1\r\n" + host + "X: y\r\n\r\n",
		"body with GET":            get + host + "Content-Length: 2\r\n\r\n{}",
		"body with HEAD":           "HEAD /v1/nodes/ HTTP/1.1\r\n" + host + "Content-Length: 2\r\n\r\n{}",
		"body with DELETE":         "DELETE /v1/nodes/a HTTP/1.1\r\n" + host + "Content-Length: 2\r\n\r\n{}",
		"gzip":                     put + host + "Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\nxx",
		"multipart":                put + host + "Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 2\r\n\r\nxx",
		"body that stops":          put + host + "Content-Length: 10\r\n\r\nabc",
		"continue never followed":  put + host + "Content-Length: 10\r\nExpect: 100-continue\r\n\r\n",
		"unknown expectation":      put + host + "Content-Length: 1\r\nExpect: miracles\r\n\r\nx",
		"JSON too deep":            jsonRequest(strings.Repeat("[", 100_000)),
		"JSON with trailing data":  jsonRequest(`{"ops":[]} {}`),
		"JSON with twins":          jsonRequest(`{"ops":[],"ops":[]}`),
		"JSON in UTF-16":           jsonRequest("\xff\xfe{\x00}\x00"),
		"JSON with a BOM":          jsonRequest("\xef\xbb\xbf{}"),
		"JSON with huge numbers":   jsonRequest(`{"ops":[{"op":"set","path":"/","version":18446744073709551616}]}`),
		"query with a semicolon":   "GET /v1/nodes/?a;b HTTP/1.1\r\n" + host + "\r\n",
		"negative limit":           "GET /v1/nodes/?children&limit=-1 HTTP/1.1\r\n" + host + "\r\n",
		"huge limit":               "GET /v1/nodes/?children&limit=1000000000 HTTP/1.1\r\n" + host + "\r\n",
		"hexadecimal zxid":         "GET /v1/watch/?since=0x1 HTTP/1.1\r\n" + host + "\r\n",
		"zxid beyond 63 bits":      "GET /v1/watch/?since=9223372036854775808 HTTP/1.1\r\n" + host + "\r\n",
		"method override":          "POST /v1/nodes/a HTTP/1.1\r\n" + host + "X-HTTP-Method-Override: DELETE\r\n\r\n",
		"unknown level":            "GET /v1/nodes/?consistency=maybe HTTP/1.1\r\n" + host + "\r\n",
		"unknown timeout":          "GET /v1/nodes/?timeout=-1 HTTP/1.1\r\n" + host + "\r\n",
		"h2c preface":              "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"escape in a header value": get + host + "Coord-Session: s-1\x1b[2J\r\n\r\n",
		"session id of 16 digits":  put + host + "Coord-Session: s-ffffffffffffffff\r\n\r\n",
		"master of all sessions":   put + host + "Coord-Session: s-0\r\nCoord-Session-Secret: AAAAAAAAAAAAAAAAAAAAAA\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			switch status := f.raw(wire); {
			case status == 0, status >= 400 && status < 500, status == byNetHTTP[name]:
			default:
				t.Errorf("answered %d", status)
			}
			eventually(t, "an answer to the next one", func() bool { // which is too late itself if the machine pauses
				return f.raw("GET /livez HTTP/1.1\r\n"+host+"\r\n") == http.StatusOK
			})
		})
	}
	patient := newFixture(t, func(c *Config) { c.Backend = f.m })
	if r := patient.send("GET", "/v1/nodes/?children", ""); !strings.Contains(string(r.body), `"children":[{"name":"zookeeper"}]`) {
		t.Errorf("something was written: %s", r.body)
	}
}

// byNetHTTP is what net/http says by itself to some of it.
var byNetHTTP = map[string]int{
	"HTTP/9.9": 505, "h2c preface": 505, "length and chunks": 501,
	"folded header": 200, // as RFC 9112 allows: the fold is a space
}

func jsonRequest(body string) string {
	return fmt.Sprintf("POST /v1/txn HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}

// raw sends bytes as they are and returns the status of the answer, 0 if there is none.
func (f *fixture) raw(wire string) int {
	f.t.Helper()
	conn, err := net.Dial("tcp", f.addr)
	if err != nil {
		f.t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(wsPatience))
	go io.WriteString(conn, wire)
	br := bufio.NewReader(conn)
	for {
		resp, err := http.ReadResponse(br, nil)
		if os.IsTimeout(err) {
			f.t.Error("neither an answer nor the end of the connection")
		}
		if err != nil {
			return 0
		}
		if resp.StatusCode != http.StatusContinue { // the body is of no interest, and after HEAD there is none
			return resp.StatusCode
		}
	}
}

// TestBadAnswersAreProblems: where the door itself answers, it does so in its own form.
func TestBadAnswersAreProblems(t *testing.T) {
	f := newFixture(t)
	for _, test := range []struct {
		request, code string
		status        int
	}{
		{"GET /v1/nodes/a//b", "bad_path", 400},
		{"PUT /v1/nodes/a%2fb\n\nx", "bad_path", 400},
		{"PUT /v1/nodes/a\nContent-Encoding: gzip\n\nx", "bad_request", 415},
		{"PUT /v1/nodes/a\nContent-Type: multipart/form-data\n\nx", "bad_request", 415},
		{"GET /v1/nodes/a\n\nx", "bad_request", 400},
		{"PUT /v1/nodes/a\nContent-Length: 9999999\n\nx", "too_large", 413},
		{"PUT /v1/nodes/a\n\n" + strings.Repeat("x", 2<<20), "too_large", 413},
		{"BREW /v1/nodes/a", "unsupported", 405},
		{"GET /v1/sessions/", "unsupported", 404},
		{"GET /v1/sessions/%2F", "bad_path", 400},
		{"GET /", "unsupported", 404},
	} {
		r := f.exchange(test.request)
		if r.StatusCode != test.status || r.code() != test.code {
			t.Errorf("%.60q: %s %s, want %d %s", test.request, r.Status, r.code(), test.status, test.code)
		}
	}
}

// TestWhatToDoNext: where a code alone would give advice that is beside the point, the hint is about what happened.
func TestWhatToDoNext(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.Limits.BodyTimeout = 50 * time.Millisecond })
	for request, want := range map[string]string{
		"GET /v1/nodes/\nHost: evil.example.com":           "--allow-host",
		"PUT /v1/nodes/a\nOrigin: http://evil.example.com": "--allow-origin",
		"PUT /v1/nodes/a\nContent-Encoding: gzip\n\nx":     "without Content-Encoding",
		"PUT /v1/nodes/a\nContent-Type: multipart/x\n\nx":  "--data-binary",
		"PUT /v1/nodes/a\nContent-Length: 9\n\nx":          "--body-timeout",
		"GET /debug/pprof/\nX-Forwarded-For: 10.1.2.3":     "on that machine",
		"GET /v1/nonsense":   "/openapi.json",
		"GET /v1/nodes/?a;b": "%3B",
		"GET /v1/locks/..":   "a lock",
		"DELETE /v1/nodes/":  "what detail says",
	} {
		r := f.exchange(request)
		var p problem
		if err := json.Unmarshal(r.body, &p); err != nil || !strings.Contains(p.Hint, want) {
			t.Errorf("%.60q: %s, hint %q", request, r.Status, p.Hint)
		}
	}
}

// TestInstead: who is nearly right is told what is.
func TestInstead(t *testing.T) {
	f := newFixture(t)
	for request, want := range map[string]string{
		"GET /":                            "/v1/nodes, ",
		"GET /v1":                          "/v1/nodes, ",
		"GET /v1/":                         "/v1/nodes, ",
		"GET /v1/node/app":                 "/v1/nodes/app",
		"GET /nodes/app":                   "/v1/nodes/app",
		"GET /v1/NODES/app":                "/v1/nodes/app",
		"GET /v1/kv/app":                   "/v1/nodes/app",
		"GET /v1/leader":                   "/v1/cluster/leader",
		"GET /healthz":                     "/readyz",
		"GET /v1/health":                   "/livez",
		"GET /v1/locks/n/renwe":            "/v1/locks/{id}/renew",
		"GET /v1/zzzz/" + longName:         "There are /livez",
		"GET /v1/node/" + longName:         "There are /livez",
		"PUT /v1/config/shop/limit":        `PUT /v1/config/shop?merge with {"values":{"limit"`,
		"PUT /v1/nodes/q?sequence=job-":    "sequence: belongs to POST, not to PUT",
		"GET /v1/nodes/q?parents":          "parents: belongs to PUT and POST",
		"GET /v1/queues/q?priority=3":      "priority: belongs to POST /v1/queues/{id}/items, not to this request",
		"GET /v1/barriers/b/round?min=3":   "min: there is no such parameter here, but consistency, max",
		"POST /v1/locks/n?timeout=30s":     "did you mean wait?",
		"POST /v1/locks/n?zzz=30s":         "there is no such parameter here, but at_least, delay, hold, ",
		"DELETE /v1/nodes/q?recurse":       "did you mean recursive?",
		"GET /v1/cluster?verbose":          "there are no parameters here",
		"GET /v1/nodes/q?children&depth=1": "depth: needs another",
	} {
		r := f.exchange(request)
		var p problem
		if err := json.Unmarshal(r.body, &p); err != nil || !strings.Contains(p.Detail+" "+p.Hint, want) {
			t.Errorf("%.60q: %s, %s, hint %q", request, r.Status, p.Detail, p.Hint)
		}
	}
	if r := f.send("GET", "/v1/nodes/?children=1", ""); strings.Count(string(r.body), `"reason"`) != 1 {
		t.Errorf("one mistake is told as several: %s", r.body)
	}
}

var longName = strings.Repeat("a", 1000)
