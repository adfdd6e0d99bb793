package watch

import "github.com/coord-kv/coord/op"

// Scope says which nodes a filter means besides the one that it names. The named node need not exist.
type Scope uint8

const (
	Exact    Scope = iota // the node itself
	Children              // the node itself and its direct children
	Subtree               // the node itself and everything below it
	numScopes
)

// String returns "exact", "children" or "subtree".
func (s Scope) String() string { return [...]string{"exact", "children", "subtree"}[s] }

// reaches reports whether the scope includes a node that many levels below the named one.
func (s Scope) reaches(levels int) bool {
	switch s {
	case Exact:
		return levels == 0
	case Children:
		return levels <= 1
	}
	return true
}

// Types is a set of event types. The empty set stands for all of them.
type Types uint8

// TypesOf returns the set of those types.
func TypesOf(types ...op.EventType) Types {
	var set Types
	for _, t := range types {
		set |= 1 << t
	}
	return set
}

func (set Types) has(t op.EventType) bool { return set == 0 || set&(1<<t) != 0 }

// Filter says which events a stream gets.
type Filter struct {
	Path  string
	Scope Scope
	Types Types         // zero means all
	Auth  []op.Identity // who asks; not changed as long as the stream is open
}

func (f *Filter) check() error {
	if f.Scope >= numScopes {
		return op.Errorf(op.BadRequest, "scope %d", f.Scope)
	}
	return op.CheckPath(f.Path)
}

// matches reports whether the event is delivered: the one authorisation decision of this package.
func (f *Filter) matches(ev *op.Event) bool {
	return f.Types.has(ev.Type) && f.covers(ev.Path) && op.Permits(ev.ACL.List, f.Auth, op.Read)
}

func (f *Filter) covers(path string) bool {
	switch f.Scope {
	case Exact:
		return path == f.Path
	case Children:
		return path == f.Path || op.Parent(path) == f.Path
	}
	return op.Within(path, f.Path)
}
