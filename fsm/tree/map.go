package tree

import (
	"hash/maphash"
	"iter"
	"math/bits"
	"slices"
)

// Map is a copy-on-write hash map by linear hashing (Litwin 1980): it grows and shrinks by one bucket at a time, so that no write
// pays for the size of the map. Buckets are small and hang off a radix tree; a write copies its bucket and the way to it, each at
// most once per epoch. A Map is for one goroutine, the writer; readers get a Snapshot.
type Map[K comparable, V any] struct {
	now       Snap[K, V]
	epoch     *Epoch
	rootStamp uint64 // the epoch that made now.root
}

// Snap is the content of a Map at the time of its Snapshot, for any number of goroutines, from the next Bump on. It is a small value
// to be copied; the zero value is empty.
type Snap[K comparable, V any] struct {
	seed    maphash.Seed
	root    directory[K, V]
	buckets uint64 // above zero, unless this is the zero value
	n       int
}

// directory is a vector of buckets: three levels of fixed fan-out below a root that grows, by one pointer for 160,000 entries.
type directory[K comparable, V any] = []*fan[fan[fan[bucket[K, V]]]]

const (
	fanBits = 5
	fanMask = 1<<fanBits - 1
)

type fan[T any] struct {
	stamp uint64
	kids  [1 << fanBits]*T
}

const (
	// Buckets have entries in place, not in a slice, for each step in memory that a lookup takes costs it more than all its
	// computing. Seven fill three cache lines, with a string for the key and a pointer for the value.
	bucketSize = 7
	meanLoad   = 5 // entries per bucket: more make longer chains, fewer waste space
)

// bucket holds the entries of one address. If they are too many it is the first of a chain, in which only the first has room.
type bucket[K comparable, V any] struct {
	stamp uint64
	more  *bucket[K, V]
	n     uint8
	tags  [bucketSize]uint8 // eight bits of each entry's hash, so that a lookup seldom reads a key in vain
	at    [bucketSize]entry[K, V]
}

type entry[K comparable, V any] struct {
	key K
	val V
}

// NewMap returns an empty map whose versions are counted by e. Its hash is seeded at random, against chosen collisions.
func NewMap[K comparable, V any](e *Epoch) *Map[K, V] {
	m := &Map[K, V]{epoch: e, rootStamp: e.n, now: Snap[K, V]{seed: maphash.MakeSeed(), buckets: 1}}
	m.slot(0)
	return m
}

// Get returns the value of k.
func (m *Map[K, V]) Get(k K) (V, bool) { return m.now.Get(k) }

// Len returns the number of entries.
func (m *Map[K, V]) Len() int { return m.now.n }

// Snapshot returns the present content, in constant time. Pair it with a Bump of the map's Epoch, after which no write changes it.
func (m *Map[K, V]) Snapshot() Snap[K, V] { return m.now }

// Set makes v the value of k. The key of an entry that exists stays the one that it was made with.
func (m *Map[K, V]) Set(k K, v V) {
	h := m.now.hash(k)
	first := m.slot(m.now.index(h))
	if b, i := (*first).find(tag(h), k); b != nil {
		ownChain(m.epoch, first, b).at[i].val = v
		return
	}
	add(m.epoch, first, tag(h), entry[K, V]{k, v})
	m.now.n++
	if uint64(m.now.n) > meanLoad*m.now.buckets {
		m.split()
	}
}

// Delete removes k and returns the value that it had.
func (m *Map[K, V]) Delete(k K) (v V, ok bool) {
	h := m.now.hash(k)
	at := m.now.index(h)
	b, i := m.now.bucket(at).find(tag(h), k)
	if b == nil {
		return v, false
	}
	v = b.at[i].val
	first := m.slot(at)
	takeOut(first, ownChain(m.epoch, first, b), i)
	m.now.n--
	if m.now.buckets > 1 && 2*uint64(m.now.n) < meanLoad*m.now.buckets {
		m.merge()
	}
	return v, true
}

// split adds a bucket and moves to it the entries that the wider address sends there, all from one older bucket.
func (m *Map[K, V]) split() {
	last := m.now.buckets
	m.now.buckets++
	mask := addressMask(m.now.buckets)
	stay, move := m.slot(last&(mask>>1)), m.slot(last)
	old := *stay
	*stay = nil
	for x := range old.all() {
		h, to := m.now.hash(x.key), stay
		if h&mask == last {
			to = move
		}
		add(m.epoch, to, tag(h), *x)
	}
}

// merge undoes the latest split.
func (m *Map[K, V]) merge() {
	last := m.now.buckets - 1
	to := m.slot(last & (addressMask(m.now.buckets) >> 1))
	for x := range m.now.bucket(last).all() {
		add(m.epoch, to, tag(m.now.hash(x.key)), *x)
	}
	m.now.buckets--
	m.clear(last)
}

// slot makes the way to bucket i the writer's own, building it if i is new, and returns its end.
func (m *Map[K, V]) slot(i uint64) **bucket[K, V] {
	if m.rootStamp != m.epoch.n {
		m.now.root, m.rootStamp = slices.Clone(m.now.root), m.epoch.n
	}
	if i>>(3*fanBits) == uint64(len(m.now.root)) {
		m.now.root = append(m.now.root, nil)
	}
	top := own(m.epoch, &m.now.root[i>>(3*fanBits)])
	mid := own(m.epoch, &top.kids[i>>(2*fanBits)&fanMask])
	low := own(m.epoch, &mid.kids[i>>fanBits&fanMask])
	return &low.kids[i&fanMask]
}

// clear empties the slot of bucket i, the last one, and takes down what was built for it alone.
func (m *Map[K, V]) clear(i uint64) {
	*m.slot(i) = nil
	top := m.now.root[i>>(3*fanBits)]
	switch mid := i >> (2 * fanBits) & fanMask; {
	case i&(1<<(3*fanBits)-1) == 0:
		m.now.root = slices.Delete(m.now.root, len(m.now.root)-1, len(m.now.root))
	case i&(1<<(2*fanBits)-1) == 0:
		top.kids[mid] = nil
	case i&fanMask == 0:
		top.kids[mid].kids[i>>fanBits&fanMask] = nil
	}
}

// own makes *p a node of the current epoch: itself, a copy, or a new one.
func own[T any](e *Epoch, p **fan[T]) *fan[T] {
	switch {
	case *p == nil:
		*p = &fan[T]{stamp: e.n}
	case (*p).stamp != e.n:
		*p = &fan[T]{stamp: e.n, kids: (*p).kids}
	}
	return *p
}

// ownChain makes the buckets from *first to b ones of the current epoch, and returns what b became.
func ownChain[K comparable, V any](e *Epoch, first **bucket[K, V], b *bucket[K, V]) *bucket[K, V] {
	for p := first; ; p = &(*p).more {
		old := *p
		if old.stamp != e.n {
			c := *old
			c.stamp = e.n
			*p = &c
		}
		if old == b {
			return *p
		}
	}
}

// add puts x, whose key isn't there, into the first bucket of a chain, or before it if that is full.
func add[K comparable, V any](e *Epoch, first **bucket[K, V], tag uint8, x entry[K, V]) {
	if *first == nil || (*first).n == bucketSize {
		*first = &bucket[K, V]{stamp: e.n, more: *first}
	}
	b := ownChain(e, first, *first)
	b.tags[b.n], b.at[b.n] = tag, x
	b.n++
}

// takeOut removes b.at[i] from a chain of the writer's own, and puts the last entry of the first bucket in its place.
func takeOut[K comparable, V any](first **bucket[K, V], b *bucket[K, V], i int) {
	f := *first
	f.n--
	b.tags[i], b.at[i] = f.tags[f.n], f.at[f.n]
	f.at[f.n] = entry[K, V]{}
	if f.n == 0 {
		*first = f.more
	}
}

// Get returns the value of k.
func (s Snap[K, V]) Get(k K) (v V, ok bool) {
	if s.n == 0 {
		return v, false
	}
	h := s.hash(k)
	if b, i := s.bucket(s.index(h)).find(tag(h), k); b != nil {
		return b.at[i].val, true
	}
	return v, false
}

// Len returns the number of entries.
func (s Snap[K, V]) Len() int { return s.n }

// All yields every entry, in an order that differs from process to process: it is for sums and the like, that no order can change.
func (s Snap[K, V]) All() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		for i := range s.buckets {
			for x := range s.bucket(i).all() {
				if !yield(x.key, x.val) {
					return
				}
			}
		}
	}
}

func (s *Snap[K, V]) hash(k K) uint64 { return maphash.Comparable(s.seed, k) }

// index returns the bucket of hash h: the low bits of h, one bit fewer where that bucket isn't split yet.
func (s *Snap[K, V]) index(h uint64) uint64 {
	mask := addressMask(s.buckets)
	if i := h & mask; i < s.buckets {
		return i
	}
	return h & (mask >> 1)
}

// bucket returns bucket i, nil if it is empty.
func (s *Snap[K, V]) bucket(i uint64) *bucket[K, V] {
	mid := s.root[i>>(3*fanBits)].kids[i>>(2*fanBits)&fanMask]
	return mid.kids[i>>fanBits&fanMask].kids[i&fanMask]
}

// addressMask covers the numbers of so many buckets.
func addressMask(buckets uint64) uint64 { return 1<<bits.Len64(buckets-1) - 1 }

// tag returns the bits of h that are farthest from those that chose its bucket.
func tag(h uint64) uint8 { return uint8(h >> 56) }

// find returns where in the chain k is, nil if it isn't.
func (b *bucket[K, V]) find(tag uint8, k K) (*bucket[K, V], int) {
	for ; b != nil; b = b.more {
		for i := range b.tags[:b.n] {
			if b.tags[i] == tag && b.at[i].key == k {
				return b, i
			}
		}
	}
	return nil, 0
}

// all yields the entries of the chain.
func (b *bucket[K, V]) all() iter.Seq[*entry[K, V]] {
	return func(yield func(*entry[K, V]) bool) {
		for ; b != nil; b = b.more {
			for i := range b.at[:b.n] {
				if !yield(&b.at[i]) {
					return
				}
			}
		}
	}
}
