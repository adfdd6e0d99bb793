package fsm

import (
	"cmp"
	"iter"
	"slices"

	"github.com/coord-kv/coord/op"
	"github.com/coord-kv/coord/op/wire"
)

// Usage is a quota and how much of it is used.
type Usage struct {
	Path  string
	Quota op.Quota
	Nodes int64 // in the subtree, the node at Path included
	Bytes int64 // of their data
}

// setQuota limits the subtree of a node, which may be above the limit already.
func (m *Machine) setQuota(c *caller, x *op.SetQuota) op.Result {
	q := x.Quota
	n, err := m.valid(x.Path, c.auth, op.Admin)
	if err == nil && min(q.SoftCount, q.HardCount, q.SoftBytes, q.HardBytes) < 0 {
		err = &op.Error{Code: op.BadRequest}
	}
	if err != nil {
		return failed(err, x.Path)
	}
	m.dropQuota(x.Path)
	if q != (op.Quota{}) {
		m.putQuota(x.Path, q)
	}
	return op.Result{Stat: n.stat()}
}

func (m *Machine) putQuota(path string, q op.Quota) {
	m.quotas.Set(path, q)
	m.sum.add(hash(tagQuota, appendQuota(nil, path, q)))
}

func (m *Machine) dropQuota(path string) {
	if m.quotas.Len() == 0 {
		return
	}
	if q, ok := m.quotas.Delete(path); ok {
		m.sum.sub(hash(tagQuota, appendQuota(nil, path, q)))
	}
}

func appendQuota(b []byte, path string, q op.Quota) []byte {
	return op.AppendQuota(wire.String(b, path), q)
}

// checkQuota checks whether so much may be added at path: no hard limit there or above may be passed. What shrinks always may.
func (m *Machine) checkQuota(path string, nodes, bytes int64) *op.Error {
	if m.quotas.Len() == 0 {
		return nil
	}
	for ; path != ""; path = op.Parent(path) {
		q, ok := m.quotas.Get(path)
		if !ok {
			continue
		}
		n, _ := m.nodes.Get(path)
		haveNodes, haveBytes := n.weight()
		if nodes > 0 && q.HardCount > 0 && haveNodes+nodes > q.HardCount {
			return &op.Error{Code: op.QuotaExceeded, Path: path, Limit: q.HardCount, Have: haveNodes + nodes}
		}
		if bytes > 0 && q.HardBytes > 0 && haveBytes+bytes > q.HardBytes {
			return &op.Error{Code: op.QuotaExceeded, Path: path, Limit: q.HardBytes, Have: haveBytes + bytes}
		}
	}
	return nil
}

// Usage returns how many nodes and bytes the subtree at path has, and its quota, zero if it has none. It is false if there is no
// such node.
func (s *state) Usage(path string) (Usage, bool) {
	n, ok := s.nodes.Get(path)
	if !ok {
		return Usage{}, false
	}
	u := Usage{Path: path}
	u.Quota, _ = s.quotas.Get(path)
	u.Nodes, u.Bytes = n.weight()
	return u, true
}

// Quotas yields the subtrees that have a quota, by path.
func (s *state) Quotas() iter.Seq[Usage] {
	return func(yield func(Usage) bool) {
		for _, path := range sorted(s.quotas.Snapshot().All()) {
			if u, _ := s.Usage(path); !yield(u) {
				return
			}
		}
	}
}

// sorted returns the keys of a map in order.
func sorted[K cmp.Ordered, V any](all iter.Seq2[K, V]) []K {
	var keys []K
	for k := range all {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
