package gcpace

import (
	"context"
	"runtime"
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
		least      bool
	}{
		{"small and idle: as Go does it", 4, 0, 112, true},
		{"smaller than Go thinks a heap can be", 1, 0, 112, true},
		{"small and busy: collected once a second", 8, 40, 500, false},
		{"small and very busy: not more than it is meant to have", 8, 500, 800, false},
		{"idle clients", 80, 1, 17, true},
		{"a large heap, and busy: as Go does it", 1000, 500, 100, false},
		{"a large heap, and idle", 1000, 0, 12, true},
		{"a large heap is looked through less often", 400, 10, 52, false},
	} {
		if got, least := percent(uint64(c.kept*mib), c.rate*mib); got != c.want || least != c.least {
			t.Errorf("%s: %v MiB kept, %v MiB a second: %d %%, %t, want %d, %t", c.name, c.kept, c.rate, got, least, c.want, c.least)
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
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		collected := make(chan struct{})
		go run(ctx, collected)
		time.Sleep(5 * shortest) // quiet, it doesn't look
		synctest.Wait()
		quiet := setting()
		allocate(256 << 20)
		time.Sleep(5 * shortest)
		synctest.Wait()
		if got := setting(); got != quiet {
			t.Errorf("%d %% although nothing was collected, %d before", got, quiet)
		}
		allocate(256 << 20)
		collected <- struct{}{}
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

// Each collection is told, and none any more after the end.
func TestTell(t *testing.T) {
	collected := make(chan struct{}, 1)
	stop := tell(collected)
	for range 3 {
		runtime.GC()
		<-collected
	}
	stop()
}

func TestRunEnds(t *testing.T) {
	t.Setenv("GOGC", "")
	t.Setenv("GOMEMLIMIT", "")
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		Run(ctx)
	}()
	stop()
	<-ended
	if left := setting(); left != 100 {
		t.Errorf("it has left %d %%", left)
	}
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
