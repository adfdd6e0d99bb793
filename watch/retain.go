package watch

import (
	"fmt"
	"sort"

	"github.com/coord-kv/coord/op"
)

// chunks are the closed chunks of a History, contiguous and oldest first.
type chunks struct {
	list     []Chunk
	resident int     // how many at the front are not in memory
	oldest   op.Zxid // the position from which on everything is kept
	seq      uint64  // of the newest chunk there ever was
	durable  uint64  // chunks up to this one are in the archive
	total    int     // bytes
	memory   int     // of them in memory
	events   int
	lost     uint64
}

func (c *chunks) nextSeq() uint64 { return c.seq + 1 }

// push appends a chunk. A chunk without bytes may not follow one that has them.
func (c *chunks) push(add Chunk) {
	c.list = append(c.list, add)
	c.seq = max(c.seq, add.Seq)
	c.total += add.Size
	c.events += add.Events
	if add.Bytes == nil {
		c.resident++
	} else {
		c.memory += add.Size
	}
}

// covering returns the chunk that covers the zxid, which must lie between oldest and the end of the last chunk.
func (c *chunks) covering(z op.Zxid) Chunk {
	return c.list[sort.Search(len(c.list), func(i int) bool { return c.list[i].Last >= z })]
}

// trim brings the chunks, with openBytes more that count, within the limits: the rules stand in the package comment.
func (c *chunks) trim(l Limits, archived bool, openBytes int) {
	for c.total+openBytes > l.TotalBytes && len(c.list) > 0 {
		c.dropOldest()
	}
	for c.memory+openBytes > l.MemoryBytes && c.resident < len(c.list) {
		switch {
		case archived && c.list[c.resident].Seq <= c.durable:
			c.release()
		case !archived:
			c.dropOldest()
		case c.memory+openBytes > 2*l.MemoryBytes:
			c.lose()
		default:
			return
		}
	}
}

// release lets go of the memory of the oldest chunk that is there.
func (c *chunks) release() {
	c.memory -= c.list[c.resident].Size
	c.list[c.resident].Bytes = nil
	c.resident++
}

// lose drops the oldest chunk in memory, and with it all before, because history has no holes.
func (c *chunks) lose() {
	c.lost++
	for n := c.resident + 1; n > 0; n-- {
		c.dropOldest()
	}
}

func (c *chunks) dropOldest() {
	old := c.list[0]
	c.list[0] = Chunk{}
	c.list = c.list[1:]
	c.oldest = old.Last
	c.total -= old.Size
	c.events -= old.Events
	if c.resident > 0 {
		c.resident--
	} else {
		c.memory -= old.Size
	}
}

// Sealed returns the closed chunks after the one numbered after, oldest first, and the number of the oldest chunk that
// is still kept: the archive may delete all before that. Whoever writes the archive stores the chunks, deletes what is
// not kept any more, and reports Durable.
func (h *History) Sealed(after uint64) (fresh []Chunk, keep uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	list := h.chunks.list
	if len(list) == 0 {
		return nil, h.chunks.nextSeq()
	}
	i := sort.Search(len(list), func(i int) bool { return list[i].Seq > after })
	return append(fresh, list[i:]...), list[0].Seq
}

// Durable reports that the chunks up to that number are in the archive and will be after a power loss.
func (h *History) Durable(seq uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.chunks.durable = max(h.chunks.durable, seq)
	h.trim()
}

// Restore returns the History that a member starts with at the position upTo, that of its checkpoint. The chunks are
// those of its archive by rising Seq; older ones may come without Bytes. Of them it takes the contiguous run that ends
// right at upTo. Those that reach beyond it are left out, because replaying the log makes their events anew, as are
// those before a gap; Sealed(0) tells which are in use, the others may be deleted. The error says that a chunk is
// damaged or impossible.
func Restore(limits Limits, archive Archive, floor op.Zxid, stored []Chunk, upTo op.Zxid) (*History, error) {
	h := New(limits, archive, floor, upTo)
	c, err := h.load(stored, upTo)
	if err != nil {
		return nil, err
	}
	h.start(c, upTo)
	return h, nil
}

// Replace puts other history, that of an installed snapshot, in the place of all there is; the rules for the chunks,
// which must be durable already, are those of Restore. Each stream continues in it at its position. If the new history
// does not cover all after that position, or ends before it, the stream gets history_gone. On error nothing has changed.
func (h *History) Replace(floor op.Zxid, stored []Chunk, upTo op.Zxid) error {
	c, err := h.load(stored, upTo)
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	ended := h.current
	c.seq = max(c.seq, h.chunks.seq) // numbers are not used twice, so a late Durable means no other chunk
	c.lost = h.chunks.lost
	h.floor = floor
	h.start(c, upTo)
	for _, at := range h.index.places {
		for _, l := range at.lists {
			for _, s := range append([]*Stream(nil), l.streams...) {
				h.replaced(s, ended)
			}
		}
	}
	return nil
}

// load checks stored chunks and returns the run of them that ends at upTo.
func (h *History) load(stored []Chunk, upTo op.Zxid) (chunks, error) {
	run, err := runUpTo(stored, upTo)
	c := chunks{oldest: upTo}
	if err != nil || len(stored) == 0 {
		return c, err
	}
	if len(run) > 0 {
		c.oldest = run[0].First - 1
	}
	for i := len(run) - 1; i >= 0 && err == nil; i-- {
		err = h.checkStored(run[i])
		// What is older than a chunk that is not in memory need not be there either.
		if i > 0 && run[i].Bytes == nil {
			run[i-1].Bytes = nil
		}
	}
	for _, chunk := range run {
		c.push(chunk)
	}
	c.seq = stored[len(stored)-1].Seq
	c.durable = c.seq
	return c, err
}

// runUpTo returns those of the chunks that, back from upTo, follow each other without gap or overlap.
func runUpTo(stored []Chunk, upTo op.Zxid) ([]Chunk, error) {
	first := len(stored)
	run := make([]Chunk, len(stored))
	for i := len(stored) - 1; i >= 0; i-- {
		c := stored[i]
		if i > 0 && stored[i-1].Seq >= c.Seq || c.First == 0 || c.First > c.Last {
			return nil, fmt.Errorf("couldn't use history chunk %d, from %d to %d: it is out of order", c.Seq, c.First, c.Last)
		}
		if c.Last == upTo {
			first--
			run[first] = c
			upTo = c.First - 1
		}
	}
	return run[first:], nil
}

func (h *History) checkStored(c Chunk) error {
	if c.Bytes == nil && h.archive != nil {
		return nil
	}
	got, err := ParseChunk(c.Seq, c.Bytes)
	if err == nil && (got.First != c.First || got.Last != c.Last || got.Events != c.Events || got.Size != c.Size) {
		err = fmt.Errorf("it holds %d events from %d to %d", got.Events, got.First, got.Last)
	}
	if err != nil {
		return fmt.Errorf("couldn't use history chunk %d, from %d to %d: %w", c.Seq, c.First, c.Last, err)
	}
	return nil
}
