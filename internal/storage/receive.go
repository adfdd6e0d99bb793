package storage

import (
	"errors"
	"fmt"
	"io"

	"github.com/coord-kv/coord/internal/vfs"
)

// Incoming is a checkpoint on its way from another member. It belongs to one goroutine at a time. Breaking off and going on
// later, from Offset, is possible as long as the process lives. It ends with Finish or Abort.
type Incoming struct {
	s     *Store
	f     vfs.File
	info  Info
	off   int64
	ended bool
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

// Offset returns how many bytes are there, which is where to go on.
func (in *Incoming) Offset() int64 { return in.off }

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
		in.end()
	}
}

func (in *Incoming) end() {
	in.ended = true
	in.f.Close()
	in.s.receiving.Store(false)
}
