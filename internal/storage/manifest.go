package storage

import (
	"bytes"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"
)

// Manifest keeps the few values that say which files count. Commit is all or nothing, and durable when it returns.
// Scan and Get may run beside each other and beside a Commit, of which they see all or nothing.
type Manifest interface {
	// Scan calls f with each key that begins with prefix, in order, and its value, which is valid during the call only.
	Scan(prefix string, f func(key string, value []byte) error) error
	// Get returns a copy of a key's value, nil if there is none.
	Get(key string) ([]byte, error)
	// Commit sets and drops values together. After an error nothing is known about either.
	Commit(set map[string][]byte, drop []string) error
	// Size returns the bytes taken on disk.
	Size() int64
	Close() error
}

// ManifestOpener opens the manifest of a data directory. If there is none it makes one if create is set, and otherwise returns
// fs.ErrNotExist.
type ManifestOpener func(dir string, create bool) (Manifest, error)

// MemManifest is a Manifest in memory, for members without a disk and for tests. Closing leaves its values, so that it
// stands for a disk that survives a crash. Its Open method is a ManifestOpener.
type MemManifest struct {
	mu     sync.Mutex
	made   bool
	values map[string][]byte
}

// NewMemManifest returns a manifest that doesn't exist yet.
func NewMemManifest() *MemManifest { return &MemManifest{values: make(map[string][]byte)} }

// Open returns the manifest itself.
func (m *MemManifest) Open(dir string, create bool) (Manifest, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.made && !create {
		return nil, fmt.Errorf("%s/%s: %w", dir, manifestName, fs.ErrNotExist)
	}
	m.made = true
	return m, nil
}

// Scan implements Manifest.
func (m *MemManifest) Scan(prefix string, f func(string, []byte) error) error {
	m.mu.Lock()
	values := maps.Clone(m.values) // a value is replaced, never changed
	m.mu.Unlock()
	for _, key := range slices.Sorted(maps.Keys(values)) {
		if strings.HasPrefix(key, prefix) {
			if err := f(key, values[key]); err != nil {
				return err
			}
		}
	}
	return nil
}

// Get implements Manifest.
func (m *MemManifest) Get(key string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return bytes.Clone(m.values[key]), nil
}

// Commit implements Manifest.
func (m *MemManifest) Commit(set map[string][]byte, drop []string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, key := range drop {
		delete(m.values, key)
	}
	for key, value := range set {
		m.values[key] = bytes.Clone(value)
	}
	return nil
}

// Size implements Manifest.
func (m *MemManifest) Size() (n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for key, value := range m.values {
		n += int64(len(key) + len(value))
	}
	return n
}

// Close implements Manifest.
func (m *MemManifest) Close() error { return nil }
