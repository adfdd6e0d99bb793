package e2e

import (
	"strings"
	"testing"
)

// TestQueueConsumerKilled: what a consumer had whose machine dies is another's, and so is what one has failed with; what
// was done is gone.
func TestQueueConsumerKilled(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1)
	c.command("queue", "push", "jobs", "one").says(0)
	dies := c.command("queue", "pop", "jobs", "--ttl", "15s", "--", "sh", "-c", "cat; echo; "+holding)
	if item := dies.line(); item != "one" {
		t.Errorf("the item is %q", item)
	}
	dies.line()
	next := c.command("queue", "pop", "jobs", "--", "sh", "-c", "cat; exit 7")
	dies.cmd.Process.Kill()
	if out, code := next.ends(); out != "one\n" || code != 7 {
		t.Errorf("the next one got %q, and ended with %d\n%s", out, code, &next.errs)
	}
	if out, code := c.command("queue", "pop", "jobs", "--try", "--", "cat").ends(); out != "one\n" || code != 0 {
		t.Errorf("the last one got %q, and ended with %d", out, code)
	}
	c.command("queue", "pop", "jobs", "--try", "--", "cat").says(124, "has nothing to be had")
	c.command("queue", "pop", "jobs", "-v", "--wait", "1s").says(3, `waiting for an item of queue "jobs"`, "has nothing to be had")
}

// TestItemLost: if the item is taken away while a program works on it, that is told.
func TestItemLost(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1)
	c.command("queue", "push", "jobs", "one").says(0)
	c.command("queue", "pop", "jobs", "--", binary, "queue", "rm", "jobs").says(123, "was lost just before")
	c.command("queue", "push", "jobs", "two").says(0)
	r := c.command("queue", "pop", "jobs", "--", "sh", "-c", `echo $COORD_SESSION; while :; do sleep 0.05; done`)
	if code, text, _ := c.members[0].do(t.Context(), "DELETE", "/v1/sessions/"+r.line(), "", nil); code != 200 {
		t.Fatalf("not ended: %d %s", code, text)
	}
	r.says(123, "was lost while sh ran")
	if out, code := c.command("queue", "pop", "jobs", "--try").ends(); out != "two\n" || code != 0 {
		t.Errorf("got %q, and ended with %d", out, code)
	}
}

// TestBarrierTogether: the programs begin when all are there, and the commands end when all programs have.
func TestBarrierTogether(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1)
	slow := c.command("barrier", "step", "--count", "2", "--ttl", "15s", "--", "sh", "-c", "echo begun; cat; while :; do sleep 0.05; done")
	if out, code := c.command("ls", "/double-barriers/step").ends(); code == 0 && strings.Contains(out, "ready") {
		t.Error("it began with one")
	}
	fast := c.command("barrier", "step", "--count", "2", "--", "sh", "-c", "echo begun; exit 3")
	if slow.line() != "begun" || fast.line() != "begun" {
		t.Error("they didn't begin")
	}
	slow.cmd.Process.Kill() // and its session expires
	if _, code := fast.ends(); code != 3 {
		t.Errorf("ended with %d\n%s", code, &fast.errs)
	}
}

// TestMembershipLost: a member is there while its program runs; one that is taken out has its program stopped.
func TestMembershipLost(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1)
	watch := c.command("group", "watch", "workers")
	r := c.command("group", "join", "workers", "--id", "w1", "--data", "here", "--", "sh", "-c", holding)
	if come := watch.line(); come != `+ w1  "here"` {
		t.Errorf("the watch says %q", come)
	}
	r.line()
	c.command("group", "join", "workers", "--id", "w1", "--", "true").says(125, "w1 belongs to")
	c.command("group", "join", "workers", "--id", "w1", "--replace", "--", "true").says(0)
	r.says(123, `the membership of "w1" in group "workers" was lost while sh ran`)
	for watch.line() != "- w1" {
	}
}
