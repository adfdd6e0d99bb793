// Package peer carries opaque frames between the members of a cluster over TCP.
//
// A [Network] keeps, to every other member, one outgoing stream for each [Class]: Urgent for what must never wait behind data
// (heartbeats, votes and their answers), Bulk for the data. The other member does the same, so four connections stand between two
// members, and a large frame in one can't delay a heartbeat in another. A snapshot travels on a connection of its own. What the
// frames mean is the [Handler]'s business: this package checks who sent them and that they arrived as they were sent, nothing more.
//
// # Promises
//
//   - Within one stream, frames arrive whole, in the order of the calls of [Network.Send], and at most once.
//   - Frames are lost only when Send says so or when a stream breaks, and then Handler.StreamDown says so, after the last frame of
//     the broken stream was handed over and before its successor carries anything.
//   - A stream stands only between members that named each other, their cluster and a boot number that is not older than one already
//     seen. A greeting in which any of these is absent is refused, with the reason in words.
//   - A peer whose process ends is noticed at once, by the end of its connections; one that is frozen or cut off, after
//     Config.SilenceTimeout.
//   - Whatever arrives on the port, memory stays bounded: lengths are checked before anything is allocated, large frames are
//     allocated as their bytes arrive, and connections that have not said who they are are few and short-lived.
//
// # First start
//
// Members that have never voted find each other through [Bootstrap], which asks every member of a static list with [Meet] and founds
// the cluster only if all of them are fresh and know each other by the same ids. A Network answers such questions at any time, also before it knows its cluster.
//
// # What hurts
//
// Nothing here encrypts or authenticates: a greeting is a claim, and whoever claims a member's id with a high boot number shuts that
// member out. Give Config.Dial and the listener mutual TLS on any network that others can reach. A Handler that blocks in Receive
// stops its stream, and for longer than SilenceTimeout breaks it. A frame that was sent and not answered may have arrived.
package peer
