package fsm

import (
	"slices"
	"strconv"
	"time"

	"github.com/coord-kv/coord/op"
)

// maxTTL is the longest time to live that ZooKeeper's encoding of it into 40 bits allows, in milliseconds.
const maxTTL = 1<<40 - 1

// create makes a node. The order of its checks is ZooKeeper's (PrepRequestProcessor.pRequest2TxnCreate).
func (m *Machine) create(c *caller, x *op.Create) op.Result {
	if err := m.checkCreate(c, x); err != nil {
		return failed(err, x.Path)
	}
	if n, ok := m.nodes.Get(x.Path); ok && x.Replace {
		return m.replace(c, x, n)
	}
	parent, missing, err := m.findParent(x)
	switch {
	case err != nil:
		return op.Result{Err: err}
	case !parent.node.permits(c.auth, op.Make):
		return fail(op.Denied, parent.path)
	}
	path, err := finalPath(x, parent.node, len(missing) > 0)
	if err == nil {
		err = m.checkPlace(c, x, path, parent, missing)
	}
	if err != nil {
		return failed(err, path)
	}
	for _, dir := range missing {
		m.add(dir, m.newNode(op.Persistent, nil))
	}
	n := m.newChild(c, x)
	m.add(path, n)
	if x.Sequence && path[len(path)-digits:] >= highSequence {
		m.done.High = append(m.done.High, path)
	}
	return op.Result{Path: path, Stat: n.stat()}
}

// checkCreate checks what can be said without looking at the tree.
func (m *Machine) checkCreate(c *caller, x *op.Create) *op.Error {
	switch {
	case x.Kind > op.TTL, x.Kind == op.Ephemeral && c.session == 0, x.Replace && x.Sequence, !fitting(x):
		return &op.Error{Code: op.BadRequest}
	case x.Parents && !complete(x):
		return &op.Error{Code: op.BadPath}
	}
	if _, ok := parentOf(x.Path); !ok {
		return &op.Error{Code: op.BadPath}
	}
	if err := m.checkData(x.Data); err != nil {
		return err
	}
	return m.checkACL(x.ACL, c.auth)
}

// fitting reports whether the time to live is one, where there can be one.
func fitting(x *op.Create) bool {
	if x.Kind != op.TTL && !x.Lingering() {
		return x.TTL == 0
	}
	ms := x.TTL / time.Millisecond
	return ms >= 1 && ms <= maxTTL
}

// complete reports whether the path will be valid. It is asked before the tree is only if missing parents are to be made, for
// otherwise a missing parent comes first.
func complete(x *op.Create) bool {
	if x.Sequence {
		return op.CheckPath(x.Path+"0") == nil
	}
	return op.CheckPath(x.Path) == nil
}

func (m *Machine) checkData(data []byte) *op.Error {
	if size := int64(len(data)); size > m.limits.DataBytes {
		return &op.Error{Code: op.TooLarge, Limit: m.limits.DataBytes, Have: size}
	}
	return nil
}

// findParent returns the node under which x creates something: the parent, or with Parents the lowest ancestor that exists, and
// then which nodes are missing in between, from the top.
func (m *Machine) findParent(x *op.Create) (p place, missing []string, err *op.Error) {
	for dir, _ := parentOf(x.Path); ; dir = op.Parent(dir) {
		if n, ok := m.nodes.Get(dir); ok {
			slices.Reverse(missing)
			return place{dir, n}, missing, nil
		}
		if !x.Parents {
			return p, nil, &op.Error{Code: op.NoNode, Path: dir}
		}
		missing = append(missing, dir)
	}
}

// finalPath returns the path of the node to create: with Sequence, the parent's counter is put behind it. The counter counts every
// node created there, whatever its kind; it is 0 if the parent is yet to be made.
func finalPath(x *op.Create, parent *node, fresh bool) (string, *op.Error) {
	if !x.Sequence {
		return x.Path, nil
	}
	number := parent.creates()
	if fresh {
		number = 0
	}
	if number > op.MaxSequence {
		return x.Path, &op.Error{Code: op.SequenceExhausted}
	}
	return x.Path + ordinal(number), nil
}

// highSequence is op.HighSequence as it stands in a name.
var highSequence = ordinal(op.HighSequence)

// ordinal returns the ten digits of a sequence number.
func ordinal(number uint64) string {
	text := strconv.FormatUint(number, 10)
	return "0000000000"[:digits-len(text)] + text
}

// checkPlace checks whether a node can be at path.
func (m *Machine) checkPlace(c *caller, x *op.Create, path string, parent place, missing []string) *op.Error {
	if op.CheckPath(path) != nil {
		return &op.Error{Code: op.BadPath}
	}
	if _, ok := m.nodes.Get(path); ok {
		return &op.Error{Code: op.NodeExists}
	}
	if parent.node.kind == op.Ephemeral {
		return &op.Error{Code: op.ChildrenOfEphemeral}
	}
	nodes, bytes := int64(len(missing)+1), eventBytes(path)
	for _, dir := range missing {
		bytes += eventBytes(dir)
	}
	if err := m.checkQuota(parent.path, nodes, int64(len(x.Data))); err != nil {
		return err
	}
	if x.Kind == op.Ephemeral {
		if err := m.checkEphemerals(c.session, path); err != nil {
			return err
		}
	}
	return m.afford(nodes, bytes)
}

// newNode returns a node that is created now.
func (m *Machine) newNode(kind op.NodeKind, data []byte) *node {
	return &node{
		czxid: m.zxid, mzxid: m.zxid, ctime: m.wall, mtime: m.wall, data: string(data), null: data == nil, kind: kind,
	}
}

// newChild returns the node that x asks for.
func (m *Machine) newChild(c *caller, x *op.Create) *node {
	n := m.newNode(x.Kind, x.Data)
	n.numbered = x.Sequence
	switch x.Kind {
	case op.Ephemeral:
		n.part().owner, n.part().ttl = c.session, uint64(x.TTL/time.Millisecond)
	case op.Container:
		n.part().touched = m.age
	case op.TTL:
		n.part().touched, n.part().ttl = m.age, uint64(x.TTL/time.Millisecond)
	}
	list, _ := op.ResolveACL(x.ACL, c.auth)
	if acl := m.intern(list); acl != openACL {
		n.part().acl = acl
	}
	return n
}

// replace is a create of what exists already, where that isn't an error.
func (m *Machine) replace(c *caller, x *op.Create, n *node) op.Result {
	if !n.permits(c.auth, op.Write) {
		return fail(op.Denied, x.Path)
	}
	n, err := m.setData(x.Path, n, x.Data)
	if err != nil {
		return failed(err, x.Path)
	}
	return op.Result{Path: x.Path, Stat: n.stat()}
}
