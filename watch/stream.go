package watch

import (
	"context"
	"errors"
	"sort"

	"github.com/coord-kv/coord/op"
)

// ErrClosed is what a stream says after Close.
var ErrClosed = errors.New("the watch stream is closed")

const (
	// takeChunks bounds the work of one Take: chunks looked at, a megabyte at the usual size.
	takeChunks = 16
	// nextEvents is the number of events after which Next returns, at the end of a transaction.
	nextEvents = 1024
)

// Stream is a cursor into a History. One reader at a time may use it; Close may be called by anybody at any time.
type Stream struct {
	h      *History
	filter Filter
	ready  chan struct{}

	// Guarded by h.mu.

	onReady func() // called with each signal; nil for nobody

	// next is zero while the stream waits: nothing between what it has delivered and the end of the history matches.
	// Otherwise it is behind: everything before next has been delivered or does not match, and ready has been signalled.
	next   op.Zxid
	list   *list // in the index
	slot   int   // in list.streams
	gone   bool  // history it needed has been dropped
	closed bool
}

// Ready returns a channel that holds a signal while Take has something new to say: mostly matching events, in any case
// not merely a change that does not match. A signal may come for nothing. After Close the channel is closed.
func (s *Stream) Ready() <-chan struct{} { return s.ready }

// OnReady makes the stream call f whenever Ready is signalled, and now: for a reader of many streams, which can't wait
// for a channel of each. F is called with the history locked, by whoever publishes: it must neither block nor use a
// History or a Stream.
func (s *Stream) OnReady(f func()) {
	s.h.mu.Lock()
	defer s.h.mu.Unlock()
	s.onReady = f
	f()
}

// Take returns the next matching events and the position that it has reached with them: at least the zxid of the last
// one. It does not wait: no events means that there are none up to the position. It stops after maxEvents, but never
// within a transaction, so it can return more than that; if it stops before the end, or because it has looked at a lot
// of history that does not match, Ready is signalled again. The events are the caller's.
//
// The errors are an *op.Error with history_gone and Oldest, after which the stream only repeats it; ErrClosed; and that
// of the Archive if history could not be read back, which changes nothing, so Take may be called again.
func (s *Stream) Take(maxEvents int) (events []op.Event, pos op.Zxid, err error) {
	maxEvents = max(maxEvents, 1)
	for range takeChunks {
		seg, at, err := s.h.seek(s)
		pos = at
		if err != nil || seg == nil {
			return s.taken(events, pos, err)
		}
		all, err := seg.events()
		if err != nil {
			return s.taken(events, pos, s.h.unreadable(s, seg, err))
		}
		var next op.Zxid
		events, next = s.pick(events, all, pos+1, seg.last+1, maxEvents)
		pos = s.h.advance(s, next)
		if len(events) >= maxEvents {
			break
		}
	}
	return events, pos, nil
}

// taken reports an error only if nothing was found before it: else the next Take meets it again.
func (s *Stream) taken(events []op.Event, pos op.Zxid, err error) ([]op.Event, op.Zxid, error) {
	if len(events) > 0 {
		err = nil
	}
	return events, pos, err
}

// pick appends those of all, from the zxid from on, that match, until there are maxEvents and a transaction ends. It
// returns the zxid at which to continue: that of the first event not looked at, or end.
func (s *Stream) pick(got, all []op.Event, from, end op.Zxid, maxEvents int) ([]op.Event, op.Zxid) {
	first := sort.Search(len(all), func(i int) bool { return all[i].Zxid >= from })
	for i := first; i < len(all); i++ {
		if len(got) >= maxEvents && all[i].Zxid != all[i-1].Zxid {
			return got, all[i].Zxid
		}
		if s.filter.matches(&all[i]) {
			got = append(got, all[i])
		}
	}
	return got, end
}

// Next waits until Take has events or an error and returns that, or the error of ctx.
func (s *Stream) Next(ctx context.Context) ([]op.Event, op.Zxid, error) {
	for {
		events, pos, err := s.Take(nextEvents)
		if len(events) > 0 || err != nil {
			return events, pos, err
		}
		select {
		case <-s.ready:
		case <-ctx.Done():
			return nil, pos, ctx.Err()
		}
	}
}

// Close ends the stream and wakes its reader. Closing again does nothing.
func (s *Stream) Close() { s.h.close(s) }

// signal tells the reader. The caller holds h.mu, so a closed channel is not met.
func (s *Stream) signal() {
	select {
	case s.ready <- struct{}{}:
	default:
	}
	if s.onReady != nil {
		s.onReady()
	}
}

// quiet takes the signal back. The caller holds h.mu.
func (s *Stream) quiet() {
	select {
	case <-s.ready:
	default:
	}
}
