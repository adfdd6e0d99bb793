// Package op is coord's vocabulary: paths, requests, results, stats, events, errors and read levels, and their canonical
// encoding for the log. It knows no network, no clock and no disk; everybody speaks it.
//
// A [Request] is what a caller wants done: one [Op], on whose behalf, and how a retry is recognised. Requests travel to
// the leader, are put into a [Batch] (one log entry) together with its time, and each member's state machine answers
// every one of them with a [Result] and the [Event]s that it caused.
//
// What hurts: numbers that reach the log (verbs, codes, kinds, format version) are append-only; fields may be added only
// under a new format version. A decoded Request aliases the buffer that it was decoded from.
package op
