package discovery

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"
)

// ErrNoInstance says that a service has no instance that is in use.
var ErrNoInstance = errors.New("no instance in use")

// aside is how long an instance that could not be reached is left alone, while there are others.
const aside = 5 * time.Second

// Balancer picks instances of one service in turn, of those that are InUse.
// It follows the service from its first use on, with one goroutine and one watch, and while no member of the cluster can
// be reached it goes on with the instances that it knows. It is safe for concurrent use.
type Balancer struct {
	c       Source
	service string
	opts    []Option

	begin sync.Once
	ctx   context.Context
	end   context.CancelFunc
	done  chan struct{}
	known chan struct{} // closed when the instances are known, or never will be

	mu     sync.Mutex
	list   []Instance           // in use
	turn   int                  // counts picks
	failed map[string]time.Time // until when instances are left alone, by HostPort
	err    error                // why nothing is followed any more
}

// NewBalancer returns a Balancer of a service. The options say which of its instances count.
func NewBalancer(c Source, service string, opts ...Option) *Balancer {
	b := &Balancer{
		c: c, service: service, opts: opts, done: make(chan struct{}), known: make(chan struct{}),
		failed: make(map[string]time.Time),
	}
	b.ctx, b.end = context.WithCancel(context.Background())
	return b
}

// Close ends it, and returns when nothing of it runs any more.
func (b *Balancer) Close() {
	b.end()
	b.begin.Do(func() { b.follow() })
	<-b.done
}

func (b *Balancer) follow() {
	defer close(b.done)
	knows := sync.OnceFunc(func() { close(b.known) })
	defer knows()
	for list, err := range Watch(b.ctx, b.c, b.service, b.opts...) {
		b.take(list, err)
		knows()
	}
}

func (b *Balancer) take(list []Instance, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err != nil {
		b.err = err
		return
	}
	b.list = InUse(list)
	clear(b.failed)
}

// InUse returns the instances that calls should go to: those that are Passing, or if there are none those with a Warning.
func InUse(list []Instance) []Instance {
	with := func(s Status) []Instance {
		return slices.DeleteFunc(slices.Clone(list), func(x Instance) bool { return x.Status != s })
	}
	if well := with(Passing); len(well) > 0 {
		return well
	}
	return with(Warning)
}

// Pick returns the instance whose turn it is. The first call waits until the instances are known. With none in use the
// error is ErrNoInstance.
func (b *Balancer) Pick(ctx context.Context) (Instance, error) {
	b.begin.Do(func() { go b.follow() })
	select {
	case <-b.known:
	case <-ctx.Done():
		return Instance{}, fmt.Errorf("discovery: the instances of %s are not known yet: %w", b.service, ctx.Err())
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.err != nil:
		return Instance{}, fmt.Errorf("discovery: couldn't follow the service %s: %w", b.service, b.err)
	case len(b.list) == 0:
		return Instance{}, fmt.Errorf("discovery: the service %s: %w", b.service, ErrNoInstance)
	}
	now := time.Now()
	for range b.list {
		b.turn++
		if x := b.list[b.turn%len(b.list)]; !now.Before(b.failed[x.HostPort()]) {
			return x, nil
		}
	}
	b.turn++ // all have failed; it has to be one of them
	return b.list[b.turn%len(b.list)], nil
}

// Failed says that an instance could not be reached. It is left alone for 5 s, or until something about the service
// changes, as long as there are others.
func (b *Balancer) Failed(x Instance) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failed[x.HostPort()] = time.Now().Add(aside)
}

func (b *Balancer) size() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.list)
}

// Transport returns an http.RoundTripper for URLs whose host is the name of the service, without a port, such as
// http://payments/orders/7: each request goes to the next instance. If no connection to it can be made, which leaves
// no doubt that the request was not seen, the next instances are tried. Everything else goes through base unchanged, so
// a redirect to another host leads there. A nil base is http.DefaultTransport.
//
// The Host header remains the name of the service. With https, certificates must name the addresses of the instances.
func (b *Balancer) Transport(base http.RoundTripper) http.RoundTripper {
	if base == nil {
		base = http.DefaultTransport
	}
	return &transport{b, base}
}

type transport struct {
	b    *Balancer
	base http.RoundTripper
}

func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Host != t.b.service {
		return t.base.RoundTrip(req)
	}
	for tried := 1; ; tried++ {
		x, err := t.b.Pick(req.Context())
		if err != nil {
			if req.Body != nil {
				req.Body.Close()
			}
			return nil, err
		}
		res, err := t.base.RoundTrip(directed(req, x))
		if !notConnected(err) || req.Context().Err() != nil {
			return res, err
		}
		t.b.Failed(x)
		again, ok := rewound(req)
		if !ok || tried >= t.b.size() {
			return nil, err
		}
		req = again
	}
}

// directed returns the request as it goes to an instance.
func directed(req *http.Request, x Instance) *http.Request {
	to := new(http.Request)
	*to = *req
	to.URL = new(url.URL)
	*to.URL = *req.URL
	to.URL.Host = x.HostPort()
	if to.Host == "" {
		to.Host = req.URL.Host
	}
	return to
}

// notConnected reports whether a request failed before there was a connection to send it over.
func notConnected(err error) bool {
	e, ok := errors.AsType[*net.OpError](err)
	return ok && e.Op == "dial"
}

// rewound returns the request with its body as it was, if that can be had again.
func rewound(req *http.Request) (*http.Request, bool) {
	if req.Body == nil || req.Body == http.NoBody {
		return req, true
	}
	if req.GetBody == nil {
		return nil, false
	}
	body, err := req.GetBody()
	if err != nil {
		return nil, false
	}
	again := new(http.Request)
	*again = *req
	again.Body = body
	return again, true
}
