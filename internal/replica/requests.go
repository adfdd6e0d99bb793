package replica

import (
	"cmp"
	"slices"
	"sync/atomic"
	"time"

	"github.com/coord-kv/coord/op"
)

// What a member admits, and what goes into one log entry.
const (
	maxPending      = 1 << 16  // calls of own clients that wait
	maxPendingBytes = 64 << 20 // and their size
	maxQueueBytes   = 64 << 20 // requests of all members that a leader has not proposed yet
	maxEntryBytes   = 1 << 20  // of one log entry, unless a single request is larger
	maxEntryCount   = 4096     // requests in one log entry
	maxTurnBytes    = 4 << 20  // proposed in one turn, so that one turn never lasts long
	maxUndecided    = 16 << 20 // proposed and not decided yet
)

// Call is one request of a client of this member, waiting for its result.
type Call struct {
	Request *op.Request        // its tag is the core's to set
	Body    []byte             // Request.AppendBody, done on the caller's goroutine
	Done    func(r *op.Result) // called once, by Turn or Persisted, unless Abandon was in time

	id    uint64
	term  uint64     // of the leader that it was last sent to
	start time.Time  // when it came
	watch *stopwatch // that measures how long it took; nil for none
	state atomic.Int32
	doubt atomic.Bool // a copy that was sent before may have been applied behind a snapshot
}

const (
	callQueued    int32 = iota // in no log
	callSent                   // it may stand in a log
	callAbandoned              // its client doesn't wait any more
)

// Abandon ends the wait for the result. It returns true if the request surely has not been and will not be done; false
// means that nobody knows, and Done may still be called. Safe for concurrent use with the core.
func (k *Call) Abandon() bool {
	return k.state.CompareAndSwap(callQueued, callAbandoned) && !k.doubt.Load()
}

// answer hands the result to who waits.
func (k *Call) answer(r *op.Result) {
	if k.watch != nil {
		outcome := op.Decided
		if r.Err != nil {
			outcome = r.Err.Outcome
		}
		k.watch.done(k.start, outcome)
	}
	k.Done(r)
}

// stopwatch tells an Observer how long calls took. It reads the clock once for all that are answered together: it belongs
// to who moves the core on, and is set back whenever that is done.
type stopwatch struct {
	observe Observer
	now     time.Time
}

func (w *stopwatch) done(start time.Time, outcome op.Outcome) {
	if w.now.IsZero() {
		w.now = time.Now()
	}
	w.observe.ProposalDone(max(0, w.now.Sub(start)), outcome)
}

// resendable reports whether the state machine notices a second copy of the request.
func (k *Call) resendable() bool { return k.Request.Seq != 0 || k.Request.Key != nil }

// item is an encoded request in a leader's queue.
type item struct {
	call *Call  // if it is the leader's own client's; else nil
	raw  []byte // tag and body; of a call the body alone
}

// tagBytes is about what a tag takes.
const tagBytes = 24

func (it item) size() int {
	if it.call != nil {
		return tagBytes + len(it.raw)
	}
	return len(it.raw)
}

func (it item) append(b []byte) []byte {
	if it.call != nil {
		b = it.call.Request.Tag.Append(b)
	}
	return append(b, it.raw...)
}

// requests takes requests from this member's clients to the leader, and on a leader from its queue into the log.
//
// A leader may be deposed with requests in its queue or its log, and nobody can know at once which of them survive. But
// as soon as this member has applied an entry of a later term, it does know: every future leader's log begins with
// exactly what has been applied here, terms never fall along a log, and a leader takes forwarded requests only under
// the term that they were addressed to. So a request that was sent under an earlier term and is not answered by then
// is in no log and never will be, and is sent again. A change of leader thus costs a client time and no answer.
type requests struct {
	c       *Core
	next    uint64
	pending map[uint64]*Call
	bytes   int     // of pending
	unsent  []*Call // in order of id
	forward forwarder

	queue      []item // leader only
	queueBytes int
	undecided  int    // bytes proposed by this leadership and not decided yet
	inFlight   []int  // sizes of those entries
	lastBatch  uint64 // Clock.Mono of this leadership's last batch; 0 before its first
	handing    int    // ticks for which nothing is proposed, because leadership is being handed over
}

func (q *requests) init(c *Core) {
	q.c = c
	q.pending = map[uint64]*Call{}
	q.forward.init(q)
}

// Submit takes a call of a client. It is refused at once if too much waits already.
func (c *Core) Submit(k *Call) {
	q := &c.requests
	if err := q.admit(k.Request.Op, len(k.Body)); err != nil {
		c.answerCall(k, &op.Result{Err: err})
		return
	}
	q.next++
	k.id = q.next
	k.Request.Tag = op.Tag{Member: c.cfg.Self, Boot: c.cfg.Boot, Call: k.id}
	q.pending[k.id] = k
	q.bytes += len(k.Body)
	q.unsent = append(q.unsent, k)
}

func (q *requests) admit(o op.Op, size int) *op.Error {
	switch limit := q.c.pub.View.Limits().RequestBytes; {
	case int64(size) > limit:
		return &op.Error{Code: op.TooLarge, Have: int64(size), Limit: limit}
	case len(q.pending) >= maxPending || q.bytes+size > maxPendingBytes:
		return op.Errorf(op.Overloaded, "this member has %d requests waiting; try again, or another member", len(q.pending))
	case q.c.digests.lowSpace() && !frees(o):
		return op.Errorf(op.NoSpace, "a disk of the cluster is nearly full; delete something, or make room: writes go on by themselves then")
	case q.c.halt.halted():
		return op.Errorf(op.Starting, "%s; ask another member", q.c.halt.reason())
	}
	return nil
}

func (q *requests) turn() {
	switch {
	case q.c.lead == 0 || q.handing > 0:
	case q.c.isLeader():
		q.enqueueOwn()
		q.propose()
	default:
		q.forward.turn()
	}
	if q.handing > 0 && q.undecided == 0 {
		q.c.transfer()
	}
}

func (q *requests) tick() {
	q.forward.tick()
	if q.handing > 0 {
		q.handing--
	}
}

// take removes the first unsent call that somebody still waits for and returns it, or nil.
func (q *requests) take() *Call {
	for len(q.unsent) > 0 {
		k := q.unsent[0]
		q.unsent[0] = nil
		q.unsent = q.unsent[1:]
		if !k.state.CompareAndSwap(callQueued, callSent) {
			q.forget(k)
			continue
		}
		k.term = q.c.term
		return k
	}
	return nil
}

func (q *requests) forget(k *Call) {
	delete(q.pending, k.id)
	q.bytes -= len(k.Body)
}

func (q *requests) enqueueOwn() {
	for q.queueBytes < maxQueueBytes {
		k := q.take()
		if k == nil {
			return
		}
		q.enqueue(item{k, k.Body})
	}
}

func (q *requests) enqueue(it item) {
	q.queue = append(q.queue, it)
	q.queueBytes += it.size()
}

// unsend makes calls that surely are in no log wait again, in order.
func (q *requests) unsend(ids []uint64) {
	for _, id := range ids {
		if k := q.pending[id]; k != nil && k.state.CompareAndSwap(callSent, callQueued) {
			q.unsent = append(q.unsent, k)
		}
	}
	slices.SortFunc(q.unsent, func(a, b *Call) int { return cmp.Compare(a.id, b.id) })
}

// leaderChanged drops the queue. Own calls in it were never proposed, so they wait again; those of other members wait
// there, until an entry of the new term tells them the same.
func (q *requests) leaderChanged() {
	var own []uint64
	for _, it := range q.queue {
		if it.call != nil {
			own = append(own, it.call.id)
		}
	}
	q.queue, q.queueBytes = nil, 0
	q.unsend(own)
	q.lastBatch, q.undecided, q.inFlight, q.handing = 0, 0, nil, 0
	q.forward.leaderChanged()
}

// termApplied says that an entry of a later term than any before has been applied: what was sent earlier and is not
// answered is in no log.
func (q *requests) termApplied(term uint64) {
	var dead []uint64
	for id, k := range q.pending {
		if k.state.Load() == callSent && k.term < term {
			dead = append(dead, id)
		}
	}
	q.unsend(dead)
}

// decided answers the call with what the state machine said.
func (q *requests) decided(id uint64, r *op.Result) {
	k := q.pending[id]
	if k == nil {
		return
	}
	q.forget(k)
	if k.state.Swap(callSent) == callQueued { // a copy from before a snapshot
		q.unsent = slices.DeleteFunc(q.unsent, func(u *Call) bool { return u == k })
	}
	q.c.answerCall(k, r)
}

// installed resolves every call that was sent after the state has been replaced by a snapshot, which may contain its
// effect: from the result kept in the state, by asking again where that does no harm, else as unknown.
func (q *requests) installed() {
	view := q.c.machine.View()
	var again []uint64
	for _, id := range sortedKeys(q.pending) {
		k := q.pending[id]
		r, kept := view.Answer(k.Request)
		switch {
		case k.state.Load() != callSent:
		case kept:
			q.decided(id, r)
		case k.resendable():
			k.doubt.Store(true)
			again = append(again, id)
		default:
			q.forget(k)
			q.c.answerCall(k, &op.Result{Err: unknown("this member was brought up to date by a snapshot")})
		}
	}
	q.unsend(again)
}

func unknown(why string) *op.Error {
	err := op.Errorf(op.OutcomeUnknown, "%s; the request may have been done, or may be yet", why)
	err.Outcome = op.Unknown
	return err
}

func sortedKeys[V any](m map[uint64]V) []uint64 {
	keys := make([]uint64, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// propose puts what is queued into log entries.
func (q *requests) propose() {
	if q.c.raft.BasicStatus().LeadTransferee != 0 {
		return
	}
	for turn := 0; len(q.queue) > 0 && turn < maxTurnBytes && q.undecided < maxUndecided; {
		entry, n, size := q.fill()
		if err := q.c.raft.Propose(entry); err != nil {
			return // no leader any more, which the next turn notices
		}
		q.queue = slices.Delete(q.queue, 0, n)
		q.queueBytes -= size
		q.lastBatch = max(1, q.c.now.Mono)
		q.undecided += size
		q.inFlight = append(q.inFlight, size)
		turn += size
	}
}

// fill encodes the head of the queue as one entry and returns how many requests, and bytes of them, it took.
func (q *requests) fill() (entry []byte, n, size int) {
	for n < len(q.queue) && n < maxEntryCount && (n == 0 || size+q.queue[n].size() <= maxEntryBytes) {
		size += q.queue[n].size()
		n++
	}
	age := uint64(0)
	if q.lastBatch != 0 {
		age = q.c.now.Mono - q.lastBatch
	}
	entry = op.AppendBatchHeader(make([]byte, 0, size+32), q.c.now.Wall, age, n)
	for _, it := range q.queue[:n] {
		entry = it.append(entry)
	}
	return entry, n, size
}

// entryDecided notes that the oldest undecided entry of this leadership is decided.
func (q *requests) entryDecided() {
	if len(q.inFlight) > 0 {
		q.undecided -= q.inFlight[0]
		q.inFlight = q.inFlight[1:]
	}
}

// own queues a request of the leader itself, which nobody waits for.
func (q *requests) own(o op.Op) {
	r := &op.Request{Tag: op.Tag{Member: q.c.cfg.Self, Boot: q.c.cfg.Boot}, Op: o}
	q.enqueue(item{raw: r.Append(nil)})
}
