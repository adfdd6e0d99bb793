package tree

import (
	"encoding/binary"
	"iter"
	"strings"
)

// Names is an ordered set of short strings, none of them empty: the names of a node's children, in byte order. The zero value is the
// empty set, and takes one pointer. Up to 240 bytes it is a single packed string; above that a B+tree whose leaves are such strings.
//
// Insert and Delete return the new set; the old one stays valid if it is of an earlier epoch. Reading is for any number of goroutines.
type Names struct{ root *node[string, packed] }

// Len returns the number of names, in constant time.
func (s Names) Len() int { return s.root.len() }

// Has reports whether name is in the set.
func (s Names) Has(name string) bool { return s.root.has(name) }

// Insert returns the set with name, and whether name is new. It panics if name is empty. It keeps a copy of name, not name itself.
func (s Names) Insert(e *Epoch, name string) (Names, bool) {
	if name == "" {
		panic("tree: insert of an empty name")
	}
	root, ok := insert(e, s.root, "", name)
	return Names{root}, ok
}

// Delete returns the set without name, and whether name was in it.
func (s Names) Delete(e *Epoch, name string) (Names, bool) {
	root, ok := remove(e, s.root, name)
	return Names{root}, ok
}

// After yields the names that follow name, ascending, whether or not name itself is in the set; all names follow the empty string.
func (s Names) After(name string) iter.Seq[string] {
	return func(yield func(string) bool) { s.root.ascend(name, true, yield) }
}

// packed is a page of strings: each one is its length as a uvarint, then its bytes. Finding one walks them all, which over few and
// short ones is as fast as a search, and needs no table of offsets.
type packed string

// leafBytes is what a leaf should hold at most; with a size class of Go's allocator at that mark, a full leaf wastes nothing.
const leafBytes = 240

func (p packed) fill() int { return len(p) * 100 / leafBytes }

// head returns the first string and what follows it.
func (p packed) head() (string, packed) {
	n, start := int(p[0]), 1
	if n >= 0x80 {
		n, start = p.longHead()
	}
	return string(p[start : start+n]), p[start+n:]
}

// longHead returns the length of the first string, if it takes several bytes, and where the string starts.
func (p packed) longHead() (n, start int) {
	for shift := 0; ; shift += 7 {
		b := p[start]
		start++
		n |= int(b&0x7f) << shift
		if b < 0x80 {
			return n, start
		}
	}
}

// tail returns what follows the first i strings.
func (p packed) tail(i int) packed {
	for ; i > 0; i-- {
		_, p = p.head()
	}
	return p
}

func (p packed) find(k string) (i int, ok bool) {
	for p != "" {
		var s string
		s, p = p.head()
		if c := strings.Compare(s, k); c >= 0 {
			return i, c == 0
		}
		i++
	}
	return i, false
}

func (p packed) at(i int) string {
	s, _ := p.tail(i).head()
	return s
}

func (p packed) each(from int, yield func(string) bool) bool {
	for p = p.tail(from); p != ""; {
		var s string
		if s, p = p.head(); !yield(s) {
			return false
		}
	}
	return true
}

func (p packed) insert(i int, k string) packed {
	var size [binary.MaxVarintLen64]byte
	tail := p.tail(i)
	return p[:len(p)-len(tail)] + packed(binary.AppendUvarint(size[:0], uint64(len(k)))) + packed(k) + tail
}

func (p packed) remove(i int) packed {
	from := p.tail(i)
	_, tail := from.head()
	return p[:len(p)-len(from)] + tail
}

// cut copies both parts: a part that is a mere slice would keep the other's bytes alive.
func (p packed) cut(i int) (packed, packed) {
	tail := p.tail(i)
	return packed(strings.Clone(string(p[:len(p)-len(tail)]))), packed(strings.Clone(string(tail)))
}

func (p packed) join(right packed) packed { return p + right }
