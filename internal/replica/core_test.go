package replica

import (
	"slices"
	"testing"
	"time"

	"github.com/coord-kv/coord/fsm"
	"github.com/coord-kv/coord/op"
)

// A member answers its client when it has itself applied the request, so the client reads its own write there.
func TestFollowerAnswersAfterApplying(t *testing.T) {
	c := newCluster(t, 3)
	res := c.do(2, &op.Create{Path: "/a"})
	if res.Err != nil || c.cores[2].pub.View.Zxid() < res.Zxid {
		t.Errorf("%+v at zxid %d", res, c.cores[2].pub.View.Zxid())
	}
	c.agree()
}

// Requests that were with a leader that died are done once, in order, and answered, none of them keyed.
func TestLeaderDiesWithRequests(t *testing.T) {
	for _, lost := range []struct {
		what string
		drop func(envelope) bool
	}{
		{"before they reach it", func(e envelope) bool { return e.m.Kind == FrameForward && e.m.To == 1 }},
		{"before it stores them", func(e envelope) bool { return e.from == 1 && !e.m.Urgent }},
		{"after a majority has them", func(e envelope) bool { return e.m.To == 1 && e.m.Kind == FrameRaft && !e.m.Urgent }},
	} {
		t.Run(lost.what, func(t *testing.T) {
			c := newCluster(t, 3)
			c.drop = lost.drop
			a, b := c.submit(2, create("/a")), c.submit(2, create("/b"))
			c.run()
			if *a != nil {
				t.Fatal("answered although its fate was open")
			}
			c.kill(1)
			c.drop = nil
			c.ticks(4)
			if *a == nil || *b == nil || (*a).Err != nil || (*b).Err != nil {
				t.Fatalf("answers %+v, %+v", *a, *b)
			}
			if got := c.names(2); !slices.Equal(got, []string{"a", "b"}) {
				t.Errorf("made %v", got)
			}
			c.agree()
		})
	}
}

// A forwarded frame that is lost with its stream is sent again, and what was sent behind it doesn't overtake it.
func TestLostForwardKeepsOrder(t *testing.T) {
	c := newCluster(t, 3)
	lost := false
	c.drop = func(e envelope) bool {
		drop := e.m.Kind == FrameForward && !lost
		lost = lost || drop
		return drop
	}
	first := c.submit(2, create("/first"))
	c.run()
	second := c.submit(2, create("/second"))
	c.run()
	if *first != nil || *second != nil {
		t.Fatal("the second overtook the first")
	}
	c.cores[2].StreamBroken(1)
	c.ticks(4)
	if *first == nil || *second == nil {
		t.Fatal("not sent again")
	}
	if got := c.names(1); !slices.Equal(got, []string{"first", "second"}) {
		t.Errorf("made %v", got)
	}
}

// The last frame of a broken stream has none behind it that would tell of its loss: the member asks.
func TestLostLastForward(t *testing.T) {
	c := newCluster(t, 3)
	c.drop = func(e envelope) bool { return e.m.Kind == FrameForward }
	res := c.submit(2, create("/x"))
	c.run()
	c.drop = nil
	c.cores[2].StreamBroken(1)
	c.ticks(3)
	if *res == nil || (*res).Err != nil {
		t.Errorf("answered %+v", *res)
	}
}

// A frame that was forwarded to a leader of an earlier term is not taken when that member leads again.
func TestStaleForwardIsIgnored(t *testing.T) {
	c := newCluster(t, 3)
	var held *envelope
	c.drop = func(e envelope) bool {
		if e.m.Kind == FrameForward && held == nil {
			held = &e
			return true
		}
		return false
	}
	res := c.submit(2, create("/once"))
	c.run()
	c.drop = nil
	c.cores[1].HandOver()
	c.ticks(3)
	if c.leader() == 1 || *res == nil || (*res).Err != nil {
		t.Fatalf("leader %d, answer %+v", c.leader(), *res)
	}
	c.do(2, &op.Delete{Path: "/once", If: op.Always})
	c.cores[c.leader()].HandOver()
	c.ticks(3)
	for c.leader() != 1 {
		c.cores[c.leader()].HandOver()
		c.ticks(3)
	}
	c.deliver(*held)
	c.ticks(2)
	if got := c.names(1); len(got) != 0 {
		t.Errorf("done a second time: %v", got)
	}
}

// A planned change of leader answers everything.
func TestHandOver(t *testing.T) {
	c := newCluster(t, 3)
	var all []**op.Result
	for _, path := range []string{"/a", "/b", "/c"} {
		all = append(all, c.submit(1, create(path)), c.submit(3, create(path+"3")))
	}
	c.cores[1].HandOver()
	c.ticks(3)
	for i, res := range all {
		if *res == nil || (*res).Err != nil {
			t.Errorf("answer %d: %+v", i, *res)
		}
	}
	if c.leader() == 1 {
		t.Error("the leader is the same")
	}
	c.agree()
}

func (c *cluster) open(id uint64, timeout time.Duration) op.SessionID {
	return c.do(id, &op.OpenSession{Timeout: timeout}).Session.ID
}

func (c *cluster) keepAlive(id uint64, s op.SessionID) *error {
	res := new(error)
	*res = errWaiting
	c.cores[id].Begin(c.now)
	c.cores[id].KeepAlive(&KeepAlive{Session: s, Done: func(err error) { *res = err }})
	return res
}

var errWaiting = op.Errorf(op.Starting, "not answered")

// A session that is kept alive through any member lives; one that isn't ends, after its timeout and not before.
func TestExpiry(t *testing.T) {
	c := newCluster(t, 3)
	kept, left := c.open(2, 4*time.Second), c.open(3, 4*time.Second)
	for range 79 {
		c.keepAlive(2, kept)
		c.ticks(1)
	}
	if _, ok := c.cores[1].machine.Session(left); !ok {
		t.Error("ended before its timeout")
	}
	for range 10 {
		c.keepAlive(2, kept)
		c.ticks(1)
	}
	for _, id := range c.ids() {
		if _, ok := c.cores[id].machine.Session(left); ok {
			t.Errorf("%d still has the session that nobody keeps alive", id)
		}
		if _, ok := c.cores[id].machine.Session(kept); !ok {
			t.Errorf("%d has lost the session that is kept alive", id)
		}
	}
}

// A leader that is cut off, and believes in itself for a while, confirms no sign of life and ends no session.
func TestDeposedLeaderConfirmsNothing(t *testing.T) {
	c := newCluster(t, 3)
	s := c.open(1, 4*time.Second)
	c.drop = func(e envelope) bool { return (e.from == 1) != (e.m.To == 1) }
	alive := c.keepAlive(1, s)
	c.ticks(8)
	if !c.cores[1].isLeader() {
		t.Fatal("it has stepped down already: the test shows nothing")
	}
	if *alive != errWaiting {
		t.Fatalf("answered: %v", *alive)
	}
	c.ticks(60)
	c.drop = nil
	c.ticks(5)
	if *alive != nil {
		t.Errorf("not confirmed by the next leader: %v", *alive)
	}
	c.agree()
}

// A member that was stalled hears what waited before it counts a tick, and doesn't make up for ticks.
func TestStallExpiresNobody(t *testing.T) {
	c := newCluster(t, 1)
	s := c.open(1, 4*time.Second)
	c.now.Mono += 60_000 // a minute in one sync
	c.keepAlive(1, s)
	c.ticks(10)
	if _, ok := c.cores[1].machine.Session(s); !ok {
		t.Error("a stalled loop ended a live session")
	}
}

// Linearizable reads wait for a quorum; one that is cut off is never answered from the old state.
func TestCutOffReadWaits(t *testing.T) {
	c := newCluster(t, 3)
	c.do(1, &op.Create{Path: "/x"})
	c.drop = func(e envelope) bool { return (e.from == 1) != (e.m.To == 1) }
	var got *fsm.View
	c.cores[1].Read(&Read{Done: func(v *fsm.View, _ op.ReadInfo, err error) { got = v }})
	c.do(c.another(1), &op.Set{Path: "/x", Data: []byte("new"), If: op.Always})
	if got != nil {
		t.Fatal("a cut off leader answered a linearizable read")
	}
	c.drop = nil
	c.ticks(30)
	if got == nil || string(got.Read(&op.Get{Path: "/x"}, nil).Data) != "new" {
		t.Errorf("after the cut: %v", got)
	}
}

// another lets time pass until a member other than not leads. Raft draws its election timeouts at random, and two
// candidates may split a vote, so the number of ticks has no bound, only a number that is never reached.
func (c *cluster) another(not uint64) uint64 {
	for range 1000 {
		for _, id := range c.ids() {
			if id != not && c.cores[id].isLeader() {
				return id
			}
		}
		c.ticks(1)
	}
	c.t.Fatal("nobody else leads")
	return 0
}

// A position that no state has reached is told at once, not waited for.
func TestFuturePosition(t *testing.T) {
	c := newCluster(t, 3)
	var got error
	c.cores[2].Read(&Read{Options: op.ReadOptions{Level: op.Sequential, MinZxid: 1000}, Done: func(_ *fsm.View, _ op.ReadInfo, err error) { got = err }})
	c.ticks(2)
	if e, ok := got.(*op.Error); !ok || e.Code != op.FutureZxid {
		t.Errorf("answered %v", got)
	}
}

// While a disk is nearly full writes are refused and deletes are not; with room, writes go on. A leader whose disk alone
// is low gives leadership away.
func TestSpace(t *testing.T) {
	c := newCluster(t, 3)
	for _, id := range c.ids() {
		c.cores[id].cfg.SpaceMark = 1000
		c.cores[id].Free(5000)
	}
	c.do(1, &op.Create{Path: "/x"})
	c.cores[1].Free(10)
	c.ticks(5)
	if c.leader() == 1 {
		t.Fatal("the member without room still leads")
	}
	if res := c.do(1, &op.Create{Path: "/y"}); res.Err != nil {
		t.Errorf("with room at a majority: %v", res.Err)
	}
	for _, id := range c.ids() {
		c.cores[id].Free(10)
	}
	c.ticks(1)
	if res := c.do(2, &op.Create{Path: "/z"}); res.Err == nil || res.Err.Code != op.NoSpace || res.Err.Outcome != op.Refused {
		t.Errorf("without room: %v", res.Err)
	}
	if res := c.do(2, &op.Delete{Path: "/x", If: op.Always}); res.Err != nil {
		t.Errorf("a delete without room: %v", res.Err)
	}
	for _, id := range c.ids() {
		c.cores[id].Free(5000)
	}
	c.ticks(1)
	if res := c.do(2, &op.Create{Path: "/z"}); res.Err != nil {
		t.Errorf("with room again: %v", res.Err)
	}
}

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
