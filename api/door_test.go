package api

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/coord-kv/coord/fsm"
	"github.com/coord-kv/coord/op"
)

// TestMain looks for goroutines that a test has left behind.
func TestMain(m *testing.M) {
	code := m.Run()
	if left := leftovers(); code == 0 && left != "" {
		fmt.Fprintf(os.Stderr, "goroutines were left behind:\n%s\n", left)
		code = 1
	}
	os.Exit(code)
}

// leftovers returns the stacks of goroutines of this package or of net/http's server that don't end.
func leftovers() string {
	var left []string
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		buf := make([]byte, 1<<20)
		left = left[:0]
		for _, g := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n")[1:] {
			if strings.Contains(g, "coord/api.") || strings.Contains(g, "net/http.(*conn)") {
				left = append(left, g)
			}
		}
		if len(left) == 0 {
			return ""
		}
	}
	return strings.Join(left, "\n\n")
}

// TestEveryAnswer: what all answers have in common.
func TestEveryAnswer(t *testing.T) {
	f := newFixture(t)
	for _, target := range []string{"/v1/nodes/", "/v1/nodes/nope", "/v1/cluster", "/nonsense", "/readyz", "/v1/nodes//", "/metrics"} {
		r := f.send("GET", target, "")
		for name, want := range map[string]string{
			"Coord-Served-By": "n1", "Coord-Leader": "n1", "X-Content-Type-Options": "nosniff", "Cache-Control": "no-cache",
		} {
			if got := r.Header.Get(name); got != want {
				t.Errorf("GET %s: %s is %q, not %q", target, name, got, want)
			}
		}
	}
	if f.m.asked > 10 {
		t.Errorf("the member was asked %d times for its status", f.m.asked)
	}
}

// TestHosts: a request must name this server, as a page that was made to point here would not.
func TestHosts(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.AllowedHosts = []string{"coord.example.com", "10.0.0.9"} })
	for host, want := range map[string]int{
		"localhost": 200, "localhost:7070": 200, "LOCALHOST.": 200, "web.localhost:1": 200, "127.0.0.1:7070": 200, "127.1.2.3": 200,
		"[::1]:7070": 200, "[::1]": 200, "coord.example.com": 200, "Coord.Example.com.:443": 200, "10.0.0.9:7070": 200,
		"evil.example.com": 421, "10.0.0.8": 421, "example.com": 421, "localhost.evil.com": 421, "127.0.0.1.evil.com": 421,
		"[fe80::1]": 421, "coord.example.com.evil": 421, "0.0.0.0": 421,
	} {
		for _, target := range []string{"/v1/nodes/", "/livez", "/metrics", "/openapi.json", "/v1/watch/?wait=0s"} {
			if r := f.send("GET", target, "", "Host: "+host); r.StatusCode != want || want == 421 && r.code() != "denied" {
				t.Errorf("Host %s, %s: %s %s", host, target, r.Status, r.body)
			}
		}
	}
	any := newFixture(t, func(c *Config) { c.AllowedHosts = []string{"*"} })
	any.must("GET", "/v1/nodes/", "", "Host: evil.example.com")
}

// TestOrigins: a page of another origin can read nothing (it gets no CORS header) and change nothing.
func TestOrigins(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.AllowedOrigins = []string{"https://console.example.com"} })
	for _, test := range []struct {
		method, headers string
		want            int
	}{
		{"PUT", "", 201},
		{"PUT", "Origin: http://localhost", 200},
		{"PUT", "Origin: https://console.example.com", 200},
		{"PUT", "Sec-Fetch-Site: same-origin", 200},
		{"PUT", "Sec-Fetch-Site: none", 200},
		{"PUT", "Origin: http://evil.example.com", 403},
		{"PUT", "Origin: null", 403},
		{"PUT", "Sec-Fetch-Site: cross-site", 403},
		{"DELETE", "Sec-Fetch-Site: same-site", 403},
		{"GET", "Origin: http://evil.example.com", 200},
	} {
		var headers []string
		if test.headers != "" {
			headers = append(headers, test.headers)
		}
		r := f.send(test.method, "/v1/nodes/a", "", headers...)
		if r.StatusCode != test.want {
			t.Errorf("%s with %q: %s", test.method, test.headers, r.Status)
		}
		if r.Header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s with %q: other origins may read", test.method, test.headers)
		}
	}
	if _, err := New(Config{Backend: f.m, Name: "n", AllowedOrigins: []string{"not an origin"}}); err == nil {
		t.Error("an origin that is none was taken")
	}
}

// TestSlowBody: somebody who sends nothing is told so in time, and holds nothing of the others' room meanwhile.
func TestSlowBody(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.Limits.BodyTimeout, c.Limits.BodyBytes = 200*time.Millisecond, 100 })
	conn, err := net.Dial("tcp", f.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, "PUT /v1/nodes/slow HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\nab")
	f.must("PUT", "/v1/nodes/quick", strings.Repeat("x", 90))
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || resp.StatusCode != http.StatusRequestTimeout {
		t.Fatalf("%v, %v", resp, err)
	}
	resp.Body.Close()
}

// TestBodyBudget: what all bodies may hold together is bounded.
func TestBodyBudget(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.Limits.BodyBytes = 100 })
	if r := f.send("PUT", "/v1/nodes/a", strings.Repeat("x", 101)); r.code() != "overloaded" {
		t.Errorf("%s %s", r.Status, r.body)
	}
	for range 5 {
		f.must("PUT", "/v1/nodes/a", strings.Repeat("x", 100))
	}
	if held := f.s.bodies.Load(); held != 0 {
		t.Errorf("%d bytes are still counted", held)
	}
}

// TestSlowHeader: a connection that never says what it wants is closed.
func TestSlowHeader(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.Limits.HeaderTimeout = 50 * time.Millisecond })
	conn, err := net.Dial("tcp", f.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, "GET /v1/nodes/ HTTP/1.1\r\nHost: local")
	conn.SetReadDeadline(time.Now().Add(wsPatience))
	if _, err := io.ReadAll(conn); err != nil {
		t.Errorf("the connection was not closed: %v", err)
	}
}

// TestConnectionLimits: those that are too many are told so, and closed ones make room.
func TestConnectionLimits(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.Limits.Conns, c.Limits.ConnsPerIP = 10, 3 })
	dial := func() net.Conn {
		conn, err := net.Dial("tcp", f.addr)
		if err != nil {
			t.Fatal(err)
		}
		return conn
	}
	ask := func(conn net.Conn) int {
		io.WriteString(conn, "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			return 0
		}
		io.Copy(io.Discard, resp.Body)
		return resp.StatusCode
	}
	var open []net.Conn
	for range 3 {
		open = append(open, dial())
		if status := ask(open[len(open)-1]); status != 200 {
			t.Fatalf("status %d", status)
		}
	}
	extra := dial()
	if status := ask(extra); status != 503 && status != 0 { // 0: reset before the answer was read
		t.Errorf("the fourth connection got %d", status)
	}
	extra.Close()
	if got := testutil.ToFloat64(f.s.metrics.connections); got != 3 {
		t.Errorf("%v connections are counted", got)
	}
	if got := testutil.ToFloat64(f.s.metrics.rejected.WithLabelValues("connections")); got != 1 {
		t.Errorf("%v were counted as turned away", got)
	}
	open[0].Close()
	eventually(t, "room for a connection", func() bool {
		conn := dial()
		defer conn.Close()
		return ask(conn) == 200
	})
	for _, conn := range open {
		conn.Close()
	}
}

// eventually waits for something that another goroutine is about to bring about.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(wsPatience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if is() {
			return
		}
	}
	t.Fatalf("there never was %s", what)
}

// TestRequestLimit: with as many requests at work as may be, others are refused, and probes are not.
func TestRequestLimit(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.Limits.Requests = 1 })
	f.m.tell(func() { f.m.lagging = true })
	f.must("PUT", "/v1/nodes/a", "x")
	done := make(chan *response)
	go func() { done <- f.send("GET", "/v1/nodes/a", "") }() // waits for the member to catch up
	eventually(t, "a request at work", func() bool { return f.s.requests.Load() == 1 })
	if r := f.send("GET", "/v1/nodes/a?consistency=eventual", ""); r.code() != "overloaded" || r.Header.Get("Retry-After") == "" {
		t.Errorf("%s %s", r.Status, r.body)
	}
	f.must("GET", "/readyz", "")
	f.must("GET", "/metrics", "")
	f.m.tell(func() { f.m.lagging = false })
	if r := <-done; r.StatusCode != 200 {
		t.Errorf("%s %s", r.Status, r.body)
	}
}

// TestDraining: probes fail, requests are served, connections are not kept; then Serve ends.
func TestDraining(t *testing.T) {
	f := newFixture(t)
	f.s.StartDraining()
	f.s.StartDraining()
	if r := f.send("GET", "/readyz?verbose", ""); r.StatusCode != 503 || !strings.Contains(string(r.body), "[-] serving: shutting down") {
		t.Errorf("%s\n%s", r.Status, r.body)
	}
	f.must("GET", "/livez", "")
	if r := f.must("PUT", "/v1/nodes/a", "x"); !r.Close {
		t.Error("the connection is kept")
	}
	if r := f.send("GET", "/v1/watch/", "", "Accept: text/event-stream"); r.code() != "draining" {
		t.Errorf("%s\n%s", r.Status, r.body)
	}
}

// TestProbes follows a member from its start.
func TestProbes(t *testing.T) {
	f := newFixture(t)
	probe := func(target string) int { return f.send("GET", target, "").StatusCode }
	f.m.tell(func() { f.m.status.Ready, f.m.status.Leader, f.m.status.Reason = false, 0, "no leader is known yet" })
	if probe("/livez") != 200 || probe("/startupz") != 503 || probe("/readyz") != 503 {
		t.Error("a member that is starting")
	}
	if r := f.send("GET", "/readyz", ""); !strings.Contains(string(r.body), "[-] started: no leader is known yet\n[-] leader: no leader is known\n") {
		t.Errorf("%s", r.body)
	}
	f.m.tell(func() { f.m.status.Ready, f.m.status.Leader = true, 2 })
	if probe("/startupz") != 200 || probe("/readyz") != 200 || probe("/readyz?leader") != 503 {
		t.Error("a follower")
	}
	f.m.tell(func() { f.m.status.Leader = 0 })
	if probe("/startupz") != 200 || probe("/readyz") != 503 {
		t.Error("a member that has lost its leader")
	}
	if r := f.send("GET", "/v1/cluster/leader", ""); r.code() != "no_leader" {
		t.Errorf("%s", r.body)
	}
}

// panicking panics where a real backend would have a bug.
type panicking struct{ *member }

func (p panicking) View(context.Context, op.ReadOptions) (*fsm.View, op.ReadInfo, error) {
	panic("a bug")
}

// TestPanic: a bug ends one request with an answer, and the server goes on.
func TestPanic(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.Backend = panicking{c.Backend.(*member)} })
	if r := f.send("GET", "/v1/nodes/", ""); r.StatusCode != 500 || r.code() != "internal" || strings.Contains(string(r.body), "a bug") {
		t.Errorf("%s\n%s", r.Status, r.body)
	}
	f.must("GET", "/v1/cluster", "")
}

// TestAbandonedRequests: when the client goes, its request stops waiting.
func TestAbandonedRequests(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.Limits.RequestTimeout = time.Hour })
	f.m.tell(func() { f.m.silent = true })
	conn, err := net.Dial("tcp", f.addr)
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(conn, "PUT /v1/nodes/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx")
	eventually(t, "a request at work", func() bool { return f.s.requests.Load() == 1 })
	conn.Close()
	eventually(t, "its end", func() bool { return f.s.requests.Load() == 0 })
}

// TestPipelining: many requests at once on one connection are answered in their order.
func TestPipelining(t *testing.T) {
	f := newFixture(t)
	f.must("PUT", "/v1/nodes/n", "")
	conn, err := net.Dial("tcp", f.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	const n = 1000
	go func() {
		for i := range n {
			fmt.Fprintf(conn, "PUT /v1/nodes/n HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\n%04d", i)
		}
	}()
	br := bufio.NewReader(conn)
	for i := range n {
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		if want := fmt.Sprint(i + 2); resp.Header.Get("Coord-Zxid") != want {
			t.Fatalf("answer %d is of zxid %s", i, resp.Header.Get("Coord-Zxid"))
		}
	}
}

// TestTLS: HTTP/2 works, a verified client certificate is an identity.
func TestTLS(t *testing.T) {
	cert, pool := selfSigned(t)
	s, err := New(Config{Backend: newMember(), Name: "n1"})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() {
		served <- s.ServeTLS(ctx, ln, &tls.Config{
			Certificates: []tls.Certificate{cert}, ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: pool,
		})
	}()
	transport := &http.Transport{
		ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{cert}},
	}
	resp, err := (&http.Client{Transport: transport}).Get("https://" + ln.Addr().String() + "/v1/whoami")
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if resp.ProtoMajor != 2 || !strings.Contains(string(body), `{"scheme":"x509","id":"CN=ann,O=coord"}`) ||
		!strings.Contains(string(body), `"principal":"x509:CN=ann,O=coord"`) {
		t.Errorf("%s %s", resp.Proto, body)
	}
	transport.CloseIdleConnections()
	stop()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

func selfSigned(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ann", Organization: []string{"coord"}},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

// TestForwardedFor: who says that he comes from elsewhere still comes from where he comes.
func TestForwardedFor(t *testing.T) {
	f := newFixture(t)
	r := f.must("GET", "/v1/whoami", "", "X-Forwarded-For: 10.1.2.3", "Forwarded: for=10.1.2.3", "X-Real-IP: 10.1.2.3")
	if strings.Contains(string(r.body), "10.1.2.3") || !strings.Contains(string(r.body), `{"scheme":"ip","id":"127.0.0.1"}`) {
		t.Errorf("%s", r.body)
	}
}

// TestServeFails: a listener that breaks is reported.
func TestServeFails(t *testing.T) {
	s, err := New(Config{Backend: newMember(), Name: "n1"})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
	if err := s.Serve(context.Background(), ln); err == nil {
		t.Error("no error")
	}
}

// TestSecretsStayHidden: what a caller knows and others must not is in no log, metric or answer.
func TestSecretsStayHidden(t *testing.T) {
	var log lockedBuffer
	f := newFixture(t, func(c *Config) { c.Logger = newDebugLogger(&log) })
	const secret, password = "c2VjcmV0LWNhbmFyeS0xNg", "cGFzc3dvcmQtY2FuYXJ5"
	f.must("POST", "/v1/sessions", `{"secret":"`+secret+`"}`)
	seen := ""
	for _, target := range []string{"/v1/nodes/a", "/v1/sessions", "/v1/sessions/s-1", "/metrics", "/v1/cluster", "/v1/whoami", "/nonsense"} {
		r := f.send("GET", target, "", "Coord-Session: s-1", "Coord-Session-Secret: "+secret, "Authorization: Basic YW5uOg==")
		seen += string(r.body)
		r = f.send("PUT", target, "x", "Coord-Session: s-1", "Coord-Session-Secret: "+password, "Authorization: Basic "+password)
		seen += string(r.body)
	}
	seen += log.String()
	for _, canary := range []string{secret, "secret-canary", password, "password-canary"} {
		if strings.Contains(seen, canary) {
			t.Errorf("%s is shown", canary)
		}
	}
}
