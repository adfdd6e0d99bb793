package api

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/coord-kv/coord/internal/recipe/queue"
	"github.com/coord-kv/coord/op"
)

const queuesURL = "/v1/queues"

func (s *Server) queueRoutes() []route {
	const one, items = queuesURL + "/{id}", queuesURL + "/{id}/items"
	return []route{
		{method: "GET", pattern: queuesURL, name: "queue_read", serve: (*call).listQueues},
		{method: "GET", pattern: one, name: "queue_read", serve: (*call).readQueue, uncounted: true},
		{method: "PUT", pattern: one, name: "queue_write", serve: (*call).configureQueue},
		{method: "DELETE", pattern: one, name: "queue_write", serve: (*call).deleteQueue},
		{method: "GET", pattern: items, name: "queue_read", serve: (*call).listItems},
		{method: "POST", pattern: items, name: "queue_write", body: rawBody, serve: (*call).pushItem},
		{method: "POST", pattern: one + "/receive", name: "queue_write", serve: (*call).receiveItem, uncounted: true},
		{method: "DELETE", pattern: items + "/{item}", name: "queue_write", serve: (*call).ackItem},
		{method: "POST", pattern: items + "/{item}/return", name: "queue_write", serve: (*call).returnItem},
	}
}

type queueForm struct {
	Queue    string  `json:"queue"`
	Length   int64   `json:"length"`
	Received int64   `json:"received"`
	MaxItems int64   `json:"max_items"`
	MaxBytes int64   `json:"max_bytes"`
	Next     op.Zxid `json:"next"`
}

// readQueue says how much is in a queue; with ?since once something has changed after that position, or the wait is over.
func (c *call) readQueue() error {
	x, q, err := poll(c, queue.New)
	if err != nil {
		return err
	}
	i, err := q.Info(c.r.Context(), op.ReadOptions{})
	if err != nil {
		return c.noQueue(err)
	}
	c.respondJSON(http.StatusOK, queueForm{c.arg, i.Len, i.Claimed, i.Items, i.Bytes, x.state.Zxid()})
	return nil
}

func (c *call) noQueue(err error) error {
	return explain(err, op.NoNode, "there is no queue %s; the first item that is pushed makes it", c.arg)
}

type queueLimitsForm struct {
	Queue    string `json:"queue"`
	MaxItems int64  `json:"max_items"`
	MaxBytes int64  `json:"max_bytes"`
}

func (c *call) configureQueue() error {
	l := queue.Limits{
		Items: c.q.number("max_items", 1, queue.MostItems, queue.DefaultItems),
		Bytes: c.q.number("max_bytes", 1, queue.MostBytes, queue.DefaultBytes),
	}
	return change(c, c.writing, queue.New, func(ctx context.Context, _ *requestConn, q *queue.Queue) error {
		if err := q.Configure(ctx, l); err != nil {
			return err
		}
		c.respondJSON(http.StatusOK, queueLimitsForm{c.arg, l.Items, l.Bytes})
		return nil
	})
}

func (c *call) deleteQueue() error { return deleteNamed(c, "queue", queue.New) }

type itemForm struct {
	ID       string  `json:"id"`
	Priority int     `json:"priority"`
	Pushed   op.Time `json:"pushed"`
	valueForm
	Token   op.Zxid      `json:"token,omitempty"` // of the receipt, if somebody has it
	Session op.SessionID `json:"session,omitzero"`
	Since   *op.Time     `json:"since,omitempty"`
}

type itemsForm struct {
	Queue string     `json:"queue"`
	Items []itemForm `json:"items"`
	More  string     `json:"next,omitempty"`
}

// listItems lists items in the order in which they are received.
func (c *call) listItems() error {
	p := queue.Page{After: c.q.text("after"), Limit: int32(c.q.number("limit", 1, contestPage, contestPage))}
	x, err := c.reading()
	if err != nil {
		return err
	}
	q, err := queue.New(x, c.arg)
	if err != nil {
		return err
	}
	list, more, _, err := q.Items(c.r.Context(), p, op.ReadOptions{})
	if err != nil {
		return c.noQueue(err)
	}
	form := itemsForm{Queue: c.arg, Items: []itemForm{}}
	for _, i := range list {
		f := itemForm{ID: i.ID, Priority: i.Priority, Pushed: i.Pushed, valueForm: newValue(i.Data), Token: i.Claim}
		if i.Claim != 0 {
			f.Session, f.Since = i.Session, &i.Claimed
		}
		form.Items = append(form.Items, f)
	}
	if more && len(list) > 0 {
		form.More = list[len(list)-1].ID
	}
	c.respondJSON(http.StatusOK, form)
	return nil
}

type pushedForm struct {
	Queue    string `json:"queue"`
	ID       string `json:"id"`
	Priority int    `json:"priority"`
}

// pushItem puts the body into the queue. With an Idempotency-Key it is there once.
func (c *call) pushItem() error {
	priority := int(c.q.number("priority", 0, queue.MaxPriority, 0))
	return change(c, c.writingOnce, queue.New, func(ctx context.Context, _ *requestConn, q *queue.Queue) error {
		id, err := q.Push(ctx, c.body, priority)
		if err != nil {
			return err
		}
		c.w.Header()["Location"] = []string{itemURL(c.arg, id)}
		c.respondJSON(http.StatusCreated, pushedForm{c.arg, id, priority})
		return nil
	})
}

func itemURL(name, id string) string { return queuesURL + "/" + url.PathEscape(name) + "/items/" + id }

type receivedForm struct {
	Queue    string  `json:"queue"`
	ID       string  `json:"id"`
	Token    op.Zxid `json:"token"`
	Priority int     `json:"priority"`
	Pushed   op.Time `json:"pushed"`
	valueForm
	leaseOf
	Ack string `json:"ack"` // DELETE
}

// receiveItem receives the first item, waiting for one as long as ?wait says: by default not at all. An empty queue is no
// error. Without a session a lease is made for the item: when that ends, the item is returned.
func (c *call) receiveItem() error {
	if _, err := queue.New(nil, c.arg); err != nil {
		return err
	}
	ttl, wait, dir := c.q.duration("ttl"), c.waitFor(false, 0), op.Join(queue.Dir, c.arg)
	x, err := c.join(dir, ttl)
	if err != nil {
		return err
	}
	defer x.close()
	ctx, cancel := c.within(wait)
	defer cancel()
	receive := (*queue.Queue).Receive
	if wait == 0 {
		ctx, receive = c.r.Context(), (*queue.Queue).TryReceive
	}
	return c.long(func() error {
		q, err := queue.New(x, c.arg)
		var d *queue.Delivery
		if err == nil {
			d, err = receive(q, ctx)
		}
		if err != nil {
			x.drop(dir)
		}
		(&watching{c: c}).allowWrite()
		nothing := errors.Is(err, queue.ErrEmpty) || ctx.Err() != nil && errors.Is(err, ctx.Err())
		switch {
		case err != nil && nothing:
			c.replied = true
			c.w.WriteHeader(http.StatusNoContent)
			return nil
		case err != nil:
			return err
		}
		c.respondJSON(http.StatusCreated, receivedForm{
			c.arg, d.ID, d.Claim, d.Priority, d.Pushed, newValue(d.Data), x.lease(), itemURL(c.arg, d.ID) + "?token=" + strconv.FormatUint(uint64(d.Claim), 10),
		})
		return nil
	})
}

type settledForm struct {
	Queue   string `json:"queue"`
	ID      string `json:"id"`
	Settled string `json:"settled"` // "acknowledged" or "returned"
}

func (c *call) ackItem() error    { return c.settleItem("acknowledged", (*queue.Queue).Ack) }
func (c *call) returnItem() error { return c.settleItem("returned", (*queue.Queue).Return) }

// settleItem ends a receipt, which its token names. A lease that was made for it ends too.
func (c *call) settleItem(how string, settle func(*queue.Queue, context.Context, string, op.Zxid) error) error {
	name, id, _ := strings.Cut(c.arg, "/")
	if !c.q.has("token") {
		c.q.faults.add("token", "is required: the receipt has it")
	}
	token := c.q.zxid("token")
	x, err := c.writingOnce()
	if err != nil {
		return err
	}
	q, err := queue.New(x, name)
	if err != nil {
		return err
	}
	ctx, cancel := c.withTimeout()
	defer cancel()
	session, _ := q.Claimant(ctx, id, token, op.ReadOptions{Level: op.Linearizable}) // none if this is a retry
	if err := settle(q, ctx, id, token); err != nil {
		return err
	}
	if session != 0 && session != x.session {
		of := c.connect(session, 0)
		of.drop(op.Join(queue.Dir, name))
		of.close()
	}
	c.respondJSON(http.StatusOK, settledForm{name, id, how})
	return nil
}
