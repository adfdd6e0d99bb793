package vfs

import (
	"fmt"
	"io"
	"path"
	"sync/atomic"
)

// Kind names an operation of a file system or of a file.
type Kind string

// The kinds of operation, as traces show them.
const (
	OpCreate      Kind = "create"
	OpOpen        Kind = "open"
	OpRead        Kind = "read"
	OpWrite       Kind = "write"
	OpSync        Kind = "sync"
	OpTruncate    Kind = "truncate"
	OpPreallocate Kind = "preallocate"
	OpSize        Kind = "size"
	OpClose       Kind = "close"
	OpRename      Kind = "rename"
	OpRemove      Kind = "remove"
	OpList        Kind = "list"
	OpStat        Kind = "stat"
	OpMkdir       Kind = "mkdir"
	OpSyncDir     Kind = "syncdir"
	OpLock        Kind = "lock"
	OpFree        Kind = "free"
)

// Op is one operation that is about to happen.
type Op struct {
	Kind Kind
	Name string // the file or directory
	To   string // of a rename: the new name
	Off  int64  // of a read or write: where; of a truncate or preallocate: the size
	Len  int    // of a read or write: how many bytes
}

// String shows the operation with the last element of its names.
func (o Op) String() string {
	switch o.Kind {
	case OpRename:
		return fmt.Sprintf("%s %s %s", o.Kind, path.Base(o.Name), path.Base(o.To))
	case OpRead, OpWrite:
		return fmt.Sprintf("%s %s %d+%d", o.Kind, path.Base(o.Name), o.Off, o.Len)
	case OpTruncate, OpPreallocate:
		return fmt.Sprintf("%s %s %d", o.Kind, path.Base(o.Name), o.Off)
	default:
		return fmt.Sprintf("%s %s", o.Kind, path.Base(o.Name))
	}
}

// Changes reports whether the operation can change what a disk holds.
func (o Op) Changes() bool {
	switch o.Kind {
	case OpOpen, OpRead, OpSize, OpClose, OpList, OpStat, OpFree:
		return false
	}
	return true
}

// Fault is what becomes of one operation. The zero value lets it go on.
type Fault struct {
	Err   error // what the caller gets
	After bool  // the operation takes effect all the same
}

// Hook sees every operation before it takes effect, from whatever goroutine asks for it.
type Hook func(Op) Fault

// Nth returns a hook that applies the fault to the nth matching operation, counted from 1, and to no other.
func Nth(n int64, fault Fault, match func(Op) bool) Hook {
	var seen atomic.Int64
	return func(op Op) Fault {
		if match(op) && seen.Add(1) == n {
			return fault
		}
		return Fault{}
	}
}

// Hooked returns a file system that shows every operation to hook and then does what it says.
func Hooked(under FS, hook Hook) FS { return hooked{under, hook} }

type hooked struct {
	fs   FS
	hook Hook
}

func (h hooked) run(op Op, effect func() error) error {
	fault := h.hook(op)
	if fault.Err != nil && !fault.After {
		return fault.Err
	}
	err := effect()
	if fault.Err != nil {
		return fault.Err
	}
	return err
}

func (h hooked) open(op Op, effect func(string) (File, error)) (File, error) {
	var f File
	err := h.run(op, func() (err error) {
		f, err = effect(op.Name)
		return err
	})
	if err == nil {
		return hookedFile{h, op.Name, f}, nil
	}
	if f != nil {
		f.Close()
	}
	return nil, err
}

func (h hooked) Create(name string) (File, error) {
	return h.open(Op{Kind: OpCreate, Name: name}, h.fs.Create)
}

func (h hooked) Open(name string) (File, error) {
	return h.open(Op{Kind: OpOpen, Name: name}, h.fs.Open)
}

func (h hooked) Rename(from, to string) error {
	return h.run(Op{Kind: OpRename, Name: from, To: to}, func() error { return h.fs.Rename(from, to) })
}

func (h hooked) Remove(name string) error {
	return h.run(Op{Kind: OpRemove, Name: name}, func() error { return h.fs.Remove(name) })
}

func (h hooked) List(dir string) (infos []Info, err error) {
	err = h.run(Op{Kind: OpList, Name: dir}, func() (err error) {
		infos, err = h.fs.List(dir)
		return err
	})
	return infos, err
}

func (h hooked) Stat(name string) (info Info, err error) {
	err = h.run(Op{Kind: OpStat, Name: name}, func() (err error) {
		info, err = h.fs.Stat(name)
		return err
	})
	return info, err
}

func (h hooked) MkdirAll(dir string) error {
	return h.run(Op{Kind: OpMkdir, Name: dir}, func() error { return h.fs.MkdirAll(dir) })
}

func (h hooked) SyncDir(dir string) error {
	return h.run(Op{Kind: OpSyncDir, Name: dir}, func() error { return h.fs.SyncDir(dir) })
}

func (h hooked) Lock(name string) (io.Closer, error) {
	var l io.Closer
	err := h.run(Op{Kind: OpLock, Name: name}, func() (err error) {
		l, err = h.fs.Lock(name)
		return err
	})
	if err != nil && l != nil {
		l.Close()
		l = nil
	}
	return l, err
}

func (h hooked) Free(dir string) (n int64, err error) {
	err = h.run(Op{Kind: OpFree, Name: dir}, func() (err error) {
		n, err = h.fs.Free(dir)
		return err
	})
	return n, err
}

type hookedFile struct {
	h    hooked
	name string
	f    File
}

func (f hookedFile) run(op Op, effect func() error) error {
	op.Name = f.name
	return f.h.run(op, effect)
}

func (f hookedFile) ReadAt(p []byte, off int64) (n int, err error) {
	err = f.run(Op{Kind: OpRead, Off: off, Len: len(p)}, func() (err error) {
		n, err = f.f.ReadAt(p, off)
		return err
	})
	return n, err
}

func (f hookedFile) WriteAt(p []byte, off int64) (n int, err error) {
	err = f.run(Op{Kind: OpWrite, Off: off, Len: len(p)}, func() (err error) {
		n, err = f.f.WriteAt(p, off)
		return err
	})
	return n, err
}

// Sync that fails without effect leaves the bytes of a Mem's file as a failed sync on Linux does: readable, and not on the disk
// even after a later Sync, unless they are written anew.
func (f hookedFile) Sync() error {
	fault := f.h.hook(Op{Kind: OpSync, Name: f.name})
	if fault.Err == nil {
		return f.f.Sync()
	}
	if fault.After {
		_ = f.f.Sync()
	} else {
		f.failSync()
	}
	return fault.Err
}

func (f hookedFile) failSync() {
	if m, ok := f.f.(interface{ failSync() }); ok {
		m.failSync()
	}
}

func (f hookedFile) Truncate(size int64) error {
	return f.run(Op{Kind: OpTruncate, Off: size}, func() error { return f.f.Truncate(size) })
}

func (f hookedFile) Preallocate(size int64) error {
	return f.run(Op{Kind: OpPreallocate, Off: size}, func() error { return f.f.Preallocate(size) })
}

func (f hookedFile) Size() (n int64, err error) {
	err = f.run(Op{Kind: OpSize}, func() (err error) {
		n, err = f.f.Size()
		return err
	})
	return n, err
}

// Close never leaves the handle open, whatever the hook says: a fault here is a report that went wrong, not a handle that leaked.
func (f hookedFile) Close() error {
	fault := f.h.hook(Op{Kind: OpClose, Name: f.name})
	if err := f.f.Close(); fault.Err == nil {
		return err
	}
	return fault.Err
}
