// Package fsm is the replicated state machine: the tree of nodes, the sessions, and what makes requests take effect once.
//
// A [Machine] is a state and the only writer of it. [Machine.Apply] takes one batch of the log and answers every request in it;
// [Machine.View] publishes the state as it stands: a [View] is immutable, costs a pointer to make, and is for any number of
// goroutines. [View.WriteTo] and [Restore] turn a state into bytes and back. [Digest] is its fingerprint.
//
// # Guarantees
//
//   - Apply is total: whatever a batch holds, each request gets a result. What would be an error elsewhere is an answer here.
//   - Apply is deterministic: equal states and equal batches make equal states, results and events, on every member and whatever
//     stood in memory before. Time comes in with the batch; nothing depends on the order of a hash map.
//   - Everything that decides an answer is in the digest and in the checkpoint. A part of the state that is missing there fails a
//     test, not a cluster.
//   - A request that is answered with an error has had no effect on any node or session.
//   - No request changes more nodes, or makes more bytes of events, than the limits allow: none outlasts a tick.
//
// # Numbers
//
// Every decided request of a client takes the next zxid, a "no" included, as ZooKeeper counts. So do the leader's own requests
// (expire, reap, set_level, set_limits) if they change anything. A read that went through the log, a duplicate and a request that
// is refused take none.
//
// # What hurts
//
//   - The records of nodes and sessions, the digest's hash and the order of parts are a format: members of one cluster must agree on
//     them, so they change only together with the state's level.
//   - A View keeps alive what the writer has replaced since: about a kilobyte per write.
package fsm
