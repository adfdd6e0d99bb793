package fsm

import "github.com/coord-kv/coord/op"

// set replaces a node's data. Order of checks: path, existence, permission, quota, version.
func (m *Machine) set(c *caller, x *op.Set) op.Result {
	n, err := m.valid(x.Path, c.auth, op.Write)
	if err == nil {
		err = m.checkData(x.Data)
	}
	if err == nil {
		err = m.checkQuota(x.Path, 0, int64(len(x.Data)-len(n.data)))
	}
	if err == nil {
		err = n.meets(x.If, c.auth)
	}
	if err == nil {
		n, err = m.putData(x.Path, n, x.Data)
	}
	if err != nil {
		return failed(err, x.Path)
	}
	return op.Result{Stat: n.stat()}
}

// meets checks a condition. What the node is at is told only to whom may read it.
func (n *node) meets(c op.Cond, auth []op.Identity) *op.Error {
	code := op.BadVersion
	switch {
	case c.Absent:
		code = op.NodeExists
	case c.Version != op.AnyVersion && c.Version != n.version, c.Mzxid != 0 && n.mzxid > c.Mzxid:
	default:
		return nil
	}
	err := &op.Error{Code: code}
	if n.permits(auth, op.Read) {
		err.Stat = n.stat()
	}
	return err
}

// setData replaces the data of n, which is at path, as far as quota and the limits of the request allow.
func (m *Machine) setData(path string, n *node, data []byte) (*node, *op.Error) {
	if err := m.checkQuota(path, 0, int64(len(data)-len(n.data))); err != nil {
		return nil, err
	}
	return m.putData(path, n, data)
}

func (m *Machine) putData(path string, old *node, data []byte) (*node, *op.Error) {
	if err := m.afford(1, eventBytes(path)); err != nil {
		return nil, err
	}
	n := old.edited()
	n.data, n.null = string(data), data == nil
	n.mzxid, n.mtime, n.version = m.zxid, m.wall, successor(n.version)
	if n.kind == op.TTL {
		n.rare.touched = m.age
	}
	m.swap(path, old, n)
	m.sum.sub(old.dataTerm(path))
	m.sum.add(n.dataTerm(path))
	grown := int64(len(n.data) - len(old.data))
	m.dataBytes += grown
	m.grow(path, 0, grown)
	m.emit(op.Changed, path, n)
	return n, nil
}

// setACL replaces a node's ACL. Order of checks: path, list, existence, permission, version.
func (m *Machine) setACL(c *caller, x *op.SetACL) op.Result {
	if op.CheckPath(x.Path) != nil {
		return fail(op.BadPath, x.Path)
	}
	err := m.checkACL(x.ACL, c.auth)
	var n *node
	if err == nil {
		n, err = m.node(x.Path, c.auth, op.Admin)
	}
	if err == nil && x.Version != op.AnyVersion && x.Version != n.extra().aversion {
		err = &op.Error{Code: op.BadVersion}
		if n.permits(c.auth, op.Read) {
			err.Stat = n.stat()
		}
	}
	if err == nil {
		err = m.afford(1, eventBytes(x.Path))
	}
	if err != nil {
		return failed(err, x.Path)
	}
	n = m.putACL(c, x, n)
	return op.Result{Stat: n.stat()}
}

func (m *Machine) putACL(c *caller, x *op.SetACL, old *node) *node {
	list, _ := op.ResolveACL(x.ACL, c.auth)
	n := old.edited()
	r := n.part()
	r.acl, r.aversion = m.intern(list), successor(r.aversion)
	m.swap(x.Path, old, n)
	m.release(old.acl())
	m.emit(op.ACLChanged, x.Path, n)
	return n
}

// delete removes a node, with Recursive everything below it too. Order of checks: path, the parent's existence and permission,
// existence, version, children.
func (m *Machine) delete(c *caller, x *op.Delete) op.Result {
	dir, ok := parentOf(x.Path)
	if !ok || fixed(x.Path) {
		return fail(op.BadPath, x.Path)
	}
	parent, ok := m.nodes.Get(dir)
	switch {
	case !ok:
		return fail(op.NoNode, dir)
	case !parent.permits(c.auth, op.Remove):
		return fail(op.Denied, dir)
	}
	n, ok := m.nodes.Get(x.Path)
	if !ok {
		return fail(op.NoNode, x.Path)
	}
	err := n.meets(x.If, c.auth)
	if err == nil && !x.Recursive && n.children() > 0 {
		err = &op.Error{Code: op.NotEmpty}
	}
	var doomed []place
	if err == nil {
		doomed, err = m.below(x.Path, n, c.auth)
	}
	if err != nil {
		return failed(err, x.Path)
	}
	m.leaving = c.why(n)
	m.uproot(doomed)
	return op.Result{Count: int64(len(doomed))}
}

// below lists the subtree of n, which is at path, children before parents, if the caller may delete all of it.
func (m *Machine) below(path string, n *node, auth []op.Identity) (all []place, err *op.Error) {
	nodes, _ := n.weight()
	if err := m.afford(nodes, nodes*eventBytes(path)); err != nil {
		return nil, err
	}
	var bytes int64
	for p := range m.walkUp(path, n) {
		if p.node.children() > 0 && !p.node.permits(auth, op.Remove) {
			return nil, &op.Error{Code: op.Denied, Path: p.path}
		}
		all = append(all, p)
		bytes += eventBytes(p.path)
	}
	return all, m.afford(nodes, bytes)
}
