package lock_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/coord-kv/coord/coord"
	"github.com/coord-kv/coord/coord/lock"
)

// dial returns a client and a session of it, and what ends both.
func dial(ctx context.Context) (*coord.Client, *coord.Session, func()) {
	client, err := coord.Dial(ctx)
	if err != nil {
		log.Fatal(err)
	}
	session, err := client.Session(ctx)
	if err != nil {
		log.Fatal(err)
	}
	return client, session, func() {
		session.Close(ctx)
		client.Close()
	}
}

// Work that only one does at a time, and whose result is refused if the lock was lost meanwhile.
func Example() {
	ctx := context.Background()
	client, session, end := dial(ctx)
	defer end()

	nightly := lock.New(session, "nightly", lock.Owner("host-1"))
	err := nightly.Do(ctx, func(ctx context.Context, token coord.Token) error {
		_, err := client.Create(ctx, "/nightly-backup", []byte("all is well"), coord.Fenced(token))
		return err // the lock is given back in any case
	})
	fmt.Println(err)
	// Output: <nil>
}

// Who doesn't want to wait is told who holds the lock; who wants to wait for a while gives the context an end.
func ExampleMutex_TryLock() {
	ctx := context.Background()
	_, session, end := dial(ctx)
	defer end()

	held, err := lock.New(session, "report", lock.Owner("host-1")).Lock(ctx)
	if err != nil {
		log.Fatal(err)
	}
	defer held.Unlock(ctx)

	report := lock.New(session, "report", lock.Owner("host-2"))
	_, err = report.TryLock(ctx)
	var busy *lock.HeldError
	if errors.As(err, &busy) {
		holder, _ := busy.Holder()
		fmt.Println(holder.Owner, "has it")
	}
	soon, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	_, err = report.Lock(soon)
	fmt.Println(errors.Is(err, lock.ErrHeld), errors.Is(err, context.DeadlineExceeded))
	// Output:
	// host-1 has it
	// true true
}

// Readers share a lock, its writer is alone.
func ExampleRWMutex() {
	ctx := context.Background()
	client, session, end := dial(ctx)
	defer end()
	other, err := client.Session(ctx)
	if err != nil {
		log.Fatal(err)
	}
	defer other.Close(ctx)

	one, err := lock.NewRW(session, "catalog").Reader().Lock(ctx)
	if err != nil {
		log.Fatal(err)
	}
	two, err := lock.NewRW(other, "catalog").Reader().Lock(ctx)
	if err != nil {
		log.Fatal(err)
	}
	_, err = lock.NewRW(other, "catalog", lock.Owner("writer")).TryLock(ctx)
	fmt.Println(errors.Is(err, lock.ErrHeld), lock.UnlockAll(ctx, one, two))
	// Output: true <nil>
}

// At most three at a time.
func ExampleNewSemaphore() {
	ctx := context.Background()
	_, session, end := dial(ctx)
	defer end()

	downloads := lock.NewSemaphore(session, "downloads", 3)
	err := downloads.Do(ctx, func(ctx context.Context, token coord.Token) error {
		info, err := downloads.Inspect(ctx)
		if err == nil {
			fmt.Println(len(info.Holders), "of", info.Slots)
		}
		return err
	})
	fmt.Println(err)
	// Output:
	// 1 of 3
	// <nil>
}

// All of several locks or none, in an order that makes no circle of waiting.
func ExampleLockAll() {
	ctx := context.Background()
	_, session, end := dial(ctx)
	defer end()

	from, to := lock.New(session, "account-7"), lock.New(session, "account-3")
	held, err := lock.LockAll(ctx, from, to)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(held), "are held:", lock.UnlockAll(ctx, held...))
	// Output: 2 are held: <nil>
}

// Who holds it, who waits, and what became of earlier holders; and how to take it from one who hangs.
func ExampleInspect() {
	ctx := context.Background()
	client, session, end := dial(ctx)
	defer end()

	held, err := lock.New(session, "deploy", lock.Owner("host-1")).Lock(ctx)
	if err != nil {
		log.Fatal(err)
	}
	if err := lock.Break(ctx, client, "deploy", held.Token().Zxid, "alice"); err != nil {
		log.Fatal(err)
	}
	<-held.Context().Done()
	info, err := lock.Inspect(ctx, client, "deploy")
	if err != nil {
		log.Fatal(err)
	}
	last := info.History[0]
	fmt.Println(len(info.Holders), "hold it;", last.Owner, "had it until it was", last.Ended, "by", last.By)
	fmt.Println(errors.Is(held.Unlock(ctx), lock.ErrNotHeld))
	// Output:
	// 0 hold it; host-1 had it until it was broken by alice
	// true
}
