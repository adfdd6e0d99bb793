// Package once runs something once in a period, on whichever machine comes first: the nightly job of a cron that fires on
// all of them.
//
//	job := once.New(session, "backup", 23*time.Hour)
//	err := job.Do(ctx, backup) // ErrDone or ErrRunning: somebody else does it
//
// # Guarantees
//
//   - At most one runs it at each time, in a session that was alive when it began.
//   - What was finished isn't begun again in the same period, which lasts as long as New says from when the run began, by the
//     cluster's own clock.
//   - If whoever runs it dies, the next one who asks begins again: it is done at least once. With AtMostOnce nobody does
//     before the period is over.
//   - Who ran it last, when, and how that ended is recorded.
//
// # What it can't
//
// Stop a process. The context of a run ends when its session is lost, but a process that is suspended may go on after
// somebody else has begun. Fence what matters with a lock.
//
// # What hurts
//
// A period counts from the beginning of a run. Make it a little shorter than the time between two of a schedule, or a clock
// that is early by a second skips a run. The records stay under /once; coord once is the same from the shell.
package once

import (
	"context"
	"errors"
	"time"

	"github.com/coord-kv/coord/coord"
	"github.com/coord-kv/coord/coord/internal/contest"
	"github.com/coord-kv/coord/coord/internal/following"
	"github.com/coord-kv/coord/internal/recipe/once"
	"github.com/coord-kv/coord/op"
)

// Errors when it isn't to be run now. The error that wraps them says who runs or ran it.
var (
	ErrDone    = errors.New("once: it was run in this period")
	ErrRunning = errors.New("once: it is being run")
)

// notNow is ErrDone or ErrRunning, with who runs or ran it.
type notNow struct {
	is error
	t  *once.Taken
}

func (e *notNow) Error() string { return "once: " + e.t.Error() }
func (e *notNow) Unwrap() error { return e.is }

// Once is something that is run once in a period. It needs no closing, and is safe for concurrent use.
type Once struct {
	s     *coord.Session
	o     *once.Once
	err   error
	every time.Duration
	conf  options
}

type options struct {
	owner      string
	atMostOnce bool
}

// Option changes how something is run once.
type Option func(*options)

// Owner says who runs it, for the record. Without it that is the session's id.
func Owner(name string) Option { return func(o *options) { o.owner = name } }

// AtMostOnce has a run that was begun and not finished, because its session ended, not begun again in its period.
func AtMostOnce() Option { return func(o *options) { o.atMostOnce = true } }

// New returns what goes by that name, one segment of a path, in periods of that length: at least 1 ms, in whole milliseconds.
// Whether the name can be one is checked when it is used.
func New(s *coord.Session, name string, every time.Duration, opts ...Option) *Once {
	o := &Once{s: s, every: every, conf: options{owner: s.ID()}}
	for _, opt := range opts {
		opt(&o.conf)
	}
	o.o, o.err = once.New(s.Conn(), name)
	return o
}

// Run is a run that was begun.
type Run struct {
	s *coord.Session
	r *once.Run
}

// Begin begins a run, which End or Fail has to finish. The error is ErrDone or ErrRunning if it isn't to be run now.
func (o *Once) Begin(ctx context.Context) (*Run, error) {
	if o.err != nil {
		return nil, o.err
	}
	var run *once.Run
	err := contest.Await(ctx, func() (err error) {
		run, err = o.o.Begin(context.WithoutCancel(ctx), o.conf.owner, o.every, o.conf.atMostOnce)
		return err
	})
	if t, ok := errors.AsType[*once.Taken](err); ok {
		is := ErrDone
		if t.Running {
			is = ErrRunning
		}
		return nil, &notNow{is, t}
	}
	if err != nil {
		return nil, err
	}
	return &Run{o.s, run}, nil
}

// Context ends when the session is lost, and with it the run.
func (r *Run) Context() context.Context { return r.s.Context() }

// End finishes the run and records the status, of at most 512 bytes. The period counts as done.
func (r *Run) End(ctx context.Context, status string) error { return r.r.End(ctx, status, false) }

// Fail finishes the run and records the status. The period is left open: the next one who asks begins again.
func (r *Run) Fail(ctx context.Context, status string) error { return r.r.End(ctx, status, true) }

// Do runs f, unless the error is ErrDone or ErrRunning. f's context ends with ctx, and when the session is lost. If f
// returns an error, the period is left open, and Do returns the error.
func (o *Once) Do(ctx context.Context, f func(context.Context) error) error {
	run, err := o.Begin(ctx)
	if err != nil {
		return err
	}
	within, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(run.Context(), func() { cancel(context.Cause(run.Context())) })
	defer func() { stop(); cancel(nil) }()
	if err := f(within); err != nil {
		return errors.Join(err, run.Fail(context.WithoutCancel(ctx), err.Error()))
	}
	return run.End(context.WithoutCancel(ctx), "ok")
}

// Record is what is kept of a run.
type Record struct {
	Owner        string
	Status       string // "ok" or the error, if Do ran it
	Failed       bool   // the period was left open
	Began, Ended time.Time
	Token        coord.Zxid // the zxid at which it began
}

// Via is a *coord.Client or a *coord.Session.
type Via = following.Via

// Last returns the record of the last run that was finished. The error is coord.ErrNoNode if none was.
func Last(ctx context.Context, via Via, name string) (Record, error) {
	o, err := once.New(via.Conn(), name)
	if err != nil {
		return Record{}, err
	}
	r, err := o.Last(ctx)
	if err != nil {
		return Record{}, err
	}
	return Record{r.Owner, r.Status, r.Failed, r.Began.Std(), r.Ended.Std(), op.Zxid(r.Token)}, nil
}
