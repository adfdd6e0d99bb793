package api

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/coord-kv/coord/internal/recipe"
	"github.com/coord-kv/coord/op"
)

// Looking at locks, and at who stands in line for anything.

// contenderForm is one who holds something or waits for it.
type contenderForm struct {
	Owner     string       `json:"owner"`
	Token     op.Zxid      `json:"token"`
	Session   op.SessionID `json:"session"`
	Metadata  string       `json:"metadata,omitempty"`
	Priority  int          `json:"priority,omitempty"`
	Shared    bool         `json:"shared,omitempty"`
	Since     op.Time      `json:"since"`
	HeldFor   *duration    `json:"held_for,omitempty"`
	ExpiresIn *duration    `json:"expires_in,omitempty"`
	Position  int          `json:"position,omitempty"`
	Waiting   *duration    `json:"waiting,omitempty"`
}

// contender shows a contender, and with deadline how long its session lives if nothing is heard of it.
func (c *call) contender(ctx context.Context, h *recipe.Contender, deadline bool) contenderForm {
	f := contenderForm{
		Owner: h.Owner, Token: h.Token, Session: h.Session, Metadata: h.Metadata, Priority: h.Priority, Shared: h.Shared,
		Since: h.Since, HeldFor: c.since(h.Since),
	}
	if deadline {
		f.ExpiresIn = c.timeLeft(ctx, h.Session)
	}
	return f
}

// timeLeft returns how long a session has to live if nothing is heard of it; nil if that isn't known. The leader rounds
// up.
func (c *call) timeLeft(ctx context.Context, id op.SessionID) *duration {
	left, err := c.s.backend.TimeLeft(ctx, id)
	if err != nil {
		return nil
	}
	if s, err := c.findSession(id, op.Eventual); err == nil {
		left = min(left, s.Timeout)
	}
	return (*duration)(&left)
}

// since returns how long ago t was by this member's clock: for showing, rounded to the millisecond.
func (c *call) since(t op.Time) *duration {
	d := duration(max(0, c.s.now().Sub(t.Std())).Round(time.Millisecond))
	return &d
}

type tenureForm struct {
	Owner    string       `json:"owner"`
	Token    op.Zxid      `json:"token"`
	Session  op.SessionID `json:"session"`
	Since    op.Time      `json:"since"`
	Until    *op.Time     `json:"until,omitempty"`
	Released string       `json:"released"`
	By       string       `json:"by,omitempty"`
}

// delayedForm says for whom alone a lock is open, and until when about, because the session of its holder has ended.
type delayedForm struct {
	Owner string  `json:"owner"`
	Token op.Zxid `json:"token"`
	Since op.Time `json:"since"`
	Until op.Time `json:"until"`
}

type lockForm struct {
	Lock      string          `json:"lock"`
	Mode      string          `json:"mode,omitempty"`
	Limit     int             `json:"limit,omitempty"`
	Token     *op.Zxid        `json:"token,omitempty"`
	Holders   []contenderForm `json:"holders"`
	Waiters   []contenderForm `json:"waiters"`
	KeptAfter *op.Zxid        `json:"kept_after,omitempty"`
	Delayed   *delayedForm    `json:"delayed,omitempty"`
	History   []tenureForm    `json:"history,omitempty"`
}

// lock shows a lock.
func (c *call) lock(ctx context.Context, i *recipe.Info) lockForm {
	f := lockForm{Lock: i.Name, Mode: i.Mode, Limit: i.Slots}
	f.Holders, f.Waiters, f.History = c.line(ctx, i)
	if i.Mode == "exclusive" && len(i.Holders) > 0 {
		f.Token = &i.Holders[0].Token
	}
	if i.Kept != 0 {
		f.KeptAfter = &i.Kept
	}
	if d := i.Delayed; d != nil {
		f.Delayed = &delayedForm{d.Owner, d.Token, d.Since, d.Until}
	}
	return f
}

func (c *call) line(ctx context.Context, i *recipe.Info) (holders, waiters []contenderForm, past []tenureForm) {
	holders, waiters = []contenderForm{}, []contenderForm{}
	for n := range i.Holders {
		holders = append(holders, c.contender(ctx, &i.Holders[n], true))
	}
	for n := range i.Waiters {
		f := c.contender(ctx, &i.Waiters[n], false)
		f.Position, f.Waiting, f.HeldFor = n+1, f.HeldFor, nil
		waiters = append(waiters, f)
	}
	for _, t := range i.History {
		f := tenureForm{t.Owner, t.Token, t.Session, t.Since, nil, t.Ended, t.By}
		if t.Until != 0 {
			f.Until = &t.Until
		}
		past = append(past, f)
	}
	return holders, waiters, past
}

func (c *call) readLock() error {
	return c.as(c.nobody, func(ctx context.Context, x *sessionConn) error {
		i, err := recipe.Inspect(ctx, x, c.arg)
		if err != nil {
			return err
		}
		c.respondJSON(http.StatusOK, c.lock(ctx, i))
		return nil
	})
}

type waitForm struct {
	Session op.SessionID `json:"session"`
	Owner   string       `json:"owner"`
	For     op.SessionID `json:"for"`
	Lock    string       `json:"lock"`
}

type locksForm struct {
	Locks     []lockForm   `json:"locks"`
	Next      string       `json:"next,omitempty"`
	Deadlocks [][]waitForm `json:"deadlocks"`
}

// contestPage is how many locks or elections one answer shows.
const contestPage = 1000

// eachName calls show for each name of a page, and returns where to go on. What goes while it is looked at is left out.
func (c *call) eachName(base string, show func(context.Context, *sessionConn, string) error) (string, error) {
	after, limit := c.q.text("after"), int(c.q.number("limit", 1, contestPage, contestPage))
	x, err := c.nobody()
	if err != nil {
		return "", err
	}
	defer x.close()
	ctx, cancel := c.withTimeout()
	defer cancel()
	last := ""
	for name, err := range recipe.Names(ctx, x, base, after) {
		switch {
		case err != nil:
			return "", err
		case limit == 0:
			return last, nil
		}
		if err := show(ctx, x, name); err != nil && !errors.Is(err, &op.Error{Code: op.NoLock}) {
			return "", err
		}
		last = name
		limit--
	}
	return "", nil
}

// listLocks lists the locks that are held or wanted, and who among them waits in a circle.
func (c *call) listLocks() error {
	form := locksForm{Locks: []lockForm{}, Deadlocks: [][]waitForm{}}
	var infos []*recipe.Info
	next, err := c.eachName(recipe.LocksDir, func(ctx context.Context, x *sessionConn, name string) error {
		i, err := recipe.Inspect(ctx, x, name)
		if err == nil && (len(i.Holders)+len(i.Waiters) > 0 || i.Kept != 0 || i.Delayed != nil) {
			i.History = nil
			infos, form.Locks = append(infos, i), append(form.Locks, c.lock(ctx, i))
		}
		return err
	})
	if err != nil {
		return err
	}
	form.Next = next
	for _, circle := range recipe.Deadlocks(infos) {
		var waits []waitForm
		for _, w := range circle {
			waits = append(waits, waitForm(w))
		}
		form.Deadlocks = append(form.Deadlocks, waits)
	}
	c.respondJSON(http.StatusOK, form)
	return nil
}
