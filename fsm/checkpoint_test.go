package fsm

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/coord-kv/coord/op"
)

// rich is a state with records of every part.
func rich(t testing.TB) *Machine {
	_, m := history(3, 80)
	must := func(b *op.Batch) []op.Result {
		results := m.Apply(b).Results
		for i, res := range results {
			if res.Err != nil {
				t.Fatalf("%s: %v", b.Requests[i].Op.Verb(), res.Err)
			}
		}
		return results
	}
	results := must(&op.Batch{Requests: []*op.Request{
		{Op: &op.SetLimits{Limits: op.DefaultLimits()}},
		{Op: &op.SetQuota{Path: "/"}, Auth: super},
		{Op: &op.Create{Path: "/rich", Data: bytes.Repeat([]byte("x"), 300), ACL: readWrite}, Auth: super},
		{Op: &op.Create{Path: "/el", ACL: readWrite, Kind: op.Container}, Auth: super},
		{Op: &op.SetQuota{Path: "/rich", Quota: op.Quota{SoftCount: 5}}, Auth: super},
		{Op: &op.OpenSession{Secret: op.Hash{9}, Identity: "rich", Lease: true}},
		{Op: &op.OpenSession{Secret: op.Hash{8}, Identity: "rich2"}},
		{Key: &op.Key{Principal: "p", Key: "rich"}, Op: &op.Get{Path: "/"}, Auth: super},
	}})
	id := results[5].Session.ID
	must(&op.Batch{Requests: []*op.Request{
		{Session: id, Seq: 1, Epoch: 1, Op: &op.Create{Path: "/el/n-", Sequence: true, Kind: op.Ephemeral}, Auth: super},
		{Session: id, Seq: 2, Epoch: 1, Op: &op.Lead{Dir: "/el", Node: "n-0000000000"}, Auth: super},
		{Session: id, Seq: 3, Epoch: 1, Op: &op.Get{Path: "/"}, Auth: super},
	}})
	return m
}

var super = []op.Identity{{Scheme: "super"}}

// records cuts a checkpoint behind its magic into records.
func records(t testing.TB, file []byte) (all [][]byte) {
	for rest := file[len(magic):]; len(rest) > 0; {
		size, n := binary.Uvarint(rest[1:])
		end := 1 + n + int(size)
		all = append(all, rest[:end])
		rest = rest[end:]
	}
	return all
}

func joined(records [][]byte) []byte { return append([]byte(magic), bytes.Join(records, nil)...) }

func TestCheckpointHasEveryPart(t *testing.T) {
	seen := map[byte]int{}
	for _, r := range records(t, checkpoint(t, rich(t))) {
		seen[r[0]]++
	}
	for _, p := range parts {
		if seen[p.tag] == 0 {
			t.Errorf("no record of %s", p.name)
		}
	}
	for tag := range seen {
		if tag != tagEnd && !slices.ContainsFunc(parts[:], func(p part) bool { return p.tag == tag }) {
			t.Errorf("a record of no part, %d", tag)
		}
	}
}

// A checkpoint from which any record is gone, is there twice, or has changed places with its neighbour is no checkpoint.
func TestEveryRecordIsMissed(t *testing.T) {
	all := records(t, checkpoint(t, rich(t)))
	for i := range all {
		if _, err := restore(joined(slices.Delete(slices.Clone(all), i, i+1))); err == nil {
			t.Errorf("restored without record %d: %q", i, all[i])
		}
		if _, err := restore(joined(slices.Insert(slices.Clone(all), i, all[i]))); err == nil || errors.Is(err, errDigest) {
			t.Errorf("restored with record %d twice: %q: %v", i, all[i], err)
		}
		if i > 0 {
			swapped := slices.Clone(all)
			swapped[i-1], swapped[i] = swapped[i], swapped[i-1]
			if _, err := restore(joined(swapped)); err == nil || errors.Is(err, errDigest) {
				t.Errorf("restored with records %d and %d in each other's place: %q: %v", i-1, i, all[i], err)
			}
		}
	}
}

// What can't have come about isn't restored, though its digest be right.
func TestImpossibleStates(t *testing.T) {
	session := func(m *Machine) *session {
		s := &session{profile: &profile{id: m.byID.At(0), identity: "x"}, attachment: attachment{next: 1, low: 1}}
		s.id--
		return s
	}
	no := string((&op.Result{}).Append(nil))
	for name, spoil := range map[string]func(*Machine){
		"an ACL of no node":       func(m *Machine) { m.lastACL++; m.putACLRef(&op.ACLRef{ID: m.lastACL, List: readWrite[:1]}) },
		"an ACL above the last":   func(m *Machine) { m.plant("/n", &node{rare: &rare{acl: m.intern(readWrite)}}); m.lastACL = 0 },
		"an ACL that isn't there": func(m *Machine) { m.plant("/n", &node{rare: &rare{acl: &op.ACLRef{ID: 77}}}) },
		"an age beyond all":       func(m *Machine) { m.age = maxAge + 1 },
		"a zxid below the floor":  func(m *Machine) { m.floor = m.zxid + 1 },
		"limits of nothing":       func(m *Machine) { m.limits.TxnOps = 0 },
		"a session from tomorrow": func(m *Machine) { s := session(m); s.id = op.SessionID(m.zxid + 1); m.putSession(s) },
		"a session without end":   func(m *Machine) { s := session(m); s.timeout = -1; m.putSession(s) },
		"a session that lacks an answer": func(m *Machine) {
			m.rebind(m.byID.At(0), func(a *attachment) { a.next++ })
		},
		"a session from below its low": func(m *Machine) {
			m.putSession(session(m))
			m.rebind(m.byID.At(0), func(a *attachment) { a.next, a.low = 0, 0 })
		},
		"two sessions of one identity": func(m *Machine) { a, b := session(m), session(m); b.id--; m.putSession(a); m.putSession(b) },
		"an answer that isn't one":     func(m *Machine) { m.putKey(keyID{"p", "k"}, &answer{encoded: "?"}) },
		"a result that isn't one": func(m *Machine) {
			id := m.byID.At(0)
			m.putResult(m.session(id), "?")
			m.rebind(id, func(a *attachment) { a.next++ })
		},
		"a key from tomorrow":      func(m *Machine) { m.putKey(keyID{"p", "k"}, &answer{born: m.age + 1, encoded: no}) },
		"a bad path":               func(m *Machine) { m.plant("/a\x00", &node{}) },
		"a child of an ephemeral":  func(m *Machine) { m.plant("/el/n-0000000000/x", &node{}) },
		"an ephemeral of nobody":   func(m *Machine) { m.plant("/n", &node{kind: op.Ephemeral}) },
		"an ephemeral of the dead": func(m *Machine) { m.plant("/n", &node{kind: op.Ephemeral, rare: &rare{owner: 1 << 40}}) },
		"an ephemeral of a long TTL": func(m *Machine) {
			m.plant("/n", &node{kind: op.Ephemeral, rare: &rare{owner: m.byID.At(0), ttl: maxTTL + 1}})
		},
		"a persistent one of a session": func(m *Machine) { m.plant("/n", &node{rare: &rare{owner: m.byID.At(0)}}) },
		"a TTL of nothing":              func(m *Machine) { m.plant("/n", &node{kind: op.TTL, rare: &rare{}}) },
		"a container with a TTL":        func(m *Machine) { m.plant("/n", &node{kind: op.Container, rare: &rare{ttl: 1}}) },
		"a kind of its own":             func(m *Machine) { m.kinds[0]++; m.nodes.Set("/rich", &node{kind: 9}) },
		"a number that isn't one": func(m *Machine) {
			m.insert("/n", &node{})
			m.nodes.Set("/n", &node{numbered: true})
			m.hang("/n", &node{}, 0)
		},
		"a quota of nothing":     func(m *Machine) { m.putQuota("/nope", op.Quota{HardCount: 1}) },
		"a quota that isn't one": func(m *Machine) { m.putQuota("/el", op.Quota{}) },
		"a quota below zero":     func(m *Machine) { m.putQuota("/el", op.Quota{HardCount: -1}) },
		"a term of nothing":      func(m *Machine) { m.putTerm("/nope", term{}) },
	} {
		m := rich(t)
		spoil(m)
		m.view = nil
		if _, err := restore(checkpoint(t, m)); err == nil || errors.Is(err, errDigest) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestStateWithoutRoot(t *testing.T) {
	m := empty()
	m.limits = op.DefaultLimits()
	var file bytes.Buffer
	file.WriteString(magic)
	out, d := &writer{w: bufio.NewWriter(&file)}, m.Digest()
	out.record(tagValues, m.appendValues(nil))
	out.record(tagEnd, d[:])
	out.w.Flush()
	if _, err := restore(file.Bytes()); err == nil || errors.Is(err, errDigest) {
		t.Error(err)
	}
}

func TestDamageIsNoticed(t *testing.T) {
	file := checkpoint(t, rich(t))
	for n := range file {
		if _, err := restore(file[:n]); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("cut after %d of %d bytes: %v", n, len(file), err)
		}
	}
	if _, err := restore(append(slices.Clone(file), 0)); err == nil {
		t.Error("restored with a byte too many")
	}
	for i := range file {
		mask := byte(1) << (i % 8)
		file[i] ^= mask
		if _, err := restore(file); err == nil {
			t.Fatalf("restored with a bit of byte %d of %d changed", i, len(file))
		}
		file[i] ^= mask
	}
	if _, err := restore(file); err != nil {
		t.Fatal(err)
	}
}

// Whatever a length says, memory grows with what is there.
func TestHostileLengthCostsNothing(t *testing.T) {
	file := append([]byte(magic), tagValues)
	file = binary.AppendUvarint(file, 1<<62)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := restore(file); err == nil {
		t.Error("restored")
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
		t.Errorf("%d bytes", n)
	}
}

func TestNewerStateIsRefused(t *testing.T) {
	m := New()
	m.Apply(&op.Batch{Requests: []*op.Request{{Op: &op.SetLevel{Level: MaxLevel + 1}}}})
	if m.Level() != MaxLevel+1 {
		t.Errorf("level %d", m.Level())
	}
	if _, err := restore(checkpoint(t, m)); err == nil || !strings.Contains(err.Error(), "newer") {
		t.Errorf("restored: %v", err)
	}
}

func TestErrorsOfReaderAndWriter(t *testing.T) {
	m := rich(t)
	file := checkpoint(t, m)
	broken := errors.New("broken")
	if _, err := Restore(io.MultiReader(bytes.NewReader(file[:100]), iotest.ErrReader(broken))); !errors.Is(err, broken) {
		t.Errorf("reading: %v", err)
	}
	if _, err := Restore(iotest.OneByteReader(bytes.NewReader(file))); err != nil {
		t.Errorf("byte by byte: %v", err)
	}
	big, _ := populate(t, 2000)
	if n, err := big.View().WriteTo(&failing{room: 70_000, err: broken}); !errors.Is(err, broken) || n > 1<<18 {
		t.Errorf("writing: %d bytes, %v", n, err)
	}
}

type failing struct {
	room int
	err  error
}

func (f *failing) Write(p []byte) (int, error) {
	if f.room -= len(p); f.room < 0 {
		return 0, f.err
	}
	return len(p), nil
}

// A restored backup is the beginning of another history: nobody of the old one is there, and nothing is numbered twice.
func TestRebase(t *testing.T) {
	m := rich(t)
	old := m.Zxid()
	floor := op.Zxid(7) << 32
	m.Rebase(floor)
	audit(t, m)
	m = revive(t, m)
	c := m.Counts()
	if m.Zxid() != floor || m.Floor() != floor || c.Sessions+c.Leases+c.Keys+c.KeptBytes+c.Nodes[op.Ephemeral] != 0 {
		t.Errorf("zxid %d, floor %d, %+v", m.Zxid(), m.Floor(), c)
	}
	res := m.View().Read(&op.Get{Path: "/rich"}, super)
	if res.Err != nil || res.Stat.Czxid > old {
		t.Errorf("/rich: %v, %+v", res.Err, res.Stat)
	}
	done := m.Apply(&op.Batch{Requests: []*op.Request{{Op: &op.Create{Path: "/new"}, Auth: super}}})
	if done.Results[0].Zxid != floor+1 || len(done.Events) != 1 || len(done.Sessions) != 0 {
		t.Errorf("%+v", done)
	}
	defer func() {
		if recover() == nil {
			t.Error("rebased to where it is")
		}
	}()
	m.Rebase(m.Zxid())
}
