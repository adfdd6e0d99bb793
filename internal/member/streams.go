package member

import (
	"context"
	"errors"
	"fmt"
	"io"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/coord-kv/coord/fsm"
	"github.com/coord-kv/coord/internal/peer"
	"github.com/coord-kv/coord/internal/replica"
	"github.com/coord-kv/coord/internal/storage"
	"github.com/coord-kv/coord/op/wire"
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
	f, err := m.store.OpenCheckpoint()
	if err != nil {
		return err
	}
	defer f.Close()
	if f.Info.Index != msg.Index {
		return fmt.Errorf("the checkpoint is of entry %d by now, not %d", f.Info.Index, msg.Index)
	}
	m.log.Info("sending a snapshot", "member", msg.To, "index", msg.Index, "bytes", f.Info.Size)
	header := wire.Bytes(wire.Bytes(nil, msg.Payload), f.Info.Append(nil))
	return m.network.SendSnapshot(ctx, msg.To, header, f.Info.Size, f, nil)
}

// handler takes what the network delivers.
type handler struct{ m *Member }

// Receive hands a frame to the loop.
func (h handler) Receive(from uint64, f peer.Frame) {
	if r := h.m.replica.Load(); r != nil {
		r.Receive(from, f.Kind, f.Payload)
	}
}

var errNotYet = errors.New("this member is still starting")

// Snapshot receives, checks and loads a snapshot beside the loop, then offers it to the loop.
func (h handler) Snapshot(ctx context.Context, from uint64, t *peer.Transfer) error {
	r := h.m.replica.Load()
	if r == nil {
		return errNotYet
	}
	in, err := h.m.receive(t)
	if err != nil {
		return err
	}
	h.m.log.Info("received a snapshot", "member", from, "index", in.Message.GetSnapshot().GetMetadata().GetIndex())
	if err := r.ReceiveSnapshot(from, in); err != nil {
		h.m.store.Discard(in.Content.(*storage.Info))
		return err
	}
	return nil
}

func (m *Member) receive(t *peer.Transfer) (*replica.Install, error) {
	header := wire.NewReader(t.Header)
	msg, rawInfo := header.Bytes(), header.Bytes()
	if err := header.Done(); err != nil {
		return nil, fmt.Errorf("couldn't read a snapshot's header: %w", err)
	}
	in := &replica.Install{Message: new(raftpb.Message)}
	if err := proto.Unmarshal(msg, in.Message); err != nil {
		return nil, fmt.Errorf("couldn't read a snapshot's header: %w", err)
	}
	info, err := storage.ParseInfo(rawInfo)
	if err != nil {
		return nil, fmt.Errorf("couldn't read a snapshot's header: %w", err)
	}
	if info.Index != in.Message.GetSnapshot().GetMetadata().GetIndex() {
		return nil, errors.New("a snapshot's header names two entries")
	}
	in.Machine, in.Content, err = m.receiveState(info, t)
	return in, err
}

// receiveState loads the state while it is written to its file.
func (m *Member) receiveState(info *storage.Info, r io.Reader) (*fsm.Machine, *storage.Info, error) {
	in, err := m.store.Receive(info)
	if err != nil {
		return nil, nil, err
	}
	defer in.Abort()
	state, err := readState(io.TeeReader(r, in), info)
	if err != nil {
		return nil, nil, fmt.Errorf("couldn't receive a snapshot: %w", err)
	}
	file, err := in.Finish()
	return state, file, err
}

// PeerUp remembers a member's boot number.
func (h handler) PeerUp(id, boot uint64) {
	h.m.mu.Lock()
	defer h.m.mu.Unlock()
	if p, ok := h.m.peers[id]; ok && boot > p.Boot {
		p.Boot = boot
		h.m.peers[id] = p
		if err := h.m.store.SavePeers(h.m.peers); err != nil {
			h.m.log.Error("couldn't remember a member's boot number", "member", id, "err", err)
		}
	}
}

// PeerDown tells the loop that a member can't be reached.
func (h handler) PeerDown(id uint64) {
	if r := h.m.replica.Load(); r != nil {
		r.PeerDown(id)
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
