package once_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/coord-kv/coord/coord"
	"github.com/coord-kv/coord/coord/once"
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

	job := once.New(session, "backup", 23*time.Hour, once.Owner("host-1"))
	for range 2 {
		err := job.Do(ctx, func(context.Context) error {
			fmt.Println("backing up")
			return nil
		})
		if errors.Is(err, once.ErrDone) {
			fmt.Println("it was run already")
		} else if err != nil {
			log.Fatal(err)
		}
	}
	// Output:
	// backing up
	// it was run already
}
