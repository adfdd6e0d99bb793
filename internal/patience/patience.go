package api

import (
	"context"
	"sync"
	"time"
)

// patience is a request's context that ends after a limit. What doesn't wait, as most reads, needs no timer, and to make
// one takes longer than such a read: it begins to run when somebody first asks for what ends it.
type patience struct {
	request context.Context
	limit   time.Duration

	begin sync.Once
	timed context.Context // set by begin, as is stop
	stop  context.CancelFunc
}

var _ context.Context = (*patience)(nil)

// over is what a wait that has ended before it began is.
var over = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

func (p *patience) running() context.Context {
	p.begin.Do(func() { p.timed, p.stop = context.WithTimeout(p.request, p.limit) })
	return p.timed
}

// end takes the timer back.
func (p *patience) end() {
	p.begin.Do(func() { p.timed, p.stop = over, func() {} })
	p.stop()
}

// Deadline returns when the wait ends.
func (p *patience) Deadline() (time.Time, bool) { return p.running().Deadline() }

// Done is closed when the wait ends.
func (p *patience) Done() <-chan struct{} { return p.running().Done() }

// Err says why the wait has ended.
func (p *patience) Err() error { return p.running().Err() }

// Value returns what the request has for key.
func (p *patience) Value(key any) any { return p.running().Value(key) }
