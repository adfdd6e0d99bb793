package fsm

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/coord-kv/coord/op"
)

// generator makes requests about few nodes, few people and few numbers, so that they meet.
type generator struct {
	*rand.Rand
	paths    []string // that exist
	stats    map[string]op.Stat
	due      []string
	first    []string // ephemeral nodes that stand first
	sessions []Session
	dead     []op.SessionID
	seen     map[op.SessionID]bool
	zxid     op.Zxid
}

func newGenerator(seed uint64) *generator {
	return &generator{Rand: rand.New(rand.NewPCG(seed, 1)), seen: map[op.SessionID]bool{}}
}

// look notes what there is, so that requests are about it.
func (g *generator) look(m *Machine) {
	v := m.View()
	g.stats, g.due = map[string]op.Stat{}, m.Due(0, 10)
	g.first = nil
	g.paths, g.sessions, g.dead, g.zxid = g.paths[:0], g.sessions[:0], g.dead[:0], v.Zxid()
	for _, n := range v.Read(&op.Subtree{Path: "/"}, []op.Identity{{Scheme: "super"}}).Nodes {
		g.paths = append(g.paths, n.Path)
		g.stats[n.Path] = n.Stat
		for seat := range v.Order(n.Path) {
			g.first = append(g.first, op.Join(n.Path, seat.Name))
			break
		}
	}
	for s := range v.Sessions(0) {
		g.sessions = append(g.sessions, s)
		g.seen[s.ID] = true
	}
	for id := range g.seen {
		if _, ok := v.Session(id); !ok {
			g.dead = append(g.dead, id)
		}
	}
	slices.Sort(g.dead)
}

func (g *generator) one(n int) bool { return g.IntN(n) == 0 }

func pick[T any](g *generator, list ...T) T { return list[g.IntN(len(list))] }

func (g *generator) batch(n int) *op.Batch {
	b := &op.Batch{Wall: op.Time(1000 + g.IntN(1000)), Age: uint64(pick(g, 0, 0, 1, 10, 500, 3000))}
	for range n {
		b.Requests = append(b.Requests, g.request())
	}
	return b
}

func (g *generator) request() *op.Request {
	r := &op.Request{Auth: g.auth()}
	if len(g.sessions) > 0 && !g.one(3) {
		s := pick(g, g.sessions...)
		r.Session = s.ID
		if g.one(3) {
			r.Seq, r.Epoch = s.NextSeq, s.Epoch
			r.Ack = max(s.NextSeq, 3) - uint64(g.IntN(3))
			if g.one(4) {
				r.Seq = max(1, r.Seq+uint64(g.IntN(4))-2)
				r.Epoch = max(1, r.Epoch+uint64(g.IntN(3))-1)
			}
		}
	}
	if len(g.dead) > 0 && g.one(30) {
		r.Session = pick(g, g.dead...)
	}
	if g.one(8) {
		r.Key = &op.Key{Principal: pick(g, "ann", "bob"), Key: fmt.Sprint(g.IntN(5)), Hash: [16]byte{byte(g.IntN(2))}}
	}
	r.Op = g.op(r)
	if x, ok := r.Op.(*op.Lead); ok && g.one(2) {
		r.Session, r.Seq = g.stats[op.Join(x.Dir, x.Node)].EphemeralOwner, 0
	}
	return r
}

func (g *generator) auth() []op.Identity {
	all := []op.Identity{{Scheme: "digest", ID: "ann:h"}, {Scheme: "ip", ID: "10.0.0.1"}, {Scheme: "super"}}
	if g.one(3) {
		return all[:g.IntN(3)]
	}
	if g.one(10) {
		return all
	}
	return nil
}

func (g *generator) acl() []op.ACL {
	switch g.IntN(12) {
	case 0:
		return []op.ACL{{Perms: op.Perm(1 + g.IntN(31)), Scheme: "world", ID: "anyone"}, {Perms: op.AllPerm, Scheme: "digest", ID: "ann:h"}}
	case 1:
		return []op.ACL{{Perms: op.AllPerm, Scheme: "auth"}}
	case 2:
		return []op.ACL{{Perms: op.Read, Scheme: pick(g, "digest", "nonsense"), ID: "ann"}}
	case 3:
		return slices.Clone(op.OpenACL)
	}
	return nil
}

func (g *generator) path() string {
	if len(g.paths) > 0 && g.one(2) {
		return pick(g, g.paths...)
	}
	if g.one(25) {
		return pick(g, "", "/", "a", "//", "/a/", "/a//b", "/a/./b", "/a\x00", "/\u0080", "/zookeeper/quota", strings.Repeat("/a", 257))
	}
	p := ""
	for range 1 + g.IntN(3) {
		p += "/" + pick(g, "a", "b", "c")
	}
	return p
}

// seated is a path that is likely to have a rank.
func (g *generator) seated() string {
	for range 10 {
		if p := g.path(); endsInNumber(p) {
			return p
		}
	}
	return g.path()
}

func (g *generator) data() []byte {
	switch g.IntN(8) {
	case 0:
		return nil
	case 1:
		return []byte{}
	case 2:
		return []byte(strings.Repeat("x", 250+g.IntN(20)))
	}
	return []byte(strings.Repeat("d", g.IntN(10)))
}

func (g *generator) cond() op.Cond {
	c := op.Always
	if g.one(3) {
		c.Version = int32(g.IntN(3))
	}
	if g.one(8) {
		c.Mzxid = g.zxid - min(g.zxid, op.Zxid(g.IntN(30)))
	}
	c.Absent = g.one(15)
	return c
}

// token is one that the node at path or its directory may have given.
func (g *generator) token(path, dir string) op.Zxid {
	return pick(g, g.stats[path].Czxid, g.stats[dir].Mzxid, g.zxid-min(g.zxid, op.Zxid(g.IntN(20))))
}

func (g *generator) session() op.SessionID {
	if len(g.sessions) > 0 && !g.one(5) {
		return pick(g, g.sessions...).ID
	}
	return op.SessionID(g.IntN(50))
}

func (g *generator) create() *op.Create {
	x := &op.Create{Path: g.path(), Data: g.data(), ACL: g.acl(), Parents: g.one(6), Replace: g.one(8)}
	if g.one(3) {
		x.Sequence, x.Replace = true, g.one(20)
		x.Path += "/" + pick(g, "_c_1-lock-", "__READ__", "__WRIT__", "x__rlock__", "latch-", "")
	}
	if g.one(3) {
		x.Kind = op.NodeKind(g.IntN(4))
	} else if x.Sequence && g.one(2) {
		x.Kind = op.Ephemeral
	}
	if x.Kind == op.TTL || x.Kind == op.Ephemeral && g.one(2) || g.one(50) {
		x.TTL = time.Duration(g.IntN(2000)) * time.Millisecond
	}
	return x
}

// inTxn makes an operation that may stand in a transaction.
func (g *generator) inTxn() op.Op {
	switch g.IntN(24) {
	case 0, 1, 2, 3, 4, 5, 6, 7:
		return g.create()
	case 8, 9, 10:
		return &op.Set{Path: g.path(), Data: g.data(), If: g.cond()}
	case 11, 12:
		return &op.Delete{Path: g.path(), If: g.cond(), Recursive: g.one(2)}
	case 13:
		return g.check()
	case 14:
		return &op.SetACL{Path: g.path(), ACL: g.acl(), Version: int32(g.IntN(4)) - 1}
	case 15:
		q := op.Quota{HardCount: int64(g.IntN(8)), HardBytes: int64(g.IntN(600))}
		if g.one(10) {
			q.SoftBytes = -1
		}
		return &op.SetQuota{Path: g.path(), Quota: q}
	case 16:
		return &op.Get{Path: g.path()}
	case 17:
		return &op.Exists{Path: g.path()}
	case 18:
		return &op.Children{Path: g.path(), After: pick(g, "", "a", "b"), Limit: int32(g.IntN(4)), WithData: g.one(2), WithStat: g.one(2)}
	case 19:
		return &op.Subtree{Path: g.path(), After: pick(g, "", g.path()), Limit: int32(g.IntN(6)), Depth: int32(g.IntN(3))}
	case 20:
		return &op.GetACL{Path: g.path()}
	case 21:
		return &op.Rank{Path: g.seated()}
	case 22:
		return &op.Rank{Of: int32(g.IntN(4)), Path: "/a"}
	}
	return g.lead()
}

// lead is most likely the bid of the one who may.
func (g *generator) lead() *op.Lead {
	path := pick(g, append(g.first, g.seated())...)
	if !endsInNumber(path) {
		return &op.Lead{Dir: path, Node: "b", Data: g.data()}
	}
	return &op.Lead{Dir: op.Parent(path), Node: op.Base(path), Data: g.data()}
}

func (g *generator) check() op.Op {
	path := g.seated()
	dir := g.path()
	if len(g.first) > 0 && g.one(2) {
		path = pick(g, g.first...)
	}
	if endsInNumber(path) {
		dir = op.Parent(path)
	}
	switch g.IntN(4) {
	case 0:
		return &op.Holder{Dir: dir, Token: g.token(path, dir), Rule: op.Rule{Shared: g.one(2), Slots: int32(g.IntN(3))}}
	case 1:
		return &op.Term{Dir: dir, Token: g.token(path, dir)}
	}
	return &op.Check{Path: g.path(), If: g.cond()}
}

func (g *generator) txn() *op.Txn {
	x := &op.Txn{}
	for range g.IntN(3) {
		x.If = append(x.If, g.check())
	}
	for range g.IntN(4) {
		x.Then = append(x.Then, g.inTxn())
	}
	for range g.IntN(3) {
		x.Else = append(x.Else, g.inTxn())
	}
	return x
}

func (g *generator) op(r *op.Request) op.Op {
	switch g.IntN(40) {
	case 0, 1:
		return &op.OpenSession{
			Secret: pick(g, op.Hash{}, op.Hash{1}, op.Hash{2}), Timeout: time.Duration(g.IntN(20_000)) * time.Millisecond,
			Name: pick(g, "", "n", strings.Repeat("n", 600)), Identity: pick(g, "", "i", "j"), Proof: pick(g, op.Hash{}, op.Hash{1}), Lease: g.one(2),
		}
	case 2:
		return &op.Attach{Session: g.session(), Secret: pick(g, op.Hash{1}, op.Hash{2}), Nonce: uint64(g.IntN(3))}
	case 3:
		return &op.SetTimeout{Session: pick(g, r.Session, g.session()), Timeout: time.Duration(g.IntN(20_000)) * time.Millisecond}
	case 4, 17:
		return &op.CloseSession{Session: pick(g, r.Session, g.session()), Killed: g.one(2)}
	case 5:
		return g.expire()
	case 6:
		x := &op.Reap{}
		for range g.IntN(4) {
			x.Paths = append(x.Paths, pick(g, append(g.due, g.path())...))
		}
		return x
	case 7:
		return g.limits()
	case 8, 9, 10, 11, 12, 13, 14:
		return g.txn()
	case 15:
		if g.one(10) {
			return &op.SetLevel{Level: uint32(g.IntN(2))}
		}
	case 16:
		return g.check()
	}
	return g.inTxn()
}

func (g *generator) expire() *op.Expire {
	x := &op.Expire{}
	for _, s := range g.sessions {
		if g.one(3) {
			x.Sessions = append(x.Sessions, op.Expiry{Session: s.ID, Epoch: s.Epoch + uint64(g.IntN(3)/2), Timeout: s.Timeout})
		}
	}
	return x
}

// limits are the default ones, most of the time with one of them tight.
func (g *generator) limits() *op.SetLimits {
	l := op.DefaultLimits()
	l.KeyWindow, l.ContainerUnused = 5*time.Second, time.Second
	switch g.IntN(14) {
	case 0:
		l.ChangedNodes = int64(g.IntN(6))
	case 1:
		l.EventBytes = int64(50 + g.IntN(300))
	case 2:
		l.SessionResults = int64(400 + g.IntN(1000))
	case 3:
		l.AllResults = int64(300 + g.IntN(3000))
	case 4:
		l.ReadBytes = int64(100 + g.IntN(500))
	case 5:
		l.DataBytes = int64(1 + g.IntN(10))
	case 6:
		l.TxnOps = int64(1 + g.IntN(3))
	case 7:
		l.Ephemerals = int64(1 + g.IntN(2))
	case 8:
		l.Sessions = int64(1 + g.IntN(3))
	case 9:
		l.SeqWindow = int64(1 + g.IntN(2))
	case 10:
		l.PrincipalKeys = int64(1 + g.IntN(2))
	case 11:
		l.ACLEntries = 1
	case 12:
		l.TxnOps = -1
	}
	return &op.SetLimits{Limits: l}
}
