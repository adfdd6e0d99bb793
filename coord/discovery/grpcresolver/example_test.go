package grpcresolver_test

import (
	"context"
	"fmt"
	"log"
	"net"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/coord-kv/coord/coord"
	"github.com/coord-kv/coord/coord/discovery"
	"github.com/coord-kv/coord/coord/discovery/grpcresolver"
	"github.com/coord-kv/coord/coord/internal/exampletest"
)

func TestMain(m *testing.M) { exampletest.Main(m) }

// A server of gRPC, and a client that finds it. The example finds coord through COORD_ENDPOINTS.
func Example() {
	ctx := context.Background()
	client, err := coord.Dial(ctx)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	server := grpc.NewServer()
	defer server.Stop()
	grpc_health_v1.RegisterHealthServer(server, health.NewServer())
	go server.Serve(ln)
	session, err := client.Session(ctx)
	if err != nil {
		log.Fatal(err)
	}
	payments := discovery.Instance{Service: "payments", Address: "127.0.0.1", Port: ln.Addr().(*net.TCPAddr).Port}
	_, err = discovery.Register(ctx, session, payments, discovery.WithChecks(discovery.GRPC(ln.Addr().String(), "")))
	if err != nil {
		log.Fatal(err)
	}

	conn, err := grpc.NewClient("coord:///payments",
		grpc.WithResolvers(grpcresolver.New(client)),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}]}`),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()

	ask := grpc_health_v1.NewHealthClient(conn)
	res, err := ask.Check(ctx, &grpc_health_v1.HealthCheckRequest{}, grpc.WaitForReady(true))
	fmt.Println(res.GetStatus(), err)
	// Output: SERVING <nil>
}
