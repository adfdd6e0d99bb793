package api

import (
	"fmt"
	"net/http"
	"runtime"
	"strings"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/coord-kv/coord/op"
)

func (s *Server) healthRoutes() []route {
	metrics := promhttp.HandlerFor(s.metrics.registry, promhttp.HandlerOpts{
		EnableOpenMetrics: true, MaxRequestsInFlight: 4, CoalesceGather: true, DisableCompression: true,
	})
	return []route{
		{method: "GET", pattern: "/livez", name: "health", serve: (*call).livez, uncounted: true},
		{method: "GET", pattern: "/readyz", name: "health", serve: (*call).readyz, uncounted: true},
		{method: "GET", pattern: "/startupz", name: "health", serve: (*call).startupz, uncounted: true},
		{method: "GET", pattern: "/version", name: "info", serve: (*call).showVersion},
		{method: "GET", pattern: "/openapi.json", name: "info", serve: (*call).showOpenAPI},
		{method: "GET", pattern: "/v1/whoami", name: "info", serve: (*call).whoami},
		{method: "GET", pattern: "/metrics", name: "info", uncounted: true, serve: func(c *call) error {
			c.replied = true
			metrics.ServeHTTP(c.w, c.r)
			return nil
		}},
	}
}

// respondText writes one or more lines for people and probes.
func (c *call) respondText(status int, text string) {
	c.respond(status, "text/plain; charset=utf-8", []byte(text))
}

// livez says that the process serves HTTP, and nothing more: a member that waits for others must not be restarted for it.
func (c *call) livez() error {
	if err := c.q.done(); err != nil {
		return err
	}
	c.respondText(http.StatusOK, "ok\n")
	return nil
}

// check is one line of /readyz?verbose.
type check struct {
	name string
	why  string // "" if it passes
}

// readyz says whether requests should be sent here; with ?leader, whether this is the member that needs no forwarding.
func (c *call) readyz() error {
	verbose, leader := c.q.flag("verbose", false), c.q.flag("leader", false)
	if err := c.q.done(); err != nil {
		return err
	}
	st := c.s.backend.Status()
	checks := []check{
		{"started", orElse(st.Ready, st.Reason, "not caught up with a leader yet")},
		{"leader", orElse(st.Leader != 0, "", "no leader is known")},
		{"serving", orElse(!c.s.isDraining(), "", "shutting down")},
	}
	if leader {
		checks = append(checks, check{"is_leader", orElse(st.Leader == st.Member, "", "the leader is "+memberName(&st, st.Leader))})
	}
	c.reportChecks("readyz", checks, verbose)
	return nil
}

// orElse returns "" if ok, else the reason why not.
func orElse(ok bool, reason, otherwise string) string {
	switch {
	case ok:
		return ""
	case reason != "":
		return reason
	}
	return otherwise
}

func (c *call) reportChecks(name string, checks []check, verbose bool) {
	status, verdict := http.StatusOK, "ok"
	var lines strings.Builder
	for _, k := range checks {
		if k.why == "" {
			fmt.Fprintf(&lines, "[+] %s: ok\n", k.name)
			continue
		}
		status, verdict = http.StatusServiceUnavailable, "failed"
		fmt.Fprintf(&lines, "[-] %s: %s\n", k.name, k.why)
	}
	if status == http.StatusOK && !verbose {
		c.respondText(status, "ok\n")
		return
	}
	c.respondText(status, fmt.Sprintf("%s%s %s\n", lines.String(), name, verdict))
}

// startupz passes once the member has been ready for the first time, and from then on.
func (c *call) startupz() error {
	if err := c.q.done(); err != nil {
		return err
	}
	if c.s.started.Load() {
		c.respondText(http.StatusOK, "ok\n")
		return nil
	}
	st := c.s.backend.Status()
	c.s.started.Store(st.Ready)
	c.reportChecks("startupz", []check{{"started", orElse(st.Ready, st.Reason, "still starting")}}, false)
	return nil
}

type versionForm struct {
	Version  string `json:"version"`
	Revision string `json:"revision"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func (c *call) showVersion() error {
	if err := c.q.done(); err != nil {
		return err
	}
	c.respondJSON(http.StatusOK, versionForm{c.s.version, revision(), runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH})
	return nil
}

type whoamiForm struct {
	Identities []identityForm `json:"identities"`
	Principal  string         `json:"principal"` // to whom idempotency keys belong
	Session    *op.SessionID  `json:"session"`
}

type identityForm struct {
	Scheme string `json:"scheme"`
	ID     string `json:"id"`
}

// whoami tells the caller who it has proven to be.
func (c *call) whoami() error {
	session, err := c.session()
	if err != nil {
		return err
	}
	if err := c.q.done(); err != nil {
		return err
	}
	form := whoamiForm{Identities: []identityForm{{"world", "anyone"}}, Principal: principalOf(session, c.auth)}
	if session != 0 {
		form.Session = &session
	}
	for _, id := range c.auth {
		form.Identities = append(form.Identities, identityForm(id))
	}
	c.respondJSON(http.StatusOK, form)
	return nil
}
