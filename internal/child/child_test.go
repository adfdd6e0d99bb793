package child_test

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coord-kv/coord/internal/child"
)

// patient is a grace that no test sees the end of.
const patient = time.Minute

var errLost = errors.New("lost")

// TestMain can be the process that runs a program and is killed.
func TestMain(m *testing.M) {
	if script := os.Getenv("CHILD_OF_TEST"); script != "" {
		p, err := child.Start(child.Command{Args: []string{"sh", "-c", script}, Stdout: os.Stdout})
		if err != nil {
			panic(err)
		}
		os.Exit(p.Wait().Code)
	}
	hearAll()
	os.Exit(m.Run())
}

// hearAll has signals heard that were ignored when the tests began, as under nohup: here, and in programs started here.
func hearAll() {
	for _, s := range []os.Signal{syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT} {
		if signal.Ignored(s) {
			signal.Notify(make(chan os.Signal, 1), s)
		}
	}
}

// talking is a shell script that runs, and its standard output line by line.
type talking struct {
	*child.Process
	t     *testing.T
	lines *bufio.Scanner
}

func run(t *testing.T, c child.Command, script string) *talking {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	c.Args, c.Stdout = []string{"sh", "-c", script}, w
	p, err := child.Start(c)
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	return &talking{p, t, bufio.NewScanner(r)}
}

func (c *talking) line() string {
	c.t.Helper()
	if !c.lines.Scan() {
		c.t.Fatalf("the program says nothing more: %v", c.lines.Err())
	}
	return c.lines.Text()
}

// pid reads the id of a process that the script names.
func (c *talking) pid() int {
	c.t.Helper()
	id, err := strconv.Atoi(c.line())
	if err != nil {
		c.t.Fatal(err)
	}
	return id
}

// runs reports whether a process does anything; one that has ended and that nobody has taken note of doesn't.
func runs(pid int) bool {
	s := state(pid)
	return s != "" && s != "Z" && s != "X"
}

// state returns what a process is doing, in a letter as in proc(5); "" if there is none.
func state(pid int) string {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, after, ok := strings.Cut(string(stat), ") ")
	if err != nil || !ok {
		return ""
	}
	return after[:1]
}

// until waits for what comes on any machine, if it comes.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(patient); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it never came that %s", what)
		}
	}
}

func TestCodes(t *testing.T) {
	for script, want := range map[string]child.Result{
		"exit 0":        {},
		"exit 7":        {Code: 7},
		"exit 255":      {Code: 255},
		"kill -TERM $$": {Code: 143, Signal: syscall.SIGTERM},
		"kill -KILL $$": {Code: 137, Signal: syscall.SIGKILL},
	} {
		if got := run(t, child.Command{}, script).Wait(); got != want {
			t.Errorf("%s: %+v, want %+v", script, got, want)
		}
	}
}

func TestCannotStart(t *testing.T) {
	dir := t.TempDir()
	plain := filepath.Join(dir, "plain")
	os.WriteFile(plain, []byte("#!/bin/sh\n"), 0o600)
	garbage := filepath.Join(dir, "garbage")
	os.WriteFile(garbage, []byte{0, 1, 2}, 0o700)
	for program, want := range map[string]int{
		"no-such-program": 127, filepath.Join(dir, "nothing"): 127, plain: 126, garbage: 126, dir: 126,
	} {
		_, err := child.Start(child.Command{Args: []string{program}})
		if err == nil {
			t.Fatalf("%s was started", program)
		}
		if got := child.StartCode(err); got != want {
			t.Errorf("%s: %d, want %d: %v", program, got, want, err)
		}
	}
}

// TestStreams: what isn't a file goes through pipes, all of it before Wait returns; the environment is added to.
func TestStreams(t *testing.T) {
	var out, errs strings.Builder
	t.Setenv("KEPT", "kept")
	p, err := child.Start(child.Command{
		Args: []string{"sh", "-c", `cat; echo "$KEPT $1" >&2; echo $NEW >&2`, "sh", "a  b; $x"}, Env: []string{"NEW=new"},
		Stdin: strings.NewReader("from here"), Stdout: &out, Stderr: &errs, Grace: patient,
	})
	if err != nil {
		t.Fatal(err)
	}
	if r := p.Wait(); r.Code != 0 || out.String() != "from here" || errs.String() != "kept a  b; $x\nnew\n" {
		t.Errorf("%+v %q %q", r, out.String(), errs.String())
	}
}

// TestStop: the program can do what it has to on SIGTERM, and its status stays.
func TestStop(t *testing.T) {
	p := run(t, child.Command{}, `trap 'echo ending; exit 3' TERM; echo $$; while :; do sleep 0.01; done`)
	p.line()
	p.Stop(errLost, patient)
	p.Stop(errors.New("another reason"), patient)
	if r := p.Wait(); r != (child.Result{Code: 3, Reason: errLost}) || p.line() != "ending" {
		t.Errorf("%+v", r)
	}
	p.Stop(errLost, 0) // one that has ended
}

// TestStopKills: one that ignores SIGTERM is killed, with what it has started, also where it is stopped.
func TestStopKills(t *testing.T) {
	p := run(t, child.Command{}, `trap '' TERM; sleep 1000 & echo $!; kill -STOP $!; echo $$; while :; do sleep 1; done`)
	grandchild, leader := p.pid(), p.pid()
	p.Stop(errLost, time.Millisecond)
	if r := p.Wait(); r != (child.Result{Code: 137, Signal: syscall.SIGKILL, Reason: errLost}) {
		t.Errorf("%+v", r)
	}
	if runs(grandchild) || runs(leader) {
		t.Error("it still runs")
	}
}

// TestStoppedHears: a program that is suspended is continued, so that it ends by SIGTERM.
func TestStoppedHears(t *testing.T) {
	p := run(t, child.Command{}, `trap 'exit 3' TERM; echo $$; kill -STOP $$; while :; do sleep 0.01; done`)
	pid := p.pid()
	until(t, "the program has stopped itself", func() bool { return state(pid) == "T" })
	p.Stop(errLost, patient)
	if r := p.Wait(); r.Code != 3 {
		t.Errorf("%+v", r)
	}
}

// TestNothingStays: what a program leaves behind is asked to end, and then killed.
func TestNothingStays(t *testing.T) {
	p := run(t, child.Command{Grace: patient}, `sleep 1000 & echo $!; exit 5`)
	polite := p.pid()
	if r := p.Wait(); r != (child.Result{Code: 5}) || runs(polite) {
		t.Errorf("%+v, it runs: %t", r, runs(polite))
	}
	p = run(t, child.Command{Grace: 10 * time.Millisecond}, `trap '' TERM; sleep 1000 & echo $!; exit 5`)
	deaf := p.pid()
	if r := p.Wait(); r != (child.Result{Code: 5}) || runs(deaf) {
		t.Errorf("%+v, it runs: %t", r, runs(deaf))
	}
}

// TestForwards: signals of this process are the program's.
func TestForwards(t *testing.T) {
	p := run(t, child.Command{}, `
for s in INT HUP QUIT USR1 USR2; do trap "echo $s" $s; done
trap "echo TERM; exit 9" TERM
echo ready
while :; do sleep 0.01; done`)
	p.line()
	for s, name := range map[syscall.Signal]string{
		syscall.SIGINT: "INT", syscall.SIGHUP: "HUP", syscall.SIGQUIT: "QUIT", syscall.SIGUSR1: "USR1", syscall.SIGUSR2: "USR2",
	} {
		syscall.Kill(os.Getpid(), s)
		if got := p.line(); got != name {
			t.Errorf("%v: the program says %q", s, got)
		}
	}
	p.Signal(syscall.SIGTERM)
	if got := p.line(); got != "TERM" {
		t.Errorf("the program says %q", got)
	}
	if r := p.Wait(); r != (child.Result{Code: 9}) {
		t.Errorf("%+v", r)
	}
	p.Signal(syscall.SIGTERM) // nobody is there
}

// TestParentKilled: the program doesn't outlive the process that runs it.
func TestParentKilled(t *testing.T) {
	parent := exec.Command(os.Args[0])
	parent.Env = append(os.Environ(), "CHILD_OF_TEST=echo $$; exec sleep 1000")
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	lines.Scan()
	pid, err := strconv.Atoi(lines.Text())
	if err != nil {
		t.Fatal(err)
	}
	parent.Process.Kill()
	if lines.Scan() { // until nobody has the pipe any more
		t.Errorf("it says %q", lines.Text())
	}
	parent.Wait()
	until(t, "the program has ended", func() bool { return !runs(pid) }) // its files are closed before that
}
