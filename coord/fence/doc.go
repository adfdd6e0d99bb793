// Package fence keeps old holders of a lock, and old leaders, away from what is outside of coord: a service of one's own,
// a printer, a bucket. Whoever guards such a resource remembers the highest token that it was used with, and refuses all
// that are lower.
//
//	guard := fence.New("term:scheduler", fence.NewRegister(client, "invoices"))
//	http.Handle("/invoices", guard.Handler(invoices))
//
// Requests carry the token that the holder has from its lock or its term, as Set puts it there:
//
//	Coord-Fencing-Token: term:scheduler=57
//
// # Guarantees
//
//   - Once a token was let through, no lower one is, as far as all uses go through Guards of the same Store.
//   - In one Guard uses with different tokens don't overlap: the context of a use ends when a higher token comes, and that
//     one waits until the use has returned.
//   - What can't be decided is refused: no token, that of another lock, a Store that doesn't answer.
//
// # What it can't
//
//   - Notice an old holder before the new one has come: the first use by the new one is what shuts the old one out. Where
//     that matters, have the new holder use the resource at once.
//   - Order uses of several processes that guard one resource together. Each asks the register before it lets a use pass, but a
//     use that is slow may end after a newer one in another process. Let the resource itself compare tokens, if it can.
//   - Tell a token that was never given out from a high one: who may send tokens may shut everybody else out. So
//     authenticate first.
//
// # What hurts
//
// A Register is asked at each use: that is one read from a majority, and a write for each new token. A File is as fast as
// its disk, and Memory costs nothing, but forgets: after a restart the first token is taken for the highest.
//
// A write to coord needs none of this: use coord.Fenced.
package fence
