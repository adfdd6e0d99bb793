// Package recipe holds what locks, elections and their kin do, once for every door: the Go client runs it over its
// connection, the server runs it next to the state machine for curl, and the simulator runs it under its faults.
//
// A recipe has no goroutine, no timer and no clock of its own. It waits only in a Conn, so whoever implements that
// decides what time is and how waiting ends.
package recipe

import (
	"context"

	"github.com/coord-kv/coord/op"
	"github.com/coord-kv/coord/watch"
)

// Conn is one session's way to the service. One recipe may use it while others do: its methods may be called
// concurrently, but for those of one Events.
type Conn interface {
	// Session returns the session in whose name everything is done. It doesn't change.
	Session() op.SessionID
	// Do has o decided at most once, in the session's name, whatever happens to connections meanwhile. It returns an
	// *op.Error for every answer but "done": refused, decided, or unknown if ctx ended before the answer was known.
	// After nil a Read through this Conn sees the effect.
	Do(ctx context.Context, o op.Op) (*op.Result, error)
	// Read answers a reading operation from one state, as fresh as ro asks.
	Read(ctx context.Context, o op.Op, ro op.ReadOptions) (*op.Result, error)
	// Watch returns the changes after from that match f (its Auth is set by the Conn), going on over lost connections.
	Watch(ctx context.Context, f watch.Filter, from op.Zxid) (Events, error)
	// Context ends when the session is lost or can no longer be proven alive; its cause says which.
	Context() context.Context
}

// Awaiter is a Conn that can watch and read in one request.
type Awaiter interface {
	// Await reads o, an operation that changes nothing, from a state that has a change after from that matches f (its Auth
	// is set by the Conn). It waits for that, and may return for nothing, but never with an older state.
	Await(ctx context.Context, f watch.Filter, from op.Zxid, o op.Op) (*op.Result, error)
}

// await is the Await of any Conn: one that can't do it in one request watches, and then reads.
func await(ctx context.Context, c Conn, f watch.Filter, from op.Zxid, o op.Op) (*op.Result, error) {
	if a, ok := c.(Awaiter); ok {
		return a.Await(ctx, f, from, o)
	}
	at := from
	events, err := c.Watch(ctx, f, from)
	if err == nil {
		_, at, err = events.Next(ctx)
		events.Close()
	}
	if ignoreGap(err) != nil {
		return nil, err
	}
	return c.Read(ctx, o, op.ReadOptions{Level: op.Eventual, MinZxid: max(at, from)})
}

// Events are the changes that a watch has seen, in order, none left out. One goroutine uses them at a time.
type Events interface {
	// Next waits for changes and returns them, whole transactions, with the position that they reach. The error is
	// ctx's, or an *op.Error: history_gone says that changes may have been missed.
	Next(ctx context.Context) ([]op.Event, op.Zxid, error)
	Close()
}
