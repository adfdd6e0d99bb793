package barrier_test

import (
	"context"
	"fmt"
	"log"
	"sync"

	"github.com/coord-kv/coord/coord"
	"github.com/coord-kv/coord/coord/barrier"
)

// The examples find the service through COORD_ENDPOINTS.

func ExampleLatch() {
	ctx := context.Background()
	client, err := coord.Dial(ctx)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	loaded := barrier.NewLatch(client, "shards-loaded")
	if err := loaded.Set(ctx, 2); err != nil { // all who take part may set it
		log.Fatal(err)
	}
	for _, shard := range []string{"shard-1", "shard-1", "shard-2"} { // one was started twice
		left, err := loaded.CountDown(ctx, shard)
		fmt.Println(shard, left, err)
	}
	fmt.Println(loaded.Wait(ctx))
	// Output:
	// shard-1 1 <nil>
	// shard-1 1 <nil>
	// shard-2 0 <nil>
	// <nil>
}

func ExampleDouble_Do() {
	ctx := context.Background()
	client, err := coord.Dial(ctx)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	var all sync.WaitGroup
	for range 3 {
		all.Go(func() {
			session, err := client.Session(ctx) // each member has its own
			if err != nil {
				log.Fatal(err)
			}
			defer session.Close(ctx)
			err = barrier.NewDouble(session, "migration", 3).Do(ctx, func(context.Context) error {
				fmt.Println("all are there")
				return nil
			})
			if err != nil {
				log.Fatal(err)
			}
		})
	}
	all.Wait()
	// Output:
	// all are there
	// all are there
	// all are there
}

func ExampleBarrier() {
	ctx := context.Background()
	client, err := coord.Dial(ctx)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	upgrade := barrier.New(client, "upgrade")
	if err := upgrade.Close(ctx); err != nil {
		log.Fatal(err)
	}
	waiter := make(chan error)
	go func() { waiter <- upgrade.Wait(ctx) }()
	closed, _ := upgrade.Closed(ctx)
	fmt.Println("closed:", closed)
	if err := upgrade.Lift(ctx); err != nil {
		log.Fatal(err)
	}
	fmt.Println("waited:", <-waiter)
	// Output:
	// closed: true
	// waited: <nil>
}
