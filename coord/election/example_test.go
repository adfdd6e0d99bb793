package election_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/coord-kv/coord/coord"
	"github.com/coord-kv/coord/coord/election"
)

// Work that one process of several does at a time: when it stops or can't be reached, another one goes on.
func Example() {
	ctx, stop := context.WithCancel(context.Background())
	client, err := coord.Dial(ctx)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	session, err := client.Session(ctx)
	if err != nil {
		log.Fatal(err)
	}
	e := election.New(session, "scheduler", election.Candidate("host-1"), election.Value("10.0.0.1:8080"))

	err = e.Run(ctx, func(ctx context.Context, term *election.Term) error {
		leader, err := e.Leader(ctx)
		if err != nil {
			return err
		}
		fmt.Println(leader.Candidate, "leads, at", leader.Value)
		_, err = client.Create(ctx, "/schedule", []byte("at noon"), coord.Fenced(term.Token()))
		fmt.Println("written:", err == nil)
		stop() // a program stops at SIGTERM, say: see signal.NotifyContext
		<-ctx.Done()
		return nil
	})
	fmt.Println(errors.Is(err, context.Canceled))
	// Output:
	// host-1 leads, at 10.0.0.1:8080
	// written: true
	// true
}

// Who wants to reach the leader follows who that is.
func ExampleObserve() {
	ctx := context.Background()
	client, err := coord.Dial(ctx)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	session, err := client.Session(ctx)
	if err != nil {
		log.Fatal(err)
	}
	for leader, err := range election.Observe(ctx, client, "primary") {
		if err != nil {
			log.Fatal(err)
		}
		if leader != (election.Leader{}) {
			fmt.Println("now at", leader.Value)
			break
		}
		fmt.Println("nobody leads")
		e := election.New(session, "primary", election.Value("10.0.0.2:5432"))
		if _, err := e.Campaign(ctx); err != nil {
			log.Fatal(err)
		}
	}
	fmt.Println(session.Close(ctx))
	// Output:
	// nobody leads
	// now at 10.0.0.2:5432
	// <nil>
}
