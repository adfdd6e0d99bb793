// Package check judges what a cluster did by what its clients saw and what it decided.
//
// A [History] is a record of one run: the committed log, every call with its interval and its answer, what watchers were
// sent, what session holders were promised, and the states in which the members ended. A [Checker] is one promise of
// coord. Each is small, knows nothing of the others, and has a test with a doctored history that it must reject.
//
// The ground truth is the log, replayed on [Namespace]: a second state machine that shares no code with the first, made of
// maps and sorted slices and slow. The porcupine checker takes nothing of it on trust: neither zxids nor the order of
// the log.
//
// What hurts: Namespace grants everything to everybody, so a history with access control lists, quotas or limits that are
// reached can't be judged. A checker is as good as the histories that it gets: see the counters of the simulator.
package check
