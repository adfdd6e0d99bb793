// Package gcpace paces the garbage collector of a server, whose heap is small most of the time, and whose load comes and
// goes. Go lets the heap double between two collections. A server that keeps 5 MB and allocates 100 MB a second is then
// collected twenty times a second; one that keeps 80 MB for idle clients lets another 80 MB lie around for minutes.
//
// Here how much is allocated between two collections follows from how fast it is allocated, so that a collection comes
// about once in a period that is long beside what it takes: at least a second, and longer the more there is to look
// through. It never is less than an eighth of that, and more than Go's own measure only up to 64 MiB. What is lost: a burst
// out of the quiet is collected more often than Go would, for a tenth of a second; and a server that is busy takes up to 64
// MiB more.
//
// It looks ten times a second while that is allocated fast enough to matter, and else after each collection.
//
// It is for the one who owns the process. Run changes a setting of all of it.
package gcpace

import (
	"context"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync/atomic"
	"time"
)

const (
	shortest = time.Second // period that is aimed at

	// A burst is seen soon, for the small room that it finds costs a large heap much. Quiet is believed slowly.
	interval = shortest / 10 // between two looks, while it isn't quiet
	decay    = 0.8           // of a rate from one look to the next

	// Of what is allocated between two collections: roomMin is what the smallest heap of Go has.
	roomMin, roomMax = 4 << 20, 64 << 20

	// A collector looks through about a GiB a second. So one that comes once in 50 ns for each byte takes 2 % of a processor.
	periodPerByte = 50 * time.Nanosecond

	// smallest is what Go takes a smaller heap for.
	smallest = 4 << 20
)

// Run paces the collector until ctx ends, and then sets it back. It does nothing if GOGC or GOMEMLIMIT is set: then
// somebody has decided.
func Run(ctx context.Context) {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	collected := make(chan struct{}, 1)
	defer tell(collected)()
	run(ctx, collected)
}

// run paces the collector. It looks after each collection, as which it is told of them, and until it has become quiet.
func run(ctx context.Context, collected <-chan struct{}) {
	look := time.NewTimer(interval)
	defer look.Stop()
	set, rate, before, at := 100, 0.0, allocated(), time.Now()
	defer func() { debug.SetGCPercent(100) }()
	for {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		case <-collected:
		}
		total, now := allocated(), time.Now()
		rate = max(float64(total-before)/max(now.Sub(at), time.Millisecond).Seconds(), rate*decay)
		before, at = total, now
		p, least := percent(kept(), rate)
		if differ(p, set) {
			set = p
			debug.SetGCPercent(p)
		}
		if !least {
			look.Reset(interval)
		}
	}
}

// tell sends to c after each collection, unless something is in it, until stop is called.
func tell(c chan<- struct{}) (stop func()) {
	over := new(atomic.Bool)
	var wait func()
	wait = func() {
		runtime.AddCleanup(new(collectible), func(struct{}) {
			if over.Load() {
				return
			}
			wait() // for the next one, which may come as soon as this one is told
			select {
			case c <- struct{}{}:
			default:
			}
		}, struct{}{})
	}
	wait()
	return func() { over.Store(true) }
}

// collectible is what a collection finds. Without a pointer in it, it could lie with others in what is freed together.
type collectible struct{ _ *byte }

// differ reports whether a setting is worth changing, for which the world is stopped for some microseconds.
func differ(a, b int) bool { return 8*max(a-b, b-a) > b }

// percent returns what GOGC should be when so many bytes are kept, and so many allocated in a second, and whether it could
// not be less.
func percent(kept uint64, rate float64) (gogc int, least bool) {
	kept = max(kept, smallest)
	period := max(shortest, time.Duration(kept)*periodPerByte)
	room := rate * period.Seconds()
	room = min(room, float64(max(kept, roomMax)))
	if floor := float64(roomMin + kept/8); room <= floor {
		room, least = floor, true
	}
	return int(room * 100 / float64(kept)), least
}

// kept returns how many bytes the last collection has looked through and left: objects, stacks and global variables. It is
// what GOGC is a percentage of.
func kept() uint64 {
	return sum("/gc/heap/live:bytes", "/gc/scan/stack:bytes", "/gc/scan/globals:bytes")
}

// allocated returns how many bytes have ever been allocated.
func allocated() uint64 { return sum("/gc/heap/allocs:bytes") }

func sum(names ...string) (total uint64) {
	samples := make([]metrics.Sample, len(names))
	for i, name := range names {
		samples[i].Name = name
	}
	metrics.Read(samples)
	for _, s := range samples {
		total += s.Value.Uint64()
	}
	return total
}
