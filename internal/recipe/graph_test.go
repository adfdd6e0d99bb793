package recipe

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/coord-kv/coord/op"
)

// queue returns a line of sessions, the first of whom hold.
func queue(name string, holders int, sessions ...op.SessionID) *Info {
	i := &Info{Name: name}
	for n, s := range sessions {
		c := Contender{Session: s, Owner: s.String()}
		if n < holders {
			i.Holders = append(i.Holders, c)
		} else {
			i.Waiters = append(i.Waiters, c)
		}
	}
	return i
}

func slotted(i *Info) *Info {
	i.Slots = len(i.Holders)
	return i
}

func TestDeadlocks(t *testing.T) {
	for name, test := range map[string]struct {
		locks []*Info
		want  string
	}{
		"nobody waits":          {[]*Info{queue("a", 1, 1), queue("b", 1, 2)}, ""},
		"a chain":               {[]*Info{queue("a", 1, 1, 2), queue("b", 1, 2, 3), queue("c", 1, 3, 4)}, ""},
		"two":                   {[]*Info{queue("a", 1, 1, 2), queue("b", 1, 2, 1)}, "s-1 for s-2 in b, s-2 for s-1 in a"},
		"two, one waits behind": {[]*Info{queue("a", 1, 1, 2), queue("b", 1, 2, 1, 9)}, "s-1 for s-2 in b, s-2 for s-1 in a"},
		"three": {
			[]*Info{queue("a", 1, 3, 1), queue("b", 1, 1, 2), queue("c", 1, 2, 3)},
			"s-1 for s-3 in a, s-3 for s-2 in c, s-2 for s-1 in b",
		},
		"two circles": {
			[]*Info{queue("a", 1, 1, 2), queue("b", 1, 2, 1), queue("c", 1, 7, 8), queue("d", 1, 8, 7)},
			"s-1 for s-2 in b, s-2 for s-1 in a; s-7 for s-8 in d, s-8 for s-7 in c",
		},
		"behind one who waits": {[]*Info{queue("a", 1, 5, 1, 2), queue("b", 1, 2, 1)}, "s-1 for s-2 in b, s-2 for s-1 in a"},
		"itself":               {[]*Info{queue("a", 1, 1, 1)}, ""},
		"a semaphore":          {[]*Info{queue("a", 1, 1, 2), slotted(queue("s", 1, 2, 1))}, ""},
	} {
		var circles []string
		for _, circle := range Deadlocks(test.locks) {
			var words []string
			for _, w := range circle {
				words = append(words, fmt.Sprintf("%s for %s in %s", w.Session, w.For, w.Lock))
			}
			circles = append(circles, strings.Join(words, ", "))
		}
		if got := strings.Join(circles, "; "); got != test.want {
			t.Errorf("%s: %q, not %q", name, got, test.want)
		}
	}
}

// TestFence: a register accepts the highest token that it has seen, and higher ones.
func TestFence(t *testing.T) {
	w := newWorld(t)
	c := w.open()
	if _, err := ReadFence(t.Context(), c, "db"); !errors.Is(err, &op.Error{Code: op.NoNode}) {
		t.Errorf("a register that was never used: %v", err)
	}
	for _, test := range []struct {
		token op.Zxid
		want  op.Code
	}{
		{41, op.OK}, {41, op.OK}, {40, op.StaleToken}, {57, op.OK}, {41, op.StaleToken}, {56, op.StaleToken}, {57, op.OK},
		{0, op.BadRequest},
	} {
		f, err := Pass(t.Context(), c, "db", test.token)
		e, _ := errors.AsType[*op.Error](err)
		if (err == nil) != (test.want == op.OK) || err != nil && e.Code != test.want {
			t.Errorf("token %d: %v", test.token, err)
		}
		if err == nil && f.Token != test.token {
			t.Errorf("token %d: %+v", test.token, f)
		}
	}
	// Somebody else's token in between.
	c.blur = func(op.Op) (bool, bool) {
		c.blur = nil
		if _, err := Pass(t.Context(), w.open(), "db", 90); err != nil {
			t.Error(err)
		}
		return true, false
	}
	if _, err := Pass(t.Context(), c, "db", 80); !errors.Is(err, &op.Error{Code: op.StaleToken}) {
		t.Errorf("80 after 90: %v", err)
	}
}

// TestRemake: an empty line whose numbers are nearly used up begins at 0 again; one that isn't empty goes on.
func TestRemake(t *testing.T) {
	defer func(n uint64) { remakeFrom = n }(remakeFrom)
	remakeFrom = 3
	w := newWorld(t)
	c := w.open()
	var names []string
	var last op.Zxid
	for range 6 {
		l, _ := NewLock(c, Spec{Name: "x", Rand: w})
		g, err := l.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if g.Token <= last {
			t.Errorf("token %d after %d", g.Token, last)
		}
		last = g.Token
		names = append(names, g.Path[len(g.Path)-1:])
		if err := g.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if got := strings.Join(names, ""); got != "012012" {
		t.Errorf("the numbers were %s", got)
	}
}

// TestHistoryIsBounded: of many tenures the latest are kept.
func TestHistoryIsBounded(t *testing.T) {
	w := newWorld(t)
	c := w.open()
	for range keepTenures + 30 {
		l, _ := NewLock(c, Spec{Name: "x", Rand: w})
		g, err := l.Acquire(t.Context())
		if err == nil {
			err = g.Release(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	i, err := Inspect(t.Context(), c, "x")
	if err != nil || len(i.History) != keepTenures || i.History[0].Ended != Released {
		t.Errorf("%d tenures, %v", len(i.History), err)
	}
}
