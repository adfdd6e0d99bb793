package discovery_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"time"

	"github.com/coord-kv/coord/coord"
	"github.com/coord-kv/coord/coord/discovery"
)

// The examples find the service through COORD_ENDPOINTS.

// dial connects, and opens a session, as each example begins.
func dial(ctx context.Context) (*coord.Client, *coord.Session) {
	client, err := coord.Dial(ctx)
	if err != nil {
		log.Fatal(err)
	}
	session, err := client.Session(ctx)
	if err != nil {
		log.Fatal(err)
	}
	return client, session
}

// serve answers HTTP on a free port until the program ends, and returns the port.
func serve() int {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go http.Serve(ln, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") }))
	return ln.Addr().(*net.TCPAddr).Port
}

// A server registers, is found, and is gone when it stops.
func Example() {
	ctx := context.Background()
	client, session := dial(ctx)
	defer client.Close()
	port := serve()

	health := discovery.HTTP(fmt.Sprintf("http://127.0.0.1:%d/health", port))
	web, err := discovery.Register(ctx, session,
		discovery.Instance{Service: "web", ID: "web-1", Address: "127.0.0.1", Port: port, Tags: []string{"v1"}},
		discovery.WithChecks(health))
	if err != nil {
		log.Fatal(err)
	}

	for instances, err := range discovery.Watch(ctx, client, "web", discovery.PassingOnly(), discovery.Tag("v1")) {
		if err != nil {
			log.Fatal(err)
		}
		if len(instances) > 0 { // the check has found it well
			fmt.Println(instances[0].ID, instances[0].Status)
			break
		}
	}

	if err := web.Close(ctx); err != nil {
		log.Fatal(err)
	}
	instances, err := discovery.Resolve(ctx, client, "web")
	fmt.Println(len(instances), err)
	// Output:
	// web-1 passing
	// 0 <nil>
}

// An http.Client that sends each request to the next instance of a service.
func ExampleBalancer_Transport() {
	ctx := context.Background()
	client, session := dial(ctx)
	defer client.Close()
	shop := discovery.Instance{Service: "shop", Address: "127.0.0.1", Port: serve()}
	if _, err := discovery.Register(ctx, session, shop); err != nil {
		log.Fatal(err)
	}

	balancer := discovery.NewBalancer(client, "shop")
	defer balancer.Close()
	shops := &http.Client{Transport: balancer.Transport(nil), Timeout: 5 * time.Second}
	res, err := shops.Get("http://shop/offers")
	if err != nil {
		log.Fatal(err)
	}
	defer res.Body.Close()
	body, _ := io.ReadAll(res.Body)
	fmt.Println(string(body))
	// Output: hello
}

// A program that knows better than its checks how it is.
func ExampleRegistration_SetStatus() {
	ctx := context.Background()
	client, session := dial(ctx)
	defer client.Close()
	mail := discovery.Instance{Service: "mail", ID: "mail-1", Address: "10.0.0.1", Port: 25}
	r, err := discovery.Register(ctx, session, mail)
	if err != nil {
		log.Fatal(err)
	}

	if err := r.SetStatus(ctx, discovery.Critical); err != nil { // nobody new comes
		log.Fatal(err)
	}
	instances, err := discovery.Resolve(ctx, client, "mail", discovery.PassingOnly())
	fmt.Println(len(instances), err)
	// Output: 0 <nil>
}
