package tree

import "slices"

// page is a sorted run of keys, which is never changed once made.
type page[K, P any] interface {
	find(k K) (i int, ok bool) // how many keys are below k, and whether k itself is here
	at(i int) K
	each(from int, yield func(K) bool) bool // false if yield was
	insert(i int, k K) P
	remove(i int) P
	cut(i int) (P, P)
	join(right P) P
	fill() int // size in percent of what a leaf should hold at most
}

// node is the root of a persistent B+tree that counts its keys. A leaf's page holds keys of the tree; an inner node's page holds the
// bounds between its kids: those of kids[i] are from keys[i-1] on, and below keys[i].
//
// A split halves, but the last leaf of all is left full: a checkpoint is loaded in order, and sequence numbers ascend. (Not any leaf
// that grows at its end: descending keys would then get a leaf each.) What deletes leave small is joined with a neighbour if both fit
// into one node; nothing is refilled from a larger neighbour, which would move keys about for a bound that nothing needs.
type node[K any, P page[K, P]] struct {
	stamp uint64
	n     int // keys of the tree, here and below
	keys  P
	kids  []*node[K, P]
}

const (
	maxKids = 32
	// Room for bounds, in leaves: many long bounds cost every search more than a level does.
	innerPages = 4
	// A join leaves a quarter free, so that the next insert doesn't split again.
	joinPercent = 75
)

// insert returns the tree with k, and whether k is new. none is an empty page.
func insert[K any, P page[K, P]](e *Epoch, root *node[K, P], none P, k K) (*node[K, P], bool) {
	if root == nil {
		return &node[K, P]{stamp: e.n, n: 1, keys: none.insert(0, k)}, true
	}
	left, right, bound := root.insert(e, k, true)
	switch {
	case left == nil:
		return root, false
	case right == nil:
		return left, true
	}
	kids := []*node[K, P]{left, right}
	return &node[K, P]{stamp: e.n, n: left.n + right.n, keys: none.insert(0, bound), kids: kids}, true
}

// remove returns the tree without k, nil if nothing is left, and whether k was there.
func remove[K any, P page[K, P]](e *Epoch, root *node[K, P], k K) (*node[K, P], bool) {
	if root == nil {
		return nil, false
	}
	n := root.remove(e, k)
	if n == nil {
		return root, false
	}
	if n.n == 0 {
		return nil, true
	}
	for len(n.kids) == 1 {
		n = n.kids[0]
	}
	return n, true
}

// insert returns what n becomes with k: nil if k was there, and two nodes and the bound between them if n had to be split. last says
// that no node is on the right of n.
func (n *node[K, P]) insert(e *Epoch, k K, last bool) (left, right *node[K, P], bound K) {
	if n.kids == nil {
		return n.insertLeaf(e, k, last)
	}
	i := n.child(k)
	kid, kid2, bound := n.kids[i].insert(e, k, last && i == len(n.kids)-1)
	if kid == nil {
		return nil, nil, bound
	}
	n = n.own(e)
	n.n++
	n.kids[i] = kid
	if kid2 == nil {
		return n, nil, bound
	}
	n.keys = n.keys.insert(i, bound)
	n.kids = slices.Insert(n.kids, i+1, kid2)
	if len(n.kids) > maxKids || len(n.kids) > 3 && n.keys.fill() > innerPages*100 {
		return n.splitInner()
	}
	return n, nil, bound
}

func (n *node[K, P]) insertLeaf(e *Epoch, k K, last bool) (left, right *node[K, P], bound K) {
	i, ok := n.keys.find(k)
	if ok {
		return nil, nil, bound
	}
	n = n.own(e)
	n.keys = n.keys.insert(i, k)
	n.n++
	if n.keys.fill() <= 100 {
		return n, nil, bound
	}
	at := n.n / 2
	if last && i == n.n-1 {
		at = n.n - 1
	}
	right = &node[K, P]{stamp: n.stamp, n: n.n - at}
	n.n = at
	n.keys, right.keys = n.keys.cut(at)
	return n, right, right.keys.at(0)
}

// splitInner halves n, which must be the writer's own. The bound between the halves moves up.
func (n *node[K, P]) splitInner() (left, right *node[K, P], bound K) {
	half := len(n.kids) / 2
	low, high := n.keys.cut(half - 1)
	right = &node[K, P]{stamp: n.stamp, keys: high.remove(0), kids: slices.Clone(n.kids[half:])}
	for _, kid := range right.kids {
		right.n += kid.n
	}
	n.n -= right.n
	n.keys, n.kids = low, slices.Clone(n.kids[:half])
	return n, right, high.at(0)
}

// remove returns what n becomes without k, nil if k wasn't there. It may return an empty node, or one with a single kid.
func (n *node[K, P]) remove(e *Epoch, k K) *node[K, P] {
	if n.kids == nil {
		i, ok := n.keys.find(k)
		if !ok {
			return nil
		}
		n = n.own(e)
		n.n--
		n.keys = n.keys.remove(i)
		return n
	}
	i := n.child(k)
	kid := n.kids[i].remove(e, k)
	if kid == nil {
		return nil
	}
	n = n.own(e)
	n.n--
	n.kids[i] = kid
	switch {
	case kid.n == 0:
		n.drop(i)
	case i > 0 && n.kids[i-1].fits(kid):
		n.join(e, i-1)
	case i+1 < len(n.kids) && kid.fits(n.kids[i+1]):
		n.join(e, i)
	}
	return n
}

// drop removes the kid at i, which is empty, and its lower bound. The first kid has none: the next one's takes in its range.
func (n *node[K, P]) drop(i int) {
	if len(n.kids) > 1 {
		n.keys = n.keys.remove(max(i-1, 0))
	}
	n.kids = slices.Delete(n.kids, i, i+1)
}

// fits reports whether n and the neighbour on its right would make one node with room to spare.
func (n *node[K, P]) fits(right *node[K, P]) bool {
	fill := n.keys.fill() + right.keys.fill()
	if n.kids == nil {
		return fill <= joinPercent
	}
	return fill <= innerPages*joinPercent && len(n.kids)+len(right.kids) <= maxKids*joinPercent/100
}

// join makes one kid of those at i and i+1.
func (n *node[K, P]) join(e *Epoch, i int) {
	left, right := n.kids[i].own(e), n.kids[i+1]
	if left.kids != nil {
		left.keys = left.keys.insert(len(left.kids)-1, n.keys.at(i))
		left.kids = append(left.kids, right.kids...)
	}
	left.keys = left.keys.join(right.keys)
	left.n += right.n
	n.keys = n.keys.remove(i)
	n.kids = slices.Delete(n.kids, i+1, i+2)
	n.kids[i] = left
}

// own returns n if it is of the current epoch, else a copy that is.
func (n *node[K, P]) own(e *Epoch) *node[K, P] {
	if n.stamp == e.n {
		return n
	}
	return &node[K, P]{stamp: e.n, n: n.n, keys: n.keys, kids: slices.Clone(n.kids)}
}

// child returns the position of the kid whose range has k.
func (n *node[K, P]) child(k K) int {
	i, ok := n.keys.find(k)
	if ok {
		i++
	}
	return i
}

// len returns the number of keys; like the other readers it takes nil for the empty tree.
func (n *node[K, P]) len() int {
	if n == nil {
		return 0
	}
	return n.n
}

func (n *node[K, P]) has(k K) bool {
	if n == nil {
		return false
	}
	for n.kids != nil {
		n = n.kids[n.child(k)]
	}
	_, ok := n.keys.find(k)
	return ok
}

// rank returns the number of keys below k.
func (n *node[K, P]) rank(k K) (rank int) {
	if n == nil {
		return 0
	}
	for n.kids != nil {
		i := n.child(k)
		for _, kid := range n.kids[:i] {
			rank += kid.n
		}
		n = n.kids[i]
	}
	i, _ := n.keys.find(k)
	return rank + i
}

// at returns the key with i keys below it.
func (n *node[K, P]) at(i int) K {
	for n.kids != nil {
		j := 0
		for ; i >= n.kids[j].n; j++ {
			i -= n.kids[j].n
		}
		n = n.kids[j]
	}
	return n.keys.at(i)
}

// ascend yields the keys from k on, or after it.
func (n *node[K, P]) ascend(k K, after bool, yield func(K) bool) bool {
	if n == nil {
		return true
	}
	if n.kids == nil {
		i, ok := n.keys.find(k)
		if ok && after {
			i++
		}
		return n.keys.each(i, yield)
	}
	i := n.child(k)
	if !n.kids[i].ascend(k, after, yield) {
		return false
	}
	for _, kid := range n.kids[i+1:] {
		if !kid.all(yield) {
			return false
		}
	}
	return true
}

func (n *node[K, P]) all(yield func(K) bool) bool {
	if n.kids == nil {
		return n.keys.each(0, yield)
	}
	for _, kid := range n.kids {
		if !kid.all(yield) {
			return false
		}
	}
	return true
}
