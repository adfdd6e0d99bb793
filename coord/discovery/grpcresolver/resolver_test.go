package grpcresolver_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/coord-kv/coord/coord"
	"github.com/coord-kv/coord/coord/coordtest"
	"github.com/coord-kv/coord/coord/discovery"
	"github.com/coord-kv/coord/coord/discovery/grpcresolver"
)

// patience is how long anything may take on the slowest machine.
const patience = 2 * time.Minute

// backend is a gRPC server that is registered.
type backend struct {
	*grpc.Server
	health *health.Server
	reg    *discovery.Registration
	addr   string
}

func startBackend(t *testing.T, s *coord.Session, id string, tags []string, opts ...discovery.RegisterOption) *backend {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &backend{Server: grpc.NewServer(), health: health.NewServer(), addr: ln.Addr().String()}
	grpc_health_v1.RegisterHealthServer(b.Server, b.health)
	go b.Serve(ln)
	t.Cleanup(b.Stop)
	x := discovery.Instance{Service: "pay", ID: id, Address: "127.0.0.1", Port: ln.Addr().(*net.TCPAddr).Port, Tags: tags}
	check := discovery.GRPC(b.addr, "")
	check.Interval, check.FailAfter = 20*time.Millisecond, 1
	b.reg, err = discovery.Register(t.Context(), s, x, append(opts, discovery.WithChecks(check))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.reg.Close(context.Background()) })
	return b
}

func setUp(t *testing.T) (*coordtest.Cluster, *coord.Client, *coord.Session) {
	cluster := coordtest.Start(t, 1)
	c := cluster.Client(t)
	s, err := c.Session(t.Context(), coord.TTL(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	return cluster, c, s
}

func dial(t *testing.T, c discovery.Source, target string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(target, grpc.WithResolvers(grpcresolver.New(c)),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// call makes a call and returns which server has answered.
func call(ctx context.Context, conn *grpc.ClientConn, opts ...grpc.CallOption) (string, error) {
	var p peer.Peer
	_, err := grpc_health_v1.NewHealthClient(conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{}, append(opts, grpc.Peer(&p))...)
	if err != nil {
		return "", err
	}
	return p.Addr.String(), nil
}

// await calls until the last calls went to just those servers, without any that failed. None means that calls fail.
func await(t *testing.T, conn *grpc.ClientConn, want ...*backend) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		seen, failed := map[string]bool{}, error(nil)
		for range 4 * max(len(want), 1) {
			addr, err := call(t.Context(), conn)
			if failed = errors.Join(failed, err); err == nil {
				seen[addr] = true
			}
		}
		ok := len(seen) == len(want) && (failed == nil) == (len(want) > 0)
		for _, b := range want {
			ok = ok && seen[b.addr]
		}
		if ok {
			if len(want) == 0 && status.Code(failed) != codes.Unavailable && !strings.Contains(failed.Error(), "Unavailable") {
				t.Errorf("calls fail with %v", failed)
			}
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("calls go to %v, %v", seen, failed)
		}
	}
}

// Calls go to the instances that are passing, as these come, change and go.
func TestFollows(t *testing.T) {
	_, c, s := setUp(t)
	conn := dial(t, c, "coord:///pay")
	await(t, conn)
	a := startBackend(t, s, "a", nil)
	await(t, conn, a)
	b := startBackend(t, s, "b", nil)
	await(t, conn, a, b)
	a.health.SetServingStatus("", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	await(t, conn, b)
	a.health.SetServingStatus("", grpc_health_v1.HealthCheckResponse_SERVING)
	await(t, conn, a, b)
	b.Stop()
	await(t, conn, a)
	if err := a.reg.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	await(t, conn)
}

// A call that waits for an instance gets one once there is.
func TestWaitForReady(t *testing.T) {
	_, c, s := setUp(t)
	conn := dial(t, c, "coord:///pay")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	answered := make(chan string)
	go func() {
		addr, err := call(ctx, conn, grpc.WaitForReady(true))
		answered <- fmt.Sprint(addr, err)
	}()
	a := startBackend(t, s, "a", nil)
	if got := <-answered; got != a.addr+"<nil>" {
		t.Error(got)
	}
}

// An instance is dropped when its session ends.
func TestDropped(t *testing.T) {
	cluster, c, s := setUp(t)
	other, err := c.Session(t.Context(), coord.TTL(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	a, b := startBackend(t, s, "a", nil), startBackend(t, other, "b", nil)
	conn := dial(t, c, "coord:///pay")
	await(t, conn, a, b)
	cluster.ExpireSession(other.ID())
	await(t, conn, a)
}

// Without any member calls go on.
func TestOutlives(t *testing.T) {
	cluster, c, s := setUp(t)
	a := startBackend(t, s, "a", nil)
	conn := dial(t, c, "coord:///pay")
	await(t, conn, a)
	cluster.Kill(0)
	await(t, conn, a)
	cluster.Restart(0)
	await(t, conn, a, startBackend(t, s, "b", nil))
}

func TestTags(t *testing.T) {
	_, c, s := setUp(t)
	a := startBackend(t, s, "a", []string{"v1", "eu"})
	b := startBackend(t, s, "b", []string{"v1", "us"})
	await(t, dial(t, c, "coord:///pay?tag=v1"), a, b)
	await(t, dial(t, c, "coord:///pay?tag=v1&tag=eu"), a)
	await(t, dial(t, c, "coord:///pay?tag=v2"))
}

// What is no target fails with words that say what one is.
func TestTargets(t *testing.T) {
	_, c, _ := setUp(t)
	for _, target := range []string{
		"coord://pay", "coord://pay/x", "coord:///", "coord:///a/b", "coord:///pay?tags=x", "coord:///pay#x", "coord:///Pay",
	} {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		_, err := call(ctx, dial(t, c, target))
		cancel()
		if err == nil || !strings.Contains(err.Error(), "target") && !strings.Contains(err.Error(), "can't be the name of a service") {
			t.Errorf("%s: %v", target, err)
		}
	}
}

// When the client is closed calls go on to where they went, and the connection can be closed.
func TestClientClosed(t *testing.T) {
	cluster, _, s := setUp(t)
	a := startBackend(t, s, "a", nil)
	c := cluster.Client(t)
	conn := dial(t, c, "coord:///pay")
	await(t, conn, a)
	c.Close()
	await(t, conn, a)
	conn.Close()
}
