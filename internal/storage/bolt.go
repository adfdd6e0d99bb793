package storage

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/coord-kv/coord/internal/vfs"
)

// boltManifest is a Manifest in a bbolt file.
//
// bbolt has checksums on its two meta pages only, panics or faults on some damage and returns wrong values on other. So every call
// into it runs guarded, and values carries checksums of its own over what bbolt returns.
type boltManifest struct {
	db   *bbolt.DB
	name string
}

var boltBucket = []byte("manifest")

const (
	// boltStep is by how much the file grows, and manifestRoom what must be free before a commit for it never to fail on that.
	boltStep     = 1 << 20
	manifestRoom = 2 * boltStep
	// boltMap is address space. bbolt's writer waits for readers when it must map anew; nothing here comes near this size.
	boltMap = 1 << 30
)

// OpenBolt opens the manifest of a directory on the real file system. It is a ManifestOpener.
func OpenBolt(dir string, create bool) (Manifest, error) {
	name := filepath.Join(dir, manifestName)
	err := checkMetas(name) // also because bbolt would make a new file of an empty one
	if errors.Is(err, fs.ErrNotExist) && create {
		return createBolt(dir, name)
	}
	if err != nil {
		return nil, err
	}
	return openBolt(name, 0)
}

// createBolt gives the file its name once it is complete and durable: one that a power loss cut short in the making can't be opened.
func createBolt(dir, name string) (Manifest, error) {
	temp := name + tempSuffix
	m, err := openBolt(temp, os.O_CREATE)
	if err != nil {
		return nil, err
	}
	err = m.db.Update(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucket(boltBucket)
		return err
	})
	if err := errors.Join(err, m.Close()); err != nil {
		return nil, fmt.Errorf("couldn't make %s: %w", temp, err)
	}
	if err := os.Rename(temp, name); err != nil {
		return nil, err
	}
	if err := vfs.OS().SyncDir(dir); err != nil {
		return nil, err
	}
	return openBolt(name, 0)
}

func openBolt(name string, flag int) (*boltManifest, error) {
	m := &boltManifest{name: name}
	var file *os.File
	err := m.guard(func() (err error) {
		m.db, err = bbolt.Open(name, 0o600, &bbolt.Options{
			Timeout:         time.Second,
			FreelistType:    bbolt.FreelistMapType,
			InitialMmapSize: boltMap,
			NoStatistics:    true,
			OpenFile: func(name string, given int, mode os.FileMode) (f *os.File, err error) {
				file, err = os.OpenFile(name, given&^os.O_CREATE|flag|syscall.O_NOFOLLOW, mode)
				return file, err
			},
		})
		return err
	})
	if err == nil {
		m.db.AllocSize = boltStep
		return m, nil
	}
	if file != nil {
		// After a panic nobody else does this, and what is mapped keeps the lock of a closed file.
		_ = syscall.Flock(int(file.Fd()), syscall.LOCK_UN)
		file.Close()
	}
	return nil, m.classify(err)
}

// classify tells damage of the file from the system's refusals.
func (m *boltManifest) classify(err error) error {
	var damage *CorruptError
	var sys syscall.Errno
	if errors.As(err, &damage) {
		return err
	}
	if errors.Is(err, bolterrors.ErrTimeout) {
		return &RefusedError{m.name, "another process has the file open", "end it; it may be a tool that looks into the file"}
	}
	if errors.As(err, &sys) || errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("couldn't open %s: %w", m.name, err)
	}
	return &CorruptError{m.name, -1, err.Error()}
}

// guard turns a panic, and a fault in mapped memory, into an error that says that the file is damaged.
func (m *boltManifest) guard(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = &CorruptError{m.name, -1, fmt.Sprintf("reading it failed: %v", p)}
		}
	}()
	return f()
}

func (m *boltManifest) view(f func(b *bbolt.Bucket) error) error {
	return m.guard(func() error {
		return m.db.View(func(tx *bbolt.Tx) error {
			b := tx.Bucket(boltBucket)
			if b == nil {
				return &CorruptError{m.name, -1, "its bucket is missing"}
			}
			return f(b)
		})
	})
}

func (m *boltManifest) Scan(prefix string, f func(string, []byte) error) error {
	return m.view(func(b *bbolt.Bucket) error {
		c := b.Cursor()
		for k, v := c.Seek([]byte(prefix)); k != nil && strings.HasPrefix(string(k), prefix); k, v = c.Next() {
			if err := f(string(k), v); err != nil {
				return err
			}
		}
		return nil
	})
}

func (m *boltManifest) Get(key string) (value []byte, err error) {
	err = m.view(func(b *bbolt.Bucket) error {
		value = bytes.Clone(b.Get([]byte(key)))
		return nil
	})
	return value, err
}

func (m *boltManifest) Commit(set map[string][]byte, drop []string) error {
	return m.guard(func() error {
		return m.db.Update(func(tx *bbolt.Tx) error {
			b := tx.Bucket(boltBucket)
			for _, key := range drop {
				if err := b.Delete([]byte(key)); err != nil {
					return err
				}
			}
			for _, key := range slices.Sorted(maps.Keys(set)) {
				if err := b.Put([]byte(key), set[key]); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

func (m *boltManifest) Size() int64 {
	info, err := os.Stat(m.name)
	if err != nil {
		return 0
	}
	return info.Size()
}

func (m *boltManifest) Close() error {
	return m.guard(m.db.Close)
}
