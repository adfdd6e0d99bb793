package check

import (
	"bytes"
	"fmt"

	"github.com/coord-kv/coord/op"
)

// delay keeps a lock closed to all but one owner.
type delay struct {
	owner string
	path  string // of what its holder has left
	until uint64 // by the age of the state
}

// delays follows the holders of locks with a delay, and what they leave.
type delays struct {
	ns     *Namespace
	owners map[op.SessionID]string
	held   map[string]*Turn // by directory
	closed map[string]delay
}

// Delayed checks that a lock with a delay is granted to nobody but the same owner before the delay is over, by the age of
// the state, once the session of its holder has ended otherwise than by its own close. Force ends the delay, and so does
// the return of the owner, whether it is told of its grant or not.
func Delayed(h *History) error {
	turns := h.granted()
	x := &delays{NewNamespace(), map[op.SessionID]string{}, map[string]*Turn{}, map[string]delay{}}
	for _, t := range h.Turns {
		if !t.Leads {
			x.owners[t.Session] = t.Owner
		}
	}
	for d := range h.Replay(x.ns) {
		x.follow(d)
		for ; d.Fresh && len(turns) > 0 && turns[0].Granted <= x.ns.Zxid(); turns = turns[1:] {
			t := turns[0]
			if c, ok := x.closed[t.Dir]; ok && t.Owner != c.owner && x.ns.age < c.until {
				return fmt.Errorf("%v, which was to be closed to all but %s for %d ms more", t, c.owner, c.until-x.ns.age)
			}
			if t.alone() && t.Delay > 0 {
				x.held[t.Dir] = t
			}
		}
	}
	return nil
}

// follow takes note of a decision: of who has gone, then of whose session it has ended.
func (x *delays) follow(d *Decision) {
	for _, e := range d.Events {
		dir := op.Parent(e.Path)
		if e.Type != op.Deleted {
			continue
		}
		if c := x.closed[dir]; c.path == e.Path && (x.owners[d.Request.Session] == c.owner || breaks(d)) {
			delete(x.closed, dir)
		}
		if t := x.held[dir]; t != nil && t.Path == e.Path && x.ns.sessions[t.Session] != nil {
			delete(x.held, dir)
		}
	}
	for dir, t := range x.held {
		if x.ns.sessions[t.Session] != nil {
			continue
		}
		delete(x.held, dir)
		if c, ok := d.Request.Op.(*op.CloseSession); !ok || c.Killed {
			x.closed[dir] = delay{t.Owner, t.Path, x.ns.age + uint64(t.Delay.Milliseconds())}
		}
	}
}

// breaks reports whether a decision took a lock from somebody by force: it says so in the history of the lock.
func breaks(d *Decision) bool {
	ops, _ := made(d.Request.Op, &d.Result)
	for _, o := range ops {
		if x, ok := o.(*op.Create); ok && bytes.Contains(x.Data, []byte(`"ended":"broken"`)) {
			return true
		}
	}
	return false
}
