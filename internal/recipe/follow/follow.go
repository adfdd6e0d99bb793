// Package follow reads a part of the tree and goes on from there: a value made of nodes, and the next one as soon as
// something has changed.
//
// What a Follower yields is never older than what it has yielded before, and the last change is always seen. What
// happened between two values may not be: somebody who needs every change in order watches the events themselves.
//
// What hurts: each change reads everything again, so a Follower is for parts of the tree that fit into one answer.
package follow

import (
	"context"
	"errors"

	"github.com/coord-kv/coord/internal/recipe"
	"github.com/coord-kv/coord/op"
	"github.com/coord-kv/coord/watch"
)

// Reader reads a value that is as fresh as o asks. It returns the zxid of the oldest state that it has read from: every
// change up to there is in the value.
type Reader[T any] func(ctx context.Context, o op.ReadOptions) (value T, at op.Zxid, err error)

// Follower is a value of the tree that is followed. One goroutine uses it at a time.
type Follower[T any] struct {
	conn   recipe.Conn
	filter watch.Filter
	read   Reader[T]
	seen   op.Zxid       // every change up to here has been yielded
	events recipe.Events // behind seen, or some way behind it; nil before the first value
}

// New returns a Follower of what read reads. The filter must match every change of it.
func New[T any](c recipe.Conn, f watch.Filter, read Reader[T]) *Follower[T] {
	return &Follower[T]{conn: c, filter: f, read: read}
}

// Since makes a Follower whose reader has seen everything up to the position at go on from there: its first value
// comes when something has changed. It must be called before Next.
func (f *Follower[T]) Since(at op.Zxid) *Follower[T] {
	f.seen = at
	return f
}

// Next returns the value as it is, and later each time what it has become, waiting for a change. The position is one to
// go on Since. If changes may have been missed, because history is gone, the value as it is comes at once. The error
// is ctx's, session_expired if the connection's session ended meanwhile, or the reader's.
func (f *Follower[T]) Next(ctx context.Context) (value T, at op.Zxid, err error) {
	ctx, cancel := during(ctx, f.conn)
	defer cancel()
	value, at, err = f.next(ctx)
	if lost := Lost(f.conn); err != nil && lost != nil {
		err = lost
	}
	return value, at, err
}

func (f *Follower[T]) next(ctx context.Context) (value T, at op.Zxid, err error) {
	if f.events == nil && f.seen == 0 {
		return f.begin(ctx)
	}
	pos, err := f.changed(ctx)
	switch {
	case errors.Is(err, &op.Error{Code: op.HistoryGone}):
		return f.begin(ctx)
	case err != nil:
		return value, 0, err
	}
	if value, at, err = f.read(ctx, op.ReadOptions{Level: op.Eventual, MinZxid: pos}); err == nil {
		f.seen = at
	}
	return value, at, err
}

// begin reads the value, and watches from there: whatever happens in between is in the history.
func (f *Follower[T]) begin(ctx context.Context) (value T, at op.Zxid, err error) {
	f.Close()
	if value, at, err = f.read(ctx, op.ReadOptions{Level: op.Linearizable}); err != nil {
		return value, 0, err
	}
	f.seen = at
	f.events, err = f.conn.Watch(ctx, f.filter, at)
	return value, at, err
}

// changed waits for a change that has not been yielded. The watch can be behind the value, which may be newer than the
// change for which it was read.
func (f *Follower[T]) changed(ctx context.Context) (op.Zxid, error) {
	if f.events == nil {
		var err error
		if f.events, err = f.conn.Watch(ctx, f.filter, f.seen); err != nil {
			f.events = nil
			return 0, err
		}
	}
	for {
		events, pos, err := f.events.Next(ctx)
		if err != nil {
			return 0, err
		}
		if n := len(events); n > 0 && events[n-1].Zxid > f.seen {
			return pos, nil
		}
	}
}

// Close ends the watch. The Follower may be used again: its next value is the one as it is then.
func (f *Follower[T]) Close() {
	if f.events != nil {
		f.events.Close()
	}
	f.events, f.seen = nil, 0
}

// Until follows the value until done says so, and returns it.
func Until[T any](ctx context.Context, c recipe.Conn, filter watch.Filter, read Reader[T], done func(T) bool) (T, error) {
	f := New(c, filter, read)
	defer f.Close()
	for {
		value, _, err := f.Next(ctx)
		if err != nil || done(value) {
			return value, err
		}
	}
}

// during returns a context that ends with ctx and with the connection's session.
func during(ctx context.Context, c recipe.Conn) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(c.Context(), cancel)
	return ctx, func() { stop(); cancel() }
}

// Lost returns a session_expired error if the connection's session is lost, or can't be proven alive; else nil.
func Lost(c recipe.Conn) error {
	if c.Context().Err() == nil {
		return nil
	}
	return &op.Error{
		Code: op.SessionExpired, Outcome: op.Decided,
		Detail: "the session ended, or can't be proven alive: " + context.Cause(c.Context()).Error(),
	}
}
