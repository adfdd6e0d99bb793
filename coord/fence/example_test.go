package fence_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/coord-kv/coord/coord"
	"github.com/coord-kv/coord/coord/fence"
	"github.com/coord-kv/coord/coord/lock"
)

// A service that only the holder of a lock may write to.
func Example() {
	ctx := context.Background()
	client, err := coord.Dial(ctx)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	// The service.
	invoices := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, "sent") })
	guard := fence.New("billing", fence.NewRegister(client, "invoices"))
	service := httptest.NewServer(guard.Handler(invoices))
	defer service.Close()

	// Its clients: what one does with the lock, and, too late, with its token after another one has come.
	send := func(token coord.Token) {
		req, err := http.NewRequestWithContext(ctx, "POST", service.URL, strings.NewReader("to: you"))
		if err != nil {
			log.Fatal(err)
		}
		fence.Set(req.Header, token)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			log.Fatal(err)
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		fmt.Println(resp.StatusCode, strings.Contains(string(body), "stale_token"))
	}
	session, err := client.Session(ctx)
	if err != nil {
		log.Fatal(err)
	}
	var tokens []coord.Token
	for range 2 {
		err := lock.New(session, "billing").Do(ctx, func(ctx context.Context, token coord.Token) error {
			tokens = append(tokens, token)
			send(token)
			return nil
		})
		if err != nil {
			log.Fatal(err)
		}
	}
	send(tokens[0])
	// Output:
	// 200 false
	// 200 false
	// 412 true
}

// A resource that is no service of HTTP.
func ExampleGuard_Do() {
	ctx := context.Background()
	guard := fence.New("term:scheduler", new(fence.Memory)) // it forgets what the process forgets
	run := func(term coord.Zxid) {
		token := coord.Token{Dir: "/elections/scheduler", Term: true, Zxid: term}
		err := guard.Do(ctx, token, func(ctx context.Context) error {
			fmt.Println("in term", term)
			return ctx.Err()
		})
		if err != nil {
			fmt.Println(err)
		}
	}
	run(57)
	run(60)
	run(57)
	// Output:
	// in term 57
	// in term 60
	// stale_token: token 57 is stale: 60 has been here
}
