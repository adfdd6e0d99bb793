package watch

import (
	"fmt"
	"slices"
	"sync"

	"github.com/coord-kv/coord/op"
)

// Archive gives back the packed form of chunks that were reported durable. It is asked on readers' goroutines, by
// several at once, and not for long for chunks that are no longer kept.
type Archive interface {
	Chunk(seq uint64) ([]byte, error)
}

// maxPages is how many unpacked chunks are held, so that streams that read the same part of the history share the work.
// An unpacked chunk takes about three times its packed size.
const maxPages = 8

// page is a part of the history as readers want it. Its events are got at the first call, once for all that share it.
type page struct {
	seq    uint64 // of the chunk; 0 for the open end
	last   op.Zxid
	events func() ([]op.Event, error)
}

func known(events []op.Event) func() ([]op.Event, error) {
	return func() ([]op.Event, error) { return events, nil }
}

// pages are those used last, the latest first.
type pages []*page

func (p *pages) put(add *page) {
	if len(*p) == maxPages {
		*p = (*p)[:maxPages-1]
	}
	*p = slices.Insert(*p, 0, add)
}

func (p *pages) get(seq uint64) *page {
	i := slices.IndexFunc(*p, func(one *page) bool { return one.seq == seq })
	if i < 0 {
		return nil
	}
	found := (*p)[i]
	copy((*p)[1:], (*p)[:i])
	(*p)[0] = found
	return found
}

func (p *pages) forget(bad *page) {
	*p = slices.DeleteFunc(*p, func(one *page) bool { return one == bad })
}

// page returns the chunk's page. The caller holds h.mu; getting the events needs no lock.
func (h *History) page(c Chunk) *page {
	if found := h.pages.get(c.Seq); found != nil {
		return found
	}
	fresh := &page{seq: c.Seq, last: c.Last, events: sync.OnceValues(func() ([]op.Event, error) { return h.read(c) })}
	h.pages.put(fresh)
	return fresh
}

func (h *History) read(c Chunk) ([]op.Event, error) {
	packed := c.Bytes
	if packed == nil {
		var err error
		if packed, err = h.archive.Chunk(c.Seq); err != nil {
			return nil, err
		}
	}
	got, events, err := unpack(packed)
	if err == nil && (got.First != c.First || got.Last != c.Last) {
		err = fmt.Errorf("it holds the events from %d to %d", got.First, got.Last)
	}
	return events, err
}

// unreadable returns what a stream says when its page could not be read: that history is gone, if the chunk was dropped
// meanwhile, or why. The page is forgotten, so that a later call tries again.
func (h *History) unreadable(s *Stream, p *page, why error) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.pages.forget(p)
	if s.gone || s.next <= h.chunks.oldest {
		h.cutOff(s)
		return h.historyGone()
	}
	return fmt.Errorf("couldn't read history chunk %d, up to %d: %w", p.seq, p.last, why)
}
