package check

import (
	"cmp"
	"slices"
	"strings"

	"github.com/coord-kv/coord/op"
)

// Read answers an operation that changes nothing.
func (n *Namespace) Read(o op.Op) op.Result { return n.stamp(n.read(o)) }

func (n *Namespace) read(o op.Op) op.Result {
	switch x := o.(type) {
	case *op.Get:
		return n.get(orRoot(x.Path))
	case *op.Exists:
		if n.missing(orRoot(x.Path)) {
			return op.Result{}
		}
		return op.Result{Stat: n.stat(orRoot(x.Path))}
	case *op.Children:
		return n.list(orRoot(x.Path), x)
	case *op.Subtree:
		return n.subtree(orRoot(x.Path), x)
	case *op.GetACL:
		return n.acl(orRoot(x.Path))
	case *op.Rank:
		return n.rank(x.Path)
	case *op.Check:
		return n.check(x)
	case *op.Holder:
		return n.holder(x)
	case *op.Term:
		return n.inTerm(x)
	}
	return no(op.BadRequest)
}

// orRoot is ZooKeeper's: the empty path is the root for those who read.
func orRoot(path string) string { return cmp.Or(path, op.Root) }

func (n *Namespace) get(path string) op.Result {
	if n.missing(path) {
		return no(op.NoNode)
	}
	return op.Result{Data: n.nodes[path].data, Stat: n.stat(path)}
}

// acl answers with the open list, which is that of all nodes here.
func (n *Namespace) acl(path string) op.Result {
	if n.missing(path) {
		return no(op.NoNode)
	}
	return op.Result{ACL: op.OpenACL, Stat: n.stat(path)}
}

func (n *Namespace) check(x *op.Check) op.Result {
	at, ok := n.nodes[x.Path]
	code := op.OK
	switch {
	case op.CheckPath(x.Path) != nil:
		code = op.BadPath
	case ok:
		code = at.meets(x.If)
	case !x.If.Absent:
		code = op.NoNode
	}
	if code != op.OK {
		return no(code)
	}
	return op.Result{}
}

func (n *Namespace) list(path string, x *op.Children) op.Result {
	if n.missing(path) {
		return no(op.NoNode)
	}
	res := op.Result{Stat: n.stat(path)}
	for _, name := range n.nodes[path].children {
		if name <= x.After {
			continue
		}
		if x.Limit > 0 && len(res.Nodes) == int(x.Limit) {
			res.More = true
			break
		}
		res.Nodes = append(res.Nodes, n.child(op.Join(path, name), x.WithData, x.WithStat))
	}
	return res
}

func (n *Namespace) child(path string, withData, withStat bool) op.Node {
	entry := op.Node{Path: path}
	if withData || withStat {
		entry.Stat = *n.stat(path)
	}
	if withData {
		entry.Data = n.nodes[path].data
	}
	return entry
}

// Nodes returns all nodes, parents before children and siblings in order.
func (n *Namespace) Nodes() []op.Node {
	var all []op.Node
	for path := range n.nodes {
		all = append(all, n.child(path, true, true))
	}
	slices.SortFunc(all, func(a, b op.Node) int { return slices.Compare(segments(a.Path), segments(b.Path)) })
	return all
}

// subtree lists a node and what is below it. It knows no bound of an answer's size.
func (n *Namespace) subtree(path string, x *op.Subtree) (res op.Result) {
	if n.missing(path) {
		return no(op.NoNode)
	}
	var walk func(path string, depth int32)
	walk = func(path string, depth int32) {
		switch {
		case x.After != "" && slices.Compare(segments(path), segments(x.After)) <= 0:
		case x.Limit > 0 && len(res.Nodes) == int(x.Limit):
			res.More = true
			return
		default:
			res.Nodes = append(res.Nodes, n.child(path, true, true))
		}
		for _, name := range n.nodes[path].children {
			if depth != 0 {
				walk(op.Join(path, name), depth-1)
			}
		}
	}
	walk(path, cmp.Or(x.Depth, -1))
	return res
}

func segments(path string) []string {
	if path == op.Root {
		return nil
	}
	return strings.Split(path[1:], "/")
}

// seat is a numbered child.
type seat struct {
	name   string
	czxid  op.Zxid
	number uint64
	shared bool
}

// seats lists the numbered children of a directory in the order of their numbers.
func (n *Namespace) seats(dir string) []seat {
	var all []seat
	for _, name := range n.nodes[dir].children {
		if at := n.nodes[op.Join(dir, name)]; at.numbered {
			all = append(all, seat{name, at.czxid, at.number, readsOnly(name)})
		}
	}
	slices.SortFunc(all, func(a, b seat) int { return cmp.Compare(a.number, b.number) })
	return all
}

// readsOnly recognises the shared contenders of Curator's and kazoo's read-write locks.
func readsOnly(name string) bool {
	stem := name[:len(name)-len("0000000000")]
	return strings.HasSuffix(stem, "__READ__") || strings.HasSuffix(stem, "__rlock__")
}

func (n *Namespace) rank(path string) op.Result {
	at, ok := n.nodes[path]
	switch {
	case op.CheckPath(path) != nil || path == op.Root:
		return no(op.BadPath)
	case !ok:
		return no(op.NoNode)
	case !at.numbered:
		return no(op.BadRequest)
	}
	seats := n.seats(op.Parent(path))
	r := &op.RankInfo{Len: int32(len(seats)), Token: at.czxid, First: seats[0].name}
	for _, s := range seats {
		if s.name == op.Base(path) {
			break
		}
		r.Position++
		r.Predecessor = s.name
		if !s.shared {
			r.Exclusive++
			r.Writer = s.name
		}
	}
	return op.Result{Rank: r}
}

func (n *Namespace) holder(x *op.Holder) op.Result {
	writers := 0
	for i, s := range n.seats(orRoot(x.Dir)) {
		switch {
		case s.czxid != x.Token:
		case x.Rule.Shared && writers == 0, !x.Rule.Shared && i < int(max(1, x.Rule.Slots)):
			return op.Result{}
		}
		if !s.shared {
			writers++
		}
	}
	return no(op.StaleToken)
}

func (n *Namespace) inTerm(x *op.Term) op.Result {
	dir, ok := n.nodes[orRoot(x.Dir)]
	t, led := n.terms[orRoot(x.Dir)]
	if !ok || !led || t.zxid != x.Token || dir.mzxid != x.Token || n.nodes[op.Join(orRoot(x.Dir), t.node)].czxid != t.czxid {
		return no(op.StaleToken)
	}
	return op.Result{}
}

func (n *Namespace) takeTerm(session op.SessionID, x *op.Lead) op.Result {
	if n.missing(x.Dir) {
		return no(op.NoNode)
	}
	at, ok := n.nodes[op.Join(x.Dir, x.Node)]
	if !ok || !at.numbered || session == 0 || at.owner != session || n.seats(x.Dir)[0].name != x.Node {
		return no(op.NotHolder)
	}
	res := n.set(&op.Set{Path: x.Dir, Data: x.Data, If: op.Always})
	n.terms[x.Dir] = term{n.zxid, at.czxid, x.Node}
	return res
}
