package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/coord-kv/coord/coord"
	"github.com/coord-kv/coord/coord/lock"
)

// lockFlags are the flags of coord lock.
type lockFlags struct {
	wrapFlags
	try, shared bool
	limit       int
	atLeast     time.Duration
	delay       time.Duration
}

func newLock(g *globals) *cobra.Command {
	o := &lockFlags{}
	c := &cobra.Command{
		Use:   "lock NAME... [--try|--wait 30s] [--shared|--limit N] -- CMD [ARG...]",
		Short: "Run a program while holding a lock",
		Long: `Take a lock, run a program, and give the lock back when it ends. Those who wait get the lock in the order of their
coming. The name is one segment of a path, under /locks.

Of several names all locks are taken, or none: in the order of their names, so that commands which want the same ones never
wait for each other in a circle, as a coord lock within another one may.
` + fmt.Sprintf(wrapperEnv, "the lock") + `
  COORD_LOCK            the name of the lock
  COORD_FENCING_TOKEN   a number that grows with each holder: a write with --fence "$COORD_LOCK=$COORD_FENCING_TOKEN" is
                        refused when the lock has passed on. With --shared or --limit it guards nothing

Of several locks both have a word for each, in the order of the names as they were given.

--at-least keeps the lock taken that long, also when the program ends sooner: a job of cron that ends at once isn't run
again by another machine whose clock is a little behind. --try there, so that the others don't run it afterwards.

--delay keeps the lock closed for that long after the session of this command was lost, which is --ttl after the command
was killed or cut off: what it has begun can come to an end before others begin. A command with the same --owner is let
in at once, before those who wait. So give each machine an --owner of its own, which is the same after a restart.
` + fmt.Sprintf(wrapperCodes, "the lock"),
		Example: `  coord lock nightly -- ./backup.sh --all
  coord lock nightly --try --at-least 55s -E 0 -- ./backup.sh
  coord lock db --owner db-1 --delay 30s -- ./primary
  coord lock report --wait 30s --shell -- 'make report | mail -s report boss'
  coord lock builders --limit 3 -- make
  coord lock db cache --wait 1m -- ./migrate.sh`,
		RunE: g.asksForever(o.run),
	}
	o.add(c, "owner", "who holds it, for those who look")
	f := c.Flags()
	f.BoolVar(&o.try, "try", false, "don't wait")
	f.BoolVar(&o.shared, "shared", false, "hold it together with others who say so")
	f.IntVar(&o.limit, "limit", 0, "a semaphore: so many can hold it, and all must say the same number")
	f.DurationVar(&o.atLeast, "at-least", 0, "keep it taken at least that long")
	f.DurationVar(&o.delay, "delay", 0, delayHelp)
	exclusive(c, "try", "wait")
	exclusive(c, "shared", "limit", "at-least")
	exclusive(c, "shared", "limit", "delay")
	c = g.wrapper(c)
	c.Args = g.wrapped(severalArgs)
	return c
}

// severalArgs are one or more names, --, and a program with its arguments.
func severalArgs(c *cobra.Command, args []string) error {
	switch before := c.ArgsLenAtDash(); {
	case before < 2:
		return programArgs(c, args)
	case before == len(args):
		return usageError(c, errors.New("a program is missing behind --"))
	}
	return nil
}

const delayHelp = "if its session is lost, keep it closed for that long to all but the same owner"

func (o *lockFlags) run(ctx context.Context, a *asking, args []string) error {
	if err := o.check(a.c); err != nil {
		return err
	}
	if a.c.Flags().Changed("limit") && o.limit < 1 {
		return usageError(a.c, fmt.Errorf("--limit %d: it is 1 or more", o.limit))
	}
	names, program := args[:a.c.ArgsLenAtDash()], args[a.c.ArgsLenAtDash():]
	if len(names) > 1 && o.atLeast > 0 {
		return usageError(a.c, errors.New("--at-least is for one lock: of several that weren't all free, those given back would stay taken"))
	}
	s, done, err := o.session(ctx, a)
	if err != nil {
		return err
	}
	defer done()
	if err := o.refuseReentrance(ctx, a, s, names); err != nil {
		return err
	}
	held, err := o.take(ctx, a, o.mutexes(s, a, names))
	if err != nil {
		return o.notHeld(ctx, names, err)
	}
	t, forget := o.tenure(names, held)
	defer forget()
	return o.wrapFlags.run(ctx, a, s, t, program)
}

// tenure is all locks together: what one of them loses, they lose.
func (o *lockFlags) tenure(names []string, held []*lock.Held) (t tenure, forget func()) {
	ctx, lose := context.WithCancelCause(context.Background())
	var tokens []string
	for _, h := range held {
		tokens = append(tokens, fmt.Sprint(h.Token().Zxid))
		context.AfterFunc(h.Context(), func() { lose(context.Cause(h.Context())) })
	}
	return tenure{
		what: locksNamed(names), see: "coord locks show " + shellQuote(names[0]), ctx: ctx,
		release: func(ctx context.Context) error { return lock.UnlockAll(ctx, held...) },
		env:     []string{"COORD_LOCK=" + strings.Join(names, " "), "COORD_FENCING_TOKEN=" + strings.Join(tokens, " ")},
	}, func() { lose(nil) }
}

func locksNamed(names []string) string {
	if len(names) == 1 {
		return fmt.Sprintf("lock %q", names[0])
	}
	var quoted []string
	for _, n := range names {
		quoted = append(quoted, strconv.Quote(n))
	}
	return "one of the locks " + strings.Join(quoted, ", ")
}

// refuseReentrance refuses to wait for what this very command runs under, as the program of another coord lock.
func (o *lockFlags) refuseReentrance(ctx context.Context, a *asking, s *coord.Session, names []string) error {
	if o.shared || o.limit > 0 || os.Getenv("COORD_ENDPOINTS") != strings.Join(a.endpoints, ",") {
		return nil
	}
	outer := strings.Fields(os.Getenv("COORD_LOCK"))
	for _, name := range names {
		if !slices.Contains(outer, name) {
			continue
		}
		limited, cancel := context.WithTimeout(ctx, a.timeout)
		i, err := lock.Inspect(limited, s, name)
		cancel()
		if err == nil && len(i.Holders) > 0 && i.Holders[0].Session == os.Getenv("COORD_SESSION") {
			return &exitError{
				code: exitWrapper, err: fmt.Errorf("this runs under lock %q already", name), why: "locks are not reentrant: it would wait for itself",
				next: "run the program without another coord lock, or under a lock of another name",
			}
		}
	}
	return nil
}

func (o *lockFlags) mutexes(s *coord.Session, a *asking, names []string) (all []*lock.Mutex) {
	for _, name := range names {
		all = append(all, o.mutex(s, a, name))
	}
	return all
}

func (o *lockFlags) mutex(s *coord.Session, a *asking, name string) *lock.Mutex {
	opts := []lock.Option{lock.Owner(o.name), lock.AtLeast(o.atLeast), lock.Delay(o.delay), lock.OnWait(a.waiting("lock", name))}
	switch {
	case o.shared:
		return lock.NewRW(s, name, opts...).Reader()
	case o.limit > 0:
		return lock.NewSemaphore(s, name, o.limit, opts...)
	}
	return lock.New(s, name, opts...)
}

// waiting tells a person at the terminal, once, that something must be waited for.
func (a *asking) waiting(what, name string) func(int) {
	told := false
	return func(ahead int) {
		if !told && (a.verbose || isTerminal(a.io.err)) {
			a.note("waiting for %s %q, behind %d", what, name, ahead)
		}
		told = true
	}
}

func (o *lockFlags) take(ctx context.Context, a *asking, locks []*lock.Mutex) ([]*lock.Held, error) {
	all, tryAll := lock.LockAll, lock.TryLockAll
	if len(locks) == 1 { // whose errors needn't say which
		all, tryAll = alone((*lock.Mutex).Lock), alone((*lock.Mutex).TryLock)
	}
	switch {
	case o.try, a.c.Flags().Changed("wait") && o.wait == 0:
		limited, cancel := context.WithTimeout(ctx, a.timeout)
		defer cancel()
		return tryAll(limited, locks...)
	case o.wait > 0:
		limited, cancel := context.WithTimeout(ctx, o.wait)
		defer cancel()
		return all(limited, locks...)
	}
	return all(ctx, locks...)
}

func alone(take func(*lock.Mutex, context.Context) (*lock.Held, error)) func(context.Context, ...*lock.Mutex) ([]*lock.Held, error) {
	return func(ctx context.Context, locks ...*lock.Mutex) ([]*lock.Held, error) {
		h, err := take(locks[0], ctx)
		return []*lock.Held{h}, err
	}
}

// notHeld is the error if the locks were not got: of several it is about the one that was not free.
func (o *lockFlags) notHeld(ctx context.Context, names []string, err error) error {
	h, held := errors.AsType[*lock.HeldError](err)
	name, what := names[0], locksNamed(names)
	if held && h.Info != nil {
		name = h.Info.Name
	}
	e := &exitError{child: true, code: o.notGot, next: "coord locks show " + shellQuote(name)}
	switch {
	case ctx.Err() != nil:
		return interrupted(ctx, "gave up waiting for "+what)
	case !held && !errors.Is(err, context.DeadlineExceeded):
		return clientFailed(err, "take %s", what)
	case !held && o.try:
		return clientFailed(err, "ask for %s", what)
	}
	e.err, e.why = fmt.Errorf("%s was not got", what), "gave up"
	if held {
		e.err = fmt.Errorf("lock %q %s", name, heldBy(h))
		if n := h.Info; n != nil && len(n.Waiters) > 0 {
			e.why = fmt.Sprintf("%d waiting; gave up", len(n.Waiters))
		}
	}
	e.why += " at once"
	if o.wait > 0 {
		e.why = e.why[:len(e.why)-len(" at once")] + fmt.Sprintf(" after %s (--wait)", o.wait)
	}
	return e
}

func heldBy(h *lock.HeldError) string {
	c, ok := h.Holder()
	switch {
	case ok:
		more := ""
		if n := len(h.Info.Holders); n > 1 {
			more = fmt.Sprintf(", and by %d more", n-1)
		}
		return fmt.Sprintf("is held by %s for %s, token %d%s", c.Owner, age(time.Since(c.Since)), c.Token, more)
	case h.Info != nil && h.Info.Delayed != nil:
		d := h.Info.Delayed
		return fmt.Sprintf("was lost by %s, token %d, and is closed to others until %s (--delay)", d.Owner, d.Token, stamp(d.Until))
	case h.Info != nil && h.Info.KeptAfter != 0:
		return fmt.Sprintf("is kept for a while after its last holder, token %d (--at-least)", h.Info.KeptAfter)
	}
	return "is held by somebody, or others stand before you"
}

// age rounds a duration for people.
func age(d time.Duration) time.Duration {
	if d < 10*time.Second {
		return max(0, d.Round(100*time.Millisecond))
	}
	return d.Round(time.Second)
}
