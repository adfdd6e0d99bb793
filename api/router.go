package api

import (
	"net/http"
	"slices"
	"strings"

	"github.com/coord-kv/coord/op"
)

// route is one thing that the server does. Requests to a pattern with {path...} name a node; {id} and the like stand for one segment.
type route struct {
	method  string
	pattern string
	name    string // in metrics
	body    bodyKind
	serve   func(*call) error

	uncounted bool // it may wait long, or must answer however much is going on: Limits.Requests doesn't count it
}

// bodyKind says what a request of a route may carry.
type bodyKind uint8

const (
	noBody bodyKind = iota
	rawBody
	jsonBody
)

// router finds the route of a request. It knows no redirects: a path in another form than the canonical one is refused.
type router map[string][]route // by resource, such as "/v1/nodes"

func newRouter(routes []route) router {
	r := make(router)
	for _, rt := range routes {
		resource, _ := splitResource(rt.pattern)
		r[resource] = append(r[resource], rt)
	}
	return r
}

// splitResource cuts a path behind its resource: two segments under /v1, else one.
func splitResource(path string) (resource, rest string) {
	from := 1
	if strings.HasPrefix(path, "/v1/") {
		from = len("/v1/")
	}
	if len(path) < from {
		return path, ""
	}
	if i := strings.IndexByte(path[from:], '/'); i >= 0 {
		return path[:from+i], path[from+i:]
	}
	return path, ""
}

// find returns the route for a method and a path as it was sent, and what stands for the variable in its pattern.
func (r router) find(method, path string) (*route, string, error) {
	resource, rest := splitResource(path)
	if method == http.MethodHead {
		method = http.MethodGet
	}
	routes := r[resource]
	for i := range routes {
		if routes[i].method != method {
			continue
		}
		v, ok, err := matchRest(routes[i].pattern[len(resource):], rest)
		switch {
		case err != nil:
			return nil, "", err
		case ok:
			return &routes[i], v, nil
		}
	}
	return nil, "", r.otherMethod(method, resource, rest)
}

// otherMethod returns the error for a path that has no route by that method.
func (r router) otherMethod(method, resource, rest string) error {
	var allowed []string
	for _, rt := range r[resource] {
		_, ok, err := matchRest(rt.pattern[len(resource):], rest)
		switch {
		case err != nil:
			return err
		case ok:
			allowed = append(allowed, rt.method)
		}
	}
	if len(allowed) == 0 {
		return withHint(http.StatusNotFound, op.Unsupported, r.instead(resource, rest), "there is no such resource")
	}
	return methodError(method, allowed)
}

func methodError(method string, allowed []string) error {
	if slices.Contains(allowed, http.MethodGet) {
		allowed = append(allowed, http.MethodHead)
	}
	slices.Sort(allowed)
	list := strings.Join(slices.Compact(allowed), ", ")
	return &httpError{
		what:   op.Errorf(op.Unsupported, "%.64q can't be done here, but %s can", method, list),
		status: http.StatusMethodNotAllowed, allow: list,
	}
}

// matchRest matches the part of a path behind its resource with that of a pattern.
func matchRest(pattern, rest string) (string, bool, error) {
	if pattern == "/{path...}" {
		path, err := nodePath(rest)
		return path, err == nil, err
	}
	return matchSegments(pattern, rest)
}

// matchSegments matches segment by segment. One in braces stands for any; what several of them stand for is joined by
// slashes, which none of them can have.
func matchSegments(pattern, rest string) (string, bool, error) {
	want, have := strings.Split(pattern, "/"), strings.Split(rest, "/")
	if len(want) != len(have) {
		return "", false, nil
	}
	var args []string
	for i, seg := range have {
		if !strings.HasPrefix(want[i], "{") {
			if want[i] != seg {
				return "", false, nil
			}
			continue
		}
		if seg == "" {
			return "", false, nil
		}
		args = append(args, seg)
	}
	for i, seg := range args {
		var err error
		if args[i], err = pathSegment(seg); err != nil {
			return "", true, err
		}
	}
	return strings.Join(args, "/"), true, nil
}

func (s *Server) routes() []route {
	return slices.Concat(s.nodeRoutes(), s.txnRoutes(), s.sessionRoutes(), s.watchRoutes(), s.wsRoutes(), s.clusterRoutes(),
		s.healthRoutes(), s.profileRoutes(), s.serviceRoutes(), s.configRoutes(), s.lockRoutes(), s.electionRoutes(), s.fenceRoutes(),
		s.barrierRoutes(), s.latchRoutes(), s.counterRoutes(), s.queueRoutes(), s.groupRoutes(), s.onceRoutes())
}
