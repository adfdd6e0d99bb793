package storage

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"

	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/coord-kv/coord/internal/vfs"
)

// ErrNoCheckpoint is returned when there is no checkpoint yet.
var ErrNoCheckpoint = errors.New("there is no checkpoint yet")

// syncStride is how many bytes of a checkpoint are written between two syncs, so that the log's own syncs, which may have to wait
// for all that the file system owes, never wait for a whole checkpoint.
const syncStride = 8 << 20

// pacedFile writes a file from its beginning at the pace of throttle, and remembers an error of the disk apart from all others.
type pacedFile struct {
	f        vfs.File
	throttle func(bytes int) error
	off      int64
	unsynced int64
	err      error
}

func (p *pacedFile) Write(b []byte) (int, error) {
	if p.throttle != nil {
		if err := p.throttle(len(b)); err != nil {
			return 0, err
		}
	}
	n, err := p.f.WriteAt(b, p.off)
	p.off, p.unsynced = p.off+int64(n), p.unsynced+int64(n)
	if err == nil && p.unsynced >= syncStride {
		err = p.sync()
	}
	p.err = err
	return n, err
}

func (p *pacedFile) sync() error {
	p.unsynced = 0
	p.err = syncFailed(p.f.Sync())
	return p.err
}

// WriteCheckpoint writes a checkpoint file with the content that fill writes, durably. The file counts once CommitCheckpoint
// made it current, and is removed at the next start if that never happens. The header's cluster is filled in.
//
// throttle, if not nil, is called before each write of so many bytes, and may wait; an error of it or of fill ends the writing, and
// is returned. Two may not write a checkpoint of the same index at once.
func (s *Store) WriteCheckpoint(h Header, throttle func(bytes int) error, fill func(io.Writer) error) (*Info, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	h.ClusterID = s.identity.ClusterID
	s.mu.Unlock()
	temp := s.path(checkpointFile(h.Index, [32]byte{}) + tempSuffix)
	f, err := s.fs.Create(temp)
	if err != nil {
		return nil, s.judge(fmt.Errorf("couldn't create %s: %w", temp, err))
	}
	p := &pacedFile{f: f, throttle: throttle}
	info, err := writeCheckpoint(p, &h, fill)
	if err == nil {
		err = p.sync()
	}
	f.Close()
	if err == nil {
		return s.nameCheckpoint(temp, info)
	}
	s.remove(temp)
	if p.err != nil {
		return nil, s.judge(fmt.Errorf("couldn't write the checkpoint of entry %d: %w", h.Index, p.err))
	}
	return nil, fmt.Errorf("couldn't write the checkpoint of entry %d: %w", h.Index, err)
}

func writeCheckpoint(w io.Writer, h *Header, fill func(io.Writer) error) (*Info, error) {
	c, err := NewCheckpointWriter(w, h)
	if err != nil {
		return nil, err
	}
	if err := fill(c); err != nil {
		return nil, err
	}
	if err := c.Close(); err != nil {
		return nil, err
	}
	return &Info{Header: *h, Size: c.Size(), Sum: c.Sum()}, nil
}

// nameCheckpoint gives a complete and synced file the name under which the manifest may know it, and returns info with it.
func (s *Store) nameCheckpoint(temp string, info *Info) (*Info, error) {
	named := *info
	named.File = checkpointFile(info.Index, info.Sum)
	if err := s.fs.Rename(temp, s.path(named.File)); err != nil {
		return nil, s.fatal(fmt.Errorf("couldn't rename %s: %w", temp, err))
	}
	if err := s.fs.SyncDir(s.dir); err != nil {
		return nil, s.fatal(fmt.Errorf("couldn't sync %s: %w", s.dir, err))
	}
	return &named, nil
}

// CommitCheckpoint makes a file written by WriteCheckpoint or received by Receive current, together with a change of the history,
// and removes what it replaces: the checkpoint before it, and the files of the log without an entry above both keep and the
// checkpoint. The log must go on from it: ErrUnreachable otherwise.
func (s *Store) CommitCheckpoint(info *Info, keep uint64, change ChunkChange) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.room(manifestRoom + change.bytes()); err != nil {
		return err
	}
	if err := s.withLog(func(w *wal) error { return w.reaches(info.Index) }); err != nil {
		return err
	}
	if err := s.makeCurrent(info, change); err != nil {
		return err
	}
	var old []string
	err := s.withLog(func(w *wal) error {
		old = w.drop(min(keep, info.Index))
		return nil
	})
	s.remove(old...) // not under the log's lock: removing a large file takes its time
	return err
}

// makeCurrent commits the one step in which a checkpoint takes another's place.
func (s *Store) makeCurrent(info *Info, change ChunkChange) error {
	set := map[string][]byte{checkpointKey: encodeCheckpoint(info)}
	if err := s.values.commit(set, change.put(set)); err != nil {
		return err
	}
	old := s.current
	s.current = info
	if old != nil && old.File != info.File {
		s.remove(s.path(old.File))
	}
	return nil
}

// Discard removes a checkpoint file that is not to become current after all, and the history that was staged with it.
func (s *Store) Discard(info *Info, history []ChunkInfo) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current == nil || s.current.File != info.File {
		s.remove(s.path(info.File))
	}
	return s.unstage(history)
}

// CheckpointFile is an open checkpoint. It stays readable when another takes its place, until it is closed.
type CheckpointFile struct {
	Info *Info
	f    vfs.File
	name string
}

// OpenCheckpoint opens the current checkpoint.
func (s *Store) OpenCheckpoint() (*CheckpointFile, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.check(); err != nil {
		return nil, err
	}
	if s.current == nil {
		return nil, ErrNoCheckpoint
	}
	name := s.path(s.current.File)
	f, err := s.fs.Open(name)
	if err != nil {
		return nil, fmt.Errorf("couldn't open the checkpoint: %w", err)
	}
	return &CheckpointFile{s.current, f, name}, nil
}

// ReadAt reads the file's bytes as they are, to send them. The receiver verifies them.
func (c *CheckpointFile) ReadAt(p []byte, off int64) (int, error) { return c.f.ReadAt(p, off) }

// Close gives the file up.
func (c *CheckpointFile) Close() error { return c.f.Close() }

// Reader reads the verified content, from its beginning.
func (c *CheckpointFile) Reader() (*CheckpointReader, error) {
	return readCheckpoint(c.f, c.name, c.Info)
}

// readCheckpoint reads a file that must be the one that want describes.
func readCheckpoint(f vfs.File, name string, want *Info) (*CheckpointReader, error) {
	size, err := f.Size()
	if err != nil {
		return nil, fmt.Errorf("couldn't read %s: %w", name, err)
	}
	if size != want.Size {
		return nil, &CorruptError{name, min(size, want.Size), fmt.Sprintf("it has %d bytes, and %d are known of it", size, want.Size)}
	}
	r, err := NewCheckpointReader(io.NewSectionReader(f, 0, math.MaxInt64), name)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(r.header.appendTo(nil), want.Header.appendTo(nil)) {
		return nil, &CorruptError{name, 0, "it is a checkpoint of another state than is known of it"}
	}
	r.want = want
	return r, nil
}

// InstallSnapshot makes a received checkpoint current in place of the log, which is discarded, and the staged history that came
// with it that of the member. hs is the HardState that raft gave along with the snapshot; nil leaves term and vote as they are. All
// is durable when it returns.
//
// The log says first that the snapshot is coming: so a manifest ahead of the log is either explained by the log's last record, or
// corruption.
func (s *Store) InstallSnapshot(hs *pb.HardState, info *Info, history []ChunkInfo) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current != nil && info.Index <= s.current.Index {
		return fmt.Errorf("couldn't install the snapshot of entry %d: the checkpoint is of entry %d", info.Index, s.current.Index)
	}
	change := ChunkChange{Staged: history, Drop: s.chunkSeqs()}
	for _, c := range history {
		if _, ok := s.values.sum(chunkKey(c.Seq)); !ok {
			return fmt.Errorf("couldn't install the snapshot of entry %d: chunk %d of its history is not staged", info.Index, c.Seq)
		}
	}
	if err := s.room(manifestRoom); err != nil {
		return err
	}
	var old []string
	err := s.withLog(func(w *wal) (err error) {
		if hs == nil {
			hs = w.state
		}
		if err := w.install(hs, info.Position); err != nil {
			return err
		}
		if err := s.makeCurrent(info, change); err != nil {
			return err
		}
		old, err = w.restart(hs, info.Position)
		return err
	})
	s.remove(old...)
	return err
}

func (s *Store) chunkSeqs() (seqs []uint64) {
	for _, key := range s.values.keys(chunkInfoPrefix) {
		seqs = append(seqs, chunkNumber(key, chunkInfoPrefix))
	}
	return seqs
}
