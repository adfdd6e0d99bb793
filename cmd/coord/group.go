package main

import (
	"context"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/coord-kv/coord/coord"
	"github.com/coord-kv/coord/coord/group"
	"github.com/coord-kv/coord/internal/httpapi"
)

func newGroup(g *globals) *cobra.Command {
	c := parent(&cobra.Command{
		Use:     "group",
		Aliases: []string{"groups"},
		Short:   "Groups: who is there, as long as it lives",
		Long: `A group has members, each with an id and some data, which are there as long as the program that they stand for. Where a
service can be had, and how it is, is for coord services.`,
	})
	c.AddCommand(joinGroup(g), listGroup(g), watchGroup(g))
	return c
}

// joinFlags are the flags of coord group join.
type joinFlags struct {
	wrapFlags
	data    string
	replace bool
}

func joinGroup(g *globals) *cobra.Command {
	o := &joinFlags{}
	c := &cobra.Command{
		Use:   "join NAME [--id ID] [--data TEXT] -- CMD [ARG...]",
		Short: "Run a program as a member of a group",
		Long: `Join a group, run a program, and leave the group when it ends.
` + fmt.Sprintf(wrapperEnv, "the membership") + `
  COORD_GROUP           the name of the group
  COORD_MEMBER          the id of the member
` + fmt.Sprintf(wrapperCodes, "the membership"),
		Example: `  coord group join workers --id "$(hostname)" --data 10.0.0.1:80 -- ./worker
  coord group join workers --id w1 --replace -- ./worker`,
		RunE: g.asksForever(o.run),
	}
	o.add(c, "id", "of the member")
	c.Flags().StringVar(&o.data, "data", "", "what others see of the member")
	c.Flags().BoolVar(&o.replace, "replace", false, "take the id from another session, say of an earlier run")
	c.Flags().MarkHidden("wait") // there is nothing to wait for
	return g.wrapper(c)
}

func (o *joinFlags) run(ctx context.Context, a *asking, args []string) error {
	if err := o.check(a.c); err != nil {
		return err
	}
	s, done, err := o.session(ctx, a)
	if err != nil {
		return err
	}
	defer done()
	opts := []group.JoinOption{group.Data([]byte(o.data))}
	if o.replace {
		opts = append(opts, group.Replace())
	}
	limited, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	m, err := group.Join(limited, s, args[0], o.name, opts...)
	if err != nil {
		out := clientFailed(err, "join group %q as %q", args[0], o.name)
		if errors.Is(err, coord.ErrNodeExists) {
			out.(*exitError).next = "give another --id, or --replace to take this one"
		}
		return out
	}
	return o.wrapFlags.run(ctx, a, s, tenure{
		what: fmt.Sprintf("the membership of %q in group %q", o.name, args[0]), see: "coord group ls " + shellQuote(args[0]),
		ctx: m.Context(), release: m.Leave, env: []string{"COORD_GROUP=" + args[0], "COORD_MEMBER=" + o.name},
	}, args[1:])
}

func listGroup(g *globals) *cobra.Command {
	p := httpapi.Page{}
	c := &cobra.Command{
		Use:   "ls [NAME]",
		Short: "List the groups, or the members of one",
		Long: `List the groups; with NAME the members of that one. One that nobody is in has none, which is no error, and is soon not
listed any more. -o raw prints names or ids.`,
		Example: "  coord group ls\n  coord group ls workers",
		Args:    maybeName("group"),
		RunE: g.asks(func(ctx context.Context, a *asking, args []string) error {
			if len(args) == 0 {
				return a.listNames(ctx, httpapi.GroupsURL, p)
			}
			if p != (httpapi.Page{}) {
				return usageError(a.c, errors.New("--limit and --after are for the list of groups; a group is read as one state"))
			}
			l, err := a.Group(ctx, args[0], a.read())
			if err != nil {
				return failed(err, "list group %q", args[0])
			}
			if a.output == "json" {
				a.out.json(l.Body)
				return nil
			}
			rows := [][]string{{"ID", "SESSION", "SINCE", "DATA"}}
			for _, m := range l.Members {
				rows = append(rows, []string{plain(m.ID), m.Session, stamp(m.Since), cell(m.Bytes())})
				if a.output == "raw" {
					a.out.line("%s", m.ID)
				}
			}
			if a.output != "raw" {
				a.out.table(rows)
			}
			return nil
		}),
	}
	addPage(c, &p)
	return g.command(c)
}

func watchGroup(g *globals) *cobra.Command {
	return g.command(&cobra.Command{
		Use:   "watch NAME",
		Short: "Print the members of a group, and who comes and goes",
		Long: `Print the members of a group, and who comes, goes or changes, until interrupted: "+" and the id of one that has come,
"-" of one that has gone, "~" of one whose data has changed. No change is missed, though several that come close together are
printed as one. -o json prints all members after each change, in one line.`,
		Example: "  coord group watch workers",
		Args:    aName("group", 0),
		RunE: g.asksForever(func(ctx context.Context, a *asking, args []string) error {
			client, err := a.dial(ctx)
			if err != nil {
				return notReached(err, "connect")
			}
			defer client.Close()
			return a.watchGroup(ctx, client, args[0])
		}),
	})
}

func (a *asking) watchGroup(ctx context.Context, client *coord.Client, name string) error {
	before := map[string]group.Member{}
	for list, err := range group.Watch(ctx, client, name) {
		if ctx.Err() != nil {
			return nil // interrupted
		}
		if err != nil {
			return clientFailed(err, "watch group %q", name)
		}
		if a.output == "json" {
			a.out.encode(memberForms(list))
		} else {
			before = a.printChanges(before, list)
		}
		if err := a.out.flush(); err != nil {
			return err
		}
	}
	return nil
}

func memberForms(list []group.Member) map[string]any {
	forms := []map[string]any{}
	for _, m := range list {
		forms = append(forms, withData(map[string]any{"id": m.ID, "session": m.Session, "since": stamp(m.Since)}, m.Data))
	}
	return map[string]any{"members": forms}
}

// withData adds data to a form as HTTP has it: text as "data", other bytes as "data_base64".
func withData(form map[string]any, data []byte) map[string]any {
	if utf8.Valid(data) {
		form["data"] = string(data)
	} else {
		form["data_base64"] = data
	}
	return form
}

// printChanges prints what has become of the members, and returns them as they are.
func (a *asking) printChanges(before map[string]group.Member, list []group.Member) map[string]group.Member {
	now := map[string]group.Member{}
	for _, m := range list {
		now[m.ID] = m
		switch old, ok := before[m.ID]; {
		case !ok:
			a.out.line("+ %s  %s", plain(m.ID), cell(m.Data))
		case old.Session != m.Session || string(old.Data) != string(m.Data):
			a.out.line("~ %s  %s", plain(m.ID), cell(m.Data))
		}
		delete(before, m.ID)
	}
	for id := range before {
		a.out.line("- %s", plain(id))
	}
	return now
}
