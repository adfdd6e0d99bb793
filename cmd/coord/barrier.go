package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/coord-kv/coord/coord"
	"github.com/coord-kv/coord/coord/barrier"
	"github.com/coord-kv/coord/internal/child"
	"github.com/coord-kv/coord/internal/httpapi"
	"github.com/coord-kv/coord/op"
)

// barrierFlags are the flags of coord barrier.
type barrierFlags struct {
	wrapFlags
	count int
}

func newBarrier(g *globals) *cobra.Command {
	o := &barrierFlags{}
	c := &cobra.Command{
		Use:   "barrier NAME --count N [--wait 30s] -- CMD [ARG...]",
		Short: "Run a program together with others: begin and end at the same time",
		Long: `Wait until N of these commands are there, run a program, and wait until the programs of all of them have ended. All
must say the same N. One whose machine dies isn't waited for: before the beginning another one must come in its place, after
it the others end without it. Barriers that somebody closes and lifts are coord barriers.
` + fmt.Sprintf(wrapperEnv, "the session") + `
  COORD_BARRIER         the name of the barrier
` + fmt.Sprintf(wrapperCodes, "the beginning"),
		Example: `  coord barrier migration --count 3 -- ./migrate.sh
  coord barrier load-test --count 10 --wait 5m -- ./client.sh`,
		RunE: g.asksForever(o.run),
	}
	o.add(c, "member", "who comes, for those who look")
	c.Flags().IntVar(&o.count, "count", 0, "how many must be there")
	return g.wrapper(c)
}

func (o *barrierFlags) run(ctx context.Context, a *asking, args []string) error {
	if err := o.check(a.c); err != nil {
		return err
	}
	if o.count < 1 {
		return usageError(a.c, errors.New("--count is missing: how many must be there, 1 or more"))
	}
	s, done, err := o.session(ctx, a)
	if err != nil {
		return err
	}
	defer done()
	name := args[0]
	limited, cancel := o.limited(ctx, a)
	defer cancel()
	d := barrier.NewDouble(s, name, o.count)
	if err := d.Enter(limited); err != nil {
		return o.notBegun(ctx, name, err)
	}
	return o.wrapFlags.run(ctx, a, s, tenure{
		what: fmt.Sprintf("the session in barrier %q", name), see: "coord ls /double-barriers/" + shellQuote(name) + "/members",
		ctx: s.Context(), release: d.Leave, env: []string{"COORD_BARRIER=" + name},
		ended: func(ctx context.Context, _ child.Result) error {
			err := d.Leave(ctx)
			if ctx.Err() != nil {
				return nil // interrupted; the end of the session is the end of its membership
			}
			return err
		},
	}, args[1:])
}

// limited returns ctx, ended after --wait if that is given.
func (w *wrapFlags) limited(ctx context.Context, a *asking) (context.Context, context.CancelFunc) {
	if a.c.Flags().Changed("wait") {
		return context.WithTimeout(ctx, w.wait)
	}
	return ctx, func() {}
}

func (o *barrierFlags) notBegun(ctx context.Context, name string, err error) error {
	switch {
	case ctx.Err() != nil:
		return interrupted(ctx, fmt.Sprintf("left barrier %q before it began", name))
	case !errors.Is(err, context.DeadlineExceeded):
		return clientFailed(err, "enter barrier %q", name)
	}
	return &exitError{
		child: true, code: o.notGot, err: fmt.Errorf("barrier %q didn't begin", name),
		why:  fmt.Sprintf("fewer than %d were there together; gave up after %s (--wait)", o.count, o.wait),
		next: "coord ls /double-barriers/" + shellQuote(name) + "/members",
	}
}

// seeing gives the error of a command another next step, if it has one of the exit codes of these codes.
func seeing(err error, next string, of ...op.Code) error {
	e, ok := errors.AsType[*exitError](err)
	for _, code := range of {
		if ok && e.code == codes[code].exit {
			e.next = next
		}
	}
	return err
}

func newBarriers(g *globals) *cobra.Command {
	c := parent(&cobra.Command{
		Use:   "barriers",
		Short: "Close and lift barriers, and wait for them",
		Long: `A barrier is closed until somebody lifts it, whoever that is. It belongs to no session: it stays closed when whoever
has closed it has gone. To begin and end together with others, see coord barrier.`,
	})
	c.AddCommand(moveBarrier(g, "close", "Close a barrier", true), moveBarrier(g, "lift", "Lift a barrier: everybody who waits goes on", false),
		showBarrier(g), waitBarrier(g), listNamed(g, "barriers", "List the barriers that are closed", httpapi.BarriersURL))
	return c
}

func moveBarrier(g *globals, verb, short string, closed bool) *cobra.Command {
	return g.command(&cobra.Command{
		Use:     verb + " NAME",
		Short:   short,
		Long:    short + ". To do that again does nothing.",
		Example: "  coord barriers " + verb + " upgrade",
		Args:    aName("barrier", 0),
		RunE: g.asks(func(ctx context.Context, a *asking, args []string) error {
			b, err := a.MoveBarrier(ctx, args[0], closed)
			if err != nil {
				return failed(err, "%s barrier %q", verb, args[0])
			}
			a.shown(b.Body, barrierLine(args[0], closed))
			return nil
		}),
	})
}

func barrierLine(name string, closed bool) string {
	if closed {
		return name + " is closed"
	}
	return name + " is lifted"
}

// shown shows what a command has done or read.
func (a *asking) shown(body []byte, line string) {
	switch {
	case a.output == "json":
		a.out.json(body)
	case !a.quiet:
		a.out.line("%s", line)
	}
}

func showBarrier(g *globals) *cobra.Command {
	return g.command(&cobra.Command{
		Use:     "show NAME",
		Short:   "Say whether a barrier is closed",
		Example: "  coord barriers show upgrade",
		Args:    aName("barrier", 0),
		RunE: g.asks(func(ctx context.Context, a *asking, args []string) error {
			b, err := a.Barrier(ctx, args[0])
			if err != nil {
				return failed(err, "read barrier %q", args[0])
			}
			a.shown(b.Body, barrierLine(args[0], b.Closed))
			return nil
		}),
	})
}

func waitBarrier(g *globals) *cobra.Command {
	return g.waits("barriers wait NAME", "Wait until a barrier is lifted", "barrier", "coord barriers wait upgrade --wait 10m",
		func(ctx context.Context, c *coord.Client, name string) error { return barrier.New(c, name).Wait(ctx) })
}

// waits makes a command that waits until something is so.
func (g *globals) waits(
	use, short, what, example string, wait func(ctx context.Context, c *coord.Client, name string) error,
) *cobra.Command {
	var limit time.Duration
	_, use, _ = cutWord(use)
	c := &cobra.Command{
		Use:   use,
		Short: short,
		Long: short + `, through broken connections and members that die.

Exit code 5: the time of --wait was over first.`,
		Example: "  " + example,
		Args:    aName(what, 0),
		RunE: g.asksForever(func(ctx context.Context, a *asking, args []string) error {
			client, err := a.dial(ctx)
			if err != nil {
				return notReached(err, "connect")
			}
			defer client.Close()
			if limit > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, limit)
				defer cancel()
			}
			err = wait(ctx, client, args[0])
			if errors.Is(err, context.DeadlineExceeded) {
				return &exitError{
					code: exitUnavailable, err: fmt.Errorf("waited in vain for %s %q", what, args[0]),
					why: fmt.Sprintf("gave up after %s (--wait)", limit), next: "wait longer, or without --wait for as long as it takes",
				}
			}
			switch {
			case errors.Is(err, context.Canceled):
				return failed(err, "wait for %s %q", what, args[0]) // interrupted
			case err != nil:
				return clientFailed(err, "wait for %s %q", what, args[0])
			}
			return nil
		}),
	}
	c.Flags().DurationVar(&limit, "wait", 0, "give up after that long; without it, wait as long as it takes")
	return g.command(c)
}

func cutWord(s string) (first, rest string, ok bool) {
	for i := range s {
		if s[i] == ' ' {
			return s[:i], s[i+1:], true
		}
	}
	return s, "", false
}

func newLatch(g *globals) *cobra.Command {
	c := parent(&cobra.Command{
		Use:     "latch",
		Aliases: []string{"latches"},
		Short:   "Latches: wait until something was counted so often",
		Long: `A latch is set to a number, and open for good once it has been counted down so often. All who take part may set it;
each counts in its own name, which counts once, however often it is repeated.

  coord latch set loaded 3
  coord latch count loaded --id shard-1     # and so on
  coord latch wait loaded`,
	})
	c.AddCommand(setLatch(g), countLatch(g), showLatch(g),
		listNamed(g, "latch", "List the latches that are set", httpapi.LatchesURL),
		g.waits("latch wait NAME", "Wait until a latch is set and open", "latch",
			"coord latch wait loaded --wait 10m",
			func(ctx context.Context, c *coord.Client, name string) error {
				return barrier.NewLatch(c, name).Wait(ctx)
			}),
		removeNamed(g, "latch", httpapi.LatchesURL, "so that it can be set anew", "coord latch rm loaded"))
	return c
}

func latchLine(name string, l *httpapi.Latch) string {
	if l.Open {
		return fmt.Sprintf("%s is open, after %d", name, l.Count)
	}
	return fmt.Sprintf("%s: %d of %d left", name, l.Left, l.Count)
}

func setLatch(g *globals) *cobra.Command {
	return g.command(&cobra.Command{
		Use:   "set NAME COUNT",
		Short: "Set a latch",
		Long: `Set a latch, to be counted down so often. One that is set to the same number stays as it is.

Exit code 4: it is set to another number.`,
		Example: "  coord latch set loaded 3",
		Args:    aNameAnd("latch", "count"),
		RunE: g.asks(func(ctx context.Context, a *asking, args []string) error {
			n, err := wholeNumber(a.c, args[1])
			if err != nil {
				return err
			}
			l, err := a.SetLatch(ctx, args[0], int(n))
			if err != nil {
				return seeing(failed(err, "set latch %q", args[0]), "coord latch show "+shellQuote(args[0]), op.NodeExists)
			}
			a.shown(l.Body, latchLine(args[0], l))
			return nil
		}),
	})
}

func countLatch(g *globals) *cobra.Command {
	id := ""
	c := &cobra.Command{
		Use:   "count NAME",
		Short: "Count a latch down",
		Long: `Count a latch down, in the name of --id: that counts once, also if this command is run again. Without --id it counts
each time.

Exit code 3: the latch is not set.`,
		Example: "  coord latch count loaded --id shard-1",
		Args:    aName("latch", 0),
		RunE: g.asks(func(ctx context.Context, a *asking, args []string) error {
			l, err := a.CountDown(ctx, args[0], id)
			if err != nil {
				return seeing(failed(err, "count latch %q down", args[0]), "coord latch set "+shellQuote(args[0])+" COUNT", op.NoNode)
			}
			a.shown(l.Body, latchLine(args[0], l))
			return nil
		}),
	}
	c.Flags().StringVar(&id, "id", "", "in whose name")
	return g.command(c)
}

func showLatch(g *globals) *cobra.Command {
	return g.command(&cobra.Command{
		Use:     "show NAME",
		Short:   "Show how far a latch is, and who has counted",
		Example: "  coord latch show loaded",
		Args:    aName("latch", 0),
		RunE: g.asks(func(ctx context.Context, a *asking, args []string) error {
			l, err := a.Latch(ctx, args[0])
			if err != nil {
				return seeing(failed(err, "show latch %q", args[0]), "coord latch set "+shellQuote(args[0])+" COUNT", op.NoNode)
			}
			a.shown(l.Body, latchLine(args[0], l))
			if a.output == "json" || a.quiet {
				return nil
			}
			for _, id := range l.Counted {
				a.out.line("  %s", plain(id))
			}
			return nil
		}),
	})
}
