// Package barrier has three ways to wait for others.
//
//   - A [Barrier] is closed and lifted by somebody; those who come meanwhile wait.
//   - A [Latch] is set to a number and opens, for good, when it has been counted down so often: "all shards are loaded".
//   - A [Double] barrier lets n members begin together and end together, round after round.
//
// # Guarantees
//
//   - Nobody gets on before the moment has come, in the order of all writes, and nobody who waits misses it, whatever
//     happens to connections and members.
//   - A latch counts each id once, also if a program counts again after a restart.
//   - A member of a double barrier whose session ends counts as one that has left: it holds up nobody who has begun,
//     and is not counted for those who haven't.
//
// # What it can't
//
// Make those who wait begin at the same instant: each is told as soon as its member of the cluster knows. And what was
// waited for need not be so any more when Wait returns: a barrier may be closed again by then.
//
// The same barriers are there for curl under /v1/barriers and /v1/latches, and for the shell as coord barrier and
// coord latch.
package barrier
