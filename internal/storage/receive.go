package storage

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/coord-kv/coord/internal/vfs"
)

// Incoming is a checkpoint on its way from another member. It belongs to one goroutine at a time. Breaking off and going on
// later, from Offset, is possible as long as the process lives: a start removes what is not complete. It ends with Finish or Abort.
type Incoming struct {
	s      *Store
	f      vfs.File
	info   Info
	off    int64
	staged []ChunkInfo
	ended  bool
}

var (
	errReceiving = errors.New("another checkpoint is being received")
	errEnded     = errors.New("the checkpoint is received or given up")
)

// Receive begins to receive the checkpoint that info describes, one at a time. ErrNoSpace leaves nothing behind.
func (s *Store) Receive(info *Info) (*Incoming, error) {
	s.mu.Lock()
	cluster := s.identity.ClusterID
	s.mu.Unlock()
	if info.ClusterID != cluster {
		return nil, fmt.Errorf("couldn't receive a checkpoint of cluster %016x in a member of cluster %016x", info.ClusterID, cluster)
	}
	if err := s.room(info.Size); err != nil {
		return nil, err
	}
	if !s.receiving.CompareAndSwap(false, true) {
		return nil, errReceiving
	}
	in := &Incoming{s: s, info: *info}
	f, err := s.fs.Create(in.name())
	if err != nil {
		s.receiving.Store(false)
		return nil, s.judge(fmt.Errorf("couldn't create %s: %w", in.name(), err))
	}
	in.f = f
	return in, nil
}

func (in *Incoming) name() string { return in.s.path(receiveName + tempSuffix) }

func (in *Incoming) check() error {
	if in.ended {
		return errEnded
	}
	return in.s.check()
}

// Of reports whether it is this checkpoint that is being received, byte for byte.
func (in *Incoming) Of(info *Info) bool { return bytes.Equal(in.info.Append(nil), info.Append(nil)) }

// Index returns the index of the checkpoint.
func (in *Incoming) Index() uint64 { return in.info.Index }

// Offset returns how many bytes are there, which is where to go on.
func (in *Incoming) Offset() int64 { return in.off }

// Reader reads once more what is there, from its beginning. It doesn't verify.
func (in *Incoming) Reader() io.Reader { return io.NewSectionReader(in.f, 0, in.off) }

// Write adds the bytes that stand at Offset. More than was announced is an error, and leaves what is there. After ErrNoSpace it
// may be called again from Offset.
func (in *Incoming) Write(p []byte) (int, error) {
	if err := in.check(); err != nil {
		return 0, err
	}
	if int64(len(p)) > in.info.Size-in.off {
		return 0, fmt.Errorf("couldn't receive %d bytes at offset %d of a checkpoint of %d", len(p), in.off, in.info.Size)
	}
	n, err := in.f.WriteAt(p, in.off)
	in.off += int64(n)
	if err != nil {
		return n, in.s.judge(fmt.Errorf("couldn't write a checkpoint that arrives: %w", err))
	}
	return n, nil
}

// stagedGap separates the numbers of chunks that arrive from those of the member's own history, which goes on meanwhile.
const stagedGap = 1 << 32

// Stage stores chunks of the event history that comes with the checkpoint, oldest first, under numbers of its own. They don't count
// before InstallSnapshot is told of them, and are gone after a crash. So a history of any size becomes the member's in one small
// commit.
func (in *Incoming) Stage(chunks []Chunk) error {
	if err := in.check(); err != nil {
		return err
	}
	change := ChunkChange{Add: chunks}
	if err := in.s.room(manifestRoom + change.bytes()); err != nil {
		return err
	}
	next := in.s.nextStaged()
	if n := len(in.staged); n > 0 {
		next = in.staged[n-1].Seq + 1
	}
	set, infos := make(map[string][]byte), in.staged
	for i, c := range chunks {
		c.Seq, c.Size = next+uint64(i), len(c.Data)
		set[chunkKey(c.Seq)] = c.Data
		infos = append(infos, c.ChunkInfo)
	}
	if err := in.s.values.commit(set, nil); err != nil {
		return err
	}
	in.staged = infos
	return nil
}

// Staged describes all that Stage has stored, as InstallSnapshot and Discard want it.
func (in *Incoming) Staged() []ChunkInfo { return in.staged }

// Unstage removes what Stage has stored: the history arrives anew.
func (in *Incoming) Unstage() error {
	err := in.s.unstage(in.staged)
	in.staged = nil
	return err
}

func (s *Store) nextStaged() uint64 {
	var last uint64
	for _, key := range s.values.keys(chunkPrefix) {
		last = max(last, chunkNumber(key, chunkPrefix))
	}
	return (last/stagedGap + 1) * stagedGap
}

// unstage drops the data of chunks that don't count.
func (s *Store) unstage(staged []ChunkInfo) error {
	var drop []string
	for _, c := range staged {
		if _, counts := s.values.sum(chunkInfoKey(c.Seq)); !counts {
			drop = append(drop, chunkKey(c.Seq))
		}
	}
	if drop == nil {
		return nil
	}
	return s.values.commit(nil, drop)
}

// Finish verifies the whole file against what was announced and makes it durable, for InstallSnapshot or CommitCheckpoint. If it
// is not complete yet, that is an error and nothing else. If it doesn't fit, a CorruptError says where, and it is given up.
func (in *Incoming) Finish() (*Info, error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	if in.off != in.info.Size {
		return nil, fmt.Errorf("couldn't finish a checkpoint: %d of %d bytes are there", in.off, in.info.Size)
	}
	if err := in.verify(); err != nil {
		in.Abort()
		return nil, fmt.Errorf("couldn't accept a checkpoint: %w", err)
	}
	defer in.end()
	if err := in.f.Sync(); err != nil {
		return nil, in.s.fatal(fmt.Errorf("couldn't sync a checkpoint that arrived: %w", err))
	}
	return in.s.nameCheckpoint(in.name(), &in.info)
}

func (in *Incoming) verify() error {
	r, err := readCheckpoint(in.f, in.name(), &in.info)
	if err == nil {
		_, err = io.Copy(io.Discard, r)
	}
	return err
}

// Abort gives up and removes what was received. After Finish it does nothing.
func (in *Incoming) Abort() {
	if !in.ended {
		in.s.remove(in.name())
		_ = in.Unstage() // if that fails so does everything after it
		in.end()
	}
}

func (in *Incoming) end() {
	in.ended = true
	in.f.Close()
	in.s.receiving.Store(false)
}
