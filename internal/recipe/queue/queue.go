// Package queue hands each item to one consumer at a time, until one has acknowledged it.
//
//	/queues/NAME                    {"max_items": …, "max_bytes": …}
//	/queues/NAME/items/PP-N         an item; sorts by priority, then by the order in which they came
//	/queues/NAME/claims/PP-N        ephemeral: who has received the item
//
// Guarantees: while an item is claimed nobody else receives it. The claim ends with the session of its consumer, or when it
// returns the item, which is then at its old place again. To acknowledge deletes item and claim in one transaction, and is
// refused if the claim has ended: so an item is acknowledged once. No more items than max_items, and no more bytes, are
// in the queue; the state machine counts. Among items of one priority, who came first is received first: one is passed
// over only if it was claimed when the consumer looked.
//
// What it can't: keep an item from being worked on twice. A consumer whose session has ended without its noticing may
// still be at work when the item is received again: what it does must be fenced, or bear to be done twice.
//
// What hurts: everybody who waits looks for the item that comes, and one gets it; a receipt takes a listing of the claims,
// and of as many items. It is a queue for jobs, hundreds in a second, not for messages.
package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strconv"

	"github.com/coord-kv/coord/internal/recipe"
	"github.com/coord-kv/coord/internal/recipe/attempt"
	"github.com/coord-kv/coord/internal/recipe/follow"
	"github.com/coord-kv/coord/internal/recipe/group"
	"github.com/coord-kv/coord/op"
	"github.com/coord-kv/coord/watch"
)

// Dir is where queues are.
const Dir = "/queues"

// MaxPriority is the highest priority: what is received first. The lowest, and the usual one, is 0.
const MaxPriority = 99

// Bounds of a queue that nobody has configured, and those that can be asked for.
const (
	DefaultItems = 10_000
	DefaultBytes = 64 << 20
	MostItems    = 1_000_000
	MostBytes    = 1 << 30
)

// Queue is a queue as one session sees it. It may be used concurrently. To receive takes a session.
type Queue struct {
	conn recipe.Conn
	dir  string
}

// New returns the queue of that name, one segment of a path. The error is a bad_path.
func New(c recipe.Conn, name string) (*Queue, error) {
	if err := group.CheckName(name); err != nil {
		return nil, err
	}
	return &Queue{c, op.Join(Dir, name)}, nil
}

func (q *Queue) items() string          { return q.dir + "/items" }
func (q *Queue) claims() string         { return q.dir + "/claims" }
func (q *Queue) item(id string) string  { return op.Join(q.items(), id) }
func (q *Queue) claim(id string) string { return op.Join(q.claims(), id) }
func is(err error, code op.Code) bool   { return errors.Is(err, &op.Error{Code: code}) }
func exactly(path string, z op.Zxid) op.Op {
	return &op.Delete{Path: path, If: op.Cond{Version: op.AnyVersion, Mzxid: z}}
}

// Filter matches every change of the queue.
func (q *Queue) Filter() watch.Filter { return watch.Filter{Path: q.dir, Scope: watch.Subtree} }

// Limits bound what is in a queue.
type Limits struct {
	Items int64 `json:"max_items"` // claimed ones too
	Bytes int64 `json:"max_bytes"` // of their data
}

func (l Limits) check() error {
	if l.Items < 1 || l.Items > MostItems || l.Bytes < 1 || l.Bytes > MostBytes {
		return op.Errorf(op.BadRequest, "a queue has 1 to %d items and 1 to %d bytes", MostItems, MostBytes)
	}
	return nil
}

// Configure sets the limits, and makes the queue if it isn't there. Items that are beyond them stay.
func (q *Queue) Configure(ctx context.Context, l Limits) error {
	if err := l.check(); err != nil {
		return err
	}
	for {
		set := []op.Op{&op.Set{Path: q.dir, Data: q.data(l), If: op.Always}, q.quota(l)}
		if _, err := q.conn.Do(ctx, &op.Txn{Then: set}); !is(err, op.NoNode) {
			return err
		}
		if err := q.make(ctx, l); !is(err, op.NodeExists) {
			return err
		}
	}
}

func (q *Queue) data(l Limits) []byte {
	b, err := json.Marshal(l)
	if err != nil {
		panic(fmt.Sprintf("queue: couldn't encode limits: %v", err)) // two numbers can't fail
	}
	return b
}

// quota has the state machine count the items; the directory itself is one of its nodes.
func (q *Queue) quota(l Limits) op.Op {
	return &op.SetQuota{Path: q.items(), Quota: op.Quota{HardCount: l.Items + 1, HardBytes: l.Bytes}}
}

func (q *Queue) make(ctx context.Context, l Limits) error {
	_, err := q.conn.Do(ctx, &op.Txn{Then: []op.Op{
		&op.Create{Path: q.dir, Data: q.data(l), Parents: true},
		&op.Create{Path: q.items()}, &op.Create{Path: q.claims()}, q.quota(l),
	}})
	return err
}

// Push puts an item into the queue, and makes the queue if it isn't there. It returns the item's id. The error is
// quota_exceeded if the queue is full, too_large, or sequence_exhausted after ten billion items.
func (q *Queue) Push(ctx context.Context, data []byte, priority int) (string, error) {
	if priority < 0 || priority > MaxPriority {
		return "", op.Errorf(op.BadRequest, "priority %d; it is 0 to %d, and the highest comes first", priority, MaxPriority)
	}
	prefix := fmt.Sprintf("%02d-", MaxPriority-priority)
	for {
		res, err := q.conn.Do(ctx, &op.Create{Path: q.item(prefix), Data: data, Sequence: true})
		switch {
		case err == nil:
			return op.Base(res.Path), nil
		case !is(err, op.NoNode):
			return "", q.full(err)
		}
		if err := q.make(ctx, Limits{DefaultItems, DefaultBytes}); err != nil && !is(err, op.NodeExists) {
			return "", err
		}
	}
}

// full says of a quota_exceeded error that the queue is full, if that is what it is about.
func (q *Queue) full(err error) error {
	e, ok := errors.AsType[*op.Error](err)
	if !ok || e.Code != op.QuotaExceeded || e.Path != q.items() {
		return err
	}
	out := *e
	out.Path, out.Detail, out.Limit, out.Have = q.dir, "the queue is full", 0, 0
	return &out
}

// Delivery is an item that this session has received and not acknowledged.
type Delivery struct {
	ID       string
	Data     []byte
	Priority int
	Claim    op.Zxid // names this receipt of the item
	Pushed   op.Time
}

// ErrEmpty is the error of TryReceive when there is nothing to be had.
var ErrEmpty error = &op.Error{Code: op.NoNode, Outcome: op.Decided, Detail: "no item is waiting in the queue"}

// TryReceive receives the first item that nobody has claimed. The error is ErrEmpty if there is none, or session_expired.
// What was asked for is not abandoned when ctx ends: an item is received, or left to others.
func (q *Queue) TryReceive(ctx context.Context) (*Delivery, error) {
	res, err := attempt.Do(context.WithoutCancel(ctx), q.conn, func() ([]op.Op, error) {
		id, _, err := q.first(ctx, op.ReadOptions{Level: op.Linearizable})
		if err == nil && id == "" {
			return nil, attempt.Refuse(ErrEmpty)
		}
		return q.claiming(id), err
	})
	return q.delivered(res, err)
}

// Receive is TryReceive that waits for an item. The error is ctx's, or session_expired.
func (q *Queue) Receive(ctx context.Context) (*Delivery, error) {
	f := follow.New(q.conn, q.Filter(), q.first)
	defer f.Close()
	for {
		id, _, err := f.Next(ctx)
		if err != nil {
			return nil, err
		}
		if id == "" {
			continue
		}
		res, err := q.conn.Do(context.WithoutCancel(ctx), &op.Txn{Then: q.claiming(id)})
		if !is(err, op.NodeExists) && !is(err, op.NoNode) {
			return q.delivered(res, err)
		}
		// Somebody else was faster. That was a change, after the state in which the item was free: the next one is sure.
	}
}

func (q *Queue) claiming(id string) []op.Op {
	return []op.Op{&op.Get{Path: q.item(id)}, &op.Create{Path: q.claim(id), Kind: op.Ephemeral}}
}

// delivered returns the item that was claimed, unless the session has ended meanwhile, and the claim with it.
func (q *Queue) delivered(res *op.Result, err error) (*Delivery, error) {
	if lost := follow.Lost(q.conn); lost != nil {
		return nil, lost
	}
	if err != nil {
		return nil, err
	}
	item, claim := &res.Results[0], &res.Results[1]
	id := op.Base(claim.Path)
	return &Delivery{id, item.Data, priorityOf(id), claim.Stat.Czxid, item.Stat.Ctime}, nil
}

func priorityOf(id string) int {
	n, err := strconv.Atoi(id[:min(2, len(id))])
	if err != nil {
		return 0
	}
	return MaxPriority - n
}

// first returns the first item that nobody has claimed, "" if there is none. Of so many items as there are claims and one
// more, one is free.
func (q *Queue) first(ctx context.Context, o op.ReadOptions) (string, op.Zxid, error) {
	claimed, at := make(map[string]bool), op.Zxid(0)
	for id, z := range q.names(ctx, q.claims(), 0, o) {
		if z.err != nil {
			return "", 0, z.err
		}
		if at == 0 {
			at = z.zxid
		}
		claimed[id] = id != ""
	}
	o = op.ReadOptions{Level: op.Eventual, MinZxid: max(at, o.MinZxid)}
	for id, z := range q.names(ctx, q.items(), len(claimed), o) {
		if z.err != nil {
			return "", 0, z.err
		}
		if id != "" && !claimed[id] {
			return id, at, nil
		}
	}
	return "", at, nil
}

type reading struct {
	zxid op.Zxid
	err  error
}

// names yields the children of dir, and before those of each page "", with the state that it is from. One that isn't there
// has none. Pages have so many names, 0 for as many as there can be.
func (q *Queue) names(ctx context.Context, dir string, page int, o op.ReadOptions) iter.Seq2[string, reading] {
	return func(yield func(string, reading) bool) {
		for after := ""; ; {
			res, err := q.conn.Read(ctx, &op.Children{Path: dir, After: after, Limit: int32(page)}, o)
			if e, ok := errors.AsType[*op.Error](err); ok && e.Code == op.NoNode {
				yield("", reading{zxid: e.Zxid})
				return
			}
			if err != nil {
				yield("", reading{err: err})
				return
			}
			at := reading{zxid: res.Zxid}
			if !yield("", at) {
				return
			}
			for _, n := range res.Nodes {
				if after = op.Base(n.Path); !yield(after, at) {
					return
				}
			}
			if !res.More {
				return
			}
			o = op.ReadOptions{Level: op.Eventual, MinZxid: res.Zxid}
		}
	}
}

// Ack says that the item is done: it is gone for good. The error is not_holder if the claim has ended, because its session
// has or the item was returned: then somebody else may receive it.
func (q *Queue) Ack(ctx context.Context, id string, claim op.Zxid) error {
	return q.end(ctx, id, exactly(q.claim(id), claim), &op.Delete{Path: q.item(id), If: op.Always})
}

// Return gives the item back, to its old place. The error is not_holder if the claim has ended already.
func (q *Queue) Return(ctx context.Context, id string, claim op.Zxid) error {
	return q.end(ctx, id, exactly(q.claim(id), claim))
}

func (q *Queue) end(ctx context.Context, id string, ops ...op.Op) error {
	if err := group.CheckName(id); err != nil {
		return err
	}
	_, err := q.conn.Do(ctx, &op.Txn{Then: ops})
	if is(err, op.NoNode) || is(err, op.BadVersion) {
		return lostClaim(q.item(id))
	}
	return err
}

func lostClaim(path string) error {
	return &op.Error{
		Code: op.NotHolder, Outcome: op.Decided, Path: path,
		Detail: "the claim has ended: the item was acknowledged, returned, or the session that had it is over",
	}
}

// Delete removes the queue with all that is in it. The error is no_node if it isn't there, or too_large if it has more than
// one transaction may delete.
func (q *Queue) Delete(ctx context.Context) error {
	_, err := q.conn.Do(ctx, &op.Delete{Path: q.dir, If: op.Always, Recursive: true})
	return err
}
