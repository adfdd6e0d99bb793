package gcpace

import (
	"context"
	"runtime/metrics"
	"testing"
	"testing/synctest"
	"time"
)

func TestPercent(t *testing.T) {
	const mib = 1 << 20
	for _, c := range []struct {
		name       string
		kept, rate float64 // MiB
		want       int
	}{
		{"small and idle: as Go does it", 4, 0, 112},
		{"smaller than Go thinks a heap can be", 1, 0, 112},
		{"small and busy: collected once a second", 8, 40, 500},
		{"small and very busy: not more than it is meant to have", 8, 500, 800},
		{"idle clients", 80, 1, 17},
		{"a large heap, and busy: as Go does it", 1000, 500, 100},
		{"a large heap, and idle", 1000, 0, 12},
		{"a large heap is looked through less often", 400, 10, 52},
	} {
		if got := percent(uint64(c.kept*mib), c.rate*mib); got != c.want {
			t.Errorf("%s: %v MiB kept, %v MiB a second: %d %%, want %d", c.name, c.kept, c.rate, got, c.want)
		}
	}
}

var sink []byte

func setting() uint64 {
	s := []metrics.Sample{{Name: "/gc/gogc:percent"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}

// allocate makes garbage.
func allocate(bytes int) {
	for range bytes >> 20 {
		sink = make([]byte, 1<<20)
	}
}

func TestRun(t *testing.T) {
	t.Setenv("GOGC", "")
	t.Setenv("GOMEMLIMIT", "")
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		go Run(ctx)
		synctest.Wait()
		allocate(256 << 20)
		time.Sleep(interval)
		synctest.Wait()
		busy := setting()
		if busy <= 100 {
			t.Errorf("%d %% for a small heap that allocates much", busy)
		}
		time.Sleep(5 * shortest)
		synctest.Wait()
		if idle := setting(); idle >= busy {
			t.Errorf("%d %% when it allocates nothing, %d before", idle, busy)
		}
		stop()
		synctest.Wait()
		if left := setting(); left != 100 {
			t.Errorf("it has left %d %%", left)
		}
	})
}

func TestRunDecided(t *testing.T) {
	for name, value := range map[string]string{"GOGC": "100", "GOMEMLIMIT": "1GiB"} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("GOGC", "")
			t.Setenv("GOMEMLIMIT", "")
			t.Setenv(name, value)
			Run(t.Context()) // returns at once
		})
	}
}
