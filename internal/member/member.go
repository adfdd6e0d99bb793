// Package member puts one member of a cluster together: its data directory, the streams to the others, and the replica
// between them. Command coord runs it, and so do tests.
//
// What holds: a member's id, its cluster and its boot number are durable before anybody else hears of them. A name, a
// directory and a cluster that don't belong together are refused before anything is changed.
package member

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"golang.org/x/sync/errgroup"

	"github.com/coord-kv/coord/internal/peer"
	"github.com/coord-kv/coord/internal/replica"
	"github.com/coord-kv/coord/internal/storage"
	"github.com/coord-kv/coord/internal/vfs"
	"github.com/coord-kv/coord/op"
	"github.com/coord-kv/coord/watch"
)

// Config says what a member is. Name, Dir and Members are required.
type Config struct {
	Name     string
	Dir      string
	Memory   bool          // keep everything in memory, in Disk.FS if there is one; Dir is not touched
	Members  []peer.Member // the whole list, this member included; ids are not looked at
	Listener net.Listener  // for the other members; closed by Run. A member alone needs none.
	Dial     peer.Dial     // to the other members; nil: over TCP
	Logger   *slog.Logger
	Observe  Observer // nil: nobody

	// AcceptCutTail makes a member whose log was cut at its end vote as if it had lost nothing. Without it such a
	// member waits for every voter. With it, writes may be lost that were acknowledged when the power went: those that
	// all voters that are left have cut off, and that only voters that are gone still have.
	AcceptCutTail bool
	Replica       replica.Config  // times; ids and callbacks are filled in
	Disk          storage.Options // FS and Manifest for tests; else filled in
	History       watch.Limits    // of the events kept

	checkpointRate int // bytes per second; 0 means 100 MB
}

// spaceMark is the room that a disk must have for writes to be admitted: what the log takes at once, the growth of the
// manifest, and a margin for the next checkpoint.
const spaceMark = 256 << 20

// spaceReserve is what of that is really taken, in a file: two files of the log, and a step of the manifest.
const spaceReserve = 2*storage.DefaultSegmentBytes + 4<<20

// Member is a member, open or running. Its methods are safe for concurrent use.
type Member struct {
	cfg     Config
	log     *slog.Logger
	store   *storage.Store
	found   *storage.Recovered
	id      uint64
	boot    uint64
	network *peer.Network
	disk    *Disk
	began   time.Time

	replica atomic.Pointer[replica.Replica] // nil until the cluster is known
	intro   atomic.Pointer[peer.Introduction]
	waiting atomic.Pointer[peer.Wait] // for what, while the cluster is being founded

	mu    sync.Mutex
	peers map[uint64]storage.Peer // the other members and this one, by id
	saved map[uint64]storage.Peer // as they are remembered on disk

	acked acked
}

// Observer is told how long things took, for metrics. Its methods must not block.
type Observer interface {
	replica.Observer
	CommitDone(d time.Duration)             // of a durable change of the manifest
	RoundTrip(peer string, d time.Duration) // to another member
}

// Open opens the data directory, or makes it. After that only Run or Close may fail the member.
func Open(cfg Config) (*Member, error) {
	m := &Member{cfg: cfg, log: cfg.Logger, began: time.Now()}
	opt := cfg.Disk
	opt.Dir, opt.Logger = cfg.Dir, cfg.Logger
	if cfg.Memory && opt.FS == nil {
		opt.FS, opt.Manifest = vfs.NewMem(), storage.NewMemManifest().Open
	}
	if cfg.Memory {
		opt.Dir = "/" + cfg.Name
	}
	if cfg.Observe != nil {
		opt.Now, opt.ObserveCommit = func() time.Duration { return time.Since(m.began) }, cfg.Observe.CommitDone
	}
	store, found, err := storage.Open(opt)
	if err != nil {
		return nil, err
	}
	m.store, m.found = store, found
	if err := m.prepare(); err != nil {
		store.Close()
		return nil, err
	}
	return m, nil
}

func (m *Member) prepare() (err error) {
	if err := m.identify(); err != nil {
		return err
	}
	m.network, err = peer.New(peer.Config{
		Self:    peer.Identity{Member: m.id, Boot: m.boot, Name: m.cfg.Name},
		Boots:   m.boots(),
		Last:    m.store.LastIndex,
		Acked:   m.acked.of,
		Torn:    m.found.Torn,
		Lost:    m.acked.lost,
		Handler: handler{m},
		Logger:  m.log,
		Dial:    m.cfg.Dial,

		RoundTrip: m.roundTrip,
	})
	m.announceKnown()
	return err
}

// identify makes sure that the directory is this member's, and counts the boot.
func (m *Member) identify() error {
	id := m.found.Identity
	switch {
	case m.found.Fresh:
		id.MemberID, id.Name = randomID(), m.cfg.Name
		if err := m.store.Identify(id.MemberID, id.Name); err != nil {
			return err
		}
	case id.Name != m.cfg.Name:
		return m.refuse(fmt.Sprintf("it is the directory of member %q, and this is %q", id.Name, m.cfg.Name), "give each member a directory of its own")
	}
	boot, err := m.store.NextBoot()
	if err != nil {
		return err
	}
	m.id, m.boot, m.peers = id.MemberID, boot, m.found.Peers
	m.disk = NewDisk(m.store, m.found)
	rate := m.cfg.checkpointRate
	if rate == 0 {
		rate = 100 << 20
	}
	m.disk.Pace = pace(rate, time.Sleep)
	if m.peers == nil {
		m.peers = map[uint64]storage.Peer{}
	}
	m.saved = maps.Clone(m.peers)
	for id, p := range m.peers {
		m.acked.heard(id, p.Acked)
	}
	return m.knownMembers()
}

// knownMembers makes sure that a directory that has a cluster is of the cluster that the list describes.
func (m *Member) knownMembers() error {
	if m.found.Identity.ClusterID == 0 {
		return nil
	}
	var had, have []string
	for _, p := range m.peers {
		had = append(had, p.Name)
	}
	for _, p := range m.cfg.Members {
		have = append(have, p.Name)
	}
	slices.Sort(had)
	slices.Sort(have)
	if !slices.Equal(had, have) {
		return m.refuse(fmt.Sprintf("it belongs to a cluster of %q, and the list given is %q", had, have), "start with the list that founded the cluster")
	}
	return nil
}

func (m *Member) refuse(problem, remedy string) error {
	return fmt.Errorf("couldn't use the data directory: %w", &storage.RefusedError{Path: m.cfg.Dir, Problem: problem, Remedy: remedy})
}

func randomID() uint64 {
	var b [8]byte
	rand.Read(b[:])
	return binary.BigEndian.Uint64(b[:]) | 1
}

// ID returns the member's id.
func (m *Member) ID() uint64 { return m.id }

// Close releases the data directory of a member that doesn't run.
func (m *Member) Close() error { return m.store.Close() }

// Run drives the member until ctx ends, which is no error, or it cannot go on. It closes the data directory.
func (m *Member) Run(ctx context.Context) (err error) {
	defer func() {
		if err == nil {
			err = unlessFull(m.rememberPeers())
		}
		err = errors.Join(err, m.store.Close())
	}()
	g, ctx := errgroup.WithContext(ctx)
	if m.cfg.Listener != nil {
		g.Go(func() error { return m.network.Serve(ctx, m.cfg.Listener) })
	}
	g.Go(func() error { return m.start(ctx, g) })
	if err := g.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// start finds or founds the cluster, and runs what needs one.
func (m *Member) start(ctx context.Context, g *errgroup.Group) error {
	first, err := m.join(ctx)
	if err != nil {
		return err
	}
	begin, err := Load(m.store, m.found, m.cfg.History)
	if err != nil {
		return err
	}
	cfg := m.cfg.Replica
	if cfg.Torn, err = m.torn(); err != nil {
		return err
	}
	m.found = nil
	cfg.Self, cfg.Boot = m.id, m.boot
	cfg.Heard = m.acked.heard
	if cfg.SpaceMark == 0 && !m.cfg.Memory {
		cfg.SpaceMark = spaceMark
	}
	if !m.cfg.Memory {
		m.disk.Reserve = spaceReserve
	}
	if err := m.disk.KeepReserve(); err != nil {
		return err
	}
	opt := replica.Options{
		Config: cfg, Start: begin, Disk: remembering{m.disk, m}, Network: m, Now: m.clock, Logger: m.log,
	}
	if m.cfg.Observe != nil {
		opt.Observe = m.cfg.Observe
	}
	r, err := replica.NewReplica(opt)
	if err != nil {
		return err
	}
	m.replica.Store(r)
	g.Go(func() error { return r.Run(ctx) })
	voters := begin.ConfState.GetVoters()
	if len(voters) == 1 || first && slices.Min(voters) == m.id {
		r.Campaign()
	}
	if len(voters) > 1 {
		return m.network.Run(ctx)
	}
	return nil
}

// torn reports whether the member has to vote as one whose log was cut.
func (m *Member) torn() (bool, error) {
	if !m.found.Torn || !m.cfg.AcceptCutTail {
		return m.found.Torn, nil
	}
	m.log.Warn("accepted that the end of the log was cut: acknowledged writes that no other member has are lost")
	return false, m.store.Whole()
}

// join makes the member part of its cluster. first is true if the cluster has just been founded.
func (m *Member) join(ctx context.Context) (first bool, err error) {
	id := m.found.Identity
	if first = id.ClusterID == 0; first {
		roster, err := peer.Bootstrap(ctx, peer.BootstrapConfig{
			Name: m.cfg.Name, ID: m.id, Members: m.cfg.Members, Logger: m.log, Dial: m.cfg.Dial,
			Announce: func(in peer.Introduction) { m.intro.Store(&in) },
			Waiting:  func(w peer.Wait) { m.waiting.Store(&w) },
		})
		if err != nil {
			return false, err
		}
		if err := m.take(roster); err != nil {
			return false, err
		}
		id.ClusterID = roster.Cluster
		m.log.Info("cluster founded", "cluster", fmt.Sprintf("%x", roster.Cluster), "members", len(roster.Members))
	}
	return first, m.network.Join(id.ClusterID, m.addrs())
}

// take makes the roster durable, names first: a directory that has a cluster must know who is in it.
func (m *Member) take(r peer.Roster) error {
	m.mu.Lock()
	for _, p := range r.Members {
		m.peers[p.ID] = storage.Peer{Name: p.Name}
	}
	m.mu.Unlock()
	if err := m.rememberPeers(); err != nil {
		return err
	}
	conf := &raftpb.ConfState{Voters: r.Voters}
	if err := m.store.Found(r.Cluster, conf); err != nil {
		return err
	}
	m.found.ConfState, m.found.HardState = conf, &raftpb.HardState{}
	m.found.Identity.ClusterID = r.Cluster
	m.announceKnown()
	return nil
}

// announceKnown sets what members that start for the first time are told.
func (m *Member) announceKnown() {
	in := peer.Introduction{Name: m.cfg.Name, Member: m.id, Fresh: true, Members: slices.Clone(m.cfg.Members)}
	for i := range in.Members {
		in.Members[i].ID = 0
		if in.Members[i].Name == m.cfg.Name {
			in.Members[i].ID = m.id
		}
	}
	if m.found.Identity.ClusterID != 0 {
		in.Fresh, in.Cluster, in.Voters = false, m.found.Identity.ClusterID, m.found.ConfState.GetVoters()
		for i := range in.Members {
			in.Members[i].ID = m.idOf(in.Members[i].Name)
		}
	}
	m.intro.Store(&in)
}

func (m *Member) roundTrip(id uint64, d time.Duration) {
	if m.cfg.Observe == nil {
		return
	}
	m.mu.Lock()
	name := m.peers[id].Name
	m.mu.Unlock()
	m.cfg.Observe.RoundTrip(name, d)
}

func (m *Member) idOf(name string) uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, p := range m.peers {
		if p.Name == name {
			return id
		}
	}
	return 0
}

// addrs returns the peer addresses by id: ids are remembered, addresses are configuration.
func (m *Member) addrs() map[uint64]string {
	addrs := map[uint64]string{}
	for _, p := range m.cfg.Members {
		addrs[m.idOf(p.Name)] = p.Addr
	}
	return addrs
}

func (m *Member) boots() map[uint64]uint64 {
	boots := map[uint64]uint64{}
	for id, p := range m.peers {
		boots[id] = p.Boot
	}
	return boots
}

func (m *Member) clock() replica.Clock {
	now := time.Now()
	return replica.Clock{Wall: op.Time(now.UnixMilli()), Mono: uint64(now.Sub(m.began)/time.Millisecond) + 1}
}

// HandOver gives leadership to another member, if this one leads and there is another, and waits for it or for ctx.
func (m *Member) HandOver(ctx context.Context) error {
	if r := m.replica.Load(); r != nil {
		return r.HandOver(ctx)
	}
	return nil
}
