// Package barrier has three ways to wait for others: a Barrier, which somebody lifts; a Latch, which opens when enough has
// been counted; and a Double barrier, which lets a number of members begin together and end together.
//
// Guarantees: nobody who waits misses the moment, and nobody gets on before it. What is waited for has been so, in the
// order of all writes; it need not be so any more when the waiting ends.
//
// What it can't: make those who wait begin at the same instant. Each is told as soon as its member of the cluster knows.
package barrier

import (
	"context"
	"errors"

	"github.com/coord-kv/coord/internal/recipe"
	"github.com/coord-kv/coord/internal/recipe/follow"
	"github.com/coord-kv/coord/internal/recipe/group"
	"github.com/coord-kv/coord/op"
	"github.com/coord-kv/coord/watch"
)

// Where barriers and latches are. A double barrier is in a directory of its own.
const (
	Dir        = "/barriers"
	LatchesDir = "/latches"
	DoublesDir = "/double-barriers"
)

// Barrier is closed as long as its node is there. It may be used concurrently, by anybody; a session is not needed.
type Barrier struct {
	conn recipe.Conn
	path string
}

// New returns the barrier of that name, one segment of a path. The error is a bad_path.
func New(c recipe.Conn, name string) (*Barrier, error) {
	if err := group.CheckName(name); err != nil {
		return nil, err
	}
	return &Barrier{c, op.Join(Dir, name)}, nil
}

// Close closes the barrier. One that is closed already stays so.
func (b *Barrier) Close(ctx context.Context) error {
	_, err := b.conn.Do(ctx, &op.Create{Path: b.path, Parents: true})
	return unless(op.NodeExists, err)
}

// Lift lets everybody on who waits. One that isn't closed stays so.
func (b *Barrier) Lift(ctx context.Context) error {
	_, err := b.conn.Do(ctx, &op.Delete{Path: b.path, If: op.Always})
	return unless(op.NoNode, err)
}

// Closed reports whether the barrier is closed, and the position of the state that says so.
func (b *Barrier) Closed(ctx context.Context, o op.ReadOptions) (bool, op.Zxid, error) {
	res, err := b.conn.Read(ctx, &op.Exists{Path: b.path}, o)
	if err != nil {
		return false, 0, err
	}
	return res.Stat != nil, res.Zxid, nil
}

// Wait waits until the barrier is lifted, not at all if it isn't closed.
func (b *Barrier) Wait(ctx context.Context) error {
	_, err := follow.Until(ctx, b.conn, b.Filter(), b.Closed, func(closed bool) bool { return !closed })
	return err
}

// Filter matches every change of the barrier.
func (b *Barrier) Filter() watch.Filter { return watch.Filter{Path: b.path, Scope: watch.Exact} }

func unless(code op.Code, err error) error {
	if errors.Is(err, &op.Error{Code: code}) {
		return nil
	}
	return err
}
