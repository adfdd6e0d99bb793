package coord

import (
	"context"
	"slices"

	"github.com/coord-kv/coord/internal/frame"
	"github.com/coord-kv/coord/op"
	"github.com/coord-kv/coord/watch"
)

// subscription is one watch, over all the connections that it takes. What arrives is buffered for its one reader.
// When the buffer is full, the watch is ended at the server and begun anew, at the position reached, once the reader
// has emptied the buffer: a slow reader holds up neither the connection nor other watches, and costs bounded memory.
type subscription struct {
	e *engine

	// Guarded by e.mu.
	id      uint64 // on this connection; 0 while it doesn't stand
	want    frame.Watch
	awaits  op.Op   // what the first event is to be answered with, which is all then; nil for a watch
	pos     op.Zxid // everything up to here has arrived; valid once placed
	placed  bool
	initial []op.Node // of the state that is arriving
	items   []item    // for the reader
	bytes   int       // that they hold, about
	paused  bool      // ended at the server because the buffer was full
	err     error     // after the items there is nothing but this

	ready chan struct{} // signalled when there are items or an error; has room for one
}

// item is one thing that a watch delivers: a state, whole transactions, a position alone, or the answer that was awaited.
type item struct {
	answer *answer
	pos    op.Zxid
	state  bool
	nodes  []op.Node
	events []frame.Event
}

const (
	// bufferBytes is what a watch buffers before it is paused.
	bufferBytes = 1 << 20
	// eventBytes is what an event takes besides its path and data.
	eventBytes = 96
)

func newSubscription(e *engine, want frame.Watch) *subscription {
	s := &subscription{e: e, want: want, ready: make(chan struct{}, 1)}
	if want.Start == frame.FromSince {
		s.pos, s.placed = want.Since, true
	}
	return s
}

// request returns the frame that begins the watch where it is.
func (s *subscription) request() frame.Frame {
	if s.awaits != nil {
		return &frame.Await{
			ID: s.id, Path: s.want.Path, Scope: s.want.Scope, Types: s.want.Types, Since: s.pos, Op: s.awaits,
		}
	}
	w := s.want
	w.ID = s.id
	if s.placed {
		w.Start, w.Since, w.Options = frame.FromSince, s.pos, op.ReadOptions{}
	}
	return &w
}

// detached says that the connection has broken: a state that was arriving is begun anew.
func (s *subscription) detached() { s.initial = nil }

func (s *subscription) watching(f *frame.Watching) {
	if !s.placed && s.want.Start == frame.FromNow {
		s.pos, s.placed = f.Pos, true
	}
}

func (s *subscription) state(f *frame.Initial) {
	for _, n := range f.Nodes {
		n.Data = slices.Clone(n.Data)
		s.initial = append(s.initial, n)
	}
	if f.More {
		return
	}
	s.pos, s.placed = f.Pos, true
	s.put(item{pos: f.Pos, state: true, nodes: s.initial})
	s.initial = nil
}

// answered takes what was awaited.
func (s *subscription) answered(a answer) { s.put(item{answer: &a}) }

// events takes transactions, and reports whether the buffer is full with them.
func (s *subscription) events(f *frame.Events) (full bool) {
	for i := range f.Events {
		ev := &f.Events[i]
		ev.Data = slices.Clone(ev.Data)
		s.bytes += eventBytes + len(ev.Path) + len(ev.Data)
	}
	s.pos = f.Pos
	s.put(item{pos: f.Pos, events: f.Events})
	return s.bytes > bufferBytes
}

// bookmark takes a position. If the last item is a position too, it is moved on, so that a reader that doesn't read
// costs nothing.
func (s *subscription) bookmark(pos op.Zxid) {
	s.pos = pos
	if n := len(s.items); n > 0 && s.items[n-1].events == nil && !s.items[n-1].state {
		s.items[n-1].pos = pos
		return
	}
	s.put(item{pos: pos})
}

func (s *subscription) put(it item) {
	s.items = append(s.items, it)
	s.signal()
}

func (s *subscription) fail(err error) {
	if s.err == nil {
		s.err = err
	}
	s.signal()
}

func (s *subscription) signal() {
	select {
	case s.ready <- struct{}{}:
	default:
	}
}

// next waits for the next item. The error is the context's, or why the watch has ended.
func (s *subscription) next(ctx context.Context) (item, error) {
	for {
		it, ok, err := s.e.takeItem(s)
		if ok || err != nil {
			return it, err
		}
		select {
		case <-s.ready:
		case <-ctx.Done():
			return item{}, ctx.Err()
		}
	}
}

// events is a subscription as recipes use it.
type events struct{ s *subscription }

// Next returns the next changes, whole transactions, and the position reached with them.
func (x events) Next(ctx context.Context) ([]op.Event, op.Zxid, error) {
	for {
		it, err := x.s.next(ctx)
		if err != nil {
			return nil, 0, err
		}
		if len(it.events) > 0 {
			all := make([]op.Event, len(it.events))
			for i := range all {
				all[i] = it.events[i].Event
			}
			return all, it.pos, nil
		}
	}
}

// Close ends the watch.
func (x events) Close() { x.s.e.unsubscribe(x.s) }

func watchOf(f watch.Filter) frame.Watch {
	return frame.Watch{Path: f.Path, Scope: f.Scope, Types: f.Types}
}
