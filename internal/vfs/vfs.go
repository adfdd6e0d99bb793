package vfs

import (
	"errors"
	"io"
	"io/fs"
)

// SectorSize is the unit, in bytes, that a disk writes whole or not at all.
const SectorSize = 512

// ErrLocked is returned by FS.Lock when another process, or another holder in this one, has the lock.
var ErrLocked = errors.New("locked by another process")

// FS is a file system. Names are slash-separated paths. Errors match fs.ErrNotExist, fs.ErrExist, fs.ErrPermission and the
// syscall numbers (ENOSPC, EIO) under errors.Is. Its methods may be called from any goroutine.
type FS interface {
	// Create makes a new empty file of mode 0600 and opens it. A file that exists is an error (fs.ErrExist).
	Create(name string) (File, error)
	// Open opens an existing regular file for reading and writing. A symbolic link is not followed.
	Open(name string) (File, error)
	// Rename gives a file another name in the same directory and replaces what had it.
	Rename(from, to string) error
	// Remove takes away a file's name.
	Remove(name string) error
	// List returns what a directory holds, in order of name.
	List(dir string) ([]Info, error)
	// Stat describes a file or a directory. A symbolic link is described, not followed, unless it ends in a slash.
	Stat(name string) (Info, error)
	// MkdirAll makes a directory of mode 0700 and what is missing above it, durably. One that exists is left as it is.
	MkdirAll(dir string) error
	// SyncDir makes durable which names the directory holds.
	SyncDir(dir string) error
	// Lock creates the file if need be and locks it until the closer is called or the process ends. It never waits.
	Lock(name string) (io.Closer, error)
	// Free returns how many more bytes an unprivileged process can store in the directory's file system.
	Free(dir string) (int64, error)
}

// File is an open file. ReadAt and WriteAt may be called from several goroutines on ranges that don't overlap.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	// Sync makes the file's bytes and its size durable (fdatasync: times may be lost). It must not be called again once it failed.
	Sync() error
	// Truncate sets the size in bytes; what is added reads as zeros.
	Truncate(size int64) error
	// Preallocate makes the file at least size bytes long, reading as zeros, and takes the space for them now, so that
	// writing them later can't find the disk full.
	Preallocate(size int64) error
	// Size returns the size in bytes.
	Size() (int64, error)
}

// Info describes a file or a directory.
type Info struct {
	Name string // without its directory
	Size int64  // bytes
	Mode fs.FileMode
}
