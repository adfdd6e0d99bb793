// Package sim runs whole clusters in one goroutine, from one seed.
//
// Everything that a member is made of is the real thing: the core of internal/replica, the state machine, the session
// tracker, the event history, and the store of internal/storage on a file system in memory that crashes. What is
// simulated is the world around it: time, the streams between members, the disk's latency, the clients, and what goes
// wrong. All of it is drawn from one random source, so a seed is a history: the same seed gives the same trace, byte for
// byte, and what a seed has found once it finds again.
//
// [Run] plays one seed: a cluster starts, clients work while faults come and go, then everything is healed, the cluster
// has to recover, and the checkers of internal/check judge what happened. A [Report] tells what they said and how often
// the things happened that are worth testing.
//
// # What hurts
//
// A turn of a member takes no time but what its disk takes, a job beside the loop is interrupted only where it writes, and a
// frame is never damaged. Raft takes its election timeouts from crypto/rand.Reader, so a run replaces that variable: one
// run at a time in a process, and nothing else in it that needs real randomness.
package sim
