// Package coord is the Go client of coord, a coordination service: a small tree of nodes that a cluster keeps
// consistent, with sessions, watches and transactions. docs/go-client.md is a tour.
//
// A [Client], made by [Dial], reads, writes and watches nodes. A [Session] does too, in its own name: it owns ephemeral
// nodes, which go when it ends, and everything that it writes takes effect in order and at most once. Locks, elections
// and their kin are packages below this one, built on a Session.
//
// # Guarantees
//
//   - A call returns when its answer is known, when its context ends, or when the Client or Session is closed or lost;
//     nothing else ends it. Members that are down, an election, a lost connection are waited for and tried again.
//   - Nothing is done twice. Reads, writes of a Session and writes with an [IdempotencyKey] are asked again until their
//     answer is known. A Client's write without a key is not asked again once it was sent: if its answer is lost, its
//     error is [ErrOutcomeUnknown].
//   - Writes of a Session take effect in the order of the calls, as far as one call began after another had; what waits
//     is sent without waiting for answers.
//   - A watch yields every change after its position, once, in order, or ends with [ErrHistoryGone].
//   - A Session's Context ends no later than the session could end at the service, by the local monotonic clock: see
//     [Session.Context] for the two exceptions, and [Fenced] for what to do about them.
//   - After Close nothing runs any more.
//
// # Errors
//
// Errors are compared with errors.Is and the sentinels, such as [ErrNoNode]. errors.As finds an *[Error], with a code
// and what may have happened: an error whose Outcome is Refused or Decided changed nothing. [Hint] says what to do.
// The error of a call whose context ended is both: an *Error, and the context's error.
//
// # Concurrency
//
// Client and Session are safe for concurrent use, and are meant to be shared: calls on many goroutines share one
// connection and are sent together. Each Client and each Session has one goroutine, and another one while it is
// connected. A Client without anything to ask stays disconnected; a Session never does.
//
// # What hurts
//
// Without a deadline in its context a call waits for a majority of the members, however long that takes. A watch
// WithInitial holds the whole state in memory for a moment. A node's data is limited to 1 MiB.
package coord
