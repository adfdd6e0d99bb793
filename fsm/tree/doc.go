// Package tree holds the persistent containers that the replicated state machine is built from: values of which one writer makes new
// versions while any number of readers walk old ones, without locks and without registering anywhere. The garbage collector ends a
// version when its last reader lets go of it.
//
//   - [Map] is a hash map; its published versions are [Snap]s.
//   - [Names] is an ordered set of short strings: the names of a node's children.
//   - [Set] is an ordered set of any key that knows the position of each key.
//   - [Epoch] is the writer's token, by which the three know what they may still change in place.
//
// # Versions
//
// A state machine has one Epoch and gives it to all of its containers. To publish a version it takes a Snapshot of each Map, puts
// these and the Names and Sets that hang off them under one root, calls Bump once, and stores the root where readers load it (an
// atomic pointer). The guarantee is this:
//
//	Whatever was obtained before a Bump never changes after it.
//
// Between two Bumps the containers do change what they made since the first of them, so that a thousand inserts into one directory
// copy its top once. Within one epoch, therefore, Insert and Delete consume the Names or Set they are called on: keep the result
// only. An extra Bump is always safe, and is how to keep a version to go back to; it costs the copies that follow.
//
// # What hurts
//
//   - Readers see only what was made before a Bump: a Snapshot that is read while the writer goes on without one is a data race.
//   - Containers must not move between Epochs: two Epochs can count to the same number.
//   - A Map has no order, and a different one in each process: nothing that leaves the state machine may depend on it.
//   - A name got from Names shares memory with its neighbours and keeps them alive, usually up to 240 bytes; clone it to keep it long.
//   - Names of several hundred bytes lower the fan-out of a directory, down to two; it stays ordered and correct, and gets slower.
package tree

// Epoch counts the versions that a writer has published. Nodes carry the number of the epoch that made them; those of the current one
// have been shown to nobody and are changed in place, all others are copied first. The zero value is ready to use. It belongs to the
// writer: readers never look at it.
type Epoch struct{ n uint64 }

// Bump ends the epoch: from here on nothing that exists will change.
func (e *Epoch) Bump() { e.n++ }
