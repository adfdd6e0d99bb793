package replica

import (
	"bytes"
	"errors"
	"maps"
	"slices"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/coord-kv/coord/fsm"
	"github.com/coord-kv/coord/op"
	"github.com/coord-kv/coord/watch"
)

// cluster is some cores whose disks never fail, joined by a network that a test can cut. It has no clock but tick.
type cluster struct {
	t     *testing.T
	cores map[uint64]*Core
	disks map[uint64]*memDisk
	dead  map[uint64]bool
	queue []envelope
	drop  func(envelope) bool // nil drops nothing
	now   Clock
	fact  func(id uint64, l Level, what string) // nil drops it
}

type envelope struct {
	from uint64
	m    Message
}

// memDisk is what of a member survives its process.
type memDisk struct {
	cfg        Config
	conf       *raftpb.ConfState
	hard       *raftpb.HardState
	base       saved // the log goes on from it
	entries    []*raftpb.Entry
	checkpoint saved
}

// saved is a state, and where in the log it stands. A nil state is that of a new cluster.
type saved struct {
	index, term uint64
	state       []byte
}

func newCluster(t *testing.T, n int) *cluster {
	c := &cluster{t: t}
	c.found(n, Config{})
	return c
}

// found starts the first members that there are, led by the first.
func (c *cluster) found(n int, cfg Config) {
	c.cores, c.disks, c.dead = map[uint64]*Core{}, map[uint64]*memDisk{}, map[uint64]bool{}
	c.now = Clock{Wall: 1_000_000, Mono: 1}
	conf := &raftpb.ConfState{}
	for id := range n {
		conf.Voters = append(conf.Voters, uint64(id+1))
	}
	for _, id := range conf.Voters {
		cfg.Self = id
		c.disks[id] = &memDisk{cfg: cfg, conf: conf, hard: &raftpb.HardState{}}
		c.start(id)
	}
	c.cores[1].Campaign()
	c.ticks(3)
	if c.cores[1].Leader() != 1 || !c.cores[uint64(n)].pub.Serving {
		c.t.Fatal("the first member doesn't lead, or the last doesn't serve")
	}
}

// start runs a member from what its disk holds.
func (c *cluster) start(id uint64) {
	d := c.disks[id]
	d.cfg.Boot++
	cfg := d.cfg
	cfg.Fact = func(l Level, what string, kv ...any) {
		if c.fact != nil {
			c.fact(id, l, what)
		}
	}
	m := d.checkpoint.machine(c.t)
	hard := proto.Clone(d.hard).(*raftpb.HardState)
	hard.Commit = new(max(hard.GetCommit(), d.checkpoint.index))
	core, err := New(cfg, Start{
		HardState: hard, ConfState: d.conf, Index: d.checkpoint.index, Term: d.checkpoint.term,
		Base: d.base.index, BaseTerm: d.base.term, Entries: slices.Clone(d.entries),
		Machine: m, History: watch.New(watch.Limits{}, nil, 0, m.Zxid()),
	})
	if err != nil {
		c.t.Fatal(err)
	}
	c.cores[id] = core
}

func (s saved) machine(t *testing.T) *fsm.Machine {
	if s.state == nil {
		return fsm.New()
	}
	m, err := fsm.Restore(bytes.NewReader(s.state))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// write stores the work of a turn.
func (d *memDisk) write(w Work) {
	if w.Install != nil {
		d.checkpoint = w.Install.Content.(saved)
		if !w.Install.Keep {
			d.base, d.entries = d.checkpoint, nil
		}
	}
	d.cfg.Torn = d.cfg.Torn && !w.Whole
	if w.HardState != nil {
		d.hard = proto.Clone(w.HardState).(*raftpb.HardState)
	}
	if len(w.Entries) > 0 {
		d.entries = append(d.entries[:w.Entries[0].GetIndex()-d.base.index-1], w.Entries...)
	}
}

func (c *cluster) cut(id uint64, cut *Cut) {
	var state bytes.Buffer
	if _, err := cut.View.WriteTo(&state); err != nil {
		c.t.Fatal(err)
	}
	d := c.disks[id]
	d.checkpoint = saved{cut.Index, cut.Term, state.Bytes()}
	c.cores[id].CutDone(cut.Index, int64(state.Len()), nil)
	if base := c.cores[id].FirstIndex() - 1; base > d.base.index {
		e := d.entries[base-d.base.index-1]
		d.entries = slices.Clone(d.entries[base-d.base.index:])
		d.base = saved{index: base, term: e.GetTerm()}
	}
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
		for _, m := range w.Early {
			c.queue = append(c.queue, envelope{id, m})
		}
		c.disks[id].write(w)
		for _, m := range w.Messages {
			c.queue = append(c.queue, envelope{id, m})
		}
		core.Persisted()
		if w.Cut != nil {
			c.cut(id, w.Cut)
		}
	}
}

func (c *cluster) deliver(e envelope) {
	if c.dead[e.from] || c.dead[e.m.To] || c.drop != nil && c.drop(e) {
		if e.m.Kind == FrameSnapshot && !c.dead[e.from] {
			c.cores[e.from].SnapshotSent(e.m.To, errLost)
		}
		return
	}
	c.arrive(e)
}

func (c *cluster) arrive(e envelope) {
	if e.m.Kind == FrameSnapshot {
		c.transfer(e)
		return
	}
	if err := c.cores[e.m.To].Step(e.from, e.m.Kind, e.m.Payload); err != nil {
		c.t.Errorf("%d refused a frame of %d: %v", e.m.To, e.from, err)
	}
}

var errLost = errors.New("lost on the way")

// transfer hands a member the checkpoint of another.
func (c *cluster) transfer(e envelope) {
	content := c.disks[e.from].checkpoint
	in := &Install{Message: new(raftpb.Message), Machine: content.machine(c.t), Content: content}
	if err := proto.Unmarshal(e.m.Payload, in.Message); err != nil {
		c.t.Fatal(err)
	}
	if content.index != e.m.Index {
		c.cores[e.from].SnapshotSent(e.m.To, errors.New("it is another by now"))
		return
	}
	err := c.cores[e.m.To].Receive(e.from, in)
	c.cores[e.from].SnapshotSent(e.m.To, err)
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
