package check

import (
	"fmt"

	"github.com/coord-kv/coord/op"
)

// Scope says which nodes a watch means besides the one that it names.
type Scope uint8

const (
	Exact    Scope = iota
	Children       // its direct children too
	Subtree        // everything below it too
)

// Watch is one stream of events that a watcher had. When it broke, the watcher goes on with another, mostly on another
// member.
type Watch struct {
	Watcher int
	Path    string
	Scope   Scope
	From    op.Zxid // it was asked for what comes after this
	Batches []WatchBatch
	Gone    bool // it was told that history is gone; the next stream may begin anywhere
	Open    bool // it stood until the history ended, long enough to have got everything
}

// WatchBatch is what came at once, and the position that the stream said it had reached.
type WatchBatch struct {
	Events []op.Event
	At     op.Zxid
}

// Watches checks every stream against the events of the log: those that match and no others (filtered), each once
// (unique), as they happened (ordered), no transaction in two batches (atomic), none missing up to the position reached
// (reliable, bookmarkable); and that each stream begins where the watcher's last one had come to (resumable).
func Watches(h *History) error {
	truth := newTruth(h)
	last := map[int]*Watch{}
	for _, w := range h.Watches {
		prev := last[w.Watcher]
		if prev != nil && !prev.Gone && w.From != prev.position() {
			return fmt.Errorf("watcher %d went on after %d, but had come to %d", w.Watcher, w.From, prev.position())
		}
		last[w.Watcher] = w
		if err := truth.check(w); err != nil {
			return fmt.Errorf("watcher %d, from %d on %s: %w", w.Watcher, w.From, w.Path, err)
		}
	}
	return nil
}

func (w *Watch) position() op.Zxid {
	if len(w.Batches) == 0 {
		return w.From
	}
	return w.Batches[len(w.Batches)-1].At
}

func (w *Watch) covers(path string) bool {
	switch w.Scope {
	case Exact:
		return path == w.Path
	case Children:
		return path == w.Path || op.Parent(path) == w.Path
	}
	return op.Within(path, w.Path)
}

// truth is all that happened.
type truth struct {
	events []op.Event
	zxid   op.Zxid
}

func newTruth(h *History) *truth {
	t, ns := &truth{}, NewNamespace()
	for d := range h.Replay(ns) {
		t.events = append(t.events, d.Events...)
	}
	t.zxid = ns.Zxid()
	return t
}

func (t *truth) check(w *Watch) error {
	expected := t.after(w)
	at := w.From
	for _, b := range w.Batches {
		if b.At < at || b.At > t.zxid {
			return fmt.Errorf("it says that it has reached %d, after %d", b.At, at)
		}
		n := 0
		for n < len(expected) && expected[n].Zxid <= b.At {
			n++
		}
		if err := sameEvents(b.Events, expected[:n]); err != nil {
			return fmt.Errorf("between %d and %d: %w", at, b.At, err)
		}
		expected, at = expected[n:], b.At
	}
	if w.Open && len(expected) > 0 {
		return fmt.Errorf("it never got %s, although it stood until the end", showEvent(expected[0]))
	}
	return nil
}

func (t *truth) after(w *Watch) []op.Event {
	var match []op.Event
	for _, e := range t.events {
		if e.Zxid > w.From && w.covers(e.Path) {
			match = append(match, e)
		}
	}
	return match
}

func sameEvents(got, want []op.Event) error {
	for i := range max(len(got), len(want)) {
		switch {
		case i >= len(got):
			return fmt.Errorf("%s is missing", showEvent(want[i]))
		case i >= len(want):
			return fmt.Errorf("%s came and should not have", showEvent(got[i]))
		case !sameEvent(got[i], want[i]):
			return fmt.Errorf("%s came where %s should have", showEvent(got[i]), showEvent(want[i]))
		}
	}
	return nil
}
