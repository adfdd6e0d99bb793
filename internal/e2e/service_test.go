package e2e

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestEphemeralGoesWithItsSession opens a session, hangs a node on it, stops keeping it alive, and waits for the node to
// vanish on another member; a second session that is kept alive keeps its node all the while.
func TestEphemeralGoesWithItsSession(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3)
	dying, living := openSession(c, c.members[0], "15s"), openSession(c, c.members[1], "2m")
	createEphemeral(c, c.members[0], "/v1/nodes/dying", dying)
	createEphemeral(c, c.members[1], "/v1/nodes/living", living)

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	go keepAlive(ctx, c.members[1], living)
	page := struct{ Next string }{dying.Zxid}
	for end, text := time.Now().Add(slowest), ""; !strings.Contains(text, `"deleted"`); {
		if time.Now().After(end) {
			t.Fatalf("the node of a session that nobody keeps alive was not deleted: %s", text)
		}
		text, _ = c.members[2].must(t, "GET", "/v1/watch/dying?since="+page.Next+"&wait=10s", "", nil)
		if err := json.Unmarshal([]byte(text), &page); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
	}
	c.members[2].must(t, "GET", "/v1/nodes/living", "", nil)
}

type session struct{ ID, Secret, Zxid string }

func (s session) header() map[string]string {
	return map[string]string{"Coord-Session": s.ID, "Coord-Session-Secret": s.Secret}
}

func openSession(c *cluster, p *process, ttl string) (s session) {
	c.t.Helper()
	text, _ := p.must(c.t, "POST", "/v1/sessions", `{"ttl":"`+ttl+`"}`, nil)
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		c.t.Fatalf("%v: %s", err, text)
	}
	return s
}

func createEphemeral(c *cluster, p *process, path string, s session) {
	c.t.Helper()
	p.must(c.t, "PUT", path+"?ephemeral", "me", s.header())
}

func keepAlive(ctx context.Context, p *process, s session) {
	for ctx.Err() == nil {
		p.do(ctx, "PUT", "/v1/sessions/"+s.ID+"/keepalive", "", s.header())
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

// TestTerminateLeaderFailsNothing stops the leader with SIGTERM while clients of the other members write: leadership is
// handed over, and every request is answered with success.
func TestTerminateLeaderFailsNothing(t *testing.T) {
	t.Parallel()
	c := startSteadyCluster(t, 3)
	leader := c.leader()
	ctx, stop := context.WithCancel(t.Context())
	var wrote atomic.Int64
	failed := make(chan string, 100)
	done := make(chan struct{})
	for _, p := range c.members {
		if p == leader {
			continue
		}
		go func() {
			defer func() { done <- struct{}{} }()
			for ctx.Err() == nil {
				code, text, _ := p.do(context.WithoutCancel(ctx), "PUT", "/v1/nodes/"+p.name, "x", nil)
				if code != 200 && code != 201 {
					failed <- text
					return
				}
				wrote.Add(1)
			}
		}()
	}
	for wrote.Load() < 20 {
		time.Sleep(time.Millisecond) // until there is traffic
	}
	if code := leader.terminate(); code != 0 {
		t.Errorf("the leader ended with exit code %d", code)
	}
	for before := wrote.Load(); wrote.Load() < before+20 && len(failed) == 0; {
		time.Sleep(time.Millisecond) // until there is traffic behind it
	}
	stop()
	<-done
	<-done
	select {
	case text := <-failed:
		t.Errorf("a request failed: %s", text)
	default:
	}
}

// TestRefusedDirectories starts members on directories that are not theirs. Each is refused with exit code 65 and words
// that say what to do.
func TestRefusedDirectories(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1)
	used := c.members[0]
	foreign := t.TempDir()
	os.Chmod(foreign, 0o700)
	os.WriteFile(filepath.Join(foreign, "thesis.doc"), []byte("precious"), 0o600)
	wide := t.TempDir()
	os.Chmod(wide, 0o755)
	for _, test := range []struct{ what, name, dir, want string }{
		{"in use", used.name, used.dir, "another process"},
		{"foreign files", "n1", foreign, "thesis.doc"},
		{"mode", "n1", wide, "chmod 700"},
	} {
		t.Run(test.what, func(t *testing.T) {
			out, code := serveAlone(t, test.name, test.dir)
			if code != 65 || !strings.Contains(out, test.want) {
				t.Errorf("exit code %d, said:\n%s\nwant 65 and %q", code, out, test.want)
			}
		})
	}
	used.terminate()
	if out, code := serveAlone(t, "other", used.dir); code != 65 || !strings.Contains(out, `"n1"`) {
		t.Errorf("another member's directory: exit code %d, said:\n%s", code, out)
	}
}

func serveAlone(t *testing.T, name, dir string) (string, int) {
	ctx, cancel := context.WithTimeout(t.Context(), slowest)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, "serve", "--name", name, "--data-dir", dir, "--listen", freeAddr(t))
	out, _ := cmd.CombinedOutput()
	return string(out), cmd.ProcessState.ExitCode()
}
