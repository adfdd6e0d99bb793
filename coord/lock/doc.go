// Package lock has locks that are held across machines: exclusive ones, those of readers and writers, and semaphores.
//
//	m := lock.New(session, "nightly")
//	err := m.Do(ctx, func(ctx context.Context, token coord.Token) error {
//		return backup(ctx, token) // ctx ends if the lock is lost
//	})
//
// # Guarantees
//
//   - An exclusive lock is granted to one at a time, in the order of asking. The same lock can be held from Go, by curl
//     and by the command coord lock; and by ZooKeeper clients with the recipes of Curator or kazoo.
//   - Each grant of an exclusive lock has a token that is higher than those before it. A write that is coord.Fenced
//     with it is refused by the service once the lock has passed on, even if it was sent before.
//   - A lock ends with its session, and not before, unless it is unlocked or somebody breaks it. Who waits is woken by
//     the one that leaves before it; nobody polls.
//   - Whose session ends while it waits gets an error, never a late grant. Who gives up waiting leaves nothing behind.
//
// # What it can't
//
// Stop a process. Its context ends when the lock is lost, but a process that is suspended, or waits for a slow disk,
// may write to other systems after somebody else has got the lock. Let these systems refuse old tokens: package fence
// does. Where they can't, a Delay gives such a process time to stop.
//
// A semaphore's tokens, and those of readers, don't grow with each holder, so they guard nothing outside of coord.
//
// # What hurts
//
// A session that ends takes all of its locks. With the session's default timeout a lock whose holder dies is free after
// 15 s; with a shorter one a pause of the holder loses it sooner. Each lock that is held has one goroutine.
package lock
