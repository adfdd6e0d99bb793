package member

import (
	"maps"
	"sync"

	"github.com/coord-kv/coord/internal/replica"
	"github.com/coord-kv/coord/watch"
)

// acked is how far each member's disk is known to hold the log: a member that comes back with less, because somebody put
// an older copy of its directory there or its disk lost what was synced, would help to elect away acknowledged writes.
// Its lock is held for a moment only, since the loop takes it.
type acked struct {
	mu    sync.Mutex
	index map[uint64]uint64 // by member
}

// heard notes that a member has applied the log up to an index. What was applied is decided and synced, so no later
// leader can make the member give it up.
func (a *acked) heard(id, index uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.index == nil {
		a.index = map[uint64]uint64{}
	}
	a.index[id] = max(a.index[id], index)
}

// lost forgets what a member had beyond an index: it says itself that its log was cut there.
func (a *acked) lost(id, last uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.index[id] > last {
		a.index[id] = last
	}
}

func (a *acked) of(id uint64) uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.index[id]
}

// rememberPeers makes durable what is known of the other members, if it has changed.
func (m *Member) rememberPeers() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, p := range m.peers {
		p.Acked = m.acked.of(id)
		m.peers[id] = p
	}
	if maps.Equal(m.peers, m.saved) {
		return nil
	}
	if err := m.store.SavePeers(m.peers); err != nil {
		return err
	}
	m.saved = maps.Clone(m.peers)
	return nil
}

// remembering is a Disk that makes durable with each checkpoint how far the other members were.
type remembering struct {
	*Disk
	m *Member
}

// WriteCheckpoint writes the cut; see Disk.WriteCheckpoint.
func (r remembering) WriteCheckpoint(cut *replica.Cut, h *watch.History) (size int64, err, fatal error) {
	if err := r.m.rememberPeers(); unlessFull(err) != nil {
		return 0, err, err
	}
	return r.Disk.WriteCheckpoint(cut, h)
}
