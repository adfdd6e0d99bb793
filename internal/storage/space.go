package storage

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/coord-kv/coord/internal/vfs"
)

// Free returns how many more bytes fit on the directory's file system, without those that are reserved.
func (s *Store) Free() (int64, error) {
	n, err := s.fs.Free(s.dir)
	if err != nil {
		return 0, fmt.Errorf("couldn't ask for the free space: %w", err)
	}
	return n, nil
}

// Reserve sets bytes aside in a file, for the log and the manifest to go on when the file system is full. It replaces what was
// reserved before. ErrNoSpace leaves nothing reserved.
func (s *Store) Reserve(bytes int64) error {
	if err := s.check(); err != nil {
		return err
	}
	if s.reserved.Load() > 0 {
		if err := s.ReleaseReserve(); err != nil {
			return err
		}
	}
	name := s.path(reserveName)
	err := createFile(s.fs, name, func(f vfs.File) error {
		if err := f.Preallocate(bytes); err != nil {
			return err
		}
		return syncFailed(f.Sync())
	})
	if err != nil {
		return s.judge(fmt.Errorf("couldn't reserve %d bytes: %w", bytes, err))
	}
	s.reserved.Store(bytes)
	return nil
}

// Reserved returns how many bytes are set aside.
func (s *Store) Reserved() int64 { return s.reserved.Load() }

// ReleaseReserve gives the space back.
func (s *Store) ReleaseReserve() error {
	if err := s.fs.Remove(s.path(reserveName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("couldn't release the reserved space: %w", err)
	}
	s.reserved.Store(0)
	return nil
}

// releaseReserve reports whether there was something to release.
func (s *Store) releaseReserve() bool {
	n := s.reserved.Load()
	if n == 0 || s.ReleaseReserve() != nil {
		return false
	}
	s.log.Warn("the file system is full: the reserved space is in use now", "bytes", n)
	return true
}

// room makes sure that bytes are free, before a step that must not fail for lack of them.
func (s *Store) room(bytes int64) error {
	if err := s.check(); err != nil {
		return err
	}
	free, err := s.Free()
	if err == nil && free < bytes && s.releaseReserve() {
		free, err = s.Free()
	}
	if err == nil && free < bytes {
		err = fmt.Errorf("%w: %d bytes are free, %d are needed", ErrNoSpace, free, bytes)
	}
	return err
}
