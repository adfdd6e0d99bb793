package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
)

// fixture is a server on the loopback interface, with the member behind it.
type fixture struct {
	t      testing.TB
	m      *member
	s      *Server
	addr   string
	stop   context.CancelFunc
	served chan error
}

func newFixture(t testing.TB, edit ...func(*Config)) *fixture {
	t.Helper()
	m := newMember()
	c := Config{Backend: m, Name: "n1", Version: "v0-test", Logger: slog.New(slog.NewTextHandler(t.Output(), nil))}
	c.Limits.HeaderTimeout = wsPatience // a client that the machine holds up is no slow one
	for _, f := range edit {
		f(&c)
	}
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{t: t, m: m, s: s}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f.serve(ln)
	return f
}

func (f *fixture) serve(ln net.Listener) {
	ctx, stop := context.WithCancel(context.Background())
	f.addr, f.stop, f.served = ln.Addr().String(), stop, make(chan error, 1)
	go func() { f.served <- f.s.Serve(ctx, ln) }()
	f.t.Cleanup(f.close)
}

// close stops the server and waits until it has ended.
func (f *fixture) close() {
	f.stop()
	if err := <-f.served; err != nil {
		f.t.Errorf("Serve: %v", err)
	}
	f.served <- nil
}

// response is an answer with its whole body.
type response struct {
	*http.Response
	body []byte
}

func (r *response) code() string {
	var p struct{ Code string }
	json.Unmarshal(r.body, &p)
	return p.Code
}

// exchange sends one request, written as it goes over the wire but for the Host, the Content-Length and the ends of lines, and
// checks both it and the answer against the description of the API.
func (f *fixture) exchange(text string) *response {
	f.t.Helper()
	wire := onWire(text)
	conn, err := net.Dial("tcp", f.addr)
	if err != nil {
		f.t.Fatal(err)
	}
	defer conn.Close()
	go io.WriteString(conn, wire)
	req, err := http.ReadRequest(bufio.NewReader(strings.NewReader(wire)))
	if err != nil {
		f.t.Fatalf("couldn't read the test's own request: %v\n%s", err, wire)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), req)
	if err != nil {
		f.t.Fatalf("no answer to %s: %v", firstLine(text), err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		f.t.Fatalf("broken answer to %s: %v", firstLine(text), err)
	}
	reqBody, _ := io.ReadAll(req.Body)
	conform(f.t, f.s, req, reqBody, resp, body)
	return &response{resp, body}
}

// onWire completes a request.
func onWire(text string) string {
	head, body, _ := strings.Cut(text, "\n\n")
	lines := strings.Split(strings.TrimRight(head, "\n"), "\n")
	if !strings.Contains(lines[0], " HTTP/") {
		lines[0] += " HTTP/1.1"
	}
	has := func(name string) bool {
		return slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(strings.ToLower(l), name) })
	}
	if !has("host:") {
		lines = append(lines, "Host: localhost")
	}
	if !has("content-length:") && !has("transfer-encoding:") && body != "" {
		lines = append(lines, fmt.Sprintf("Content-Length: %d", len(body)))
	}
	return strings.Join(lines, "\r\n") + "\r\n\r\n" + body
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

// send is exchange for a method, a target and a body.
func (f *fixture) send(method, target, body string, headers ...string) *response {
	f.t.Helper()
	lines := append([]string{method + " " + target}, headers...)
	return f.exchange(strings.Join(lines, "\n") + "\n\n" + body)
}

// must is send for what must succeed.
func (f *fixture) must(method, target, body string, headers ...string) *response {
	f.t.Helper()
	r := f.send(method, target, body, headers...)
	if r.StatusCode >= 300 {
		f.t.Fatalf("%s %s: %s\n%s", method, target, r.Status, r.body)
	}
	return r
}

// The description of the API, and what it is held against.

var openAPIDoc = sync.OnceValues(func() (*openapi3.T, error) {
	doc, err := openapi3.NewLoader().LoadFromData(openAPIYAML)
	if err != nil {
		return nil, err
	}
	return doc, doc.Validate(context.Background(), openapi3.IsOpenAPI31OrLater())
})

// conform checks an answer, and unless it says that the request was a bad one also the request, against the description.
func conform(t testing.TB, s *Server, req *http.Request, reqBody []byte, resp *http.Response, body []byte) {
	t.Helper()
	doc, err := openAPIDoc()
	if err != nil {
		t.Fatal(err)
	}
	rt, arg, err := s.router.find(req.Method, sentPath(req.URL))
	if err != nil || req.Method == http.MethodOptions {
		checkProblem(t, doc, resp, body)
		return
	}
	input := requestInput(doc, rt, arg, req, reqBody)
	if resp.StatusCode < 400 || resp.StatusCode == 409 || resp.StatusCode == 412 {
		if err := openapi3filter.ValidateRequest(context.Background(), input); err != nil {
			t.Errorf("%s %s was answered %d, but the description doesn't have it: %v", req.Method, req.URL, resp.StatusCode, err)
		}
	}
	err = openapi3filter.ValidateResponse(context.Background(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: input, Status: resp.StatusCode, Header: resp.Header, Body: io.NopCloser(bytes.NewReader(body)),
		Options: input.Options,
	})
	if err != nil && req.Method != http.MethodHead {
		t.Errorf("the answer to %s %s is not as described: %v\n%s", req.Method, req.URL, err, body)
	}
}

func requestInput(doc *openapi3.T, rt *route, arg string, req *http.Request, body []byte) *openapi3filter.RequestValidationInput {
	path := strings.Replace(rt.pattern, "{path...}", "{path}", 1)
	item := doc.Paths.Value(path)
	if item == nil {
		panic("the description has no path " + path)
	}
	r := req.Clone(context.Background())
	r.Body = io.NopCloser(bytes.NewReader(body))
	if rt.body == jsonBody || rt.body == rawBody {
		r.Header.Set("Content-Type", map[bodyKind]string{jsonBody: "application/json", rawBody: "application/octet-stream"}[rt.body])
	}
	method := req.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	return &openapi3filter.RequestValidationInput{
		Request: r, PathParams: pathParams(rt.pattern, arg),
		Route: &routers.Route{Spec: doc, Path: path, PathItem: item, Method: method, Operation: item.GetOperation(method)},
		Options: &openapi3filter.Options{
			AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, IncludeResponseStatus: true,
			ExcludeResponseBody: strings.HasPrefix(req.Header.Get("Accept"), "text/event-stream"),
		},
	}
}

// pathParams returns what stands for the variables of a pattern.
func pathParams(pattern, arg string) map[string]string {
	params := map[string]string{"path": pathParam(arg)}
	args := strings.Split(arg, "/")
	for i, name := range regexp.MustCompile(`\{(\w+)\}`).FindAllStringSubmatch(pattern, -1) {
		params[name[1]] = args[i]
	}
	return params
}

// pathParam returns what stands for {path}. Templates don't know an empty one, which is the root.
func pathParam(path string) string {
	if path == "/" {
		return "%2F"
	}
	return url.PathEscape(strings.TrimPrefix(path, "/"))
}

// checkProblem checks the answer to what no operation describes.
func checkProblem(t testing.TB, doc *openapi3.T, resp *http.Response, body []byte) {
	t.Helper()
	if resp.Header.Get("Content-Type") != "application/problem+json" || len(body) == 0 {
		return
	}
	var v any
	if err := json.Unmarshal(body, &v); err != nil {
		t.Errorf("the problem is not JSON: %v\n%s", err, body)
		return
	}
	schema := doc.Components.Schemas["Problem"].Value
	if err := schema.VisitJSON(v, openapi3.EnableJSONSchema2020()); err != nil {
		t.Errorf("the problem is not as described: %v\n%s", err, body)
	}
}

// How scenarios show answers.

// dull are headers that are the same in every answer; a test of its own is about them.
var dull = []string{
	"Date", "Content-Length", "Coord-Served-By", "Coord-Leader", "Cache-Control", "X-Content-Type-Options", "Connection",
}

var masks = []struct {
	re *regexp.Regexp
	to string
}{
	{regexp.MustCompile(`urn:coord:request:[A-Z0-9]+-\d+`), "urn:coord:request:R"},
	{regexp.MustCompile(`"stat":\{[^}]*\}`), `"stat":{…}`},
	{regexp.MustCompile(`"((?:held|led)_for|waiting)":( ?)"[^"]*"`), `"$1":$2"…"`},
	{regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f-]{22}`), `…`},
}

// show writes an answer for a scenario; whole leaves stats in.
func (r *response) show(whole bool) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", r.Status)
	for _, name := range slices.Sorted(maps.Keys(r.Header)) {
		if !slices.Contains(dull, name) {
			fmt.Fprintf(&b, "%s: %s\n", name, strings.Join(r.Header[name], " | "))
		}
	}
	body := string(r.body)
	if r.Header.Get("Content-Type") == "application/problem+json" {
		body = r.problem(whole)
	}
	for i, m := range masks {
		if i == 0 || !whole {
			body = m.re.ReplaceAllString(body, m.to)
		}
	}
	return b.String() + body
}

// constant matches the members of a problem that follow from its code, or are about the request alone.
var constant = regexp.MustCompile(`(?m)^  "(type|title|status|instance|zk_code|leader|hint)": .*\n`)

func (r *response) problem(whole bool) string {
	var b bytes.Buffer
	if json.Indent(&b, r.body, "", "  ") != nil || whole {
		return b.String()
	}
	return strings.ReplaceAll(constant.ReplaceAllString(b.String(), ""), ",\n}", "\n}")
}

// lockedBuffer is a bytes.Buffer for several goroutines.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func newDebugLogger(w io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug}))
}
