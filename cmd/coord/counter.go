package main

import (
	"context"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/coord-kv/coord/internal/httpapi"
	"github.com/coord-kv/coord/op"
)

func newCounter(g *globals) *cobra.Command {
	c := parent(&cobra.Command{
		Use:     "counter",
		Aliases: []string{"counters"},
		Short:   "Counters: numbers that many change",
		Long: `A counter is a number that many change; one that nobody has changed is 0. Each addition is done once, whatever happens
to connections and members, or not at all if the command fails with another code than 5.`,
	})
	c.AddCommand(getCounter(g), addCounter(g), setCounter(g), listNamed(g, "counter", "List the counters", httpapi.CountersURL),
		removeNamed(g, "counter", httpapi.CountersURL, "which is 0 then", "coord counter rm hits"))
	return c
}

// wholeNumber reads an argument.
func wholeNumber(c *cobra.Command, s string) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0, usageError(c, fmt.Errorf("%q is not a whole number", s))
	}
	return n, nil
}

func (a *asking) value(v *httpapi.Counter) {
	if a.output == "json" {
		a.out.json(v.Body)
		return
	}
	a.out.line("%d", v.Value)
}

func getCounter(g *globals) *cobra.Command {
	return g.command(&cobra.Command{
		Use:     "get NAME",
		Short:   "Print the value of a counter",
		Example: "  coord counter get hits",
		Args:    aName("counter", 0),
		RunE: g.asks(func(ctx context.Context, a *asking, args []string) error {
			v, err := a.Counter(ctx, args[0], a.read())
			if err != nil {
				return failed(err, "read counter %q", args[0])
			}
			a.value(v)
			return nil
		}),
	})
}

func addCounter(g *globals) *cobra.Command {
	var low, high int64
	c := &cobra.Command{
		Use:   "add NAME [N]",
		Short: "Add to a counter, and print what that has led to",
		Long: `Add N to a counter, by default 1, and print what that has led to. A negative N stands behind --.

Exit code 4: it would lead out of --min to --max. Nothing was changed.`,
		Example: "  coord counter add hits\n  coord counter add seats --min 0 -- -1",
		Args:    aName("counter", 1),
		RunE: g.asks(func(ctx context.Context, a *asking, args []string) error {
			n := int64(1)
			if len(args) > 1 {
				var err error
				if n, err = wholeNumber(a.c, args[1]); err != nil {
					return err
				}
			}
			var bounds [2]*int64
			if a.c.Flags().Changed("min") {
				bounds[0] = &low
			}
			if a.c.Flags().Changed("max") {
				bounds[1] = &high
			}
			v, err := a.Add(ctx, args[0], n, bounds[0], bounds[1])
			if err != nil {
				return seeing(failed(err, "add to counter %q", args[0]), "coord counter get "+shellQuote(args[0]), op.PreconditionFailed)
			}
			a.value(v)
			return nil
		}),
	}
	c.Flags().Int64Var(&low, "min", 0, "don't go below")
	c.Flags().Int64Var(&high, "max", 0, "don't go above")
	c.SetFlagErrorFunc(numberFlagError)
	return g.command(c)
}

// numberFlagError is about negative numbers, which look like flags.
func numberFlagError(c *cobra.Command, err error) error {
	return dashError(c, err, "a negative number stands behind --, such as: "+c.CommandPath()+" seats -- -1")
}

func setCounter(g *globals) *cobra.Command {
	c := &cobra.Command{
		Use:     "set NAME N",
		Short:   "Set a counter, whatever it was",
		Example: "  coord counter set seats 100",
		Args:    aNameAnd("counter", "value"),
		RunE: g.asks(func(ctx context.Context, a *asking, args []string) error {
			n, err := wholeNumber(a.c, args[1])
			if err != nil {
				return err
			}
			v, err := a.SetCounter(ctx, args[0], n)
			if err != nil {
				return failed(err, "set counter %q", args[0])
			}
			a.value(v)
			return nil
		}),
	}
	c.SetFlagErrorFunc(numberFlagError)
	return g.command(c)
}
