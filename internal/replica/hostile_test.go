package replica

import (
	"strings"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/coord-kv/coord/op"
	"github.com/coord-kv/coord/op/wire"
)

func message(typ raftpb.MessageType, from, to, term uint64, set func(*raftpb.Message)) *raftpb.Message {
	m := &raftpb.Message{Type: typ.Enum(), From: &from, To: &to, Term: &term}
	if set != nil {
		set(m)
	}
	return m
}

// Raft panics on about half of these. Each is refused with a reason, has no effect, and the cluster goes on.
func TestHostileRaftMessages(t *testing.T) {
	entry := func(index, term uint64) *raftpb.Entry {
		return &raftpb.Entry{Type: raftpb.EntryNormal.Enum(), Index: &index, Term: &term, Data: []byte("x")}
	}
	for _, test := range []struct {
		what string
		m    *raftpb.Message
		want string
	}{
		{"from another than sent it", message(raftpb.MsgHeartbeat, 3, 1, 9, nil), "from 3"},
		{"for another", message(raftpb.MsgHeartbeat, 2, 3, 9, nil), "for member 3"},
		{"a proposal", message(raftpb.MsgProp, 2, 1, 1, nil), "internal"},
		{"an order to campaign", message(raftpb.MsgHup, 2, 1, 1, nil), "internal"},
		{"without a term", message(raftpb.MsgHeartbeat, 2, 1, 0, nil), "no term"},
		{"a bad context", message(raftpb.MsgHeartbeatResp, 2, 1, 1, func(m *raftpb.Message) { m.Context = []byte("ab") }), "context"},
		{"an empty question", message(raftpb.MsgReadIndex, 2, 1, 1, nil), "one question"},
		{"an empty snapshot", message(raftpb.MsgSnap, 2, 1, 1, nil), "outside of a snapshot stream"},
		{"entries with a hole", message(raftpb.MsgApp, 2, 1, 9, func(m *raftpb.Message) {
			m.Index, m.LogTerm, m.Entries = proto.Uint64(1), proto.Uint64(1), []*raftpb.Entry{entry(2, 1), entry(4, 1)}
		}), "where 3 should"},
		{"terms that fall", message(raftpb.MsgApp, 2, 1, 9, func(m *raftpb.Message) {
			m.Index, m.LogTerm, m.Entries = proto.Uint64(1), proto.Uint64(5), []*raftpb.Entry{entry(2, 4)}
		}), "term 4"},
		{"what contradicts a decision", message(raftpb.MsgApp, 2, 1, 9, func(m *raftpb.Message) {
			m.Index, m.LogTerm, m.Entries = proto.Uint64(0), proto.Uint64(0), []*raftpb.Entry{entry(1, 7)}
		}), "contradicts"},
		{"a change of membership", message(raftpb.MsgApp, 2, 1, 9, func(m *raftpb.Message) {
			e := entry(3, 1)
			e.Type = raftpb.EntryConfChange.Enum()
			m.Index, m.LogTerm, m.Entries = proto.Uint64(2), proto.Uint64(1), []*raftpb.Entry{e}
		}), "membership"},
		{"an acknowledgement of what isn't there", message(raftpb.MsgAppResp, 2, 1, 1, func(m *raftpb.Message) { m.Index = proto.Uint64(99) }), "acknowledges"},
		{"entries in a vote", message(raftpb.MsgVote, 2, 1, 9, func(m *raftpb.Message) { m.Entries = []*raftpb.Entry{entry(1, 1)} }), "entries"},
	} {
		t.Run(test.what, func(t *testing.T) {
			c := newCluster(t, 3)
			c.do(1, &op.Create{Path: "/x"})
			payload, _ := proto.Marshal(test.m)
			err := c.cores[1].Step(2, FrameRaft, payload)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("answered %v, want %q", err, test.want)
			}
			if res := c.do(1, &op.Create{Path: "/y"}); res.Err != nil {
				t.Error(res.Err)
			}
			c.agree()
		})
	}
}

// A leader that knows more to be stored here than is proves that this disk has lost acknowledged entries.
func TestLostLogStopsTheMember(t *testing.T) {
	c := newCluster(t, 3)
	payload, _ := proto.Marshal(message(raftpb.MsgHeartbeat, 2, 1, 9, func(m *raftpb.Message) { m.Commit = proto.Uint64(50) }))
	if err := c.cores[1].Step(2, FrameRaft, payload); err != nil {
		t.Fatal(err)
	}
	if err := c.cores[1].Fatal(); err == nil || !strings.Contains(err.Error(), "lost acknowledged entries") {
		t.Errorf("it goes on: %v", err)
	}
}

// Other members can forward what clients may ask, and nothing else.
func TestForwardedInternalRequestIsRefused(t *testing.T) {
	c := newCluster(t, 3)
	for _, r := range []*op.Request{
		{Tag: op.Tag{Member: 2, Boot: 1, Call: 1}, Op: &op.Expire{Sessions: []op.Expiry{{Session: 1}}}},
		{Tag: op.Tag{Member: 3, Boot: 1, Call: 1}, Op: &op.Create{Path: "/x"}},
	} {
		raw := r.Append(nil)
		payload := append(wire.Uint(wire.Uint(wire.Uint(wire.Uint(nil, 1), 1), 0), uint64(len(raw))), raw...)
		if err := c.cores[1].Step(2, FrameForward, payload); err == nil {
			t.Errorf("took a %s tagged by member %d", r.Op.Verb(), r.Tag.Member)
		}
	}
}

// FuzzStep gives a leader and a follower arbitrary frames of a member: they may refuse them, and nothing else may happen.
func FuzzStep(f *testing.F) {
	for kind := range FrameFetch + 1 {
		f.Add(kind, []byte{1, 1, 0})
	}
	heartbeat, _ := proto.Marshal(message(raftpb.MsgHeartbeat, 2, 1, 1, nil))
	f.Add(FrameRaft, heartbeat)
	f.Fuzz(func(t *testing.T, kind uint8, payload []byte) {
		c := newCluster(t, 3)
		for _, id := range []uint64{1, 3} {
			c.cores[id].Step(2, kind, payload)
		}
		c.drop = func(e envelope) bool { return true }
		c.ticks(3)
	})
}
