// Package replica makes one member of a cluster out of raft, the state machine, the session tracker and the event
// history.
//
// [Core] is the member without I/O: inputs go in (a tick, a frame of another member, a client's call, a finished
// write), work comes out (persist this, send these), and nothing else happens. [Replica] drives it: one goroutine at a
// time, that of whoever asks or a loop, drains an inbox, lets the core do its turns, writes and syncs the log, and sends.
//
// What holds:
//   - A call is answered only after its entry is stored by a majority and applied here, so its client reads its own
//     write on this member without any token.
//   - Entries are applied only after they are durable here.
//   - Events are published before the view that contains them, and views before anybody is answered.
//   - A change of leader costs a call time and no answer: as soon as this member knows that a call reached no log, it is
//     sent again. Calls are answered "unknown" only when their client stops waiting, or a snapshot hides their fate.
//   - A keep-alive is confirmed only after a quorum has confirmed, later than it was heard, that its leader still leads.
//
// What hurts: everything that blocks who drives delays every client of this member, which is why it does nothing but
// append to the log, and why a request changes a limited number of nodes.
package replica
