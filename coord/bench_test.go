package coord_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/coord-kv/coord/coord"
	"github.com/coord-kv/coord/coord/coordtest"
)

// The benchmarks say what client, door and state machine cost together in one process, with a disk in memory. How many
// calls are under way at once is in their names.

func benchmark(b *testing.B, under int, call func(i int) error) {
	b.Helper()
	var callers sync.WaitGroup
	b.ResetTimer()
	for w := range under {
		callers.Go(func() {
			for i := w; i < b.N; i += under {
				if err := call(i); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	callers.Wait()
}

const benchNodes = 1000

func benchPath(i int) string { return fmt.Sprintf("/bench/%d", i%benchNodes) }

func benchClient(b *testing.B) *coord.Client {
	c := coordtest.Start(b, 1).Client(b)
	txn := c.Txn().Create("/bench", nil)
	for i := range benchNodes {
		txn.Create(benchPath(i), make([]byte, 100))
	}
	ok(txn.Commit(b.Context()))(b)
	return c
}

func BenchmarkGet(b *testing.B) {
	for _, under := range []int{1, 16, 128} {
		b.Run(fmt.Sprint(under), func(b *testing.B) {
			c := benchClient(b)
			benchmark(b, under, func(i int) error {
				_, err := c.Get(b.Context(), benchPath(i), coord.Sequential())
				return err
			})
		})
	}
}

func BenchmarkSet(b *testing.B) {
	for _, under := range []int{1, 16, 128} {
		b.Run(fmt.Sprint(under), func(b *testing.B) {
			c := benchClient(b)
			ses := ok(c.Session(b.Context()))(b)
			data := make([]byte, 100)
			benchmark(b, under, func(i int) error {
				_, err := ses.Set(b.Context(), benchPath(i), data)
				return err
			})
		})
	}
}
