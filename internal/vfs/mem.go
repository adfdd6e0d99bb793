package vfs

import (
	"cmp"
	"errors"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
)

// Mem is a file system in memory. It serves members that need no disk, and tests, which crash it.
// It starts no goroutine, and what it does depends on its callers and on the rand.Rand given to Crash alone.
type Mem struct {
	mu      sync.Mutex
	names   map[string]*content // as a process sees them
	durable map[string]*content // as they are after a power loss that undoes all it can
	changes map[string][]change // by directory: what its next SyncDir makes durable, oldest first
	dirs    map[string]struct{} // directories are durable once made
	locks   map[string]*memLock // by name of the file
	limit   int64               // bytes that fit, when limited
	limited bool
	life    int // counts crashes; a handle of an earlier life is closed
}

// change is one change of a directory: drop loses its name, then add gets to name node. Either may be empty.
type change struct {
	drop, add string
	node      *content
}

func (c change) apply(names map[string]*content) {
	delete(names, c.drop)
	if c.add != "" {
		names[c.add] = c.node
	}
}

// unlimited is what Free returns when no limit is set.
const unlimited = 1 << 60

// NewMem returns an empty file system that holds the root directory and ".".
func NewMem() *Mem {
	return &Mem{
		names:   make(map[string]*content),
		durable: make(map[string]*content),
		changes: make(map[string][]change),
		dirs:    map[string]struct{}{"/": {}, ".": {}},
		locks:   make(map[string]*memLock),
	}
}

// Crash is a power loss: of what is not synced it keeps a random part, and every handle and lock is gone. The same
// operations and the same state of rng leave the same bytes.
func (m *Mem) Crash(rng *rand.Rand) {
	m.mu.Lock()
	defer m.mu.Unlock()
	choose := losses(rng)
	for _, dir := range slices.Sorted(maps.Keys(m.changes)) {
		for _, c := range m.changes[dir] {
			if choose(2) == 1 {
				c.apply(m.durable)
			}
		}
	}
	clear(m.changes)
	m.names = maps.Clone(m.durable)
	for _, name := range slices.Sorted(maps.Keys(m.names)) {
		m.names[name].crash(choose)
	}
	m.die()
}

// Kill is the end of the process, not of the machine: everything written stays, every handle and lock is gone.
func (m *Mem) Kill() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.die()
}

func (m *Mem) die() {
	m.life++
	clear(m.locks)
}

// Flip changes the bits of mask in one byte, as a decaying disk does: nothing notices, and the change is durable.
func (m *Mem) Flip(name string, off int64, mask byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	c, err := m.file("flip", name)
	if err != nil {
		return err
	}
	var b [1]byte
	if off < 0 || c.readAt(b[:], off) == 0 {
		return &fs.PathError{Op: "flip", Path: name, Err: io.EOF}
	}
	b[0] ^= mask
	c.put(b[:], off)
	return nil
}

// SetFree makes room for n more bytes, counting every file by its size. A negative n takes the limit away.
func (m *Mem) SetFree(n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.limited, m.limit = n >= 0, m.used()+n
}

func (m *Mem) used() (n int64) {
	for _, c := range m.names {
		n += c.size
	}
	return n
}

// grow refuses to make a file longer than the space allows.
func (m *Mem) grow(c *content, size int64) error {
	if m.limited && size > c.size && m.used()+size-c.size > m.limit {
		return syscall.ENOSPC
	}
	return nil
}

func (m *Mem) file(op, name string) (*content, error) {
	if c, ok := m.names[path.Clean(name)]; ok {
		return c, nil
	}
	err := error(fs.ErrNotExist)
	if _, ok := m.dirs[path.Clean(name)]; ok {
		err = syscall.EISDIR
	}
	return nil, &fs.PathError{Op: op, Path: name, Err: err}
}

func (m *Mem) dir(op, name string) error {
	if _, ok := m.dirs[path.Clean(name)]; !ok {
		return &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
	}
	return nil
}

func (m *Mem) change(c change) {
	dir := path.Dir(cmp.Or(c.add, c.drop))
	c.apply(m.names)
	m.changes[dir] = append(m.changes[dir], c)
}

// Create implements FS.
func (m *Mem) Create(name string) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.dir("create", path.Dir(name)); err != nil {
		return nil, err
	}
	if _, err := m.file("create", name); !errors.Is(err, fs.ErrNotExist) {
		return nil, &fs.PathError{Op: "create", Path: name, Err: fs.ErrExist}
	}
	c := new(content)
	m.change(change{add: path.Clean(name), node: c})
	return &memFile{m: m, c: c, name: name, life: m.life}, nil
}

// Open implements FS.
func (m *Mem) Open(name string) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c, err := m.file("open", name)
	if err != nil {
		return nil, err
	}
	return &memFile{m: m, c: c, name: name, life: m.life}, nil
}

// Rename implements FS.
func (m *Mem) Rename(from, to string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	c, err := m.file("rename", from)
	if err != nil {
		return err
	}
	from, to = path.Clean(from), path.Clean(to)
	if path.Dir(from) != path.Dir(to) {
		return &fs.PathError{Op: "rename", Path: to, Err: syscall.EXDEV}
	}
	m.change(change{drop: from, add: to, node: c})
	return nil
}

// Remove implements FS.
func (m *Mem) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, err := m.file("remove", name); err != nil {
		return err
	}
	m.change(change{drop: path.Clean(name)})
	return nil
}

// List implements FS.
func (m *Mem) List(dir string) ([]Info, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.dir("list", dir); err != nil {
		return nil, err
	}
	dir = path.Clean(dir)
	var infos []Info
	for name, c := range m.names {
		if path.Dir(name) == dir {
			infos = append(infos, fileInfo(name, c))
		}
	}
	for name := range m.dirs {
		if path.Dir(name) == dir && name != dir {
			infos = append(infos, dirInfo(name))
		}
	}
	slices.SortFunc(infos, func(a, b Info) int { return strings.Compare(a.Name, b.Name) })
	return infos, nil
}

// Stat implements FS.
func (m *Mem) Stat(name string) (Info, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dir("stat", name) == nil {
		return dirInfo(name), nil
	}
	c, err := m.file("stat", name)
	if err != nil {
		return Info{}, err
	}
	return fileInfo(name, c), nil
}

func fileInfo(name string, c *content) Info {
	return Info{Name: path.Base(name), Size: c.size, Mode: 0o600}
}

func dirInfo(name string) Info { return Info{Name: path.Base(name), Mode: fs.ModeDir | 0o700} }

// MkdirAll implements FS.
func (m *Mem) MkdirAll(dir string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for dir = path.Clean(dir); m.dir("mkdir", dir) != nil; dir = path.Dir(dir) {
		if _, ok := m.names[dir]; ok {
			return &fs.PathError{Op: "mkdir", Path: dir, Err: syscall.ENOTDIR}
		}
		m.dirs[dir] = struct{}{}
	}
	return nil
}

// SyncDir implements FS.
func (m *Mem) SyncDir(dir string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.dir("syncdir", dir); err != nil {
		return err
	}
	dir = path.Clean(dir)
	for _, c := range m.changes[dir] {
		c.apply(m.durable)
	}
	delete(m.changes, dir)
	return nil
}

// Free implements FS.
func (m *Mem) Free(dir string) (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.dir("free", dir); err != nil {
		return 0, err
	}
	if !m.limited {
		return unlimited, nil
	}
	return max(0, m.limit-m.used()), nil
}
