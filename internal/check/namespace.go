package check

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/coord-kv/coord/op"
)

// Namespace is coord's state machine once more, as plain as can be: the tree is a map by path, what a failed transaction
// did is undone by going back to a copy. It is written from ZooKeeper's rules. It knows no access control, no quotas, and
// no limits but those of time.
type Namespace struct {
	zxid     op.Zxid
	age      uint64
	level    uint32
	limits   op.Limits
	nodes    map[string]node
	sessions map[op.SessionID]*session
	keys     map[keyID]*kept
	terms    map[string]term

	wall   op.Time
	events []op.Event
}

// node is a value: a change is a new one, so that a copy of the map is a copy of the tree.
type node struct {
	data                []byte
	czxid, mzxid, pzxid op.Zxid
	ctime, mtime        op.Time
	version, aversion   int32
	kind                op.NodeKind
	ttl                 time.Duration
	owner               op.SessionID
	touched             uint64   // the age when it was made or, with a time to live, last written
	creates             uint64   // children ever created
	children            []string // names in order; never changed in place
	numbered            bool
	number              uint64
}

// term is who won an election last.
type term struct {
	zxid, czxid op.Zxid
	node        string
}

// NewNamespace returns the state that every cluster begins with.
func NewNamespace() *Namespace {
	n := &Namespace{
		level: 1, limits: op.DefaultLimits(), nodes: map[string]node{}, sessions: map[op.SessionID]*session{},
		keys: map[keyID]*kept{}, terms: map[string]term{},
	}
	empty := []byte{}
	n.nodes["/"] = node{data: empty, children: []string{"zookeeper"}}
	n.nodes["/zookeeper"] = node{data: empty, children: []string{"config", "quota"}}
	n.nodes["/zookeeper/config"] = node{data: empty, version: -1, aversion: -1}
	n.nodes["/zookeeper/quota"] = node{data: empty}
	return n
}

// Zxid returns the number of decisions.
func (n *Namespace) Zxid() op.Zxid { return n.zxid }

// Begin starts a batch.
func (n *Namespace) Begin(wall op.Time, age uint64) {
	n.wall = wall
	n.age += age
}

// Do decides one request of the batch.
func (n *Namespace) Do(r *op.Request) (op.Result, []op.Event) {
	n.events = nil
	res := n.admit(r)
	return res, n.events
}

// decide answers a request that is not a repetition.
func (n *Namespace) decide(r *op.Request) op.Result {
	var res op.Result
	switch verb := r.Op.Verb(); {
	case r.Session != 0 && n.sessions[r.Session] == nil:
		res = n.no(op.SessionExpired)
	case verb.Internal():
		res = n.lead(r.Op)
	case isRead(verb):
		res = n.read(r.Op)
	default:
		n.zxid++
		res = n.write(r, r.Op)
	}
	return n.stamp(res)
}

func isRead(v op.Verb) bool {
	switch v {
	case op.VerbGet, op.VerbExists, op.VerbChildren, op.VerbSubtree, op.VerbGetACL, op.VerbRank, op.VerbCheck, op.VerbHolder, op.VerbTerm:
		return true
	}
	return false
}

func (n *Namespace) no(code op.Code) op.Result {
	n.zxid++
	return no(code)
}

func no(code op.Code) op.Result { return op.Result{Err: &op.Error{Code: code}} }

func (n *Namespace) stamp(res op.Result) op.Result {
	res.Zxid = n.zxid
	if res.Err != nil {
		res.Err.Outcome = op.Decided
	}
	for i := range res.Results {
		res.Results[i].Zxid = n.zxid
	}
	return res
}

func (n *Namespace) write(r *op.Request, o op.Op) op.Result {
	switch x := o.(type) {
	case *op.Create:
		return n.create(r.Session, x)
	case *op.Set:
		return n.set(x)
	case *op.Delete:
		return n.delete(x)
	case *op.Lead:
		return n.takeTerm(r.Session, x)
	case *op.Txn:
		return n.txn(r, x)
	case *op.OpenSession:
		return n.open(r, x)
	case *op.Attach:
		return n.attach(x)
	case *op.SetTimeout:
		return n.setTimeout(r, x)
	case *op.SetQuota:
		return n.setQuota(x)
	case *op.CloseSession:
		return n.close(r, x)
	case *op.SetLimits:
		return n.setLimits(x)
	}
	panic(fmt.Sprintf("check: the namespace knows no %s", o.Verb()))
}

// txn does all or nothing.
func (n *Namespace) txn(r *op.Request, x *op.Txn) op.Result {
	list, otherwise := x.Then, false
	for i, check := range x.If {
		if res := n.read(check); res.Err != nil {
			if len(x.Else) == 0 {
				res.Err.Index = int32(i)
				return op.Result{Err: res.Err}
			}
			list, otherwise = x.Else, true
			break
		}
	}
	nodes, terms := maps.Clone(n.nodes), maps.Clone(n.terms)
	res := op.Result{Results: []op.Result{}, Else: otherwise}
	for i, o := range list {
		one := n.inTxn(r, o, list, res.Results)
		if one.Err != nil {
			n.nodes, n.terms, n.events = nodes, terms, nil
			one.Err.Index = int32(len(x.If) + i)
			return op.Result{Err: one.Err, Else: otherwise}
		}
		res.Results = append(res.Results, one)
	}
	return res
}

func (n *Namespace) inTxn(r *op.Request, o op.Op, list []op.Op, done []op.Result) op.Result {
	if rank, ok := o.(*op.Rank); ok && rank.Of > 0 {
		if int(rank.Of) > len(done) || list[rank.Of-1].Verb() != op.VerbCreate {
			return no(op.BadRequest)
		}
		return n.rank(done[rank.Of-1].Path)
	}
	if isRead(o.Verb()) {
		return n.read(o)
	}
	return n.write(r, o)
}

// create follows the order of checks of ZooKeeper: flags, path, parent, the path with its number, the node, the kind of
// the parent.
func (n *Namespace) create(session op.SessionID, x *op.Create) op.Result {
	slash := strings.LastIndexByte(x.Path, '/')
	switch {
	case x.Kind == op.Ephemeral && session == 0, x.Replace && x.Sequence, x.TTL < 0, x.Kind == op.TTL && x.TTL == 0,
		x.TTL > 0 && x.Kind != op.TTL && x.Kind != op.Ephemeral:
		return no(op.BadRequest)
	case slash < 0 || strings.IndexByte(x.Path, 0) >= 0:
		return no(op.BadPath)
	}
	if _, ok := n.nodes[x.Path]; ok && x.Replace {
		res := n.set(&op.Set{Path: x.Path, Data: x.Data, If: op.Always})
		res.Path = x.Path
		return res
	}
	dir := x.Path[:max(slash, 1)]
	if x.Parents && n.missing(dir) {
		if op.CheckPath(x.Path+"0") != nil || !x.Sequence && op.CheckPath(x.Path) != nil {
			return no(op.BadPath)
		}
		return n.createWithParents(session, x, dir)
	}
	return n.createUnder(session, x, dir)
}

func (n *Namespace) missing(path string) bool {
	_, ok := n.nodes[path]
	return !ok
}

func (n *Namespace) createUnder(session op.SessionID, x *op.Create, dir string) op.Result {
	parent, ok := n.nodes[dir]
	if !ok {
		return no(op.NoNode)
	}
	path, number := x.Path, uint64(0)
	if x.Sequence {
		number = parent.creates
		path = fmt.Sprintf("%s%010d", x.Path, number)
	}
	switch {
	case op.CheckPath(path) != nil:
		return no(op.BadPath)
	case !n.missing(path):
		return no(op.NodeExists)
	case parent.kind == op.Ephemeral:
		return no(op.ChildrenOfEphemeral)
	}
	added := n.born(x.Data, x.Kind)
	added.ttl, added.numbered, added.number = x.TTL, x.Sequence, number
	if x.Kind == op.Ephemeral {
		added.owner = session
	}
	n.add(path, added)
	return op.Result{Path: path, Stat: n.stat(path)}
}

// createWithParents makes the missing directories first; nothing is made if the lowest one that exists may not have
// children.
func (n *Namespace) createWithParents(session op.SessionID, x *op.Create, dir string) op.Result {
	var missing []string
	for ; n.missing(dir); dir = op.Parent(dir) {
		missing = append(missing, dir)
	}
	if n.nodes[dir].kind == op.Ephemeral {
		return no(op.ChildrenOfEphemeral)
	}
	slices.Reverse(missing)
	for _, path := range missing {
		n.add(path, n.born(nil, op.Persistent))
	}
	return n.createUnder(session, x, missing[len(missing)-1])
}

func (n *Namespace) born(data []byte, kind op.NodeKind) node {
	return node{
		data: slices.Clone(data), czxid: n.zxid, mzxid: n.zxid, pzxid: n.zxid, ctime: n.wall, mtime: n.wall,
		kind: kind, touched: n.age,
	}
}

func (n *Namespace) add(path string, added node) {
	n.nodes[path] = added
	parent := n.nodes[op.Parent(path)]
	at, _ := slices.BinarySearch(parent.children, op.Base(path))
	parent.children = slices.Insert(slices.Clone(parent.children), at, op.Base(path))
	parent.creates++
	parent.pzxid = n.zxid
	n.nodes[op.Parent(path)] = parent
	n.event(op.Created, path, added)
}

func (n *Namespace) event(t op.EventType, path string, at node) {
	n.events = append(n.events, op.Event{Zxid: n.zxid, Type: t, Kind: at.kind, Path: path, Version: at.version})
}

func (n *Namespace) set(x *op.Set) op.Result {
	if op.CheckPath(x.Path) != nil {
		return no(op.BadPath)
	}
	at, ok := n.nodes[x.Path]
	if !ok {
		return no(op.NoNode)
	}
	if code := at.meets(x.If); code != op.OK {
		return no(code)
	}
	at.data = slices.Clone(x.Data)
	if at.kind == op.TTL {
		at.touched = n.age
	}
	n.changed(x.Path, at)
	return op.Result{Stat: n.stat(x.Path)}
}

// changed puts a node in whose data counts as changed now.
func (n *Namespace) changed(path string, at node) {
	at.mzxid, at.mtime = n.zxid, n.wall
	if at.version++; at.version == -1 {
		at.version = 0
	}
	n.nodes[path] = at
	n.event(op.Changed, path, at)
}

// setQuota knows only whether there can be one: none is ever reached.
func (n *Namespace) setQuota(x *op.SetQuota) op.Result {
	switch q := x.Quota; {
	case op.CheckPath(x.Path) != nil:
		return no(op.BadPath)
	case n.missing(x.Path):
		return no(op.NoNode)
	case min(q.SoftCount, q.HardCount, q.SoftBytes, q.HardBytes) < 0:
		return no(op.BadRequest)
	}
	return op.Result{Stat: n.stat(x.Path)}
}

// meets returns the code of a condition that fails on a node that exists.
func (at node) meets(c op.Cond) op.Code {
	switch {
	case c.Absent:
		return op.NodeExists
	case c.Version != op.AnyVersion && c.Version != at.version, c.Mzxid != 0 && at.mzxid > c.Mzxid:
		return op.BadVersion
	}
	return op.OK
}

func (n *Namespace) delete(x *op.Delete) op.Result {
	slash := strings.LastIndexByte(x.Path, '/')
	switch x.Path {
	case "/", "/zookeeper", "/zookeeper/config", "/zookeeper/quota":
		return no(op.BadPath)
	}
	if slash < 0 || strings.IndexByte(x.Path, 0) >= 0 {
		return no(op.BadPath)
	}
	at, ok := n.nodes[x.Path]
	if n.missing(x.Path[:max(slash, 1)]) || !ok {
		return no(op.NoNode)
	}
	if code := at.meets(x.If); code != op.OK {
		return no(code)
	}
	if len(at.children) > 0 && !x.Recursive {
		return no(op.NotEmpty)
	}
	return op.Result{Count: n.remove(x.Path)}
}

// remove takes away a subtree, children before parents, and returns how many nodes that were. The counters of the
// directory above it move once.
func (n *Namespace) remove(path string) int64 {
	count := n.erase(path)
	parent := n.nodes[op.Parent(path)]
	at, _ := slices.BinarySearch(parent.children, op.Base(path))
	parent.children = slices.Delete(slices.Clone(parent.children), at, at+1)
	parent.pzxid = n.zxid
	n.nodes[op.Parent(path)] = parent
	return count
}

func (n *Namespace) erase(path string) int64 {
	count := int64(1)
	for _, name := range n.nodes[path].children {
		count += n.erase(op.Join(path, name))
	}
	n.event(op.Deleted, path, n.nodes[path])
	delete(n.nodes, path)
	delete(n.terms, path)
	return count
}

// stat is ZooKeeper's: what it shows as the children's version counts creations twice and takes away who is there now.
func (n *Namespace) stat(path string) *op.Stat {
	at := n.nodes[path]
	return &op.Stat{
		Czxid: at.czxid, Mzxid: at.mzxid, Pzxid: at.pzxid, Ctime: at.ctime, Mtime: at.mtime, Version: at.version,
		Cversion: int32(2*int64(at.creates) - int64(len(at.children))), Aversion: at.aversion, EphemeralOwner: at.owner,
		DataLength: int32(len(at.data)), NumChildren: int32(len(at.children)), Kind: at.kind, TTL: at.ttl,
	}
}
