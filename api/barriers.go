package api

import (
	"context"
	"errors"
	"net/http"

	"github.com/coord-kv/coord/internal/recipe"
	"github.com/coord-kv/coord/internal/recipe/barrier"
	"github.com/coord-kv/coord/op"
)

const (
	barriersURL = "/v1/barriers"
	latchesURL  = "/v1/latches"
)

func (s *Server) barrierRoutes() []route {
	const one = barriersURL + "/{id}"
	return []route{
		{method: "GET", pattern: barriersURL, name: "barrier_read", serve: (*call).listBarriers},
		{method: "GET", pattern: one, name: "barrier_read", serve: (*call).awaitBarrier, uncounted: true},
		{method: "PUT", pattern: one, name: "barrier_write", serve: (*call).closeBarrier},
		{method: "DELETE", pattern: one, name: "barrier_write", serve: (*call).liftBarrier},
		{method: "GET", pattern: one + "/round", name: "barrier_read", serve: (*call).readRound},
		{method: "POST", pattern: one + "/enter", name: "barrier_write", serve: (*call).enterBarrier, uncounted: true},
		{method: "POST", pattern: one + "/leave", name: "barrier_write", serve: (*call).leaveBarrier, uncounted: true},
	}
}

func (s *Server) latchRoutes() []route {
	const one = latchesURL + "/{id}"
	return []route{
		{method: "GET", pattern: latchesURL, name: "barrier_read", serve: (*call).listLatches},
		{method: "GET", pattern: one, name: "barrier_read", serve: (*call).awaitLatch, uncounted: true},
		{method: "PUT", pattern: one, name: "barrier_write", serve: (*call).setLatch},
		{method: "POST", pattern: one, name: "barrier_write", serve: (*call).countDown},
		{method: "DELETE", pattern: one, name: "barrier_write", serve: (*call).deleteLatch},
	}
}

// await waits, as long as ?wait says, by default not at all, and shows what there is then, waited for or not.
func (c *call) await(wait func(context.Context, recipe.Conn) error, show func(context.Context, recipe.Conn) (any, error)) error {
	length := c.waitFor(false, 0)
	x, err := c.nobody()
	if err != nil {
		return err
	}
	defer x.close()
	return c.long(func() error {
		if length > 0 {
			within, cancel := c.within(length)
			defer cancel()
			err := wait(within, x)
			if err != nil && within.Err() == nil && !errors.Is(err, &op.Error{Code: op.Draining}) {
				return err
			}
			(&watching{c: c}).allowWrite()
		}
		ctx, cancel := c.withTimeout()
		defer cancel()
		form, err := show(ctx, x)
		if err != nil {
			return err
		}
		c.respondJSON(http.StatusOK, form)
		return nil
	})
}

type barrierForm struct {
	Barrier string `json:"barrier"`
	Closed  bool   `json:"closed"`
}

// awaitBarrier shows a barrier, once it is lifted or the wait is over.
func (c *call) awaitBarrier() error {
	if _, err := barrier.New(nil, c.arg); err != nil {
		return err
	}
	of := func(x recipe.Conn) *barrier.Barrier { b, _ := barrier.New(x, c.arg); return b }
	return c.await(
		func(ctx context.Context, x recipe.Conn) error { return of(x).Wait(ctx) },
		func(ctx context.Context, x recipe.Conn) (any, error) {
			closed, _, err := of(x).Closed(ctx, op.ReadOptions{Level: op.Linearizable})
			return barrierForm{c.arg, closed}, err
		})
}

func (c *call) closeBarrier() error { return c.moveBarrier((*barrier.Barrier).Close, true) }
func (c *call) liftBarrier() error  { return c.moveBarrier((*barrier.Barrier).Lift, false) }

func (c *call) moveBarrier(move func(*barrier.Barrier, context.Context) error, closed bool) error {
	return change(c, c.writing, barrier.New, func(ctx context.Context, x *requestConn, b *barrier.Barrier) error {
		if err := move(b, ctx); err != nil {
			return err
		}
		c.setZxid(x.wrote) // also if there was nothing to do
		c.respondJSON(http.StatusOK, barrierForm{c.arg, closed})
		return nil
	})
}

type roundForm struct {
	Barrier string  `json:"barrier"`
	Members int     `json:"members"`
	Round   op.Zxid `json:"round,omitempty"` // that is under way
}

// readRound shows who is in a double barrier.
func (c *call) readRound() error {
	x, err := c.reading()
	if err != nil {
		return err
	}
	d, err := barrier.NewDouble(x, c.arg, 1)
	if err != nil {
		return err
	}
	r, _, err := d.Read(c.r.Context(), op.ReadOptions{})
	if err != nil {
		return err
	}
	c.respondJSON(http.StatusOK, roundForm{c.arg, r.Members, r.ID})
	return nil
}

type enteredForm struct {
	Barrier string `json:"barrier"`
	Count   int    `json:"count"`
	leaseOf
}

// enterBarrier enters a double barrier and waits until all are there. With ?hold the member is in as long as the
// connection lives, and leaves with it.
func (c *call) enterBarrier() error {
	if !c.q.has("count") {
		c.q.faults.add("count", "is required: how many must be there")
	}
	count := int(c.q.number("count", 1, barrier.MaxCount, 1))
	ttl, hold := c.q.duration("ttl"), c.q.flag("hold", false)
	wait := c.waitFor(hold, defaultWait)
	if _, err := barrier.NewDouble(nil, c.arg, count); err != nil {
		return err
	}
	dir := op.Join(barrier.DoublesDir, c.arg)
	x, err := c.join(dir, ttl)
	if err != nil {
		return err
	}
	defer x.close()
	ctx, cancel := c.within(wait)
	defer cancel()
	w := &holding{c: c, x: x, dir: dir, hold: hold}
	return c.long(func() error {
		d, err := barrier.NewDouble(x, c.arg, count)
		if err == nil {
			err = d.Enter(ctx)
		}
		if err != nil {
			return w.failed(notInTime(ctx, err, "%d were not there in time; this one isn't in any more", count))
		}
		return w.got(enteredForm{c.arg, count, x.lease()}, d.Lost, d.Quit)
	})
}

// notInTime says that err is the end of a wait, if it is.
func notInTime(ctx context.Context, err error, format string, args ...any) error {
	if ctx.Err() == nil || !errors.Is(err, ctx.Err()) {
		return err
	}
	e := op.Errorf(op.Timeout, format, args...)
	e.Outcome = op.Decided
	return e
}

type leftForm struct {
	Barrier string `json:"barrier"`
	Left    bool   `json:"left"`
	Over    bool   `json:"over"` // all have left; else the wait was over first
}

// leaveBarrier leaves a double barrier and waits until all have left.
func (c *call) leaveBarrier() error {
	wait := c.waitFor(false, defaultWait)
	x, err := c.owner()
	if err != nil {
		return err
	}
	defer x.close()
	ctx, cancel := c.within(wait)
	defer cancel()
	return c.long(func() error {
		d, err := barrier.NewDouble(x, c.arg, 1)
		if err == nil {
			err = d.Leave(ctx)
		}
		waited := ctx.Err() != nil && errors.Is(err, ctx.Err())
		if waited {
			err = d.Quit(x.Context())
		}
		if err != nil {
			return err
		}
		x.drop(op.Join(barrier.DoublesDir, c.arg))
		(&watching{c: c}).allowWrite()
		c.respondJSON(http.StatusOK, leftForm{c.arg, true, !waited})
		return nil
	})
}

// Latches.

type latchForm struct {
	Latch   string   `json:"latch"`
	Count   int64    `json:"count"`
	Left    int64    `json:"left"`
	Open    bool     `json:"open"`
	Counted []string `json:"counted,omitempty"` // by whom, the first of them
}

func (c *call) latchForm(n barrier.Count) latchForm {
	return latchForm{c.arg, n.Of, n.Left(), n.Open(), nil}
}

// awaitLatch shows a latch, once it is open or the wait is over.
func (c *call) awaitLatch() error {
	if _, err := barrier.NewLatch(nil, c.arg); err != nil {
		return err
	}
	of := func(x recipe.Conn) *barrier.Latch { l, _ := barrier.NewLatch(x, c.arg); return l }
	return c.await(
		func(ctx context.Context, x recipe.Conn) error { return of(x).Wait(ctx) },
		func(ctx context.Context, x recipe.Conn) (any, error) {
			n, err := of(x).Get(ctx, op.ReadOptions{Level: op.Linearizable})
			if err != nil {
				return nil, c.notSet(err)
			}
			form := c.latchForm(n)
			form.Counted, _, err = of(x).Counted(ctx, "", op.ReadOptions{Level: op.Eventual, MinZxid: n.Zxid})
			return form, err
		})
}

func (c *call) notSet(err error) error {
	return explain(err, op.NoNode, "the latch %s is not set", c.arg)
}

func (c *call) setLatch() error {
	if !c.q.has("count") {
		c.q.faults.add("count", "is required: how often it must be counted down")
	}
	count := c.q.number("count", 1, barrier.MaxCount, 1)
	return c.changeLatch(c.writing, func(ctx context.Context, l *barrier.Latch) (barrier.Count, error) {
		if err := l.Set(ctx, count); err != nil {
			return barrier.Count{}, err
		}
		return l.Get(ctx, op.ReadOptions{Level: op.Eventual})
	})
}

// countDown counts in the name of an id, or with an Idempotency-Key in nobody's.
func (c *call) countDown() error {
	id := c.q.text("id")
	return c.changeLatch(c.writingOnce, func(ctx context.Context, l *barrier.Latch) (barrier.Count, error) {
		return l.CountDown(ctx, id)
	})
}

func (c *call) changeLatch(
	begin func() (*requestConn, error), move func(context.Context, *barrier.Latch) (barrier.Count, error),
) error {
	return change(c, begin, barrier.NewLatch, func(ctx context.Context, x *requestConn, l *barrier.Latch) error {
		n, err := move(ctx, l)
		if err != nil {
			return c.notSet(err)
		}
		c.setZxid(max(x.wrote, n.Zxid)) // also if there was nothing to do
		c.respondJSON(http.StatusOK, c.latchForm(n))
		return nil
	})
}

func (c *call) deleteLatch() error { return deleteNamed(c, "latch", barrier.NewLatch) }
