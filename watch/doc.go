// Package watch is the event history of a member and the streams that read it.
//
// The state machine numbers every decision with a zxid and says which nodes each one changed. A [History] keeps the
// last of those events, bounded in bytes; a [Stream] is a [Filter] and a cursor into the History. Reading what has
// happened and waiting for what will happen are the same loop over the same cursor, so there is no moment between the
// two in which an event could be lost. There is one publisher and there are many readers; nothing here starts a
// goroutine, and no reader can hold up the publisher or another reader.
//
// # Guarantees
//
// For a Stream that began after zxid z:
//
//   - Filtered: it gets an event if and only if the filter matches it and the ACL that the changed node had at the
//     change lets the caller read.
//   - Ordered: events come in the order in which they happened.
//   - Unique: no event comes twice.
//   - Reliable: between two events that come, none is missing. When that can no longer be promised, because the stream
//     was too slow and the history went on, it gets history_gone and nothing more.
//   - Atomic: the matching events of one transaction come together, from one call, however many they are.
//   - Resumable: a stream that begins after the position that another one had reached, on this member or on any other,
//     continues where that one stopped.
//   - Bookmarkable: a position p that was returned says that every matching event up to p has come and none will; it
//     advances on a quiet stream too.
//
// A stream on which nothing matches never falls off the end, however long nobody takes from it.
//
// # How it works
//
// A stream is either caught up or behind. Caught up, it waits in an index by path, where a change finds it by looking
// up the changed path and its ancestors: the cost of an event is its depth and the streams it wakes, never the streams
// there are. The change that wakes a stream leaves its zxid in the cursor, so the stream continues right there. Behind,
// it is in nobody's way until its reader has come to the end again: a slow reader costs the others nothing.
//
// Events are packed into chunks of about 64 KiB, each complete in itself (see chunk.go for the form), behind which
// comes an open one that takes what is new. Transactions never span chunks. A chunk leaves memory only after it was
// reported durable, and is read back through the [Archive]. Without an Archive memory is all there is. If the Archive's
// writer does not keep up, memory grows to twice its limit and then the oldest chunks go. When all chunks together
// exceed the total limit, the oldest go too. What goes is always a whole chunk and everything before it.
//
// # What hurts
//
// An event says that a node changed, not what is in it. A stream belongs to one reader at a time. Not having the right
// to read does not hide that the position advances. History that left memory is read from disk on the reader's
// goroutine.
package watch
