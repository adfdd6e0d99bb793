// Package patience is for who waits for something on behalf of a request: no longer than the request lasts, and no longer
// than a limit.
//
// A context of the standard library with a timeout does that too, and takes longer to be made and ended than most reads
// take, because it is entered into its parent. A [Context] has no timer until somebody asks what ends it, and who waits by
// [Ends] waits for both ends by himself.
package patience

import (
	"context"
	"sync"
	"time"
)

// Context is a context that ends with its parent, or after a limit from when it was first waited for. It is safe for
// concurrent use.
type Context struct {
	parent context.Context
	limit  time.Duration

	first sync.Once
	until time.Time // set by first

	begin sync.Once
	timed context.Context // set by begin, as is stop
	stop  context.CancelFunc
}

var _ context.Context = (*Context)(nil)

// New returns a context that ends after limit at the latest. End must be called.
func New(parent context.Context, limit time.Duration) *Context {
	return &Context{parent: parent, limit: limit}
}

// Ends returns channels for a select, to wait until ctx ends: for one, or, if late isn't nil, for either. They are as good
// as ctx.Done() until its End.
func Ends(ctx context.Context) (done <-chan struct{}, late <-chan time.Time) {
	if c, ok := ctx.(*Context); ok {
		return c.parent.Done(), time.After(time.Until(c.end()))
	}
	return ctx.Done(), nil
}

// end returns when the limit is reached.
func (c *Context) end() time.Time {
	c.first.Do(func() { c.until = time.Now().Add(c.limit) })
	return c.until
}

func (c *Context) running() context.Context {
	c.begin.Do(func() { c.timed, c.stop = context.WithDeadline(c.parent, c.end()) })
	return c.timed
}

// over is what a wait that has ended before it began is.
var over = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// End ends it, and takes the timer back if there is one.
func (c *Context) End() {
	c.begin.Do(func() { c.timed, c.stop = over, func() {} })
	c.stop()
}

// Deadline returns when it ends.
func (c *Context) Deadline() (time.Time, bool) { return c.running().Deadline() }

// Done is closed when it ends.
func (c *Context) Done() <-chan struct{} { return c.running().Done() }

// Err says why it has ended; nil if it has not.
func (c *Context) Err() error { return c.running().Err() }

// Value returns what the parent has for key.
func (c *Context) Value(key any) any { return c.running().Value(key) }
