package lock

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/coord-kv/coord/coord"
	"github.com/coord-kv/coord/coord/internal/contest"
	"github.com/coord-kv/coord/internal/recipe"
	"github.com/coord-kv/coord/op"
)

// Sentinels for errors.Is.
var (
	// ErrHeld: somebody holds the lock; the error is a *HeldError too. Or this session does, as the same owner.
	ErrHeld error = &coord.Error{Code: op.LockHeld}
	// ErrNotHeld: the lock isn't held any more: it was unlocked, has expired, or somebody broke it.
	ErrNotHeld error = &coord.Error{Code: op.NotHolder}
	// ErrMixed: those who stand in line use a recipe that doesn't go with this one, such as a semaphore of another size.
	ErrMixed error = &coord.Error{Code: op.MixedDialect}
	// ErrNoLock: nobody holds the lock, waits for it, or held it lately.
	ErrNoLock error = &coord.Error{Code: op.NoLock}
)

// Option sets something of a lock.
type Option func(*recipe.Spec)

// Owner says who holds the lock, for people, and against waiting for oneself: within a session, two who may wait for
// each other need different owners. By default it is the id of the session. Up to 256 bytes.
func Owner(name string) Option { return func(s *recipe.Spec) { s.Owner = name } }

// Metadata is shown to those who look at the lock. Up to 4 KiB.
func Metadata(text string) Option { return func(s *recipe.Spec) { s.Metadata = text } }

// AtLeast keeps an exclusive lock taken for so long after it was granted, whatever becomes of its holder, in whole
// milliseconds: a job that ends at once isn't run again by another machine whose clock is a little behind.
func AtLeast(d time.Duration) Option { return func(s *recipe.Spec) { s.AtLeast = d } }

// Delay keeps an exclusive lock closed to others for d after its holder's session has ended otherwise than by being
// closed: it has expired, was ended by somebody else, or taken over. So a program that is late to notice has time to
// stop. d is in whole milliseconds, up to 24 h, and counts on the cluster's own clock. One who says to be the same Owner
// is spared: it gets the lock at once, before those who wait, so that a program that is started again goes on. That
// takes an Owner that doesn't change, of one program at a time.
func Delay(d time.Duration) Option { return func(s *recipe.Spec) { s.Delay = d } }

// OnWait has f called by the waiting goroutine with the number of those who must leave first, whenever that changes; 0
// means that a minimum hold must end.
func OnWait(f func(ahead int)) Option { return func(s *recipe.Spec) { s.Waiting = f } }

// Mutex is a lock as one session wants it. It holds nothing by itself and needs no closing. It is safe for concurrent
// use; but a session that asks for a lock that it holds as the same owner is refused with ErrHeld, as it would wait for
// itself.
type Mutex struct {
	s    *coord.Session
	spec recipe.Spec
}

// New returns an exclusive lock. The name is one segment of a path, under /locks, or the path of a directory, with a
// slash in front. Whether it can be a name, and the options are good, is checked when the lock is wanted.
func New(s *coord.Session, name string, opts ...Option) *Mutex {
	m := newMutex(s, recipe.Spec{Name: name, Mode: recipe.Exclusive}, opts)
	return &m
}

func newMutex(s *coord.Session, spec recipe.Spec, opts []Option) Mutex {
	for _, o := range opts {
		o(&spec)
	}
	return Mutex{s, spec}
}

// RWMutex is a lock that is held by one who writes or by any number of those who read. Who comes later waits behind
// whoever waits: readers don't starve writers. The methods of its Mutex are those of the writer.
type RWMutex struct {
	Mutex
	read Mutex
}

// NewRW returns a lock of readers and writers. AtLeast and Delay are for its writers alone.
func NewRW(s *coord.Session, name string, opts ...Option) *RWMutex {
	m := &RWMutex{
		Mutex: newMutex(s, recipe.Spec{Name: name, Mode: recipe.Write}, opts),
		read:  newMutex(s, recipe.Spec{Name: name, Mode: recipe.Read}, opts),
	}
	m.read.spec.AtLeast, m.read.spec.Delay = 0, 0
	return m
}

// Reader returns the lock as those see it who read.
func (m *RWMutex) Reader() *Mutex { return &m.read }

// NewSemaphore returns a lock that n can hold at once, from 1 to 1,000,000. All who use it must agree on n: others are
// refused with ErrMixed. Its tokens don't grow from holder to holder.
func NewSemaphore(s *coord.Session, name string, n int, opts ...Option) *Mutex {
	m := newMutex(s, recipe.Spec{Name: name, Mode: recipe.Slot, Slots: n}, opts)
	return &m
}

// Lock takes the lock: in one round trip if it is free, else in its turn, first come first served. When ctx ends, the
// place in the line is given up, and the error is a *HeldError that is ctx's error too. A request that is under way
// then is waited for, at most until the session ends.
func (m *Mutex) Lock(ctx context.Context) (*Held, error) { return m.take(ctx, (*recipe.Lock).Acquire) }

// TryLock takes the lock if it is free; else the error is a *HeldError at once.
func (m *Mutex) TryLock(ctx context.Context) (*Held, error) { return m.take(ctx, (*recipe.Lock).Try) }

type taking = func(*recipe.Lock, context.Context) (*recipe.Grant, error)

func (m *Mutex) take(ctx context.Context, how taking) (*Held, error) {
	l, err := recipe.NewLock(m.s.Conn(), m.spec)
	if err != nil {
		return nil, err
	}
	g, err := how(l, ctx)
	if err != nil {
		return nil, explain(err)
	}
	return m.held(g)
}

func (m *Mutex) held(g *recipe.Grant) (*Held, error) {
	dir, err := recipe.Dir(recipe.LocksDir, m.spec.Name)
	t := coord.Token{Dir: dir, Zxid: g.Token, Shared: m.spec.Mode == recipe.Read, Slots: m.spec.Slots}
	return &Held{name: m.spec.Name, token: t, grant: g, tenure: contest.Begin(m.s, g.Lost)}, err
}

// Do takes the lock, calls f, and gives the lock back. The context that f is given ends with ctx, and when the lock is
// lost or can't be proven to be held any more; f should return soon then. The token is for writes that must not be done
// by anybody but the holder: see coord.Fenced.
//
// The error is that of f. If the lock was lost before f returned, it is ErrNotHeld or coord.ErrSessionExpired as well,
// also when f returned nil: what f did last, it did without the lock.
func (m *Mutex) Do(ctx context.Context, f func(ctx context.Context, token coord.Token) error) (err error) {
	h, err := m.Lock(ctx)
	if err != nil {
		return err
	}
	within, cancel := h.tenure.Within(ctx)
	defer cancel()
	defer func() {
		if lost := h.Unlock(context.WithoutCancel(ctx)); lost != nil {
			err = errors.Join(err, fmt.Errorf("the lock was lost meanwhile: %w", lost))
		}
	}()
	return f(within, h.Token())
}

// Inspect says who holds the lock and who waits for it. The error is ErrNoLock if there is no trace of it.
func (m *Mutex) Inspect(ctx context.Context) (*Info, error) { return Inspect(ctx, m.s, m.spec.Name) }

// Held is a lock that is held, until it is unlocked or lost.
type Held struct {
	name   string
	token  coord.Token
	grant  *recipe.Grant
	tenure *contest.Tenure
}

// Name returns the name of the lock.
func (h *Held) Name() string { return h.name }

// Token returns the fencing token. For an exclusive lock it is higher than that of every earlier holder.
func (h *Held) Token() coord.Token { return h.token }

// Context returns a context that ends when the lock is unlocked, when it is lost, and when it can't be proven to be
// held any more. Its cause is then context.Canceled, ErrNotHeld, or coord.ErrSessionExpired. What
// coord.Session.Context says of processes that are stopped holds for it too: only Fenced writes are safe from that.
func (h *Held) Context() context.Context { return h.tenure.Context() }

// Unlock gives the lock back. Its context ends first. If the lock was lost before, the error is ErrNotHeld or
// coord.ErrSessionExpired; nothing is ever taken from a later holder. If ctx ends before there is an answer, the
// error is ctx's, and the lock is given back as soon as a member can be asked, or expires with the session.
func (h *Held) Unlock(ctx context.Context) error {
	lost := h.tenure.Lost()
	h.tenure.End()
	if lost != nil {
		return lost
	}
	return contest.Await(ctx, func() error { return h.grant.Release(ctx) })
}

// LockAll takes several locks of one session, or none. They are taken in the order of their directories, so that those
// who take the same ones this way never wait for each other in a circle; the order of the arguments is that of the
// result. The error names the lock that it is about; those before it have been given back, but one with AtLeast stays taken
// for its time.
func LockAll(ctx context.Context, locks ...*Mutex) ([]*Held, error) {
	return takeAll(ctx, locks, recipe.AcquireAll)
}

// TryLockAll takes several locks of one session if all of them are free, else none.
func TryLockAll(ctx context.Context, locks ...*Mutex) ([]*Held, error) {
	return takeAll(ctx, locks, recipe.TryAll)
}

type takingAll = func(context.Context, recipe.Conn, ...recipe.Spec) ([]*recipe.Grant, error)

func takeAll(ctx context.Context, locks []*Mutex, how takingAll) ([]*Held, error) {
	var specs []recipe.Spec
	for _, m := range locks {
		if m.s != locks[0].s {
			return nil, &coord.Error{Code: op.BadRequest, Detail: "the locks belong to different sessions"}
		}
		specs = append(specs, m.spec)
	}
	if len(specs) == 0 {
		return nil, nil
	}
	grants, err := how(ctx, locks[0].s.Conn(), specs...)
	if err != nil {
		return nil, explain(err)
	}
	held := make([]*Held, len(grants))
	for i, g := range grants {
		held[i], _ = locks[i].held(g)
	}
	return held, nil
}

// UnlockAll gives locks back, the last one first. The error joins those of each.
func UnlockAll(ctx context.Context, held ...*Held) error {
	var errs []error
	for i := len(held) - 1; i >= 0; i-- {
		errs = append(errs, held[i].Unlock(ctx))
	}
	return errors.Join(errs...)
}
