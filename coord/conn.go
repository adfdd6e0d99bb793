package coord

import (
	"context"

	"github.com/coord-kv/coord/internal/frame"
	"github.com/coord-kv/coord/internal/recipe"
	"github.com/coord-kv/coord/op"
	"github.com/coord-kv/coord/watch"
)

// Conn returns the session as the recipes below this package use it: operations of the package op, as they are.
// Programs are better off with the methods of Session.
func (s *Session) Conn() recipe.Conn { return conn{s.tree} }

// Conn returns the client as those recipes below this package use it that need no session: operations of the package
// op, as they are. A write whose answer is lost is not asked again. Programs are better off with the methods of Client.
func (c *Client) Conn() recipe.Conn { return conn{c.tree} }

type conn struct{ t tree }

var _ recipe.Awaiter = conn{}

func (c conn) Session() op.SessionID {
	c.t.e.mu.Lock()
	defer c.t.e.mu.Unlock()
	return c.t.e.session
}

func (c conn) Context() context.Context { return c.t.e.life }

func (c conn) Do(ctx context.Context, o op.Op) (*op.Result, error) {
	a := c.t.e.do(ctx, &call{o: o})
	return a.result, a.err
}

func (c conn) Read(ctx context.Context, o op.Op, ro op.ReadOptions) (*op.Result, error) {
	ro.MinZxid = max(ro.MinZxid, c.t.Zxid())
	a := c.t.e.do(ctx, &call{o: o, read: &ro})
	return a.result, a.err
}

func (c conn) Watch(ctx context.Context, f watch.Filter, from op.Zxid) (recipe.Events, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	want := watchOf(f)
	want.Start, want.Since = frame.FromSince, from
	return events{c.t.e.subscribe(want)}, nil
}

func (c conn) Await(ctx context.Context, f watch.Filter, from op.Zxid, o op.Op) (*op.Result, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	want := watchOf(f)
	want.Start, want.Since = frame.FromSince, from
	s := c.t.e.subscribeTo(want, o)
	it, err := s.next(ctx)
	if err != nil {
		c.t.e.unsubscribe(s)
		return nil, err
	}
	return it.answer.result, it.answer.err
}
