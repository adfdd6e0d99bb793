// Package counter is a number that many change: a node whose data is the number in decimal.
//
// Guarantees: each Add takes effect once, or not at all if its error says so; none is lost, whoever else adds. No Add
// leads out of the bounds that it names. Values are as old as asked for.
//
// What it can't: be fast for many at once. Each change is based on the one before, so those who meet try again; the
// service as a whole gets on, by one change for each of its round trips.
package counter

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

// Dir is where counters are.
const Dir = "/counters"

// Limit is the highest value; the lowest is -Limit. Every JSON reader can hold the numbers in between exactly.
const Limit = 1<<53 - 1

// Counter is a counter as one session sees it. It may be used concurrently.
type Counter struct {
	conn recipe.Conn
	path string
}

// New returns the counter of that name, one segment of a path. A session is not needed. The error is a bad_path.
func New(c recipe.Conn, name string) (*Counter, error) {
	if err := group.CheckName(name); err != nil {
		return nil, err
	}
	return &Counter{conn: c, path: op.Join(Dir, name)}, nil
}

// Bounds are what an Add may lead to.
type Bounds struct{ Min, Max int64 }

// Any are the bounds of all values.
var Any = Bounds{-Limit, Limit}

// Value is a counter's value.
type Value struct {
	N    int64
	Zxid op.Zxid // of the state that had it
	Stat op.Stat // of the node; zero if there is none, which counts as 0
}

// Get reads the value; that of a counter that isn't there is 0. Data that is no number is a bad_request.
func (c *Counter) Get(ctx context.Context, o op.ReadOptions) (Value, error) {
	res, err := c.conn.Read(ctx, &op.Get{Path: c.path}, o)
	if e, ok := errors.AsType[*op.Error](err); ok && e.Code == op.NoNode {
		return Value{Zxid: e.Zxid}, nil
	}
	if err != nil {
		return Value{}, err
	}
	return c.value(res.Data, res.Stat, res.Zxid)
}

func (c *Counter) value(data []byte, stat *op.Stat, at op.Zxid) (Value, error) {
	n, err := strconv.ParseInt(string(data), 10, 64)
	if err != nil || n < -Limit || n > Limit {
		return Value{}, op.Errorf(op.BadRequest, "%s holds %.32q, which is no number that a counter can have", c.path, data)
	}
	return Value{n, at, *stat}, nil
}

// Add adds delta, and returns the value to which that has led. The error is precondition_failed if that were outside of
// the bounds; then nothing has changed.
func (c *Counter) Add(ctx context.Context, delta int64, b Bounds) (Value, error) {
	b.Min, b.Max = max(b.Min, -Limit), min(b.Max, Limit)
	delta = max(min(delta, 4*Limit), -4*Limit) // too far in any case, and no sum overflows
	return c.change(ctx, func(n int64) (int64, error) {
		if delta > 0 && n+delta > b.Max || delta < 0 && n+delta < b.Min {
			return n, &op.Error{
				Code: op.PreconditionFailed, Outcome: op.Refused, Path: c.path,
				Detail: "it is at " + strconv.FormatInt(n, 10) + ", and to add " + strconv.FormatInt(delta, 10) +
					" would lead out of " + strconv.FormatInt(b.Min, 10) + " to " + strconv.FormatInt(b.Max, 10),
			}
		}
		return n + delta, nil
	})
}

// Set makes the value n, whatever it was.
func (c *Counter) Set(ctx context.Context, n int64) (Value, error) {
	if n < -Limit || n > Limit {
		return Value{}, op.Errorf(op.BadRequest, "%d is no value for a counter: it must be within ±(2^53-1)", n)
	}
	return c.change(ctx, func(int64) (int64, error) { return n, nil })
}

func (c *Counter) change(ctx context.Context, f func(int64) (int64, error)) (Value, error) {
	res, err := attempt.Do(ctx, c.conn, func() ([]op.Op, error) {
		was, err := c.Get(ctx, op.ReadOptions{Level: op.Linearizable})
		if err != nil {
			return nil, err
		}
		n, err := f(was.N)
		if err != nil {
			return nil, attempt.Refuse(err)
		}
		return []op.Op{c.put(was, n), &op.Get{Path: c.path}}, nil
	})
	if err != nil {
		return Value{}, err
	}
	return c.value(res.Results[1].Data, res.Results[1].Stat, res.Zxid)
}

func (c *Counter) put(was Value, n int64) op.Op {
	data := strconv.AppendInt(nil, n, 10)
	if was.Stat.Czxid == 0 {
		return &op.Create{Path: c.path, Data: data, Parents: true}
	}
	return &op.Set{Path: c.path, Data: data, If: op.Cond{Version: was.Stat.Version, Mzxid: was.Stat.Mzxid}}
}

// Delete removes the counter, which is then at 0. The error is no_node if it isn't there.
func (c *Counter) Delete(ctx context.Context) error {
	_, err := c.conn.Do(ctx, &op.Delete{Path: c.path, If: op.Always})
	return err
}

// Watch returns the value as it is, and again when it has changed.
func (c *Counter) Watch() *follow.Follower[Value] {
	return follow.New(c.conn, c.Filter(), func(ctx context.Context, o op.ReadOptions) (Value, op.Zxid, error) {
		v, err := c.Get(ctx, o)
		return v, v.Zxid, err
	})
}

// Filter matches every change of the counter.
func (c *Counter) Filter() watch.Filter { return watch.Filter{Path: c.path, Scope: watch.Exact} }
