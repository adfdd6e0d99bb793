package fsm

import (
	"time"
	"unsafe"

	"github.com/coord-kv/coord/fsm/tree"
	"github.com/coord-kv/coord/op"
)

// node is one node of the tree. It is never changed once it stands in the tree, its dir excepted: a change is a new node. Nearly all
// nodes are open leaves, and a million of them are to fit into a quarter of a gigabyte, so what few of them have is apart.
type node struct {
	czxid, mzxid op.Zxid
	ctime, mtime op.Time
	data         string // "" if null; a string because it is a word shorter than a slice
	rare         *rare  // nil if it would be zero
	version      int32
	kind         op.NodeKind
	null         bool
	numbered     bool // the name ends in a number that the state machine has assigned
}

// rare is what most nodes don't have. Like node it is never changed.
type rare struct {
	acl      *op.ACLRef // nil for the open one
	dir      *dir       // nil if there never was a child
	owner    op.SessionID
	ttl      uint64 // milliseconds; of an ephemeral node that outlives its session too
	touched  uint64 // the age clock at the creation of a container, or at the latest change of a TTL node's data
	aversion int32
	dataHash sum // of data too long to be hashed again whenever it goes
}

// dir is what a node has that has, or has had, children. It may be changed in place by the version of the state that made it.
type dir struct {
	stamp   uint64
	creates uint64  // children ever created: ZooKeeper's stored cversion, and the next sequence number
	pzxid   op.Zxid // children last created or deleted by
	names   tree.Names
	nodes   int64  // in the subtree, the node itself included
	bytes   int64  // of their data
	seats   *seats // numbered children in order; nil if there are none
}

var (
	none    = new(rare)
	openACL = &op.ACLRef{List: op.OpenACL}
)

// extra returns n.rare, or a zero one for reading.
func (n *node) extra() *rare {
	if n.rare == nil {
		return none
	}
	return n.rare
}

func (n *node) acl() *op.ACLRef {
	if acl := n.extra().acl; acl != nil {
		return acl
	}
	return openACL
}

func (n *node) dir() *dir { return n.extra().dir }

func (n *node) seats() *seats {
	if d := n.dir(); d != nil {
		return d.seats
	}
	return nil
}

func (n *node) children() int {
	if d := n.dir(); d != nil {
		return d.names.Len()
	}
	return 0
}

// creates returns how many children were ever created.
func (n *node) creates() uint64 {
	if d := n.dir(); d != nil {
		return d.creates
	}
	return 0
}

func (n *node) pzxid() op.Zxid {
	if d := n.dir(); d != nil {
		return d.pzxid
	}
	return n.czxid
}

// weight returns the nodes of the subtree and the bytes of their data.
func (n *node) weight() (nodes, bytes int64) {
	if d := n.dir(); d != nil {
		return d.nodes, d.bytes
	}
	return 1, int64(len(n.data))
}

// bytes returns the data without a copy; nobody may change it.
func (n *node) bytes() []byte {
	switch {
	case n.null:
		return nil
	case n.data == "":
		return []byte{}
	}
	return bytesOf(n.data)
}

// bytesOf returns the bytes of s for reading.
func bytesOf(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

func (n *node) stat() *op.Stat {
	s := new(op.Stat)
	n.describe(s)
	return s
}

func (n *node) describe(s *op.Stat) {
	x := n.extra()
	children := n.children()
	*s = op.Stat{
		Czxid: n.czxid, Mzxid: n.mzxid, Pzxid: n.pzxid(), Ctime: n.ctime, Mtime: n.mtime,
		Version: n.version, Cversion: int32(2*n.creates() - uint64(children)), Aversion: x.aversion,
		EphemeralOwner: x.owner, DataLength: int32(len(n.data)), NumChildren: int32(children), Kind: n.kind,
		TTL: time.Duration(x.ttl) * time.Millisecond,
	}
}

// permits reports whether the caller may do perm to the node.
func (n *node) permits(auth []op.Identity, perm op.Perm) bool {
	acl := n.acl()
	return acl == openACL || op.Permits(acl.List, auth, perm)
}

// edited returns a copy of n to change, rare included.
func (n *node) edited() *node {
	c := *n
	if n.rare != nil {
		x := *n.rare
		c.rare = &x
	}
	return &c
}

// part returns n.rare for changing; n must be the caller's own.
func (n *node) part() *rare {
	if n.rare == nil {
		n.rare = new(rare)
	}
	return n.rare
}

// successor returns the version after v: -1 is passed over, since it means "any" in conditions.
func successor(v int32) int32 {
	if v++; v == op.AnyVersion {
		v++
	}
	return v
}
