package check

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"

	"github.com/coord-kv/coord/op"
)

// use is a token that was in force at some zxid, as a fenced write or a grant shows.
type use struct {
	dir   string
	token op.Zxid
	zxid  op.Zxid
	write bool
	by    fmt.Stringer
}

// Fencing checks that writes which were fenced by the token of an exclusive lock, or by a term, were done in the order of
// the tokens: once a holder has written, or a later one was granted, none before it writes.
func Fencing(h *History) error {
	var uses []use
	for _, c := range byZxid(h.Calls) {
		if dir, token := fenceOf(c); dir != "" {
			uses = append(uses, use{dir, token, c.Result.Zxid, true, c})
		}
	}
	for _, t := range h.granted() {
		if t.alone() {
			uses = append(uses, use{t.Dir, t.Token, t.Granted, false, t})
		}
	}
	slices.SortStableFunc(uses, func(a, b use) int { return cmp.Compare(a.zxid, b.zxid) })
	highest := map[string]use{}
	for _, u := range uses {
		if last := highest[u.dir]; u.write && u.token < last.token {
			return fmt.Errorf("%v was done with the token %d after %v with %d", u.by, u.token, last.by, last.token)
		} else if u.token > last.token {
			highest[u.dir] = u
		}
	}
	return nil
}

// fenceOf returns the lock or election and the token that a write which was done had to show.
func fenceOf(c *Call) (dir string, token op.Zxid) {
	x, ok := c.Request.Op.(*op.Txn)
	if !ok || c.Read != nil || !c.Decided() || c.Result.Err != nil || c.Result.Else {
		return "", 0
	}
	for _, o := range x.If {
		switch f := o.(type) {
		case *op.Holder:
			if !f.Rule.Shared && f.Rule.Slots <= 1 {
				return f.Dir, f.Token
			}
		case *op.Term:
			return f.Dir, f.Token
		}
	}
	return "", 0
}

// Registers checks that no fence register, a child of /fences, ever goes back.
func Registers(h *History) error {
	highest := map[string]uint64{}
	ns := NewNamespace()
	for d := range h.Replay(ns) {
		for _, e := range d.Events {
			if op.Parent(e.Path) != "/fences" || e.Type == op.Deleted {
				continue
			}
			token, err := strconv.ParseUint(string(ns.nodes[e.Path].data), 10, 63)
			if err != nil || token < highest[e.Path] {
				return fmt.Errorf("%s was set to %q at zxid %d, after %d", e.Path, ns.nodes[e.Path].data, e.Zxid, highest[e.Path])
			}
			highest[e.Path] = token
		}
	}
	return nil
}
