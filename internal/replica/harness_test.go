package replica

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"testing"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/coord-kv/coord/fsm"
	"github.com/coord-kv/coord/op"
	"github.com/coord-kv/coord/watch"
)

// cluster is some cores whose disks never fail, joined by a network that a test can cut. It has no clock but tick.
type cluster struct {
	t     *testing.T
	cores map[uint64]*Core
	dead  map[uint64]bool
	queue []envelope
	drop  func(envelope) bool // nil drops nothing
	now   Clock
	facts []string
}

type envelope struct {
	from uint64
	m    Message
}

func newCluster(t *testing.T, n int) *cluster {
	c := &cluster{t: t, cores: map[uint64]*Core{}, dead: map[uint64]bool{}, now: Clock{Wall: 1_000_000, Mono: 1}}
	conf := &raftpb.ConfState{}
	for id := range n {
		conf.Voters = append(conf.Voters, uint64(id+1))
	}
	for _, id := range conf.Voters {
		c.cores[id] = c.newCore(id, conf)
	}
	c.cores[1].Campaign()
	c.ticks(3)
	if c.cores[1].Leader() != 1 || !c.cores[uint64(n)].pub.Serving {
		t.Fatal("the first member doesn't lead, or the last doesn't serve")
	}
	return c
}

func (c *cluster) newCore(id uint64, conf *raftpb.ConfState) *Core {
	core, err := New(Config{
		Self: id, Boot: 1,
		Fact: func(l Level, what string, kv ...any) { c.facts = append(c.facts, fmt.Sprint(id, " ", what, kv)) },
	}, Start{
		HardState: &raftpb.HardState{}, ConfState: conf, Machine: fsm.New(), History: watch.New(watch.Limits{}, nil, 0, 0),
	})
	if err != nil {
		c.t.Fatal(err)
	}
	return core
}

func (c *cluster) ids() []uint64 {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(c.cores)), func(id uint64) bool { return c.dead[id] })
}

// run lets everything happen that follows from what has happened.
func (c *cluster) run() {
	for {
		for _, id := range c.ids() {
			c.turn(id)
		}
		if len(c.queue) == 0 {
			return
		}
		queue := c.queue
		c.queue = nil
		for _, e := range queue {
			c.deliver(e)
		}
	}
}

func (c *cluster) turn(id uint64) {
	core := c.cores[id]
	core.Begin(c.now)
	for {
		w, ok := core.Turn(c.now)
		if !ok {
			return
		}
		for _, m := range w.Messages {
			c.queue = append(c.queue, envelope{id, m})
		}
		core.Persisted()
	}
}

func (c *cluster) deliver(e envelope) {
	if c.dead[e.from] || c.dead[e.m.To] || c.drop != nil && c.drop(e) {
		return
	}
	if err := c.cores[e.m.To].Step(e.from, e.m.Kind, e.m.Payload); err != nil {
		c.t.Errorf("%d refused a frame of %d: %v", e.m.To, e.from, err)
	}
}

// ticks lets n ticks pass for everybody.
func (c *cluster) ticks(n int) {
	for range n {
		c.now.Mono += 50
		c.now.Wall += 50
		for _, id := range c.ids() {
			c.cores[id].Begin(c.now)
			c.cores[id].Tick()
		}
		c.run()
	}
}

// submit gives a request to a member and returns where its result will stand.
func (c *cluster) submit(id uint64, r *op.Request) **op.Result {
	res := new(*op.Result)
	c.cores[id].Submit(&Call{Request: r, Body: r.AppendBody(nil), Done: func(got *op.Result) {
		if *res != nil {
			c.t.Errorf("a call was answered twice")
		}
		*res = got
	}})
	return res
}

func create(path string) *op.Request { return &op.Request{Op: &op.Create{Path: path}} }

// do submits a request and expects it to be done at once.
func (c *cluster) do(id uint64, o op.Op) *op.Result {
	c.t.Helper()
	res := c.submit(id, &op.Request{Op: o})
	c.run()
	if *res == nil {
		c.t.Fatalf("no answer to a %s at %d", o.Verb(), id)
	}
	return *res
}

// kill ends a member for good; the others notice their broken streams.
func (c *cluster) kill(id uint64) {
	c.dead[id] = true
	c.queue = slices.DeleteFunc(c.queue, func(e envelope) bool { return e.from == id || e.m.To == id })
	for _, other := range c.ids() {
		c.cores[other].StreamBroken(id)
		c.cores[other].PeerDown(id)
	}
}

// leader returns the one member that leads.
func (c *cluster) leader() uint64 {
	c.t.Helper()
	for _, id := range c.ids() {
		if c.cores[id].isLeader() {
			return id
		}
	}
	c.t.Fatal("nobody leads")
	return 0
}

// agree fails the test unless all live members have the same state.
func (c *cluster) agree() {
	c.t.Helper()
	ids := c.ids()
	want := c.cores[ids[0]].machine.Digest()
	for _, id := range ids {
		if got := c.cores[id].machine.Digest(); got != want {
			c.t.Errorf("%d has digest %v, %d has %v", id, got, ids[0], want)
		}
		if c.cores[id].Fatal() != nil {
			c.t.Errorf("%d: %v", id, c.cores[id].Fatal())
		}
	}
}

// names returns the children of the root that a test has made, in the order of their creation.
func (c *cluster) names(id uint64) []string {
	res := c.cores[id].machine.Read(&op.Children{Path: "/", WithStat: true}, nil)
	nodes := slices.DeleteFunc(res.Nodes, func(n op.Node) bool { return n.Path == "zookeeper" || n.Path == "/zookeeper" })
	slices.SortFunc(nodes, func(a, b op.Node) int { return cmp.Compare(a.Stat.Czxid, b.Stat.Czxid) })
	var names []string
	for _, n := range nodes {
		names = append(names, op.Base(n.Path))
	}
	return names
}
