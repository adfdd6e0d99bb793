package fsm

import (
	"github.com/coord-kv/coord/op"
	"github.com/coord-kv/coord/op/wire"
)

// inlineHash is the length of data up to which its hash is computed whenever it is needed, and not kept.
const inlineHash = 256

// appendStat appends all of a node but its data. Most numbers stand as differences, which are short.
func (n *node) appendStat(b []byte, path string) []byte {
	x := n.extra()
	b = wire.Bool(append(wire.String(b, path), byte(n.kind)), n.numbered)
	b = wire.Uint(b, uint64(n.czxid))
	b = wire.Int(b, int64(n.mzxid-n.czxid))
	b = wire.Int(b, int64(n.pzxid()-n.czxid))
	b = wire.Int(b, int64(n.ctime))
	b = wire.Int(b, int64(n.mtime-n.ctime))
	b = wire.Int(wire.Int(b, int64(n.version)), int64(x.aversion))
	for _, v := range [...]uint64{n.creates(), n.acl().ID, uint64(x.owner), x.ttl, x.touched} {
		b = wire.Uint(b, v)
	}
	return b
}

// readNode takes what appendStat appended. The weight and the names in its dir are for the caller to fill in.
func (l *loader) readNode(r *wire.Reader) (path string, n *node) {
	path, n = r.String(), &node{kind: op.NodeKind(r.Byte()), numbered: r.Bool(), czxid: op.Zxid(r.Uint())}
	n.mzxid = n.czxid + op.Zxid(r.Int())
	pzxid := n.czxid + op.Zxid(r.Int())
	n.ctime = op.Time(r.Int())
	n.mtime = n.ctime + op.Time(r.Int())
	n.version = r.Int32()
	x := rare{aversion: r.Int32()}
	creates, acl := r.Uint(), r.Uint()
	x.owner, x.ttl, x.touched = op.SessionID(r.Uint()), r.Uint(), r.Uint()
	if !plausible(n, &x) {
		r.Fail("impossible node %q", path)
	}
	if r.Err() == nil && acl != 0 {
		if _, ok := l.m.acls.Get(acl); !ok {
			r.Fail("%q has the unknown ACL %d", path, acl)
			return path, n
		}
		x.acl = l.m.refer(acl)
	}
	if creates > 0 || pzxid != n.czxid {
		x.dir = &dir{stamp: l.m.version, creates: creates, pzxid: pzxid, nodes: 1}
	}
	if x != (rare{}) || n.kind == op.Container || n.kind == op.TTL {
		n.rare = &x
	}
	return path, n
}

// plausible reports whether a node has what its kind has, and no more.
func plausible(n *node, x *rare) bool {
	switch n.kind {
	case op.Persistent:
		return x.owner == 0 && x.ttl == 0 && x.touched == 0
	case op.Ephemeral:
		return x.owner != 0 && x.ttl <= maxTTL && x.touched == 0
	case op.Container:
		return x.owner == 0 && x.ttl == 0 && x.touched <= maxAge
	}
	return n.kind == op.TTL && x.owner == 0 && x.ttl > 0 && x.ttl <= maxTTL && x.touched <= maxAge
}

// statTerm is what a node adds to the digest beside its data.
func (n *node) statTerm(path string) sum {
	var buf [256]byte
	return hash(tagNode, n.appendStat(buf[:0], path))
}

// dataTerm is what its data adds; nothing if it is null.
func (n *node) dataTerm(path string) sum {
	switch {
	case n.null:
		return sum{}
	case len(n.data) > inlineHash:
		return n.rare.dataHash
	}
	return n.hashData(path)
}

func (n *node) hashData(path string) sum {
	return begin(tagData).absorb(bytesOf(path)).absorb(bytesOf(n.data)).end()
}

// cacheHash prepares dataTerm for a node whose data is new; n must be the caller's own.
func (n *node) cacheHash(path string) {
	switch {
	case len(n.data) > inlineHash:
		n.part().dataHash = n.hashData(path)
	case n.rare != nil:
		n.rare.dataHash = sum{}
	}
}
