package api

import (
	"context"
	"errors"
	"net/http"

	"github.com/coord-kv/coord/internal/recipe/once"
	"github.com/coord-kv/coord/op"
)

const onceURL = "/v1/once"

func (s *Server) onceRoutes() []route {
	const one = onceURL + "/{id}"
	return []route{
		{method: "GET", pattern: onceURL, name: "once_read", serve: (*call).listOnce},
		{method: "GET", pattern: one, name: "once_read", serve: (*call).readOnce},
		{method: "POST", pattern: one, name: "once_write", serve: (*call).beginOnce},
		{method: "POST", pattern: one + "/end", name: "once_write", serve: (*call).endOnce},
		{method: "POST", pattern: one + "/fail", name: "once_write", serve: (*call).failOnce},
	}
}

// What there is to say of something that is run once in a period.
const (
	onceDue        = "due"        // the next one who asks runs it
	onceRunning    = "running"    // somebody runs it
	onceDone       = "done"       // it was run in this period
	onceUnfinished = "unfinished" // somebody began it in this period, and has gone
)

type onceForm struct {
	Once  string      `json:"once"`
	State string      `json:"state"`
	Run   *onceRun    `json:"run,omitempty"`  // under way
	Last  *onceRecord `json:"last,omitempty"` // the last that was finished
}

type onceRun struct {
	Owner   string       `json:"owner"`
	Token   op.Zxid      `json:"token"`
	Session op.SessionID `json:"session"`
	Since   op.Time      `json:"since"`
}

type onceRecord struct {
	Owner  string  `json:"owner"`
	Token  op.Zxid `json:"token"`
	Status string  `json:"status"`
	Failed bool    `json:"failed"`
	Began  op.Time `json:"began"`
	Ended  op.Time `json:"ended"`
}

func newOnceRecord(r *once.Record) *onceRecord {
	if r == nil {
		return nil
	}
	return &onceRecord{r.Owner, r.Token, r.Status, r.Failed, r.Began, r.Ended}
}

// readOnce says whether somebody runs it, and who has run it last.
func (c *call) readOnce() error {
	x, err := c.reading()
	if err != nil {
		return err
	}
	o, err := once.New(x, c.arg)
	if err != nil {
		return err
	}
	s, err := o.State(c.r.Context(), op.ReadOptions{})
	if err != nil {
		return err
	}
	form := onceForm{Once: c.arg, State: onceDue, Last: newOnceRecord(s.Last)}
	if t := s.Taken(true); t != nil {
		form.State = stateOf(t)
	}
	if r := s.Run; r != nil {
		form.Run = &onceRun{r.Owner, r.Token, r.Session, r.Since}
	}
	c.respondJSON(http.StatusOK, form)
	return nil
}

func stateOf(t *once.Taken) string {
	switch {
	case t.Running:
		return onceRunning
	case t.Last != nil:
		return onceDone
	}
	return onceUnfinished
}

// begunForm is the answer to whom it is to run it.
type begunForm struct {
	Once  string  `json:"once"`
	Begun bool    `json:"begun"` // true
	Token op.Zxid `json:"token"`
	Owner string  `json:"owner"`
	leaseOf
}

// notBegunForm is the answer to whom there is nothing to do.
type notBegunForm struct {
	Once  string      `json:"once"`
	Begun bool        `json:"begun"` // false
	State string      `json:"state"`
	Owner string      `json:"owner"` // who runs it, has run it, or began it
	Since op.Time     `json:"since"` // when that one began
	Last  *onceRecord `json:"last,omitempty"`
}

// beginOnce begins a run and its period, unless there is nothing to do, which is no error. Without a session a lease is
// made for the run: when that ends, so does the run.
func (c *call) beginOnce() error {
	if _, err := once.New(nil, c.arg); err != nil {
		return err
	}
	if !c.q.has("every") {
		c.q.faults.add("every", "is required: how long a period lasts, such as 23h")
	}
	every, owner, atMostOnce := c.q.duration("every"), c.q.text("owner"), c.q.flag("at_most_once", false)
	ttl, dir := c.q.duration("ttl"), op.Join(once.Dir, c.arg)
	x, err := c.join(dir, ttl)
	if err != nil {
		return err
	}
	defer x.close()
	if owner == "" {
		owner = x.id.String()
	}
	ctx, cancel := c.withTimeout()
	defer cancel()
	o, err := once.New(x, c.arg)
	var r *once.Run
	if err == nil {
		r, err = o.Begin(ctx, owner, every, atMostOnce)
	}
	if err != nil {
		x.drop(dir)
	}
	if t, ok := errors.AsType[*once.Taken](err); ok {
		c.respondJSON(http.StatusOK, notBegunForm{c.arg, false, stateOf(t), t.Owner, t.Since, newOnceRecord(t.Last)})
		return nil
	}
	if err != nil {
		return err
	}
	c.respondJSON(http.StatusCreated, begunForm{c.arg, true, r.Token, owner, x.lease()})
	return nil
}

type finishedForm struct {
	Once   string  `json:"once"`
	Token  op.Zxid `json:"token"`
	Status string  `json:"status"`
	Failed bool    `json:"failed"`
}

func (c *call) endOnce() error  { return c.finishOnce(false) }
func (c *call) failOnce() error { return c.finishOnce(true) }

// finishOnce finishes the run of the session that the request acts in. A lease that was made for it ends too.
func (c *call) finishOnce(failed bool) error {
	status, token := c.q.text("status"), c.q.zxid("token")
	if len(status) > once.MaxStatus {
		c.q.faults.add("status", "has more than 512 bytes")
	}
	return c.as(c.owner, func(ctx context.Context, x *sessionConn) error {
		r, err := c.endRun(ctx, x, token, status, failed)
		if err != nil {
			return err
		}
		x.drop(op.Join(once.Dir, c.arg))
		c.respondJSON(http.StatusOK, finishedForm{c.arg, r.Token, status, failed})
		return nil
	})
}

func (c *call) endRun(ctx context.Context, x *sessionConn, token op.Zxid, status string, failed bool) (*once.Run, error) {
	o, err := once.New(x, c.arg)
	if err != nil {
		return nil, err
	}
	r, err := o.Mine(ctx, token)
	if err != nil {
		return nil, err
	}
	return r, r.End(ctx, status, failed)
}
