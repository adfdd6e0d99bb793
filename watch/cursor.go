package watch

import "github.com/coord-kv/coord/op"

// This file holds what a History does with its streams' cursors. Except for Subscribe, seek, advance and close, callers
// hold h.mu.

// Subscribe opens a stream of the events after the position from that the filter matches. The error is an *op.Error:
// bad_path; cluster_changed below the floor; future_zxid beyond the current position; history_gone, with Oldest, if not
// all that follows is kept; overloaded if too many streams are open.
func (h *History) Subscribe(f Filter, from op.Zxid) (*Stream, error) {
	if err := f.check(); err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.admit(from); err != nil {
		return nil, err
	}
	s := &Stream{h: h, filter: f, ready: make(chan struct{}, 1)}
	h.index.add(s)
	h.streams[f.Scope]++
	h.behind++
	h.moveTo(s, from+1)
	return s, nil
}

func (h *History) admit(from op.Zxid) error {
	open := h.streams[Exact] + h.streams[Children] + h.streams[Subtree]
	switch {
	case from < h.floor:
		return op.Errorf(op.ClusterChanged, "position %d is from before the restore that began at %d", from, h.floor)
	case from > h.current:
		return op.Errorf(op.FutureZxid, "position %d is ahead of this member, which is at %d", from, h.current)
	case from < h.chunks.oldest:
		return h.historyGone()
	case open >= h.limits.MaxStreams:
		return &op.Error{Code: op.Overloaded, Limit: int64(h.limits.MaxStreams), Have: int64(open) + 1}
	}
	return nil
}

func (h *History) historyGone() error {
	return &op.Error{Code: op.HistoryGone, Oldest: h.chunks.oldest}
}

// seek returns what the stream has to look at next, nil if it is caught up, and the position that it has reached.
func (h *History) seek(s *Stream) (*page, op.Zxid, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case s.closed:
		return nil, 0, ErrClosed
	case s.next == 0:
		return nil, h.current, nil
	case s.gone || s.next <= h.chunks.oldest:
		h.cutOff(s)
		return nil, s.next - 1, h.historyGone()
	case s.next >= h.packed.first:
		return &page{last: h.current, events: known(h.open)}, s.next - 1, nil
	}
	return h.page(h.chunks.covering(s.next)), s.next - 1, nil
}

// cutOff notes that the stream needs history that is not there.
func (h *History) cutOff(s *Stream) {
	if !s.gone {
		s.gone = true
		h.gone++
	}
}

// advance notes that the stream has delivered all before next that matches, and returns its position.
func (h *History) advance(s *Stream, next op.Zxid) op.Zxid {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case s.closed || s.gone:
	case next > h.current+1: // Replace went back behind what has been delivered
		h.cutOff(s)
	default:
		h.moveTo(s, next)
	}
	return next - 1
}

// moveTo places a stream that is behind: at next, or at the end if that is the end.
func (h *History) moveTo(s *Stream, next op.Zxid) {
	if next <= h.current {
		s.next = next
		s.signal()
		return
	}
	s.next = 0
	s.quiet()
	s.list.wait(s)
	h.behind--
}

func (h *History) close(s *Stream) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s.closed {
		return
	}
	s.closed = true
	close(s.ready)
	h.index.remove(s)
	h.streams[s.filter.Scope]--
	if s.next != 0 {
		h.behind--
	}
}

// replaced moves a stream from the history that ended at the zxid ended to the one that h has now.
func (h *History) replaced(s *Stream, ended op.Zxid) {
	if s.next == 0 {
		s.next = ended + 1
		s.list.rouse(s)
		h.behind++
	}
	if s.next > h.current+1 {
		h.cutOff(s)
		s.signal()
	}
	if !s.gone {
		h.moveTo(s, s.next)
	}
}
