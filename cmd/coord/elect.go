package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/coord-kv/coord/coord/election"
)

// electFlags are the flags of coord elect.
type electFlags struct {
	wrapFlags
	value    string
	priority int
}

func newElect(g *globals) *cobra.Command {
	o := &electFlags{}
	c := &cobra.Command{
		Use:   "elect NAME [--value TEXT] [--priority N] -- CMD [ARG...]",
		Short: "Run a program while being the leader",
		Long: `Stand for election, run a program once elected, and resign when it ends. If the leadership is lost, the program is
stopped and the command ends; it doesn't stand again by itself. Whoever starts it again, such as systemd with Restart=always,
does that. The name is one segment of a path, under /elections.
` + fmt.Sprintf(wrapperEnv, "the leadership") + `
  COORD_ELECTION        the name of the election
  COORD_LEADER_TERM     a number that grows with each term: a write with --fence "term:$COORD_ELECTION=$COORD_LEADER_TERM"
                        is refused when the term is over
  COORD_FENCING_TOKEN   the same
` + fmt.Sprintf(wrapperCodes, "the leadership"),
		Example: `  coord elect scheduler --value 10.0.0.1:80 -- ./scheduler
  coord elect scheduler --candidate host-1 --priority 10 -- ./scheduler`,
		RunE: g.asksForever(o.run),
	}
	o.add(c, "candidate", "who stands, for those who look and for transfer")
	c.Flags().StringVar(&o.value, "value", "", "what the leader tells everybody, such as its address")
	c.Flags().IntVar(&o.priority, "priority", 0, "go before candidates of a lower one")
	return g.wrapper(c)
}

func (o *electFlags) run(ctx context.Context, a *asking, args []string) error {
	if err := o.check(a.c); err != nil {
		return err
	}
	s, done, err := o.session(ctx, a)
	if err != nil {
		return err
	}
	defer done()
	name := args[0]
	limited, cancel := ctx, func() {}
	if a.c.Flags().Changed("wait") {
		limited, cancel = context.WithTimeout(ctx, o.wait)
	}
	defer cancel()
	e := election.New(s, name, election.Candidate(o.name), election.Value(o.value), election.Priority(o.priority),
		election.OnWait(a.waiting("election", name)))
	t, err := e.Campaign(limited)
	if err != nil {
		return o.notElected(ctx, e, name, err)
	}
	term := fmt.Sprint(t.Token().Zxid)
	return o.wrapFlags.run(ctx, a, s, tenure{
		what: fmt.Sprintf("the leadership of %q", name), see: "coord elections show " + shellQuote(name),
		ctx: t.Context(), release: t.Resign,
		env: []string{"COORD_ELECTION=" + name, "COORD_LEADER_TERM=" + term, "COORD_FENCING_TOKEN=" + term},
	}, args[1:])
}

// notElected is the error if the candidate was not elected.
func (o *electFlags) notElected(ctx context.Context, e *election.Election, name string, err error) error {
	if ctx.Err() != nil {
		return interrupted(ctx, fmt.Sprintf("withdrew from election %q", name))
	}
	if !errors.Is(err, context.DeadlineExceeded) {
		return clientFailed(err, "stand for election %q", name)
	}
	out := &exitError{
		child: true, code: o.notGot, err: fmt.Errorf("not elected in %q", name),
		why: fmt.Sprintf("gave up after %s (--wait)", o.wait), next: "coord elections show " + shellQuote(name),
	}
	if l, err := e.Leader(ctx); err == nil && l.Candidate != "" {
		out.err = fmt.Errorf("%q is led by %s, term %d", name, l.Candidate, l.Token)
	}
	return out
}
