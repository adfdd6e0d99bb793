package api

import (
	"crypto/rand"
	"encoding/base64"
	"iter"
	"net/http"
	"time"

	"github.com/coord-kv/coord/fsm"
	"github.com/coord-kv/coord/op"
)

// A lease is a session that no connection keeps alive. Both are served by the same code; a lease is found under
// /v1/sessions too, a session under /v1/leases not.
const (
	sessionsURL = "/v1/sessions"
	leasesURL   = "/v1/leases"
)

func (s *Server) sessionRoutes() []route {
	var all []route
	for _, url := range [...]string{sessionsURL, leasesURL} {
		all = append(all,
			route{method: "GET", pattern: url, name: "session_read", serve: (*call).listSessions},
			route{method: "POST", pattern: url, name: "session_open", body: jsonBody, serve: (*call).openSession},
			route{method: "GET", pattern: url + "/{id}", name: "session_read", serve: (*call).readSession},
			route{method: "PATCH", pattern: url + "/{id}", name: "session_update", body: jsonBody, serve: (*call).updateSession},
			route{method: "DELETE", pattern: url + "/{id}", name: "session_close", serve: (*call).closeSession},
			route{method: "PUT", pattern: url + "/{id}/keepalive", name: "session_keepalive", serve: (*call).keepAlive},
		)
	}
	return all
}

func (c *call) isLease() bool { return resourceOf(c.route.pattern) == leasesURL }

func resourceOf(pattern string) string {
	resource, _ := splitResource(pattern)
	return resource
}

// openForm is the answer to opening: the only place where the secret is ever shown.
type openForm struct {
	ID     op.SessionID `json:"id"`
	Secret string       `json:"secret"`
	TTL    duration     `json:"ttl"`
	Zxid   op.Zxid      `json:"zxid"`
}

// openSession opens a session or a lease. With an Idempotency-Key the caller must bring the secret along, because the
// answer to a retry could not repeat one that was made here: only its hash is kept.
func (c *call) openSession() error {
	body, err := parseObject(c.body)
	if err != nil {
		return err
	}
	o := &op.OpenSession{
		Timeout: body.duration("ttl"), Name: body.text("name"), Identity: body.text("identity"),
		Metadata: body.value("metadata"), Lease: c.isLease(),
	}
	if o.Timeout == 0 {
		o.Timeout = defaultTTL
	}
	secret := body.secret("secret", &o.Secret)
	body.secret("previous_secret", &o.Proof)
	switch {
	case secret == "" && c.header("Idempotency-Key") != "":
		body.fault("secret", "is required with Idempotency-Key: 16 random bytes as base64url without padding")
	case secret == "":
		secret = newSecret(&o.Secret)
	}
	if err := body.finish(); err != nil {
		return err
	}
	res, err := c.propose(0, o)
	if err != nil {
		return explain(err, op.Denied, "a live session has the identity %q; send its secret as previous_secret, "+
			"or the credentials of whoever opened it", o.Identity)
	}
	id := res.Session.ID
	c.w.Header()["Location"] = []string{resourceOf(c.route.pattern) + "/" + id.String()}
	c.respondJSON(http.StatusCreated, openForm{id, secret, millis(res.Session.Timeout), res.Zxid})
	return nil
}

// defaultTTL is the timeout of a session that doesn't ask for one.
const defaultTTL = 15 * time.Second

func millis(ms int64) duration { return duration(time.Duration(ms) * time.Millisecond) }

// secret reads a secret into its hash, and returns it as it was sent; "" if it was not.
func (o *object) secret(name string, hash *op.Hash) string {
	s := o.text(name)
	if s == "" {
		return ""
	}
	var ok bool
	if *hash, ok = hashSecret(s); !ok {
		o.fault(name, "must be 16 bytes as base64url without padding: 22 characters")
	}
	return s
}

func newSecret(hash *op.Hash) string {
	var b [secretBytes]byte
	rand.Read(b[:])
	text := base64.RawURLEncoding.EncodeToString(b[:])
	*hash, _ = hashSecret(text)
	return text
}

// sessionID returns the session that the path names.
func (c *call) sessionID() (id op.SessionID, err error) {
	if id.UnmarshalText([]byte(c.arg)) != nil || id == 0 {
		return 0, op.Errorf(op.BadRequest, "%.64q is not a session id, such as s-10000002a", c.arg)
	}
	return id, nil
}

// sessionForm is a session as others see it.
type sessionForm struct {
	ID         op.SessionID `json:"id"`
	Name       string       `json:"name"`
	Identity   string       `json:"identity"`
	Lease      bool         `json:"lease"`
	TTL        duration     `json:"ttl"`
	Opened     op.Time      `json:"opened"`
	Ephemerals int          `json:"ephemerals"`
	metadataForm
	TimeLeft *duration `json:"time_left,omitempty"`
	Nodes    []string  `json:"nodes,omitempty"`
	Hidden   int       `json:"hidden,omitempty"` // nodes that the caller may not read
}

func newSession(s fsm.Session) sessionForm {
	return sessionForm{
		ID: s.ID, Name: s.Name, Identity: s.Identity, Lease: s.Lease, TTL: duration(s.Timeout), Opened: s.Opened,
		Ephemerals: s.EphemeralCount(), metadataForm: newMetadata(s.Metadata),
	}
}

type sessionsForm struct {
	Sessions []sessionForm `json:"sessions"`
	Next     op.SessionID  `json:"next,omitempty"`
}

type leasesForm struct {
	Leases []sessionForm `json:"leases"`
	Next   op.SessionID  `json:"next,omitempty"`
}

const sessionPage = 1000

// listSessions lists the sessions and leases, or the leases alone, by id.
func (c *call) listSessions() error {
	limit := int(c.q.number("limit", 1, sessionPage, sessionPage))
	var after op.SessionID
	if s, ok := c.q.take("after"); ok && (after.UnmarshalText([]byte(s)) != nil || after == 0) {
		c.q.faults.add("after", "must be a session id")
	}
	v, err := c.view()
	if err != nil {
		return err
	}
	list, next := c.page(v.Sessions(after), limit)
	if c.isLease() {
		c.respondJSON(http.StatusOK, leasesForm{list, next})
	} else {
		c.respondJSON(http.StatusOK, sessionsForm{list, next})
	}
	return nil
}

// page returns the first limit sessions that the resource has, and if there are more the id to go on after.
func (c *call) page(all iter.Seq[fsm.Session], limit int) (list []sessionForm, next op.SessionID) {
	list = []sessionForm{}
	for s := range all {
		if c.isLease() && !s.Lease {
			continue
		}
		if len(list) == limit {
			return list, list[limit-1].ID
		}
		list = append(list, newSession(s))
	}
	return list, 0
}

// readSession shows one session, how long it has to live, and the nodes that go when it ends.
func (c *call) readSession() error {
	id, err := c.sessionID()
	if err != nil {
		return err
	}
	v, err := c.view()
	if err != nil {
		return err
	}
	s, err := c.found(v, id)
	if err != nil {
		return err
	}
	form := newSession(s)
	c.addNodes(&form, v, s)
	ctx, cancel := c.withTimeout()
	defer cancel()
	if left, err := c.s.backend.TimeLeft(ctx, id); err == nil {
		left = min(left, s.Timeout) // the leader rounds up
		form.TimeLeft = (*duration)(&left)
	}
	c.respondJSON(http.StatusOK, form)
	return nil
}

func (c *call) found(v *fsm.View, id op.SessionID) (fsm.Session, error) {
	s, ok := v.Session(id)
	if !ok || c.isLease() && !s.Lease {
		return s, op.Errorf(op.NoSession, "there is no %s, or not any more", id)
	}
	return s, nil
}

// addNodes names the ephemeral nodes that the caller may read, and counts the others.
func (c *call) addNodes(form *sessionForm, v *fsm.View, s fsm.Session) {
	for path := range s.Ephemerals() {
		if res := v.Read(&op.Exists{Path: path}, c.auth); res.Err != nil {
			form.Hidden++
			continue
		}
		form.Nodes = append(form.Nodes, path)
	}
}

type aliveForm struct {
	ID  op.SessionID `json:"id"`
	TTL duration     `json:"ttl"`
}

// keepAlive keeps a session alive. Its answer says that the session lives at least ttl, counted from when the request was
// sent: it has been confirmed by a leader that still led after it had heard of it.
func (c *call) keepAlive() error {
	s, err := c.mine(op.Eventual)
	if err != nil {
		return err
	}
	if err := c.q.done(); err != nil {
		return err
	}
	ctx, cancel := c.withTimeout()
	defer cancel()
	timeout, err := c.s.backend.KeepAlive(ctx, s.ID)
	if err != nil {
		return readError(err)
	}
	c.respondJSON(http.StatusOK, aliveForm{s.ID, duration(timeout)})
	return nil
}

// mine is owned for the session that the path names.
func (c *call) mine(at op.Level) (fsm.Session, error) {
	id, err := c.sessionID()
	if err != nil {
		return fsm.Session{}, err
	}
	s, err := c.owned(id, at)
	if err == nil && c.isLease() && !s.Lease {
		return s, op.Errorf(op.NoSession, "%s is not a lease", id)
	}
	return s, err
}

// updateSession changes the timeout in place.
func (c *call) updateSession() error {
	s, err := c.mine(op.Eventual)
	if err != nil {
		return err
	}
	body, err := parseObject(c.body)
	if err != nil {
		return err
	}
	ttl := body.duration("ttl")
	if ttl == 0 {
		body.fault("ttl", "is required")
	}
	if err := body.finish(); err != nil {
		return err
	}
	res, err := c.propose(s.ID, &op.SetTimeout{Session: s.ID, Timeout: ttl})
	if err != nil {
		return err
	}
	c.respondJSON(http.StatusOK, aliveForm{s.ID, millis(res.Session.Timeout)})
	return nil
}

type closedForm struct {
	ID     op.SessionID `json:"id"`
	Closed bool         `json:"closed"`
}

// closeSession ends a session. With its secret its owner does; without, it is killed, which takes Admin on the root.
func (c *call) closeSession() error {
	id, err := c.sessionID()
	if err != nil {
		return err
	}
	o := &op.CloseSession{Session: id, Killed: true}
	actor := op.SessionID(0)
	if c.header("Coord-Session-Secret") != "" {
		if _, err := c.mine(op.Eventual); err != nil {
			return err
		}
		actor, o.Killed = id, false
	}
	if _, err := c.propose(actor, o); err != nil {
		return explain(err, op.Denied, "to end %s takes its secret, or the permission to administer the root", id)
	}
	c.respondJSON(http.StatusOK, closedForm{id, true})
	return nil
}
