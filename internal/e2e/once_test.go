package e2e

import (
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestOnce: of two at once one runs its program, the other one has nothing to do; it is so for the rest of the period.
func TestOnce(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1)
	first := c.command("once", "report", "--every", "1h", "--owner", "host-1", "--", "sh", "-c",
		"trap 'exit 3' INT; echo $COORD_ONCE; while :; do sleep 0.05; done")
	if name := first.line(); name != "report" {
		t.Errorf("COORD_ONCE is %q", name)
	}
	c.command("once", "report", "--", "echo", "again").says(0, `nothing to do for "report": it is run by host-1`)
	c.command("once", "report", "-E", "9", "--", "echo", "again").says(9, "it is run by host-1")
	first.cmd.Process.Signal(syscall.SIGINT)
	first.says(3)
	c.command("once", "report", "-E", "9", "--", "echo", "again").says(9, "it was run by host-1 in this period: exit code 3")
	if out, _ := c.command("get", "/once/report/last").ends(); !strings.Contains(out, `"status":"exit code 3"`) {
		t.Errorf("the record is %s", out)
	}
	c.command("once", "report", "--every", "0s", "--", "true").says(125, "--every")
	c.command("once", "a/b", "--", "true").says(125, "slash")
}

// TestOnceRetry: with --retry a program that fails has not been run, and one that can't be run never has.
func TestOnceRetry(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1)
	c.command("once", "report", "--retry", "--", "sh", "-c", "exit 4").says(4)
	c.command("once", "report", "--", "no-such-program").says(127, "couldn't run no-such-program")
	if out, code := c.command("once", "report", "--retry", "--", "echo", "done").ends(); code != 0 || out != "done\n" {
		t.Errorf("said %q, and ended with %d", out, code)
	}
	c.command("once", "report", "--retry", "-E", "9", "--", "echo", "again").says(9, "it was run by")
}

// TestOnceKilled: if the machine that runs it dies, the next one who asks runs it, and with --at-most-once nobody does in
// this period.
func TestOnceKilled(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1)
	for _, name := range []string{"retried", "given-up"} {
		r := c.command("once", name, "--ttl", "15s", "--owner", "host-1", "--", "sh", "-c", holding)
		r.line()
		r.cmd.Process.Kill()
		r.ends()
	}
	next := func(name string, flags ...string) (said string, code int) {
		for ; t.Context().Err() == nil; time.Sleep(200 * time.Millisecond) { // between questions to a service
			r := c.command(append(append([]string{"once", name, "-E", "9"}, flags...), "--", "echo", "run again")...)
			if said, code = r.ends(); !strings.Contains(r.errs.String(), "it is run by host-1") {
				return said + r.errs.String(), code
			}
		}
		return said, code
	}
	if said, code := next("retried"); code != 0 || said != "run again\n" {
		t.Errorf("the next one said %q, and ended with %d", said, code)
	}
	if said, code := next("given-up", "--at-most-once"); code != 9 || !strings.Contains(said, "host-1 began it in this period and did not finish") {
		t.Errorf("at most once, it said %q, and ended with %d", said, code)
	}
}

// TestOnceLost: a run whose session is taken away has its program stopped.
func TestOnceLost(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1)
	r := c.command("once", "report", "--", "sh", "-c", "echo $COORD_SESSION; while :; do sleep 0.05; done")
	if code, text, _ := c.members[0].do(t.Context(), "DELETE", "/v1/sessions/"+r.line(), "", nil); code != 200 {
		t.Fatalf("not ended: %d %s", code, text)
	}
	r.says(123, `the run of "report" was lost while sh ran`)
	if out, code := c.command("once", "report", "--", "echo", "again").ends(); code != 0 || out != "again\n" {
		t.Errorf("the next one said %q, and ended with %d", out, code)
	}
}
