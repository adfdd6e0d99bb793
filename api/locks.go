package api

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"net/url"

	"github.com/coord-kv/coord/internal/recipe"
	"github.com/coord-kv/coord/op"
)

const locksURL = "/v1/locks"

func (s *Server) lockRoutes() []route {
	const one = locksURL + "/{id}"
	return []route{
		{method: "GET", pattern: locksURL, name: "lock_read", serve: (*call).listLocks},
		{method: "GET", pattern: one, name: "lock_read", serve: (*call).readLock},
		{method: "POST", pattern: one, name: "lock", serve: (*call).acquireLock, uncounted: true},
		{method: "DELETE", pattern: one, name: "lock_write", serve: (*call).releaseLock},
		{method: "POST", pattern: one + "/renew", name: "lock_write", serve: (*call).renewLock},
	}
}

// grantForm is the answer to whom a lock was granted. The secret is shown if the session was made for the lock.
type grantForm struct {
	Lock      string       `json:"lock"`
	Token     op.Zxid      `json:"token"`
	Session   op.SessionID `json:"session"`
	Secret    string       `json:"secret,omitempty"`
	Owner     string       `json:"owner"`
	ExpiresIn duration     `json:"expires_in"`
	Renew     string       `json:"renew"`
}

// acquireLock takes a lock, waiting for it as long as ?wait says: by default not at all, and with ?hold as long as the
// connection lives.
func (c *call) acquireLock() error {
	dir, err := recipe.Dir(recipe.LocksDir, c.arg)
	if err != nil {
		return err
	}
	spec, ttl, hold := c.lockSpec(), c.q.duration("ttl"), c.q.flag("hold", false)
	if hold && spec.Delay > 0 && c.header("Coord-Session") != "" {
		c.q.faults.add("delay", "together with hold, needs a session that ends with the connection: leave out Coord-Session")
	}
	wait := c.waitFor(hold, 0)
	x, err := c.join(dir, ttl)
	if err != nil {
		return err
	}
	defer x.close()
	ctx, cancel := c.within(wait)
	defer cancel()
	take := (*recipe.Lock).Acquire
	if wait == 0 {
		ctx, take = c.r.Context(), (*recipe.Lock).Try
	}
	w := &holding{c: c, x: x, dir: dir, hold: hold, delay: spec.Delay > 0}
	spec.Waiting = w.waiting
	return c.long(func() error {
		l, err := recipe.NewLock(x, spec)
		if err != nil {
			return errors.Join(err, w.giveUp())
		}
		g, err := take(l, ctx)
		if err != nil {
			return w.failed(err)
		}
		renew := locksURL + "/" + url.PathEscape(c.arg) + "/renew"
		return w.got(grantForm{c.arg, g.Token, x.id, x.secret, g.Owner, duration(x.ttl), renew}, g.Lost, g.Release)
	})
}

// lockSpec reads how a lock is to be held.
func (c *call) lockSpec() recipe.Spec {
	s := recipe.Spec{
		Name: c.arg, Owner: c.q.text("owner"), Metadata: c.q.text("metadata"), AtLeast: c.q.duration("at_least"),
		Delay: c.q.duration("delay"),
	}
	isRW, isSem := c.q.has("shared"), c.q.has("limit")
	shared, limit := c.q.flag("shared", false), c.q.number("limit", 1, 1_000_000, 0)
	switch {
	case isRW && isSem:
		c.q.faults.add("limit", "is that of a semaphore, and shared is for locks of readers and writers")
	case isSem:
		s.Mode, s.Slots = recipe.Slot, int(limit)
	case shared:
		s.Mode = recipe.Read
	case isRW:
		s.Mode = recipe.Write
	}
	if s.AtLeast > 0 && (shared || isSem) {
		c.q.faults.add("at_least", "is for exclusive locks")
	}
	if s.Delay > 0 && (shared || isSem) {
		c.q.faults.add("delay", "is for exclusive locks")
	}
	return s
}

// holding is what a request has got or waits for, as its client is told.
type holding struct {
	c    *call
	x    *sessionConn
	dir  string
	hold bool // tell it as events, and hold it as long as the connection lives

	delay bool // the end of the connection is not a release
}

// Events of a request with ?hold, one JSON object in a line each.
type (
	waitingEvent struct {
		Event    string `json:"event"` // waiting
		Position int    `json:"position"`
	}
	gotEvent struct {
		Event string `json:"event"` // acquired
		grantForm
	}
	electedEvent struct {
		Event string `json:"event"` // elected
		termForm
	}
	enteredEvent struct {
		Event string `json:"event"` // entered
		enteredForm
	}
	joinedEvent struct {
		Event string `json:"event"` // joined
		joinedForm
	}
	registeredEvent struct {
		Event string `json:"event"` // registered
		instanceForm
	}
	aliveEvent struct {
		Event string `json:"event"` // alive
	}
	lostEvent struct {
		Event  string `json:"event"` // lost
		Reason string `json:"reason"`
		Detail string `json:"detail,omitempty"` // of a reason that has one: who broke it
	}
	failedEvent struct {
		Event   string   `json:"event"` // failed
		Problem *problem `json:"problem"`
	}
)

// tell writes an event and sees to it that it leaves.
func (w *holding) tell(event any) error {
	(&watching{c: w.c}).allowWrite()
	if !w.c.replied {
		w.c.replied = true
		h := w.c.w.Header()
		h["Content-Type"] = []string{"application/x-ndjson"}
		h["X-Accel-Buffering"] = []string{"no"}
		w.c.w.WriteHeader(http.StatusOK)
	}
	if _, err := w.c.w.Write(marshal(event)); err != nil {
		return err
	}
	return http.NewResponseController(w.c.w).Flush()
}

// waiting tells how many stand before. If that doesn't get through, the request's context ends.
func (w *holding) waiting(ahead int) {
	if w.hold {
		w.tell(waitingEvent{"waiting", ahead})
	}
}

// giveUp leaves nothing behind.
func (w *holding) giveUp() error {
	if w.x.secret == "" {
		return nil
	}
	return w.x.abandon(w.dir)
}

// leave ends the session of a client that has gone, so that a delay begins.
func (w *holding) leave() {
	if err := w.x.endSession(true); err != nil && !errors.Is(err, &op.Error{Code: op.SessionExpired}) {
		w.c.s.log.Warn("a session is left to expire", "session", w.x.id.String(), "error", err)
	}
}

// failed ends a request that has not got what it wants. Once there were events, the error is one too.
func (w *holding) failed(err error) error {
	if left := w.giveUp(); left != nil {
		w.c.s.log.Warn("a session is left to expire", "session", w.x.id.String(), "error", left)
	}
	if !w.c.replied {
		return err
	}
	w.tell(failedEvent{"failed", w.c.newProblem(err)})
	return nil
}

// got answers with what was granted; with ?hold it holds that until the connection ends, or it is lost.
func (w *holding) got(form any, lost, release func(context.Context) error) error {
	if !w.hold {
		(&watching{c: w.c}).allowWrite()
		w.c.respondJSON(http.StatusCreated, form)
		return nil
	}
	switch f := form.(type) {
	case grantForm:
		form = gotEvent{"acquired", f}
	case termForm:
		form = electedEvent{"elected", f}
	case enteredForm:
		form = enteredEvent{"entered", f}
	case joinedForm:
		form = joinedEvent{"joined", f}
	case instanceForm:
		form = registeredEvent{"registered", f}
	}
	w.x.beaten = func() error { return w.tell(aliveEvent{"alive"}) }
	err := w.tell(form)
	if err == nil {
		err = lost(w.c.r.Context())
	}
	if reason, why := w.lossReason(err); reason != "" {
		w.tell(lostEvent{"lost", reason, why})
	}
	if w.delay { // nobody knows whether the client has stopped to work: else it had given it back with a request
		w.leave()
		return nil
	}
	if err := release(context.Background()); err != nil && !errors.Is(err, &op.Error{Code: op.NotHolder}) {
		w.c.s.log.Debug("a lock is left to its session", "session", w.x.id.String(), "error", err)
	}
	w.giveUp()
	return nil
}

// lossReason returns why something was lost while its client was there, in a word and at more length; "" if that one has
// gone. With its session the node goes too, and that may be what is seen first.
func (w *holding) lossReason(err error) (reason, detail string) {
	e, ok := errors.AsType[*op.Error](err)
	switch {
	case !ok:
		return "", ""
	case e.Code != op.NotHolder:
		return e.Code.String(), ""
	}
	if _, err := w.c.findSession(w.x.id, op.Eventual); errors.Is(err, &op.Error{Code: op.SessionExpired}) {
		return op.SessionExpired.String(), ""
	}
	return "broken", e.Detail
}

type releasedForm struct {
	Lock     string  `json:"lock"`
	Token    op.Zxid `json:"token"`
	Released bool    `json:"released"`
}

// releaseLock gives a lock back, or with ?force takes it from its holder.
func (c *call) releaseLock() error {
	force, token := c.q.flag("force", false), c.q.zxid("token")
	if force {
		return c.breakLock(token)
	}
	return c.as(c.owner, func(ctx context.Context, x *sessionConn) error {
		g, err := recipe.Held(ctx, x, c.arg, token)
		if err == nil {
			err = g.Release(ctx)
		}
		if err != nil {
			return err
		}
		dir, _ := recipe.Dir(recipe.LocksDir, c.arg)
		x.drop(dir)
		c.respondJSON(http.StatusOK, releasedForm{c.arg, g.Token, true})
		return nil
	})
}

type brokenForm struct {
	Lock   string        `json:"lock"`
	Broken contenderForm `json:"broken"`
}

// breakLock takes a lock from its holder, by force.
func (c *call) breakLock(token op.Zxid) error {
	by, err := c.doer()
	if err != nil {
		return err
	}
	return c.as(c.nobody, func(ctx context.Context, x *sessionConn) error {
		h, err := recipe.Break(ctx, x, c.arg, token, by)
		if err != nil {
			return err
		}
		c.respondJSON(http.StatusOK, brokenForm{c.arg, c.contender(ctx, h, false)})
		return nil
	})
}

// maxDoerBytes bounds what is recorded of who has used force.
const maxDoerBytes = 512

// doer returns who uses force, for the history, which people read: whom the request names, or as whom it has proven to
// come, or at least from which address.
func (c *call) doer() (string, error) {
	by := c.q.text("by")
	if len(by) > maxDoerBytes {
		c.q.faults.add("by", "has at most %d bytes", maxDoerBytes)
	}
	session, err := c.session()
	if err != nil {
		return "", err
	}
	by = cmp.Or(by, c.userName(), principalOf(session, c.auth))
	for _, id := range c.auth {
		if by == unproven && id.Scheme == "ip" {
			by = id.ID
		}
	}
	return by, nil
}

type renewedForm struct {
	Lock      string   `json:"lock"`
	Token     op.Zxid  `json:"token"`
	ExpiresIn duration `json:"expires_in"`
}

// renewLock keeps the session of a lock alive, and says that it still holds the lock. Both were so at some moment after
// the request had come.
func (c *call) renewLock() error {
	token := c.q.zxid("token")
	return c.as(c.owner, func(ctx context.Context, x *sessionConn) error {
		if _, err := c.s.backend.KeepAlive(ctx, x.id); err != nil {
			return readError(err)
		}
		g, err := recipe.Held(ctx, x, c.arg, token)
		if err != nil {
			return err
		}
		c.respondJSON(http.StatusOK, renewedForm{c.arg, g.Token, duration(x.ttl)})
		return nil
	})
}
