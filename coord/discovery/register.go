package discovery

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"time"

	"github.com/coord-kv/coord/coord"
	"github.com/coord-kv/coord/internal/recipe/follow"
	"github.com/coord-kv/coord/internal/registry"
	"github.com/coord-kv/coord/op"
	"github.com/coord-kv/coord/watch"
)

// ErrGone is why a Registration ended whose instance somebody has deregistered, or replaced by one of the same id.
var ErrGone = errors.New("discovery: the instance was deregistered or replaced")

// RegisterOption sets something of a Registration.
type RegisterOption func(*registering)

type registering struct {
	checks  []Check
	replace bool
	changed func(Status, error)
}

// WithChecks has checks run. The status of the instance is the worst of what they have found and of what SetStatus has
// said; a check that has come to nothing yet counts as Critical.
func WithChecks(checks ...Check) RegisterOption {
	return func(r *registering) { r.checks = append(r.checks, checks...) }
}

// Replace takes an instance of the same id that another session has registered away, in the same transaction: after a
// restart, one's own from before. Two that keep replacing each other have ids that are not their own.
func Replace() RegisterOption { return func(r *registering) { r.replace = true } }

// OnStatus has f called each time when the status becomes another one because of a check, with what that check has
// found, and when a check comes to its first verdict and that is not well. Calls come one after the other; f must not call methods of the Registration.
func OnStatus(f func(Status, error)) RegisterOption { return func(r *registering) { r.changed = f } }

// Registration is an instance that is registered. It is safe for concurrent use.
type Registration struct {
	at      Instance
	r       *registry.Registry
	checks  []Check
	changed func(Status, error)
	ctx     context.Context
	end     context.CancelCauseFunc
	tasks   sync.WaitGroup
	dirty   chan struct{} // signalled when the status may have changed; has room for one
	writing chan struct{} // holds one while somebody writes the status, who then owns written
	written health

	mu       sync.Mutex
	own      health
	verdicts []verdict // of the checks, by index
	shown    Status    // what changed was called with
}

// Register registers an instance, and runs its checks until it is closed. It returns once the instance is registered:
// with checks it is Critical then, until they have found it well, which they begin with at once. The registration ends
// with the session; ctx bounds the call alone.
//
// The error is ErrNodeExists of package coord if another session has registered an instance of that id, and an *Error
// that says what is wrong with the instance if it can't be registered at all.
func Register(ctx context.Context, s *coord.Session, x Instance, opts ...RegisterOption) (*Registration, error) {
	var o registering
	for _, f := range opts {
		f(&o)
	}
	for i := range o.checks {
		var err error
		if o.checks[i], err = o.checks[i].complete(); err != nil {
			return nil, err
		}
	}
	x.Status = cmp.Or(x.Status, Passing)
	rec, err := x.record()
	if err = cmp.Or(err, x.Status.check()); err != nil {
		return nil, err
	}
	r := &Registration{
		r: registry.New(s.Conn()), checks: o.checks, changed: o.changed, own: health{x.Status, x.Reason},
		dirty: make(chan struct{}, 1), writing: make(chan struct{}, 1),
	}
	for range r.checks {
		r.verdicts = append(r.verdicts, verdict{health: health{status: Critical}})
	}
	now := r.healthLocked()
	r.shown = now.status
	rec.Status, rec.Reason = registry.Status(now.status), now.reason
	if rec, err = r.r.Register(ctx, rec, o.replace); err != nil {
		return nil, err
	}
	r.at, r.written = instance(rec), health{Status(rec.Status), rec.Reason}
	r.ctx, r.end = context.WithCancelCause(s.Context())
	r.tasks.Go(func() { r.oversee(s) })
	r.tasks.Go(r.writeAll)
	for i := range r.checks {
		r.tasks.Go(func() { r.check(i) })
	}
	return r, nil
}

// Instance returns the instance as it was registered.
func (r *Registration) Instance() Instance { return r.at }

// Context returns a context that ends when the registration does. Its cause says why: coord.ErrClosed, ErrGone, or what
// ended the session.
func (r *Registration) Context() context.Context { return r.ctx }

// Status returns the status as the checks and SetStatus have left it. It may not be written yet.
func (r *Registration) Status() Status { return r.health().status }

func (r *Registration) health() health {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.healthLocked()
}

func (r *Registration) healthLocked() health {
	h := r.own
	for i := range r.verdicts {
		h = worse(h, r.verdicts[i].health)
	}
	return h
}

// SetStatus says how the instance is as far as the program itself knows, beside its checks, and returns when that is
// written down: Critical before it shuts down, so that nobody new comes. It gives no reason; a check that is as bad does.
func (r *Registration) SetStatus(ctx context.Context, s Status) error {
	if err := s.check(); err != nil {
		return err
	}
	r.mu.Lock()
	r.own = health{status: s}
	r.shown = r.healthLocked().status
	r.mu.Unlock()
	if r.ctx.Err() != nil {
		return context.Cause(r.ctx)
	}
	return r.write(ctx)
}

// Close ends the checks and deregisters the instance. If ctx ends before that is known to be done, the instance goes
// with its session at the latest. Closing again does nothing.
func (r *Registration) Close(ctx context.Context) error {
	first := r.ctx.Err() == nil
	r.end(coord.ErrClosed)
	r.tasks.Wait()
	if !first {
		return nil
	}
	err := r.r.Deregister(ctx, r.at.Service, r.at.ID, true)
	if gone(err) {
		return nil
	}
	return err
}

// gone reports whether an error says that the instance isn't there, or is another session's.
func gone(err error) bool {
	return errors.Is(err, &op.Error{Code: op.NoNode}) || errors.Is(err, &op.Error{Code: op.NotHolder})
}

// check runs one check until the registration ends. A program that is just starting is looked at more often, so that it
// is in use soon after it is ready.
func (r *Registration) check(i int) {
	c := &r.checks[i]
	wait := min(startingPause, c.Interval)
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		select {
		case <-r.ctx.Done():
			return
		case <-pause.C:
		}
		err := c.run(r.ctx)
		if r.ctx.Err() != nil {
			return // which is what it failed for
		}
		if r.note(i, err) != Critical {
			wait = c.Interval
		}
		pause.Reset(wait)
		wait = min(2*wait, c.Interval)
	}
}

// note takes in what a check has found, and returns what it has come to. The writer is woken in any case: it may have
// failed before.
func (r *Registration) note(i int, err error) Status {
	r.mu.Lock()
	v := &r.verdicts[i]
	first := v.note(&r.checks[i], err)
	found, status := v.status, r.healthLocked().status
	if r.changed != nil && (status != r.shown || first && err != nil) {
		r.changed(status, err)
	}
	r.shown = status
	r.mu.Unlock()
	select {
	case r.dirty <- struct{}{}:
	default:
	}
	return found
}

// writeAll writes the status down whenever it has changed. What can't be written now, because a quota is exceeded or a
// disk is full, is tried again after the next check.
func (r *Registration) writeAll() {
	for {
		select {
		case <-r.ctx.Done():
			return
		case <-r.dirty:
			_ = r.write(r.ctx)
		}
	}
}

// write writes the status and its reason as they are now, if they aren't written.
func (r *Registration) write(ctx context.Context) error {
	select {
	case r.writing <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-r.writing }()
	now := r.health()
	if now == r.written {
		return nil
	}
	r.written = health{} // until it is known
	_, err := r.r.SetStatus(ctx, r.at.Service, r.at.ID, registry.Status(now.status), now.reason, true)
	if gone(err) {
		r.end(ErrGone)
		return ErrGone
	}
	if err == nil {
		r.written = now
	}
	return err
}

// oversee ends the registration when its instance is gone. If it may not be read, nobody says so before the next write.
func (r *Registration) oversee(s *coord.Session) {
	path := op.Join(op.Join(registry.Dir, r.at.Service), r.at.ID)
	conn := s.Conn()
	read := func(ctx context.Context, o op.ReadOptions) (mine bool, at op.Zxid, err error) {
		res, err := conn.Read(ctx, &op.Get{Path: path}, o)
		if e, ok := errors.AsType[*op.Error](err); ok && e.Code == op.NoNode {
			return false, e.Zxid, nil
		}
		if err != nil {
			return false, 0, err
		}
		return res.Stat.EphemeralOwner == conn.Session(), res.Zxid, nil
	}
	_, err := follow.Until(r.ctx, conn, watch.Filter{Path: path}, read, func(mine bool) bool { return !mine })
	if err == nil {
		r.end(ErrGone)
	}
}
