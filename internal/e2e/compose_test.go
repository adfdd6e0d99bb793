package e2e

import (
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// TestComposeFile runs what compose.yaml says, with what the Dockerfile says, as processes on this machine: every member has
// its command and environment, but for addresses of loopback in place of those of containers. They become a healthy
// cluster, as their health checks say too, and stop when they are told to.
func TestComposeFile(t *testing.T) {
	services, env := readComposeFile(t)
	c := &cluster{t: t}
	place := map[string]string{} // of what has an address in containers: where it is here
	for _, name := range slices.Sorted(maps.Keys(services)) {
		p := c.add(t)
		p.name = name
		place[name+":7071"] = p.peers
	}
	move := func(s string) string {
		for there, here := range place {
			s = strings.ReplaceAll(s, there, here)
		}
		return s
	}
	var endpoints []string
	t.Cleanup(c.stop)
	for _, p := range c.members {
		p.cmd = exec.Command(binary)
		for _, word := range services[p.name].Command {
			p.cmd.Args = append(p.cmd.Args, move(word))
		}
		here := map[string]string{":7070": p.http, ":7071": p.peers, "/data/coord": p.dir}
		for name, value := range env {
			if here[value] == "" {
				t.Fatalf("nothing on this machine stands for %s=%s", name, value)
			}
			p.cmd.Env = append(p.cmd.Env, name+"="+here[value])
		}
		p.cmd.Env = append(p.cmd.Env, steady...)
		p.cmd.Stderr = p.log
		if err := p.cmd.Start(); err != nil {
			t.Fatal(err)
		}
		endpoints = append(endpoints, p.http)
	}
	status := exec.Command(binary, "status", "--wait", "healthy", "--timeout", "2m", "-e", strings.Join(endpoints, ","))
	if out, err := status.CombinedOutput(); err != nil || !strings.Contains(string(out), "3 of 3 members answer") {
		t.Fatalf("status: %v\n%s", err, out)
	}
	for _, p := range c.members {
		test := services[p.name].Healthcheck.Test
		check := exec.Command(binary, test[2:]...)
		check.Env = []string{"COORD_ENDPOINTS=" + p.http, "COORD_TIMEOUT=2m"}
		if out, err := check.CombinedOutput(); err != nil {
			t.Errorf("%q of %s: %v\n%s", test, p.name, err, out)
		}
		for _, q := range c.members { // each goes by its own name, as others in the network call it
			code, text := p.asked(t, q.name)
			if want := map[bool]int{true: 200, false: 421}[p == q]; code != want {
				t.Errorf("%s, called %s: %d %s", p.name, q.name, code, text)
			}
		}
	}
	for _, p := range c.members {
		if code := p.terminate(); code != 0 {
			t.Errorf("%s ended with %d", p.name, code)
		}
	}
}

// asked reads the root from p under the name of a host.
func (p *process) asked(t *testing.T, host string) (int, string) {
	req, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+p.http+"/v1/nodes/", nil)
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(p.http)
	req.Host = net.JoinHostPort(host, port)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// service is what a container of compose.yaml runs.
type service struct {
	Command     []string
	Healthcheck struct{ Test []string }
}

// readComposeFile returns the services of compose.yaml and the environment that the Dockerfile gives them.
func readComposeFile(t *testing.T) (map[string]service, map[string]string) {
	var compose struct{ Services map[string]service }
	text, err := os.ReadFile(filepath.Join("..", "..", "compose.yaml"))
	if err == nil {
		err = yaml.Unmarshal(text, &compose)
	}
	if err != nil {
		t.Fatal(err)
	}
	dockerfile, err := os.ReadFile(filepath.Join("..", "..", "Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	env := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^ENV (\w+)=(\S+)$`).FindAllStringSubmatch(string(dockerfile), -1) {
		env[m[1]] = m[2]
	}
	if len(compose.Services) != 3 || len(env) != 3 {
		t.Fatalf("there are services %v and variables %v", compose.Services, env)
	}
	return compose.Services, env
}
