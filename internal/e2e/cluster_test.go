// Package e2e tests the real binary from outside: processes, files, sockets, signals.
package e2e

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

var binary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "coord-e2e")
	if err != nil {
		panic(err)
	}
	binary = filepath.Join(dir, "coord")
	build := exec.Command("go", "build", "-o", binary, "github.com/coord-kv/coord/cmd/coord")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		panic(err)
	}
	for _, s := range []os.Signal{syscall.SIGINT, syscall.SIGHUP} {
		if signal.Ignored(s) { // as under nohup; programs started here are to hear it
			signal.Notify(make(chan os.Signal, 1), s)
		}
	}
	flag.Parse()
	flag.Set("test.parallel", "8") // what they do most is wait
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// slowest is how long something may take on a machine that does much else. Nothing that works waits for it.
const slowest = 2 * time.Minute

// cluster is so many members as processes, on ports of their own.
type cluster struct {
	t       *testing.T
	env     []string // of the members, besides this process's own
	members []*process
}

// process is one member.
type process struct {
	name, dir   string
	http, peers string
	list        string
	files       int // that it may open, 0 for as many as this test
	log         *bytes.Buffer
	cmd         *exec.Cmd
}

func startCluster(t *testing.T, n int) *cluster { return (&cluster{t: t}).startMembers(t, n) }

// startSteadyCluster starts members that elect nobody because the machine has paused.
func startSteadyCluster(t *testing.T, n int) *cluster {
	return (&cluster{t: t, env: steady}).startMembers(t, n)
}

var steady = []string{"COORD_TICK=100ms", "COORD_ELECTION_TIMEOUT=10s"}

func (c *cluster) startMembers(t *testing.T, n int) *cluster {
	var list []string
	for range n {
		p := c.add(t)
		list = append(list, p.name+"="+p.peers)
	}
	for _, p := range c.members {
		p.list = strings.Join(list, ",")
		c.start(p)
	}
	t.Cleanup(c.stop)
	for _, p := range c.members {
		c.waitReady(p)
	}
	return c
}

// add makes a member, which is not started yet, and is alone unless it gets a list.
func (c *cluster) add(t *testing.T) *process {
	p := &process{name: fmt.Sprintf("n%d", len(c.members)+1), http: freeAddr(t), peers: freeAddr(t), log: new(bytes.Buffer)}
	p.dir, p.list = filepath.Join(t.TempDir(), p.name), p.name+"="+p.peers
	c.members = append(c.members, p)
	return p
}

// freeAddr returns a loopback address that nobody listens on. Its port is below those that the kernel gives to outgoing
// connections, so that none of them takes it while its member is down.
func freeAddr(t *testing.T) string {
	for range 1000 {
		addr := fmt.Sprintf("127.0.0.1:%d", 10_000+rand.IntN(20_000))
		if ln, err := net.Listen("tcp", addr); err == nil {
			ln.Close()
			return addr
		}
	}
	t.Fatal("no port is free")
	return ""
}

func (c *cluster) start(p *process) {
	args := []string{binary, "serve", "--name", p.name, "--data-dir", p.dir, "--listen", p.http,
		"--peer-listen", p.peers, "--cluster", p.list, "--log-level", "info"}
	if p.files > 0 {
		args = append([]string{"sh", "-c", fmt.Sprintf(`ulimit -n %d && exec "$@"`, p.files), "sh"}, args...)
	}
	p.cmd = exec.Command(args[0], args[1:]...)
	p.cmd.Env = slices.Concat([]string{"COORD_HEADER_TIMEOUT=" + slowest.String()}, os.Environ(), c.env)
	p.cmd.Stderr = p.log
	if err := p.cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
}

// kill ends the process at once, wherever it is.
func (p *process) kill() {
	p.cmd.Process.Kill()
	p.cmd.Wait()
}

// terminate asks the process to stop and returns its exit code.
func (p *process) terminate() int {
	p.cmd.Process.Signal(syscall.SIGTERM)
	p.cmd.Wait()
	return p.cmd.ProcessState.ExitCode()
}

func (c *cluster) stop() {
	for _, p := range c.members {
		p.kill()
		if c.t.Failed() {
			c.t.Logf("log of %s:\n%s", p.name, tail(p.log.String(), 4000))
		}
	}
}

func tail(s string, n int) string { return s[max(0, len(s)-n):] }

func (c *cluster) waitReady(p *process) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), slowest)
	defer cancel()
	for {
		if code, _, _ := p.do(ctx, "GET", "/readyz", "", nil); code == 200 {
			return
		}
		select {
		case <-ctx.Done():
			c.t.Fatalf("%s is not ready", p.name)
		case <-time.After(20 * time.Millisecond): // between questions to another process
		}
	}
}

// must has one request answered with success.
func (p *process) must(t *testing.T, method, path, body string, header map[string]string) (string, http.Header) {
	t.Helper()
	text, h, err := p.insist(t.Context(), method, path, body, header)
	if err != nil {
		t.Fatal(err)
	}
	return text, h
}

// insist sends a request again while the cluster can't serve: a machine that pauses has it elect anew.
func (p *process) insist(ctx context.Context, method, path, body string, header map[string]string) (string, http.Header, error) {
	ctx, cancel := context.WithTimeout(ctx, slowest)
	defer cancel()
	for {
		code, text, h := p.do(ctx, method, path, body, header)
		switch {
		case code >= 200 && code < 300:
			return text, h, nil
		case code != 0 && code < 500, ctx.Err() != nil:
			return "", nil, fmt.Errorf("%s %s at %s: %d %s", method, path, p.name, code, text)
		}
		time.Sleep(20 * time.Millisecond) // between questions to another process
	}
}

// do sends one request. A code of 0 means that there was no answer.
func (p *process) do(ctx context.Context, method, path, body string, header map[string]string) (int, string, http.Header) {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+p.http+path, strings.NewReader(body))
	if err != nil {
		panic(err)
	}
	for k, v := range header {
		req.Header.Set(k, v)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err.Error(), nil
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error(), nil
	}
	return resp.StatusCode, string(text), resp.Header
}

// leader returns the member that leads, as any live one says.
func (c *cluster) leader() *process {
	ctx, cancel := context.WithTimeout(c.t.Context(), slowest)
	defer cancel()
	for ctx.Err() == nil {
		for _, p := range c.members {
			_, text, _ := p.do(ctx, "GET", "/v1/cluster", "", nil)
			for _, q := range c.members {
				if strings.Contains(text, `"leader":"`+q.name+`"`) {
					return q
				}
			}
		}
	}
	c.t.Fatal("nobody knows a leader")
	return nil
}
