package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// program is a process whose lines are read one by one.
type program struct {
	t     *testing.T
	cmd   *exec.Cmd
	lines chan string
	said  []string
}

// run starts a program, which the end of the test kills.
func run(t *testing.T, env []string, name string, args ...string) *program {
	t.Helper()
	p := &program{t: t, cmd: exec.Command(name, args...), lines: make(chan string, 1000)}
	p.cmd.Env = append(os.Environ(), env...)
	out, err := p.cmd.StdoutPipe()
	if err == nil {
		p.cmd.Stderr = p.cmd.Stdout
		err = p.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	var reading sync.WaitGroup
	reading.Go(func() {
		defer close(p.lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			p.lines <- s.Text()
		}
	})
	t.Cleanup(func() {
		p.cmd.Process.Kill()
		reading.Wait()
		p.cmd.Wait()
	})
	return p
}

// says waits for a line that has all of words, and returns it.
func (p *program) says(words ...string) string {
	p.t.Helper()
	late := time.After(slowest)
	for {
		select {
		case line, ok := <-p.lines:
			p.said = append(p.said, line)
			found := ok
			for _, w := range words {
				found = found && strings.Contains(line, w)
			}
			if found {
				return line
			}
			if !ok {
				p.t.Fatalf("it ended and had not said %q but\n%s", words, strings.Join(p.said, "\n"))
			}
		case <-late:
			p.t.Fatalf("it has not said %q but\n%s", words, strings.Join(p.said, "\n"))
		}
	}
}

func (p *program) signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// startDev starts a coord dev and returns its URL.
func startDev(t *testing.T) string {
	t.Helper()
	_, port, err := net.SplitHostPort(freeAddr(t))
	if err != nil {
		t.Fatal(err)
	}
	dev := &process{name: "dev", http: "127.0.0.1:" + port}
	run(t, nil, binary, "dev", "--memory", "--port", port)
	(&cluster{t: t}).waitReady(dev)
	return "http://" + dev.http
}

// TestElectionExample: the example of docs, twice. The leader is stopped, the other one leads, and what the first writes
// when it goes on is refused. Then it stands again, and leads when the other one ends.
func TestElectionExample(t *testing.T) {
	t.Parallel()
	env := []string{"COORD_ENDPOINTS=" + startDev(t)}
	example := filepath.Join(t.TempDir(), "election")
	build := exec.Command("go", "build", "-o", example, "github.com/coord-kv/coord/docs/examples/election")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	out, err := exec.Command(example, "a").CombinedOutput()
	if e, ok := errors.AsType[*exec.ExitError](err); !ok || e.ExitCode() != 2 || !strings.Contains(string(out), `unexpected argument "a"`) {
		t.Errorf("with an argument: %v\n%s", err, out)
	}
	a := run(t, env, example, "-name", "a", "-ttl", "15s", "-every", "3s")
	a.says("a: leads")
	a.says(`a: wrote "entry 1 of a"`)
	b := run(t, env, example, "-name", "b", "-ttl", "2m", "-every", "1s")
	stopAtWork(t, env, a)
	b.says("b: leads")
	b.says(`b: wrote "entry 1 of b"`)
	a.signal(syscall.SIGCONT)
	a.says("a: refused", "stale_token")
	a.says("a: out of the election", "session_expired")
	for _, line := range b.said {
		if strings.Contains(line, "no more") {
			t.Errorf("the other one lost its term: %s", line)
		}
	}

	b.signal(syscall.SIGTERM)
	b.says("b: leads no more")
	a.says("a: leads")
	a.says("a: wrote")
	checkLedger(t, env)
}

// stopAtWork stops a leader that works on an entry: it won't look whether it leads before it has written that.
func stopAtWork(t *testing.T, env []string, p *program) {
	t.Helper()
	for {
		line := p.says("works on")
		p.signal(syscall.SIGSTOP)
		_, entry, _ := strings.Cut(line, "entry ")
		n, _, _ := strings.Cut(entry, " ")
		number, err := strconv.Atoi(n)
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if _, err := ledger(t, env, number-1); err != nil {
			return
		}
		p.signal(syscall.SIGCONT) // it has written it already: the line was read late
	}
}

// ledger returns an entry of the ledger; the first one has the number 0.
func ledger(t *testing.T, env []string, n int) (string, error) {
	t.Helper()
	get := exec.CommandContext(t.Context(), binary, "get", fmt.Sprintf("/ledger/%010d", n))
	get.Env = append(append(os.Environ(), "COORD_TIMEOUT="+slowest.String()), env...)
	out, err := get.CombinedOutput()
	if err != nil && !strings.Contains(string(out), "no_node") && !strings.Contains(string(out), "no such node") {
		t.Errorf("%v\n%s", err, out)
	}
	return string(out), err
}

// checkLedger: entries of the two don't alternate but with their terms.
func checkLedger(t *testing.T, env []string) {
	t.Helper()
	who := ""
	for n := 0; ; n++ {
		out, err := ledger(t, env, n)
		if err != nil {
			break
		}
		words := strings.Fields(out)
		if w := words[len(words)-1]; !strings.HasSuffix(who, w) {
			who += w
		}
	}
	if who != "aba" {
		t.Errorf("in the ledger wrote %s, not aba", who)
	}
}
