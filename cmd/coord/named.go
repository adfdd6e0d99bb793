package main

import (
	"context"
	"fmt"
	"path"

	"github.com/spf13/cobra"

	"github.com/coord-kv/coord/internal/httpapi"
)

// What the commands of the small recipes have in common: they are about a thing that has a name.

// aName is the one argument of commands about a thing that has a name.
func aName(what string, extra int) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		switch {
		case len(args) == 0:
			return usageError(c, fmt.Errorf("the name of a %s is missing", what))
		case len(args) > 1+extra:
			return usageError(c, fmt.Errorf("unexpected argument %q", args[1+extra]))
		}
		return nil
	}
}

// aNameAnd are the arguments of commands about a thing that has a name and takes something more.
func aNameAnd(what, more string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) == 1 {
			return usageError(c, fmt.Errorf("the %s is missing", more))
		}
		return aName(what, 1)(c, args)
	}
}

// maybeName is the argument of commands about one thing or all.
func maybeName(what string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		return aName(what, 0)(c, args)
	}
}

// listNamed makes the command that lists the things of a recipe, for the command of that name.
func listNamed(g *globals, of, short, resource string) *cobra.Command {
	p := httpapi.Page{}
	c := &cobra.Command{
		Use:     "ls",
		Short:   short,
		Example: "  coord " + of + " ls",
		Args:    noArgs,
		RunE:    g.asks(func(ctx context.Context, a *asking, _ []string) error { return a.listNames(ctx, resource, p) }),
	}
	addPage(c, &p)
	return g.command(c)
}

func addPage(c *cobra.Command, p *httpapi.Page) {
	c.Flags().IntVar(&p.Limit, "limit", 0, "no more than so many; without it, all")
	c.Flags().StringVar(&p.After, "after", "", "begin behind this name or id")
}

func (a *asking) listNames(ctx context.Context, resource string, p httpapi.Page) error {
	what := path.Base(resource) // as an answer calls them
	return a.listing(what, p, [][]string{{"NAME"}}, func(p httpapi.Page) ([]byte, string, [][]string, error) {
		l, err := a.Names(ctx, resource, p, a.read())
		if err != nil {
			return nil, "", nil, failed(err, "list the %s", what)
		}
		var rows [][]string
		for _, name := range l.Names {
			rows = append(rows, []string{plain(name)})
		}
		return l.Body, l.Next, rows, nil
	})
}

// removeNamed makes the command that removes a thing.
func removeNamed(g *globals, what, resource, so, example string) *cobra.Command {
	return g.command(&cobra.Command{
		Use:     "rm NAME",
		Short:   "Remove a " + what + ", " + so,
		Example: "  " + example,
		Args:    aName(what, 0),
		RunE: g.asks(func(ctx context.Context, a *asking, args []string) error {
			res, err := a.Remove(ctx, resource, args[0])
			if err != nil {
				return failed(err, "remove %s %q", what, args[0])
			}
			a.shown(res.Body, args[0]+" is removed")
			return nil
		}),
	})
}
