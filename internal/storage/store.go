package storage

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path"
	"sync"
	"sync/atomic"
	"time"

	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/coord-kv/coord/internal/vfs"
)

// DefaultSegmentBytes is the size of a file of the log.
const DefaultSegmentBytes = 64 << 20

// Options say where a store is.
type Options struct {
	FS           vfs.FS         // nil: the real one
	Dir          string         // made if there is none
	Manifest     ManifestOpener // nil: OpenBolt
	SegmentBytes int64          // of a file of the log; at least 1 KiB; 0: DefaultSegmentBytes
	Logger       *slog.Logger   // nil: nothing is logged

	// ObserveSync is told how long each sync of the log took, ObserveCommit each durable change of the manifest; nil: nobody.
	// With either comes Now, any clock that doesn't go back.
	Now           func() time.Duration
	ObserveSync   func(time.Duration)
	ObserveCommit func(time.Duration)
}

func (o Options) measureCommit() (done func()) {
	if o.ObserveCommit == nil || o.Now == nil {
		return func() {}
	}
	begin := o.Now()
	return func() { o.ObserveCommit(o.Now() - begin) }
}

func (o Options) filled() Options {
	if o.FS == nil {
		o.FS = vfs.OS()
	}
	if o.Manifest == nil {
		o.Manifest = OpenBolt
	}
	if o.SegmentBytes == 0 {
		o.SegmentBytes = DefaultSegmentBytes
	}
	o.SegmentBytes = max(o.SegmentBytes, 1<<10)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// Store is a member's data directory. Append, Quiet and InstallSnapshot belong to the goroutine that drives raft; everything
// else may be called from any other beside them. Its mutexes are taken in the order in which they stand.
type Store struct {
	fs  vfs.FS
	dir string
	log *slog.Logger
	opt Options
	latch
	lock   io.Closer
	values *values

	// mu guards what the manifest says.
	mu       sync.Mutex
	identity Identity
	boot     uint64
	current  *Info // the checkpoint
	closed   bool

	walMu sync.Mutex
	wal   *wal // nil until the member has a cluster

	reserved  atomic.Int64 // bytes
	cut       int64        // bytes
	receiving atomic.Bool
}

var errNoCluster = errors.New("the member has no cluster yet")

// Identify makes a fresh directory the member's. The id must be random, and not 0.
func (s *Store) Identify(memberID uint64, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.identity.MemberID != 0 {
		return fmt.Errorf("couldn't make %s the directory of %s: it is that of %s", s.dir, name, s.identity.Name)
	}
	next := Identity{MemberID: memberID, Name: name, ConfState: &pb.ConfState{}}
	return s.setIdentity(next)
}

// Found gives the member its cluster and the configuration from which the log begins, and makes the log. What a crash leaves of
// it before it returned is removed at the next start.
func (s *Store) Found(clusterID uint64, cs *pb.ConfState) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.identity.MemberID == 0 || s.identity.ClusterID != 0 || clusterID == 0 {
		return fmt.Errorf("couldn't join cluster %016x: the member is %016x of cluster %016x", clusterID, s.identity.MemberID, s.identity.ClusterID)
	}
	if err := s.check(); err != nil {
		return err
	}
	next := s.identity
	next.ClusterID, next.ConfState = clusterID, cloneConf(cs)
	w := s.newWAL(next)
	if err := w.start(1, Position{}, hardState(0, 0, 0)); err != nil {
		w.closeFiles()
		return s.judge(fmt.Errorf("couldn't begin the log: %w", err))
	}
	if err := s.setIdentity(next); err != nil {
		w.closeFiles()
		return err
	}
	s.walMu.Lock()
	defer s.walMu.Unlock()
	s.wal = w
	return nil
}

func (s *Store) newWAL(i Identity) *wal {
	return &wal{
		fs: s.fs, dir: s.dir, latch: &s.latch,
		ids: ids{i.ClusterID, i.MemberID}, capacity: s.opt.SegmentBytes,
		now: s.opt.Now, observe: s.opt.ObserveSync,
		release: s.releaseReserve,
	}
}

func (s *Store) setIdentity(next Identity) error {
	if err := s.put(identityKey, next.encode()); err != nil {
		return err
	}
	s.identity = next
	return nil
}

func (s *Store) put(key string, value []byte) error {
	if err := s.room(manifestRoom); err != nil {
		return err
	}
	return s.values.commit(map[string][]byte{key: value}, nil)
}

// NextBoot returns the number of this life of the member, one more than that of the last. It is durable when it is returned.
func (s *Store) NextBoot() (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.put(bootKey, encodeBoot(s.boot+1)); err != nil {
		return 0, err
	}
	s.boot++
	return s.boot, nil
}

// Whole says that the log has got back whatever a cut may have taken from it; see Recovered.Torn.
func (s *Store) Whole() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.values.commit(nil, []string{tornKey})
}

// SaveConf remembers the newest configuration, which after a restart is known before the log is applied.
func (s *Store) SaveConf(c Conf) error { return s.put(confKey, c.encode()) }

// SavePeers remembers all that is known of the other members; what was remembered before is replaced.
func (s *Store) SavePeers(peers map[uint64]Peer) error { return s.put(peersKey, encodePeers(peers)) }

// Chunk reads a chunk of history. A number that is not kept gives nil.
func (s *Store) Chunk(seq uint64) ([]byte, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	return s.values.get(chunkKey(seq))
}

// CommitChunks adds and drops chunks of history in one durable step.
func (s *Store) CommitChunks(c ChunkChange) error {
	if err := s.room(manifestRoom + c.bytes()); err != nil {
		return err
	}
	set := make(map[string][]byte)
	return s.values.commit(set, c.put(set))
}

// Append writes entries and then a HardState to the log, and makes them durable if sync is set. Either may be missing. The entries
// are consecutive and go on from the log, or replace its end; anything else panics. With ErrNoSpace a first part of the entries
// may have been written; the call may be repeated.
func (s *Store) Append(hs *pb.HardState, entries []*pb.Entry, sync bool) error {
	return s.withLog(func(w *wal) error { return w.append(hs, entries, sync) })
}

// LastIndex returns the index of the last entry of the log, or of the checkpoint if the log has none behind it.
func (s *Store) LastIndex() uint64 {
	s.walMu.Lock()
	defer s.walMu.Unlock()
	if s.wal == nil {
		return 0
	}
	return s.wal.last.Index
}

// Quiet is to be called in a tick without an Append. It makes durable what isn't, the watermark included.
func (s *Store) Quiet() error {
	return s.withLog((*wal).quiet)
}

func (s *Store) withLog(f func(*wal) error) error {
	s.walMu.Lock()
	defer s.walMu.Unlock()
	if err := s.check(); err != nil {
		return err
	}
	if s.wal == nil {
		return errNoCluster
	}
	return f(s.wal)
}

// Stats are figures for metrics.
type Stats struct {
	Log        LogStats
	Checkpoint int64 // bytes of the current one
	Manifest   int64 // bytes
	Reserved   int64 // bytes
	Cut        int64 // bytes of torn tail removed at the start
}

// Stats returns the figures of the moment.
func (s *Store) Stats() Stats {
	st := Stats{Manifest: s.values.m.Size(), Reserved: s.reserved.Load(), Cut: s.cut}
	s.mu.Lock()
	if s.current != nil {
		st.Checkpoint = s.current.Size
	}
	s.mu.Unlock()
	s.walMu.Lock()
	defer s.walMu.Unlock()
	if s.wal != nil {
		st.Log = s.wal.snapshotStats()
	}
	return st
}

// Close makes everything durable and releases the directory. Every later call fails with ErrClosed, or with the error that
// was fatal before.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.walMu.Lock()
	defer s.walMu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	var err error
	if s.wal != nil {
		err = s.wal.close()
	}
	s.latch.close()
	return errors.Join(err, s.values.m.Close(), s.lock.Close())
}

func (s *Store) path(name string) string { return path.Join(s.dir, name) }

// remove takes away files that don't count any more. One that stays is removed at the next start.
func (s *Store) remove(names ...string) {
	for _, name := range names {
		if err := s.fs.Remove(name); err != nil {
			s.log.Warn("couldn't remove a file that is not needed any more", "file", name, "error", err)
		}
	}
}
