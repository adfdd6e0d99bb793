// Package grpcresolver lets gRPC find services in coord: a call to coord:///payments goes to the instances of the service
// payments that are in use, and follows them as they come and go.
//
//	conn, err := grpc.NewClient("coord:///payments", grpc.WithResolvers(grpcresolver.New(client)),
//		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}]}`), ...)
//
// Without that service config gRPC sends all calls to one instance, as long as it can be reached. ?tag=v1 behind the name
// leaves out the instances without that tag; it may be given several times.
//
// It is a module of its own, so that who doesn't use gRPC doesn't get it.
//
// # Guarantees
//
//   - gRPC is told of the instances that are Passing, or if there are none of those with a Warning; see
//     [discovery.InUse]. It is told once for each state of them, and in the end of the last one.
//   - While no member of the cluster can be reached, it goes on with what was known.
//   - Calls to a service that has no instance in use fail with Unavailable, or wait if they are WaitForReady.
//   - A resolver has one goroutine and one watch, which end with its connection.
//
// # What hurts
//
// An instance whose machine has died is known until its session has timed out: gRPC notices by itself that it can't be
// reached, and takes another one. The authority of calls, which certificates are held against, is the name of the service.
package grpcresolver

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/grpc/resolver"

	"github.com/coord-kv/coord/coord/discovery"
)

// Scheme is that of targets: coord:///NAME.
const Scheme = "coord"

// New returns what finds services, for grpc.WithResolvers. The options say which instances count, in addition to the
// tags of a target. It is safe for concurrent use, and lives as long as c does.
func New(c discovery.Source, opts ...discovery.Option) resolver.Builder { return &builder{c, opts} }

type builder struct {
	source discovery.Source
	opts   []discovery.Option
}

// Scheme returns the scheme of targets.
func (b *builder) Scheme() string { return Scheme }

// Build begins to follow the service of a target. A target that can't be one is an error.
func (b *builder) Build(target resolver.Target, cc resolver.ClientConn, _ resolver.BuildOptions) (resolver.Resolver, error) {
	service, opts, err := parse(target)
	if err != nil {
		return nil, err
	}
	ctx, end := context.WithCancel(context.Background())
	f := &following{end: end, done: make(chan struct{})}
	go func() {
		defer close(f.done)
		follow(ctx, b.source, service, append(slices.Clone(b.opts), opts...), cc)
	}()
	return f, nil
}

// parse reads coord:///NAME?tag=TAG.
func parse(target resolver.Target) (service string, opts []discovery.Option, err error) {
	u := target.URL
	service = target.Endpoint()
	if u.Host != "" || service == "" || strings.Contains(service, "/") || u.Fragment != "" || u.User != nil {
		return "", nil, fmt.Errorf("grpcresolver: the target %q is not coord:///NAME, with three slashes", u.String())
	}
	for name, values := range u.Query() {
		if name != "tag" {
			return "", nil, fmt.Errorf("grpcresolver: the target %q has %q; behind the name there can be ?tag=TAG", u.String(), name)
		}
		for _, v := range values {
			opts = append(opts, discovery.Tag(v))
		}
	}
	return service, opts, nil
}

// follow tells gRPC of the instances until ctx or the source ends. Errors of UpdateState say that gRPC has no use for the
// instances, such as for none; they are as they are.
func follow(ctx context.Context, c discovery.Source, service string, opts []discovery.Option, cc resolver.ClientConn) {
	for list, err := range discovery.Watch(ctx, c, service, opts...) {
		if err != nil {
			if ctx.Err() == nil {
				cc.ReportError(fmt.Errorf("couldn't follow the service %s: %w", service, err))
			}
			return
		}
		_ = cc.UpdateState(stateOf(list))
	}
}

func stateOf(list []discovery.Instance) resolver.State {
	var s resolver.State
	for _, x := range discovery.InUse(list) {
		s.Endpoints = append(s.Endpoints, resolver.Endpoint{Addresses: []resolver.Address{{Addr: x.HostPort()}}})
	}
	return s
}

type following struct {
	end  context.CancelFunc
	done chan struct{}
}

// ResolveNow does nothing: what changes is told anyway.
func (f *following) ResolveNow(resolver.ResolveNowOptions) {}

// Close returns when nothing of the resolver runs any more.
func (f *following) Close() {
	f.end()
	<-f.done
}
