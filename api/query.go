package api

import (
	"errors"
	"fmt"
	"iter"
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
	params []param  // those that were taken are marked
	few    [2]param // of which they are a part, if there are not more
	faults faults
	route  *route // whose parameters they are, for advice; nil if that is not known
}

// param is one parameter. There are so few in a request that looking through them is faster than a map.
type param struct {
	name, value string
	taken       bool
}

// boundWithSemicolon is a bound in the form of the header, whose semicolon separates nothing in a query.
var boundWithSemicolon = regexp.MustCompile(`\bconsistency=bounded;(?:\+|%20)*max=`)

func (q *query) parse(raw string) (err error) {
	if strings.Contains(raw, ";") {
		raw = boundWithSemicolon.ReplaceAllString(raw, "consistency=bounded&max=")
	}
	if q.params, err = parseParams(raw, q.few[:0]); err != nil {
		return withHint(0, op.BadRequest, "Percent-encode what is not a letter or a digit; a semicolon is %3B.",
			"the query is not well formed: %s", err)
	}
	return nil
}

// maxParams bounds the memory that a query takes beyond its own length.
const maxParams = 10_000

var (
	errParams    = fmt.Errorf("it has more than %d parameters", maxParams)
	errSemicolon = errors.New("invalid semicolon separator in query")
)

// parseParams takes and refuses what url.ParseQuery does. It appends to params, unless they have no room for all.
func parseParams(raw string, params []param) ([]param, error) {
	if raw == "" {
		return nil, nil
	}
	switch n := strings.Count(raw, "&") + 1; {
	case n > maxParams:
		return nil, errParams
	case n > cap(params):
		params = make([]param, 0, n)
	}
	for part := range strings.SplitSeq(raw, "&") {
		if part == "" {
			continue
		}
		if strings.Contains(part, ";") {
			return nil, errSemicolon
		}
		name, value, _ := strings.Cut(part, "=")
		var err error
		if name, err = url.QueryUnescape(name); err != nil {
			return nil, err
		}
		if value, err = url.QueryUnescape(value); err != nil {
			return nil, err
		}
		params = append(params, param{name: name, value: value})
	}
	return params, nil
}

// find yields the parameters of that name that nobody has taken.
func (q *query) find(name string) iter.Seq[*param] {
	return func(yield func(*param) bool) {
		for i := range q.params {
			if p := &q.params[i]; p.name == name && !p.taken && !yield(p) {
				return
			}
		}
	}
}

// peek returns the parameter's value and whether it is there.
func (q *query) peek(name string) (string, bool) {
	for p := range q.find(name) {
		return p.value, true
	}
	return "", false
}

func (q *query) has(name string) bool {
	_, ok := q.peek(name)
	return ok
}

// take is peek, and forgets the parameter.
func (q *query) take(name string) (string, bool) {
	value, n := "", 0
	for p := range q.find(name) {
		if n == 0 {
			value = p.value
		}
		p.taken = true
		n++
	}
	if n > 1 {
		q.faults.add(name, "is given more than once")
	}
	return value, n > 0
}

func (q *query) text(name string) string {
	v, _ := q.take(name)
	return v
}

// all returns the values of a parameter that may be given more than once.
func (q *query) all(name string) []string {
	var all []string
	for p := range q.find(name) {
		p.taken = true
		all = append(all, p.value)
	}
	return all
}

// flag reads a parameter that says yes by being there: ?name, ?name=true or ?name=false.
func (q *query) flag(name string, def bool) bool {
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
func (q *query) choose(name string) {
	if v, _ := q.take(name); v != "" && v != "true" {
		q.faults.add(name, "must be true or nothing")
	}
}

// number reads a whole number from lo to hi, or returns def.
func (q *query) number(name string, lo, hi, def int64) int64 {
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

func (q *query) zxid(name string) (z op.Zxid) {
	s, ok := q.take(name)
	if ok && z.UnmarshalText([]byte(s)) != nil {
		q.faults.add(name, "must be a zxid: a decimal number")
	}
	return z
}

// duration reads a positive duration of whole milliseconds, 0 if the parameter is not there.
func (q *query) duration(name string) time.Duration {
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
func (q *query) acl(name string) []op.ACL {
	var list []op.ACL
	for _, s := range q.all(name) {
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
func (q *query) none(why string, names ...string) {
	for _, name := range names {
		if q.has(name) {
			q.all(name)
			q.faults.add(name, "%s", why)
		}
	}
}

// done returns what was wrong with the query, nil if nothing.
func (q *query) done() error {
	var left []string
	for _, p := range q.params {
		if !p.taken {
			left = append(left, p.name)
		}
	}
	slices.Sort(left)
	for _, name := range slices.Compact(left) {
		q.faults.unknown(name, "%s", noParameter(q.route, name))
	}
	return q.faults.err()
}
