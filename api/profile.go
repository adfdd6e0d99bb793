package api

import (
	"net/http"
	"net/http/pprof"
	"net/netip"
	runtimepprof "runtime/pprof"
	"slices"

	"github.com/coord-kv/coord/op"
)

// Profiles of the process, as `go tool pprof` reads them. They tell what the process does, and taking one slows it down,
// so they are for callers on this machine, and for the super user.

func (s *Server) profileRoutes() []route {
	return []route{
		{method: "GET", pattern: "/debug/pprof/", name: "info", serve: (*call).listProfiles, uncounted: true},
		{method: "GET", pattern: "/debug/pprof/{profile}", name: "info", serve: (*call).takeProfile, uncounted: true},
	}
}

// mayProfile refuses others. What a proxy passes on comes from wherever the proxy's callers are, not from this machine.
func (c *call) mayProfile() error {
	ip, err := netip.ParseAddr(remoteIP(c.r))
	h := c.r.Header
	passedOn := len(h["X-Forwarded-For"])+len(h["Forwarded"])+len(h["Via"]) > 0
	if err == nil && ip.IsLoopback() && !passedOn || slices.Contains(c.auth, op.Identity{Scheme: "super"}) {
		return nil
	}
	return withHint(0, op.Denied, "Ask on that machine, or with the name and password that --super has.",
		"profiles are for callers on the member's own machine, and for the super user")
}

func (c *call) listProfiles() error {
	if err := c.mayProfile(); err != nil {
		return err
	}
	if err := c.q.done(); err != nil {
		return err
	}
	c.replied = true
	pprof.Index(c.w, c.r)
	return nil
}

// profileMax is for how many seconds a profile may be taken. It is less than what net/http lets an answer take.
const profileMax = 60

// takeProfile lets net/http/pprof answer, which reads the query once more.
func (c *call) takeProfile() error {
	if err := c.mayProfile(); err != nil {
		return err
	}
	seconds := c.q.number("seconds", 1, profileMax, 0)
	c.q.number("debug", 0, 2, 0)
	c.q.number("gc", 0, 1, 0)
	if err := c.q.done(); err != nil {
		return err
	}
	var serve http.HandlerFunc
	switch {
	case c.arg == "profile":
		serve = pprof.Profile
	case c.arg == "trace":
		serve = pprof.Trace
	case c.arg == "cmdline":
		serve = pprof.Cmdline
	case runtimepprof.Lookup(c.arg) != nil:
		serve = pprof.Handler(c.arg).ServeHTTP
	default:
		return statusError(http.StatusNotFound, op.Unsupported, "there is no such profile; see /debug/pprof/")
	}
	start := c.s.now()
	c.replied = true
	serve(c.w, c.r)
	if seconds > 0 {
		c.waited = c.s.now().Sub(start)
	}
	return nil
}
