package queue_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/coord-kv/coord/coord"
	"github.com/coord-kv/coord/coord/queue"
)

// The example finds the service through COORD_ENDPOINTS.

func Example() {
	ctx := context.Background()
	client, err := coord.Dial(ctx)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	session, err := client.Session(ctx) // what it has received is returned if it ends
	if err != nil {
		log.Fatal(err)
	}
	defer session.Close(ctx)

	jobs := queue.New(session, "jobs")
	jobs.Push(ctx, []byte("resize cat.png"))
	jobs.Push(ctx, []byte("page the operator"), queue.Priority(9))

	tries := 0
	for {
		err := jobs.Do(ctx, func(ctx context.Context, item *queue.Item) error {
			if tries++; tries == 2 {
				return errors.New("the disk is full") // the item is returned
			}
			fmt.Printf("%s\n", item.Data)
			return nil // and is acknowledged
		})
		if err != nil {
			fmt.Println(err)
		}
		if info, err := jobs.Info(ctx); err != nil || info.Len == 0 {
			break
		}
	}
	_, err = jobs.TryReceive(ctx)
	fmt.Println(errors.Is(err, queue.ErrEmpty))
	// Output:
	// page the operator
	// the disk is full
	// resize cat.png
	// true
}
