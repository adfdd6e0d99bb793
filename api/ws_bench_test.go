package api

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/coord-kv/coord/internal/frame"
	"github.com/coord-kv/coord/op"
)

// BenchmarkEventsEncoded is what telling one watch of one change costs before it is written, in each form.
func BenchmarkEventsEncoded(b *testing.B) {
	e := frame.Event{Event: op.Event{Zxid: 1 << 20, Type: op.Changed, Path: "/app/config", Version: 7}}
	with := e
	with.HasData, with.Data = true, []byte(strings.Repeat("x", 100))
	for name, codec := range map[string]wsCodec{"binary": binCodec{}, "JSON": new(jsonCodec)} {
		for what, e := range map[string]frame.Event{"": e, " with data": with} {
			b.Run(name+what, func(b *testing.B) {
				b.ReportAllocs()
				f := &frame.Events{Watch: 2, Pos: 1 << 20, Events: []frame.Event{e}}
				var buf []byte
				for b.Loop() {
					buf = codec.append(buf[:0], f)
				}
			})
		}
	}
}

// BenchmarkFanOut is one change, from when it is asked for until everybody who watches the node has been told: so many
// connections over loopback, with so many watches each.
func BenchmarkFanOut(b *testing.B) {
	for _, n := range []struct{ conns, watches int }{{1, 1}, {100, 1}, {1000, 1}, {20, 500}} {
		b.Run(fmt.Sprintf("%dx%d", n.conns, n.watches), func(b *testing.B) { fanOut(b, n.conns, n.watches) })
	}
}

func fanOut(b *testing.B, conns, watches int) {
	f := newFixture(b, func(c *Config) { c.Limits.ConnsPerIP = conns })
	var told, readers sync.WaitGroup
	defer readers.Wait()
	for range conns {
		c := f.dialBin()
		defer c.ws.Close()
		c.plain()
		for i := range watches {
			c.send(&frame.Watch{ID: uint64(2 + i), Path: "/a"})
			next[*frame.Watching](c)
		}
		readers.Go(func() {
			for {
				x, err := c.read()
				if err != nil {
					return
				}
				if e, ok := x.(*frame.Events); ok {
					told.Add(-len(e.Events))
				}
			}
		})
	}
	b.ReportAllocs()
	for b.Loop() {
		told.Add(conns * watches)
		f.m.Do(b.Context(), &op.Request{Op: put("/a", "x")})
		told.Wait()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*conns*watches), "ns/watch")
}
