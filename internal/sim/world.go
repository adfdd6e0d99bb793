package sim

import (
	"container/heap"
	"fmt"
	"hash"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"runtime/debug"
	"time"

	"github.com/coord-kv/coord/fsm"
	"github.com/coord-kv/coord/internal/check"
)

// world is everything there is in a run, and its time.
type world struct {
	profile Profile
	rng     *rand.Rand
	now     time.Duration
	order   int64 // of the last thing that was noted in the history
	queue   queue
	trace   trace

	members []*member
	net     *network
	tasks   []*task
	history *check.History
	count   Counters
	failed  error // something that must never happen has happened
	quiet   bool  // clients should come to an end

	wrong map[fsm.Digest]bool // of checkpoints of states that the log doesn't make
}

// newWorld returns a world without members.
func newWorld(p Profile, out io.Writer) *world {
	w := &world{
		profile: p, rng: rand.New(rand.NewPCG(p.Seed, 0x636f6f7264)), history: &check.History{Small: check.Small{Schedules: schedules}},
		wrong: map[fsm.Digest]bool{},
		trace: trace{out: out, sum: fnv.New64a()},
	}
	w.net = &network{w: w}
	return w
}

// event is something that will happen.
type event struct {
	at    time.Duration
	order uint64 // of its scheduling: what is due at the same time happens in this order
	do    func()
}

// queue is a heap of events, by time.
type queue struct {
	events []event
	next   uint64
}

func (q *queue) Len() int { return len(q.events) }
func (q *queue) Less(i, j int) bool {
	a, b := &q.events[i], &q.events[j]
	return a.at < b.at || a.at == b.at && a.order < b.order
}
func (q *queue) Swap(i, j int) { q.events[i], q.events[j] = q.events[j], q.events[i] }
func (q *queue) Push(x any)    { q.events = append(q.events, x.(event)) }
func (q *queue) Pop() any {
	last := q.events[len(q.events)-1]
	q.events = q.events[:len(q.events)-1]
	return last
}

// after lets f happen d from now.
func (w *world) after(d time.Duration, f func()) {
	w.queue.next++
	heap.Push(&w.queue, event{w.now + max(0, d), w.queue.next, f})
}

// run lets everything happen that is due until then, or until the condition holds.
func (w *world) run(until time.Duration, enough func() bool) {
	for w.failed == nil && w.queue.Len() > 0 && w.queue.events[0].at <= until {
		if enough != nil && enough() {
			return
		}
		e := heap.Pop(&w.queue).(event)
		w.now = e.at
		w.guard(e.do)
	}
	if w.failed == nil && (enough == nil || !enough()) {
		w.now = until
	}
}

// guard makes a panic the run's failure.
func (w *world) guard(do func()) {
	defer func() {
		if p := recover(); p != nil {
			w.fail("panic: %v\n%s", p, debug.Stack())
		}
	}()
	do()
}

func (w *world) fail(format string, args ...any) {
	if w.failed == nil {
		w.failed = fmt.Errorf(format, args...)
		w.note("FAILED: %v", w.failed)
	}
}

// moment is now, with a place of its own in the order of things.
func (w *world) moment() check.Moment {
	w.order++
	return check.Moment{Order: w.order, At: w.now}
}

// trace is the record of a run: its sum tells two runs apart.
type trace struct {
	out   io.Writer // nil if nobody reads it
	sum   hash.Hash64
	lines int
}

// note writes a line of the trace.
func (w *world) note(format string, args ...any) {
	w.trace.lines++
	line := fmt.Appendf(nil, "%12.6f ", w.now.Seconds())
	line = append(fmt.Appendf(line, format, args...), '\n')
	w.trace.sum.Write(line)
	if w.trace.out != nil {
		w.trace.out.Write(line)
	}
}

// chance is true in so many cases of a hundred.
func (w *world) chance(percent float64) bool { return w.rng.Float64()*100 < percent }

// between returns a duration from that range, short ones being as likely as long ones at any scale.
func (w *world) between(low, high time.Duration) time.Duration {
	if high <= low {
		return low
	}
	return low + time.Duration(w.rng.Float64()*w.rng.Float64()*float64(high-low))
}

// pick returns one of the items.
func pick[T any](w *world, items []T) T { return items[w.rng.IntN(len(items))] }
