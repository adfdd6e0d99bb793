package api

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/coord-kv/coord/internal/near"
	"github.com/coord-kv/coord/op"
)

// Advice for those who are nearly right. None of it decides anything.

// lostQuorum says which members have to come back, "" if this member is connected to enough of them: then an election is
// what is missing.
func lostQuorum(st *op.Status) string {
	voters, down := 0, []string(nil)
	for i := range st.Members {
		m := &st.Members[i]
		if m.Learner {
			continue
		}
		voters++
		if !m.Up {
			down = append(down, m.Name)
		}
	}
	needed := voters/2 + 1
	if voters == 0 || voters-len(down) >= needed {
		return ""
	}
	hint := fmt.Sprintf("Start %s: this member can't reach them, and %d of %d are needed.", strings.Join(down, " and "), needed, voters)
	if !st.Ready {
		return hint + " Until then nothing is read here: it has not caught up with a leader since it started."
	}
	return hint + " Reads with ?consistency=eventual still work."
}

// otherNames are what resources are called elsewhere.
var otherNames = map[string]string{
	"kv": nodesURL, "keys": nodesURL, "leader": "/v1/cluster/leader", "members": "/v1/cluster/members", "status": "/v1/cluster",
}

// maxEcho is how much of a path a hint repeats.
const maxEcho = 100

// instead says where to go from a path at which there is nothing.
func (r router) instead(resource, rest string) string {
	if routes := r[resource]; len(routes) > 0 {
		return below(resource, rest, routes)
	}
	byName := make(map[string]string)
	for url := range r {
		if url == "/debug" {
			continue // not for those who look around
		}
		byName[strings.TrimPrefix(strings.TrimPrefix(url, "/v1"), "/")] = url
	}
	name := strings.ToLower(strings.TrimPrefix(strings.TrimPrefix(resource, "/v1"), "/"))
	switch name {
	case "health", "healthz", "ready", "ping":
		return "Ask /livez if the process serves, /readyz if requests should be sent here, and /v1/cluster how the cluster is."
	}
	url := otherNames[name]
	if url == "" {
		url = byName[near.Nearest(name, slices.Sorted(maps.Keys(byName)))]
	}
	if url != "" && len(rest) <= maxEcho {
		return "Is " + url + rest + " meant? /openapi.json describes all that there is."
	}
	return "There are " + strings.Join(slices.Sorted(maps.Values(byName)), ", ") + "; /openapi.json describes them."
}

// below says what a resource has below it. Who looks there for a key of a configuration is told how to write one.
func below(resource, rest string, routes []route) string {
	if app, key, ok := strings.Cut(strings.TrimPrefix(rest, "/"), "/"); resource == configURL && ok && len(rest) <= maxEcho {
		return fmt.Sprintf(`Keys are read with their application, by GET %s/%s, and written by PUT %[1]s/%[2]s?merge with {"values":{%[3]q:"…"}}.`,
			configURL, app, key)
	}
	patterns := make([]string, len(routes))
	for i := range routes {
		patterns[i] = routes[i].pattern
	}
	slices.Sort(patterns)
	return "There are " + strings.Join(slices.Compact(patterns), ", ") + "."
}

// noParameter says why a query has no such parameter, and which one may be meant.
func noParameter(rt *route, name string) string {
	const none = "there is no such parameter here"
	if rt == nil {
		return none
	}
	all := parameters()
	here := all[rt.method+" "+rt.pattern]
	if slices.Contains(here, name) {
		return "needs another parameter, or can't stand beside one that is given"
	}
	if methods := methodsWith(all, rt.pattern, name); len(methods) > 0 {
		return fmt.Sprintf("belongs to %s, not to %s", strings.Join(methods, " and "), rt.method)
	}
	other, known := otherWith(all, rt.pattern, name)
	if other != "" {
		return fmt.Sprintf("belongs to %s, not to this request", other)
	}
	meant := ""
	switch {
	case name == "timeout" && slices.Contains(here, "wait"):
		meant = "wait"
	case !known: // a name that there is has not been misspelt
		meant = near.Nearest(strings.ToLower(name), here)
	}
	switch {
	case meant != "":
		return none + "; did you mean " + meant + "?"
	case len(here) > 0:
		return none + ", but " + strings.Join(here, ", ")
	}
	return "there are no parameters here"
}

// methodsWith returns the methods of a pattern that have the parameter.
func methodsWith(all map[string][]string, pattern, name string) []string {
	var methods []string
	for _, method := range []string{"GET", "PUT", "POST", "DELETE"} {
		if slices.Contains(all[method+" "+pattern], name) {
			methods = append(methods, method)
		}
	}
	return methods
}

// otherWith returns an operation on the same resource that has the parameter, and whether any operation has it.
func otherWith(all map[string][]string, pattern, name string) (other string, known bool) {
	resource, _ := splitResource(pattern)
	for _, id := range slices.Sorted(maps.Keys(all)) {
		if !slices.Contains(all[id], name) {
			continue
		}
		known = true
		_, path, _ := strings.Cut(id, " ")
		if r, _ := splitResource(path); r == resource {
			return id, true
		}
	}
	return "", known
}

// parameters returns the names of the parameters in the query of each operation, such as "GET /v1/nodes/{path...}", as the
// description of the API has them.
var parameters = sync.OnceValue(func() map[string][]string {
	type parameter struct {
		Ref      string `json:"$ref"`
		In, Name string
	}
	var doc struct {
		Paths      map[string]map[string]json.RawMessage
		Components struct{ Parameters map[string]parameter }
	}
	if err := json.Unmarshal(openAPI(), &doc); err != nil {
		panic(fmt.Sprintf("couldn't read the embedded description of the API: %v", err))
	}
	all := make(map[string][]string)
	for path, item := range doc.Paths {
		for method, raw := range item {
			var operation struct{ Parameters []parameter }
			if json.Unmarshal(raw, &operation) != nil {
				continue // what all operations of a path have in common: its variables
			}
			id := strings.ToUpper(method) + " " + strings.Replace(path, "{path}", "{path...}", 1)
			for _, p := range operation.Parameters {
				if p.Ref != "" {
					p = doc.Components.Parameters[p.Ref[strings.LastIndexByte(p.Ref, '/')+1:]]
				}
				if p.In == "query" {
					all[id] = append(all[id], p.Name)
				}
			}
			slices.Sort(all[id])
		}
	}
	return all
})
