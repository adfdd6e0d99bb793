package recipe

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/coord-kv/coord/op"
)

// takeOut makes somebody delete the node that the session is about to leave for another place in the line.
func (c *conn) takeOut() (done *bool) {
	done = new(bool)
	c.blur = func(o op.Op) (bool, bool) {
		x, ok := o.(*op.Txn)
		if !ok || len(x.Then) < 3 {
			return true, false
		}
		if leave, ok := x.Then[0].(*op.Delete); ok {
			c.blur, *done = nil, true
			c.w.apply(&op.Request{Op: &op.Delete{Path: leave.Path, If: op.Always}}, 0)
		}
		return true, false
	}
	return done
}

// TestTakenOutWhileYielding: a candidate that is taken out of the line when it is about to make way comes back.
func TestTakenOutWhileYielding(t *testing.T) {
	w := newWorld(t)
	var leaders []string
	campaign := func(id string, priority int) *conn {
		c := w.open()
		w.spawn(id, func(ctx context.Context, task *task) {
			defer stopped()
			e, err := NewElection(c.as(task), Candidacy{Name: "x", ID: id, Priority: priority, Rand: w})
			if err != nil {
				t.Error(err)
				return
			}
			term, err := e.Campaign(ctx)
			if err != nil {
				t.Errorf("%s: %v", id, err)
				return
			}
			leaders = append(leaders, id)
			task.pause(nil)
			if err := term.Resign(ctx); err != nil {
				t.Errorf("%s: %v", id, err)
			}
		})
		return c
	}
	campaign("first", 0)
	w.tasks[0].advance() // it stands in line before the others come
	w.tasks[0].advance()
	low := campaign("low", 0)
	w.tasks[1].advance()
	w.tasks[1].advance()
	campaign("high", 1)
	w.tasks[2].advance()
	w.tasks[2].advance()
	done := low.takeOut()
	w.run(nil, nil)
	if want := []string{"first", "high", "low"}; !*done || !slices.Equal(leaders, want) {
		t.Errorf("taken out: %t; %v led, not %v", *done, leaders, want)
	}
}

// TestTakenOutWhileRenaming: so is the error of one who wants a lock and takes a name that those before it understand.
func TestTakenOutWhileRenaming(t *testing.T) {
	w := newWorld(t)
	foreign := w.open()
	w.apply(&op.Request{Session: foreign.id, Op: &op.Create{
		Path: "/locks/x/0123456789abcdef0123456789abcdef__lock__", Kind: op.Ephemeral, Sequence: true, Parents: true,
	}}, 0)
	c := w.open()
	done := c.takeOut()
	l, err := NewLock(c, Spec{Name: "x", Rand: w})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Acquire(t.Context()); !errors.Is(err, &op.Error{Code: op.NotHolder}) || !*done {
		t.Errorf("%v, taken out: %t", err, *done)
	}
}

// TestTakenOutWhileConfirming: a waiter that is taken out of the line when its turn has come is told so, and nothing that it has
// asked for was refused for a stale token, as the write of a holder that comes too late is.
func TestTakenOutWhileConfirming(t *testing.T) {
	w := newWorld(t)
	w.applied = func(r *op.Request, res *op.Result) {
		if res.Err != nil && res.Err.Code == op.StaleToken {
			t.Errorf("%+v: %v", r.Op, res.Err)
		}
	}
	lockOf := func(c *conn) *Lock {
		l, err := NewLock(c, Spec{Name: "x", Rand: w})
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	held, err := lockOf(w.open()).Try(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	waiter := w.open()
	confirming := false
	waiter.blur = func(o op.Op) (bool, bool) {
		if x, ok := o.(*op.Txn); ok && len(x.Else) == 1 && x.Else[0].Verb() == op.VerbExists {
			waiter.blur, confirming = nil, true
			for n := range children(t.Context(), w.admin(), "/locks/x", false) {
				w.apply(&op.Request{Op: &op.Delete{Path: n.Path, If: op.Always}}, 0)
			}
		}
		return true, false
	}
	var lost error
	w.spawn("waiter", func(ctx context.Context, task *task) {
		defer stopped()
		_, lost = lockOf(waiter.as(task)).Acquire(ctx)
	})
	w.run(nil, nil)
	if err := held.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.run(nil, nil)
	if !confirming || !errors.Is(lost, &op.Error{Code: op.NotHolder}) {
		t.Errorf("confirming: %t; %v", confirming, lost)
	}
}
