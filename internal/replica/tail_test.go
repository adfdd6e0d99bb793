package replica

import (
	"bytes"
	"testing"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/coord-kv/coord/op"
)

// Log that is kept for a member that is away is bounded; beyond that the member gets a snapshot.
func TestLogForSlowMembersIsBounded(t *testing.T) {
	const cutBytes, value = 64 << 10, 4 << 10
	c := &cluster{t: t}
	c.found(3, Config{CutBytes: cutBytes})
	c.do(1, &op.Create{Path: "/n"})
	c.kill(3)
	core, had := c.cores[1], c.cores[3].lastIndex()
	for i := range 6 * CutEvery {
		c.do(1, &op.Set{Path: "/n", Data: bytes.Repeat([]byte("x"), value), If: op.Always})
		entries, err := core.log.Entries(core.FirstIndex(), core.lastIndex()+1, 1<<30)
		if err != nil {
			t.Fatal(err)
		}
		kept := 0
		for _, e := range entries {
			kept += len(e.GetData()) + entryCost
		}
		// The tail before a checkpoint, what makes the next one due, and what comes until an index at which it can be cut.
		if most := cutBytes/4 + cutBytes + (CutEvery+2)*(value+1024); kept > most {
			t.Fatalf("after %d writes %d bytes of log are kept, at most %d should be", i+1, kept, most)
		}
	}
	if first := core.FirstIndex(); first <= had+1 {
		t.Fatalf("the log still begins at %d, and the member that is away has it up to %d", first, had)
	}
	delete(c.dead, 3)
	c.start(3)
	c.ticks(4 * DefaultElectionTicks)
	if base := c.disks[3].base.index; base <= had {
		t.Errorf("it came up without a snapshot: its log begins at %d", base)
	}
	c.agree()
}

// The tail that is kept before a checkpoint is bounded by bytes and by count.
func TestTail(t *testing.T) {
	core := newCluster(t, 1).cores[1]
	core.cuts.tailMax = 100 * entryCost
	last := core.lastIndex()
	if got := core.cuts.tail(last); got != 0 {
		t.Errorf("a log of %d entries is cut at %d", last, got)
	}
	var entries []*raftpb.Entry
	for range maxTailCount + 10 {
		last++
		entries = append(entries, &raftpb.Entry{Index: new(last), Term: new(uint64(1))})
	}
	core.must(core.log.Append(entries))
	if got, want := core.cuts.tail(last), last-100; got != want {
		t.Errorf("with room for 100 empty entries the log is cut at %d, want %d", got, want)
	}
	core.cuts.tailMax = 1 << 30
	if got, want := core.cuts.tail(last), last-maxTailCount; got != want {
		t.Errorf("with room for any number of them it is cut at %d, want %d", got, want)
	}
}
