package tree

import (
	"iter"
	"slices"
)

// Set is an ordered set of K that knows the position of each key: a B+tree that counts, every method O(log n). NewSet makes one.
//
// Insert and Delete return the new set; the old one stays valid if it is of an earlier epoch. Reading is for any number of goroutines.
type Set[K any] struct {
	cmp  func(a, b K) int
	root *node[K, sorted[K]]
}

// NewSet returns an empty set in the order of cmp, which must be total and is negative if a is below b, zero if they are the same key.
func NewSet[K any](cmp func(a, b K) int) Set[K] { return Set[K]{cmp: cmp} }

// Len returns the number of keys.
func (s Set[K]) Len() int { return s.root.len() }

// Has reports whether k is in the set.
func (s Set[K]) Has(k K) bool { return s.root.has(k) }

// Insert returns the set with k, and whether k is new.
func (s Set[K]) Insert(e *Epoch, k K) (Set[K], bool) {
	root, ok := insert(e, s.root, sorted[K]{cmp: s.cmp}, k)
	return Set[K]{s.cmp, root}, ok
}

// Delete returns the set without k, and whether k was in it.
func (s Set[K]) Delete(e *Epoch, k K) (Set[K], bool) {
	root, ok := remove(e, s.root, k)
	return Set[K]{s.cmp, root}, ok
}

// Min returns the lowest key, false if the set is empty.
func (s Set[K]) Min() (k K, ok bool) {
	if s.root == nil {
		return k, false
	}
	return s.root.at(0), true
}

// Max returns the highest key, false if the set is empty.
func (s Set[K]) Max() (k K, ok bool) {
	if s.root == nil {
		return k, false
	}
	return s.root.at(s.root.n - 1), true
}

// At returns the key with i keys below it. Like indexing a slice it panics unless 0 <= i < Len.
func (s Set[K]) At(i int) K { return s.root.at(i) }

// Rank returns the number of keys below k, which need not be in the set.
func (s Set[K]) Rank(k K) int { return s.root.rank(k) }

// Ascend yields the keys from from on, ascending, from itself included if it is in the set.
func (s Set[K]) Ascend(from K) iter.Seq[K] {
	return func(yield func(K) bool) { s.root.ascend(from, false, yield) }
}

// sorted is a page of keys in a slice. It carries the order, for a page is all that a node knows of its keys.
type sorted[K any] struct {
	cmp  func(a, b K) int
	keys []K
}

// leafKeys is what a leaf should hold at most.
const leafKeys = 32

func (p sorted[K]) fill() int                   { return len(p.keys) * 100 / leafKeys }
func (p sorted[K]) find(k K) (i int, ok bool)   { return slices.BinarySearchFunc(p.keys, k, p.cmp) }
func (p sorted[K]) at(i int) K                  { return p.keys[i] }
func (p sorted[K]) join(r sorted[K]) sorted[K]  { return p.with(p.keys, r.keys) }
func (p sorted[K]) insert(i int, k K) sorted[K] { return p.with(p.keys[:i], []K{k}, p.keys[i:]) }
func (p sorted[K]) remove(i int) sorted[K]      { return p.with(p.keys[:i], p.keys[i+1:]) }

func (p sorted[K]) cut(i int) (sorted[K], sorted[K]) { return p.with(p.keys[:i]), p.with(p.keys[i:]) }

// with returns a page of its own memory that holds the given runs.
func (p sorted[K]) with(runs ...[]K) sorted[K] { return sorted[K]{p.cmp, slices.Concat(runs...)} }

func (p sorted[K]) each(from int, yield func(K) bool) bool {
	for _, k := range p.keys[from:] {
		if !yield(k) {
			return false
		}
	}
	return true
}
