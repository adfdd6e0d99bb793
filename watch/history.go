package watch

import (
	"sync"

	"github.com/coord-kv/coord/op"
)

// DefaultMemoryBytes is how much of a History is in memory unless told otherwise.
const DefaultMemoryBytes = 16 << 20

// Limits bound a History. A field that is zero has the default value.
type Limits struct {
	MemoryBytes int // of packed events in memory; DefaultMemoryBytes. Twice that while chunks wait to become durable.
	ChunkBytes  int // after which a chunk is closed, at the end of a transaction; 64 KiB
	TotalBytes  int // of all chunks, in memory or not; 256 MiB
	MaxStreams  int // open at once; 1,000,000
}

func (l Limits) withDefaults() Limits {
	def := func(v *int, value int) {
		if *v == 0 {
			*v = value
		}
	}
	def(&l.MemoryBytes, DefaultMemoryBytes)
	def(&l.ChunkBytes, 64<<10)
	def(&l.TotalBytes, 256<<20)
	def(&l.MaxStreams, 1_000_000)
	return l
}

// History is the last part of a member's events. Publish, Cut and Replace belong to one publisher; everything else is
// safe for concurrent use by anybody.
type History struct {
	limits  Limits
	archive Archive

	mu      sync.Mutex // guards what follows, and the lower part of every Stream; never held over I/O or decoding
	floor   op.Zxid    // positions below it belong to another cluster
	chunks  chunks     // closed, contiguous
	open    []op.Event // what follows the chunks, up to current; only ever appended to, so readers share its prefix
	packed  packer     // open, packed
	current op.Zxid
	pages   pages // chunks that were read lately, unpacked
	index   index
	streams [numScopes]int
	behind  int
	gone    uint64
}

// New returns a History that begins after start: no event at or before it is kept. Positions below floor get
// cluster_changed. The archive may be nil.
func New(limits Limits, archive Archive, floor, start op.Zxid) *History {
	h := &History{limits: limits.withDefaults(), archive: archive, floor: floor}
	h.index.places = make(map[string]*place)
	h.start(chunks{oldest: start}, start)
	return h
}

// start puts the History behind those chunks, at the position upTo.
func (h *History) start(c chunks, upTo op.Zxid) {
	h.chunks, h.current = c, upTo
	h.open, h.pages = nil, nil
	h.packed.reset(upTo + 1)
	h.trim()
}

// Publish appends the events of a batch, in order, and moves on to the zxid upTo, which may be later than that of the
// last event. It panics if that would mean going back, or if an event has no ACL.
func (h *History) Publish(events []op.Event, upTo op.Zxid) {
	h.mu.Lock()
	defer h.mu.Unlock()
	last := h.current
	for i := range events {
		ev := &events[i]
		check(ev, h.current, last, upTo)
		if ev.Zxid != last {
			h.sealIfFull(last)
		}
		last = ev.Zxid
		h.append(ev)
	}
	if upTo < h.current {
		panic("watch: a batch that goes back")
	}
	h.current = upTo
	h.sealIfFull(upTo)
	h.trim()
}

// check panics unless the event may come after one at last, in a batch from the position from to upTo.
func check(ev *op.Event, from, last, upTo op.Zxid) {
	switch {
	case ev.Zxid <= from || ev.Zxid < last || ev.Zxid > upTo:
		panic("watch: an event out of order")
	case ev.ACL == nil:
		panic("watch: an event without an ACL")
	}
}

func (h *History) trim() { h.chunks.trim(h.limits, h.archive != nil, len(h.packed.buf)) }

func (h *History) append(ev *op.Event) {
	h.packed.add(ev)
	h.open = append(h.open, *ev)
	h.behind += h.index.fire(ev)
}

// sealIfFull closes the open chunk, which then covers all up to last, if it has reached its size.
func (h *History) sealIfFull(last op.Zxid) {
	if len(h.packed.buf) >= h.limits.ChunkBytes {
		h.seal(last)
	}
}

func (h *History) seal(last op.Zxid) {
	c := h.packed.seal(h.chunks.nextSeq(), last)
	h.chunks.push(c)
	h.pages.put(&page{seq: c.Seq, last: last, events: known(h.open)})
	h.open = make([]op.Event, 0, len(h.open))
	h.packed.reset(last + 1)
}

// Cut closes the open chunk at the current position, so that the chunks so far are all of the history up to here. It
// belongs to every checkpoint: at start, events are only replayed from the checkpoint on.
func (h *History) Cut() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.current >= h.packed.first {
		h.seal(h.current)
		h.trim()
	}
}

// Oldest returns the lowest position after which everything is kept.
func (h *History) Oldest() op.Zxid {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.chunks.oldest
}

// Current returns the position reached.
func (h *History) Current() op.Zxid {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.current
}

// Stats are figures of a History at one moment.
type Stats struct {
	Oldest, Current op.Zxid
	Events          int            // kept
	Bytes           int            // of them, packed
	MemoryBytes     int            // as far as they are in memory
	Chunks          int            // closed
	Streams         [numScopes]int // open, by Scope
	Behind          int            // of them, how many have not read up to the end
	Gone            uint64         // streams that were told history_gone since start
	Lost            uint64         // chunks dropped since start because they were not made durable in time
}

// Stats returns the figures as they are.
func (h *History) Stats() Stats {
	h.mu.Lock()
	defer h.mu.Unlock()
	return Stats{
		Oldest: h.chunks.oldest, Current: h.current,
		Events: h.chunks.events + len(h.open), Bytes: h.chunks.total + len(h.packed.buf),
		MemoryBytes: h.chunks.memory + len(h.packed.buf), Chunks: len(h.chunks.list),
		Streams: h.streams, Behind: h.behind, Gone: h.gone, Lost: h.chunks.lost,
	}
}
