package storage

import (
	"errors"
	"fmt"
	"sync/atomic"
	"syscall"
)

// ErrDisk marks an error after which nothing is known about what the disk holds. The store that returned it returns it for ever;
// the process ends, and the next one reads from the disk what is there. Nothing is retried.
var ErrDisk = errors.New("the disk failed")

// ErrNoSpace marks an error that left the directory as it was because the file system is full. The same call may be made again.
var ErrNoSpace = errors.New("no space left in the data directory")

// ErrClosed is returned by a store after Close.
var ErrClosed = errors.New("the data directory is closed")

// ErrUnreachable is returned for a checkpoint that can't become current because the log doesn't go on from it.
var ErrUnreachable = errors.New("the log doesn't reach the checkpoint")

// CorruptError says that a file doesn't hold what was written to it, at a place where that can't be the trace of a power loss.
type CorruptError struct {
	File   string // path
	Offset int64  // of the damaged thing in bytes from the start; negative when unknown
	Reason string
}

func (e *CorruptError) Error() string {
	if e.Offset < 0 {
		return fmt.Sprintf("%s is damaged: %s", e.File, e.Reason)
	}
	return fmt.Sprintf("%s is damaged at byte %d: %s", e.File, e.Offset, e.Reason)
}

// RefusedError says why a directory isn't used, though nothing in it is damaged.
type RefusedError struct {
	Path    string
	Problem string
	Remedy  string // what to do next
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("%s: %s; %s", e.Path, e.Problem, e.Remedy)
}

// latch keeps the first fatal error. Every part of a store checks it first, so that no write follows a failed one.
type latch struct{ err atomic.Pointer[error] }

func (l *latch) check() error {
	if err := l.err.Load(); err != nil {
		return *err
	}
	return nil
}

// fatal returns err marked with ErrDisk, or the fatal error that came before it.
func (l *latch) fatal(err error) error {
	err = fmt.Errorf("%w: %w", ErrDisk, err)
	l.err.CompareAndSwap(nil, &err)
	return *l.err.Load()
}

func (l *latch) close() { l.err.CompareAndSwap(nil, &closed) }

var closed = ErrClosed

// judge tells a full file system, found before anything counted on the space, from all else, which is fatal.
func (l *latch) judge(err error) error {
	if isFull(err) {
		return fmt.Errorf("%w: %w", ErrNoSpace, err)
	}
	return l.fatal(err)
}

// errSync marks the errors of a sync, which are fatal whatever their number says.
var errSync = errors.New("sync failed")

func syncFailed(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", errSync, err)
}

func isFull(err error) bool {
	return (errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)) && !errors.Is(err, errSync)
}
