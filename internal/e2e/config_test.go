package e2e

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestConfigFile starts a member from a file, which the environment and flags overrule.
func TestConfigFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := &process{name: "n1", http: freeAddr(t), log: new(bytes.Buffer)}
	file := filepath.Join(dir, "coord.yaml")
	text := fmt.Sprintf("name: other\ndata-dir: %s/nowhere\nlisten: %s\nmax-poll: 2s\n", dir, p.http)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p.cmd = exec.Command(binary, "serve", "--config", file, "--name", "n1")
	p.cmd.Env = append(os.Environ(), "COORD_NAME=another", "COORD_DATA_DIR="+filepath.Join(dir, "data"))
	p.cmd.Stderr = p.log
	c := &cluster{t: t, members: []*process{p}}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.stop)
	c.waitReady(p)
	if _, _, h := p.do(t.Context(), "GET", "/v1/nodes/", "", nil); h.Get("Coord-Served-By") != "n1" {
		t.Errorf("served by %q: the flag must win over the variable, and that over the file", h.Get("Coord-Served-By"))
	}
	if _, err := os.Stat(filepath.Join(dir, "data")); err != nil {
		t.Errorf("the variable must win over the file: %v", err)
	}
	if code, text, _ := p.do(t.Context(), "GET", "/v1/watch/?wait=3s", "", nil); code != 400 || !strings.Contains(text, "2s") {
		t.Errorf("a poll longer than the file allows: %d %s", code, text)
	}
}

// TestRefusedConfigurations starts members that can't start. Each says why and where, and ends with the code that says
// whether trying again can help.
func TestRefusedConfigurations(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "coord.yaml")
	if err := os.WriteFile(file, []byte("name: n1\ndata_dir: d\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	port := taken.Addr().String()
	alone := []string{"--name", "n1", "--data-dir", filepath.Join(dir, "d")}
	for _, test := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"--config", file}, 2, file + `:2: there is no option "data_dir"; did you mean data-dir?`},
		{[]string{"--config", filepath.Join(dir, "none")}, 2, "no such file"},
		{nil, 2, "COORD_NAME"},
		{append(alone, "--cluster", "n2=a:1,n3=b:1"), 2, "doesn't have this member's name, n1 (--name)"},
		{append(alone, "--tick", "0s"), 2, "10ms to 1s"},
		{append(alone, "--listen", port), 1, "another process listens there"},
		{append(alone, "--listen", freeAddr(t), "--peer-listen", port, "--cluster", "n1="+port+",n2=127.0.0.1:1"), 1,
			"another process listens there"},
		{append(alone, "--listen", "192.0.2.1:7070"), 1, "this machine has no such address"},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), slowest)
		cmd := exec.CommandContext(ctx, binary, append([]string{"serve"}, test.args...)...)
		out, _ := cmd.CombinedOutput()
		cancel()
		if code := cmd.ProcessState.ExitCode(); code != test.code || !strings.Contains(string(out), test.want) {
			t.Errorf("%q: exit code %d, said:\n%s\nwant %d and %q", test.args, code, out, test.code, test.want)
		}
	}
}
