package tree_test

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/coord-kv/coord/fsm/tree"
)

// view is one published version of three containers that say the same: each name with its number, and a sum to check them by.
type view struct {
	byName tree.Snap[string, int]
	names  tree.Names
	byNum  tree.Set[int]
	sum    int
}

// check reads the whole view, and returns what is wrong with it.
func (v *view) check() error {
	if n := v.byName.Len(); n != v.names.Len() || n != v.byNum.Len() {
		return fmt.Errorf("%d entries, %d names, %d numbers", n, v.names.Len(), v.byNum.Len())
	}
	sum, last, read := 0, "", 0
	for name := range v.names.After("") {
		num, ok := v.byName.Get(name)
		if !ok || name <= last || !v.byNum.Has(num) {
			return fmt.Errorf("%q after %q: number %d, %v", name, last, num, ok)
		}
		sum, last, read = sum+num, name, read+1
	}
	rank := 0
	for num := range v.byNum.Ascend(0) {
		if v.byNum.Rank(num) != rank || v.byNum.At(rank) != num {
			return fmt.Errorf("number %d has rank %d, not %d", num, v.byNum.Rank(num), rank)
		}
		rank++
	}
	all := 0
	for _, num := range v.byName.All() {
		all += num
	}
	if sum != v.sum || all != v.sum || read != v.names.Len() || rank != read {
		return fmt.Errorf("%d names and %d numbers, sums %d and %d, want %d and %d", read, rank, sum, all, v.names.Len(), v.sum)
	}
	return nil
}

// TestReadersBesideWriter reads versions while the writer makes new ones, which the race detector watches, and reads some old ones
// again when all is over.
func TestReadersBesideWriter(t *testing.T) {
	const publishes, perPublish, span = 400, 40, 3000
	var current atomic.Pointer[view]
	current.Store(&view{byNum: tree.NewSet(cmp.Compare[int])})
	done, read := make(chan struct{}), make(chan struct{}, 1)
	var readers sync.WaitGroup
	for range 3 {
		readers.Go(func() {
			kept := []*view{}
			failed := false
			for running := true; running; {
				select {
				case <-done:
					running = false
				case read <- struct{}{}:
				default:
				}
				v := current.Load()
				if len(kept) < 20 && !slices.Contains(kept, v) {
					kept = append(kept, v)
				}
				if err := v.check(); err != nil && !failed {
					t.Error(err)
					failed = true
				}
			}
			for _, v := range kept {
				if err := v.check(); err != nil {
					t.Error("later:", err)
				}
			}
		})
	}

	epoch, rng := new(tree.Epoch), rand.New(rand.NewPCG(9, 10))
	byName, names, byNum, sum := tree.NewMap[string, int](epoch), tree.Names{}, tree.NewSet(cmp.Compare[int]), 0
	for publish := range publishes {
		if publish%10 == 0 {
			<-read // let them keep up a little
		}
		for range perPublish {
			num := rng.IntN(span)
			name := fmt.Sprintf("node-%d", num)
			if rng.IntN(10) < 3 == (publish < publishes/2) { // grow first, then shrink
				if _, ok := byName.Delete(name); ok {
					sum -= num
				}
				names, _ = names.Delete(epoch, name)
				byNum, _ = byNum.Delete(epoch, num)
			} else {
				if _, ok := byName.Get(name); !ok {
					sum += num
				}
				byName.Set(name, num)
				names, _ = names.Insert(epoch, name)
				byNum, _ = byNum.Insert(epoch, num)
			}
		}
		v := &view{byName.Snapshot(), names, byNum, sum}
		epoch.Bump()
		current.Store(v)
	}
	close(done)
	readers.Wait()
	if current.Load().names.Len() == 0 {
		t.Error("nothing was left to read")
	}
}
