package api

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"testing"
)

// TestProfiles: they are had on the member's own machine and by the super user, and by nobody else.
func TestProfiles(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.Super = digestOf("super", "secret") })
	gzip := []byte{0x1f, 0x8b}
	if r := f.must("GET", "/debug/pprof/heap?gc=1", ""); !bytes.HasPrefix(r.body, gzip) {
		t.Errorf("a profile of the heap begins with %q", r.body[:min(len(r.body), 20)])
	}
	if r := f.must("GET", "/debug/pprof/", ""); !bytes.Contains(r.body, []byte("goroutine")) {
		t.Errorf("the list of profiles is %s", r.body)
	}
	if r := f.send("GET", "/debug/pprof/nonsense", ""); r.StatusCode != http.StatusNotFound {
		t.Errorf("a profile that there is not: %s", r.Status)
	}
	if r := f.send("GET", "/debug/pprof/profile?seconds=100", ""); r.StatusCode != http.StatusBadRequest {
		t.Errorf("a profile of too many seconds: %s", r.Status)
	}
	for name, ask := range map[string]func(*http.Request){
		"from elsewhere":  func(r *http.Request) { r.RemoteAddr = "192.0.2.1:1" },
		"through a proxy": func(r *http.Request) { r.RemoteAddr = "127.0.0.1:1"; r.Header.Set("X-Forwarded-For", "192.0.2.1") },
	} {
		for _, target := range []string{"/debug/pprof/", "/debug/pprof/heap"} {
			r := httptest.NewRequest("GET", "http://localhost"+target, nil)
			ask(r)
			if w := httptest.NewRecorder(); serve(f.s, w, r) != http.StatusForbidden {
				t.Errorf("%s %s: %d", target, name, w.Code)
			}
			r.SetBasicAuth("super", "secret")
			if w := httptest.NewRecorder(); serve(f.s, w, r) != http.StatusOK {
				t.Errorf("%s %s, by the super user: %d", target, name, w.Code)
			}
		}
	}
}

func serve(s *Server, w *httptest.ResponseRecorder, r *http.Request) int {
	s.serveHTTP(w, r)
	return w.Code
}
