package api

import (
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/coord-kv/coord/op"
)

// query is a request's query being read. Its readers take one parameter each; done names those that nobody took, so
// that a misspelt one is never ignored.
type query struct {
	values url.Values
	faults *faults
	route  *route // whose parameters they are, for advice; nil if that is not known
}

// boundWithSemicolon is a bound in the form of the header, whose semicolon separates nothing in a query.
var boundWithSemicolon = regexp.MustCompile(`\bconsistency=bounded;(?:\+|%20)*max=`)

func parseQuery(raw string) (query, error) {
	q := query{faults: new(faults)}
	if raw == "" {
		return q, nil
	}
	values, err := url.ParseQuery(boundWithSemicolon.ReplaceAllString(raw, "consistency=bounded&max="))
	if err != nil {
		return q, withHint(0, op.BadRequest, "Percent-encode what is not a letter or a digit; a semicolon is %3B.",
			"the query is not well formed: %s", err)
	}
	q.values = values
	return q, nil
}

// take returns the parameter's value and whether it is there, and forgets it.
func (q query) take(name string) (string, bool) {
	v, ok := q.values[name]
	delete(q.values, name)
	if len(v) > 1 {
		q.faults.add(name, "is given more than once")
	}
	if !ok {
		return "", false
	}
	return v[0], true
}

func (q query) has(name string) bool { return q.values.Has(name) }

func (q query) text(name string) string {
	v, _ := q.take(name)
	return v
}

// all returns the values of a parameter that may be given more than once.
func (q query) all(name string) []string {
	v := q.values[name]
	delete(q.values, name)
	return v
}

// flag reads a parameter that says yes by being there: ?name, ?name=true or ?name=false.
func (q query) flag(name string, def bool) bool {
	v, ok := q.take(name)
	switch {
	case !ok:
		return def
	case v == "" || v == "true":
		return true
	case v != "false":
		q.faults.add(name, "must be true, false or nothing")
	}
	return false
}

// choose takes a parameter that chooses what the request is about by being there.
func (q query) choose(name string) {
	if v, _ := q.take(name); v != "" && v != "true" {
		q.faults.add(name, "must be true or nothing")
	}
}

// number reads a whole number from lo to hi, or returns def.
func (q query) number(name string, lo, hi, def int64) int64 {
	s, ok := q.take(name)
	if !ok {
		return def
	}
	v, err := strconv.ParseInt(s, 10, 64)
	if err != nil || v < lo || v > hi {
		q.faults.add(name, "must be a whole number from %d to %d", lo, hi)
		return def
	}
	return v
}

func (q query) zxid(name string) (z op.Zxid) {
	s, ok := q.take(name)
	if ok && z.UnmarshalText([]byte(s)) != nil {
		q.faults.add(name, "must be a zxid: a decimal number")
	}
	return z
}

// duration reads a positive duration of whole milliseconds, 0 if the parameter is not there.
func (q query) duration(name string) time.Duration {
	s, ok := q.take(name)
	if !ok {
		return 0
	}
	d, why := parseDuration(s)
	if why != "" {
		q.faults.add(name, "%s", why)
	}
	return d
}

// acl reads all parameters of that name, each one entry "scheme:id:perms", as ZooKeeper's shell writes them.
func (q query) acl(name string) []op.ACL {
	entries := q.values[name]
	delete(q.values, name)
	var list []op.ACL
	for _, s := range entries {
		a, ok := parseACLEntry(s)
		if !ok {
			q.faults.add(name, "must be scheme:id:perms, such as world:anyone:r or ip:10.0.0.0/8:cdrwa")
		}
		list = append(list, a)
	}
	return list
}

func parseACLEntry(s string) (op.ACL, bool) {
	scheme, rest, ok := strings.Cut(s, ":")
	at := strings.LastIndexByte(rest, ':')
	if !ok || at < 0 {
		return op.ACL{}, false
	}
	perms, ok := parsePerms(rest[at+1:])
	return op.ACL{Perms: perms, Scheme: scheme, ID: rest[:at]}, ok
}

// none refuses parameters that go against what the request does.
func (q query) none(why string, names ...string) {
	for _, name := range names {
		if q.values.Has(name) {
			delete(q.values, name)
			q.faults.add(name, "%s", why)
		}
	}
}

// done returns what was wrong with the query, nil if nothing.
func (q query) done() error {
	if len(q.values) == 0 {
		return q.faults.err()
	}
	for _, name := range slices.Sorted(maps.Keys(q.values)) {
		q.faults.unknown(name, "%s", noParameter(q.route, name))
	}
	return q.faults.err()
}
