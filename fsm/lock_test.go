package fsm

import (
	"fmt"
	"testing"
	"time"

	"github.com/coord-kv/coord/op"
)

func TestClassify(t *testing.T) {
	for name, want := range map[string]string{
		"_c_8a7f1c5e-2f0b-4f6e-9d55-0c8f5a7b1e11-lock-0000000007":    "exclusive curator-mutex",
		"_c_8a7f1c5e-2f0b-4f6e-9d55-0c8f5a7b1e11-__READ__0000000007": "shared curator-rw",
		"_c_8a7f1c5e-2f0b-4f6e-9d55-0c8f5a7b1e11-__WRIT__0000000007": "exclusive curator-rw",
		"_c_8a7f1c5e-2f0b-4f6e-9d55-0c8f5a7b1e11-latch-0000000007":   "exclusive curator-latch",
		"8a7f1c5e2f0b4f6e9d550c8f5a7b1e11__lock__0000000007":         "exclusive kazoo-lock",
		"8a7f1c5e2f0b4f6e9d550c8f5a7b1e11__rlock__2147483648":        "shared kazoo-rw",
		"lock-0000000007":     "exclusive curator-mutex",
		"__READ__7":           "exclusive ",
		"guid-n_0000000007":   "exclusive ",
		"0000000007":          "exclusive ",
		"short":               "exclusive ",
		"":                    "exclusive ",
		"__READ__-0000000007": "exclusive ",
	} {
		class, dialect := Classify(name)
		if got := fmt.Sprintf("%s %s", class, dialect); got != want {
			t.Errorf("%s: %s, not %s", name, got, want)
		}
	}
}

// With 10,000 in line, each knows its place and its neighbours, and a change in the middle moves all behind.
func TestLongLine(t *testing.T) {
	const n = 10_000
	m := New()
	m.Apply(&op.Batch{Requests: []*op.Request{{Op: &op.Create{Path: "/l"}}}})
	name := func(i int) string {
		if i%10 == 0 {
			return fmt.Sprintf("__WRIT__%010d", i)
		}
		return fmt.Sprintf("__READ__%010d", i)
	}
	b := &op.Batch{}
	for i := range n {
		b.Requests = append(b.Requests, &op.Request{Op: &op.Create{Path: "/l/" + name(i)[:8], Sequence: true}})
	}
	first := m.Apply(b).Results[0].Zxid
	check := func(i, at, writers int, predecessor, writer string) {
		t.Helper()
		want := op.RankInfo{
			Position: int32(at), Exclusive: int32(writers), Len: m.Read(&op.Exists{Path: "/l"}, nil).Stat.NumChildren,
			Token: first + op.Zxid(i), Predecessor: predecessor, Writer: writer, First: name(0),
		}
		if got := m.Read(&op.Rank{Path: "/l/" + name(i)}, nil); got.Err != nil || *got.Rank != want {
			t.Errorf("%d: %+v, %v, not %+v", i, got.Rank, got.Err, want)
		}
	}
	check(0, 0, 0, "", "")
	check(5005, 5005, 501, name(5004), name(5000))
	check(n-1, n-1, n/10, name(n-2), name(n-10))
	m.Apply(&op.Batch{Requests: []*op.Request{
		{Op: &op.Delete{Path: "/l/" + name(5004), If: op.Always}}, {Op: &op.Delete{Path: "/l/" + name(5000), If: op.Always}},
	}})
	check(5005, 5003, 500, name(5003), name(4990))
	check(n-1, n-3, n/10-1, name(n-2), name(n-10))
}

// The largest that one request may do, a session's end with as many nodes as it may have; the log says how long that takes.
func TestLargestRequests(t *testing.T) {
	m := New()
	n := int(m.Limits().ChangedNodes)
	id := m.Apply(&op.Batch{Requests: []*op.Request{{Op: &op.OpenSession{Secret: op.Hash{1}}}}}).Results[0].Session.ID
	b := &op.Batch{}
	for i := range n {
		b.Requests = append(b.Requests, &op.Request{
			Session: id, Op: &op.Create{Path: fmt.Sprintf("/services/group-%02d/instance-%05d", i%100, i), Kind: op.Ephemeral, Parents: true},
		})
	}
	for i, res := range m.Apply(b).Results {
		if res.Err != nil {
			t.Fatalf("ephemeral %d: %v", i, res.Err)
		}
	}
	m.View()
	start := time.Now()
	done := m.Apply(&op.Batch{Requests: []*op.Request{{Session: id, Op: &op.CloseSession{Session: id}}}})
	t.Logf("the end of a session with %d ephemeral nodes took %s", len(done.Events), time.Since(start))
	if len(done.Events) != n || m.Counts().Nodes[op.Ephemeral] != 0 {
		t.Errorf("%d events, %+v", len(done.Events), m.Counts())
	}
	audit(t, m)
}
