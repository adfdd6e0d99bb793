package tree_test

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
	"unsafe"

	"github.com/coord-kv/coord/fsm/tree"
)

const million = 1_000_000

type value struct{ _ [64]byte }

// paths returns n paths of about 30 bytes, in random order.
func paths(n int) []string {
	p := make([]string, n)
	for i := range p {
		p[i] = fmt.Sprintf("/service/app-%04d/node-%08d", i%1000, i)
	}
	rand.New(rand.NewPCG(1, 2)).Shuffle(n, func(i, j int) { p[i], p[j] = p[j], p[i] })
	return p
}

func heap() uint64 {
	var s runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&s)
	return s.HeapAlloc
}

func millionMap(keys []string, v *value) (*tree.Epoch, *tree.Map[string, *value]) {
	e := new(tree.Epoch)
	m := tree.NewMap[string, *value](e)
	for _, k := range keys {
		m.Set(k, v)
	}
	return e, m
}

func BenchmarkMap(b *testing.B) {
	keys, v := paths(million), new(value)
	before := heap()
	e, m := millionMap(keys, v)
	overhead := float64(heap()-before)/million - float64(unsafe.Sizeof("")+unsafe.Sizeof(v))
	b.Run("Load", func(b *testing.B) {
		for b.Loop() {
			millionMap(keys, v)
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/million, "ns/entry")
		b.ReportMetric(overhead, "B-overhead/entry")
	})
	b.Run("Get", func(b *testing.B) {
		s := m.Snapshot()
		e.Bump()
		for i := 0; b.Loop(); i++ {
			if _, ok := s.Get(keys[i*7919%million]); !ok {
				b.Fatal("lost a key")
			}
		}
	})
	for _, every := range []int{1, 64, 1024} {
		b.Run(fmt.Sprintf("SetSnapshotEvery%d", every), func(b *testing.B) {
			b.ReportAllocs()
			var s tree.Snap[string, *value]
			for i := 0; b.Loop(); i++ {
				m.Set(keys[i*7919%million], v)
				if i%every == 0 {
					s = m.Snapshot()
					e.Bump()
				}
			}
			runtime.KeepAlive(s)
		})
	}
	b.Run("DeleteAndSetSnapshotEvery64", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			k := keys[i*7919%million]
			m.Delete(k)
			m.Set(k, v)
			if i%64 == 0 {
				m.Snapshot()
				e.Bump()
			}
		}
	})
	b.Run("Snapshot", func(b *testing.B) {
		var s tree.Snap[string, *value]
		for b.Loop() {
			s = m.Snapshot()
			e.Bump()
		}
		runtime.KeepAlive(s)
	})
	runtime.KeepAlive(keys)
}

// BenchmarkGoMap is the builtin map at the same work, which has no versions.
func BenchmarkGoMap(b *testing.B) {
	keys, v := paths(million), new(value)
	m := map[string]*value{}
	for _, k := range keys {
		m[k] = v
	}
	b.Run("Get", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			if _, ok := m[keys[i*7919%million]]; !ok {
				b.Fatal("lost a key")
			}
		}
	})
	b.Run("Set", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			m[keys[i*7919%million]] = v
		}
	})
}

func names(n int) []string {
	p := make([]string, n)
	for i := range p {
		p[i] = fmt.Sprintf("lock-%010d", i)
	}
	return p
}

func BenchmarkNames(b *testing.B) {
	for _, n := range []int{10, 1000, 100_000} {
		ascending := names(n)
		shuffled := append([]string{}, ascending...)
		rand.New(rand.NewPCG(3, 4)).Shuffle(n, func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		load := func(names []string) (e *tree.Epoch, s tree.Names) {
			e = new(tree.Epoch)
			for _, name := range names {
				s, _ = s.Insert(e, name)
			}
			return e, s
		}
		for _, order := range []struct {
			name  string
			names []string
		}{{"Ascending", ascending}, {"Random", shuffled}} {
			b.Run(fmt.Sprintf("Load%s/%d", order.name, n), func(b *testing.B) {
				before := heap()
				_, s := load(order.names)
				overhead := float64(heap()-before)/float64(n) - float64(len(ascending[0]))
				runtime.KeepAlive(s)
				for b.Loop() {
					load(order.names)
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/name")
				b.ReportMetric(overhead, "B-overhead/name")
			})
		}
		for _, every := range []int{1, 64} {
			b.Run(fmt.Sprintf("DeleteInsertBumpEvery%d/%d", every, n), func(b *testing.B) {
				b.ReportAllocs()
				e, s := load(shuffled)
				for i := 0; b.Loop(); i++ {
					name := shuffled[i%n]
					s, _ = s.Delete(e, name)
					s, _ = s.Insert(e, name)
					if i%every == 0 {
						e.Bump()
					}
				}
			})
		}
		b.Run(fmt.Sprintf("Has/%d", n), func(b *testing.B) {
			_, s := load(shuffled)
			for i := 0; b.Loop(); i++ {
				s.Has(shuffled[i*7919%n])
			}
		})
		b.Run(fmt.Sprintf("After/%d", n), func(b *testing.B) {
			_, s := load(shuffled)
			count := 0
			for b.Loop() {
				for range s.After("") {
					count++
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(count), "ns/name")
		})
	}
}

func BenchmarkSet(b *testing.B) {
	type key struct{ seq, czxid int64 }
	order := func(a, b key) int { return cmp.Or(cmp.Compare(a.seq, b.seq), cmp.Compare(a.czxid, b.czxid)) }
	const n = 10_000
	e, s := new(tree.Epoch), tree.NewSet(order)
	for _, i := range rand.New(rand.NewPCG(5, 6)).Perm(n) {
		s, _ = s.Insert(e, key{int64(i), 1})
	}
	b.Run("Rank", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			s.Rank(key{int64(i * 7919 % n), 1})
		}
	})
	b.Run("At", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			s.At(i * 7919 % n)
		}
	})
	// A queue: the first goes, a new last one comes.
	b.Run("QueueBumpEvery64", func(b *testing.B) {
		b.ReportAllocs()
		q := s
		for i := 0; b.Loop(); i++ {
			first, _ := q.Min()
			q, _ = q.Delete(e, first)
			q, _ = q.Insert(e, key{int64(n + i), 1})
			if i%64 == 0 {
				e.Bump()
			}
		}
	})
}
