package e2e

import (
	"bufio"
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// command is one run of the binary, with its standard output line by line.
type command struct {
	t     *testing.T
	cmd   *exec.Cmd
	lines *bufio.Scanner
	errs  bytes.Buffer
}

// command runs the binary against the first member.
func (c *cluster) command(args ...string) *command { return c.begin(false, args...) }

// talking is command, with what is said on standard error among the lines.
func (c *cluster) talking(args ...string) *command { return c.begin(true, args...) }

func (c *cluster) begin(talking bool, args ...string) *command {
	c.t.Helper()
	r := &command{t: c.t, cmd: exec.Command(binary, longLived(args)...)}
	r.cmd.Env = append(os.Environ(), "COORD_ENDPOINTS=http://"+c.members[0].http, "COORD_TIMEOUT="+slowest.String(), "XDG_CONFIG_HOME="+c.t.TempDir())
	r.cmd.Stderr = &r.errs
	out, err := r.cmd.StdoutPipe()
	if talking {
		r.cmd.Stderr = r.cmd.Stdout
	}
	if err == nil {
		err = r.cmd.Start()
	}
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { r.cmd.Process.Kill() })
	r.lines = bufio.NewScanner(out)
	return r
}

// longLived gives a command that holds something a session that outlives any pause of the machine, unless it says itself
// how long that lives.
func longLived(args []string) []string {
	name := 1
	if len(args) > 1 && slices.Contains([]string{"queue pop", "group join"}, args[0]+" "+args[1]) {
		name = 2
	} else if !slices.Contains([]string{"lock", "elect", "once", "barrier"}, args[0]) {
		return args
	}
	if slices.Contains(args, "--ttl") {
		return args
	}
	return slices.Insert(slices.Clone(args), name, "--ttl", "2m")
}

// line waits for the next line.
func (r *command) line() string {
	r.t.Helper()
	if !r.lines.Scan() {
		r.cmd.Wait()
		r.t.Fatalf("%v says nothing more: %v\n%s", r.cmd.Args[1:], r.lines.Err(), &r.errs)
	}
	return r.lines.Text()
}

func (r *command) pid() int {
	r.t.Helper()
	id, err := strconv.Atoi(r.line())
	if err != nil {
		r.t.Fatal(err)
	}
	return id
}

// ends waits for the end and returns the rest of the output and the exit code.
func (r *command) ends() (string, int) {
	var rest strings.Builder
	for r.lines.Scan() {
		rest.WriteString(r.lines.Text() + "\n")
	}
	r.cmd.Wait()
	return rest.String(), r.cmd.ProcessState.ExitCode()
}

// says holds that the command ends so, with these words on standard error.
func (r *command) says(code int, words ...string) {
	r.t.Helper()
	out, got := r.ends()
	if got != code {
		r.t.Errorf("%v ended with %d, want %d:\n%s%s", r.cmd.Args[1:], got, code, out, &r.errs)
	}
	for _, w := range words {
		if !strings.Contains(r.errs.String(), w) {
			r.t.Errorf("%v doesn't say %q:\n%s", r.cmd.Args[1:], w, &r.errs)
		}
	}
}

// ended waits until a process that was killed has ended, which is a moment after its files were closed.
func ended(t *testing.T, pid int) {
	t.Helper()
	for end := time.Now().Add(slowest); alive(pid); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("process %d still runs", pid)
		}
	}
}

// alive reports whether a process runs; one that nobody has taken note of yet, but has ended, doesn't.
func alive(pid int) bool {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	_, state, _ := strings.Cut(string(stat), ") ")
	return err == nil && !strings.HasPrefix(state, "Z")
}

const holding = `echo held; while :; do sleep 0.05; done`

func TestLockExitCodes(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1)
	plain := filepath.Join(t.TempDir(), "plain")
	os.WriteFile(plain, []byte("#!/bin/sh\n"), 0o600)
	holder := c.command("lock", "held", "--owner", "cron-2", "--", "sh", "-c", holding)
	holder.line()
	for _, test := range []struct {
		code int
		args string
		says string
	}{
		{0, "a -- true", ""},
		{1, "a -- false", ""},
		{137, "a -- sh -c kill$IFS-9$IFS$$", ""},
		{127, "a -- no-such-program", "couldn't run no-such-program"},
		{126, "a -- " + plain, "#!"},
		{124, "held --try -- true", `lock "held" is held by cron-2 for `},
		{124, "held --wait 50ms -- true", "gave up after 50ms (--wait)\nsee: coord locks show held"},
		{0, "held --try -E 0 -- true", "is held by cron-2"},
		{0, "held --try -E 0 -q -- sh -c echo$IFS\"ran\"", ""},
		{125, "held -- ", "a program is missing"},
		{125, "held", "-- and a program are missing"},
		{125, "", "the name is missing"},
		{125, "held true x", "see: coord lock held -- true x"},
		{124, "y held --try -- true", "coord locks show held"},
		{125, "a --bogus -- true", "unknown flag: --bogus"},
		{125, "a --try --wait 1s -- true", "can't be given together"},
		{125, "a --limit 0 -- true", "--limit 0"},
		{125, "a --grace -1s -- true", "--grace"},
		{125, "a/b -- true", "slash"},
		{125, "-e 127.0.0.1:1 --timeout 1s a -- true", "is it running?"},
		{0, "a -- sh -c exec$IFS\"$0\" true -- --try", ""},
	} {
		t.Run(test.args, func(t *testing.T) {
			r := c.command(append([]string{"lock"}, strings.Fields(test.args)...)...)
			r.t = t
			r.says(test.code, test.says)
		})
	}
}

// TestLockLostStopsChild: the first flaw of its kind. The lock is taken away: the program gets SIGTERM, and what doesn't
// heed it SIGKILL, its children too; the exit code says so; the token of old writes nothing.
func TestLockLostStopsChild(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1)
	r := c.command("lock", "nightly", "--grace", "15s", "--", "sh", "-c", `
trap '' TERM
sleep 1000 &
trap 'echo told' TERM
echo $!
echo $COORD_FENCING_TOKEN
while :; do sleep 0.05; done`)
	grandchild, token := r.pid(), r.line()
	if code, text, _ := c.members[0].do(t.Context(), "DELETE", "/v1/locks/nightly?force&by=ops", "", nil); code != 200 {
		t.Fatalf("not broken: %d %s", code, text)
	}
	out, code := r.ends()
	if code != 123 || out != "told\n" || alive(grandchild) {
		t.Errorf("exit code %d, said %q, the grandchild lives: %t\n%s", code, out, alive(grandchild), &r.errs)
	}
	for _, w := range []string{`lock "nightly" was lost while sh ran`, "any more: broken by ops", "see: coord locks show nightly"} {
		if !strings.Contains(r.errs.String(), w) {
			t.Errorf("it doesn't say %q:\n%s", w, &r.errs)
		}
	}
	c.command("set", "/report", "x", "-p", "--fence", "nightly="+token).says(4, "stale")
}

// TestLockSuspendedStopsChild: nobody answers any more, so nobody can say whether the lock is held. The program has ended
// before the lock can be another's.
func TestLockSuspendedStopsChild(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1)
	r := c.command("lock", "nightly", "--ttl", "30s", "--grace", "15s", "--", "sh", "-c", "trap 'echo told; exit 0' TERM; "+holding)
	r.line()
	c.members[0].cmd.Process.Signal(syscall.SIGSTOP)
	defer c.members[0].cmd.Process.Signal(syscall.SIGCONT)
	if told := r.line(); told != "told" {
		t.Errorf("the program says %q", told)
	}
	r.says(123, "could not be reached")
}

// TestLockEnvironment: no shell takes the words apart, the program can act in the session and with the token, and nothing
// of it is left afterwards.
func TestLockEnvironment(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1)
	r := c.command("lock", "nightly", "--owner", "cron-1", "--", "sh", "-c", `
printf '%s\n' "$1" "$COORD_LOCK" "$COORD_SESSION_SECRET_FILE" "$(stat -c %a $COORD_SESSION_SECRET_FILE)"
"$2" set /report x -q -p --fence "$COORD_LOCK=$COORD_FENCING_TOKEN" && "$2" create /mine -q -e
read end`, "sh", "a  b; $HOME *", binary)
	if word := r.line(); word != "a  b; $HOME *" {
		t.Errorf("the argument became %q", word)
	}
	if name := r.line(); name != "nightly" {
		t.Errorf("COORD_LOCK is %q", name)
	}
	file := r.line()
	if mode := r.line(); mode != "600" {
		t.Errorf("the secret's file has mode %s", mode)
	}
	r.says(1) // of read, without standard input
	if _, err := os.Stat(file); !os.IsNotExist(err) {
		t.Errorf("the secret's file is still there: %v", err)
	}
	if code, text, _ := c.members[0].do(t.Context(), "GET", "/v1/nodes/report?raw", "", nil); text != "x" {
		t.Errorf("the fenced write: %d %q", code, text)
	}
	if code, _, _ := c.members[0].do(t.Context(), "GET", "/v1/nodes/mine", "", nil); code != 404 {
		t.Errorf("the ephemeral node: %d", code)
	}
	if _, text, _ := c.members[0].do(t.Context(), "GET", "/v1/locks/nightly", "", nil); !strings.Contains(text, `"released":"released"`) {
		t.Errorf("the lock: %s", text)
	}
	c.command("lock", "n", "--shell", "--", "echo a | tr a b >&2").says(0, "b\n")
}

// TestLockSeveral: several locks are taken all or none, in one order whatever the order of their names is, and lost together.
func TestLockSeveral(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1)
	locks := func() string {
		_, text, _ := c.members[0].do(t.Context(), "GET", "/v1/locks", "", nil)
		return text
	}
	both := c.command("lock", "b", "a", "--owner", "one", "--", "sh", "-c", `
		set -- $COORD_FENCING_TOKEN
		`+binary+` set /report x -q -p --fence "b=$1" && `+binary+` set /report y -q --fence "a=$2" && echo "$COORD_LOCK"; `+holding)
	if names := both.line(); names != "b a" {
		t.Errorf("COORD_LOCK is %q", names)
	}
	c.command("lock", "c", "b", "--try", "--", "true").says(124, `lock "b" is held by one for`, "coord locks show b")
	if text := locks(); strings.Contains(text, `"lock":"c","mode":"exclusive"`) {
		t.Errorf("one of several is held by who didn't get all: %s", text)
	}
	c.command("lock", "c", "c", "--", "true").says(125, "/locks/c is wanted twice")
	c.command("lock", "c", "d", "--at-least", "1s", "--", "true").says(125, "--at-least is for one lock")
	c.command("lock", "c", "d", "--").says(125, "a program is missing")
	both.line() // held
	if code, text, _ := c.members[0].do(t.Context(), "DELETE", "/v1/locks/a?force", "", nil); code != 200 {
		t.Fatal(code, text)
	}
	both.says(123, `one of the locks "b", "a" was lost while sh ran`)
	if text := locks(); strings.Contains(text, `"owner":"one"`) {
		t.Errorf("the other one is still held: %s", text)
	}
	inner := binary + " lock again -- true"
	c.command("lock", "again", "--", "sh", "-c", inner).says(125, `this runs under lock "again" already`)
	c.command("lock", "again", "--limit", "2", "--", "sh", "-c", binary+" lock again --limit 2 -- true").says(0)
}

// TestLockSignals: signals are the program's; the lock is given back when it has ended. One who waits is out of the line.
func TestLockSignals(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1)
	r := c.command("lock", "nightly", "--", "sh", "-c", "trap 'echo told; exit 5' INT; "+holding)
	r.line()
	waiter := c.command("lock", "nightly", "-v", "--", "true")
	waiting := waitFor(t, c, `"position":1`)
	waiter.cmd.Process.Signal(syscall.SIGTERM)
	waiter.says(128+15, "gave up waiting", "interrupted by SIGTERM")
	if !strings.Contains(waiting, ":"+strconv.Itoa(waiter.cmd.Process.Pid)) {
		t.Errorf("the waiter has no name: %s", waiting)
	}
	if _, text, _ := c.members[0].do(t.Context(), "GET", "/v1/locks/nightly", "", nil); strings.Contains(text, `"position"`) {
		t.Errorf("the waiter is still there: %s", text)
	}
	r.cmd.Process.Signal(syscall.SIGINT)
	if out, code := r.ends(); code != 5 || out != "told\n" {
		t.Errorf("exit code %d, said %q", code, out)
	}
	c.command("lock", "nightly", "--try", "--", "true").says(0)
}

// waitFor waits until the lock nightly looks like that.
func waitFor(t *testing.T, c *cluster, part string) string {
	t.Helper()
	for t.Context().Err() == nil {
		if _, text, _ := c.members[0].do(t.Context(), "GET", "/v1/locks/nightly", "", nil); strings.Contains(text, part) {
			return text
		}
	}
	t.Fatalf("never: %s", part)
	return ""
}

// TestLockKilled: the program doesn't outlive a command that is killed.
func TestLockKilled(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1)
	r := c.command("lock", "nightly", "--", "sh", "-c", "echo $$; exec sleep 1000")
	pid := r.pid()
	r.cmd.Process.Kill()
	r.ends() // until nobody has its output any more
	ended(t, pid)
}

// TestLockWithoutOutput: a program whose reader has gone is the program's own matter.
func TestLockWithoutOutput(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	for _, out := range []io.Writer{w, nil} {
		cmd := exec.Command(binary, "lock", "nightly", "--", "sh", "-c", "echo hello; exit 6")
		cmd.Env = append(os.Environ(), "COORD_ENDPOINTS=http://"+c.members[0].http)
		cmd.Stdout = out
		cmd.Run()
		if code := cmd.ProcessState.ExitCode(); code != 6 && code != 128+int(syscall.SIGPIPE) {
			t.Errorf("exit code %d", code)
		}
	}
	c.command("lock", "nightly", "--try", "--", "true").says(0)
}

// TestElect: the program runs while its candidate leads, and is stopped when somebody else shall.
func TestElect(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1)
	first := c.command("elect", "boss", "--candidate", "a", "--value", "10.0.0.1", "--", "sh", "-c",
		`echo $COORD_ELECTION $COORD_LEADER_TERM; trap 'exit 9' TERM; `+holding)
	name, term, _ := strings.Cut(first.line(), " ")
	if first.line(); name != "boss" || term == "" {
		t.Errorf("COORD_ELECTION is %q, the term %q", name, term)
	}
	c.command("elect", "boss", "--wait", "50ms", "--", "true").says(124, `"boss" is led by a, term `+term)
	second := c.command("elect", "boss", "--candidate", "b", "--", "sh", "-c", `echo $COORD_LEADER_TERM; exit 3`)
	for t.Context().Err() == nil {
		if code, _, _ := c.members[0].do(t.Context(), "POST", "/v1/elections/boss/transfer?to=b", "", nil); code == 200 {
			break
		}
	}
	first.says(123, `the leadership of "boss" was lost`, "coord elections show boss")
	if old, _ := strconv.Atoi(term); second.pid() <= old {
		t.Error("the term doesn't grow")
	}
	second.says(3)
	if _, text, _ := c.members[0].do(t.Context(), "GET", "/v1/elections/boss", "", nil); !strings.Contains(text, `"leader":null`) {
		t.Errorf("after the end: %s", text)
	}
}

// TestLockDelay: whoever waits doesn't get the lock of a command that was killed, but the same owner does, and goes before
// it.
func TestLockDelay(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1)
	log := filepath.Join(t.TempDir(), "log")
	first := c.command("lock", "nightly", "--owner", "one", "--ttl", "15s", "--delay", "24h", "--", "sh", "-c", holding)
	first.line()
	other := c.command("lock", "nightly", "--owner", "two", "--", "sh", "-c", "echo two >>"+log)
	waitFor(t, c, `"position":1`)
	first.cmd.Process.Kill()
	c.command("lock", "nightly", "--owner", "one", "--", "sh", "-c", "echo one >>"+log).says(0)
	other.says(0)
	if got, err := os.ReadFile(log); string(got) != "one\ntwo\n" {
		t.Errorf("the order was %q, %v", got, err)
	}
}
