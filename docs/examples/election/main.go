// Command election is one of several that keep a ledger, of which one writes at a time. Start it twice against a
// coord dev, stop the leader with SIGSTOP, and watch the other one take over. When the first goes on after SIGCONT, it
// believes to lead for a moment yet; what it writes then is refused, because its token is stale.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/coord-kv/coord/coord"
	"github.com/coord-kv/coord/coord/election"
)

func main() {
	name := flag.String("name", "", "how this one is called; its process id if empty")
	ttl := flag.Duration("ttl", 10*time.Second, "how long it may be silent before another one leads")
	every := flag.Duration("every", time.Second, "how often the leader writes")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "unexpected argument %q; how this one is called is said by -name\n", flag.Arg(0))
		flag.Usage()
		os.Exit(2)
	}
	if *name == "" {
		*name = fmt.Sprint("p", os.Getpid())
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	client, err := coord.Dial(ctx) // localhost:7070, or COORD_ENDPOINTS
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	for ctx.Err() == nil { // a session that has ended is not to be revived: open another one
		err := takePart(ctx, client, *name, *ttl, *every)
		if ctx.Err() == nil && !errors.Is(err, coord.ErrSessionExpired) {
			log.Fatal(err)
		}
		fmt.Printf("%s: out of the election: %v\n", *name, err)
	}
}

// takePart stands in the election until ctx or the session ends, and writes whenever it leads.
func takePart(ctx context.Context, client *coord.Client, name string, ttl, every time.Duration) error {
	session, err := client.Session(ctx, coord.TTL(ttl), coord.Name(name))
	if err != nil {
		return err
	}
	defer func() { // the next leader need not wait until it expires
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		session.Close(ctx)
	}()
	e := election.New(session, "ledger", election.Candidate(name))
	return e.Run(ctx, func(ctx context.Context, term *election.Term) error {
		fmt.Printf("%s: leads with %v\n", name, term.Token())
		for n := 1; ctx.Err() == nil; n++ {
			entry := fmt.Sprintf("entry %d of %s", n, name)
			fmt.Printf("%s: works on %q\n", name, entry)
			time.Sleep(every) // the work; a leader that is stopped is most likely stopped here
			switch err := write(client, entry, term.Token()); {
			case errors.Is(err, coord.ErrStaleToken):
				fmt.Printf("%s: refused: %v\n", name, err)
			case err != nil:
				fmt.Printf("%s: not written: %v\n", name, err)
			default:
				fmt.Printf("%s: wrote %q\n", name, entry)
			}
		}
		fmt.Printf("%s: leads no more: %v\n", name, context.Cause(ctx))
		return nil
	})
}

// write makes an entry, whatever the leader's context says: the token decides. In place of the ledger there could be a
// service that refuses stale tokens as package fence does.
func write(client *coord.Client, entry string, token coord.Token) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	_, err := client.Create(ctx, "/ledger/", []byte(entry), coord.Sequence(), coord.Parents(), coord.Fenced(token))
	return err
}
