package api

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"github.com/coord-kv/coord/internal/registry"
	"github.com/coord-kv/coord/op"
	"github.com/coord-kv/coord/watch"
)

const servicesURL = "/v1/services"

func (s *Server) serviceRoutes() []route {
	const one = servicesURL + "/{name}/instances/{id}"
	return []route{
		{method: "GET", pattern: servicesURL, name: "service_read", serve: (*call).listServices, uncounted: true},
		{method: "GET", pattern: servicesURL + "/{name}", name: "service_read", serve: (*call).resolveService, uncounted: true},
		{method: "GET", pattern: one, name: "service_read", serve: (*call).readInstance},
		{method: "PUT", pattern: one, name: "service_write", body: jsonBody, serve: (*call).registerInstance},
		{method: "PATCH", pattern: one, name: "service_write", body: jsonBody, serve: (*call).updateInstance},
		{method: "DELETE", pattern: one, name: "service_write", serve: (*call).deregisterInstance},
	}
}

type servicesForm struct {
	Services []serviceForm `json:"services"`
	Next     op.Zxid       `json:"next"`
}

type serviceForm struct {
	Name     string   `json:"name"`
	Passing  int      `json:"passing"`
	Warning  int      `json:"warning"`
	Critical int      `json:"critical"`
	Tags     []string `json:"tags"`
}

type resolvedForm struct {
	Service   string         `json:"service"`
	Instances []instanceForm `json:"instances"`
	Next      op.Zxid        `json:"next"`
}

type instanceForm struct {
	Service    string            `json:"service"`
	ID         string            `json:"id"`
	Address    string            `json:"address"`
	Port       uint16            `json:"port"`
	Tags       []string          `json:"tags"`
	Meta       map[string]string `json:"meta"`
	Status     registry.Status   `json:"status"`
	Reason     string            `json:"reason,omitempty"`
	Since      op.Time           `json:"since"`
	Registered op.Time           `json:"registered"`
	Session    op.SessionID      `json:"session,omitzero"`
	Lease      *leaseForm        `json:"lease,omitempty"`
}

// leaseForm is a lease that was made for an instance: the only place where its secret is shown.
type leaseForm struct {
	ID     op.SessionID `json:"id"`
	Secret string       `json:"secret"`
	TTL    duration     `json:"ttl"`
}

func newInstance(x registry.Instance) instanceForm {
	f := instanceForm{
		Service: x.Service, ID: x.ID, Address: x.Address, Port: x.Port, Tags: x.Tags, Meta: x.Meta, Status: x.Status,
		Reason: x.Reason, Since: x.Since, Registered: x.Registered, Session: x.Session,
	}
	if f.Tags == nil {
		f.Tags = []string{}
	}
	if f.Meta == nil {
		f.Meta = map[string]string{}
	}
	return f
}

// listServices lists the services that have instances.
func (c *call) listServices() error {
	x, err := c.pollReading(watch.Filter{Path: registry.Dir, Scope: watch.Subtree})
	if err != nil {
		return err
	}
	list, _, err := registry.New(x).Services(c.r.Context(), op.ReadOptions{})
	if err != nil {
		return err
	}
	form := servicesForm{Services: []serviceForm{}, Next: x.state.Zxid()}
	for _, s := range list {
		form.Services = append(form.Services, serviceForm{s.Name, s.Passing, s.Warning, s.Critical, append([]string{}, s.Tags...)})
	}
	c.respondJSON(http.StatusOK, form)
	return nil
}

// resolveService answers with the instances that match. A service that nobody has registered has none.
func (c *call) resolveService() error {
	if err := registry.CheckName(c.arg); err != nil {
		return err
	}
	q := registry.Query{Passing: c.q.flag("passing", false), Tags: c.q.all("tag")}
	x, err := c.pollReading(registry.Filter(c.arg))
	if err != nil {
		return err
	}
	list, _, err := registry.New(x).Resolve(c.r.Context(), c.arg, q, op.ReadOptions{})
	if err != nil {
		return err
	}
	form := resolvedForm{Service: c.arg, Instances: []instanceForm{}, Next: x.state.Zxid()}
	for _, i := range list {
		form.Instances = append(form.Instances, newInstance(i))
	}
	c.respondJSON(http.StatusOK, form)
	return nil
}

// instanceName returns the service and the instance that the path names.
func (c *call) instanceName() (service, id string, err error) {
	service, id, _ = strings.Cut(c.arg, "/")
	return service, id, registry.CheckName(service)
}

func (c *call) readInstance() error {
	service, id, err := c.instanceName()
	if err != nil {
		return err
	}
	x, err := c.reading()
	if err != nil {
		return err
	}
	i, err := registry.New(x).Instance(c.r.Context(), service, id, op.ReadOptions{})
	if err != nil {
		return noInstance(err, service, id)
	}
	c.respondJSON(http.StatusOK, newInstance(i))
	return nil
}

func noInstance(err error, service, id string) error {
	return explain(err, op.NoNode, "the service %s has no instance %s", service, id)
}

// registerInstance registers an instance in the caller's session, or with a ttl under a lease that is made for it.
func (c *call) registerInstance() error {
	service, id, err := c.instanceName()
	if err != nil {
		return err
	}
	body, err := parseObject(c.body)
	if err != nil {
		return err
	}
	i := registry.Instance{
		Service: service, ID: id, Address: body.require("address"), Port: uint16(body.number("port", 1, 65535, 0)),
		Tags: body.strings("tags"), Meta: body.texts("meta"), Status: registry.Status(body.text("status")),
		Reason: body.text("reason"),
	}
	replace, hold := c.q.flag("replace", false), c.q.flag("hold", false)
	if hold {
		return c.holdInstance(body, i, replace)
	}
	lease := c.newLease(body, service+"/"+id)
	if err := body.finish(); err != nil {
		return err
	}
	if err := i.Check(); err != nil {
		return err
	}
	begin := c.writing
	if lease != nil {
		begin = c.writingOnce
	}
	x, err := begin()
	if err != nil {
		return err
	}
	ctx, cancel := c.withTimeout()
	defer cancel()
	var made *leaseForm
	if lease == nil {
		i, err = registry.New(x).Register(ctx, i, replace)
	} else {
		i, made, err = x.registerUnder(ctx, lease, i, replace)
	}
	if err != nil {
		return err
	}
	c.respondRegistered(i, made)
	return nil
}

// holdInstance registers an instance for as long as the connection lives, in the caller's session or a lease that is made for
// it.
func (c *call) holdInstance(body *object, i registry.Instance, replace bool) error {
	ttl := body.duration("ttl")
	if body.has("secret") {
		body.fault("secret", "is for a caller that keeps the lease alive itself; with hold the connection does")
	}
	if err := body.finish(); err != nil {
		return err
	}
	if err := i.Check(); err != nil {
		return err
	}
	dir := op.Join(registry.Dir, i.Service)
	x, err := c.join(dir, ttl)
	if err != nil {
		return err
	}
	defer x.close()
	c.makeRoom()
	w := &holding{c: c, x: x, dir: dir, hold: true}
	return c.long(func() error {
		ctx, cancel := c.withTimeout()
		defer cancel()
		r := registry.New(x)
		i, err := r.Register(ctx, i, replace)
		if err != nil {
			return w.failed(err)
		}
		form := newInstance(i)
		if x.secret != "" {
			form.Lease = &leaseForm{x.id, x.secret, duration(x.ttl)}
		}
		lost := func(ctx context.Context) error { return r.Lost(ctx, i) }
		return w.got(form, lost, func(ctx context.Context) error { return r.Quit(ctx, i) })
	})
}

// leasing is a lease that is to be made; nil if the caller has a session.
type leasing struct {
	open   *op.OpenSession
	secret string
}

// newLease reads the lease that the caller wants, if that is what an instance is to live by.
func (c *call) newLease(body *object, name string) *leasing {
	ttl, hasSession := body.duration("ttl"), c.header("Coord-Session") != ""
	l := &leasing{open: &op.OpenSession{Timeout: ttl, Name: name, Lease: true}}
	l.secret = body.secret("secret", &l.open.Secret)
	switch {
	case hasSession && (ttl > 0 || l.secret != ""):
		body.fault("ttl", "is for a caller without a session: the instance lives as long as Coord-Session")
	case hasSession:
		return nil
	case ttl == 0:
		body.fault("ttl", "is required without Coord-Session: how long the instance stays registered unless its lease is kept alive")
	case l.secret == "" && c.header("Idempotency-Key") != "":
		body.fault("secret", "is required with Idempotency-Key: 16 random bytes as base64url without padding")
	case l.secret == "":
		l.secret = newSecret(&l.open.Secret)
	}
	return l
}

// registerUnder makes the lease and registers the instance under it. The lease is new, or this is a retry: then an
// instance that it has is left as it stands.
func (x *requestConn) registerUnder(
	ctx context.Context, l *leasing, i registry.Instance, replace bool,
) (registry.Instance, *leaseForm, error) {
	res, err := x.Do(ctx, l.open)
	if err != nil {
		return i, nil, err
	}
	x.session, x.key = res.Session.ID, nil
	lease := &leaseForm{x.session, l.secret, millis(res.Session.Timeout)}
	r := registry.New(x)
	there, err := r.Instance(ctx, i.Service, i.ID, op.ReadOptions{})
	if err == nil && there.Session == lease.ID {
		return there, lease, nil
	}
	if i, err = r.Register(ctx, i, replace); err != nil { // the lease goes at once, or if that fails too by itself
		x.c.s.backend.Do(ctx, &op.Request{Session: lease.ID, Auth: x.c.auth, Op: &op.CloseSession{Session: lease.ID}})
	}
	return i, lease, err
}

func (c *call) respondRegistered(i registry.Instance, lease *leaseForm) {
	form, status := newInstance(i), http.StatusOK
	form.Lease = lease
	if i.Created() {
		status = http.StatusCreated
		c.w.Header()["Location"] = []string{instanceURL(i.Service, i.ID)}
	}
	c.respondJSON(status, form)
}

func instanceURL(service, id string) string {
	return servicesURL + "/" + service + "/instances/" + url.PathEscape(id)
}

// updateInstance changes the status of an instance and the reason for it, whoever has registered it.
func (c *call) updateInstance() error {
	service, id, err := c.instanceName()
	if err != nil {
		return err
	}
	body, err := parseObject(c.body)
	if err != nil {
		return err
	}
	status, reason := registry.Status(body.require("status")), body.text("reason")
	if err := body.finish(); err != nil {
		return err
	}
	x, err := c.writing()
	if err != nil {
		return err
	}
	ctx, cancel := c.withTimeout()
	defer cancel()
	i, err := registry.New(x).SetStatus(ctx, service, id, status, reason, false)
	if err != nil {
		return noInstance(err, service, id)
	}
	c.respondJSON(http.StatusOK, newInstance(i))
	return nil
}

type deregisteredForm struct {
	Service      string `json:"service"`
	ID           string `json:"id"`
	Deregistered bool   `json:"deregistered"`
}

// deregisterInstance removes an instance: with a session one that it has registered, without any.
func (c *call) deregisterInstance() error {
	service, id, err := c.instanceName()
	if err != nil {
		return err
	}
	x, err := c.writing()
	if err != nil {
		return err
	}
	ctx, cancel := c.withTimeout()
	defer cancel()
	if err := registry.New(x).Deregister(ctx, service, id, x.session != 0); err != nil {
		return noInstance(err, service, id)
	}
	c.respondJSON(http.StatusOK, deregisteredForm{service, id, true})
	return nil
}
