// Package counter has numbers that many change: quotas that are handed out, visits, numbers of jobs that run.
//
//	seats := counter.New(session, "seats")
//	left, err := seats.AddWithin(ctx, -1, 0, 100)
//
// # Guarantees
//
//   - Each Add takes effect once, or not at all if its error says so; none is lost, whoever else adds. Through a
//     coord.Session that holds whatever happens to connections and members. Through a coord.Client, an Add whose answer
//     is lost returns coord.ErrOutcomeUnknown, and may have been done.
//   - No AddWithin leads out of the bounds that it names.
//   - Get is linearizable: it sees every change that was acknowledged before.
//
// # What hurts
//
// Each change is based on the one before, so those who meet try again: the service gets on by one change per round trip,
// some hundred in a second, however many add. Count what is more frequent in the program, and add it now and then.
//
// The same counters are there for curl under /v1/counters and for the shell as coord counter.
package counter

import (
	"context"
	"iter"

	"github.com/coord-kv/coord/coord"
	"github.com/coord-kv/coord/coord/internal/following"
	"github.com/coord-kv/coord/internal/recipe/counter"
	"github.com/coord-kv/coord/op"
)

// Limit is the highest value; the lowest is -Limit. It is 2^53-1, which JavaScript holds exactly.
const Limit = counter.Limit

// ErrOutOfBounds is the error when a change would lead out of the bounds, or beyond Limit. Nothing has changed then.
var ErrOutOfBounds = coord.ErrPreconditionFailed

// Via is a *coord.Client or a *coord.Session.
type Via = following.Via

// Counter is a counter. It needs no closing, and is safe for concurrent use.
type Counter struct {
	via Via
	c   *counter.Counter
	err error
}

// New returns the counter of that name, one segment of a path. One that nobody has changed is 0. Whether it can be a
// name is checked when it is used.
func New(via Via, name string) *Counter {
	c, err := counter.New(via.Conn(), name)
	return &Counter{via, c, err}
}

// Get returns the value.
func (c *Counter) Get(ctx context.Context) (int64, error) {
	return c.do(func() (counter.Value, error) { return c.c.Get(ctx, op.ReadOptions{Level: op.Linearizable}) })
}

// Add adds delta, which may be negative, and returns the value to which that has led.
func (c *Counter) Add(ctx context.Context, delta int64) (int64, error) {
	return c.AddWithin(ctx, delta, -Limit, Limit)
}

// AddWithin adds delta unless that would lead below low or above high; then the error is ErrOutOfBounds.
func (c *Counter) AddWithin(ctx context.Context, delta, low, high int64) (int64, error) {
	return c.do(func() (counter.Value, error) { return c.c.Add(ctx, delta, counter.Bounds{Min: low, Max: high}) })
}

// Set makes the value n, whatever it was.
func (c *Counter) Set(ctx context.Context, n int64) error {
	_, err := c.do(func() (counter.Value, error) { return c.c.Set(ctx, n) })
	return err
}

func (c *Counter) do(f func() (counter.Value, error)) (int64, error) {
	if c.err != nil {
		return 0, c.err
	}
	v, err := f()
	return v.N, err
}

// Delete removes the counter, which is 0 then. The error is coord.ErrNoNode if nobody has changed it yet.
func (c *Counter) Delete(ctx context.Context) error {
	if c.err != nil {
		return c.err
	}
	return c.c.Delete(ctx)
}

// Watch yields the value as it is, and again when it has changed; of several changes at once perhaps the last alone. It
// ends when the loop ends, or with an error: the context's, or why the Client or the Session has ended.
func (c *Counter) Watch(ctx context.Context) iter.Seq2[int64, error] {
	if c.err != nil {
		return following.None[int64](c.err)
	}
	return following.Seq(ctx, c.via.Conn(), c.c.Watch(), func(v counter.Value) int64 { return v.N })
}
