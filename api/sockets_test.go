package api

import (
	"slices"
	"testing"
	"time"
)

// Who is due is found among connections that come and go, and what is said of one that has gone says nothing of the one that
// came in its place.
func TestSlots(t *testing.T) {
	var x wsSlots
	var all []*wsConn
	come := func(next time.Duration) *wsConn {
		c := new(wsConn)
		x.add(c)
		c.sweep.next.Store(int64(next))
		all = append(all, c)
		return c
	}
	check := func(by time.Duration) {
		t.Helper()
		due := x.due(by, nil)
		for _, c := range all {
			if got, want := slices.Contains(due, c), time.Duration(c.sweep.next.Load()) <= by; got != want {
				t.Errorf("at %d: due %t, want %t", by, got, want)
			}
		}
		if by == forever && len(due) != len(all) || x.len != len(all) {
			t.Errorf("%d due and %d there, of %d", len(due), x.len, len(all))
		}
	}
	for i := range 2*wsBlockLen + 1 {
		come(time.Duration(i % 7))
	}
	check(3)
	check(forever)
	for i := 0; i < len(all); i += 3 {
		gone := all[i]
		all = slices.Delete(all, i, i+1)
		x.remove(gone)
		gone.sweep.next.Store(0) // as who has not noticed does
	}
	check(3)
	check(forever)
	blocks := len(x.blocks)
	for range wsBlockLen / 2 {
		come(5)
	}
	check(3)
	check(forever)
	if len(x.blocks) != blocks {
		t.Errorf("%d blocks, %d before", len(x.blocks), blocks)
	}
	for _, c := range all {
		x.remove(c)
	}
	all = nil
	check(forever)
}
