package tree

import (
	"maps"
	"math/rand/v2"
	"strconv"
	"testing"
)

// checkSnap fails unless s holds exactly what want does, by every way of reading.
func checkSnap(t *testing.T, s Snap[string, int], want map[string]int) {
	t.Helper()
	if s.Len() != len(want) {
		t.Fatalf("Len() = %d, want %d", s.Len(), len(want))
	}
	for k, v := range want {
		if got, ok := s.Get(k); !ok || got != v {
			t.Fatalf("Get(%q) = %d, %v, want %d", k, got, ok, v)
		}
	}
	seen := 0
	for k, v := range s.All() {
		if w, ok := want[k]; !ok || w != v {
			t.Fatalf("All() yields %q = %d, want %d, %v", k, v, w, ok)
		}
		seen++
	}
	if seen != len(want) {
		t.Fatalf("All() yields %d entries, want %d", seen, len(want))
	}
}

// checkShape fails unless every entry lies in its bucket, nothing is left of others, and the directory has room for its buckets only.
func checkShape(t *testing.T, s *Snap[string, int]) {
	t.Helper()
	n := 0
	for i := range s.buckets {
		for b := s.bucket(i); b != nil; b = b.more {
			if b.n == 0 || b != s.bucket(i) && b.n < bucketSize {
				t.Fatalf("bucket with %d entries in the chain of %d", b.n, i)
			}
			for j, x := range b.at {
				switch {
				case j >= int(b.n) && x != entry[string, int]{}:
					t.Fatalf("%q is kept behind the end of its bucket", x.key)
				case j < int(b.n) && (s.index(s.hash(x.key)) != i || b.tags[j] != tag(s.hash(x.key))):
					t.Fatalf("%q lies in bucket %d, and is looked for in %d", x.key, i, s.index(s.hash(x.key)))
				}
			}
			n += int(b.n)
		}
	}
	if n != s.n || uint64(n) > meanLoad*s.buckets || s.buckets > 1 && uint64(2*n) < meanLoad*s.buckets {
		t.Fatalf("%d entries in %d buckets, counted %d", n, s.buckets, s.n)
	}
	mids, lows := 0, 0
	for _, top := range s.root {
		for _, mid := range top.kids {
			if mid == nil {
				continue
			}
			mids++
			for _, low := range mid.kids {
				if low != nil {
					lows++
				}
			}
		}
	}
	nodes := func(level int) int { return int((s.buckets-1)>>(level*fanBits)) + 1 }
	if len(s.root) != nodes(3) || mids != nodes(2) || lows != nodes(1) {
		t.Fatalf("directory of %d, %d and %d nodes for %d buckets", len(s.root), mids, lows, s.buckets)
	}
}

// TestMapVersions runs random operations beside a Go map, keeps versions all along, and looks at all of them again and again.
func TestMapVersions(t *testing.T) {
	type version struct {
		snap Snap[string, int]
		want map[string]int
	}
	const ops, span = 60_000, 8_000
	e, rng := new(Epoch), rand.New(rand.NewPCG(1, 2))
	m, model, versions := NewMap[string, int](e), map[string]int{}, []version{}
	for op := range ops {
		growing := op/(ops/6)%2 == 0
		k := strconv.Itoa(rng.IntN(span))
		want, had := model[k]
		if got, ok := m.Get(k); ok != had || got != want {
			t.Fatalf("op %d: Get(%q) = %d, %v, want %d, %v", op, k, got, ok, want, had)
		}
		if rng.IntN(10) < 2 == growing {
			if got, ok := m.Delete(k); ok != had || got != want {
				t.Fatalf("op %d: Delete(%q) = %d, %v, want %d, %v", op, k, got, ok, want, had)
			}
			delete(model, k)
		} else {
			m.Set(k, op)
			model[k] = op
		}
		if rng.IntN(50) == 0 {
			snap := m.Snapshot()
			e.Bump()
			if rng.IntN(40) == 0 {
				versions = append(versions, version{snap, maps.Clone(model)})
			}
		}
		if op%(ops/3) == 0 {
			for _, v := range versions {
				checkSnap(t, v.snap, v.want)
			}
		}
		if op%97 == 0 {
			checkShape(t, &m.now)
		}
	}
	for k := range model {
		m.Delete(k)
	}
	if checkShape(t, &m.now); m.now.buckets != 1 {
		t.Fatalf("emptied, and has %d buckets", m.now.buckets)
	}
	for _, v := range versions {
		checkSnap(t, v.snap, v.want)
		checkShape(t, &v.snap)
	}
}

// TestDirectoryGrowsAndShrinks takes the directory past each of its levels and back.
func TestDirectoryGrowsAndShrinks(t *testing.T) {
	const n = 2 * meanLoad << (3 * fanBits)
	e := new(Epoch)
	m := NewMap[string, int](e)
	for i := range n {
		m.Set(strconv.Itoa(i), i)
	}
	checkShape(t, &m.now)
	if len(m.now.root) < 2 {
		t.Fatalf("%d entries, and the root has %d kids", n, len(m.now.root))
	}
	full := m.Snapshot()
	e.Bump()
	for i := range n {
		if v, ok := m.Delete(strconv.Itoa(i)); !ok || v != i {
			t.Fatalf("Delete(%d) = %d, %v", i, v, ok)
		}
		if i%(n/20) == 0 {
			checkShape(t, &m.now)
		}
	}
	checkShape(t, &m.now)
	checkShape(t, &full)
	for i := range n {
		if v, ok := full.Get(strconv.Itoa(i)); !ok || v != i {
			t.Fatalf("old version: Get(%d) = %d, %v", i, v, ok)
		}
	}
}

// TestChainVersions gives all keys the same address, and then the same tag too: the worst that a hash can do.
func TestChainVersions(t *testing.T) {
	for name, tag := range map[string]func(int) uint8{
		"tags differ": func(k int) uint8 { return uint8(k) },
		"one tag":     func(int) uint8 { return 42 },
	} {
		t.Run(name, func(t *testing.T) {
			type version struct {
				first *bucket[int, int]
				want  map[int]int
			}
			e, rng := new(Epoch), rand.New(rand.NewPCG(11, 12))
			var first *bucket[int, int]
			model, versions := map[int]int{}, []version{}
			check := func(first *bucket[int, int], want map[int]int) {
				t.Helper()
				n := 0
				for x := range first.all() {
					if v, ok := want[x.key]; !ok || v != x.val {
						t.Fatalf("chain has %d = %d, want %d, %v", x.key, x.val, v, ok)
					}
					n++
				}
				if n != len(want) {
					t.Fatalf("chain has %d entries, want %d", n, len(want))
				}
			}
			const ops = 6_000
			for op := range ops {
				k, growing := rng.IntN(60), op/(ops/6)%2 == 0
				b, i := first.find(tag(k), k)
				if _, had := model[k]; had != (b != nil) {
					t.Fatalf("op %d: find(%d) = %v", op, k, b != nil)
				}
				switch remove := rng.IntN(10) < 2 == growing; {
				case remove && b != nil:
					takeOut(&first, ownChain(e, &first, b), i)
					delete(model, k)
				case !remove && b != nil:
					ownChain(e, &first, b).at[i].val = op
					model[k] = op
				case !remove:
					add(e, &first, tag(k), entry[int, int]{k, op})
					model[k] = op
				}
				if rng.IntN(10) == 0 {
					e.Bump()
					versions = append(versions, version{first, maps.Clone(model)})
				}
				check(first, model)
			}
			for _, v := range versions {
				check(v.first, v.want)
			}
		})
	}
}

func TestMapKeys(t *testing.T) {
	type point struct{ x, y int32 }
	m := NewMap[point, string](new(Epoch))
	for i := range int32(1000) {
		m.Set(point{i, -i}, strconv.Itoa(int(i)))
	}
	m.Set(point{7, -7}, "seven")
	if v, ok := m.Get(point{7, -7}); !ok || v != "seven" {
		t.Errorf("Get = %q, %v", v, ok)
	}
	if v, ok := m.Delete(point{7, -7}); !ok || v != "seven" {
		t.Errorf("Delete = %q, %v", v, ok)
	}
	if v, ok := m.Get(point{7, -7}); ok {
		t.Errorf("Get after Delete = %q", v)
	}
	if _, ok := m.Delete(point{7, 7}); ok || m.Len() != 999 {
		t.Errorf("Delete of what isn't there: %v, then Len = %d", ok, m.Len())
	}
}

func TestZeroSnapIsEmpty(t *testing.T) {
	var s Snap[string, int]
	if _, ok := s.Get("x"); ok || s.Len() != 0 {
		t.Error("zero Snap isn't empty")
	}
	for range s.All() {
		t.Error("zero Snap yields an entry")
	}
}

func TestAllStops(t *testing.T) {
	e := new(Epoch)
	m := NewMap[int, int](e)
	for i := range 10_000 {
		m.Set(i, i)
	}
	s := m.Snapshot()
	e.Bump()
	n := 0
	for range s.All() {
		if n++; n == 100 {
			break
		}
	}
	if n != 100 {
		t.Errorf("yielded %d", n)
	}
}

// TestWritesInPlace shows what epochs are for: a second write to the same place copies nothing, the first one after a Bump does.
func TestWritesInPlace(t *testing.T) {
	e := new(Epoch)
	m := NewMap[int, int](e)
	for i := range 10_000 {
		m.Set(i, i)
	}
	m.Snapshot()
	e.Bump()
	if allocs := testing.AllocsPerRun(100, func() { m.Set(1, 1) }); allocs != 0 {
		t.Errorf("Set within an epoch: %v allocations", allocs)
	}
	if allocs := testing.AllocsPerRun(100, func() { e.Bump(); m.Set(1, 1) }); allocs == 0 {
		t.Error("Set after a Bump copied nothing")
	}
	names := manyNames(e, 10_000)
	within := testing.AllocsPerRun(100, func() {
		names, _ = names.Insert(e, "00005000x")
		names, _ = names.Delete(e, "00005000x")
	})
	across := testing.AllocsPerRun(100, func() {
		e.Bump()
		names, _ = names.Insert(e, "00005000x")
		e.Bump()
		names, _ = names.Delete(e, "00005000x")
	})
	if within > 2 || across < 8 { // one page each; a path of several nodes each
		t.Errorf("insert and delete of a name: %v allocations within an epoch, %v across", within, across)
	}
}
