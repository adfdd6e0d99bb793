package fence

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coord-kv/coord/coord"
	"github.com/coord-kv/coord/internal/recipe"
	"github.com/coord-kv/coord/op"
)

// Store remembers the highest token that a resource was used with.
type Store interface {
	// Pass accepts a token that is not lower than any before, and has remembered it when it returns nil. A lower one is
	// refused with coord.ErrStaleToken. It may be called concurrently, and again with the same token.
	Pass(ctx context.Context, token coord.Zxid) error
}

func stale(token, highest coord.Zxid) error {
	return &coord.Error{
		Code: op.StaleToken, Outcome: op.Decided, Detail: fmt.Sprintf("token %d is stale: %d has been here", token, highest),
	}
}

// Via is a *coord.Client or a *coord.Session.
type Via interface{ Conn() recipe.Conn }

// Register is the fence register of a resource, which the service keeps: that of /v1/fence/{resource} in HTTP. All who
// guard the same resource share it. It is safe for concurrent use.
type Register struct {
	via      Via
	resource string
}

// NewRegister returns the register of a resource. The name is one segment of a path, under /fences, or a path with a
// slash in front. It is made when the first token is shown to it.
func NewRegister(via Via, resource string) *Register { return &Register{via, resource} }

// Pass implements Store. Each attempt is decided by the state machine.
func (r *Register) Pass(ctx context.Context, token coord.Zxid) error {
	_, err := recipe.Pass(ctx, r.via.Conn(), r.resource, token)
	return err
}

// Highest returns the highest token that the register has seen, and when it saw it first, by the cluster's clock. The
// error is coord.ErrNoNode if it has seen none yet.
func (r *Register) Highest(ctx context.Context) (coord.Zxid, time.Time, error) {
	f, err := recipe.ReadFence(ctx, r.via.Conn(), r.resource)
	if err != nil {
		return 0, time.Time{}, err
	}
	return f.Token, f.Since.Std(), nil
}

// Memory is a Store that lives as long as the process: good for a resource that does too. Its zero value has seen no
// token. It is safe for concurrent use.
type Memory struct {
	mu      sync.Mutex
	highest coord.Zxid
}

// Pass implements Store.
func (m *Memory) Pass(_ context.Context, token coord.Zxid) error {
	return m.pass(token, func() error { return nil })
}

// pass takes a token once it is saved, if it is higher.
func (m *Memory) pass(token coord.Zxid, save func() error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case token < m.highest:
		return stale(token, m.highest)
	case token == m.highest:
		return nil
	}
	if err := save(); err != nil {
		return err
	}
	m.highest = token
	return nil
}

// File is a Store in a file, for a resource of one process on one machine. It is safe for concurrent use; no other File
// may use the same path.
type File struct {
	memory Memory
	path   string
}

// OpenFile returns the Store in a file, which need not exist yet; its directory must.
func OpenFile(path string) (*File, error) {
	f := &File{path: path}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		_, err = os.Stat(filepath.Dir(path))
		return f, err
	}
	if err != nil {
		return nil, err
	}
	if f.memory.highest.UnmarshalText([]byte(strings.TrimSpace(string(data)))) != nil {
		return nil, fmt.Errorf("%s is no fence: it holds no token; move it away if it is something else", path)
	}
	return f, nil
}

// Pass implements Store. A new token is on disk when it returns.
func (f *File) Pass(_ context.Context, token coord.Zxid) error {
	return f.memory.pass(token, func() error { return f.save(token) })
}

// save replaces the file, so that a crash leaves the old one or the new one.
func (f *File) save(token coord.Zxid) error {
	next := f.path + ".new"
	file, err := os.Create(next)
	if err != nil {
		return err
	}
	_, err = file.WriteString(strconv.FormatUint(uint64(token), 10) + "\n")
	err = errors.Join(err, file.Sync(), file.Close())
	if err != nil {
		return err
	}
	if err := os.Rename(next, f.path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(f.path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
