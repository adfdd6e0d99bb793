package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

// An instance is there while its program runs, as its check finds it, and gone when that ends.
func TestRegister(t *testing.T) {
	url := startMember(t)
	var down atomic.Bool
	health := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if down.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer health.Close()
	end := filepath.Join(t.TempDir(), "end")
	watch := start(t, "services", "watch", "web", "-e", url)
	until(t, "the service is watched", func() bool { return strings.Contains(watch.err.String(), "0 instances") })
	p := start(t, "service", "register", "web", "--port", "80", "--id", "a", "--tag", "v1", "--tag", "eu", "--address", "10.0.0.1",
		"--check", health.URL, "--check-interval", "20ms", "-e", url,
		"--", "sh", "-c", "while [ ! -e "+end+" ]; do sleep 0.02; done; exit 7")
	shows := func(want string, flags ...string) func() bool {
		return func() bool {
			r := execute(t.Context(), "", append([]string{"services", "show", "web", "-o", "raw", "-e", url}, flags...)...)
			return strings.TrimSpace(r.out) == want && (r.code == 0) == (want != "")
		}
	}
	until(t, "it is passing", shows("10.0.0.1:80", "--passing", "--tag", "v1"))
	if !shows("", "--tag", "v2")() {
		t.Error("it is shown by a tag that it doesn't have")
	}
	down.Store(true)
	until(t, "it is not passing any more", shows("", "--passing"))
	if !shows("10.0.0.1:80")() {
		t.Error("it isn't there at all")
	}
	r := execute(t.Context(), "", "services", "show", "web", "-e", url)
	if want := health.URL + ": 503 Service Unavailable\n"; !strings.HasSuffix(r.out, want) {
		t.Errorf("it doesn't say why:\n%s", r.out)
	}
	if err := os.WriteFile(end, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if code := <-p.code; code != 7 {
		t.Errorf("exit %d, want the program's 7:\n%s", code, p.err.String())
	}
	if !shows("")() {
		t.Error("it is registered after its end")
	}
	until(t, "the watch has seen it go", func() bool { return strings.Contains(watch.out.String(), "gone     a") })
	watch.interrupt()
	// It need not have seen the instance before that was found well.
	if code := <-watch.code; code != 0 || !strings.Contains(watch.out.String(), "a  10.0.0.1:80  passing  v1,eu\n") {
		t.Errorf("exit %d:\n%s", code, watch.out.String())
	}
}

// Interrupted, it is deregistered at once. Taken away by others, it says so, and its program is stopped.
func TestRegisterEnds(t *testing.T) {
	url := startMember(t)
	registered := func(args ...string) *process {
		p := start(t, append([]string{"service", "register", "web", "--port", "80", "--id", "a", "-e", url}, args...)...)
		until(t, "it is registered", func() bool { return strings.Contains(p.err.String(), "web/a is registered") })
		return p
	}
	p := registered()
	p.interrupt()
	if code := <-p.code; code != 0 {
		t.Errorf("interrupted: exit %d:\n%s", code, p.err.String())
	}
	p = registered("--", "sleep", "600")
	if r := execute(t.Context(), "", "service", "register", "web", "--port", "80", "--id", "a", "-e", url, "--", "sleep", "600"); r.code != 125 ||
		!strings.HasSuffix(r.err, "next: give another --id, or --replace to take this one\n") {
		t.Errorf("the id is taken: exit %d:\n%s", r.code, r.err)
	}
	second := registered("--replace")
	if code := <-p.code; code != exitLost || !strings.Contains(p.err.String(), "so sleep was stopped") {
		t.Errorf("replaced: exit %d:\n%s", code, p.err.String())
	}
	if r := execute(t.Context(), "", "rm", "/services/web/a", "-e", url); r.code != 0 {
		t.Fatal(r.err)
	}
	if code := <-second.code; code != exitConflict {
		t.Errorf("deregistered: exit %d:\n%s", code, second.err.String())
	}
}

// A program that hangs doesn't answer its check in time, and is critical for that.
func TestRegisterHangs(t *testing.T) {
	url := startMember(t)
	hangs := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	defer hangs.Close()
	if r := execute(t.Context(), "", "service", "register", "web", "--port", "80", "--check-timeout", "0s"); r.code != exitUsage ||
		!strings.Contains(r.err, "--check-timeout is at least 10ms") {
		t.Errorf("exit %d:\n%s", r.code, r.err)
	}
	p := start(t, "service", "register", "web", "--port", "80", "--id", "a", "--check", hangs.URL, "--check-interval", "20ms",
		"--check-timeout", "50ms", "-e", url)
	until(t, "it is critical, and says why", func() bool {
		r := execute(t.Context(), "", "services", "show", "web", "-e", url)
		return strings.Contains(r.out, "not done within 50ms")
	})
	p.interrupt()
	if code := <-p.code; code != 0 {
		t.Errorf("interrupted: exit %d:\n%s", code, p.err.String())
	}
}

// Who loses the session goes on, and registers again.
func TestRegisterAgain(t *testing.T) {
	url := startMember(t)
	end := filepath.Join(t.TempDir(), "end")
	p := start(t, "service", "register", "web", "--port", "80", "--id", "a", "-e", url, "--",
		"sh", "-c", "while [ ! -e "+end+" ]; do sleep 0.02; done")
	times := func() int { return strings.Count(p.err.String(), "web/a is registered at") }
	until(t, "it is registered", func() bool { return times() == 1 })
	r := execute(t.Context(), "", "session", "ls", "-o", "raw", "-e", url)
	id, _, _ := strings.Cut(r.out, " ")
	if r := execute(t.Context(), "", "session", "close", id, "--kill", "-e", url); r.code != 0 {
		t.Fatal(r.err)
	}
	until(t, "it is registered again", func() bool { return times() == 2 })
	if err := os.WriteFile(end, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if code := <-p.code; code != 0 {
		t.Errorf("exit %d:\n%s", code, p.err.String())
	}
}
