package recipe

import (
	"cmp"
	"slices"

	"github.com/coord-kv/coord/op"
)

// Wait says that a session waits in a line behind another one: the lock's holder, or somebody who stands before it.
type Wait struct {
	Session op.SessionID // that waits
	Owner   string
	For     op.SessionID
	Lock    string
}

// Waits returns who waits for whom: for each waiter all those before it whose leaving it has to await. A session that
// waits behind itself is left out: its threads may well take turns.
func Waits(locks []*Info) []Wait {
	var all []Wait
	for _, i := range locks {
		for n, c := range i.Waiters {
			for _, other := range append(slices.Clone(i.Holders), i.Waiters[:n]...) {
				if other.Session != c.Session && !(c.Shared && other.Shared) {
					all = append(all, Wait{c.Session, c.Owner, other.Session, i.Name})
				}
			}
		}
	}
	return all
}

// Deadlocks returns circles of waiting, each beginning with its lowest session: the first waits for the second and so
// on, the last for the first. Of circles that share a session one is named, since breaking that changes the others.
//
// One who waits for a slot of a semaphore waits for any of its holders, not for all, which such a graph can't say;
// circles through semaphores are left out.
func Deadlocks(locks []*Info) [][]Wait {
	edges := map[op.SessionID][]Wait{}
	for _, w := range Waits(slices.DeleteFunc(slices.Clone(locks), func(i *Info) bool { return i.Slots > 0 })) {
		edges[w.Session] = append(edges[w.Session], w)
	}
	var circles [][]Wait
	for prune(edges); len(edges) > 0; prune(edges) {
		circle := walk(edges)
		for _, w := range circle {
			delete(edges, w.Session)
		}
		circles = append(circles, circle)
	}
	return circles
}

// prune removes sessions that wait for nobody who waits, until every session left waits for one that is left.
func prune(edges map[op.SessionID][]Wait) {
	for again := true; again; {
		again = false
		for s, waits := range edges {
			kept := slices.DeleteFunc(waits, func(w Wait) bool { return edges[w.For] == nil })
			again = again || len(kept) < len(waits)
			edges[s] = kept
			if len(kept) == 0 {
				delete(edges, s)
				again = true
			}
		}
	}
}

// walk follows who waits for whom, always the lowest, until a session comes again, and returns the circle.
func walk(edges map[op.SessionID][]Wait) []Wait {
	lowest := func(a, b Wait) int { return cmp.Compare(a.For, b.For) }
	var at op.SessionID
	for s := range edges {
		if at == 0 || s < at {
			at = s
		}
	}
	var path []Wait
	for {
		if i := slices.IndexFunc(path, func(w Wait) bool { return w.Session == at }); i >= 0 {
			circle := path[i:]
			low := slices.IndexFunc(circle, func(w Wait) bool {
				return w.Session == slices.MinFunc(circle, func(a, b Wait) int { return cmp.Compare(a.Session, b.Session) }).Session
			})
			return append(slices.Clone(circle[low:]), circle[:low]...)
		}
		w := slices.MinFunc(edges[at], lowest)
		path = append(path, w)
		at = w.For
	}
}
