package fsm

import (
	"slices"

	"github.com/coord-kv/coord/op"
	"github.com/coord-kv/coord/op/wire"
)

// acl is a list of the state's table: one for all nodes that have it. Its number is never used for another list, so that events
// which name it keep their meaning. The open ACL is number 0, always there, and not counted.
type acl struct {
	ref   *op.ACLRef
	nodes int64 // that have it; derived
}

// checkACL checks the list that a creator asks for; its length first, since resolving takes the square of it.
func (m *Machine) checkACL(list []op.ACL, auth []op.Identity) *op.Error {
	have := int64(len(list))
	if have <= m.limits.ACLEntries {
		resolved, ok := op.ResolveACL(list, auth)
		if !ok {
			return &op.Error{Code: op.InvalidACL}
		}
		have = int64(len(resolved))
	}
	if have > m.limits.ACLEntries {
		return &op.Error{Code: op.TooLarge, Limit: m.limits.ACLEntries, Have: have}
	}
	return nil
}

// intern returns the number and the shared copy of a list, for one node more.
func (m *Machine) intern(list []op.ACL) *op.ACLRef {
	if slices.Equal(list, op.OpenACL) {
		return openACL
	}
	id, ok := m.aclNumbers.Get(string(op.AppendACL(nil, list)))
	if !ok {
		m.lastACL++
		id = m.lastACL
		m.putACLRef(&op.ACLRef{ID: id, List: slices.Clone(list)})
	}
	return m.refer(id)
}

// refer counts one node more for the ACL of that number, and returns it.
func (m *Machine) refer(id uint64) *op.ACLRef {
	a, _ := m.acls.Get(id)
	a.nodes++
	m.acls.Set(id, a)
	return a.ref
}

// release counts one node less, and forgets a list that no node has.
func (m *Machine) release(ref *op.ACLRef) {
	if ref == openACL {
		return
	}
	a, _ := m.acls.Get(ref.ID)
	if a.nodes--; a.nodes > 0 {
		m.acls.Set(ref.ID, a)
		return
	}
	m.acls.Delete(ref.ID)
	m.aclNumbers.Delete(string(op.AppendACL(nil, ref.List)))
	m.sum.sub(hash(tagACL, appendACL(nil, ref)))
}

func (m *Machine) putACLRef(ref *op.ACLRef) {
	m.acls.Set(ref.ID, acl{ref: ref})
	m.aclNumbers.Set(string(op.AppendACL(nil, ref.List)), ref.ID)
	m.sum.add(hash(tagACL, appendACL(nil, ref)))
}

func appendACL(b []byte, ref *op.ACLRef) []byte { return op.AppendACL(wire.Uint(b, ref.ID), ref.List) }
