package member

import (
	"context"
	"errors"

	"github.com/coord-kv/coord/internal/peer"
	"github.com/coord-kv/coord/internal/replica"
)

// Send hands a frame to the network.
func (m *Member) Send(msg replica.Message) bool {
	class := peer.Bulk
	if msg.Urgent {
		class = peer.Urgent
	}
	return m.network.Send(msg.To, class, msg.Kind, msg.Payload)
}

// SendSnapshot streams the current checkpoint to a member that is too far behind, if it is the one that raft means.
func (m *Member) SendSnapshot(ctx context.Context, msg replica.Message) error {
	s, err := m.disk.OpenSnapshot(msg.Index)
	if err != nil {
		return err
	}
	defer s.Close()
	m.log.Info("sending a snapshot", "member", msg.To, "index", msg.Index, "bytes", s.Size, "chunks", s.Chunks())
	return m.network.SendSnapshot(ctx, msg.To, s.Header(msg.Payload), s.Size, s, nil)
}

// handler takes what the network delivers.
type handler struct{ m *Member }

// Receive hands a frame to the replica.
func (h handler) Receive(from uint64, f peer.Frame, more bool) {
	if r := h.m.replica.Load(); r != nil {
		r.Receive(from, f.Kind, f.Payload, more)
	}
}

var errNotYet = errors.New("this member is still starting")

// Snapshot receives, checks and loads a snapshot beside the loop, then offers it to the loop.
func (h handler) Snapshot(ctx context.Context, from uint64, t *peer.Transfer) error {
	r := h.m.replica.Load()
	if r == nil {
		return errNotYet
	}
	in, err := h.m.disk.Receive(t.Header, t.Size, t)
	if err != nil {
		return err
	}
	h.m.log.Info("received a snapshot", "member", from, "index", in.Message.GetSnapshot().GetMetadata().GetIndex(), "chunks", len(in.History))
	if err := r.ReceiveSnapshot(from, in); err != nil {
		return errors.Join(err, h.m.disk.Discard(in))
	}
	return nil
}

// PeerUp remembers a member's boot number.
func (h handler) PeerUp(id, boot uint64) {
	h.m.mu.Lock()
	if p, ok := h.m.peers[id]; ok && boot > p.Boot {
		p.Boot = boot
		h.m.peers[id] = p
	}
	h.m.mu.Unlock()
	h.remember()
}

// PeerDown tells the loop that a member can't be reached, and remembers what it had acknowledged.
func (h handler) PeerDown(id uint64) {
	if r := h.m.replica.Load(); r != nil {
		r.PeerDown(id)
	}
	h.remember()
}

func (h handler) remember() {
	if err := h.m.rememberPeers(); err != nil {
		h.m.log.Error("couldn't remember how far the other members are", "err", err)
	}
}

// StreamUp needs no action: whoever waits for the stream tries again with every tick.
func (h handler) StreamUp(uint64, peer.Class) {}

// StreamDown tells the loop that frames may be lost.
func (h handler) StreamDown(id uint64, class peer.Class) {
	if r := h.m.replica.Load(); r != nil && class == peer.Bulk {
		r.StreamBroken(id)
	}
}

// Meet answers a member that starts for the first time.
func (h handler) Meet(peer.Introduction) peer.Introduction { return *h.m.intro.Load() }
