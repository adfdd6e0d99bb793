package group_test

import (
	"context"
	"fmt"
	"log"

	"github.com/coord-kv/coord/coord"
	"github.com/coord-kv/coord/coord/group"
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

	me, err := group.Join(ctx, session, "workers", "w1", group.Data([]byte("10.0.0.1:80")))
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		<-me.Context().Done() // it has left, was taken out, or its session is lost
	}()
	for members, err := range group.Watch(ctx, client, "workers") {
		if err != nil {
			log.Fatal(err)
		}
		if len(members) == 0 {
			fmt.Println("nobody is there any more")
			break
		}
		fmt.Printf("%s at %s\n", members[0].ID, members[0].Data)
		if err := me.Leave(ctx); err != nil {
			log.Fatal(err)
		}
	}
	// Output:
	// w1 at 10.0.0.1:80
	// nobody is there any more
}
