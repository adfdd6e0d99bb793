package api

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/coord-kv/coord/op"
)

const docs = "../docs/api.md"

// TestDocs runs every example of docs/api.md, in order, and compares what it answers with what the page says. "…" matches
// anything; of the headers after -i those that are shown must be there.
func TestDocs(t *testing.T) {
	page, err := os.ReadFile(docs)
	if err != nil {
		t.Fatal(err)
	}
	f := newFixture(t, func(c *Config) { c.Limits.Bookmark = 100 * time.Millisecond })
	shell := &shell{f: f, vars: map[string]string{}}
	ran := 0
	for _, block := range strings.Split(string(page), "```console\n")[1:] {
		block, _, _ = strings.Cut(block, "```")
		for _, example := range strings.Split("\n"+block, "\n$ ")[1:] {
			command, want, _ := strings.Cut(example, "\n")
			shell.run(t, command, strings.TrimRight(want, "\n"))
			ran++
		}
	}
	if ran < 40 {
		t.Errorf("only %d examples were found", ran)
	}
}

// TestDocsTable: the page has the codes as they are.
func TestDocsTable(t *testing.T) {
	page, err := os.ReadFile(docs)
	if err != nil {
		t.Fatal(err)
	}
	for _, code := range op.Codes() {
		m := meanings[code]
		if row := fmt.Sprintf("| `%s` | %d | %s |\n", code, m.status, m.title); !strings.Contains(string(page), row) {
			t.Errorf("there is no row %s", row)
		}
	}
}

// TestDocsHeaders: every header that the API has for itself is on the page, and the other way round.
func TestDocsHeaders(t *testing.T) {
	page, err := os.ReadFile(docs)
	if err != nil {
		t.Fatal(err)
	}
	re := regexp.MustCompile(`Coord-[A-Z][A-Za-z-]*[a-z]`)
	described := map[string]bool{}
	for _, h := range re.FindAllString(string(openAPIYAML), -1) {
		described[h] = true
	}
	for _, h := range re.FindAllString(string(page), -1) {
		if !described[h] {
			t.Errorf("%s is on the page, and the API doesn't have it", h)
		}
	}
	for h := range described {
		if !strings.Contains(string(page), h) {
			t.Errorf("%s is not on the page", h)
		}
	}
}

// shell runs curl commands as far as the page uses curl.
type shell struct {
	f    *fixture
	vars map[string]string
}

func (s *shell) run(t *testing.T, command, want string) {
	t.Helper()
	args := words(command, s.vars)
	if args[0] != "curl" {
		t.Fatalf("not curl: %s", command)
	}
	c := parseCurl(args[1:])
	if c.stream {
		s.follow(t, c, command, want)
		return
	}
	r := s.f.exchange(c.text())
	if m := regexp.MustCompile(`"secret":"([^"]*)"`).FindSubmatch(r.body); m != nil {
		s.vars["$SECRET"] = string(m[1])
	}
	if m := regexp.MustCompile(`"session":"([^"]*)","secret"`).FindSubmatch(r.body); m != nil {
		s.vars["$SESSION"] = string(m[1])
	}
	got := strings.TrimRight(string(r.body), "\n")
	if c.show {
		want = withoutHeaders(t, r, command, want)
	}
	if !pattern(want).MatchString(got) {
		t.Errorf("%s\n got %s\nwant %s", command, got, want)
	}
}

// follow reads an event stream until everything that the page shows has come.
func (s *shell) follow(t *testing.T, c curl, command, want string) {
	t.Helper()
	conn, err := net.Dial("tcp", s.f.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, onWire(c.text()))
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	in, got := bufio.NewReader(resp.Body), ""
	for range strings.Count(want, "\n") + 1 {
		line, err := in.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		got += line
	}
	if !pattern(want).MatchString(strings.TrimRight(got, "\n")) {
		t.Errorf("%s\n got %s\nwant %s", command, got, want)
	}
}

// withoutHeaders checks the head that the page shows and returns the body that it shows.
func withoutHeaders(t *testing.T, r *response, command, want string) string {
	t.Helper()
	head, body, _ := strings.Cut(want, "\n\n")
	lines := strings.Split(head, "\n")
	if got := r.Proto + " " + r.Status; lines[0] != got {
		t.Errorf("%s: %s", command, got)
	}
	if lines[len(lines)-1] != "…" {
		t.Errorf("%s: the page must say that there are more headers", command)
	}
	for _, line := range lines[1 : len(lines)-1] {
		name, value, _ := strings.Cut(line, ": ")
		if !pattern(value).MatchString(r.Header.Get(name)) {
			t.Errorf("%s: %s is %q", command, name, r.Header.Get(name))
		}
	}
	return body
}

// pattern is a text in which … stands for anything.
func pattern(s string) *regexp.Regexp {
	return regexp.MustCompile(`^` + strings.ReplaceAll(regexp.QuoteMeta(s), "…", "(?s:.*)") + `$`)
}

// curl is one command of it.
type curl struct {
	method, target, body string
	headers              []string
	show, stream         bool
}

func parseCurl(args []string) curl {
	c := curl{method: "GET"}
	for i := 0; i < len(args); i++ {
		switch a := args[i]; a {
		case "-i":
			c.show = true
		case "-N":
			c.stream = true
		case "-X", "-H", "-d", "--data-binary", "-u":
			i++
			c.option(a, args[i])
		default:
			c.target = strings.TrimPrefix(a, "localhost:7070")
		}
	}
	return c
}

func (c *curl) option(name, value string) {
	switch name {
	case "-X":
		c.method = value
	case "-H":
		c.headers = append(c.headers, value)
	case "-u":
		r, _ := http.NewRequest("GET", "/", nil)
		user, password, _ := strings.Cut(value, ":")
		r.SetBasicAuth(user, password)
		c.headers = append(c.headers, "Authorization: "+r.Header.Get("Authorization"))
	default:
		if c.body = value; c.method == "GET" {
			c.method = "POST"
		}
	}
}

func (c *curl) text() string {
	return strings.Join(append([]string{c.method + " " + c.target}, c.headers...), "\n") + "\n\n" + c.body
}

// words splits a command as a shell does: quotes keep together, and variables are replaced outside of single ones.
func words(command string, vars map[string]string) []string {
	var out []string
	word, quote, begun := "", byte(0), false
	for i := 0; i < len(command); i++ {
		switch ch := command[i]; {
		case quote == 0 && (ch == '\'' || ch == '"'):
			quote, begun = ch, true
		case ch == quote && quote != 0:
			quote = 0
		case quote == 0 && ch == ' ':
			if begun {
				out = append(out, word)
			}
			word, begun = "", false
		case ch == '$' && quote != '\'':
			name := regexp.MustCompile(`^\$[A-Z]+`).FindString(command[i:])
			word, begun = word+vars[name], true
			i += len(name) - 1
		default:
			word, begun = word+string(ch), true
		}
	}
	return append(out, word)
}
