package barrier

import (
	"context"
	"errors"
	"fmt"

	"github.com/coord-kv/coord/coord"
	"github.com/coord-kv/coord/coord/internal/contest"
	"github.com/coord-kv/coord/coord/internal/following"
	"github.com/coord-kv/coord/internal/recipe/barrier"
	"github.com/coord-kv/coord/op"
)

// Via is a *coord.Client or a *coord.Session.
type Via = following.Via

// ErrNotSet is the error of counting down a latch that isn't there.
var ErrNotSet = coord.ErrNoNode

var linearizable = op.ReadOptions{Level: op.Linearizable}

// Barrier is a barrier that somebody closes and lifts. It belongs to nobody: it stays closed when whoever has closed it
// has gone. It is safe for concurrent use.
type Barrier struct {
	via Via
	b   *barrier.Barrier
	err error
}

// New returns the barrier of that name, one segment of a path. Whether it can be a name is checked when it is used.
func New(via Via, name string) *Barrier {
	b, err := barrier.New(via.Conn(), name)
	return &Barrier{via, b, err}
}

// Close closes the barrier. One that is closed already stays so.
func (b *Barrier) Close(ctx context.Context) error {
	return b.do(func() error { return b.b.Close(ctx) })
}

// Lift lets everybody on who waits. One that isn't closed stays so.
func (b *Barrier) Lift(ctx context.Context) error {
	return b.do(func() error { return b.b.Lift(ctx) })
}

// Closed reports whether the barrier is closed.
func (b *Barrier) Closed(ctx context.Context) (closed bool, err error) {
	err = b.do(func() error { closed, _, err = b.b.Closed(ctx, linearizable); return err })
	return closed, err
}

// Wait waits until the barrier is lifted; not at all if it isn't closed. The error is the context's, or why the Client or
// the Session has ended.
func (b *Barrier) Wait(ctx context.Context) error {
	return b.do(func() error { return following.Why(b.via.Conn(), b.b.Wait(ctx)) })
}

func (b *Barrier) do(f func() error) error {
	if b.err != nil {
		return b.err
	}
	return f()
}

// MaxCount is the most that a latch counts down from.
const MaxCount = barrier.MaxCount

// Latch opens when it has been counted down so often as it was set to, and stays open. It is safe for concurrent use.
type Latch struct {
	via Via
	l   *barrier.Latch
	err error
}

// NewLatch returns the latch of that name, one segment of a path. Whether it can be a name is checked when it is used.
func NewLatch(via Via, name string) *Latch {
	l, err := barrier.NewLatch(via.Conn(), name)
	return &Latch{via, l, err}
}

// Set makes the latch, to be counted down n times, 1 to MaxCount. One that is there with the same number stays as it is,
// so that all who take part may set it; with another number the error is coord.ErrNodeExists.
func (l *Latch) Set(ctx context.Context, n int) error {
	if l.err != nil {
		return l.err
	}
	return l.l.Set(ctx, int64(n))
}

// CountDown counts in the name of id, and returns how often the latch must be counted down yet. An id that has counted
// already changes nothing, nor does any once the latch is open. With "" each call counts; through a coord.Client one
// whose answer is lost may have counted. The error is ErrNotSet before Set.
func (l *Latch) CountDown(ctx context.Context, id string) (left int, err error) {
	if l.err != nil {
		return 0, l.err
	}
	c, err := l.l.CountDown(ctx, id)
	return int(c.Left()), err
}

// Left returns how often the latch must be counted down yet; 0 if it is open. The error is ErrNotSet before Set.
func (l *Latch) Left(ctx context.Context) (int, error) {
	if l.err != nil {
		return 0, l.err
	}
	c, err := l.l.Get(ctx, linearizable)
	return int(c.Left()), err
}

// Wait waits until the latch has been set and is open. The error is the context's, or why the Client or the Session has
// ended.
func (l *Latch) Wait(ctx context.Context) error {
	if l.err != nil {
		return l.err
	}
	return following.Why(l.via.Conn(), l.l.Wait(ctx))
}

// Delete removes the latch, so that it can be set again. The error is ErrNotSet if it isn't there.
func (l *Latch) Delete(ctx context.Context) error {
	if l.err != nil {
		return l.err
	}
	return l.l.Delete(ctx)
}

// ErrNotIn says that a session isn't in a double barrier, or not any more.
var ErrNotIn error = &coord.Error{Code: op.NotHolder}

// Double is a double barrier as one of its members sees it: a session is in it once. One goroutine uses it at a time.
type Double struct {
	s   *coord.Session
	d   *barrier.Double
	err error
}

// NewDouble returns the double barrier of that name, one segment of a path, for n members, at least 1. All must say the
// same n. Whether both can be is checked when it is entered.
func NewDouble(s *coord.Session, name string, n int) *Double {
	d, err := barrier.NewDouble(s.Conn(), name, n)
	return &Double{s, d, err}
}

// Enter waits until n members are there. If more come before anybody has begun they begin too; who comes while a round
// is under way waits for the next. If ctx ends before, the member isn't in any more when Enter returns, or goes with its
// session. The error is coord.ErrNodeExists if the session is in already.
func (d *Double) Enter(ctx context.Context) error {
	if d.err != nil {
		return d.err
	}
	return following.Why(d.s.Conn(), d.d.Enter(ctx))
}

// Leave waits until all members have left, or their sessions have ended. It must follow an Enter that has returned nil; a
// session that isn't in is ErrNotIn. If ctx ends before, the member has left all the same, once a member of the
// cluster could be asked.
func (d *Double) Leave(ctx context.Context) error {
	if d.err != nil {
		return d.err
	}
	return following.Why(d.s.Conn(), d.d.Leave(ctx))
}

// Do enters, calls f, and leaves. The context that f is given ends with ctx, and when the session is lost: then others may
// take it that this member has left. The error joins that of f and that of leaving.
func (d *Double) Do(ctx context.Context, f func(context.Context) error) (err error) {
	if err := d.Enter(ctx); err != nil {
		return err
	}
	within, cancel := contest.Within(ctx, d.s.Context())
	defer cancel()
	defer func() {
		if left := d.Leave(ctx); left != nil {
			err = errors.Join(err, fmt.Errorf("couldn't wait for the others at the end: %w", left))
		}
	}()
	return f(within)
}
