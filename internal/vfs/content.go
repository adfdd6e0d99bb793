package vfs

import (
	"maps"
	"math/rand/v2"
	"slices"
)

const pageSize = 8 * SectorSize

type (
	page   [pageSize]byte
	sector [SectorSize]byte
)

// content is what one file of a Mem holds: sparse pages, and what they held before.
//
// It keeps no second copy of the durable bytes. A write saves each sector that it touches as it was, so that the versions of a
// sector since the last sync are those saved and, last, the one in pages. A crash picks one of them for each sector.
type content struct {
	size  int64
	pages []*page // nil reads as zeros

	saved map[int64][]*sector // by sector number: versions before the current one, the durable one first; nil is zeros
	sizes []int64             // the same for the size
	stuck map[int64]bool      // sectors that a failed sync left behind: no sync writes them until they are written anew
}

func (c *content) readAt(p []byte, off int64) int {
	n := int(min(int64(len(p)), max(0, c.size-off)))
	for done := 0; done < n; {
		at := off + int64(done)
		part := p[done:min(n, done+int(pageSize-at%pageSize))]
		if pg := c.page(at); pg != nil {
			copy(part, pg[at%pageSize:])
		} else {
			clear(part)
		}
		done += len(part)
	}
	return n
}

func (c *content) writeAt(p []byte, off int64) {
	c.save(off, off+int64(len(p)))
	if end := off + int64(len(p)); end > c.size {
		c.resize(end)
	}
	c.put(p, off)
}

// truncate saves and zeroes what it cuts off, so that growing again reads as zeros.
func (c *content) truncate(size int64) {
	if size < c.size {
		c.save(size, c.size)
		c.zero(size, c.size)
	}
	c.resize(size)
}

func (c *content) resize(size int64) {
	c.sizes = append(c.sizes, c.size)
	c.size = size
	c.cover()
}

// cover gives pages exactly the length that the size needs.
func (c *content) cover() {
	n := int((c.size + pageSize - 1) / pageSize)
	if n <= len(c.pages) {
		clear(c.pages[n:])
		c.pages = c.pages[:n]
		return
	}
	c.pages = append(c.pages, make([]*page, n-len(c.pages))...)
}

func (c *content) page(off int64) *page {
	if i := off / pageSize; i < int64(len(c.pages)) {
		return c.pages[i]
	}
	return nil
}

// put writes within the size, without saving.
func (c *content) put(p []byte, off int64) {
	for len(p) > 0 {
		i := off / pageSize
		if c.pages[i] == nil {
			c.pages[i] = new(page)
		}
		n := copy(c.pages[i][off%pageSize:], p)
		p, off = p[n:], off+int64(n)
	}
}

func (c *content) zero(from, to int64) {
	for from < to {
		end := min(to, from-from%pageSize+pageSize)
		if pg := c.page(from); pg != nil {
			clear(pg[from%pageSize : from%pageSize+end-from])
		}
		from = end
	}
}

func (c *content) save(from, to int64) {
	if c.saved == nil {
		c.saved = make(map[int64][]*sector)
	}
	for n := from / SectorSize; n*SectorSize < to; n++ {
		c.saved[n] = append(c.saved[n], c.sector(n))
		delete(c.stuck, n)
	}
}

func (c *content) sector(n int64) *sector {
	pg := c.page(n * SectorSize)
	if pg == nil {
		return nil
	}
	s := sector(pg[n*SectorSize%pageSize:])
	return &s
}

func (c *content) sync() {
	c.sizes = nil
	maps.DeleteFunc(c.saved, func(n int64, _ []*sector) bool { return !c.stuck[n] })
}

// failSync is what Linux does with bytes whose writing failed: it says so once, and takes them for clean from then on.
func (c *content) failSync() {
	c.stuck = make(map[int64]bool, len(c.saved))
	for n := range c.saved {
		c.stuck[n] = true
	}
}

// crash keeps for each sector, and for the size, one of its versions since the last sync.
func (c *content) crash(choose func(versions int) int) {
	size := c.size
	if k := choose(len(c.sizes) + 1); k < len(c.sizes) {
		size = c.sizes[k]
	}
	for _, s := range c.sizes {
		c.size = max(c.size, s)
	}
	c.cover()
	for _, n := range slices.Sorted(maps.Keys(c.saved)) {
		old := c.saved[n]
		if k := choose(len(old) + 1); k < len(old) {
			c.restore(n, old[k])
		}
	}
	c.zero(size, int64(len(c.pages))*pageSize)
	c.size = size
	c.cover()
	c.saved, c.sizes, c.stuck = nil, nil, nil
}

func (c *content) restore(n int64, old *sector) {
	if old == nil {
		c.zero(n*SectorSize, (n+1)*SectorSize)
		return
	}
	c.put(old[:], n*SectorSize)
}

// losses returns how a crash chooses among the versions of one thing. Besides the usual draw a whole crash may lose all that it
// can, or nothing, because these two extremes find faults of their own and a draw for each sector hardly ever makes them.
func losses(rng *rand.Rand) func(versions int) int {
	switch rng.IntN(8) {
	case 0:
		return func(int) int { return 0 }
	case 1:
		return func(versions int) int { return versions - 1 }
	default:
		return rng.IntN
	}
}
