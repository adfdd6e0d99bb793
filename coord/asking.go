package coord

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/coord-kv/coord/internal/frame"
	"github.com/coord-kv/coord/op"
)

// How callers ask an engine, and wait.

// join waits for the first connection.
func (e *engine) join(ctx context.Context) error {
	e.want(1)
	defer e.want(-1)
	select {
	case <-e.joined:
		return nil
	case <-e.life.Done():
		return context.Cause(e.life)
	case <-ctx.Done():
		e.mu.Lock()
		defer e.mu.Unlock()
		return interrupt("", false, context.Cause(ctx), e.trouble)
	}
}

func (e *engine) want(n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.demand += n
	e.signal()
}

// do has a call answered.
func (e *engine) do(ctx context.Context, c *call) answer {
	began := time.Now()
	a := e.await(ctx, c)
	e.cfg.counters.count(c.o.Verb(), a.err, time.Since(began))
	if err, ok := errors.AsType[*Error](a.err); ok {
		err.Path = cmp.Or(err.Path, pathOf(c.o))
	}
	return a
}

func (e *engine) await(ctx context.Context, c *call) answer {
	c.done = make(chan answer, 1)
	if err := e.submit(ctx, c); err != nil {
		return answer{err: err}
	}
	select {
	case a := <-c.done:
		return a
	case <-ctx.Done():
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	select {
	case a := <-c.done:
		return a
	default:
		return answer{err: interrupt("", e.p.abandon(c), context.Cause(ctx), e.trouble)}
	}
}

func (e *engine) submit(ctx context.Context, c *call) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case ctx.Err() != nil:
		return interrupt("", false, context.Cause(ctx), nil)
	case e.ended != nil:
		return interrupt("", false, e.ended, nil)
	case e.p.bye != nil:
		return interrupt("", false, ErrClosed, nil)
	}
	if c.read != nil && c.read.Level == op.Sequential {
		c.read.MinZxid = max(c.read.MinZxid, e.seen)
	}
	e.p.add(c)
	e.signal()
	return nil
}

// leave ends the session at the service, once everything that was asked for is answered.
func (e *engine) leave(ctx context.Context) error {
	e.mu.Lock()
	if e.ended != nil {
		e.mu.Unlock()
		return nil
	}
	if e.p.bye == nil {
		e.p.bye = &call{done: make(chan answer, 1)}
		e.signal()
	}
	bye := e.p.bye
	e.mu.Unlock()
	select {
	case a := <-bye.done:
		return a.err
	case <-e.life.Done():
		return nil
	case <-ctx.Done():
		return interrupt("", true, context.Cause(ctx), nil)
	}
}

// position returns the newest position that an answer or an event has shown.
func (e *engine) position() op.Zxid {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.seen
}

// subscribe begins a watch.
func (e *engine) subscribe(want frame.Watch) *subscription { return e.subscribeTo(want, nil) }

// subscribeTo begins a watch that ends with the answer to o once it has something to tell; without o, a watch.
func (e *engine) subscribeTo(want frame.Watch, o op.Op) *subscription {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := newSubscription(e, want)
	s.awaits = o
	if e.ended != nil {
		s.fail(interrupt(want.Path, false, e.ended, nil))
		return s
	}
	e.p.waiting = append(e.p.waiting, s)
	e.signal()
	return s
}

func (e *engine) unsubscribe(s *subscription) {
	e.mu.Lock()
	defer e.mu.Unlock()
	s.fail(ErrClosed)
	e.dropWatch(s)
}

// takeItem returns the next item of a watch, if there is one, and otherwise the error that has ended it, if one has.
func (e *engine) takeItem(s *subscription) (it item, ok bool, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(s.items) == 0 {
		s.resume()
		return item{}, false, s.err
	}
	it = s.items[0]
	s.items[0] = item{}
	if s.items = s.items[1:]; len(s.items) == 0 {
		s.items = nil
		s.resume()
	}
	return it, true, nil
}

// resume begins a paused watch again. The caller holds e.mu.
func (s *subscription) resume() {
	s.bytes = 0
	if s.paused && s.err == nil {
		s.paused = false
		s.e.p.waiting = append(s.e.p.waiting, s)
		s.e.signal()
	}
}

// pathOf returns the path that an operation is about, "" if it is about several or none.
func pathOf(o op.Op) string {
	switch x := o.(type) {
	case *op.Create:
		return x.Path
	case *op.Set:
		return x.Path
	case *op.Delete:
		return x.Path
	case *op.SetACL:
		return x.Path
	case *op.Get:
		return x.Path
	case *op.Exists:
		return x.Path
	case *op.Children:
		return x.Path
	case *op.Subtree:
		return x.Path
	case *op.GetACL:
		return x.Path
	case *op.Rank:
		return x.Path
	}
	return ""
}
