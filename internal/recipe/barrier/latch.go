package barrier

import (
	"context"
	"errors"
	"strconv"

	"github.com/coord-kv/coord/internal/recipe"
	"github.com/coord-kv/coord/internal/recipe/attempt"
	"github.com/coord-kv/coord/internal/recipe/follow"
	"github.com/coord-kv/coord/internal/recipe/group"
	"github.com/coord-kv/coord/op"
	"github.com/coord-kv/coord/watch"
)

// MaxCount is the most that a latch counts down from.
const MaxCount = 100_000

// Latch opens when it has been counted down so often as it was set to, and stays open.
//
//	/latches/NAME        the count that it was set to, in decimal
//	/latches/NAME/ID     somebody has counted it down
//
// Guarantees: each id counts once, however often and by whoever it is repeated, also after a restart of the program. Nobody
// is let through before the last count, and nobody who waits misses it.
//
// It may be used concurrently; a session is not needed.
type Latch struct {
	conn recipe.Conn
	path string
}

// NewLatch returns the latch of that name, one segment of a path. The error is a bad_path.
func NewLatch(c recipe.Conn, name string) (*Latch, error) {
	if err := group.CheckName(name); err != nil {
		return nil, err
	}
	return &Latch{c, op.Join(LatchesDir, name)}, nil
}

// Count is how far a latch has been counted down.
type Count struct {
	Of      int64 // what it was set to; 0 if it isn't there
	Counted int64
	Zxid    op.Zxid
	made    op.Zxid
}

// Open reports whether nobody needs to wait.
func (c Count) Open() bool { return c.Of > 0 && c.Counted >= c.Of }

// Left returns how often it must be counted down yet.
func (c Count) Left() int64 { return max(0, c.Of-c.Counted) }

// Set makes the latch, to be counted down n times. One that is there with the same count stays as it is; with another
// count the error is node_exists.
func (l *Latch) Set(ctx context.Context, n int64) error {
	if n < 1 || n > MaxCount {
		return op.Errorf(op.BadRequest, "a latch is set to 1 to %d, not %d", MaxCount, n)
	}
	for {
		_, err := l.conn.Do(ctx, &op.Create{Path: l.path, Data: strconv.AppendInt(nil, n, 10), Parents: true})
		if !is(err, op.NodeExists) {
			return err
		}
		c, getErr := l.Get(ctx, op.ReadOptions{Level: op.Linearizable})
		switch {
		case is(getErr, op.NoNode):
			continue
		case getErr != nil:
			return getErr
		case c.Of == n:
			return nil
		}
		e := op.Errorf(op.NodeExists, "the latch is set to %d already", c.Of)
		e.Path, e.Outcome = l.path, op.Decided
		return e
	}
}

// Get reads how far the latch is. The error is no_node if it isn't set.
func (l *Latch) Get(ctx context.Context, o op.ReadOptions) (Count, error) {
	res, err := l.conn.Read(ctx, &op.Get{Path: l.path}, o)
	if err != nil {
		return Count{}, err
	}
	return l.count(res)
}

func (l *Latch) count(res *op.Result) (Count, error) {
	n, err := strconv.ParseInt(string(res.Data), 10, 64)
	if err != nil || n < 1 || n > MaxCount {
		return Count{}, op.Errorf(op.BadRequest, "%s is no latch: it holds %.32q", l.path, res.Data)
	}
	return Count{n, int64(res.Stat.NumChildren), res.Zxid, res.Stat.Czxid}, nil
}

// CountDown counts in the name of id, one segment of a path, and returns how far the latch is then. An id that has counted
// already changes nothing, nor does any on one that is open. "" counts as one whom nobody else is: then only the request
// itself is done once. The error is no_node before Set.
func (l *Latch) CountDown(ctx context.Context, id string) (Count, error) {
	if err := group.CheckName(id); id != "" && err != nil {
		return Count{}, err
	}
	var was Count
	res, err := attempt.Do(ctx, l.conn, func() (ops []op.Op, err error) {
		was, ops, err = l.plan(ctx, id)
		return ops, err
	})
	switch {
	case err == errCounted:
		return was, nil
	case err != nil:
		return Count{}, err
	}
	return l.count(&res.Results[2])
}

var errCounted = errors.New("it needs no count, or has this one")

func (l *Latch) plan(ctx context.Context, id string) (Count, []op.Op, error) {
	was, err := l.Get(ctx, op.ReadOptions{Level: op.Linearizable})
	if err != nil {
		return was, nil, err
	}
	done := was.Open()
	if id != "" && !done {
		res, err := l.conn.Read(ctx, &op.Exists{Path: op.Join(l.path, id)}, op.ReadOptions{MinZxid: was.Zxid})
		if err != nil {
			return was, nil, err
		}
		done = res.Stat != nil
	}
	if done {
		return was, nil, attempt.Refuse(errCounted)
	}
	one := &op.Create{Path: op.Join(l.path, id)}
	if id == "" {
		one.Path, one.Sequence = op.Join(l.path, anonymous), true
	}
	same := op.Cond{Version: op.AnyVersion, Mzxid: was.made} // its data never changes
	return was, []op.Op{&op.Check{Path: l.path, If: same}, one, &op.Get{Path: l.path}}, nil
}

// anonymous begins the names of counts in nobody's name.
const anonymous = "count-"

// Wait waits until the latch has been set and counted down.
func (l *Latch) Wait(ctx context.Context) error {
	_, err := follow.Until(ctx, l.conn, l.Filter(), l.follow, Count.Open)
	return err
}

// follow reads the count; one that isn't set has none.
func (l *Latch) follow(ctx context.Context, o op.ReadOptions) (Count, op.Zxid, error) {
	c, err := l.Get(ctx, o)
	if e, ok := errors.AsType[*op.Error](err); ok && e.Code == op.NoNode {
		return Count{}, e.Zxid, nil
	}
	return c, c.Zxid, err
}

// Filter matches every change of the latch.
func (l *Latch) Filter() watch.Filter { return watch.Filter{Path: l.path, Scope: watch.Children} }

// Counted returns a page of the ids that have counted, in byte order, and whether there are more.
func (l *Latch) Counted(ctx context.Context, after string, o op.ReadOptions) (ids []string, more bool, err error) {
	res, err := l.conn.Read(ctx, &op.Children{Path: l.path, After: after}, o)
	if err != nil {
		return nil, false, err
	}
	for _, n := range res.Nodes {
		ids = append(ids, op.Base(n.Path))
	}
	return ids, res.More, nil
}

// Delete removes the latch, so that it can be set again; who waits goes on waiting. The error is no_node if it isn't there.
func (l *Latch) Delete(ctx context.Context) error {
	_, err := l.conn.Do(ctx, &op.Delete{Path: l.path, If: op.Always, Recursive: true})
	return err
}

func is(err error, code op.Code) bool { return errors.Is(err, &op.Error{Code: code}) }
