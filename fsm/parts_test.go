package fsm

import (
	"bytes"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/coord-kv/coord/op"
)

// changes has, for every field of the state that isn't derived, requests that change it and as little else as may be.
var changes = map[string][]*op.Request{
	"zxid":     {{Op: &op.Delete{Path: "/nope"}}},
	"floor":    nil, // Rebase
	"age":      nil, // a batch with an age
	"level":    {{Op: &op.SetLevel{Level: 1}}},
	"limits":   {{Op: &op.SetLimits{Limits: func() op.Limits { l := op.DefaultLimits(); l.TxnOps++; return l }()}}},
	"lastACL":  {{Op: &op.Create{Path: "/x", ACL: readWrite}}, {Op: &op.Delete{Path: "/x", If: op.Always}}},
	"nodes":    {{Op: &op.Set{Path: "/zookeeper", Data: []byte("x"), If: op.Always}}},
	"acls":     {{Op: &op.SetACL{Path: "/zookeeper", ACL: readWrite, Version: op.AnyVersion}}},
	"quotas":   {{Op: &op.SetQuota{Path: "/zookeeper", Quota: op.Quota{HardCount: 5}}}},
	"terms":    {{Session: 2, Op: &op.Lead{Dir: "/el", Node: "n-0000000000"}}},
	"sessions": {{Op: &op.OpenSession{Secret: op.Hash{1}, Timeout: 10 * time.Second}}},
	"keys":     {{Key: &op.Key{Principal: "ann", Key: "k"}, Op: &op.Get{Path: "/"}}},
}

var readWrite = []op.ACL{{Perms: op.Read | op.Write, Scheme: "world", ID: "anyone"}}

// prepared is a state in which all changes do something.
func prepared(t *testing.T) *Machine {
	m := New()
	m.level = 0
	done := m.Apply(&op.Batch{Requests: []*op.Request{
		{Op: &op.Create{Path: "/el"}},
		{Op: &op.OpenSession{Secret: op.Hash{1}}},
		{Session: 2, Op: &op.Create{Path: "/el/n-", Sequence: true, Kind: op.Ephemeral}},
	}})
	for _, res := range done.Results {
		if res.Err != nil {
			t.Fatal(res.Err)
		}
	}
	return m
}

// Every field of the state is in the digest and in the checkpoint, or is derived and said to be: a field that is added to the state
// and to nothing else fails here.
func TestNoPartIsMissing(t *testing.T) {
	fields := reflect.TypeFor[state]()
	for i := range fields.NumField() {
		name := fields.Field(i).Name
		if name == "derived" {
			continue
		}
		requests, ok := changes[name]
		if !ok {
			t.Errorf("nothing here changes state.%s: is it in the checkpoint?", name)
			continue
		}
		t.Run(name, func(t *testing.T) { testPart(t, name, requests) })
	}
}

func testPart(t *testing.T, name string, requests []*op.Request) {
	m := prepared(t)
	before, file := m.Digest(), checkpoint(t, m)
	switch name {
	case "floor":
		m.floor = 1
		m.view = nil
	case "age":
		m.Apply(&op.Batch{Age: 5})
	default:
		for _, res := range m.Apply(&op.Batch{Requests: requests}).Results {
			if res.Err != nil && name != "zxid" {
				t.Fatal(res.Err)
			}
		}
	}
	if m.Digest() == before || bytes.Equal(checkpoint(t, m), file) {
		t.Errorf("state.%s has changed; the digest or the checkpoint has not", name)
	}
	back := revive(t, m)
	if name == "sessions" {
		checkSession(t, back)
	}
	// The field itself is back, whatever the digest says.
	if got, want := fieldText(back, name), fieldText(m, name); got != want {
		t.Errorf("state.%s is %s after a checkpoint, was %s", name, got, want)
	}
	back.Apply(&op.Batch{Age: 1, Requests: requests})
	m.Apply(&op.Batch{Age: 1, Requests: requests})
	if back.Digest() != m.Digest() {
		t.Errorf("a restored state decides otherwise")
	}
}

// fieldText writes down a plain field; those in containers are what revive compares.
func fieldText(m *Machine, name string) string {
	switch name {
	case "zxid", "floor", "age", "level", "lastACL":
		return fmt.Sprint(reflect.ValueOf(m.state).FieldByName(name).Uint())
	case "limits":
		return fmt.Sprint(m.limits)
	}
	return ""
}

func checkSession(t *testing.T, m *Machine) {
	if s, ok := m.Session(4); !ok || s.Secret != (op.Hash{1}) || s.Timeout != 10*time.Second {
		t.Errorf("the session is %+v", s)
	}
}

// What a session or a node is made of counts, each piece by itself.
func TestEveryFieldCounts(t *testing.T) {
	base := node{czxid: 1, mzxid: 1, data: "d"}
	nodes := map[string]func(*node){
		"czxid": func(n *node) { n.czxid++; n.mzxid++ }, "mzxid": func(n *node) { n.mzxid++ }, "ctime": func(n *node) { n.ctime++; n.mtime++ },
		"mtime": func(n *node) { n.mtime++ }, "data": func(n *node) { n.data = "e" }, "version": func(n *node) { n.version++ },
		"kind": func(n *node) { n.kind = op.Container }, "null": func(n *node) { n.data, n.null = "", true }, "numbered": func(n *node) { n.numbered = true },
		"rare.acl":      func(n *node) { n.part().acl = &op.ACLRef{ID: 7} },
		"rare.owner":    func(n *node) { n.part().owner++ },
		"rare.ttl":      func(n *node) { n.part().ttl++ },
		"rare.touched":  func(n *node) { n.part().touched++ },
		"rare.aversion": func(n *node) { n.part().aversion++ },
		"dir.creates":   func(n *node) { n.ownDir(1).creates++ },
		"dir.pzxid":     func(n *node) { n.ownDir(1).pzxid++ },
	}
	covers(t, nodes, reflect.TypeFor[node](), "", "rare")
	covers(t, nodes, reflect.TypeFor[rare](), "rare.", "dir", "dataHash")
	covers(t, nodes, reflect.TypeFor[dir](), "dir.", "stamp", "names", "nodes", "bytes", "seats")
	distinct(t, nodes, func(change func(*node)) sum {
		n := *base.edited()
		change(&n)
		s := n.statTerm("/a")
		s.add(n.dataTerm("/a"))
		return s
	})
	sessions := map[string]func(*session){
		"id": func(s *session) { s.id++ }, "secret": func(s *session) { s.secret[31]++ }, "name": func(s *session) { s.name = "n" },
		"identity": func(s *session) { s.identity = "i" }, "principal": func(s *session) { s.principal = "p" },
		"lease": func(s *session) { s.lease = true }, "metadata": func(s *session) { s.metadata = []byte{1} }, "opened": func(s *session) { s.opened++ },
		"epoch": func(s *session) { s.epoch++ }, "nonce": func(s *session) { s.nonce++ }, "next": func(s *session) { s.next++ },
		"low": func(s *session) { s.low++ }, "timeout": func(s *session) { s.timeout++ },
	}
	covers(t, sessions, reflect.TypeFor[profile](), "")
	covers(t, sessions, reflect.TypeFor[attachment](), "")
	distinct(t, sessions, func(change func(*session)) sum {
		s := &session{profile: &profile{}}
		change(s)
		sum := s.profileTerm()
		sum.add(s.attachmentTerm())
		return sum
	})
}

func covers[T any](t *testing.T, changes map[string]func(*T), fields reflect.Type, prefix string, derived ...string) {
	t.Helper()
	known := map[string]bool{}
	for _, name := range derived {
		known[name] = true
	}
	for i := range fields.NumField() {
		if name := fields.Field(i).Name; changes[prefix+name] == nil && !known[name] {
			t.Errorf("nothing here changes %s%s: is it in the digest?", prefix, name)
		}
	}
}

func distinct[T any](t *testing.T, changes map[string]func(*T), term func(func(*T)) sum) {
	t.Helper()
	seen := map[sum]string{term(func(*T) {}): "no change"}
	for name, change := range changes {
		s := term(change)
		if other, ok := seen[s]; ok {
			t.Errorf("%s and %s have the same hash", name, other)
		}
		seen[s] = name
	}
}
