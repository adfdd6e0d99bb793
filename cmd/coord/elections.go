package main

import (
	"cmp"
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/coord-kv/coord/internal/httpapi"
	"github.com/coord-kv/coord/op"
)

func newElections(g *globals) *cobra.Command {
	c := parent(&cobra.Command{
		Use:   "elections",
		Short: "Show, watch and decide elections",
		Long:  "Show who leads and who stands for election. To run a program while leading, there is coord elect.",
	})
	c.AddCommand(listElections(g), showElection(g), watchElection(g), resign(g), transfer(g))
	return c
}

func listElections(g *globals) *cobra.Command {
	return g.command(&cobra.Command{
		Use:     "ls",
		Short:   "List the elections in which somebody stands",
		Example: "  coord elections ls",
		Args:    noArgs,
		RunE: g.asks(func(ctx context.Context, a *asking, _ []string) error {
			all, err := allPages(func(p httpapi.Page) (*httpapi.Elections, string, error) {
				l, err := a.Elections(ctx, p, a.read())
				if err != nil {
					return nil, "", err
				}
				return l, l.Next, nil
			})
			if err != nil {
				return seeing(failed(err, "list the elections"), "coord elections ls", op.NoLock, op.NotHolder)
			}
			return a.elections(all)
		}),
	})
}

func (a *asking) elections(all []*httpapi.Elections) error {
	var bodies [][]byte
	rows := [][]string{{"NAME", "LEADER", "TERM", "LED FOR", "VALUE", "CANDIDATES"}}
	for _, page := range all {
		bodies = append(bodies, page.Body)
		for _, e := range page.Elections {
			if a.output == "raw" {
				a.out.line("%s", e.Name)
				continue
			}
			row := []string{plain(e.Name), "-", "-", "-", "-", strconv.Itoa(len(e.Candidates))}
			if l := e.Leader; l != nil {
				row[1], row[2], row[3], row[4] = plain(l.Candidate), decimal(l.Term), l.LedFor, plain(l.Value)
			}
			rows = append(rows, row)
		}
	}
	switch a.output {
	case "json":
		whole, err := merge(bodies, "elections")
		if err != nil {
			return err
		}
		return a.out.encode(whole)
	case "table":
		a.out.table(rows)
	}
	return nil
}

func showElection(g *globals) *cobra.Command {
	return g.command(&cobra.Command{
		Use:   "show NAME",
		Short: "Show who leads, who stands, and who led",
		Long: `Show who leads, since when and with which value; the candidates in order; and the terms of late, newest first, with
the reason that each ended. -o raw prints the leader's value.`,
		Example: "  coord elections show scheduler",
		Args:    recipeName("an election"),
		RunE: g.asks(func(ctx context.Context, a *asking, args []string) error {
			e, err := a.Election(ctx, args[0], a.read())
			if err != nil {
				return seeing(failed(err, "show election %q", args[0]), "coord elections ls", op.NoLock, op.NotHolder)
			}
			switch {
			case a.output == "json":
				a.out.json(e.Body)
			case a.output == "raw":
				if e.Leader != nil {
					a.out.value([]byte(e.Leader.Value))
				}
			default:
				a.showElection(e)
			}
			return nil
		}),
	})
}

func (a *asking) showElection(e *httpapi.Election) {
	rows := [][]string{{"election", plain(e.Name)}, {"leader", "-"}}
	if l := e.Leader; l != nil {
		rows = [][]string{
			{"election", plain(e.Name)}, {"leader", plain(l.Candidate)}, {"value", plain(l.Value)}, {"term", decimal(l.Term)},
			{"since", stamp(l.Since)}, {"led for", l.LedFor}, {"expires in", cmp.Or(l.ExpiresIn, "?")}, {"session", l.Session},
		}
	}
	a.out.table(rows)
	rows = [][]string{{"CANDIDATE", "POSITION", "PRIORITY", "WAITING", "SESSION", "VALUE"}}
	for i, c := range e.Candidates {
		rows = append(rows, []string{
			plain(c.Owner), strconv.Itoa(i + 1), strconv.Itoa(c.Priority), c.Waiting, c.Session, plain(c.Metadata),
		})
	}
	a.section(rows)
	a.history(e.History)
}

// observing is how long one question for another leader waits.
const observing = 30 * time.Second

func watchElection(g *globals) *cobra.Command {
	return g.command(&cobra.Command{
		Use:   "watch NAME",
		Short: "Print who leads, whenever that changes",
		Long: `Print who leads, and again whenever that changes, until interrupted: the term, the candidate and its value, or "-"
while nobody leads. One who leads only for a moment between two others may be left out. -o json prints the election, one a
line; -o raw the leader's value.`,
		Example: "  coord elections watch scheduler",
		Args:    recipeName("an election"),
		RunE: g.asksForever(func(ctx context.Context, a *asking, args []string) error {
			term, first := op.Zxid(0), true
			for {
				e, err := a.nextLeader(ctx, args[0], term, first)
				switch {
				case ctx.Err() != nil && !first:
					return nil // interrupted
				case err != nil:
					return seeing(failed(err, "watch election %q", args[0]), "coord elections ls", op.NoLock, op.NotHolder)
				case first || e.Term() != term:
					a.leads(e)
				}
				term, first = e.Term(), false
				if err := a.out.flush(); err != nil {
					return err
				}
			}
		}),
	})
}

// nextLeader returns the election as it is at first, and then once another one leads, or some time is over. There need be no
// such election yet.
func (a *asking) nextLeader(ctx context.Context, name string, term op.Zxid, first bool) (*httpapi.Election, error) {
	if first {
		limited, cancel := context.WithTimeout(ctx, a.timeout)
		defer cancel()
		e, err := a.Election(limited, name, a.read())
		if p, ok := errors.AsType[*httpapi.Error](err); ok && p.Code == op.NoLock.String() {
			return &httpapi.Election{Answer: httpapi.Answer{Body: []byte("{}")}, Name: name}, nil
		}
		return e, err
	}
	limited, cancel := context.WithTimeout(ctx, a.timeout+observing*time.Duration(len(a.Endpoints())))
	defer cancel()
	return a.ElectionAfter(limited, name, term, observing)
}

func (a *asking) leads(e *httpapi.Election) {
	switch {
	case a.output == "json":
		a.out.json(e.Body)
	case e.Leader == nil:
		a.out.line("-")
	case a.output == "raw":
		a.out.line("%s", plain(e.Leader.Value))
	default:
		a.out.line("%d  %s  %s", e.Leader.Term, plain(e.Leader.Candidate), plain(e.Leader.Value))
	}
}

func resign(g *globals) *cobra.Command {
	return g.command(&cobra.Command{
		Use:   "resign NAME",
		Short: "End the term of this session",
		Long: `End the term of the session of COORD_SESSION; its secret is read from COORD_SESSION_SECRET, or the file that
COORD_SESSION_SECRET_FILE names, as for a program that coord elect runs.`,
		Example: "  coord elections resign scheduler",
		Args:    recipeName("an election"),
		RunE: g.asks(func(ctx context.Context, a *asking, args []string) error {
			w, err := a.acting()
			if err != nil {
				return err
			}
			got, err := a.Resign(ctx, args[0], w)
			if err != nil {
				return decided(err, "resign from election %q", args[0])
			}
			if a.output == "json" {
				a.out.json(got.Body)
			}
			return nil
		}),
	})
}

// decided is failed for what an election's standing may forbid.
func decided(err error, what, name string) error {
	err = seeing(failed(err, what, name), "coord elections ls", op.NoLock, op.NotHolder)
	if e, ok := errors.AsType[*exitError](err); ok && e.code == exitConflict {
		e.next = "coord elections show " + shellQuote(name)
	}
	return err
}

func transfer(g *globals) *cobra.Command {
	to, by := "", ""
	c := g.command(&cobra.Command{
		Use:   "transfer NAME --to ID",
		Short: "Make a candidate the leader",
		Long: `Make a candidate the leader, also if the old one hangs. Its program is stopped, if coord elect runs it; the history
says who has done this.`,
		Example: "  coord elections transfer scheduler --to host-2",
		Args:    recipeName("an election"),
		RunE: g.asks(func(ctx context.Context, a *asking, args []string) error {
			if to == "" {
				return usageError(a.c, errors.New("--to is missing: the candidate that shall lead"))
			}
			got, err := a.Transfer(ctx, args[0], to, cmp.Or(by, a.somebody()))
			if err != nil {
				return decided(err, "transfer election %q", args[0])
			}
			if a.output == "json" {
				a.out.json(got.Body)
			}
			return nil
		}),
	})
	c.Flags().StringVar(&to, "to", "", "the candidate that shall lead")
	c.Flags().StringVar(&by, "by", "", byUsage)
	return c
}
