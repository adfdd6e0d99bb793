package fsm

import (
	"cmp"
	"strings"

	"github.com/coord-kv/coord/op"
)

// due says from which age on an empty node can be reaped; or, of a container that never had a child, at which age it was made.
type due struct {
	age  uint64
	path string
}

func compareDues(a, b due) int {
	if c := cmp.Compare(a.age, b.age); c != 0 {
		return c
	}
	return strings.Compare(a.path, b.path)
}

// dueAge returns when an empty node is due, and whether that is still to be counted from: a container that never had a child waits
// for Limits.ContainerUnused, which can change; one that had is due at once; a TTL node when its data is older than its TTL.
func (n *node) dueAge() (age uint64, unused, ok bool) {
	switch {
	case n.kind != op.Container && n.kind != op.TTL || n.children() > 0:
		return 0, false, false
	case n.kind == op.TTL:
		return n.rare.touched + n.rare.ttl + 1, false, true
	case n.creates() > 0:
		return 0, false, true
	}
	return n.rare.touched, true, true
}

// schedule enters a node into the index of what is due, if it can become due as it is; unschedule takes it out.
func (m *Machine) schedule(path string, n *node) {
	switch age, unused, ok := n.dueAge(); {
	case !ok:
	case unused:
		m.unused, _ = m.unused.Insert(&m.epoch, due{age, path})
	default:
		m.due, _ = m.due.Insert(&m.epoch, due{age, path})
	}
}

func (m *Machine) unschedule(path string, n *node) {
	switch age, unused, ok := n.dueAge(); {
	case !ok:
	case unused:
		m.unused, _ = m.unused.Delete(&m.epoch, due{age, path})
	default:
		m.due, _ = m.due.Delete(&m.epoch, due{age, path})
	}
}

// isDue reports whether a node can be reaped now.
func (s *state) isDue(n *node) bool {
	age, unused, ok := n.dueAge()
	if unused {
		age += s.unusedFor()
	}
	return ok && age <= s.age
}

func (s *state) unusedFor() uint64 { return uint64(s.limits.ContainerUnused.Milliseconds()) }

// Due returns up to max paths of container and TTL nodes that can be reaped in a batch whose Age is extra: for the leader, the
// milliseconds since the last batch. It takes time in proportion to what it returns.
func (s *state) Due(extra uint64, max int) []string {
	now := s.age + min(extra, maxAge)
	var paths []string
	for d := range s.due.Ascend(due{}) {
		if d.age > now || len(paths) >= max {
			break
		}
		paths = append(paths, d.path)
	}
	for d := range s.unused.Ascend(due{}) {
		if d.age+s.unusedFor() > now || len(paths) >= max {
			break
		}
		paths = append(paths, d.path)
	}
	return paths
}

// reap deletes those of the nodes that are due, as far as the limits of a request allow.
func (m *Machine) reap(x *op.Reap) op.Result {
	var res op.Result
	for _, path := range x.Paths {
		n, ok := m.nodes.Get(path)
		if !ok || !m.isDue(n) {
			continue
		}
		if m.afford(1, eventBytes(path)) != nil {
			break
		}
		if res.Count == 0 {
			m.zxid++
		}
		m.uproot([]place{{path, n}})
		res.Count++
	}
	return res
}
