package watch

import (
	"slices"

	"github.com/coord-kv/coord/op"
)

// index finds the streams that wait for a change, by path. A place is a path that some stream names; its streams stand
// in one list for each kind of filter, so that a change walks only over streams that it wakes.
type index struct {
	places   map[string]*place
	subtrees int // streams of scope Subtree; without any, only a change's own path and its parent matter
}

type place struct {
	path  string
	lists []*list
}

// list holds the streams of one place, scope and set of types. Those at the front wait, the others are behind.
type list struct {
	place   *place
	scope   Scope
	types   Types
	streams []*Stream
	waiting int // how many at the front wait
}

// add puts a stream that is behind into the list where it belongs.
func (x *index) add(s *Stream) {
	at := x.places[s.filter.Path]
	if at == nil {
		at = &place{path: s.filter.Path}
		x.places[at.path] = at
	}
	l := at.list(s.filter.Scope, s.filter.Types)
	s.list, s.slot = l, len(l.streams)
	l.streams = append(l.streams, s)
	if l.scope == Subtree {
		x.subtrees++
	}
}

// remove takes a stream out, and its list and place with it if it was their last.
func (x *index) remove(s *Stream) {
	l := s.list
	l.rouse(s)
	last := len(l.streams) - 1
	l.swap(s.slot, last)
	l.streams[last] = nil
	l.streams = l.streams[:last]
	if l.scope == Subtree {
		x.subtrees--
	}
	if last == 0 {
		x.drop(l)
	}
}

func (x *index) drop(l *list) {
	at := l.place
	at.lists = slices.DeleteFunc(at.lists, func(other *list) bool { return other == l })
	if len(at.lists) == 0 {
		delete(x.places, at.path)
	}
}

// fire wakes all streams that wait for such a change and returns how many those were.
func (x *index) fire(ev *op.Event) (woken int) {
	levels := 0
	for path := ev.Path; path != "" && (levels <= 1 || x.subtrees > 0); path = op.Parent(path) {
		if at := x.places[path]; at != nil {
			woken += at.fire(levels, ev)
		}
		levels++
	}
	return woken
}

// fire wakes those streams of the place that a change so many levels below concerns.
func (at *place) fire(levels int, ev *op.Event) (woken int) {
	for _, l := range at.lists {
		if l.scope.reaches(levels) && l.types.has(ev.Type) {
			woken += l.wake(ev.Zxid)
		}
	}
	return woken
}

func (at *place) list(scope Scope, types Types) *list {
	for _, l := range at.lists {
		if l.scope == scope && l.types == types {
			return l
		}
	}
	l := &list{place: at, scope: scope, types: types}
	at.lists = append(at.lists, l)
	return l
}

// wake puts every waiting stream behind: at is the first change that it has to look at.
func (l *list) wake(at op.Zxid) (woken int) {
	for _, s := range l.streams[:l.waiting] {
		s.next = at
		s.signal()
	}
	woken, l.waiting = l.waiting, 0
	return woken
}

// wait moves a stream that is behind to those that wait.
func (l *list) wait(s *Stream) {
	l.swap(s.slot, l.waiting)
	l.waiting++
}

// rouse moves a stream that waits, if it does, to those that are behind.
func (l *list) rouse(s *Stream) {
	if s.slot < l.waiting {
		l.waiting--
		l.swap(s.slot, l.waiting)
	}
}

func (l *list) swap(i, j int) {
	l.streams[i], l.streams[j] = l.streams[j], l.streams[i]
	l.streams[i].slot, l.streams[j].slot = i, j
}
