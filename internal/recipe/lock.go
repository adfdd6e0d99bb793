package recipe

import (
	"cmp"
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/coord-kv/coord/op"
	"github.com/coord-kv/coord/watch"
)

// Mode says how a lock is to be held.
type Mode uint8

const (
	Exclusive Mode = iota // alone: a mutex
	Write                 // alone, where others may want to Read
	Read                  // together with others that Read
	Slot                  // as one of Spec.Slots: a semaphore
)

// Spec says which lock, and how it is to be held.
type Spec struct {
	Name     string // one segment, under /locks; or the path of a directory, with a slash in front
	Mode     Mode
	Slots    int             // of a semaphore, at least 1; all contenders must agree on it
	Owner    string          // who holds it, for people and against reentrance; "" for the session's id
	Metadata string          // for people, up to op.MaxMetadata bytes
	AtLeast  time.Duration   // how long an exclusive lock stays taken after the grant, whatever becomes of its holder
	Delay    time.Duration   // how long it stays closed to other owners after its holder's session has ended unwanted
	Waiting  func(ahead int) // told how many must leave first, whenever that changes; 0: a minimum hold must end
	Rand     io.Reader       // nil for crypto/rand.Reader
}

// Lock is one session's wish for a lock. Several may wait in it at once, if their owners differ.
type Lock struct {
	line
	spec Spec
	rule op.Rule
	rand io.Reader
}

// NewLock returns a lock. It does nothing yet. The error is a bad_path, bad_request or too_large.
func NewLock(c Conn, s Spec) (*Lock, error) {
	dir, err := Dir(LocksDir, s.Name)
	if err != nil {
		return nil, err
	}
	if err := s.check(); err != nil {
		return nil, err
	}
	s.Owner = cmp.Or(s.Owner, c.Session().String())
	l := &Lock{spec: s, rule: op.Rule{Shared: s.Mode == Read, Slots: int32(s.Slots)}, rand: s.Rand}
	if l.rand == nil {
		l.rand = crand.Reader
	}
	l.line = line{conn: c, dir: dir, data: encode(contender{Owner: s.Owner, Metadata: s.Metadata}), delay: s.Delay}
	return l, nil
}

// maxSlots bounds a semaphore; its size is a part of its contenders' names.
const maxSlots = 1_000_000

// maxDelay bounds for how long a lock can be closed by somebody who is gone. Until then only force opens it.
const maxDelay = 24 * time.Hour

func (s *Spec) check() error {
	switch {
	case s.Mode > Slot:
		return op.Errorf(op.BadRequest, "mode %d", s.Mode)
	case s.Mode == Slot && (s.Slots < 1 || s.Slots > maxSlots):
		return op.Errorf(op.BadRequest, "a semaphore of %d; it has 1 to %d slots", s.Slots, maxSlots)
	case s.Mode != Slot && s.Slots != 0:
		return op.Errorf(op.BadRequest, "slots are for semaphores")
	case s.AtLeast != 0 && (s.Mode == Read || s.Mode == Slot):
		return op.Errorf(op.BadRequest, "a minimum hold is for exclusive locks")
	case s.Delay != 0 && (s.Mode == Read || s.Mode == Slot):
		return op.Errorf(op.BadRequest, "a delay is for exclusive locks")
	case s.Delay < 0 || s.Delay%time.Millisecond != 0 || s.Delay > maxDelay:
		return op.Errorf(op.BadRequest, "a delay of %s; it is in whole milliseconds, up to %s", s.Delay, maxDelay)
	case s.AtLeast < 0 || s.AtLeast%time.Millisecond != 0:
		return op.Errorf(op.BadRequest, "a minimum hold of %s; it is in whole milliseconds", s.AtLeast)
	}
	return errors.Join(
		checkLabel("the owner", s.Owner, op.MaxLabel), checkLabel("the metadata", s.Metadata, op.MaxMetadata))
}

// Grant is a lock that is held, until it is released or lost.
type Grant struct {
	Name  string
	Token op.Zxid // the fencing token: the czxid of Path
	Path  string  // of the holder's node
	Owner string

	line   line
	record string
}

// Occupied is the error when a lock was not got: its code is lock_held. It matches the error of the context that
// ended too, if one did.
type Occupied struct {
	Err   *op.Error
	Cause error // of the end of waiting; nil if there was none
	Info  *Info // the lock as it was then; nil if that couldn't be found out
}

// Error says who holds the lock, and how many wait.
func (e *Occupied) Error() string { return e.Err.Error() }

// Unwrap returns the *op.Error and the context's error.
func (e *Occupied) Unwrap() []error {
	if e.Cause == nil {
		return []error{e.Err}
	}
	return []error{e.Err, e.Cause}
}

// Try takes the lock if it is free, in one round trip; else it returns an *Occupied. See Acquire.
func (l *Lock) Try(ctx context.Context) (*Grant, error) {
	return l.alive(l.acquire(ctx, false))
}

// Acquire takes the lock: in one transaction and one round trip if it is free, else in its turn, first come first
// served. ctx ends the waiting: then the place in the line is given up before Acquire returns, and the error is an
// *Occupied. A request under way is not abandoned by ctx, because its outcome must be known; at worst it ends with the
// session. If a deadline of ctx has passed already, a free lock is taken all the same.
//
// Other errors are *op.Error: lock_held if this session holds the lock as this owner already, since waiting for that
// would never end; mixed_dialect if those who stand in line are of a recipe that doesn't go with the lock's mode, or of
// several; session_expired if the session ended first, and not_holder if somebody took the waiter out of the line.
func (l *Lock) Acquire(ctx context.Context) (*Grant, error) {
	return l.alive(l.acquire(ctx, true))
}

// alive makes an error of a grant that came too late.
func (l *Lock) alive(g *Grant, err error) (*Grant, error) {
	if l.conn.Context().Err() != nil {
		return nil, l.lost(cmp.Or(err, context.Canceled))
	}
	return g, err
}

func (l *Lock) acquire(ctx context.Context, wait bool) (*Grant, error) {
	if err := ctx.Err(); errors.Is(err, context.Canceled) {
		return nil, l.occupied(err)
	}
	p, err := l.join()
	if err != nil {
		return nil, err
	}
	if l.first(p) && !p.kept && l.spec.AtLeast == 0 {
		return l.granted(p), nil
	}
	if err = l.settle(ctx, p, wait); err == nil {
		return l.granted(p), nil
	}
	stuck := l.leave(p)
	if ctx.Err() != nil || err == errBusy {
		err = l.occupied(ctx.Err())
	}
	if stuck != nil {
		err = fmt.Errorf("%w; and its place in the line couldn't be given up: %w", err, stuck)
	}
	return nil, err
}

// errBusy says that the lock isn't free, to one who doesn't want to wait.
var errBusy = errors.New("busy")

func (l *Lock) granted(p *place) *Grant {
	return &Grant{Name: l.spec.Name, Token: p.token, Path: p.path, Owner: l.spec.Owner, line: l.line, record: p.record}
}

// join enters the line under a name that those who stand in it understand. The first of them decides what that is; it
// may have changed by then, so this is tried a few times.
func (l *Lock) join() (*place, error) {
	id, err := newID(l.rand)
	if err != nil {
		return nil, err
	}
	kin := l.spec.Mode.family(l.spec.Slots)
	prefix, _ := l.spec.Mode.prefix(kin, id, l.spec.Slots)
	var leave []op.Op
	for range 3 {
		p, err := l.enter(prefix, l.tenure(0), leave...)
		if err != nil {
			return nil, err
		}
		other := stranger(p, kin)
		if other == "" {
			return p, nil
		}
		next, ok := l.spec.Mode.prefix(family(p.rank.First), id, l.spec.Slots)
		if !ok || family(p.rank.First) == kin {
			return nil, errors.Join(mixed(l.dir, other), l.leave(p))
		}
		prefix, kin, leave = next, family(p.rank.First), l.leaving(p)
	}
	return nil, op.Errorf(op.MixedDialect, "the line in %s changes all the time", l.dir)
}

// stranger returns the name of one who stands before p and is not of the family, "" if there is none among those that
// p knows. Each newcomer looks at the first and at the one before it, so a mixed line is noticed by the first who adds
// to it.
func stranger(p *place, kin string) string {
	for _, name := range [...]string{p.rank.First, p.rank.Predecessor, p.rank.Writer} {
		if name != "" && name != p.name() && family(name) != kin {
			return name
		}
	}
	return ""
}

func mixed(dir, other string) error {
	return &op.Error{
		Code: op.MixedDialect, Outcome: op.Decided, Path: dir,
		Detail: fmt.Sprintf("%s is in use as %s, which doesn't go with this: %q stands there", dir, use(other), other),
	}
}

func (l *Lock) tenure(token op.Zxid) []byte {
	return encode(tenure{Token: token, Owner: l.spec.Owner, Session: l.conn.Session()})
}

// first reports whether nobody stands before p whom the lock doesn't admit beside it.
func (l *Lock) first(p *place) bool {
	switch l.spec.Mode {
	case Read:
		return p.rank.Exclusive == 0
	case Slot:
		return int(p.rank.Position) < l.spec.Slots
	}
	return p.rank.Position == 0
}

// settle is what there is to do for one who wasn't granted the lock by entering: it waits and confirms.
func (l *Lock) settle(ctx context.Context, p *place, wait bool) error {
	if err := l.withdraw(p); err != nil {
		return err
	}
	if !l.first(p) {
		if err := l.refuseReentrance(ctx, p); err != nil {
			return err
		}
	}
	ctx, end := l.during(ctx)
	defer end()
	for {
		if err := l.look(ctx, p); err != nil {
			return err
		}
		if (l.first(p) || l.inherits(p)) && !p.kept {
			if ok, err := l.confirm(ctx, p); ok || err != nil {
				return err
			}
			continue
		}
		if !wait {
			return errBusy
		}
		if err := l.turn(ctx, p); err != nil {
			return err
		}
	}
}

// withdraw takes the record of a tenure back that has not begun.
func (l *Lock) withdraw(p *place) error {
	record := p.record
	p.record = ""
	_, err := l.do(&op.Delete{Path: record, If: op.Always})
	return err
}

// refuseReentrance looks at those whom p would wait for.
func (l *Lock) refuseReentrance(ctx context.Context, p *place) error {
	names := []string{p.rank.First, p.rank.Predecessor, p.rank.Writer}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		if name == "" || l.spec.Mode == Slot {
			continue
		}
		n, err := l.contender(ctx, name, 0)
		switch {
		case err != nil:
			return err
		case name != p.rank.First || n == nil:
		case !l.owns(n):
			p.legacy = legacyOf(name, n)
		default:
			return &op.Error{
				Code: op.LockHeld, Outcome: op.Decided, Path: l.dir, Detail: fmt.Sprintf(
					"this session holds it already as %q, and locks are not reentrant; another owner could wait for it", l.spec.Owner),
			}
		}
	}
	return nil
}

// confirm has the state machine check that it is p's turn, while its session lives, and records the tenure. It returns
// false if it isn't; p then says why. That another one was faster is no error of a stale token, so it is not counted as one;
// but whose turn it is after a legacy is known only once that is deleted.
func (l *Lock) confirm(ctx context.Context, p *place) (bool, error) {
	when := []op.Op{&op.Check{Path: l.keeper(), If: op.Cond{Absent: true}}}
	holder := &op.Holder{Dir: l.dir, Token: p.token, Rule: l.rule}
	var then []op.Op
	inherits := l.inherits(p)
	if inherits {
		then = append(then, exactly(op.Join(l.dir, p.legacy.name), p.legacy.mzxid), holder)
	} else {
		when = append(when, holder)
	}
	record := len(then)
	then = append(then, l.recording(l.tenure(p.token)))
	if l.spec.AtLeast > 0 {
		then = append(then, &op.Create{
			Path: l.keeper(), Data: l.tenure(p.token), Kind: op.TTL, TTL: l.spec.AtLeast,
		})
	}
	res, err := l.do(&op.Txn{If: when, Then: then, Else: []op.Op{&op.Exists{Path: l.keeper()}}})
	switch {
	case inherits && (errors.Is(err, &op.Error{Code: op.StaleToken}) || changed(err)):
		return false, l.stand(ctx, p)
	case err != nil:
		return false, err
	case res.Else && res.Results[0].Stat != nil:
		p.kept, p.zxid = true, res.Zxid
		return false, nil
	case res.Else:
		return false, l.stand(ctx, p)
	}
	p.record, p.zxid = res.Results[record].Path, res.Zxid
	return true, nil
}

// turn waits until it may be p's turn. Each waits for one node only, so a release wakes one: an exclusive contender for
// its predecessor, a reader for the nearest writer before it; for the slot of a semaphore, whichever comes free, it
// counts those that leave before it. If that node changes, it may have become a legacy.
func (l *Lock) turn(ctx context.Context, p *place) error {
	if n := l.ahead(p); l.spec.Waiting != nil && n != p.told {
		p.told = n
		l.spec.Waiting(n)
	}
	kept := l.first(p) || l.inherits(p) // then that is what there is to wait for
	p.kept = false                      // is not known any more as soon as p.zxid moves on
	switch {
	case kept:
		return l.gone(ctx, p, watch.Filter{Path: l.keeper()}, whichever)
	case l.spec.Mode == Slot:
		return l.slotFree(ctx, p)
	case l.waitsForLegacy(p):
		return l.afterLegacy(ctx, p)
	}
	return l.await(ctx, p, watch.Filter{Path: op.Join(l.dir, l.behind(p)), Types: watch.TypesOf(op.Deleted, op.Changed)})
}

// behind returns the name of the one for whom p waits first of all; "" if p is a contender for a semaphore.
func (l *Lock) behind(p *place) string {
	switch l.spec.Mode {
	case Slot:
		return ""
	case Read:
		return p.rank.Writer
	}
	return p.rank.Predecessor
}

func whichever(op.Event) bool { return true }

func deleted(ev op.Event) bool { return ev.Type == op.Deleted }

// ahead returns how many must leave before it is p's turn.
func (l *Lock) ahead(p *place) int {
	switch l.spec.Mode {
	case Read:
		return int(p.rank.Exclusive)
	case Slot:
		return max(0, int(p.rank.Position)-l.spec.Slots+1)
	}
	return int(p.rank.Position)
}

// slotFree waits until enough of those before p have left.
func (l *Lock) slotFree(ctx context.Context, p *place) error {
	seq, _ := seqOf(p.name())
	missing := l.ahead(p)
	err := l.gone(ctx, p, watch.Filter{Path: l.dir, Scope: watch.Children}, func(ev op.Event) bool {
		if n, ok := seqOf(op.Base(ev.Path)); ok && n < seq {
			missing--
		}
		return missing <= 0
	})
	if err != nil {
		return err
	}
	return l.stand(ctx, p)
}

// occupied returns the error that says who holds the lock.
func (l *Lock) occupied(cause error) error {
	e := &Occupied{Err: &op.Error{Code: op.LockHeld, Outcome: op.Decided, Path: l.dir}, Cause: cause}
	e.Info, _ = Inspect(l.conn.Context(), l.conn, l.spec.Name)
	e.Err.Detail = e.Info.heldBy(l.dir)
	if cause != nil {
		e.Err.Detail += "; gave up waiting: " + waitEnded(cause)
	}
	return e
}

// Release gives the lock back. It deletes the very node that was granted, so a release that is repeated, or comes late,
// takes nothing from a later holder. If the lock was lost before, the error is not_holder, or session_expired.
func (g *Grant) Release(context.Context) error {
	t := tenure{Owner: g.Owner, Session: g.line.conn.Session(), Ended: Released}
	_, err := g.line.do(ending(g.line.dir, g.Path, g.Token, g.record, t))
	if errors.Is(err, &op.Error{Code: op.NoNode}) || errors.Is(err, &op.Error{Code: op.BadVersion}) {
		err = g.line.notHeld(g.line.conn.Context(), g.Token, g.record)
	}
	return g.line.lost(err)
}

// notHeld is the error of a holder that is none any more. It says how that has come about, if the record of the tenure does.
func (l *line) notHeld(ctx context.Context, token op.Zxid, record string) error {
	how := "released, expired or broken"
	if record != "" {
		res, err := l.conn.Read(ctx, &op.Get{Path: record}, op.ReadOptions{Level: op.Linearizable})
		if err == nil {
			t := tenureOf(op.Node{Data: res.Data, Stat: *res.Stat})
			how = t.end()
		}
	}
	return &op.Error{
		Code: op.NotHolder, Outcome: op.Decided, Path: l.dir,
		Detail: fmt.Sprintf("token %d doesn't hold it any more: %s", token, how),
	}
}

// Lost waits until the lock is not held any more and says why: not_holder if its node was deleted, by Release or by
// force; session_expired if the session is lost or can't be proven alive. If ctx ends first, it returns ctx's error.
func (g *Grant) Lost(ctx context.Context) error {
	return g.line.vanished(ctx, g.Path, g.Token, g.Token, g.record)
}

// vanished waits until the node is gone that was created at czxid, and is held by that token.
func (l *line) vanished(ctx context.Context, path string, czxid, token op.Zxid, record string) error {
	within, end := l.during(ctx)
	defer end()
	p := &place{path: path, token: czxid, zxid: czxid}
	for {
		gone := false
		err := l.gone(within, p, watch.Filter{Path: path}, func(op.Event) bool { gone = true; return true })
		if err == nil && !gone {
			err = l.stand(within, p)
		}
		switch {
		case gone || errors.Is(err, &op.Error{Code: op.NotHolder}):
			return l.lost(l.notHeld(within, token, record))
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			return l.lost(err)
		}
	}
}
