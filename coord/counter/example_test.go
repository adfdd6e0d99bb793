package counter_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/coord-kv/coord/coord"
	"github.com/coord-kv/coord/coord/counter"
)

// The example finds the service through COORD_ENDPOINTS.

func Example() {
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
	defer session.Close(ctx)

	seats := counter.New(session, "seats")
	if err := seats.Set(ctx, 1); err != nil {
		log.Fatal(err)
	}
	for range 2 {
		left, err := seats.AddWithin(ctx, -1, 0, 100)
		if errors.Is(err, counter.ErrOutOfBounds) {
			fmt.Println("sold out")
			continue
		}
		fmt.Println("one for you;", left, "left")
	}
	// Output:
	// one for you; 0 left
	// sold out
}
