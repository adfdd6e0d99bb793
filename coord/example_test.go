package coord_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/coord-kv/coord/coord"
)

// The examples find the service through COORD_ENDPOINTS.

func Example() {
	ctx := context.Background()
	client, err := coord.Dial(ctx) // localhost:7070, or COORD_ENDPOINTS
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	_, err = client.Create(ctx, "/app/db-url", []byte("postgres://db/app"), coord.Parents())
	if err != nil {
		log.Fatal(err)
	}
	node, err := client.Get(ctx, "/app/db-url")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s, version %d\n", node.Data, node.Stat.Version)
	// Output: postgres://db/app, version 0
}

func ExampleClient_Set() {
	ctx := context.Background()
	client := dial(ctx)
	defer client.Close()

	node, _ := client.Create(ctx, "/limit", []byte("10"))
	_, err := client.Set(ctx, "/limit", []byte("20"), coord.IfMatch(node))
	fmt.Println(err)
	_, err = client.Set(ctx, "/limit", []byte("30"), coord.IfMatch(node)) // it has changed since
	var e *coord.Error
	if errors.As(err, &e) && errors.Is(err, coord.ErrBadVersion) {
		fmt.Println(e.Outcome, e.Path, "is at version", e.Stat.Version)
		fmt.Println(coord.Hint(err))
	}
	// Output:
	// <nil>
	// decided /limit is at version 1
	// Read the node again, decide again, and write with IfMatch; Update does that.
}

// OrSet is for a node that may not be there yet.
func ExampleOrSet() {
	ctx := context.Background()
	client := dial(ctx)
	defer client.Close()

	for _, size := range []string{"10", "20"} {
		node, err := client.Create(ctx, "/app/pool", []byte(size), coord.OrSet(), coord.Parents())
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s, version %d\n", node.Data, node.Stat.Version)
	}
	// Output:
	// 10, version 0
	// 20, version 1
}

func ExampleClient_Update() {
	ctx := context.Background()
	client := dial(ctx)
	defer client.Close()

	client.Create(ctx, "/visits", []byte("41"))
	node, err := client.Update(ctx, "/visits", func(n *coord.Node) ([]byte, error) {
		var visits int
		_, err := fmt.Sscan(string(n.Data), &visits)
		return fmt.Append(nil, visits+1), err
	})
	fmt.Printf("%s %v\n", node.Data, err)
	// Output: 42 <nil>
}

func ExampleClient_Children() {
	ctx := context.Background()
	client := dial(ctx)
	defer client.Close()

	client.Create(ctx, "/fleet/a", []byte("up"), coord.Parents())
	client.Create(ctx, "/fleet/b", []byte("down"))
	for node, err := range client.Children(ctx, "/fleet") {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s %s\n", node.Path, node.Data)
	}
	// Output:
	// /fleet/a up
	// /fleet/b down
}

func ExampleClient_Txn() {
	ctx := context.Background()
	client := dial(ctx)
	defer client.Close()

	client.Create(ctx, "/schema", []byte("1"))
	for range 2 {
		res, err := client.Txn().
			Check("/schema", coord.IfVersion(0)).
			Set("/schema", []byte("2")).
			Create("/migrated", nil).
			Else().
			Get("/schema").
			Commit(ctx)
		if err != nil {
			log.Fatal(err)
		}
		if res.Else {
			fmt.Printf("done already: %s\n", res.Results[0].Data)
		} else {
			fmt.Println("migrated")
		}
	}
	// Output:
	// migrated
	// done already: 2
}

func ExampleClient_Watch() {
	ctx := context.Background()
	client := dial(ctx)
	defer client.Close()

	client.Create(ctx, "/config", nil)
	client.Create(ctx, "/config/a", []byte("1"))
	for event, err := range client.Watch(ctx, "/config", coord.Recursive(), coord.WithInitial()) {
		if err != nil {
			log.Fatal(err)
		}
		if event.Type == coord.Bookmark {
			fmt.Println("that was the state; now come changes")
			client.Set(ctx, "/config/a", []byte("2"))
			client.Delete(ctx, "/config/a")
			continue
		}
		fmt.Println(event.Type, event.Path)
		if event.Type == coord.Deleted {
			break
		}
	}
	// Output:
	// present /config
	// present /config/a
	// that was the state; now come changes
	// changed /config/a
	// deleted /config/a
}

func ExampleClient_Watch_resume() {
	ctx := context.Background()
	client := dial(ctx)
	defer client.Close()

	client.Create(ctx, "/jobs", nil)
	position := client.Zxid() // stored somewhere, together with what was made of the changes up to it
	client.Create(ctx, "/jobs/1", nil)
	client.Create(ctx, "/jobs/2", nil)

	// Later, in another process, at another member:
	jobs := 0
	for event, err := range client.Watch(ctx, "/jobs", coord.Recursive(), coord.Since(position)) {
		if errors.Is(err, coord.ErrHistoryGone) {
			log.Fatal("it was too long ago: begin anew, WithInitial")
		}
		fmt.Println(event.Type, event.Path)
		if !event.More { // the whole transaction has come
			position = event.Zxid
		}
		if jobs++; jobs == 2 {
			break
		}
	}
	// Output:
	// created /jobs/1
	// created /jobs/2
}

func ExampleClient_Session() {
	ctx := context.Background()
	client := dial(ctx)
	defer client.Close()

	session, err := client.Session(ctx, coord.TTL(15*time.Second), coord.Name("worker-1"))
	if err != nil {
		log.Fatal(err)
	}
	_, err = session.Create(ctx, "/workers/worker-1", []byte("host-1:80"), coord.Ephemeral(), coord.Parents())
	if err != nil {
		log.Fatal(err)
	}
	work := session.Context() // ends when the session has ended, or can't be proven alive any more
	stat, _ := client.Exists(work, "/workers/worker-1")
	fmt.Println("registered:", stat != nil)

	session.Close(ctx)
	stat, _ = client.Exists(ctx, "/workers/worker-1")
	fmt.Println("registered:", stat != nil)
	// Output:
	// registered: true
	// registered: false
}

func ExampleSession_States() {
	ctx := context.Background()
	client := dial(ctx)
	defer client.Close()
	session, err := client.Session(ctx)
	if err != nil {
		log.Fatal(err)
	}

	state := <-session.States()
	fmt.Println(state.Phase, time.Until(state.Until) > 0)
	session.Close(ctx)
	for state := range session.States() {
		switch state.Phase {
		case coord.Connected:
			fmt.Println("goes on")
		case coord.Suspended:
			fmt.Println("no contact; still ours until", state.Until)
		case coord.Lost:
			fmt.Println("lost:", state.Err)
		}
	}
	// Output:
	// connected true
	// lost: coord: closed
}

func ExampleIdempotencyKey() {
	ctx := context.Background()
	client := dial(ctx)
	defer client.Close()

	client.Create(ctx, "/orders", nil)
	for range 2 { // the second one stands for a retry by a process that was restarted
		node, err := client.Create(ctx, "/orders/o-", []byte("42 apples"), coord.Sequence(), coord.IdempotencyKey("5f2c"))
		fmt.Println(node.Path, err)
	}
	// Output:
	// /orders/o-0000000000 <nil>
	// /orders/o-0000000000 <nil>
}

func ExampleAtLeast() {
	ctx := context.Background()
	writer, reader := dial(ctx), dial(ctx)
	defer writer.Close()
	defer reader.Close()

	writer.Create(ctx, "/flag", []byte("on"))
	position := writer.Zxid() // sent along with a message

	var info coord.ReadInfo
	node, err := reader.Get(ctx, "/flag", coord.Eventual(), coord.AtLeast(position), coord.Info(&info))
	fmt.Printf("%s %v %s\n", node.Data, err, info.Level)
	// Output: on <nil> eventual
}

func ExampleFenced() {
	ctx := context.Background()
	client := dial(ctx)
	defer client.Close()
	session, err := client.Session(ctx)
	if err != nil {
		log.Fatal(err)
	}

	// A lock by hand, to show what its token is. The package lock does this, and waits its turn.
	held, err := session.Create(ctx, "/locks/nightly/_c_1-lock-", nil,
		coord.Ephemeral(), coord.Sequence(), coord.Parents())
	if err != nil {
		log.Fatal(err)
	}
	token := coord.Token{Dir: "/locks/nightly", Zxid: held.Stat.Czxid}

	_, err = client.Create(ctx, "/nightly-report", nil, coord.Fenced(token))
	fmt.Println(err)
	session.Close(ctx) // or: the holder was stopped for a while, and its session has expired
	_, err = client.Set(ctx, "/nightly-report", []byte("late"), coord.Fenced(token))
	fmt.Println(errors.Is(err, coord.ErrStaleToken))
	// Output:
	// <nil>
	// true
}

// dial is Dial for examples that are about something else.
func dial(ctx context.Context) *coord.Client {
	client, err := coord.Dial(ctx)
	if err != nil {
		log.Fatal(err)
	}
	return client
}
