package replica

import (
	"testing"

	"github.com/coord-kv/coord/op"
)

func create(path string) *op.Request { return &op.Request{Op: &op.Create{Path: path}} }

// A member whose state differs from a majority's stops serving; the others go on.
func TestDivergenceIsNoticed(t *testing.T) {
	c := newCluster(t, 3)
	c.do(1, &op.Create{Path: "/x"})
	c.cores[3].machine.Apply(&op.Batch{Requests: []*op.Request{create("/only-here")}})
	c.do(1, &op.Create{Path: "/y"})
	c.ticks(2)
	if !c.cores[3].digests.quarantined() || c.cores[1].digests.quarantined() || c.cores[2].digests.quarantined() {
		t.Fatalf("differing: %v %v %v", c.cores[1].Differ(), c.cores[2].Differ(), c.cores[3].Differ())
	}
	if ok, why := c.cores[3].serves(); ok {
		t.Errorf("it still serves: %s", why)
	}
	if res := c.do(2, &op.Create{Path: "/z"}); res.Err != nil {
		t.Errorf("the majority doesn't go on: %v", res.Err)
	}
}
