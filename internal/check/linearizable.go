package check

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/coord-kv/coord/op"
)

// Linearizable checks, path by path, that there is an order of the writes and linearizable reads that respects real time
// and explains every answer. It looks at versions, data and existence alone, and trusts no zxid.
//
// A write whose outcome its client doesn't know counts as what the log says, and as ended by then: without that, a few of
// them make the search endless. What the end of a session does to its ephemeral nodes may come at any time. Paths that
// change without being named, by recursion, by reaping, or as what a session has left, are left out.
func Linearizable(h *History) error {
	byPath, lingering := map[string][]porcupine.Operation{}, map[string]bool{}
	done := doneByTag(h)
	for _, c := range h.Calls {
		res, end := outcome(c, done)
		if res == nil {
			continue
		}
		for path, list := range steps(c, res) {
			byPath[path] = append(byPath[path], porcupine.Operation{ClientId: c.Client, Input: list, Call: c.Start.Order, Return: end})
			lingering[path] = lingering[path] || list.lingers()
			if owner := list.ephemeralOf(); owner != 0 {
				byPath[path] = append(byPath[path], porcupine.Operation{Input: stepList{{owner: owner}}, Call: c.Start.Order, Return: math.MaxInt64})
			}
		}
	}
	changing := unnamedChanges(h)
	for _, path := range slices.Sorted(maps.Keys(byPath)) {
		if lingering[path] || changing(path) {
			continue
		}
		switch porcupine.CheckOperationsTimeout(registers, byPath[path], searchTime) {
		case porcupine.Illegal:
			return fmt.Errorf("no order of what was done to %s explains the answers", path)
		case porcupine.Unknown:
			return fmt.Errorf("it took too long to find an order of what was done to %s", path)
		}
	}
	return nil
}

// searchTime bounds the search on one path, in real time.
const searchTime = 30 * time.Second

// doneByTag returns the attempts that the log says were done.
func doneByTag(h *History) map[op.Tag]*Decision {
	done := map[op.Tag]*Decision{}
	for d := range h.Replay(NewNamespace()) {
		if d.Fresh && d.Result.Err == nil {
			done[d.Request.Tag] = d
		}
	}
	return done
}

// outcome returns the answer to a call, given or not, and when it ended; nil if the call has no place in the order.
func outcome(c *Call, done map[op.Tag]*Decision) (*op.Result, int64) {
	if c.Decided() {
		if c.Read != nil && c.Read.Level != op.Linearizable {
			return nil, 0
		}
		return c.Result, c.End.Order
	}
	for _, a := range c.Attempts {
		if d := done[a.Tag]; d != nil {
			return &d.Result, d.Entry.Applied.Order
		}
	}
	return nil, 0
}

// unnamedChanges tells the paths that calls have changed, or may have, without naming them.
func unnamedChanges(h *History) func(path string) bool {
	parents, subtrees := map[string]bool{op.Root: true}, []string{}
	for _, c := range h.Calls {
		ops := []op.Op{c.Request.Op}
		if x, ok := c.Request.Op.(*op.Txn); ok {
			ops = slices.Concat(x.Then, x.Else)
		}
		for _, o := range ops {
			switch x := o.(type) {
			case *op.Create:
				for dir := op.Parent(x.Path); x.Parents && dir != op.Root; dir = op.Parent(dir) {
					parents[dir] = true
				}
				parents[x.Path] = parents[x.Path] || x.Kind == op.Container || x.Kind == op.TTL
			case *op.Delete:
				if x.Recursive {
					subtrees = append(subtrees, x.Path)
				}
			}
		}
	}
	return func(path string) bool {
		return parents[path] || slices.ContainsFunc(subtrees, func(dir string) bool { return op.Within(path, dir) })
	}
}

// register is what a path holds.
type register struct {
	exists  bool
	version int32
	data    string
	owner   op.SessionID
}

// stepList is what one call does to one path, at once.
type stepList []step

// step is one operation on a register, and its outcome.
type step struct {
	op    op.Op // nil: the session of owner ends
	owner op.SessionID
	code  op.Code
	stat  *op.Stat
	data  []byte
}

// ephemeralOf returns the session for which the steps have made an ephemeral node.
func (l stepList) ephemeralOf() op.SessionID {
	for _, s := range l {
		if x, ok := s.op.(*op.Create); ok && x.Kind == op.Ephemeral && s.code == op.OK {
			return s.owner
		}
	}
	return 0
}

// lingers reports whether the steps have made a node that the end of its session may only change.
func (l stepList) lingers() bool {
	return slices.ContainsFunc(l, func(s step) bool {
		x, ok := s.op.(*op.Create)
		return ok && x.Lingering()
	})
}

// steps splits a call into what it did to each path. What failed in a transaction has done nothing.
func steps(c *Call, res *op.Result) map[string]stepList {
	ops, results := made(c.Request.Op, res)
	all := map[string]stepList{}
	for i, o := range ops {
		s := step{o, c.Request.Session, code(&results[i]), results[i].Stat, results[i].Data}
		path := pathOf(o)
		if results[i].Path != "" {
			path = results[i].Path
		}
		if path != "" {
			all[path] = append(all[path], s)
		}
	}
	return all
}

// pathOf returns the path whose register an operation is about; "" if it is about more, or not known before it is done.
func pathOf(o op.Op) string {
	switch x := o.(type) {
	case *op.Create:
		if !x.Sequence {
			return x.Path
		}
	case *op.Set:
		return x.Path
	case *op.Delete:
		return x.Path
	case *op.Get:
		return x.Path
	case *op.Exists:
		return x.Path
	}
	return ""
}

var registers = porcupine.Model{
	Init: func() any { return register{} },
	Step: func(state, input, _ any) (bool, any) {
		r := state.(register)
		for _, s := range input.(stepList) {
			next, ok := s.on(r)
			if !ok {
				return false, r
			}
			r = next
		}
		return true, r
	},
}

// on returns the register after the step, and whether the step can have had its outcome there.
func (s step) on(r register) (register, bool) {
	switch x := s.op.(type) {
	case nil:
		if r.exists && r.owner == s.owner && s.owner != 0 {
			return register{}, true
		}
		return r, true
	case *op.Create:
		return s.create(x, r)
	case *op.Set:
		return s.set(x, r)
	case *op.Delete:
		return s.delete(x, r)
	}
	return r, s.read(r)
}

func (s step) create(x *op.Create, r register) (register, bool) {
	owner := op.SessionID(0)
	if x.Kind == op.Ephemeral {
		owner = s.owner
	}
	switch s.code {
	case op.OK:
		if x.Replace && r.exists {
			return register{true, r.version + 1, string(x.Data), r.owner}, true
		}
		return register{exists: true, data: string(x.Data), owner: owner}, !r.exists
	case op.NodeExists:
		return r, r.exists
	}
	return r, true // it is about the parent or the session
}

func (s step) set(x *op.Set, r register) (register, bool) {
	fits := x.If.Version == op.AnyVersion || x.If.Version == r.version
	switch s.code {
	case op.OK:
		next := register{true, r.version + 1, string(x.Data), r.owner}
		return next, r.exists && fits && s.stat.Version == next.version
	case op.NoNode:
		return r, !r.exists
	case op.BadVersion:
		return r, r.exists && (!fits || x.If.Mzxid != 0)
	}
	return r, true
}

func (s step) delete(x *op.Delete, r register) (register, bool) {
	fits := x.If.Version == op.AnyVersion || x.If.Version == r.version
	switch s.code {
	case op.OK:
		return register{}, r.exists && fits
	case op.NoNode:
		return r, !r.exists
	case op.BadVersion:
		return r, r.exists && (!fits || x.If.Mzxid != 0)
	case op.NotEmpty:
		return r, r.exists && fits
	}
	return r, true
}

func (s step) read(r register) bool {
	switch {
	case s.code == op.NoNode:
		return !r.exists
	case s.code != op.OK:
		return true
	case s.stat == nil:
		return !r.exists
	}
	same := r.exists && s.stat.Version == r.version && s.stat.EphemeralOwner == r.owner
	if _, withData := s.op.(*op.Get); withData {
		return same && string(s.data) == r.data
	}
	return same
}
