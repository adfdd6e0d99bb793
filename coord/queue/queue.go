// Package queue hands each item to one consumer at a time, until one has acknowledged it.
//
//	jobs := queue.New(session, "jobs")
//	id, err := jobs.Push(ctx, []byte("resize cat.png"))
//
//	err = jobs.Do(ctx, func(ctx context.Context, item *queue.Item) error {
//		return resize(ctx, item.Data) // nil acknowledges the item, an error returns it
//	})
//
// # Guarantees
//
//   - While a consumer has an item nobody else receives it. If its session ends before it has acknowledged, or it returns
//     the item, that is at its old place again, and others may receive it. None is lost.
//   - An item is acknowledged once: Ack removes it together with the claim to it, and is refused if the claim has ended.
//   - The highest priority comes first, and within one priority who was pushed first: an item is passed over only if
//     somebody had it when the consumer looked.
//   - No more items and bytes than its Limits are in the queue. The service counts, not those who push.
//   - A consumer that waits is woken when there is something; nobody polls.
//
// # What it can't
//
// Keep an item from being worked on twice. A consumer whose session has ended without its noticing may still be at work
// when another one receives the item: what it does must bear to be done twice, or be fenced. The Token of a receipt is
// higher than those of earlier receipts of that item.
//
// # What hurts
//
// Everybody who waits looks for the item that comes, and one gets it. It is a queue for jobs, hundreds in a second, not for
// messages. Items are nodes: keep them small, and what is large elsewhere.
//
// The same queues are there for curl under /v1/queues and for the shell as coord queue.
package queue

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/coord-kv/coord/coord"
	"github.com/coord-kv/coord/coord/internal/contest"
	"github.com/coord-kv/coord/coord/internal/following"
	"github.com/coord-kv/coord/internal/recipe/queue"
	"github.com/coord-kv/coord/op"
)

// Sentinels for errors.Is.
var (
	// ErrEmpty: there is nothing to receive just now.
	ErrEmpty = queue.ErrEmpty
	// ErrNotHeld: the item isn't this consumer's any more: it was acknowledged, returned, or removed.
	ErrNotHeld error = &coord.Error{Code: op.NotHolder}
	// ErrFull: the queue has as many items, or bytes, as its Limits allow.
	ErrFull = coord.ErrQuotaExceeded
)

// MaxPriority is the highest priority, what is received first. The lowest, and the usual one, is 0.
const MaxPriority = queue.MaxPriority

// Via is a *coord.Client or a *coord.Session.
type Via = following.Via

// Queue is a queue. It needs no closing, and is safe for concurrent use.
type Queue struct {
	via Via
	q   *queue.Queue
	err error
}

// New returns the queue of that name, one segment of a path. To receive takes a *coord.Session; a push through a
// *coord.Client may be done although its answer is lost (coord.ErrOutcomeUnknown). Whether it can be a name is checked
// when it is used.
func New(via Via, name string) *Queue {
	q, err := queue.New(via.Conn(), name)
	return &Queue{via, q, err}
}

// PushOption sets something of an item.
type PushOption func(*pushing)

type pushing struct{ priority int }

// Priority puts an item before those of a lower one. From 0 to MaxPriority.
func Priority(n int) PushOption { return func(p *pushing) { p.priority = n } }

// Push puts an item into the queue, and makes the queue if it isn't there. It returns the item's id. The error is ErrFull
// if the queue is full, or coord.ErrTooLarge.
func (q *Queue) Push(ctx context.Context, data []byte, opts ...PushOption) (id string, err error) {
	var p pushing
	for _, o := range opts {
		o(&p)
	}
	if q.err != nil {
		return "", q.err
	}
	return q.q.Push(ctx, data, p.priority)
}

// Item is an item that this session has received, until it is acknowledged or returned, or the session ends.
type Item struct {
	ID       string
	Data     []byte
	Priority int
	Pushed   time.Time  // the cluster's clock
	Token    coord.Zxid // names this receipt; higher than those of earlier ones of the item

	q   *queue.Queue
	ctx context.Context
	end context.CancelCauseFunc
}

// Receive waits for an item and receives it. The error is the context's, or what ended the session. Once an item is
// asked for, the answer is waited for: if ctx ends meanwhile the item is returned by Receive all the same.
func (q *Queue) Receive(ctx context.Context) (*Item, error) {
	return q.receive(ctx, (*queue.Queue).Receive)
}

// TryReceive receives the first item; the error is ErrEmpty if there is none.
func (q *Queue) TryReceive(ctx context.Context) (*Item, error) {
	return q.receive(ctx, (*queue.Queue).TryReceive)
}

type receiving = func(*queue.Queue, context.Context) (*queue.Delivery, error)

func (q *Queue) receive(ctx context.Context, how receiving) (*Item, error) {
	c := q.via.Conn()
	switch {
	case q.err != nil:
		return nil, q.err
	case c.Session() == 0:
		return nil, op.Errorf(op.BadRequest, "to receive takes a session: what it has received is returned when it ends")
	}
	d, err := how(q.q, ctx)
	if err != nil {
		return nil, following.Why(c, err)
	}
	x := &Item{ID: d.ID, Data: d.Data, Priority: d.Priority, Pushed: d.Pushed.Std(), Token: d.Claim, q: q.q}
	x.ctx, x.end = context.WithCancelCause(c.Context())
	return x, nil
}

// Do receives an item, waiting for one, and calls f. If f returns nil the item is acknowledged, else it is returned, also if
// f panics. The context that f is given ends with ctx, and when the session is lost: then somebody else may receive the
// item, and f should return soon.
//
// The error is that of f. If the item was lost meanwhile it is ErrNotHeld or coord.ErrSessionExpired as well, also when f
// returned nil: the item will be worked on again.
func (q *Queue) Do(ctx context.Context, f func(ctx context.Context, item *Item) error) (err error) {
	x, err := q.Receive(ctx)
	if err != nil {
		return err
	}
	within, cancel := contest.Within(ctx, x.ctx)
	defer cancel()
	settle := x.Return
	defer func() {
		if context.Cause(x.ctx) != context.Canceled { // which it is if f has settled it
			err = errors.Join(err, settle(context.WithoutCancel(ctx)))
		}
	}()
	if err = f(within, x); err == nil {
		settle = x.Ack
	}
	return err
}

// Context returns a context that ends when the item is acknowledged or returned, with context.Canceled as its cause, and
// when the session is lost. What coord.Session.Context says of processes that are stopped holds for it too.
func (x *Item) Context() context.Context { return x.ctx }

// Ack says that the item is done: it is gone for good. The error is ErrNotHeld, or coord.ErrSessionExpired, if it isn't
// this consumer's any more: then it is or will be received again.
func (x *Item) Ack(ctx context.Context) error { return x.settle(ctx, (*queue.Queue).Ack) }

// Return gives the item back, to its old place.
func (x *Item) Return(ctx context.Context) error { return x.settle(ctx, (*queue.Queue).Return) }

type settling = func(*queue.Queue, context.Context, string, op.Zxid) error

func (x *Item) settle(ctx context.Context, how settling) error {
	if err := context.Cause(x.ctx); err != nil && err != context.Canceled {
		return err
	}
	err := how(x.q, ctx, x.ID, x.Token)
	if err == nil {
		x.end(context.Canceled)
	}
	return err
}

// Waiting is an item as it stands in a queue.
type Waiting struct {
	ID       string
	Data     []byte
	Priority int
	Pushed   time.Time
	Session  string     // who has received it, such as "s-1c"; "" if nobody has
	Since    time.Time  // when it was received
	Token    coord.Zxid // of that receipt
}

const page = 1000

// Items yields the items in the order in which they are received, those included that somebody has received. An error is
// the last thing that it yields. A queue that isn't there has none.
func (q *Queue) Items(ctx context.Context) iter.Seq2[Waiting, error] {
	if q.err != nil {
		return following.None[Waiting](q.err)
	}
	return func(yield func(Waiting, error) bool) {
		p, o := queue.Page{Limit: page}, op.ReadOptions{Level: op.Linearizable}
		for more := true; more; {
			var list []queue.Item
			var err error
			list, more, _, err = q.q.Items(ctx, p, o)
			if errors.Is(err, coord.ErrNoNode) {
				return
			}
			if err != nil {
				yield(Waiting{}, err)
				return
			}
			for _, x := range list {
				if p.After = x.ID; !yield(waiting(x), nil) {
					return
				}
			}
			more = more && len(list) > 0
		}
	}
}

func waiting(x queue.Item) Waiting {
	w := Waiting{ID: x.ID, Data: x.Data, Priority: x.Priority, Pushed: x.Pushed.Std(), Token: x.Claim}
	if x.Claim != 0 {
		w.Session, w.Since = x.Session.String(), x.Claimed.Std()
	}
	return w
}

// Limits bound what is in a queue, the items included that somebody has received.
type Limits struct {
	Items int64 // 1 to 1,000,000; 10,000 unless configured
	Bytes int64 // of their data, 1 to 1 GiB; 64 MiB unless configured
}

// Configure sets the limits, and makes the queue if it isn't there. What is beyond them already stays.
func (q *Queue) Configure(ctx context.Context, l Limits) error {
	if q.err != nil {
		return q.err
	}
	return q.q.Configure(ctx, queue.Limits{Items: l.Items, Bytes: l.Bytes})
}

// Info is how much is in a queue.
type Info struct {
	Limits   Limits
	Len      int64 // items, those included that somebody has received
	Received int64 // of these
}

// Info returns how much is in the queue. The error is coord.ErrNoNode if it isn't there.
func (q *Queue) Info(ctx context.Context) (Info, error) {
	if q.err != nil {
		return Info{}, q.err
	}
	i, err := q.q.Info(ctx, op.ReadOptions{Level: op.Linearizable})
	return Info{Limits{i.Items, i.Bytes}, i.Len, i.Claimed}, err
}

// Delete removes the queue with all that is in it. The error is coord.ErrNoNode if it isn't there, or coord.ErrTooLarge if it
// has more than one transaction may delete.
func (q *Queue) Delete(ctx context.Context) error {
	if q.err != nil {
		return q.err
	}
	return q.q.Delete(ctx)
}
