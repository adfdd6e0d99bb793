package fsm

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/coord-kv/coord/op"
)

// dump writes down everything that there is in a state, what is derived included, in an order of its own.
func dump(s *state) string {
	var b strings.Builder
	fmt.Fprintf(&b, "digest %s kept %d kinds %v data %d leases %d\n", s.Digest(), s.kept, s.kinds, s.dataBytes, s.leases)
	for _, p := range parts {
		for record := range p.records(s) {
			fmt.Fprintf(&b, "%s %q\n", p.name, record)
		}
	}
	for _, id := range sorted(s.acls.Snapshot().All()) {
		a, _ := s.acls.Get(id)
		fmt.Fprintf(&b, "acl %d of %d nodes\n", id, a.nodes)
	}
	for _, k := range sorted(s.aclNumbers.Snapshot().All()) {
		id, _ := s.aclNumbers.Get(k)
		fmt.Fprintf(&b, "acl %q is %d\n", k, id)
	}
	for _, path := range sorted(s.nodes.Snapshot().All()) {
		n, _ := s.nodes.Get(path)
		nodes, bytes := n.weight()
		fmt.Fprintf(&b, "node %s weighs %d %d, has %d:", path, nodes, bytes, n.children())
		if d := n.dir(); d != nil {
			for name := range d.names.After("") {
				fmt.Fprintf(&b, " %q", name)
			}
		}
		for seat := range s.Order(path) {
			fmt.Fprintf(&b, " %+v", seat)
		}
		if q := n.seats(); q != nil {
			for seat := range q.exclusive.Ascend(Seat{}) {
				fmt.Fprintf(&b, " !%d", seat.Seq)
			}
		}
		b.WriteString("\n")
	}
	for x := range s.Sessions(0) {
		in, _ := s.sessions.Get(x.ID)
		fmt.Fprintf(&b, "session %s kept %d end %d:", x.ID, in.kept, in.endBytes)
		for path := range x.Ephemerals() {
			fmt.Fprintf(&b, " %s", path)
		}
		b.WriteString("\n")
	}
	for _, k := range sorted(s.identities.Snapshot().All()) {
		id, _ := s.identities.Get(k)
		fmt.Fprintf(&b, "identity %q %s\n", k, id)
	}
	for _, k := range sorted(s.principals.Snapshot().All()) {
		n, _ := s.principals.Get(k)
		fmt.Fprintf(&b, "principal %q %d\n", k, n)
	}
	fmt.Fprintf(&b, "ids %v\n", slices.Collect(s.byID.Ascend(0)))
	fmt.Fprintf(&b, "births %v\n", slices.Collect(s.byBirth.Ascend(birth{})))
	fmt.Fprintf(&b, "due %v\n", slices.Collect(s.due.Ascend(due{})))
	fmt.Fprintf(&b, "unused %v\n", slices.Collect(s.unused.Ascend(due{})))
	return b.String()
}

// audit computes what is derived from scratch and by the plainest means, and compares.
func audit(t *testing.T, m *Machine) {
	t.Helper()
	s := &m.state
	var all sum
	var kept int64
	kinds, data, seen := [4]int64{}, int64(0), 0
	refs := map[uint64]int64{}
	ephemerals := map[op.SessionID][]string{}
	root, _ := s.nodes.Get(op.Root)
	s.walkDown(op.Root, root, func(p place) bool {
		n := p.node
		all.add(n.statTerm(p.path))
		if !n.null {
			all.add(n.hashData(p.path))
		}
		kinds[n.kind]++
		data += int64(len(n.data))
		seen++
		refs[n.acl().ID]++
		if n.kind == op.Ephemeral {
			ephemerals[n.rare.owner] = append(ephemerals[n.rare.owner], p.path)
		}
		auditDir(t, s, p)
		return true
	})
	for _, a := range s.acls.Snapshot().All() {
		all.add(hash(tagACL, appendACL(nil, a.ref)))
		if a.nodes != refs[a.ref.ID] {
			t.Errorf("ACL %d counts %d nodes, %d have it", a.ref.ID, a.nodes, refs[a.ref.ID])
		}
	}
	for id, x := range s.sessions.Snapshot().All() {
		all.add(x.profileTerm())
		all.add(x.attachmentTerm())
		if x.next-x.low != uint64(len(x.results)) {
			t.Errorf("%s has %d results from %d to %d", id, len(x.results), x.low, x.next)
		}
		for i, r := range x.results {
			all.add(resultTerm(id, x.low+uint64(i), r))
			kept += answerBytes(r)
		}
		slices.Sort(ephemerals[id])
		if got := slices.Collect(x.ephemerals.After("")); !slices.Equal(got, ephemerals[id]) {
			t.Errorf("%s has %v, should have %v", id, got, ephemerals[id])
		}
		delete(ephemerals, id)
	}
	for id, a := range s.keys.Snapshot().All() {
		all.add(hash(tagKey, appendKey(nil, id, a)))
		kept += keyBytes(id, a)
	}
	for path, q := range s.quotas.Snapshot().All() {
		all.add(hash(tagQuota, appendQuota(nil, path, q)))
		auditExists(t, s, path)
	}
	for dir, x := range s.terms.Snapshot().All() {
		all.add(hash(tagTerm, appendTerm(nil, dir, x)))
		auditExists(t, s, dir)
	}
	if all != s.sum || kept != s.kept || kinds != s.kinds || data != s.dataBytes || seen != s.nodes.Len() || len(ephemerals) != 0 {
		t.Errorf("sum %x is %x; kept %d is %d; kinds %v are %v; data %d is %d; nodes %d are %d; orphans %v",
			s.sum, all, s.kept, kept, s.kinds, kinds, s.dataBytes, data, s.nodes.Len(), seen, ephemerals)
	}
}

func auditExists(t *testing.T, s *state, path string) {
	if _, ok := s.nodes.Get(path); !ok {
		t.Errorf("something hangs on %q, which doesn't exist", path)
	}
}

// auditDir compares what a node keeps of those below it with what there is.
func auditDir(t *testing.T, s *state, p place) {
	var nodes, bytes int64
	for q := range s.walkUp(p.path, p.node) {
		nodes++
		bytes += int64(len(q.node.data))
	}
	if haveNodes, haveBytes := p.node.weight(); nodes != haveNodes || bytes != haveBytes {
		t.Errorf("%s weighs %d, %d; should weigh %d, %d", p.path, haveNodes, haveBytes, nodes, bytes)
	}
	var seats []string
	if d := p.node.dir(); d != nil {
		for name := range d.names.After("") {
			if c, _ := s.nodes.Get(op.Join(p.path, name)); c.numbered {
				seats = append(seats, name)
			}
		}
	}
	var have []string
	for seat := range s.Order(p.path) {
		have = append(have, seat.Name)
	}
	number := func(a, b string) int { return strings.Compare(a[len(a)-digits:], b[len(b)-digits:]) }
	if slices.SortFunc(seats, number); !slices.Equal(have, seats) {
		t.Errorf("%s seats %v, should seat %v", p.path, have, seats)
	}
	auditDue(t, s, p)
}

func auditDue(t *testing.T, s *state, p place) {
	n := p.node
	reapable := (n.kind == op.Container || n.kind == op.TTL) && n.children() == 0
	listed := 0
	for _, set := range [...]bool{s.due.Has(dueFor(p)), s.unused.Has(dueFor(p))} {
		if set {
			listed++
		}
	}
	if reapable != (listed == 1) {
		t.Errorf("%s: reapable %t, listed %d times", p.path, reapable, listed)
	}
}

func dueFor(p place) due {
	age, _, _ := p.node.dueAge()
	return due{age, p.path}
}
