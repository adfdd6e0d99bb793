package fsm

import (
	"iter"

	"github.com/coord-kv/coord/op"
	"github.com/coord-kv/coord/op/wire"
)

// Tags of records: of the parts of the state in the order of the checkpoint, and of the pieces that are hashed on their own.
const (
	tagEnd byte = iota
	tagValues
	tagACL
	tagSession
	tagResult
	tagKey
	tagNode
	tagQuota
	tagTerm
	tagAttachment // hashed apart from the profile, which never changes
	tagData       // hashed apart from the stat, which changes without it
)

// part is a part of the state: how its records are written into a checkpoint, and put back. What the hashes of a part's records add
// to the digest is computed where its content changes, which is also how loading it makes it.
type part struct {
	tag     byte
	name    string
	records func(*state) iter.Seq[[]byte] // a record is valid until the next
	load    func(*loader, *wire.Reader)
}

// parts are all that there is to a state; all else follows from them.
var parts = [...]part{
	{tagValues, "values", (*state).valueRecords, (*loader).values},
	{tagACL, "acls", (*state).aclRecords, (*loader).acl},
	{tagSession, "sessions", (*state).sessionRecords, (*loader).session},
	{tagResult, "results", (*state).resultRecords, (*loader).result},
	{tagKey, "keys", (*state).keyRecords, (*loader).key},
	{tagNode, "nodes", (*state).nodeRecords, (*loader).node},
	{tagQuota, "quotas", (*state).quotaRecords, (*loader).quota},
	{tagTerm, "terms", (*state).termRecords, (*loader).term},
}

func (s *state) appendValues(b []byte) []byte {
	for _, v := range [...]uint64{uint64(s.zxid), uint64(s.floor), s.age, uint64(s.level), s.lastACL} {
		b = wire.Uint(b, v)
	}
	return s.limits.Append(b)
}

func (s *state) valueRecords() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) { yield(s.appendValues(nil)) }
}

func (s *state) aclRecords() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for _, id := range sorted(s.acls.Snapshot().All()) {
			a, _ := s.acls.Get(id)
			if !yield(appendACL(nil, a.ref)) {
				return
			}
		}
	}
}

func (s *state) sessionRecords() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for id := range s.byID.Ascend(0) {
			x, _ := s.sessions.Get(id)
			if !yield(x.attachment.append(x.profile.append(nil), id)) {
				return
			}
		}
	}
}

func (s *state) resultRecords() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for id := range s.byID.Ascend(0) {
			x, _ := s.sessions.Get(id)
			for i, encoded := range x.results {
				if !yield(wire.String(appendNumber(nil, id, x.low+uint64(i)), encoded)) {
					return
				}
			}
		}
	}
}

func (s *state) keyRecords() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for b := range s.byBirth.Ascend(birth{}) {
			a, _ := s.keys.Get(b.id)
			if !yield(appendKey(nil, b.id, a)) {
				return
			}
		}
	}
}

// nodeRecords yields the tree, parents before children and siblings in order.
func (s *state) nodeRecords() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		var buf []byte
		root, _ := s.nodes.Get(op.Root)
		s.walkDown(op.Root, root, func(p place) bool {
			buf = wire.Bytes(p.node.appendStat(buf[:0], p.path), p.node.bytes())
			return yield(buf)
		})
	}
}

func (s *state) quotaRecords() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for _, path := range sorted(s.quotas.Snapshot().All()) {
			q, _ := s.quotas.Get(path)
			if !yield(appendQuota(nil, path, q)) {
				return
			}
		}
	}
}

func (s *state) termRecords() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for _, dir := range sorted(s.terms.Snapshot().All()) {
			t, _ := s.terms.Get(dir)
			if !yield(appendTerm(nil, dir, t)) {
				return
			}
		}
	}
}
