package fsm

import (
	"iter"
	"strings"

	"github.com/coord-kv/coord/op"
)

// How the tree changes. Callers have checked that it may.

// place is a node and where it is.
type place struct {
	path string
	node *node
}

// add creates a node under a parent that exists.
func (m *Machine) add(path string, n *node) {
	m.insert(path, n)
	m.hang(path, n, 1)
	if n.kind == op.Ephemeral {
		m.own(n.rare.owner, path)
	}
	m.emit(op.Created, path, n)
	m.came(path, n)
}

// uproot deletes the subtree that all lists, children before parents.
func (m *Machine) uproot(all []place) {
	top := all[len(all)-1]
	for _, p := range all {
		m.goes(p.path, p.node)
		m.erase(p.path, p.node)
		if p.node.kind == op.Ephemeral {
			m.disown(p.node.rare.owner, p.path)
		}
		m.emit(op.Deleted, p.path, p.node)
	}
	m.unhang(top.path, top.node)
	m.passOn(top.path, top.node)
}

// insert puts the record of a node in. erase takes it out, and what hangs on it.
func (m *Machine) insert(path string, n *node) {
	n.cacheHash(path)
	m.nodes.Set(path, n)
	m.rest(path, n)
	m.sum.add(n.dataTerm(path))
	m.kinds[n.kind]++
	m.dataBytes += int64(len(n.data))
}

func (m *Machine) erase(path string, n *node) {
	m.nodes.Delete(path)
	m.lift(path, n)
	m.sum.sub(n.dataTerm(path))
	m.kinds[n.kind]--
	m.dataBytes -= int64(len(n.data))
	m.release(n.acl())
	m.dropQuota(path)
	m.dropTerm(path)
}

// swap puts n in the place of old. The terms of their data are the caller's.
func (m *Machine) swap(path string, old, n *node) {
	n.cacheHash(path)
	m.lift(path, old)
	m.nodes.Set(path, n)
	m.rest(path, n)
}

// hang puts a node's name under its parent; creates says how many creations that counts for.
func (m *Machine) hang(path string, n *node, creates uint64) {
	dir := op.Parent(path)
	p, d := m.reach(dir)
	m.lift(dir, p)
	d.creates += creates
	d.pzxid = m.zxid
	d.adopt(m, path, n)
	m.rest(dir, p)
	nodes, bytes := n.weight()
	m.grow(dir, nodes, bytes)
}

// unhang takes the name of a node that is erased from its parent.
func (m *Machine) unhang(path string, n *node) {
	dir := op.Parent(path)
	p, d := m.reach(dir)
	m.lift(dir, p)
	d.pzxid = m.zxid
	d.names, _ = d.names.Delete(&m.epoch, op.Base(path))
	d.seats = d.seats.without(&m.epoch, path, n)
	m.rest(dir, p)
	nodes, bytes := n.weight()
	m.grow(dir, -nodes, -bytes)
}

// adopt takes the name of the node at path among d's.
func (d *dir) adopt(m *Machine, path string, n *node) {
	d.names, _ = d.names.Insert(&m.epoch, op.Base(path))
	d.seats = d.seats.with(&m.epoch, path, n)
}

// lift takes the stat of a node out of what is computed from it, before it changes; rest puts it back.
func (m *Machine) lift(path string, n *node) {
	m.sum.sub(n.statTerm(path))
	m.unschedule(path, n)
}

func (m *Machine) rest(path string, n *node) {
	m.sum.add(n.statTerm(path))
	m.schedule(path, n)
}

// reach returns the node at path, which exists, with a dir that may be changed in place.
func (m *Machine) reach(path string) (*node, *dir) {
	n, _ := m.nodes.Get(path)
	if d := n.dir(); d != nil && d.stamp == m.version {
		return n, d
	}
	n = n.edited()
	d := n.ownDir(m.version)
	m.nodes.Set(path, n)
	return n, d
}

// ownDir gives n, which must be the caller's own, a dir of that version.
func (n *node) ownDir(version uint64) *dir {
	r := n.part()
	d := &dir{stamp: version, pzxid: n.czxid, nodes: 1, bytes: int64(len(n.data))}
	if r.dir != nil {
		*d = *r.dir
		d.stamp = version
	}
	r.dir = d
	return d
}

// grow adds to the weight of the node at path, which has weighed its own already if it is a leaf, and of all above it.
func (m *Machine) grow(path string, nodes, bytes int64) {
	if nodes == 0 && bytes == 0 {
		return
	}
	for ; path != ""; path = op.Parent(path) {
		n, _ := m.nodes.Get(path)
		d := n.dir()
		switch {
		case d == nil:
			continue
		case d.stamp != m.version:
			_, d = m.reach(path)
		}
		d.nodes += nodes
		d.bytes += bytes
	}
}

// parentOf returns the path of the parent as ZooKeeper finds it in paths that aren't known to be valid: what stands before the last
// slash. It is false if there is no slash or a NUL.
func parentOf(path string) (dir string, ok bool) {
	slash := strings.LastIndexByte(path, '/')
	switch {
	case slash < 0 || strings.IndexByte(path, 0) >= 0:
		return "", false
	case slash == 0:
		return op.Root, true
	}
	return path[:slash], true
}

// fixed reports whether the node at path can't be deleted.
func fixed(path string) bool {
	switch path {
	case op.Root, "/zookeeper", "/zookeeper/config", "/zookeeper/quota":
		return true
	}
	return false
}

// walkUp yields the subtree of n, which is at path, children before parents and siblings in order. walkDown calls yield for it with
// parents before children, until yield returns false.
func (s *state) walkUp(path string, n *node) iter.Seq[place] {
	return func(yield func(place) bool) { s.walk(path, n, func(place) bool { return true }, yield) }
}

func (s *state) walkDown(path string, n *node, yield func(place) bool) {
	s.walk(path, n, yield, func(place) bool { return true })
}

func (s *state) walk(path string, n *node, before, after func(place) bool) bool {
	if !before(place{path, n}) {
		return false
	}
	if d := n.dir(); d != nil {
		for name := range d.names.After("") {
			child := op.Join(path, name)
			c, _ := s.nodes.Get(child)
			if !s.walk(child, c, before, after) {
				return false
			}
		}
	}
	return after(place{path, n})
}
