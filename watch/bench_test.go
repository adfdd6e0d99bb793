package watch

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/coord-kv/coord/op"
)

// The usual case: a change that no stream waits for. Reports what an event costs packed, in bytes.
func BenchmarkPublish(b *testing.B) {
	h := New(Limits{}, nil, 0, 0)
	events := make([]op.Event, 1000)
	for b.Loop() {
		z := h.Current()
		for i := range events {
			z++
			events[i] = change(z, fmt.Sprintf("/services/orders/instances/i-%010d", z))
		}
		h.Publish(events, z)
	}
	s := h.Stats()
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/event")
	b.ReportMetric(float64(s.Bytes)/float64(s.Events), "B/event")
}

// One change to each of n streams on its path, which all take it.
func BenchmarkFanOut(b *testing.B) {
	for _, n := range []int{1, 1000, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			h := New(Limits{}, nil, 0, 0)
			streams := make([]*Stream, n)
			for i := range streams {
				streams[i] = subscribe(b, h, Filter{Path: "/config/orders"}, 0)
			}
			for b.Loop() {
				publish(h, "/config/orders")
				for _, s := range streams {
					<-s.Ready()
					if events, _, err := s.Take(10); len(events) != 1 || err != nil {
						b.Fatal(len(events), err)
					}
				}
			}
		})
	}
}

// Only the publisher's part of a change to 10,000 streams, which have read the last one or have not.
func BenchmarkWake(b *testing.B) {
	for _, stuck := range []bool{false, true} {
		b.Run(fmt.Sprintf("10000,stuck=%v", stuck), func(b *testing.B) {
			h := New(Limits{}, nil, 0, 0)
			streams := make([]*Stream, 10_000)
			for i := range streams {
				streams[i] = subscribe(b, h, Filter{Path: "/config/orders"}, 0)
			}
			for b.Loop() {
				publish(h, "/config/orders")
				if stuck {
					continue
				}
				b.StopTimer()
				for _, s := range streams {
					s.Take(10)
				}
				b.StartTimer()
			}
		})
	}
}

// A change beside 100,000 streams that it does not concern: on other paths, or on one node for another type.
func BenchmarkPublishBesideStreams(b *testing.B) {
	for _, sameNode := range []bool{false, true} {
		b.Run(fmt.Sprintf("100000,sameNode=%v", sameNode), func(b *testing.B) {
			h := New(Limits{}, nil, 0, 0)
			for i := range 100_000 {
				f := Filter{Path: "/services/orders", Types: TypesOf(op.Deleted)}
				if !sameNode {
					f = Filter{Path: fmt.Sprintf("/services/%d", i), Scope: Scope(i % 3)}
				}
				subscribe(b, h, f, 0)
			}
			for b.Loop() {
				publish(h, "/services/orders")
			}
			if n := h.Stats().Behind; n > 0 {
				b.Errorf("woke %d", n)
			}
		})
	}
}

// What an open stream costs in memory, on a path of its own or on one for all.
func BenchmarkStreamMemory(b *testing.B) {
	for _, sameNode := range []bool{false, true} {
		b.Run(fmt.Sprintf("sameNode=%v", sameNode), func(b *testing.B) {
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			h := New(Limits{MaxStreams: 1 << 40}, nil, 0, 0)
			n := 0
			for b.Loop() {
				path := "/services/orders"
				if !sameNode {
					path = fmt.Sprintf("/services/%d", n)
				}
				subscribe(b, h, Filter{Path: path}, 0)
				n++
			}
			runtime.GC()
			runtime.ReadMemStats(&after)
			b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(n), "B/stream")
			runtime.KeepAlive(h)
		})
	}
}

// Reading a full memory of history from its beginning, of which one event in a thousand matches.
func BenchmarkReplay(b *testing.B) {
	h := New(Limits{}, nil, 0, 0)
	for h.Stats().Oldest == 0 {
		z := h.Current() + 1
		publish(h, fmt.Sprintf("/services/orders/instances/i-%010d", z%1000))
	}
	for b.Loop() {
		s := subscribe(b, h, Filter{Path: "/services/orders/instances/i-0000000007"}, h.Oldest())
		takeAll(b, s)
		s.Close()
	}
	b.ReportMetric(float64(h.Stats().Events), "events")
}
