package replica

import (
	"fmt"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// The kinds of frames between members. Numbers are append-only: members of neighbouring versions talk to each other.
const (
	FrameRaft     uint8 = 1 + iota // a raftpb.Message
	FrameForward                   // requests for the leader: term, number, number before it, (encoded request)*
	FrameProbe                     // which frame did you take last? term, number
	FrameTaken                     // term, number of the frame or probe answered, number of the frame taken last
	FrameReport                    // signs of life: report, (session, milliseconds ago)*
	FrameConfirm                   // those of a report that a leader confirms: report, session*
	FrameAsk                       // how long has a session left: question, session
	FrameTold                      // question, milliseconds, known
	FrameBeacon                    // a Beacon
	FrameSnapshot                  // header of a snapshot stream: a raftpb.Message; never sent as a frame
	FrameRecall                    // what was your digest? index
	FrameDigest                    // index, known, digest
	FrameFetch                     // give me a state that my log goes on from: index before its first entry
)

// Message is one frame for another member, or the order to send it the current checkpoint.
type Message struct {
	To      uint64
	Urgent  bool // on the stream that bulk data never delays
	Kind    uint8
	Payload []byte

	Index uint64 // with FrameSnapshot: that of the checkpoint to send
}

// firstNumber is where this life of the member begins to number what it asks others. Answers to questions of the lives
// before, which may still be on their way, have lower numbers.
func (c *Core) firstNumber() uint64 { return c.cfg.Boot << 40 }

func (c *Core) send(to uint64, urgent bool, kind uint8, payload []byte) {
	c.out = append(c.out, Message{To: to, Urgent: urgent, Kind: kind, Payload: payload})
}

func (c *Core) sendRaft(m *raftpb.Message) {
	switch t := m.GetType(); {
	case t == raftpb.MsgReadIndex && m.GetFrom() != c.cfg.Self:
		return // raft passes on the question of a member that is mistaken about the leader; it will ask again itself
	case (t == raftpb.MsgPreVote || t == raftpb.MsgVote) && !c.mayLead():
		return // raft has no way to keep a voter from standing for election, but without being heard it can't win
	}
	payload, err := proto.Marshal(m)
	if err != nil {
		panic(fmt.Sprintf("replica: raft made a message that can't be encoded: %v", err))
	}
	if m.GetType() == raftpb.MsgSnap {
		c.out = append(c.out, Message{To: m.GetTo(), Kind: FrameSnapshot, Payload: payload, Index: m.GetSnapshot().GetMetadata().GetIndex()})
		return
	}
	switch m.GetType() {
	case raftpb.MsgApp: // of a term that is durable here: it was before anybody was asked to vote for it
		c.early = append(c.early, Message{To: m.GetTo(), Kind: FrameRaft, Payload: payload})
	default:
		c.send(m.GetTo(), m.GetType() != raftpb.MsgAppResp, FrameRaft, payload)
	}
}

// Step takes a frame from another member, whose identity the stream has proven. An error means that the frame is not
// one that a sound member sends: it has had no effect, and the stream that it came on should be closed.
func (c *Core) Step(from uint64, kind uint8, payload []byte) error {
	if c.fatal != nil {
		return nil
	}
	switch kind {
	case FrameRaft:
		return c.stepRaft(from, payload)
	case FrameForward:
		return c.requests.forward.received(from, payload)
	case FrameProbe:
		return c.requests.forward.probed(from, payload)
	case FrameTaken:
		return c.requests.forward.told(from, payload)
	case FrameReport:
		return c.lives.reported(from, payload)
	case FrameConfirm:
		return c.lives.confirmFrame(payload)
	case FrameAsk:
		return c.lives.asked(from, payload)
	case FrameTold:
		return c.lives.toldFrame(payload)
	case FrameBeacon:
		return c.digests.heard(from, payload)
	case FrameRecall:
		return c.digests.asked(from, payload)
	case FrameDigest:
		return c.digests.answered(from, payload)
	case FrameFetch:
		return c.halt.fetched(from, payload)
	}
	return fmt.Errorf("a frame of unknown kind %d", kind)
}

func (c *Core) stepRaft(from uint64, payload []byte) error {
	m := new(raftpb.Message)
	if err := proto.Unmarshal(payload, m); err != nil {
		return fmt.Errorf("couldn't decode a raft message: %w", err)
	}
	if m.GetType() == raftpb.MsgSnap {
		return fmt.Errorf("a raft snapshot outside of a snapshot stream")
	}
	return c.stepChecked(from, m)
}

func (c *Core) stepChecked(from uint64, m *raftpb.Message) error {
	if err := c.check(from, m); err != nil {
		return fmt.Errorf("a %v message: %w", m.GetType(), err)
	}
	if m.GetType() == raftpb.MsgTimeoutNow && !c.mayLead() || c.torn.refuses(m) {
		return nil
	}
	if c.fatal == nil {
		c.raft.Step(m) // what it returns is about local messages and proposals only
	}
	return nil
}
