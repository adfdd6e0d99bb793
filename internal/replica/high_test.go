package replica

import (
	"testing"

	"github.com/coord-kv/coord/fsm"
	"github.com/coord-kv/coord/op"
)

// Numbers that are too high for some clients are counted, and logged once an hour.
func TestHighSequences(t *testing.T) {
	said := 0
	c := newCluster(t, 1)
	c.fact = func(uint64, Level, string) { said++ }
	core := c.cores[1]
	for range 3 {
		core.announce(&op.Batch{}, &fsm.Applied{High: []string{"/s/n-1932735283", "/s/n-1932735284"}}, core.machine.Zxid())
	}
	if n := core.Status().HighSequences; n != 6 || said != 1 {
		t.Errorf("%d are counted, and it is said %d times", n, said)
	}
	core.now.Mono += highEvery
	core.announce(&op.Batch{}, &fsm.Applied{High: []string{"/s/n-1932735285"}}, core.machine.Zxid())
	if said != 2 {
		t.Errorf("after an hour it has been said %d times", said)
	}
}
