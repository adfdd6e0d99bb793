package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/coord-kv/coord/internal/httpapi"
)

func newLimits(g *globals) *cobra.Command {
	return g.command(&cobra.Command{
		Use:   "limits [NAME=VALUE...]",
		Short: "Show or set what requests may ask for, on all members at once",
		Long: `Show the limits that decide whether a request is done: sizes, counts, and the bounds of session timeouts. They are
part of the replicated state. With arguments, set those that are named; the others stay as they are. It takes the permission to
administer the root node.`,
		Example: `  coord limits
  coord limits data_bytes=2097152 session_max=1h`,
		Args: cobra.ArbitraryArgs,
		RunE: g.asks(func(ctx context.Context, a *asking, args []string) error {
			l, err := a.limits(ctx, args)
			if err != nil {
				return failed(err, "show or set the limits")
			}
			if a.output == "json" {
				a.out.json(l.Body)
				return nil
			}
			rows := [][]string{}
			for _, name := range slices.Sorted(maps.Keys(l.Values)) {
				rows = append(rows, []string{name, strings.Trim(string(l.Values[name]), `"`)})
			}
			a.out.table(rows)
			return nil
		}),
	})
}

func (a *asking) limits(ctx context.Context, args []string) (*httpapi.Limits, error) {
	if len(args) == 0 {
		return a.Limits(ctx, a.read())
	}
	named := map[string]any{}
	for _, arg := range args {
		name, value, ok := strings.Cut(arg, "=")
		if !ok {
			return nil, usageError(a.c, fmt.Errorf("%q is not NAME=VALUE", arg))
		}
		if _, twice := named[name]; twice {
			return nil, usageError(a.c, fmt.Errorf("%s is given twice", name))
		}
		named[name] = value
		if n, err := strconv.ParseInt(value, 10, 64); err == nil {
			named[name] = n
		}
	}
	body, err := json.Marshal(named)
	if err != nil {
		return nil, err
	}
	return a.SetLimits(ctx, body, httpapi.Write{})
}
