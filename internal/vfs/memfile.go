package vfs

import (
	"errors"
	"io"
	"io/fs"
	"path"
	"syscall"
)

// memFile is a handle on a file of a Mem.
type memFile struct {
	m      *Mem
	c      *content
	name   string
	life   int
	closed bool
}

// do runs f under the lock, unless the handle is closed or the machine has crashed since it was opened.
func (f *memFile) do(op string, run func() error) error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	err := error(fs.ErrClosed)
	if !f.closed && f.life == f.m.life {
		err = run()
	}
	if err != nil && err != io.EOF {
		return &fs.PathError{Op: op, Path: f.name, Err: err}
	}
	return err
}

func (f *memFile) ReadAt(p []byte, off int64) (n int, err error) {
	err = f.do("read", func() error {
		if off < 0 {
			return syscall.EINVAL
		}
		if n = f.c.readAt(p, off); n < len(p) {
			return io.EOF
		}
		return nil
	})
	return n, err
}

func (f *memFile) WriteAt(p []byte, off int64) (n int, err error) {
	err = f.do("write", func() error {
		if off < 0 {
			return syscall.EINVAL
		}
		if err := f.m.grow(f.c, off+int64(len(p))); err != nil {
			return err
		}
		f.c.writeAt(p, off)
		n = len(p)
		return nil
	})
	return n, err
}

func (f *memFile) Sync() error {
	return f.do("sync", func() error {
		f.c.sync()
		return nil
	})
}

// failSync lets a Hooked Sync fail as a disk's would.
func (f *memFile) failSync() {
	_ = f.do("sync", func() error {
		f.c.failSync()
		return nil
	})
}

func (f *memFile) Truncate(size int64) error {
	return f.do("truncate", func() error {
		if size < 0 {
			return syscall.EINVAL
		}
		if err := f.m.grow(f.c, size); err != nil {
			return err
		}
		f.c.truncate(size)
		return nil
	})
}

func (f *memFile) Preallocate(size int64) error {
	return f.do("preallocate", func() error {
		if size <= f.c.size {
			return nil
		}
		if err := f.m.grow(f.c, size); err != nil {
			return err
		}
		f.c.resize(size)
		return nil
	})
}

func (f *memFile) Size() (size int64, err error) {
	err = f.do("size", func() error {
		size = f.c.size
		return nil
	})
	return size, err
}

func (f *memFile) Close() error {
	return f.do("close", func() error {
		f.closed = true
		return nil
	})
}

// memLock is a held lock. It is compared by address, so it must not be of size zero.
type memLock struct {
	m    *Mem
	name string
}

// Lock implements FS.
func (m *Mem) Lock(name string) (io.Closer, error) {
	if f, err := m.Create(name); err == nil {
		f.Close()
	} else if !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	name = path.Clean(name)
	if m.locks[name] != nil {
		return nil, &fs.PathError{Op: "lock", Path: name, Err: ErrLocked}
	}
	l := &memLock{m: m, name: name}
	m.locks[name] = l
	return l, nil
}

func (l *memLock) Close() error {
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	if l.m.locks[l.name] == l {
		delete(l.m.locks, l.name)
	}
	return nil
}
