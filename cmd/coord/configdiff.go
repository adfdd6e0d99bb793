package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/coord-kv/coord/coord/config"
	"github.com/coord-kv/coord/internal/settings"
	"github.com/coord-kv/coord/op"
)

func configDiff(g *globals) *cobra.Command {
	return g.command(&cobra.Command{
		Use:   "diff APP [KEY] [FROM [TO]]",
		Short: "Show what differs between two versions",
		Long: `Show what differs between two versions, or with KEY what that was in them: TO is by default the configuration as it is,
FROM the version before. A word that is a number is a version.`,
		Example: "  coord config diff shop\n  coord config diff shop 3 7\n  coord config diff shop limit 3",
		Args:    appArgs(0, 3, ""),
		RunE: g.asks(func(ctx context.Context, a *asking, args []string) error {
			key, n, err := diffArgs(a.c, args[1:])
			if err != nil {
				return err
			}
			if n[0] == 0 {
				if n[0], err = a.previous(ctx, args[0]); err != nil {
					return err
				}
			}
			d, err := a.ConfigDiff(ctx, args[0], key, n[0], n[1], a.read())
			if err != nil {
				return seeing(failed(err, "compare versions of %s", args[0]), "coord config history "+shellQuote(args[0]), op.NoNode)
			}
			if a.output == "json" {
				a.out.json(d.Body)
				return nil
			}
			rows := [][]string{{"KEY", fmt.Sprintf("VERSION %d", d.From), fmt.Sprintf("VERSION %d", d.To)}}
			for _, x := range d.Changes {
				rows = append(rows, []string{plain(x.Key), optional(x.From), optional(x.To)})
			}
			if a.output == "raw" {
				rows = rows[1:]
			}
			a.out.table(rows)
			return nil
		}),
	})
}

// diffArgs reads a key and up to two versions.
func diffArgs(c *cobra.Command, words []string) (key string, n [2]int64, err error) {
	if len(words) > 0 {
		if _, err := strconv.ParseInt(words[0], 10, 64); err != nil {
			key, words = words[0], words[1:]
			if err := settings.CheckKey(key); err != nil {
				return "", n, usageError(c, errors.New(detail(err)))
			}
		}
	}
	if len(words) > 2 {
		return "", n, usageError(c, fmt.Errorf("unexpected argument %q", words[2]))
	}
	for i, s := range words {
		if n[i], err = versionArg(c, s); err != nil {
			return "", n, err
		}
	}
	return key, n, nil
}

func configWatch(g *globals) *cobra.Command {
	return g.command(&cobra.Command{
		Use:   "watch APP [KEY]",
		Short: "Print the values of an application, and each change of them",
		Long: `Print the values of an application, or one of them, and each change, until interrupted: which version it is, and for each
key "+" and its value if it is new, "-" if it has gone, "~" with the old and the new value otherwise. Versions that come close
together are printed as one. -o json prints one object in a line for each, with null for no value.`,
		Example: "  coord config watch shop\n  coord config watch shop limit -o json",
		Args:    appArgs(0, 1, ""),
		RunE: g.asksForever(func(ctx context.Context, a *asking, args []string) error {
			w := &configWatcher{a: a}
			if len(args) == 2 {
				w.key = args[1]
				if err := settings.CheckKey(w.key); err != nil {
					return usageError(a.c, errors.New(detail(err)))
				}
			}
			client, err := a.dial(ctx)
			if err != nil {
				return notReached(err, "connect")
			}
			defer client.Close()
			for now, err := range config.Watch(ctx, client, args[0]) {
				if ctx.Err() != nil {
					return nil // interrupted
				}
				if err != nil {
					return clientFailed(err, "watch the configuration of %s", args[0])
				}
				if err := w.show(now); err != nil {
					return err
				}
			}
			return nil
		}),
	})
}

// configWatcher prints what has changed since it was last shown something.
type configWatcher struct {
	a      *asking
	key    string // "" for all
	before config.Config
	shown  bool
}

func (w *configWatcher) show(now config.Config) error {
	var changes []config.Difference
	for _, d := range config.Diff(w.before, now) {
		if w.key == "" || d.Key == w.key {
			changes = append(changes, d)
		}
	}
	if len(changes) > 0 || !w.shown {
		w.print(now, changes)
	}
	w.before, w.shown = now, true
	return w.a.out.flush()
}

func (w *configWatcher) print(now config.Config, changes []config.Difference) {
	around := w.shown && now.Version == w.before.Version // somebody has written the nodes themselves
	if w.a.output == "json" {
		w.a.out.encode(configChangesForm(now, changes, around))
		return
	}
	switch {
	case now.Number == 0:
		w.a.out.line("no version")
	case around:
		w.a.out.line("version %d, changed since without a version", now.Number)
	default:
		line := fmt.Sprintf("version %d of %s, by %s", now.Number, stamp(now.Time), plain(now.Author))
		if now.Comment != "" {
			line += ": " + plain(now.Comment)
		}
		w.a.out.line("%s", line)
	}
	for _, d := range changes {
		switch {
		case d.From == nil:
			w.a.out.line("+ %s  %s", plain(d.Key), optional(d.To))
		case d.To == nil:
			w.a.out.line("- %s", plain(d.Key))
		default:
			w.a.out.line("~ %s  %s -> %s", plain(d.Key), optional(d.From), optional(d.To))
		}
	}
}

func configChangesForm(now config.Config, changes []config.Difference, around bool) any {
	list := []map[string]any{}
	for _, d := range changes {
		list = append(list, map[string]any{"key": d.Key, "from": d.From, "to": d.To})
	}
	form := map[string]any{"app": now.App, "version": now.Number, "changes": list}
	if now.Number > 0 && !around {
		form["author"], form["comment"], form["time"] = now.Author, now.Comment, stamp(now.Time)
	}
	return form
}
