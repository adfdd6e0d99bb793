package fsm

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/coord-kv/coord/op"
)

// populate returns a machine with n nodes of 100 bytes in directories of 1,000, and their paths.
func populate(tb testing.TB, n int) (*Machine, []string) {
	tb.Helper()
	m := New()
	paths := make([]string, 0, n)
	data := make([]byte, 100)
	b := &op.Batch{Wall: 1_700_000_000_000}
	for i := range n {
		dir := fmt.Sprintf("/app/%03d", i/1000)
		if i%1000 == 0 {
			b.Requests = append(b.Requests, &op.Request{Op: &op.Create{Path: dir, Parents: true}})
		}
		path := fmt.Sprintf("%s/node-%07d", dir, i)
		paths = append(paths, path)
		b.Requests = append(b.Requests, &op.Request{Op: &op.Create{Path: path, Data: data}})
		if len(b.Requests) >= 1000 || i == n-1 {
			for _, res := range m.Apply(b).Results {
				if res.Err != nil {
					tb.Fatal(res.Err)
				}
			}
			m.View()
			b.Requests = b.Requests[:0]
		}
	}
	return m, paths
}

// batches of size requests made by f are applied until b.N requests are done; each is published, as a loop would.
func apply(b *testing.B, m *Machine, size int, f func(i int) *op.Request) {
	b.Helper()
	b.ReportAllocs()
	batch := &op.Batch{Wall: 1_700_000_000_000, Requests: make([]*op.Request, size)}
	for i := 0; i < b.N; i += size {
		for j := range batch.Requests {
			batch.Requests[j] = f(i + j)
		}
		done := m.Apply(batch)
		if err := done.Results[0].Err; err != nil {
			b.Fatal(err)
		}
		m.View()
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "requests/s")
}

func BenchmarkApplySet(b *testing.B) {
	for _, n := range []int{100_000, 1_000_000} {
		b.Run(fmt.Sprintf("nodes=%d", n), func(b *testing.B) {
			m, paths := populate(b, n)
			rnd := rand.New(rand.NewPCG(1, 2))
			data := make([]byte, 100)
			requests := make([]*op.Request, 4096)
			for i := range requests {
				requests[i] = &op.Request{Op: &op.Set{Data: data, If: op.Always}}
			}
			b.ResetTimer()
			apply(b, m, 100, func(i int) *op.Request {
				r := requests[i%len(requests)]
				r.Op.(*op.Set).Path = paths[rnd.IntN(len(paths))]
				return r
			})
		})
	}
}

func BenchmarkApplyCreate(b *testing.B) {
	m, _ := populate(b, 100_000)
	data := make([]byte, 100)
	b.ResetTimer()
	apply(b, m, 100, func(i int) *op.Request {
		return &op.Request{Op: &op.Create{Path: fmt.Sprintf("/app/%03d/new-%09d", i%100, i), Data: data}}
	})
}

func BenchmarkApplyCreateDelete(b *testing.B) {
	m, _ := populate(b, 100_000)
	b.ResetTimer()
	apply(b, m, 100, func(i int) *op.Request {
		path := fmt.Sprintf("/app/%03d/new-%09d", i/2%100, i/2)
		if i%2 == 0 {
			return &op.Request{Op: &op.Create{Path: path}}
		}
		return &op.Request{Op: &op.Delete{Path: path, If: op.Always}}
	})
}

// BenchmarkApplyLock has 100 sessions take and leave one of 100 locks each, sequenced as over a connection.
func BenchmarkApplyLock(b *testing.B) {
	m, _ := populate(b, 100_000)
	ids := make([]op.SessionID, 100)
	for i := range ids {
		res := m.Apply(&op.Batch{Requests: []*op.Request{
			{Op: &op.OpenSession{Secret: op.Hash{1}}}, {Op: &op.Create{Path: fmt.Sprintf("/locks/%d", i), Parents: true}},
		}})
		ids[i] = res.Results[0].Session.ID
	}
	b.ResetTimer()
	apply(b, m, 100, func(i int) *op.Request {
		who, round := i%100, uint64(i/100)
		dir := fmt.Sprintf("/locks/%d", who)
		r := &op.Request{Session: ids[who], Epoch: 1, Seq: round + 1, Ack: round}
		if round%2 == 0 {
			r.Op = &op.Txn{Then: []op.Op{
				&op.Create{Path: dir + "/_c_1-lock-", Sequence: true, Kind: op.Ephemeral}, &op.Rank{Of: 1},
			}}
		} else {
			r.Op = &op.Delete{Path: fmt.Sprintf("%s/_c_1-lock-%010d", dir, round/2), If: op.Always}
		}
		return r
	})
}

func BenchmarkApplySequencedSet(b *testing.B) {
	m, paths := populate(b, 100_000)
	id := m.Apply(&op.Batch{Requests: []*op.Request{{Op: &op.OpenSession{Secret: op.Hash{1}}}}}).Results[0].Session.ID
	data := make([]byte, 100)
	rnd := rand.New(rand.NewPCG(1, 2))
	b.ResetTimer()
	apply(b, m, 100, func(i int) *op.Request {
		seq := uint64(i + 1)
		return &op.Request{
			Session: id, Epoch: 1, Seq: seq, Ack: max(seq, 100) - 100,
			Op: &op.Set{Path: paths[rnd.IntN(len(paths))], Data: data, If: op.Always},
		}
	})
}

// BenchmarkRead reads from a View while a writer applies and publishes as fast as it can.
func BenchmarkRead(b *testing.B) {
	m, paths := populate(b, 100_000)
	views := make(chan *View, 1)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		rnd := rand.New(rand.NewPCG(3, 4))
		batch := &op.Batch{Requests: make([]*op.Request, 100)}
		for {
			for i := range batch.Requests {
				batch.Requests[i] = &op.Request{Op: &op.Set{Path: paths[rnd.IntN(len(paths))], Data: make([]byte, 100), If: op.Always}}
			}
			m.Apply(batch)
			v := m.View()
			select {
			case <-stop:
				return
			case <-views:
			default:
			}
			select {
			case views <- v:
			default:
			}
		}
	}()
	rnd := rand.New(rand.NewPCG(1, 2))
	v := <-views
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		if i%100 == 0 {
			select {
			case v = <-views:
			default:
			}
		}
		if res := v.Read(&op.Get{Path: paths[rnd.IntN(len(paths))]}, nil); res.Err != nil {
			b.Fatal(res.Err)
		}
	}
	b.StopTimer()
	close(stop)
	<-stopped
}

// BenchmarkRank asks for the place of one of 10,000 waiters.
func BenchmarkRank(b *testing.B) {
	m := New()
	m.Apply(&op.Batch{Requests: []*op.Request{{Op: &op.Create{Path: "/lock"}}}})
	for range 10_000 {
		m.Apply(&op.Batch{Requests: []*op.Request{{Op: &op.Create{Path: "/lock/_c_1-lock-", Sequence: true}}}})
	}
	v := m.View()
	for i := range b.N {
		v.Read(&op.Rank{Path: fmt.Sprintf("/lock/_c_1-lock-%010d", i%10_000)}, nil)
	}
}

func BenchmarkView(b *testing.B) {
	m, _ := populate(b, 1000)
	for range b.N {
		m.view = nil
		m.View()
	}
}

// BenchmarkCheckpoint writes a state of a million nodes and reads it back.
func BenchmarkCheckpoint(b *testing.B) {
	m, _ := populate(b, 1_000_000)
	b.Run("write", func(b *testing.B) {
		for range b.N {
			var n counter
			if _, err := m.View().WriteTo(&n); err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(n))
		}
	})
	data := checkpoint(b, m)
	m = nil
	b.Run("restore", func(b *testing.B) {
		b.SetBytes(int64(len(data)))
		b.ResetTimer()
		for range b.N {
			if _, err := restore(data); err != nil {
				b.Fatal(err)
			}
		}
	})
}

type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

// BenchmarkMemory reports the heap that a node of 100 bytes takes in a tree of a million, all included.
func BenchmarkMemory(b *testing.B) {
	for range b.N {
		before := heap()
		m, paths := populate(b, 1_000_000)
		n := len(paths)
		paths = nil
		m.View()
		data := checkpoint(b, m)
		m = nil
		fresh, err := restore(data)
		if err != nil {
			b.Fatal(err)
		}
		data = nil
		loaded := heap() - before
		churn(fresh)
		b.ReportMetric(float64(loaded)/float64(n), "B/node")
		b.ReportMetric(float64(heap()-before)/float64(n), "B/node-churned")
		runtime.KeepAlive(fresh)
		runtime.KeepAlive(paths)
	}
}

// churn sets a tenth of the nodes once.
func churn(m *Machine) {
	data := make([]byte, 100)
	for i := range 100_000 {
		j := i * 10
		m.Apply(&op.Batch{Requests: []*op.Request{{Op: &op.Set{Path: fmt.Sprintf("/app/%03d/node-%07d", j/1000, j), Data: data, If: op.Always}}}})
		m.View()
	}
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return s.HeapAlloc
}
