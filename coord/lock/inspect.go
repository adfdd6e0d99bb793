package lock

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/coord-kv/coord/coord"
	"github.com/coord-kv/coord/coord/internal/contest"
	"github.com/coord-kv/coord/internal/recipe"
)

// Via is a *coord.Client or a *coord.Session.
type Via interface{ Conn() recipe.Conn }

// Info is a lock as it stands.
type Info struct {
	Name      string
	Mode      string // "exclusive", "shared" or "semaphore"; "" if nobody is there
	Slots     int    // of a semaphore
	Holders   []coord.Contender
	Waiters   []coord.Contender // in order
	KeptAfter coord.Zxid        // token of the last holder, if the minimum hold that it asked for isn't over
	Delayed   *Delayed          // nil unless the lock is closed because its holder's session has ended
	History   []coord.Tenure    // those that have ended, newest first; up to 64, for up to a week
}

// Delayed is a Delay that keeps a lock closed.
type Delayed struct {
	Owner string     // for whom alone it is open
	Token coord.Zxid // of the holder whose session has ended
	Since time.Time  // when that was
	Until time.Time  // about: the cluster's own clock decides
}

func infoOf(i *recipe.Info) *Info {
	if i == nil {
		return nil
	}
	info := &Info{
		Name: i.Name, Mode: i.Mode, Slots: i.Slots, Holders: contest.Contenders(i.Holders),
		Waiters: contest.Contenders(i.Waiters), KeptAfter: i.Kept, History: contest.History(i.History),
	}
	if d := i.Delayed; d != nil {
		info.Delayed = &Delayed{d.Owner, d.Token, d.Since.Std(), d.Until.Std()}
	}
	return info
}

// Inspect says who holds a lock and who waits for it. The error is ErrNoLock if there is no trace of it.
func Inspect(ctx context.Context, via Via, name string) (*Info, error) {
	i, err := recipe.Inspect(ctx, via.Conn(), name)
	return infoOf(i), err
}

// Names yields the names of the locks under /locks that somebody holds or wants, or did a moment ago, in byte order. An
// error is the last thing that it yields.
func Names(ctx context.Context, via Via) iter.Seq2[string, error] {
	return recipe.Names(ctx, via.Conn(), recipe.LocksDir, "")
}

// Break takes a lock from its holder, of that token, or with 0 from whoever stands first, and says in its history that
// by has done it. The next one in line holds it then, with a higher token and without a Delay; the old holder's context
// ends as soon as it hears of it. A lock that a Delay keeps closed is opened so too. The error is ErrNotHeld if nobody
// holds it so.
func Break(ctx context.Context, via Via, name string, token coord.Zxid, by string) error {
	_, err := recipe.Break(ctx, via.Conn(), name, token, by)
	return err
}

// HeldError is the error when a lock was not got because others hold it, or stand before. It matches ErrHeld, and the
// error of the context that ended the waiting.
type HeldError struct {
	Info *Info // the lock as it was then; nil if that couldn't be found out
	err  error
}

// Error says who holds the lock, and how many wait.
func (e *HeldError) Error() string { return e.err.Error() }

// Unwrap returns what it stands for.
func (e *HeldError) Unwrap() error { return e.err }

// Holder returns who holds the lock, the first if there are several; false if that isn't known.
func (e *HeldError) Holder() (coord.Contender, bool) {
	if e.Info == nil || len(e.Info.Holders) == 0 {
		return coord.Contender{}, false
	}
	return e.Info.Holders[0], true
}

// explain makes a HeldError of a recipe's.
func explain(err error) error {
	if o, ok := errors.AsType[*recipe.Occupied](err); ok {
		return &HeldError{infoOf(o.Info), err}
	}
	return err
}
