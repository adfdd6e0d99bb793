package api

import (
	"context"
	"encoding/json"
	"net/http"
	"unicode/utf8"

	"github.com/coord-kv/coord/internal/recipe"
	"github.com/coord-kv/coord/internal/recipe/barrier"
	"github.com/coord-kv/coord/internal/recipe/counter"
	"github.com/coord-kv/coord/internal/recipe/group"
	"github.com/coord-kv/coord/internal/recipe/once"
	"github.com/coord-kv/coord/internal/recipe/queue"
	"github.com/coord-kv/coord/op"
	"github.com/coord-kv/coord/watch"
)

// What the small recipes have in common: each thing has a name, and is a node of the recipe's directory.

// listNames lists the names in the directory of a recipe, a page at a time.
func (c *call) listNames(what, dir string) error {
	o := &op.Children{
		Path: dir, After: c.q.text("after"), Limit: int32(c.q.number("limit", 1, contestPage, contestPage)),
	}
	x, err := c.reading()
	if err != nil {
		return err
	}
	res, err := c.readFrom(x.state, o)
	if e := unwrapCode(err); e == op.NoNode {
		res = &op.Result{}
	} else if err != nil {
		return err
	}
	names := []string{}
	for _, n := range res.Nodes {
		names = append(names, op.Base(n.Path))
	}
	form := map[string]any{what: names}
	if res.More {
		form["next"] = names[len(names)-1]
	}
	c.respondJSON(http.StatusOK, form)
	return nil
}

// unwrapCode returns the code of an error; op.OK for none.
func unwrapCode(err error) op.Code {
	if err == nil {
		return op.OK
	}
	return unwrap(err).what.Code
}

func (c *call) listCounters() error { return c.listNames("counters", counter.Dir) }
func (c *call) listBarriers() error { return c.listNames("barriers", barrier.Dir) }
func (c *call) listLatches() error  { return c.listNames("latches", barrier.LatchesDir) }
func (c *call) listQueues() error   { return c.listNames("queues", queue.Dir) }
func (c *call) listGroups() error   { return c.listNames("groups", group.Dir) }
func (c *call) listOnce() error     { return c.listNames("once", once.Dir) }

// opener opens the thing of a recipe that has a name.
type opener[T any] = func(c recipe.Conn, name string) (T, error)

// change opens what the path names, over the connection that begin returns, and has f change it.
func change[T any](
	c *call, begin func() (*requestConn, error), open opener[T], f func(context.Context, *requestConn, T) error,
) error {
	x, err := begin()
	if err != nil {
		return err
	}
	thing, err := open(x, c.arg)
	if err != nil {
		return err
	}
	ctx, cancel := c.withTimeout()
	defer cancel()
	return f(ctx, x, thing)
}

// poll opens what the path names as it is, or with ?since as pollReading has it.
func poll[T interface{ Filter() watch.Filter }](c *call, open opener[T]) (*requestConn, T, error) {
	thing, err := open(nil, c.arg)
	if err != nil {
		return nil, thing, err
	}
	x, err := c.pollReading(thing.Filter())
	if err == nil {
		thing, err = open(x, c.arg)
	}
	return x, thing, err
}

// deleteNamed removes what the path names; what says in a word what that is.
func deleteNamed[T interface{ Delete(context.Context) error }](c *call, what string, open opener[T]) error {
	return change(c, c.writingOnce, open, func(ctx context.Context, _ *requestConn, thing T) error {
		if err := thing.Delete(ctx); err != nil {
			return explain(err, op.NoNode, "there is no %s %s", what, c.arg)
		}
		c.respondJSON(http.StatusOK, deletedForm{c.arg, true})
		return nil
	})
}

// valueForm is data within a form: as "data" if it is text, else as "data_base64".
type valueForm struct {
	Data       json.RawMessage `json:"data,omitempty"`
	DataBase64 []byte          `json:"data_base64,omitempty"`
}

func newValue(v []byte) valueForm {
	if utf8.Valid(v) {
		return valueForm{Data: appendString(nil, v)}
	}
	return valueForm{DataBase64: v}
}

// leaseOf is the session that was made for a request; nothing if the request acts in one of its own.
type leaseOf struct {
	Session   op.SessionID `json:"session"`
	Secret    string       `json:"secret,omitempty"`
	ExpiresIn duration     `json:"expires_in"`
	Renew     string       `json:"renew,omitempty"` // PUT
}

func (x *sessionConn) lease() leaseOf {
	l := leaseOf{Session: x.id, Secret: x.secret, ExpiresIn: duration(x.ttl)}
	if x.secret != "" {
		l.Renew = "/v1/leases/" + x.id.String() + "/keepalive"
	}
	return l
}

// drop gives up a session that was made for dir.
func (x *sessionConn) drop(dir string) {
	if err := x.abandon(dir); err != nil {
		x.c.s.log.Debug("a session is left to expire", "session", x.id.String(), "error", err)
	}
}
