package op

import (
	"strings"
	"time"
)

// Level is the consistency of one read.
type Level uint8

const (
	// Linearizable sees every write that was acknowledged, anywhere, before the read began.
	Linearizable Level = iota
	// Sequential sees nothing older than what its caller has seen or written; ZooKeeper's promise.
	Sequential
	// Bounded sees nothing older than a stated time.
	Bounded
	// Eventual sees some prefix of the history, that of the member asked, as it stands.
	Eventual
	numLevels
)

// String returns "linearizable", "sequential", "bounded" or "eventual".
func (l Level) String() string {
	return [...]string{"linearizable", "sequential", "bounded", "eventual"}[l]
}

// LevelOf returns the level of that name, and whether there is one.
func LevelOf(name string) (Level, bool) {
	for l := range numLevels {
		if l.String() == name {
			return l, true
		}
	}
	return 0, false
}

// CutLevel splits what asks for a level into the level and, with Bounded, the age that stands behind it, which it doesn't
// look at. "bounded; max=500ms" is the form of a header, "bounded&max=500ms" that of a query and "bounded:500ms" that of a
// flag; each means the same everywhere. It returns false if s has none of these forms.
func CutLevel(s string) (level Level, age string, ok bool) {
	name, rest := s, ""
	at := strings.IndexAny(s, ";&:")
	if at >= 0 {
		name, rest = s[:at], strings.TrimSpace(s[at+1:])
		if s[at] != ':' {
			rest, ok = strings.CutPrefix(rest, "max=")
			if !ok {
				return 0, "", false
			}
		}
	}
	level, ok = LevelOf(strings.TrimSpace(name))
	aged := at >= 0 && rest != "" && !strings.ContainsAny(rest, ";&:")
	return level, rest, ok && aged == (level == Bounded) && aged == (at >= 0)
}

// ReadOptions says how fresh a read must be.
type ReadOptions struct {
	Level   Level
	Max     time.Duration // with Bounded: how old the state may be
	MinZxid Zxid          // no state older than this is read, at any level; 0 asks nothing
}

// ReadInfo says how fresh a read was.
type ReadInfo struct {
	Level     Level         // as served: the one asked for, or a stronger one
	Zxid      Zxid          // the state that was read
	Staleness time.Duration // upper bound of its age; negative if this member does not know one
}
