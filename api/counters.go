package api

import (
	"context"
	"net/http"

	"github.com/coord-kv/coord/internal/recipe/counter"
	"github.com/coord-kv/coord/op"
)

const countersURL = "/v1/counters"

func (s *Server) counterRoutes() []route {
	const one = countersURL + "/{id}"
	return []route{
		{method: "GET", pattern: countersURL, name: "counter_read", serve: (*call).listCounters},
		{method: "GET", pattern: one, name: "counter_read", serve: (*call).readCounter, uncounted: true},
		{method: "POST", pattern: one, name: "counter_write", serve: (*call).addToCounter},
		{method: "PUT", pattern: one, name: "counter_write", serve: (*call).setCounter},
		{method: "DELETE", pattern: one, name: "counter_write", serve: (*call).deleteCounter},
	}
}

type counterForm struct {
	Counter string   `json:"counter"`
	Value   int64    `json:"value"`
	Next    *op.Zxid `json:"next,omitempty"` // of a read: where to wait from
}

type deletedForm struct {
	Name    string `json:"name"`
	Deleted bool   `json:"deleted"`
}

// readCounter answers with the value; with ?since once it has changed after that position, or the wait is over.
func (c *call) readCounter() error {
	x, n, err := poll(c, counter.New)
	if err != nil {
		return err
	}
	v, err := n.Get(c.r.Context(), op.ReadOptions{})
	if err != nil {
		return err
	}
	next := x.state.Zxid()
	c.respondJSON(http.StatusOK, counterForm{c.arg, v.N, &next})
	return nil
}

// addToCounter adds, unless that would lead out of the bounds that are given.
func (c *call) addToCounter() error {
	if !c.q.has("add") {
		c.q.faults.add("add", "is required: how much, such as 1 or -1")
	}
	delta := c.q.number("add", -2*counter.Limit, 2*counter.Limit, 0)
	bounds := counter.Bounds{
		Min: c.q.number("min", -counter.Limit, counter.Limit, -counter.Limit),
		Max: c.q.number("max", -counter.Limit, counter.Limit, counter.Limit),
	}
	return c.changeCounter(func(ctx context.Context, n *counter.Counter) (counter.Value, error) { return n.Add(ctx, delta, bounds) })
}

func (c *call) setCounter() error {
	if !c.q.has("value") {
		c.q.faults.add("value", "is required")
	}
	value := c.q.number("value", -counter.Limit, counter.Limit, 0)
	return c.changeCounter(func(ctx context.Context, n *counter.Counter) (counter.Value, error) { return n.Set(ctx, value) })
}

func (c *call) changeCounter(move func(context.Context, *counter.Counter) (counter.Value, error)) error {
	return change(c, c.writingOnce, counter.New, func(ctx context.Context, _ *requestConn, n *counter.Counter) error {
		v, err := move(ctx, n)
		if err != nil {
			return err
		}
		c.respondJSON(http.StatusOK, counterForm{Counter: c.arg, Value: v.N})
		return nil
	})
}

func (c *call) deleteCounter() error { return deleteNamed(c, "counter", counter.New) }
