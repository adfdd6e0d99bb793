package replica

import (
	"slices"
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/coord-kv/coord/fsm"
	"github.com/coord-kv/coord/op"
)

// lagging is three members of which the third has heard nothing since /x was "old" at zxid before. The first two have
// made it "new" at zxid after, and acknowledged that.
type lagging struct {
	*cluster
	before, after op.Zxid
}

func newLagging(t *testing.T) lagging {
	c := lagging{cluster: newCluster(t, 3)}
	c.before = c.do(1, &op.Create{Path: "/x", Data: []byte("old")}).Zxid
	c.ticks(2) // the third member has asked a quorum since
	c.drop = func(e envelope) bool { return (e.from == 3) != (e.m.To == 3) }
	c.after = c.do(1, &op.Set{Path: "/x", Data: []byte("new"), If: op.Always}).Zxid
	return c
}

// read returns what a client at member id reads of /x now, "" if it has to wait, and where the answer will stand then.
func (c lagging) read(id uint64, o op.ReadOptions) (now string, later *string) {
	c.t.Helper()
	value := func(v *fsm.View) string { return string(v.Read(&op.Get{Path: "/x"}, nil).Data) }
	v, _, err, served := c.cores[id].pub.Serve(o, c.now.Mono)
	switch {
	case err != nil:
		c.t.Fatal(err)
	case served:
		return value(v), nil
	}
	later = new(string)
	c.cores[id].Read(&Read{Options: o, Done: func(v *fsm.View, _ op.ReadInfo, err error) {
		if *later = "an error"; err == nil {
			*later = value(v)
		}
	}})
	c.run()
	return *later, later
}

// Each level is seen to be as weak as it says, at a member that lags, and the stronger one beside it is seen to wait
// there instead, until the member has heard what it lacks.
func TestLevelsOfALaggingMember(t *testing.T) {
	for _, test := range []struct {
		what   string
		weak   op.ReadOptions
		strong func(c lagging) op.ReadOptions
	}{
		{
			"a client doesn't read what it has written, unless it shows its position",
			op.ReadOptions{Level: op.Eventual},
			func(c lagging) op.ReadOptions { return op.ReadOptions{Level: op.Eventual, MinZxid: c.after} },
		},
		{
			"a bound of an hour is met by an old state, and one of no time isn't",
			op.ReadOptions{Level: op.Bounded, Max: time.Hour},
			func(lagging) op.ReadOptions { return op.ReadOptions{Level: op.Bounded} },
		},
		{
			"who has seen nothing yet is not owed the newest, unless he asks for it",
			op.ReadOptions{Level: op.Sequential},
			func(lagging) op.ReadOptions { return op.ReadOptions{Level: op.Linearizable} },
		},
		{
			"who was told of a write by its writer doesn't see it, unless he was told its position",
			op.ReadOptions{Level: op.Sequential},
			func(c lagging) op.ReadOptions { return op.ReadOptions{Level: op.Sequential, MinZxid: c.after} },
		},
	} {
		t.Run(test.what, func(t *testing.T) {
			c := newLagging(t)
			c.now.Mono++ // so that no state is as of this moment
			if got, _ := c.read(3, test.weak); got != "old" {
				t.Errorf("the weaker level reads %q; nothing is seen of its weakness", got)
			}
			got, later := c.read(3, test.strong(c))
			if got != "" {
				t.Fatalf("the stronger level reads %q at a member that is cut off", got)
			}
			c.drop = nil
			for range 1000 { // elections take as long as raft's dice say
				if c.ticks(1); *later != "" {
					break
				}
			}
			if *later != "new" {
				t.Errorf("the stronger level reads %q in the end", *later)
			}
		})
	}
}

// A reader that goes from one member to another goes back in time at eventual. One that takes its position along doesn't.
func TestReadsGoBack(t *testing.T) {
	c := newLagging(t)
	first, _ := c.read(1, op.ReadOptions{Level: op.Eventual})
	second, _ := c.read(3, op.ReadOptions{Level: op.Eventual})
	if first != "new" || second != "old" {
		t.Errorf("read %q, then %q; nothing is seen of time going back", first, second)
	}
	if second, _ = c.read(3, op.ReadOptions{Level: op.Eventual, MinZxid: c.after}); second != "" {
		t.Errorf("with the position of the first read: %q", second)
	}
}

// The bound of a bounded read is of time, not of writes: the same state is fresh enough at first, and not later.
func TestBoundPasses(t *testing.T) {
	c := newLagging(t)
	o := op.ReadOptions{Level: op.Bounded, Max: time.Second}
	if got, _ := c.read(3, o); got != "old" {
		t.Errorf("read %q at first", got)
	}
	c.ticks(21)
	if got, _ := c.read(3, o); got != "" {
		t.Errorf("read %q a second later", got)
	}
}

// Without a quorum a state can still be read: eventual needs nobody, linearizable waits.
func TestReadsWithoutAQuorum(t *testing.T) {
	c := newLagging(t)
	c.kill(1)
	c.kill(2)
	c.ticks(100)
	if got, _ := c.read(3, op.ReadOptions{Level: op.Eventual}); got != "old" {
		t.Errorf("eventual: %q", got)
	}
	if got, _ := c.read(3, op.ReadOptions{}); got != "" {
		t.Errorf("linearizable: %q", got)
	}
}

// A read is as fresh as the round that it waited for, also at a member that lags so far that the next round's answer comes
// before it has applied what the first one named.
func TestStalenessIsOfTheOwnRound(t *testing.T) {
	c := newCluster(t, 3)
	c.do(1, &op.Create{Path: "/x"})
	c.ticks(2) // the third member has asked a quorum since
	last := c.cores[3].applied
	c.drop = func(e envelope) bool { return c.withhold(e, last) }
	c.ticks(40)

	var staleness [2]time.Duration
	for i := range staleness {
		c.do(1, &op.Set{Path: "/x", If: op.Always})
		c.cores[3].Read(&Read{Options: op.ReadOptions{Level: op.Bounded, Max: time.Second}, Done: func(_ *fsm.View, info op.ReadInfo, err error) {
			if staleness[i] = info.Staleness; err != nil {
				t.Error(err)
			}
		}})
		c.run()
	}
	for i, waited := range staleness {
		if waited != 0 {
			t.Fatalf("the read was answered, %v old, before the member had what it asks for", waited)
		}
		last++
		for staleness[i] == 0 {
			c.ticks(1)
		}
		if d := staleness[i]; d < 0 || d > time.Second {
			t.Errorf("the bounded read was answered %v old", d)
		}
	}
}

// withhold drops what of an append to member 3 is behind the last entry that it may get.
func (c *cluster) withhold(e envelope, last uint64) bool {
	if e.m.To != 3 || e.m.Kind != FrameRaft {
		return false
	}
	m := new(raftpb.Message)
	if err := proto.Unmarshal(e.m.Payload, m); err != nil {
		c.t.Fatal(err)
	}
	if m.GetType() != raftpb.MsgApp {
		return false
	}
	keep := slices.IndexFunc(m.Entries, func(x *raftpb.Entry) bool { return x.GetIndex() > last })
	if keep < 0 {
		return false
	}
	m.Entries = m.Entries[:keep]
	payload, err := proto.Marshal(m)
	if err != nil {
		c.t.Fatal(err)
	}
	e.m.Payload = payload
	c.arrive(e)
	return true
}
