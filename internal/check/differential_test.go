package check

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/coord-kv/coord/fsm"
	"github.com/coord-kv/coord/op"
)

// TestAgainstMachine lets Namespace and the state machine that coord runs on decide the same random requests. Neither
// knows of the other, so where they differ one of them is wrong.
func TestAgainstMachine(t *testing.T) {
	seen := map[string]int{}
	for seed := range uint64(60) {
		g := &requests{Rand: rand.New(rand.NewPCG(seed, 1)), next: map[op.SessionID]uint64{}}
		compareMachines(t, g, seen)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	for _, v := range op.Verbs() {
		if untested[v] == (seen[v.String()+" ok"] > 0) {
			t.Errorf("%s was done %d times", v, seen[v.String()+" ok"])
		}
	}
	for _, c := range []op.Code{
		op.NoNode, op.NodeExists, op.BadVersion, op.NotEmpty, op.ChildrenOfEphemeral, op.BadPath, op.BadRequest, op.StaleToken,
		op.NotHolder, op.NoSession, op.SessionExpired, op.OutOfOrder, op.Superseded, op.KeyMismatch, op.Denied,
	} {
		if seen[c.String()] == 0 {
			t.Errorf("nothing was answered with %s", c)
		}
	}
}

// untested are the verbs that Namespace doesn't know.
var untested = map[op.Verb]bool{op.VerbSetACL: true, op.VerbGetACL: true}

func compareMachines(t *testing.T, g *requests, seen map[string]int) {
	m, ns := fsm.New(), NewNamespace()
	for step := range 200 {
		b := &op.Batch{Wall: op.Time(step), Age: g.Uint64N(3000)}
		for range 1 + g.IntN(3) {
			b.Requests = append(b.Requests, g.request(ns))
		}
		done := m.Apply(b)
		ns.Begin(b.Wall, b.Age)
		var events []op.Event
		for i, r := range b.Requests {
			want, happened := ns.Do(r)
			events = append(events, happened...)
			got := &done.Results[i]
			count(seen, r.Op, got)
			if d := differ(got, &want); d != "" {
				t.Errorf("step %d, %s: %s", step, Describe(r.Op), d)
				return
			}
		}
		if err := sameEvents(done.Events, events); err != nil {
			t.Errorf("step %d: %v", step, err)
		}
	}
	v := m.View()
	res := v.Read(&op.Subtree{Path: "/"}, nil)
	f := &Final{Zxid: v.Zxid(), Nodes: res.Nodes}
	for s := range v.Sessions(0) {
		f.Sessions = append(f.Sessions, s.ID)
	}
	if err := sameState(f, ns); err != nil {
		t.Error(err)
	}
}

func count(seen map[string]int, o op.Op, res *op.Result) {
	seen[code(res).String()]++
	if code(res) != op.OK {
		return
	}
	seen[o.Verb().String()+" ok"]++
	if x, ok := o.(*op.Txn); ok {
		for _, o := range append(append([]op.Op{}, x.Then...), x.Else...) {
			seen[o.Verb().String()+" ok"]++
		}
	}
}

// requests makes random requests that often mean something.
type requests struct {
	*rand.Rand
	next map[op.SessionID]uint64
}

func (g *requests) chance(percent int) bool { return g.IntN(100) < percent }

func (g *requests) request(ns *Namespace) *op.Request {
	r := &op.Request{Op: g.op(ns)}
	if g.chance(60) {
		r.Session = g.session(ns)
	}
	switch {
	case g.chance(30) && r.Session != 0:
		r.Seq, r.Epoch, r.Ack = 1, 1, g.Uint64N(4)
		if s := ns.sessions[r.Session]; s != nil {
			r.Seq, r.Epoch = s.next, s.epoch
			r.Ack = s.next - min(s.next, r.Ack)
		}
		if g.chance(30) {
			r.Seq += g.Uint64N(4) - 2
		}
		if g.chance(10) {
			r.Epoch--
		}
	case g.chance(15):
		r.Key = &op.Key{Key: fmt.Sprint(g.IntN(5)), Hash: [16]byte{byte(g.IntN(2))}}
	}
	return r
}

func (g *requests) session(ns *Namespace) op.SessionID {
	alive := ns.Alive()
	if len(alive) == 0 || g.chance(5) {
		return op.SessionID(1 + g.IntN(20))
	}
	return alive[g.IntN(len(alive))]
}

// path is one of few, mostly of a node that exists.
func (g *requests) path(ns *Namespace) string {
	if g.chance(70) {
		nodes := ns.Nodes()
		if n := nodes[g.IntN(len(nodes))]; !op.Within(n.Path, "/zookeeper") {
			return n.Path
		}
	}
	if g.chance(4) {
		return []string{"", "a", "/a//b", "/a/", "/.", "/\x00"}[g.IntN(6)]
	}
	path := ""
	for range 1 + g.IntN(3) {
		path += "/" + string(rune('a'+g.IntN(3)))
	}
	return path
}

func (g *requests) cond() op.Cond {
	c := op.Always
	if g.chance(30) {
		c.Version = int32(g.IntN(3))
	}
	if g.chance(10) {
		c.Mzxid = op.Zxid(g.IntN(100))
	}
	return c
}

func (g *requests) data() []byte { return [][]byte{nil, {}, []byte("x"), []byte("yy")}[g.IntN(4)] }

func (g *requests) op(ns *Namespace) op.Op {
	if g.chance(20) {
		return &op.Txn{If: g.list(g.check, ns, 2), Then: g.list(g.change, ns, 4), Else: g.list(g.change, ns, 1)}
	}
	if g.chance(35) {
		return g.sessionOp(ns)
	}
	return g.change(ns)
}

func (g *requests) list(one func(*Namespace) op.Op, ns *Namespace, most int) (ops []op.Op) {
	for range g.IntN(most + 1) {
		ops = append(ops, one(ns))
	}
	return ops
}

func (g *requests) check(ns *Namespace) op.Op {
	switch g.IntN(4) {
	case 0:
		dir, token := g.contender(ns)
		return &op.Holder{Dir: dir, Token: token, Rule: op.Rule{Shared: g.chance(30), Slots: int32(g.IntN(3))}}
	case 1:
		dir := g.path(ns)
		return &op.Term{Dir: dir, Token: ns.nodes[dir].mzxid}
	}
	c := g.cond()
	c.Absent = g.chance(30)
	return &op.Check{Path: g.path(ns), If: c}
}

// contender returns a directory and the czxid of one of its children, if it finds some.
func (g *requests) contender(ns *Namespace) (string, op.Zxid) {
	path := g.path(ns)
	if op.CheckPath(path) != nil || path == op.Root {
		return path, 1
	}
	return op.Parent(path), ns.nodes[path].czxid
}

func (g *requests) change(ns *Namespace) op.Op {
	switch g.IntN(13) {
	case 0, 1:
		return &op.Set{Path: g.path(ns), Data: g.data(), If: g.cond()}
	case 2, 3:
		return &op.Delete{Path: g.path(ns), If: g.cond(), Recursive: g.chance(20)}
	case 4:
		return &op.Get{Path: g.path(ns)}
	case 5:
		return &op.Children{Path: g.path(ns), Limit: int32(g.IntN(3)), WithStat: g.chance(50), WithData: g.chance(50)}
	case 6:
		return &op.Rank{Path: g.path(ns), Of: int32(g.IntN(4))}
	case 7:
		path := g.path(ns)
		if op.CheckPath(path) == nil && path != op.Root {
			return &op.Lead{Dir: op.Parent(path), Node: op.Base(path), Data: g.data()}
		}
		return &op.Exists{Path: g.path(ns)}
	case 8:
		return g.check(ns)
	case 9:
		if g.chance(50) {
			return &op.SetQuota{Path: g.path(ns), Quota: op.Quota{HardCount: int64(g.IntN(3)-1) << 20}}
		}
		return &op.Subtree{Path: g.path(ns), Depth: int32(g.IntN(3)), Limit: int32(g.IntN(4))}
	}
	return g.create(ns)
}

func (g *requests) create(ns *Namespace) op.Op {
	x := &op.Create{Path: g.path(ns), Data: g.data(), Sequence: g.chance(40), Parents: g.chance(15), Replace: g.chance(10)}
	if x.Sequence {
		x.Path += []string{"-", "/", "x-lock-", "__READ__"}[g.IntN(4)]
	}
	switch g.IntN(8) {
	case 0, 1, 2:
		if x.Kind = op.Ephemeral; g.chance(40) {
			x.TTL = time.Duration(1+g.IntN(9)) * time.Second
		}
	case 3:
		x.Kind = op.Container
	case 4:
		x.Kind, x.TTL = op.TTL, time.Duration(g.IntN(9))*time.Second
	}
	return x
}

func (g *requests) sessionOp(ns *Namespace) op.Op {
	id := g.session(ns)
	s := ns.sessions[id]
	switch g.IntN(8) {
	case 0:
		return &op.CloseSession{Session: id, Killed: g.chance(20)}
	case 1:
		return &op.SetTimeout{Session: id, Timeout: time.Duration(g.IntN(20)) * time.Second}
	case 2, 3:
		x := &op.Attach{Session: id, Nonce: g.Uint64N(4)}
		if s != nil {
			x.Secret = s.secret
		}
		return x
	case 4:
		e := op.Expiry{Session: id, Epoch: 1, Timeout: 10 * time.Second}
		if s != nil && g.chance(70) {
			e.Epoch, e.Timeout = s.epoch, time.Duration(s.timeout)*time.Millisecond
		}
		return &op.Expire{Sessions: []op.Expiry{e}}
	case 5:
		x := &op.Reap{}
		for range 3 {
			x.Paths = append(x.Paths, g.path(ns))
		}
		return x
	case 6:
		if g.chance(50) {
			return &op.SetLevel{Level: uint32(g.IntN(3))}
		}
		limits := op.DefaultLimits()
		limits.SessionMax = time.Duration(10+g.IntN(3)) * time.Second
		return &op.SetLimits{Limits: limits}
	}
	x := &op.OpenSession{Secret: op.Hash{byte(g.IntN(3))}, Timeout: time.Duration(g.IntN(20)) * time.Second}
	if g.chance(50) {
		x.Identity, x.Proof = string(rune('p'+g.IntN(3))), op.Hash{byte(g.IntN(3))}
	}
	return x
}
