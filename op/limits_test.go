package op

import (
	"testing"
	"time"
)

// TestLimitsMerge: what is 0 stays as it is.
func TestLimitsMerge(t *testing.T) {
	x := DefaultLimits().Merge(Limits{DataBytes: 5, KeyWindow: time.Minute})
	want := DefaultLimits()
	want.DataBytes, want.KeyWindow = 5, time.Minute
	if x != want {
		t.Errorf("got %+v", x)
	}
}

// TestLimitsInRange: each has a lowest and a highest value, and the default ones lie between.
func TestLimitsInRange(t *testing.T) {
	for _, l := range []Limits{DefaultLimits(), most} {
		if err := l.Check(); err != nil {
			t.Errorf("%+v: %v", l, err)
		}
	}
	counts, times := most.fields()
	if len(limitNames) != len(counts)+len(times) {
		t.Fatalf("%d names for %d limits", len(limitNames), len(counts)+len(times))
	}
	for i := range limitNames {
		for _, outside := range []int64{-1, 0, 1} {
			l := most
			counts, times := l.fields()
			if i < len(counts) {
				*counts[i] = outside * (*counts[i] + 1)
			} else {
				*times[i-len(counts)] = time.Duration(outside) * (*times[i-len(counts)] + 1)
			}
			if l.Check() == nil {
				t.Errorf("%s: %d times more than the most is taken", limitNames[i], outside)
			}
		}
	}
}
