package doctest

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

//go:embed preamble.sh
var preamble string

var binDir string // of the real coord

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "coord-docs")
	if err != nil {
		panic(err)
	}
	binDir = dir
	build := exec.Command("go", "build", "-o", filepath.Join(dir, "coord"), "github.com/coord-kv/coord/cmd/coord")
	build.Stderr = os.Stderr
	code := 1
	if err := build.Run(); err == nil {
		code = m.Run()
	}
	os.RemoveAll(dir)
	os.Exit(code)
}

// patience is how long anything may take on the slowest machine.
const patience = 2 * time.Minute

// TestExamples runs the examples of every page but docs/api.md, which package api runs against its own fixture.
func TestExamples(t *testing.T) {
	for _, need := range []string{"sh", "curl", "sed", "tr"} {
		if _, err := exec.LookPath(need); err != nil {
			t.Skipf("there is no %s to run the examples with", need)
		}
	}
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil || len(pages) < 3 {
		t.Fatal(pages, err)
	}
	for _, name := range append(pages, "../../README.md") {
		if filepath.Base(name) == "api.md" {
			continue
		}
		t.Run(filepath.Base(name), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			p := &page{t: t, dir: t.TempDir(), notes: t.TempDir(), ports: map[string]int{}}
			for _, b := range blocks(string(text)) {
				p.run(b)
			}
		})
	}
}

// block is one fenced block of a page.
type block struct {
	line           int
	language, mark string
	text           string
}

func blocks(text string) (all []block) {
	var open *block
	for i, line := range strings.Split(text, "\n") {
		fence := strings.HasPrefix(line, "```")
		switch {
		case fence && open != nil:
			all = append(all, *open)
			open = nil
		case fence:
			open = &block{line: i + 1}
			open.language, open.mark, _ = strings.Cut(strings.TrimPrefix(line, "```"), " ")
		case open != nil:
			open.text += line + "\n"
		}
	}
	return all
}

// page is a page being run.
type page struct {
	t          *testing.T
	dir, notes string
	ports      map[string]int // the port that is used for the one on the page
	served     bool           // something serves the page
	members    []*exec.Cmd
}

func (p *page) run(b block) {
	runnable := b.language == "sh" || b.language == "console"
	why, skip := strings.CutPrefix(b.mark, "no-run:")
	switch {
	case skip && strings.TrimSpace(why) == "":
		p.t.Errorf("line %d: it must say why it can't be run", b.line)
	case b.language == "yaml" && b.mark == "coord":
		p.config(b)
	case skip || !runnable:
	case b.mark == "terminals":
		p.stop()
		p.terminals(b)
	case b.mark != "":
		p.t.Errorf("line %d: nobody knows what %q means", b.line, b.mark)
	case b.language == "sh":
		p.serve()
		out, err := p.shell(b.text, 1)
		p.expect(b, out, err, announced(b.text))
	default:
		p.serve()
		p.console(b)
	}
}

// console runs a block that shows what its commands print.
func (p *page) console(b block) {
	for _, example := range strings.Split("\n"+b.text, "\n$ ")[1:] {
		command, want, _ := strings.Cut(example, "\n")
		for strings.HasSuffix(command, `\`) {
			more, rest, _ := strings.Cut(want, "\n")
			command, want = command+"\n"+more, rest
		}
		want = strings.TrimRight(want, "\n")
		out, err := p.shell(command+"\n", 1+strings.Count(want, "\n"))
		refused := announced(command)
		if m := regexp.MustCompile(`^HTTP/1.1 ([45]..)|"status":([45]..)`).FindStringSubmatch(want); m != nil {
			refused = []string{m[1] + m[2]}
		}
		p.expect(b, out, err, refused)
		if pattern := strings.ReplaceAll(regexp.QuoteMeta(want), "…", "(?s:.*)"); want != "" &&
			!regexp.MustCompile("^"+p.move(pattern)+"$").MatchString(strings.TrimRight(out, "\n")) {
			p.t.Errorf("line %d: %s\n got %s\nwant %s", b.line, command, out, want)
		}
	}
}

// announced returns the statuses that comments announce.
func announced(text string) (all []string) {
	for _, m := range regexp.MustCompile(`# ([45][0-9][0-9])\b`).FindAllStringSubmatch(text, -1) {
		all = append(all, m[1])
	}
	return all
}

func (p *page) expect(b block, out string, err error, want []string) {
	text, _ := os.ReadFile(filepath.Join(p.notes, "refused"))
	if got := strings.Fields(string(text)); err != nil || !slices.Equal(got, want) {
		p.t.Errorf("line %d: %v; statuses of errors %q, announced %q:\n%s\n%s", b.line, err, got, want, b.text, out)
	}
}

// shell runs a script and returns what it printed.
func (p *page) shell(script string, lines int) (string, error) {
	for name, text := range map[string]string{"refused": "", "vars": ""} {
		file := filepath.Join(p.notes, name)
		if _, err := os.Stat(file); err != nil || name == "refused" {
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				p.t.Fatal(err)
			}
		}
	}
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-eu", "-c", preamble+p.move(script))
	p.prepare(cmd)
	cmd.Env = append(cmd.Env, "DOC="+p.notes, fmt.Sprint("LINES_SHOWN=", max(lines, 1)))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	err := cmd.Run()
	return out.String(), err
}

func (p *page) prepare(cmd *exec.Cmd) {
	cmd.Dir = p.dir
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "COORD_") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = append(cmd.Env, "PATH="+binDir+":"+os.Getenv("PATH"), "NO_PROXY=*", "HOME="+p.dir,
		"COORD_ENDPOINTS="+p.move("http://localhost:7070"), "COORD_TIMEOUT="+patience.String(),
		"COORD_TICK=100ms", "COORD_ELECTION_TIMEOUT=4s") // a machine that stalls elects nobody in the middle of a page
}

// address is an address of the page, with or without its host.
var address = regexp.MustCompile(`(localhost|127\.0\.0\.1)?:(7[0-9]{3})\b`)

// move puts the ports that this test has found in the place of those on the page.
func (p *page) move(text string) string {
	return address.ReplaceAllStringFunc(text, func(s string) string {
		at := strings.LastIndexByte(s, ':')
		return s[:at+1] + strconv.Itoa(p.port(s[at+1:]))
	})
}

func (p *page) port(shown string) int {
	if p.ports[shown] == 0 {
		p.ports[shown] = freePort(p.t)
	}
	return p.ports[shown]
}

// nextPort is the port that is tried next. They lie below those that the system gives to outgoing connections, which
// could take one meanwhile, and each process begins elsewhere: another one may run the same test.
var nextPort = func() *atomic.Int64 {
	n := new(atomic.Int64)
	n.Store(12_000 + int64(os.Getpid())*40%18_000)
	return n
}()

func freePort(t *testing.T) int {
	for range 1000 {
		port := int(nextPort.Add(1))
		if ln, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			ln.Close()
			return port
		}
	}
	t.Fatal("there is no free port")
	return 0
}

// serve starts the member that a page begins with.
func (p *page) serve() {
	if !p.served {
		p.terminals(block{text: "coord serve --name n1 --data-dir .coord --listen 127.0.0.1:7070 --peer-listen 127.0.0.1:7071\n"})
	}
}

// terminals runs each command of a block by itself, and waits for those that serve clients.
func (p *page) terminals(b block) {
	p.served = true
	var setup string
	var ready []string
	for line := range strings.Lines(strings.ReplaceAll(b.text, "\\\n", "")) {
		if !strings.HasPrefix(line, "coord ") {
			setup += line
			continue
		}
		cmd := exec.Command("sh", "-eu", "-c", p.move(setup+"exec "+line))
		p.prepare(cmd)
		log := new(bytes.Buffer)
		cmd.Stdout, cmd.Stderr = log, log
		if err := cmd.Start(); err != nil {
			p.t.Fatal(err)
		}
		p.members = append(p.members, cmd)
		p.t.Cleanup(func() {
			cmd.Process.Kill()
			cmd.Wait()
			if p.t.Failed() {
				p.t.Logf("%s%s", line, log)
			}
		})
		if m := regexp.MustCompile(`--listen \S*:(7[0-9]{3})`).FindStringSubmatch(line); m != nil {
			ready = append(ready, m[1])
		}
	}
	for _, shown := range ready {
		p.await(fmt.Sprintf("http://127.0.0.1:%d/readyz", p.port(shown)))
	}
}

// await waits until the URL is answered with 200.
func (p *page) await(url string) {
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	for {
		req, _ := http.NewRequestWithContext(ctx, "GET", url, nil)
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == 200 {
				return
			}
		}
		select {
		case <-ctx.Done():
			p.t.Fatalf("no answer from %s: %v", url, err)
		case <-time.After(20 * time.Millisecond): // between questions to another process
		}
	}
}

// stop ends the member that the page began with.
func (p *page) stop() {
	for _, m := range p.members {
		m.Process.Kill()
		m.Wait()
	}
	p.members = nil
}

// config checks a configuration file.
func (p *page) config(b block) {
	file := filepath.Join(p.dir, fmt.Sprintf("line-%d.yaml", b.line))
	if err := os.WriteFile(file, []byte(b.text), 0o600); err != nil {
		p.t.Fatal(err)
	}
	if out, err := exec.Command(filepath.Join(binDir, "coord"), "check-config", file).CombinedOutput(); err != nil {
		p.t.Errorf("line %d: %s", b.line, out)
	}
}
