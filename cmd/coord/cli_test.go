package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/coord-kv/coord/api"
	"github.com/coord-kv/coord/internal/httpapi"
	"github.com/coord-kv/coord/internal/member"
	"github.com/coord-kv/coord/internal/peer"
	"github.com/coord-kv/coord/op"
)

var update = flag.Bool("update", false, "write docs/cli.md anew")

// slowest is how long something may take on a machine that does much else.
const slowest = 2 * time.Minute

// TestMain takes the user's own settings away, and gives commands the time that a slow machine takes.
func TestMain(m *testing.M) {
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "COORD_") {
			os.Unsetenv(name)
		}
	}
	dir, err := os.MkdirTemp("", "coord-cli")
	if err != nil {
		panic(err)
	}
	os.Setenv("XDG_CONFIG_HOME", dir)
	os.Setenv("COORD_TIMEOUT", slowest.String())
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// startMember runs a member of its own in this process and returns its URL.
func startMember(t *testing.T) string {
	log := slog.New(slog.DiscardHandler)
	m, err := member.Open(member.Config{
		Name: "n1", Memory: true, Members: []peer.Member{{Name: "n1", Addr: "127.0.0.1:0"}}, Logger: log,
	})
	if err != nil {
		t.Fatal(err)
	}
	door, err := api.New(api.Config{
		Backend: m, Name: "n1", Version: "v0-test", Logger: log, Metrics: api.NewMetrics(), Limits: api.Limits{HeaderTimeout: slowest},
	})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var g errgroup.Group
	g.Go(func() error { return m.Run(ctx) })
	g.Go(func() error { return door.Serve(ctx, ln) })
	t.Cleanup(func() {
		stop()
		if err := g.Wait(); err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("the member: %v", err)
		}
	})
	url := "http://" + ln.Addr().String()
	if r := execute(t.Context(), "", "status", "-e", url, "--wait", "healthy"); r.code != 0 {
		t.Fatalf("the member is not healthy:\n%s%s", r.out, r.err)
	}
	return url
}

// result is what one command line has come to.
type result struct {
	out, err string
	code     int
}

func execute(ctx context.Context, stdin string, args ...string) result {
	var out, errs lockedBuffer
	code := Run(ctx, args, stdio{strings.NewReader(stdin), &out, &errs})
	return result{out.String(), errs.String(), code}
}

// lockedBuffer is a bytes.Buffer that can be read while a command writes.
type lockedBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.String()
}

var masks = []struct {
	re *regexp.Regexp
	to string
}{
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z`), "TIME"},
	{regexp.MustCompile(`c-[0-9a-f]{16}`), "c-ID"},
	{regexp.MustCompile(`http://127\.0\.0\.1:\d+`), "URL"},
	{regexp.MustCompile(`(secret +|SESSION_SECRET=)[A-Za-z0-9_-]{22}`), "${1}SECRET"},
	{regexp.MustCompile(`(time_left" *: *"|time_left +)[0-9a-z.]+`), "${1}LEFT"},
	{regexp.MustCompile(`"stat":\{[^}]*\}`), `"stat":{…}`},
}

// show writes a result for a scenario: data, then what went to standard error behind "! ", then the exit code unless 0.
func (r result) show() string {
	var b strings.Builder
	b.WriteString(r.out)
	if r.out != "" && !strings.HasSuffix(r.out, "\n") {
		b.WriteString("⏎\n")
	}
	for line := range strings.Lines(r.err) {
		b.WriteString("! " + line)
	}
	if r.code != 0 {
		fmt.Fprintf(&b, "exit %d\n", r.code)
	}
	s := b.String()
	for _, m := range masks {
		s = m.re.ReplaceAllString(s, m.to)
	}
	if strings.Contains(s, "ENDPOINT") { // columns are as wide as ports are long
		s = regexp.MustCompile(` {2,}`).ReplaceAllString(s, "  ")
	}
	return s
}

// TestScenarios runs command lines against a member of their own:
//
//	$               one command line, the words as in a shell; what follows on further lines is its standard input
//	env NAME=VALUE  sets the environment of those that follow; NAME=$LAST takes the last secret that was printed
func TestScenarios(t *testing.T) {
	datadriven.Walk(t, "testdata/scenarios", func(t *testing.T, path string) {
		t.Setenv("COORD_ENDPOINTS", startMember(t))
		t.Setenv("COORD_TIMEOUT", slowest.String())
		t.Setenv("XDG_CONFIG_HOME", t.TempDir())
		secret := ""
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			switch d.Cmd {
			case "coord":
				line, stdin, _ := strings.Cut(d.Input, "\n")
				r := execute(t.Context(), stdin, words(line)...)
				if m := secrets.FindStringSubmatch(r.out); m != nil {
					secret = m[1]
				}
				return r.show()
			case "env":
				for _, a := range d.CmdArgs {
					v := ""
					if len(a.Vals) > 0 {
						v = strings.ReplaceAll(a.Vals[0], "$LAST", secret)
					}
					os.Setenv(a.Key, v)
					t.Cleanup(func() { os.Unsetenv(a.Key) })
				}
				return ""
			}
			t.Fatalf("%s: unknown command %s", d.Pos, d.Cmd)
			return ""
		})
	})
}

var secrets = regexp.MustCompile(`(?m)^(?:secret +|export COORD_SESSION_SECRET=)(\S+)$`)

// words splits a line as a shell does, as far as scenarios need it.
func words(line string) (all []string) {
	for _, m := range regexp.MustCompile(`'([^']*)'|(\S+)`).FindAllStringSubmatch(line, -1) {
		if strings.HasPrefix(m[0], "'") {
			all = append(all, m[1])
		} else {
			all = append(all, m[2])
		}
	}
	return all
}

// TestCodes shows what each error code becomes: exit code and the third line.
func TestCodes(t *testing.T) {
	datadriven.RunTest(t, "testdata/codes.txt", func(t *testing.T, d *datadriven.TestData) string {
		var b strings.Builder
		for _, code := range op.Codes() {
			err := failed(&httpapi.Error{Code: code.String(), Path: "/a/b", Detail: "why"}, "do it")
			e := err.(*exitError)
			fmt.Fprintf(&b, "%-22s %d  %s\n", code, e.code, e.next)
			if _, ok := codes[code]; !ok || e.code == 0 {
				t.Errorf("%s has no exit code", code)
			}
			if regexp.MustCompile(`(GET|PUT|POST|DELETE) |[{}]`).MatchString(e.next) {
				t.Errorf("%s: the next thing to do is HTTP: %s", code, e.next)
			}
		}
		return b.String()
	})
}

// TestNotCoord: an answer that is none of coord's has an exit code by its status.
func TestNotCoord(t *testing.T) {
	for status, want := range map[int]int{401: 6, 403: 6, 404: 3, 405: 1, 500: 1} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
		r := execute(t.Context(), "", "get", "/x", "-e", s.URL)
		if s.Close(); r.code != want || strings.Count(r.err, "\n") != 3 {
			t.Errorf("%d: exit %d, want %d\n%s", status, r.code, want, r.err)
		}
	}
}

// process is a command that goes on until it is interrupted.
type process struct {
	out, err  lockedBuffer
	interrupt context.CancelFunc
	code      chan int
}

func start(t *testing.T, args ...string) *process {
	r := &process{code: make(chan int, 1)}
	var ctx context.Context
	ctx, r.interrupt = context.WithCancel(context.Background())
	t.Cleanup(r.interrupt)
	go func() { r.code <- Run(ctx, args, stdio{strings.NewReader(""), &r.out, &r.err}) }()
	return r
}

// until waits for a condition.
func until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(slowest); !cond(); {
		if time.Now().After(deadline) {
			t.Fatalf("it never happened that %s", what)
		}
		time.Sleep(5 * time.Millisecond) // between looks at a server
	}
}

// TestHold: a node that is held is there until the command is interrupted, and then gone at once.
func TestHold(t *testing.T) {
	url := startMember(t)
	r := start(t, "create", "/held", "me", "-e", "--hold", "--session-ttl", "1h", "--endpoints", url)
	until(t, "the path is printed", func() bool { return r.out.String() == "/held\n" })
	if got := execute(t.Context(), "", "get", "/held", "-e", url); got.out != "me\n" {
		t.Errorf("got %+v", got)
	}
	r.interrupt()
	if code := <-r.code; code != 0 {
		t.Errorf("exit %d\n%s", code, r.err.String())
	}
	if got := execute(t.Context(), "", "get", "/held", "-e", url); got.code != exitNotFound {
		t.Errorf("the node is still there: %+v", got)
	}
}

// TestHeldSessionEnds: if somebody ends the session, the command says so and ends.
func TestHeldSessionEnds(t *testing.T) {
	url := startMember(t)
	r := start(t, "create", "/held", "-e", "--hold", "--session-ttl", "20s", "--endpoints", url)
	until(t, "the session is named", func() bool { return strings.Contains(r.err.String(), "held by session s-") })
	id := regexp.MustCompile(`s-[0-9a-f]+`).FindString(r.err.String())
	if got := execute(t.Context(), "", "session", "close", id, "--kill", "-e", url); got.code != 0 {
		t.Fatalf("%+v", got)
	}
	if code := <-r.code; code != exitNotFound || !strings.Contains(r.err.String(), "its nodes are gone") {
		t.Errorf("exit %d\n%s", code, r.err.String())
	}
}

// TestWatchFollows: events are printed as they happen, and an interrupt says where to go on.
func TestWatchFollows(t *testing.T) {
	url := startMember(t)
	r := start(t, "watch", "/app", "-R", "-e", url)
	until(t, "the watch has begun", func() bool { return strings.Contains(r.err.String(), "from zxid 0 on") })
	for _, v := range []string{"1", "2"} {
		execute(t.Context(), "", "set", "/app/x", v, "-p", "-e", url)
		until(t, "the change is printed", func() bool { return strings.Contains(r.out.String(), `/app/x  "`+v+`"`) })
	}
	r.interrupt()
	if code := <-r.code; code != 0 || !strings.Contains(r.err.String(), "to go on: --since 2") {
		t.Errorf("exit %d\n%s", code, r.err.String())
	}
	want := "1  created  /app\n1  created  /app/x  \"1\"\n2  changed  /app/x  \"2\"\n"
	if got := r.out.String(); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

// TestHistoryGone: a watch that can't go on ends with a code of its own, with --exec too.
func TestHistoryGone(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusGone)
		io.WriteString(w, `{"code":"history_gone","detail":"the oldest position kept is 9","outcome":"refused","status":410}`)
	}))
	defer s.Close()
	for _, more := range [][]string{nil, {"--exec", "true"}} {
		r := execute(t.Context(), "", append([]string{"watch", "/x", "--since", "1", "-e", s.URL}, more...)...)
		if r.code != exitHistoryGone || !strings.Contains(r.err, "oldest position kept is 9") {
			t.Errorf("%v: %+v", more, r)
		}
	}
	if r := execute(t.Context(), "", "watch", "/x", "--nope", "--exec", "true"); r.code != exitUsage {
		t.Errorf("a wrong flag: %+v", r)
	}
}

// TestLargeRemoval deletes a subtree that is too large for one request.
func TestLargeRemoval(t *testing.T) {
	url := startMember(t)
	t.Setenv("COORD_ENDPOINTS", url)
	if r := execute(t.Context(), "", "set", "/big/sub", "", "-p"); r.code != 0 {
		t.Fatalf("%+v", r)
	}
	const each, txns = 2500, 5 // 12,500 nodes, and a request may change 10,000
	for n := range txns {
		dir := []string{"/big", "/big/sub"}[n%2]
		var ops []string
		for i := range each {
			ops = append(ops, fmt.Sprintf(`{"op":"create","path":"%s/%d-%d"}`, dir, n, i))
		}
		if r := execute(t.Context(), `{"ops":[`+strings.Join(ops, ",")+`]}`, "txn", "-q"); r.code != 0 {
			t.Fatalf("%s", r.err)
		}
	}
	r := execute(t.Context(), "", "rm", "-R", "/big", "--if-version", "7")
	if r.code != exitConflict {
		t.Errorf("under a condition that doesn't hold: %+v", r)
	}
	r = execute(t.Context(), "", "rm", "-R", "/big", "--if-version", "0")
	if want := fmt.Sprintf("/big deleted, %d nodes\n", each*txns+2); r.out != want || r.code != 0 {
		t.Errorf("got %q, exit %d, want %q\n%s", r.out, r.code, want, r.err)
	}
	if !strings.Contains(r.err, "deleted in steps") {
		t.Errorf("it didn't say that it is done in steps: %s", r.err)
	}
}

// TestFlagsAnywhere: global flags can stand before the command and behind it, and -e means what it means there.
func TestFlagsAnywhere(t *testing.T) {
	url := startMember(t)
	for _, args := range [][]string{
		{"-e", url, "set", "/x", "1"},
		{"set", "-e", url, "/x", "1"},
		{"set", "/x", "1", "-e", url},
		{"-e", url, "session", "ls"},
		{"session", "ls", "-e", url},
		{"-e", url, "create", "/seq-", "-s"},
	} {
		if r := execute(t.Context(), "", args...); r.code != 0 {
			t.Errorf("%v: %+v", args, r)
		}
	}
	r := execute(t.Context(), "", "-e", url, "create", "/y", "-e")
	if r.code != exitUsage || !strings.Contains(r.err, "--hold") {
		t.Errorf("create -e: %+v", r)
	}
}

// TestSources: the command line wins over the environment, that over the context, that over the default.
func TestSources(t *testing.T) {
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	asked := func(args ...string) string {
		r := execute(t.Context(), "", append(args, "get", "/x")...)
		return regexp.MustCompile(`127\.0\.0\.\d+:1\b|127\.0\.0\.1:7070`).FindString(r.err)
	}
	must := func(args ...string) {
		t.Helper()
		if r := execute(t.Context(), "", args...); r.code != 0 {
			t.Fatalf("%v: %+v", args, r)
		}
	}
	must("context", "add", "one", "-e", "127.0.0.2:1")
	must("context", "add", "two", "-e", "127.0.0.3:1")
	for _, test := range []struct {
		env  string
		args []string
		want string
	}{
		{"", nil, "127.0.0.2:1"},
		{"", []string{"-c", "two"}, "127.0.0.3:1"},
		{"127.0.0.4:1", []string{"-c", "two"}, "127.0.0.4:1"},
		{"127.0.0.4:1", []string{"-e", "127.0.0.5:1"}, "127.0.0.5:1"},
	} {
		t.Setenv("COORD_ENDPOINTS", test.env)
		if got := asked(test.args...); got != test.want {
			t.Errorf("environment %q, arguments %v: asked %s, want %s", test.env, test.args, got, test.want)
		}
	}
	file := filepath.Join(os.Getenv("XDG_CONFIG_HOME"), "coord", "contexts.yaml")
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file: %v, %v", info, err)
	}
	os.Chmod(file, 0o644)
	if r := execute(t.Context(), "", "context", "ls"); r.code != exitUsage || !strings.Contains(r.err, "chmod 600") {
		t.Errorf("a file that others can read: %+v", r)
	}
}

// TestSeparateExec: what stands behind the program belongs to it.
func TestSeparateExec(t *testing.T) {
	for line, want := range map[string]string{
		"watch /x --exec cmd -e --now":    "watch /x --exec=cmd -- -e --now",
		"watch /x --exec=cmd -e":          "watch /x --exec=cmd -- -e",
		"watch /x --exec -- cmd -e":       "watch /x --exec=cmd -- -e",
		"watch /x --exec cmd -- a":        "watch /x --exec=cmd -- a",
		"watch /x --exec":                 "watch /x --exec",
		"watch --exec cmd":                "watch --exec=cmd --",
		"set /x -- --exec a":              "set /x -- --exec a",
		"set /x --exec a":                 "set /x --exec a",
		"-e h watch /x --once --exec c d": "-e h watch /x --once --exec=c -- d",
	} {
		if got := strings.Join(separateExec(strings.Fields(line)), " "); got != want {
			t.Errorf("%s: got %s, want %s", line, got, want)
		}
	}
}

// TestHelp: every command says what it is for and gives an example.
func TestHelp(t *testing.T) {
	visit(newRoot(stdio{}), func(c *cobra.Command) {
		if c.Short == "" || strings.HasSuffix(c.Short, ".") {
			t.Errorf("%s: the summary is %q", c.CommandPath(), c.Short)
		}
		if c.Runnable() && !c.HasSubCommands() && c.Name() != "version" && c.Example == "" {
			t.Errorf("%s has no example", c.CommandPath())
		}
	})
}

// TestMarkdown: docs/cli.md is what the command says. -update writes it.
func TestMarkdown(t *testing.T) {
	const page = "../../docs/cli.md"
	r := execute(t.Context(), "", "docs", "markdown")
	if *update {
		if err := os.WriteFile(page, []byte(r.out), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if have, err := os.ReadFile(page); err != nil || string(have) != r.out {
		t.Errorf("docs/cli.md is not up to date (%v): go test ./cmd/coord -run TestMarkdown -update", err)
	}
}

// TestMan: there is a manual page for each command.
func TestMan(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "man")
	if r := execute(t.Context(), "", "docs", "man", dir); r.code != 0 {
		t.Fatalf("%+v", r)
	}
	for _, name := range []string{"coord.1", "coord-get.1", "coord-session-open.1"} {
		if b, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !bytes.Contains(b, []byte(".TH")) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestReports shows what status says of clusters in trouble. Each line is one endpoint: "dead" with the port that nobody
// listens at, or what the member there answers.
func TestReports(t *testing.T) {
	datadriven.RunTest(t, "testdata/reports.txt", func(t *testing.T, d *datadriven.TestData) string {
		args := []string{d.Cmd}
		for _, a := range d.CmdArgs {
			args = append(args, a.String())
		}
		for line := range strings.Lines(d.Input) {
			args = append(args, "-e", standIn(t, strings.Fields(line)))
		}
		return execute(t.Context(), "", args...).show()
	})
}

// standIn starts an endpoint that answers as a member would. The first word is its name; then up=n1,n2 says which members
// it sees up, and leader=, ready=, cluster=, disk= and quorum= say the rest.
func standIn(t *testing.T, words []string) string {
	if words[0] == "dead" {
		return "http://127.0.0.1:" + strings.Join(append(words[1:], "1"), "")[:1]
	}
	v := map[string]string{
		"leader": "n1", "up": "n1,n2,n3", "ready": "true", "cluster": "1", "disk": "false", "quorum": "yes",
	}
	for _, w := range words[1:] {
		name, value, _ := strings.Cut(w, "=")
		v[name] = value
	}
	cluster := "c-000000000000000" + v["cluster"]
	if v["cluster"] == "new" {
		cluster = ""
	}
	var members []string
	for _, n := range []string{"n1", "n2", "n3"} {
		members = append(members, fmt.Sprintf(`{"name":%q,"up":%t}`, n, strings.Contains(v["up"], n)))
	}
	role := "follower"
	if v["leader"] == words[0] {
		role = "leader"
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/v1/cluster", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"cluster":%q,"name":%q,"ready":%s,"role":%q,"leader":%q,`,
			cluster, words[0], v["ready"], role, v["leader"])
		fmt.Fprintf(w, `"read_only":%s,"zxid":"7","members":[%s]}`, v["disk"], strings.Join(members, ","))
	})
	mux.HandleFunc("/version", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, `{"version":"v1"}`) })
	mux.HandleFunc("/v1/nodes/", func(w http.ResponseWriter, _ *http.Request) {
		if v["quorum"] != "yes" {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusServiceUnavailable)
			io.WriteString(w, `{"code":"no_leader","detail":"no leader is known","outcome":"refused"}`)
			return
		}
		io.WriteString(w, "{}")
	})
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s.URL
}
