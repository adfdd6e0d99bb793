package main

import (
	"context"
	"errors"
	"fmt"
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
		Use:   "lock NAME [--try|--wait 30s] [--shared|--limit N] -- CMD [ARG...]",
		Short: "Run a program while holding a lock",
		Long: `Take a lock, run a program, and give the lock back when it ends. Those who wait get the lock in the order of their
coming. The name is one segment of a path, under /locks.
` + fmt.Sprintf(wrapperEnv, "the lock") + `
  COORD_LOCK            the name of the lock
  COORD_FENCING_TOKEN   a number that grows with each holder: a write with --fence "$COORD_LOCK=$COORD_FENCING_TOKEN" is
                        refused when the lock has passed on. With --shared or --limit it guards nothing

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
  coord lock builders --limit 3 -- make`,
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
	return g.wrapper(c)
}

const delayHelp = "if its session is lost, keep it closed for that long to all but the same owner"

func (o *lockFlags) run(ctx context.Context, a *asking, args []string) error {
	if err := o.check(a.c); err != nil {
		return err
	}
	if a.c.Flags().Changed("limit") && o.limit < 1 {
		return usageError(a.c, fmt.Errorf("--limit %d: it is 1 or more", o.limit))
	}
	s, done, err := o.session(ctx, a)
	if err != nil {
		return err
	}
	defer done()
	name := args[0]
	h, err := o.take(ctx, a, o.mutex(s, a, name))
	if err != nil {
		return o.notHeld(ctx, name, err)
	}
	return o.wrapFlags.run(ctx, a, s, tenure{
		what: fmt.Sprintf("lock %q", name), see: "coord locks show " + shellQuote(name), ctx: h.Context(), release: h.Unlock,
		env: []string{"COORD_LOCK=" + name, fmt.Sprintf("COORD_FENCING_TOKEN=%d", h.Token().Zxid)},
	}, args[1:])
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

func (o *lockFlags) take(ctx context.Context, a *asking, m *lock.Mutex) (*lock.Held, error) {
	switch {
	case o.try, a.c.Flags().Changed("wait") && o.wait == 0:
		limited, cancel := context.WithTimeout(ctx, a.timeout)
		defer cancel()
		return m.TryLock(limited)
	case o.wait > 0:
		limited, cancel := context.WithTimeout(ctx, o.wait)
		defer cancel()
		return m.Lock(limited)
	}
	return m.Lock(ctx)
}

// notHeld is the error if the lock was not got.
func (o *lockFlags) notHeld(ctx context.Context, name string, err error) error {
	e := &exitError{child: true, code: o.notGot, next: "coord locks show " + shellQuote(name)}
	h, held := errors.AsType[*lock.HeldError](err)
	switch {
	case ctx.Err() != nil:
		return interrupted(ctx, fmt.Sprintf("gave up waiting for lock %q", name))
	case !held && !errors.Is(err, context.DeadlineExceeded):
		return clientFailed(err, "take lock %q", name)
	case !held && o.try:
		return clientFailed(err, "ask for lock %q", name)
	}
	e.err, e.why = fmt.Errorf("lock %q was not got", name), "gave up"
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
		return fmt.Sprintf("is held by %s for %s, token %d", c.Owner, age(time.Since(c.Since)), c.Token)
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
