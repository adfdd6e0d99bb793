package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/coord-kv/coord/coord"
	"github.com/coord-kv/coord/coord/discovery"
	"github.com/coord-kv/coord/internal/child"
	"github.com/coord-kv/coord/internal/registry"
	"github.com/coord-kv/coord/op"
)

// registerFlags are the flags of coord service register.
type registerFlags struct {
	id, address string
	port        int
	tags        []string
	meta        map[string]string
	checks      []string
	interval    time.Duration
	timeout     time.Duration
	ttl         time.Duration
	grace       time.Duration
	replace     bool
}

func newRegister(g *globals) *cobra.Command {
	o := &registerFlags{}
	c := &cobra.Command{
		Use:   "register NAME --port PORT [-- CMD [ARG...]]",
		Short: "Run a program as an instance of a service, or hold a registration",
		Long: `Run a program as an instance of a service: it is registered once the program runs, and deregistered when that ends,
or is told to by SIGINT or SIGTERM, so that nobody new comes. Without CMD the instance is registered until this command is
interrupted.

With --check the instance is critical until its checks find it well, and again when three in a row don't:

  http://host:port/path    answers 200 to 299; 429 is a warning. https too
  tcp://host:port          can be connected to
  grpc://host:port/NAME    grpc.health.v1 says SERVING; without NAME, for the whole server

A program that hangs is critical then, and goes on running: to restart it is up to what supervises it. One that must not run for
longer than an hour is run by timeout(1): -- timeout 1h CMD.

If the session is lost, say because no member could be reached for longer than --ttl, the program goes on running and is
registered again as soon as that is possible. If this command is killed, the instance is gone when --ttl is over.

Without a shell, the program runs in a process group of its own and gets signals passed on. Its environment has
COORD_SERVICE, COORD_INSTANCE and COORD_ENDPOINTS.

Exit codes with CMD: its own; 128 and the number of the signal that ended it; 126 or 127 if it can't be run; 125 if it
can't be registered, or coord fails in another way; 123 if somebody else has deregistered the instance, or registered one of
the same id with --replace: the program was stopped then, by SIGTERM, and after --grace by SIGKILL. Without CMD: 0,
interrupted; 4 instead of 123.`,
		Example: "  coord service register web --port 8080 --check http://localhost:8080/health -- ./server --port 8080\n" +
			"  coord service register db --port 5432 --address 10.0.0.7 --tag primary --check tcp://10.0.0.7:5432",
		RunE: g.asksForever(func(ctx context.Context, a *asking, args []string) error {
			r := &registering{registerFlags: o, a: a, args: args[1:]}
			if err := r.prepare(args[0]); err != nil {
				return usageError(a.c, err)
			}
			return r.run(ctx)
		}),
	}
	f := c.Flags()
	f.IntVar(&o.port, "port", 0, "where the instance listens; required")
	f.StringVar(&o.address, "address", "", "where it can be reached; without it, the address from which this machine reaches the service")
	f.StringVar(&o.id, "id", "", "of the instance; without it, address:port")
	f.StringArrayVar(&o.tags, "tag", nil, "a tag; may be given several times")
	f.StringToStringVar(&o.meta, "meta", nil, "more about it, as name=value; may be given several times")
	f.StringArrayVar(&o.checks, "check", nil, "a URL that says whether it is well; may be given several times, the worst counts")
	f.DurationVar(&o.interval, "check-interval", 10*time.Second, "between two runs of a check, once it has found the instance well")
	f.DurationVar(&o.timeout, "check-timeout", 5*time.Second, "how long one run of a check may take; it has failed then")
	f.DurationVar(&o.ttl, "ttl", 15*time.Second, "how long it stays registered when this command can't be heard of any more")
	f.DurationVar(&o.grace, "grace", child.DefaultGrace, "between SIGTERM and SIGKILL, if the program must be stopped")
	f.BoolVar(&o.replace, "replace", false, "take the id from another one, say from an earlier run of the same program")
	return g.maybeWrapper(c, nameArg)
}

// registering is an instance that is kept registered, and the program that it is of.
type registering struct {
	*registerFlags
	a      *asking
	args   []string // of the program; none for none
	x      discovery.Instance
	opts   []discovery.RegisterOption
	client *coord.Client
	was    discovery.Status // as it was last told

	identity string // of all sessions that this command opens
	secret   []byte // of the last of them
}

// prepare takes the flags in. Its errors are of usage.
func (r *registering) prepare(service string) error {
	r.x = discovery.Instance{Service: service, ID: r.id, Address: r.address, Port: r.port, Tags: r.tags, Meta: r.meta}
	if r.port < 1 || r.port > 65535 {
		return errors.New("--port says where the instance listens, 1 to 65535")
	}
	for _, u := range r.checks {
		c, err := checkOf(u)
		if err != nil {
			return err
		}
		c.Interval, c.Timeout = r.interval, r.timeout
		r.opts = append(r.opts, discovery.WithChecks(c))
	}
	if err := checkTTL("ttl", r.ttl); err != nil {
		return err
	}
	switch {
	case r.interval < time.Second/100:
		return errors.New("--check-interval is at least 10ms")
	case r.timeout < time.Second/100:
		return errors.New("--check-timeout is at least 10ms")
	}
	if r.replace {
		r.opts = append(r.opts, discovery.Replace())
	}
	r.opts = append(r.opts, discovery.OnStatus(r.tell))
	return nil
}

// checkOf returns the check that a URL stands for.
func checkOf(s string) (discovery.Check, error) {
	u, err := url.Parse(s)
	if err != nil || u.Hostname() == "" {
		return discovery.Check{}, fmt.Errorf("--check %q is not a URL such as http://localhost:8080/health", s)
	}
	switch u.Scheme {
	case "http", "https":
		return discovery.HTTP(s), nil
	case "tcp", "grpc":
		if u.Port() == "" || u.User != nil || u.RawQuery != "" || u.Scheme == "tcp" && strings.Trim(u.Path, "/") != "" {
			return discovery.Check{}, fmt.Errorf("--check %q: it is %s://host:port", s, u.Scheme)
		}
		if u.Scheme == "tcp" {
			return discovery.TCP(u.Host), nil
		}
		return discovery.GRPC(u.Host, strings.Trim(u.Path, "/")), nil
	}
	return discovery.Check{}, fmt.Errorf("--check %q: it begins with http://, https://, tcp:// or grpc://", s)
}

func (r *registering) tell(s discovery.Status, why error) {
	switch {
	case why == nil:
		r.a.note("%s is %s", r.name(), s)
	case s != r.was:
		r.a.note("%s is %s: %s", r.name(), s, strings.ReplaceAll(why.Error(), "\n", " "))
	}
	r.was = s
}

func (r *registering) name() string { return r.x.Service + "/" + r.x.ID }

func (r *registering) run(ctx context.Context) error {
	client, err := r.a.dial(ctx)
	if err != nil {
		return &exitError{code: exitUnavailable, err: errors.New("couldn't reach the service"), why: reason(err), next: nobodyThere}
	}
	defer client.Close()
	r.client, r.identity = client, "coord service register "+rand.Text()
	if err := r.complete(); err != nil {
		return err
	}
	s, err := r.session(ctx)
	if err != nil {
		return clientFailed(err, "open a session")
	}
	if len(r.args) == 0 {
		err := r.keep(ctx, s)
		if errors.Is(err, discovery.ErrGone) {
			return &exitError{code: exitConflict, err: fmt.Errorf("%s is not registered any more", r.name()), why: goneWhy, next: "coord services show " + r.x.Service}
		}
		return err
	}
	return r.wrap(ctx, s)
}

const goneWhy = "somebody has deregistered it, or registered another instance of the same id with --replace"

// complete finds out what was not given.
func (r *registering) complete() error {
	if r.x.Address == "" {
		addr, err := localAddress(r.a.endpoints)
		if err != nil {
			return &exitError{code: exitOther, err: errors.New("couldn't tell the address of this machine"), why: err.Error(), next: "give it with --address"}
		}
		r.x.Address = addr
	}
	if r.x.ID == "" {
		r.x.ID = r.x.HostPort()
	}
	x := registry.Instance{
		Service: r.x.Service, ID: r.x.ID, Address: r.x.Address, Port: uint16(r.port), Tags: r.tags, Meta: r.meta,
	}
	if err := x.Check(); err != nil { // here, so that nothing is run in vain
		return usageError(r.a.c, errors.New(detail(err)))
	}
	return nil
}

// detail returns what an error says, without its code.
func detail(err error) string {
	if e, ok := errors.AsType[*op.Error](err); ok && e.Detail != "" {
		return e.Detail
	}
	return err.Error()
}

// localAddress returns the address from which this machine reaches the first endpoint that it has a way to. Nothing is
// sent for that.
func localAddress(endpoints []string) (string, error) {
	var last error
	for _, e := range endpoints {
		if !strings.Contains(e, "://") {
			e = "http://" + e
		}
		u, err := url.Parse(e)
		if err != nil {
			last = err
			continue
		}
		port := u.Port()
		if port == "" {
			port = "7070"
		}
		c, err := net.Dial("udp", net.JoinHostPort(u.Hostname(), port))
		if err != nil {
			last = err
			continue
		}
		defer c.Close()
		return c.LocalAddr().(*net.UDPAddr).IP.String(), nil
	}
	return "", last
}

// session opens a session, which ends the one before it.
func (r *registering) session(ctx context.Context) (*coord.Session, error) {
	ctx, cancel := context.WithTimeout(ctx, r.a.timeout)
	defer cancel()
	s, err := r.client.Session(ctx, coord.TTL(r.ttl), coord.Name("service "+r.name()), coord.Identity(r.identity, r.secret))
	if err != nil {
		return nil, err
	}
	if r.secret == nil { // the first one; those after it live as long
		r.a.noteTTL(r.ttl, s.TTL())
	}
	r.secret = s.Secret()
	return s, nil
}

// wrap runs the program, registered.
func (r *registering) wrap(ctx context.Context, s *coord.Session) error {
	p, err := child.Start(child.Command{
		Args: r.args, Stdin: r.a.io.in, Stdout: r.a.io.out, Stderr: r.a.io.err, Grace: r.grace,
		Env: []string{
			"COORD_SERVICE=" + r.x.Service, "COORD_INSTANCE=" + r.x.ID, "COORD_ENDPOINTS=" + strings.Join(r.a.endpoints, ","),
		},
	})
	if err != nil {
		r.leave(ctx, s, nil)
		return cannotRun(r.args[0], err)
	}
	if ctx.Err() != nil { // before signals were the program's
		p.Signal(syscall.SIGTERM)
	}
	life, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		<-p.Done()
		stop()
	}()
	err = r.keep(life, s)
	if err != nil {
		p.Stop(err, r.grace)
	}
	result := p.Wait()
	if result.Reason == nil {
		return r.ended(result)
	}
	if errors.Is(err, discovery.ErrGone) {
		return &exitError{
			child: true, code: exitLost, err: fmt.Errorf("%s is not registered any more, so %s was stopped", r.name(), r.args[0]),
			why: goneWhy, next: "coord services show " + r.x.Service,
		}
	}
	return err
}

// ended returns what to end with when the program has ended by itself: it has said what there is to say.
func (r *registering) ended(result child.Result) error {
	if result.Code == 0 {
		return nil
	}
	return &exitError{child: true, silent: true, code: result.Code, err: fmt.Errorf("%s ended with %d", r.args[0], result.Code)}
}

// keep keeps the instance registered, at first in session s, until ctx ends; then it is deregistered, as far as that can be
// done in time. The error is discovery.ErrGone if somebody else has taken it away, and otherwise why it couldn't be
// registered for the first time.
func (r *registering) keep(ctx context.Context, s *coord.Session) error {
	for first := true; ; first = false {
		reg, err := r.register(ctx, s)
		switch {
		case err == nil:
			r.a.note("%s is registered at %s", r.name(), r.x.HostPort())
			select {
			case <-ctx.Done():
			case <-reg.Context().Done():
				err = context.Cause(reg.Context())
			}
		case !first && errors.Is(err, coord.ErrNodeExists):
			err = discovery.ErrGone // while the session was lost
		}
		gone := errors.Is(err, discovery.ErrGone)
		switch {
		case gone:
			r.leave(ctx, s, reg)
			return err
		case ctx.Err() != nil:
			r.leave(ctx, s, reg)
			return nil
		}
		if first && reg == nil {
			r.leave(ctx, s, nil)
			return r.refused(err)
		}
		r.a.note("%s is to be registered again: %s", r.name(), reason(err))
		if s, err = r.again(ctx); err != nil {
			return nil // it is to end, and nothing is registered
		}
	}
}

// refused explains why the instance couldn't be registered.
func (r *registering) refused(err error) error {
	out := clientFailed(err, "register %s", r.name())
	if e, ok := errors.AsType[*coord.Error](err); ok && e.Code == op.NodeExists {
		return &exitError{code: exitConflict, err: out, why: e.Detail, next: "give another --id, or --replace to take this one"}
	}
	return out
}

// register registers the instance.
func (r *registering) register(ctx context.Context, s *coord.Session) (*discovery.Registration, error) {
	ctx, cancel := context.WithTimeout(ctx, r.a.timeout)
	defer cancel()
	return discovery.Register(ctx, s, r.x, r.opts...)
}

// again opens another session, however long that takes.
func (r *registering) again(ctx context.Context) (*coord.Session, error) {
	for {
		pause := time.NewTimer(time.Second)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return nil, ctx.Err()
		}
		if s, err := r.session(ctx); err == nil {
			return s, nil
		}
	}
}

// leave deregisters the instance and ends its session. Who can't be reached now finds out when the session expires.
func (r *registering) leave(ctx context.Context, s *coord.Session, reg *discovery.Registration) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), min(r.a.timeout, r.ttl))
	defer cancel()
	if reg != nil {
		reg.Close(ctx)
	}
	if err := s.Close(ctx); err != nil && s.Context().Err() == nil {
		r.a.note("%s stays registered for up to %s: %s", r.name(), r.ttl, reason(err))
	}
}
