package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/coord-kv/coord/coord/once"
	"github.com/coord-kv/coord/internal/child"
)

// onceFlags are the flags of coord once.
type onceFlags struct {
	wrapFlags
	every             time.Duration
	atMostOnce, retry bool
}

func newOnce(g *globals) *cobra.Command {
	o := &onceFlags{}
	c := &cobra.Command{
		Use:   "once NAME [--every 24h] -- CMD [ARG...]",
		Short: "Run a program on one machine in each period",
		Long: `Run a program, unless it is being run elsewhere or was run in this period already; then there is nothing to do,
and the exit code is 0, or what -E says. A period lasts --every from when the program began, by the cluster's own clock.
For cron, make it a little shorter than the time between two runs: 23h for a job of each night.

Who ran it last and how that ended is in the node /once/NAME/last. A program that fails has been run all the same; with
--retry it hasn't, and is run by the next one who asks. If the machine that runs it dies, the next one who asks runs it
again, once --ttl is over; with --at-most-once nobody does before the period is over.

A script that only has curl does the same with /v1/once; docs/recipes.md has one.
` + fmt.Sprintf(wrapperEnv, "the run") + `
  COORD_ONCE            the name
` + `
Exit codes: the program's own, 128 and the signal's number if one ended it, 126 or 127 if it can't be run; 0 (or what
-E says) if there is nothing to do; 123 if the run was lost while the program ran; 125 if coord itself fails.`,
		Example: `  coord once backup --every 23h -- ./backup.sh
  coord get /once/backup/last`,
		RunE: g.asksForever(o.run),
	}
	o.add(c, "owner", "who runs it, for the record")
	f := c.Flags()
	f.DurationVar(&o.every, "every", 24*time.Hour, "how long a period lasts")
	f.BoolVar(&o.atMostOnce, "at-most-once", false, "if the machine that runs it dies, wait for the next period")
	f.BoolVar(&o.retry, "retry", false, "a program that fails has not been run")
	f.MarkHidden("wait") // there is nothing to wait for
	code := f.Lookup("conflict-exit-code")
	code.Usage, code.DefValue, o.notGot = "exit code if there is nothing to do", "0", 0
	return g.wrapper(c)
}

func (o *onceFlags) run(ctx context.Context, a *asking, args []string) error {
	if err := o.check(a.c); err != nil {
		return err
	}
	if o.every < time.Millisecond || o.every%time.Millisecond != 0 {
		return usageError(a.c, fmt.Errorf("--every %s: it is at least 1ms, in whole milliseconds", o.every))
	}
	s, done, err := o.session(ctx, a)
	if err != nil {
		return err
	}
	defer done()
	name := args[0]
	opts := []once.Option{once.Owner(o.name)}
	if o.atMostOnce {
		opts = append(opts, once.AtMostOnce())
	}
	limited, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	r, err := once.New(s, name, o.every, opts...).Begin(limited)
	switch {
	case errors.Is(err, once.ErrDone), errors.Is(err, once.ErrRunning):
		a.note("nothing to do for %q: %s", name, strings.TrimPrefix(err.Error(), "once: "))
		if o.notGot == 0 {
			return nil
		}
		return &exitError{child: true, silent: true, code: o.notGot, err: err}
	case ctx.Err() != nil:
		return interrupted(ctx, fmt.Sprintf("did not begin %q", name))
	case err != nil:
		return clientFailed(err, "begin %q", name)
	}
	return o.wrapFlags.run(ctx, a, s, tenure{
		what: fmt.Sprintf("the run of %q", name), see: "coord ls -l " + shellQuote("/once/"+name), ctx: r.Context(),
		env:     []string{"COORD_ONCE=" + name},
		release: func(ctx context.Context) error { return r.Fail(ctx, "it could not be run") },
		ended:   func(ctx context.Context, p child.Result) error { return o.end(ctx, a, r, p) },
	}, args[1:])
}

// end records how the program has ended.
func (o *onceFlags) end(ctx context.Context, a *asking, r *once.Run, p child.Result) error {
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.timeout)
	defer cancel()
	status := fmt.Sprintf("exit code %d", p.Code)
	if p.Code != 0 && o.retry || p.Reason != nil {
		return r.Fail(limited, status)
	}
	return r.End(limited, status)
}
