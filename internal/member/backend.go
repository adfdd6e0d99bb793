package member

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/coord-kv/coord/fsm"
	"github.com/coord-kv/coord/internal/peer"
	"github.com/coord-kv/coord/internal/replica"
	"github.com/coord-kv/coord/internal/storage"
	"github.com/coord-kv/coord/op"
	"github.com/coord-kv/coord/watch"
)

// What doors ask of a member. Until the member knows its cluster all of it is refused.

func (m *Member) running() (*replica.Replica, error) {
	if r := m.replica.Load(); r != nil {
		return r, nil
	}
	return nil, op.Errorf(op.Starting, "%s", m.whyNot())
}

// Do has a request decided; see replica.Replica.Do.
func (m *Member) Do(ctx context.Context, req *op.Request) *op.Result {
	r, err := m.running()
	if err != nil {
		return &op.Result{Err: err.(*op.Error)}
	}
	return r.Do(ctx, req)
}

// View returns a state that is as fresh as o asks; see replica.Replica.View.
func (m *Member) View(ctx context.Context, o op.ReadOptions) (*fsm.View, op.ReadInfo, error) {
	r, err := m.running()
	if err != nil {
		return nil, op.ReadInfo{}, err
	}
	return r.View(ctx, o)
}

// Watch returns the changes after from that match f.
func (m *Member) Watch(f watch.Filter, from op.Zxid) (*watch.Stream, error) {
	r, err := m.running()
	if err != nil {
		return nil, err
	}
	return r.Watch(f, from)
}

// KeepAlive gives a sign of life of a session and waits until it is confirmed; see replica.Replica.KeepAlive.
func (m *Member) KeepAlive(ctx context.Context, id op.SessionID) (timeout time.Duration, err error) {
	r, err := m.running()
	if err != nil {
		return 0, err
	}
	return r.KeepAlive(ctx, id)
}

// TimeLeft returns how long a session has to live, as the leader counts.
func (m *Member) TimeLeft(ctx context.Context, id op.SessionID) (time.Duration, error) {
	r, err := m.running()
	if err != nil {
		return 0, err
	}
	return r.TimeLeft(ctx, id)
}

// Status returns what the member knows of itself and its cluster.
func (m *Member) Status() op.Status {
	var s op.Status
	if r := m.replica.Load(); r != nil {
		s = r.Status()
		m.describe(s.Members)
	} else {
		s = op.Status{Member: m.id, Boot: m.boot, Staleness: -1, Reason: m.whyNot(), Members: m.listed()}
	}
	s.Cluster = m.intro.Load().Cluster
	s.Name, s.Uptime = m.cfg.Name, time.Since(m.began)
	st := m.store.Stats()
	s.LogWritten = st.Log.Written
	s.LogBytes, s.CheckpointBytes, s.FreeBytes = st.Log.Bytes, st.Checkpoint, free(m.store)
	return s
}

// whyNot says why this member doesn't serve, before its replica runs.
func (m *Member) whyNot() string {
	if w := m.waiting.Load(); w != nil && m.intro.Load().Fresh {
		return "waiting for every member of a new cluster: " + strings.Join(w.Why, "; ")
	}
	return "loading data"
}

// listed returns the members as they are known before the replica runs: those of the list. Of a cluster that is yet to
// be founded, one is up if it answered when it was asked last, and some ids are not known.
func (m *Member) listed() []op.MemberStatus {
	in, all := m.intro.Load(), []op.MemberStatus(nil)
	for _, p := range in.Members {
		all = append(all, op.MemberStatus{ID: p.ID, Name: p.Name, PeerAddr: p.Addr, Self: p.Name == m.cfg.Name})
	}
	if !in.Fresh {
		m.describe(all)
		return all
	}
	w := m.waiting.Load()
	for i := range all {
		all[i].Up = all[i].Self || w != nil && slices.Contains(w.Answered, all[i].Name)
	}
	return all
}

// free returns the bytes left on the file system; 0 if it can't tell.
func free(s *storage.Store) int64 {
	n, err := s.Free()
	if err != nil {
		return 0
	}
	return n
}

// describe adds names, addresses and what the streams know.
func (m *Member) describe(members []op.MemberStatus) {
	m.mu.Lock()
	defer m.mu.Unlock()
	stats := m.network.Stats()
	for i := range members {
		s := &members[i]
		s.Name = m.peers[s.ID].Name
		j := slices.IndexFunc(m.cfg.Members, func(p peer.Member) bool { return p.Name == s.Name })
		if j >= 0 && m.cfg.Listener != nil { // a member alone may have none to be reached at
			s.PeerAddr = m.cfg.Members[j].Addr
		}
		s.Up = s.Self
		if j := slices.IndexFunc(stats.Peers, func(p peer.PeerStats) bool { return p.ID == s.ID }); j >= 0 {
			p := stats.Peers[j]
			s.Up, s.RTT, s.Sent, s.Received, s.Dropped = p.Up, p.RTT, p.SentBytes, p.ReceivedBytes, p.Drops
		}
	}
}
