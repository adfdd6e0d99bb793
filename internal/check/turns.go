package check

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/coord-kv/coord/op"
)

// Turn is one client's wish to hold a lock or to lead, and what came of it. It was granted if Told is not Never.
type Turn struct {
	Client  int
	Dir     string
	Leads   bool    // an election; else a lock
	Rule    op.Rule // of the lock
	Session op.SessionID
	AtLeast time.Duration // how long the lock is kept for it
	Owner   string        // of the lock: who says to hold it; the same in all turns of a session
	Delay   time.Duration // how long it is to be closed to other owners if the session ends unwanted

	Asked Moment
	Ended Moment // of the asking: granted, given up, or failed
	Lost  Moment // when the client stopped to believe in its session

	Told    Moment  // that it was granted
	Path    string  // of its node
	Token   op.Zxid // of an election the term
	Granted op.Zxid // the state as of which it was granted
}

func (t *Turn) String() string {
	what := "lock"
	if t.Leads {
		what = "election"
	}
	return fmt.Sprintf("client %d in %v, granted the %s %s at zxid %d with token %d", t.Client, t.Session, what, t.Dir, t.Granted, t.Token)
}

// alone reports whether nobody else may hold it meanwhile. Only tokens of these grow.
func (t *Turn) alone() bool { return !t.Rule.Shared && t.Rule.Slots <= 1 }

// excludes reports whether two turns of one directory can't be at once. Of semaphores no pair says so.
func (t *Turn) excludes(o *Turn) bool {
	return t.Rule.Slots <= 1 && o.Rule.Slots <= 1 && (t.alone() || o.alone())
}

// granted returns the turns that were granted, in the order of the grants.
func (h *History) granted() []*Turn {
	turns := slices.DeleteFunc(slices.Clone(h.Turns), func(t *Turn) bool { return t.Told.Never() })
	slices.SortStableFunc(turns, func(a, b *Turn) int { return cmp.Compare(a.Granted, b.Granted) })
	return turns
}

// span is for how long a node stood.
type span struct{ from, to op.Zxid } // the zxid of its deletion; 0 if it stands

// spans returns the life of each numbered node that was given out to a turn.
func (h *History) spans() map[string]span {
	all := map[string]span{}
	for _, t := range h.granted() {
		all[t.Path] = span{}
	}
	for d := range h.Replay(NewNamespace()) {
		for _, e := range d.Events {
			s, ok := all[e.Path]
			switch {
			case !ok:
			case e.Type == op.Created:
				all[e.Path] = span{from: e.Zxid}
			case e.Type == op.Deleted:
				all[e.Path] = span{s.from, e.Zxid}
			}
		}
	}
	return all
}

// Grants checks that whoever was told that a lock or a term is granted to it held it in the very state of the grant: its
// node stood there, of a session that lived, and nobody before it whom the lock doesn't admit beside it.
func Grants(h *History) error {
	turns := h.granted()
	ns := NewNamespace()
	for d := range h.Replay(ns) {
		for ; d.Fresh && len(turns) > 0 && turns[0].Granted <= ns.Zxid(); turns = turns[1:] {
			if why := ns.denies(turns[0]); turns[0].Granted < ns.Zxid() || why != "" {
				return fmt.Errorf("%v, but %s", turns[0], cmp.Or(why, "nothing was decided there"))
			}
		}
	}
	if len(turns) > 0 {
		return fmt.Errorf("%v, which there never was", turns[0])
	}
	return nil
}

// denies says why a turn can't have been granted in this state, "" if it can.
func (n *Namespace) denies(t *Turn) string {
	at, ok := n.nodes[t.Path]
	switch {
	case !ok:
		return "its node didn't stand there"
	case at.owner != t.Session || n.sessions[t.Session] == nil:
		return "the session had ended, or its node was another's"
	case t.Leads && (n.nodes[t.Dir].mzxid != t.Token || n.terms[t.Dir].node != op.Base(t.Path)):
		return "the term was another's"
	case !t.Leads && at.czxid != t.Token:
		return fmt.Sprintf("its node was made by %d", at.czxid)
	}
	before, writers := 0, 0
	for _, s := range n.seats(t.Dir) {
		if s.name == op.Base(t.Path) {
			break
		}
		before++
		if !s.shared {
			writers++
		}
	}
	if t.Rule.Shared && writers > 0 || !t.Rule.Shared && before >= int(max(1, t.Rule.Slots)) {
		return fmt.Sprintf("%d stood before it, %d of them to be alone", before, writers)
	}
	return ""
}

// Exclusion checks that those who exclude each other never held at one zxid: each holds from its grant to the deletion
// of its node. It knows no order of coming, so it doesn't share the rule by which the state machine grants.
func Exclusion(h *History) error {
	spans := h.spans()
	holding := map[string][]*Turn{}
	for _, t := range h.granted() {
		others := slices.DeleteFunc(holding[t.Dir], func(o *Turn) bool {
			end := spans[o.Path].to
			return end != 0 && end <= t.Granted
		})
		for _, o := range others {
			if t.excludes(o) {
				return fmt.Errorf("%v, while it was held by %v", t, o)
			}
		}
		if slots := int(t.Rule.Slots); slots > 0 && len(others) >= slots {
			return fmt.Errorf("%v, while %d held its %d slots", t, len(others), slots)
		}
		holding[t.Dir] = append(others, t)
	}
	return nil
}

// Tokens checks that the tokens of exclusive locks and the terms of elections only grow, in the order of the grants: so
// no two grants share one.
func Tokens(h *History) error {
	last := map[string]*Turn{}
	for _, t := range h.granted() {
		if !t.alone() {
			continue
		}
		if o := last[t.Dir]; o != nil && t.Token <= o.Token {
			return fmt.Errorf("%v after %v", t, o)
		}
		last[t.Dir] = t
	}
	return nil
}

// Fair checks that of those who exclude each other whoever came first was granted first: came with the node that was
// granted, since one who goes to the end of the line comes anew.
func Fair(h *History) error {
	spans := h.spans()
	latest := map[string][]*Turn{}
	for _, t := range h.granted() {
		for _, o := range latest[t.Dir] {
			if t.excludes(o) && spans[t.Path].from < spans[o.Path].from {
				return fmt.Errorf("%v, who had come at %d, after %v, who had come at %d", t, spans[t.Path].from, o, spans[o.Path].from)
			}
		}
		latest[t.Dir] = append(latest[t.Dir], t)
	}
	return nil
}

// Kept checks that nobody is granted an exclusive lock before the minimum hold of an earlier holder is over, by the age
// of the state. A holder whose node is broken or gone keeps it all the same.
func Kept(h *History) error {
	turns := h.granted()
	until := map[string]uint64{}
	ns := NewNamespace()
	for d := range h.Replay(ns) {
		for ; d.Fresh && len(turns) > 0 && turns[0].Granted <= ns.Zxid(); turns = turns[1:] {
			t := turns[0]
			if t.alone() && ns.age < until[t.Dir] {
				return fmt.Errorf("%v, which was to be kept for its last holder for %d ms more", t, until[t.Dir]-ns.age)
			}
			if t.AtLeast > 0 {
				until[t.Dir] = ns.age + uint64(t.AtLeast.Milliseconds())
			}
		}
	}
	return nil
}

// Late checks that nobody was told of a grant after it had stopped to believe in its session.
func Late(h *History) error {
	for _, t := range h.granted() {
		if !t.Lost.Never() && t.Lost.Order < t.Told.Order {
			return fmt.Errorf("%v, was told so at %v, after its session was lost at %v", t, t.Told.At, t.Lost.At)
		}
	}
	return nil
}

// Remembered checks that after faults nobody waits for ever: the history goes on for longer than all who hold something
// hold it, so by its end everybody has had its turn, has given up, or has been told that its session is lost.
func Remembered(h *History) error {
	if h.Recovery.Equal.Never() {
		return nil
	}
	for _, t := range h.Turns {
		if t.Ended.Never() {
			return fmt.Errorf("client %d in %v still waits for %s at %v, since %v", t.Client, t.Session, t.Dir, h.Recovery.End.At, t.Asked.At)
		}
	}
	return nil
}

// Sighting is a leader that an observer was told of; Token 0 stands for nobody.
type Sighting struct {
	Observer int
	Dir      string
	Token    op.Zxid
}

// Sightings checks that observers saw terms that there were, and none after a later one.
func Sightings(h *History) error {
	terms := map[string]map[op.Zxid]bool{}
	for d := range h.Replay(NewNamespace()) {
		ops, _ := made(d.Request.Op, &d.Result)
		for _, o := range ops {
			if x, ok := o.(*op.Lead); ok && d.Result.Err == nil {
				if terms[x.Dir] == nil {
					terms[x.Dir] = map[op.Zxid]bool{}
				}
				terms[x.Dir][d.Result.Zxid] = true
			}
		}
	}
	last := map[int]op.Zxid{}
	for _, s := range h.Sightings {
		switch {
		case s.Token == 0:
			continue
		case !terms[s.Dir][s.Token]:
			return fmt.Errorf("observer %d saw the term %d of %s, which there never was", s.Observer, s.Token, s.Dir)
		case s.Token < last[s.Observer]:
			return fmt.Errorf("observer %d saw the term %d of %s after %d", s.Observer, s.Token, s.Dir, last[s.Observer])
		}
		last[s.Observer] = s.Token
	}
	return nil
}
