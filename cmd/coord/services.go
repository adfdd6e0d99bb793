package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"reflect"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/coord-kv/coord/internal/httpapi"
	"github.com/coord-kv/coord/internal/registry"
	"github.com/coord-kv/coord/op"
)

func newServices(g *globals) *cobra.Command {
	c := parent(&cobra.Command{
		Use:     "services",
		Aliases: []string{"service"},
		Short:   "Register instances of services, and find them",
		Long: `A service has a name, and instances: where it can be had, with tags, and how each is. An instance is gone when the
session that registered it ends. docs/discovery.md is a tour. coord service is another name for this command.`,
	})
	c.AddCommand(newRegister(g), listServices(g), showService(g), watchService(g))
	return c
}

func listServices(g *globals) *cobra.Command {
	return g.command(&cobra.Command{
		Use:     "ls",
		Short:   "List the services that have instances",
		Example: "  coord services ls\n  coord services ls -o raw",
		Args:    noArgs,
		RunE: g.asks(func(ctx context.Context, a *asking, _ []string) error {
			l, err := a.Services(ctx, a.read())
			if err != nil {
				return failed(err, "list the services")
			}
			if a.output == "json" {
				a.out.json(l.Body)
				return nil
			}
			rows := [][]string{{"NAME", "PASSING", "WARNING", "CRITICAL", "TAGS"}}
			for _, s := range l.Services {
				row := []string{s.Name, strconv.Itoa(s.Passing), strconv.Itoa(s.Warning), strconv.Itoa(s.Critical), tagCell(s.Tags)}
				rows = append(rows, row)
			}
			if a.output == "raw" {
				for i, row := range rows[1:] {
					rows[i+1] = row[:1]
				}
				rows = rows[1:]
			}
			a.out.table(rows)
			return nil
		}),
	})
}

func tagCell(tags []string) string {
	if len(tags) == 0 {
		return "-"
	}
	return strings.Join(tags, ",")
}

// matching are the flags that say which instances are meant.
type matching struct {
	passing bool
	tags    []string
}

func (m *matching) addTo(c *cobra.Command) {
	c.Flags().BoolVar(&m.passing, "passing", false, "only instances whose status is passing")
	c.Flags().StringArrayVar(&m.tags, "tag", nil, "only instances with this tag; given several times, with all of them")
}

// nameArg is the one argument of commands about a service.
func nameArg(c *cobra.Command, args []string) error {
	switch {
	case len(args) == 0:
		return usageError(c, errors.New("the name of a service is missing"))
	case len(args) > 1:
		return usageError(c, fmt.Errorf("unexpected argument %q", args[1]))
	}
	return checkService(c, args[0])
}

func checkService(c *cobra.Command, name string) error {
	if err := registry.CheckName(name); err != nil {
		return usageError(c, errors.New(detail(err)))
	}
	return nil
}

func showService(g *globals) *cobra.Command {
	m := &matching{}
	c := &cobra.Command{
		Use:   "show NAME",
		Short: "Show the instances of a service",
		Long: `Show the instances of a service that match, and why they are critical, as the check that has found them so has said.
-o raw prints address:port of each, for scripts.

Exit code 3: none matches.`,
		Example: "  coord services show web --passing\n  curl \"http://$(coord services show web --passing -o raw | shuf -n 1)/\"",
		Args:    nameArg,
		RunE: g.asks(func(ctx context.Context, a *asking, args []string) error {
			s, err := a.Resolve(ctx, args[0], m.passing, m.tags, a.read())
			if err != nil {
				return failed(err, "show the service %s", args[0])
			}
			rows := [][]string{{"ID", "ADDRESS", "STATUS", "SINCE", "TAGS", "REASON"}}
			switch a.output {
			case "json":
				a.out.json(s.Body)
			case "raw":
				for _, x := range s.Instances {
					a.out.line("%s", hostPort(x))
				}
			default:
				for _, x := range s.Instances {
					rows = append(rows, []string{plain(x.ID), hostPort(x), x.Status, stamp(x.Since), tagCell(x.Tags), plain(x.Reason)})
				}
				if len(s.Instances) > 0 {
					a.out.table(rows)
				}
			}
			if len(s.Instances) == 0 {
				return noneMatches(args[0], m)
			}
			return nil
		}),
	}
	m.addTo(c)
	return g.command(c)
}

func hostPort(x httpapi.Instance) string { return net.JoinHostPort(x.Address, strconv.Itoa(x.Port)) }

func noneMatches(service string, m *matching) error {
	e := &exitError{code: exitNotFound, err: fmt.Errorf("the service %s has no instance", service), why: "nobody has registered one", next: "coord services ls"}
	if m.passing || len(m.tags) > 0 {
		e.err = fmt.Errorf("the service %s has no instance that matches", service)
		e.why, e.next = "--passing and --tag leave all of them out, or there is none", "coord services show "+service
	}
	return e
}

func watchService(g *globals) *cobra.Command {
	m := &matching{}
	c := &cobra.Command{
		Use:   "watch NAME",
		Short: "Print the instances of a service, and what changes",
		Long: `Print the instances of a service that match, and what becomes of them, until interrupted.

A connection that breaks is made anew, to whichever endpoint answers. No change is missed, though several that come
close together are printed as one. -o json prints all instances after each change, one answer a line; -o raw prints
address:port of each, and an empty line behind them.`,
		Example: "  coord services watch web --passing",
		Args:    nameArg,
		RunE: g.asksForever(func(ctx context.Context, a *asking, args []string) error {
			f := &following{a: a, name: args[0], matching: m}
			err := f.follow(ctx)
			if ctx.Err() != nil && f.last != nil {
				return nil // interrupted
			}
			return err
		}),
	}
	m.addTo(c)
	return g.command(c)
}

// following is a service that is printed whenever it has changed.
type following struct {
	*matching
	a    *asking
	name string
	last *httpapi.Instances // as it was printed
}

func (f *following) follow(ctx context.Context) error {
	w := httpapi.WatchOptions{Scope: httpapi.ScopeChildren, Connect: f.a.timeout, Lost: func(err error) {
		f.a.note("the connection is lost: %s; going on at whichever endpoint answers", reason(err))
	}}
	for {
		err := f.until(ctx, w)
		if !errors.Is(err, &op.Error{Code: op.HistoryGone}) {
			return failed(err, "watch the service %s", f.name)
		}
		w.Since = nil // the state as it is says all that was missed
	}
}

// until follows the service until that fails, or ctx ends.
func (f *following) until(ctx context.Context, w httpapi.WatchOptions) error {
	first := true
	for m, err := range f.a.Watch(ctx, op.Join(registry.Dir, f.name), w) {
		if err != nil {
			return err
		}
		if first || len(m.Events) > 0 {
			if err := f.read(ctx, m.Zxid); err != nil {
				return err
			}
			first = false
		}
	}
	return ctx.Err()
}

// read prints the service if it has changed.
func (f *following) read(ctx context.Context, at op.Zxid) error {
	how := f.a.read()
	how.MinZxid = max(how.MinZxid, at)
	s, err := f.a.Resolve(ctx, f.name, f.passing, f.tags, how)
	if err != nil {
		return err
	}
	if f.last == nil || !reflect.DeepEqual(f.last.Instances, s.Instances) {
		f.print(s)
	}
	f.last = s
	return f.a.out.flush()
}

func (f *following) print(s *httpapi.Instances) {
	switch f.a.output {
	case "json":
		f.a.out.json(s.Body)
	case "raw":
		for _, x := range s.Instances {
			f.a.out.line("%s", hostPort(x))
		}
		f.a.out.line("")
	default:
		f.changes(s)
	}
}

// changes prints what has become of each instance.
func (f *following) changes(s *httpapi.Instances) {
	before, now := map[string]httpapi.Instance{}, map[string]bool{}
	if f.last == nil {
		f.a.note("%s has %s; now comes what changes", f.name, plural(len(s.Instances), "instance"))
		f.last = &httpapi.Instances{}
	}
	for _, x := range f.last.Instances {
		before[x.ID] = x
	}
	say := func(what string, x httpapi.Instance) {
		why := ""
		if x.Reason != "" {
			why = "  " + plain(x.Reason)
		}
		f.a.out.line("%-8s %s  %s  %s  %s%s", what, plain(x.ID), hostPort(x), x.Status, tagCell(x.Tags), why)
	}
	for _, x := range s.Instances {
		now[x.ID] = true
		if old, ok := before[x.ID]; !ok {
			say("there", x)
		} else if !reflect.DeepEqual(old, x) {
			say("changed", x)
		}
	}
	for _, x := range f.last.Instances {
		if !now[x.ID] {
			say("gone", x)
		}
	}
}
