package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/coord-kv/coord/internal/child"
	"github.com/coord-kv/coord/internal/httpapi"
	"github.com/coord-kv/coord/op"
)

// watchFlags are the flags of coord watch.
type watchFlags struct {
	recursive, children, once bool
	since                     uint64
	exec                      string
}

func newWatch(g *globals) *cobra.Command {
	o := &watchFlags{}
	c := &cobra.Command{
		Use:   "watch PATH [-R] [--since ZXID] [--once] [--exec CMD [ARG...]]",
		Short: "Print what happens to a node, or run a program for it",
		Long: `Print what happens to a node, as it happens: each change once, in order, with its zxid. The node need not
exist.

A connection that breaks is made anew, to whichever endpoint answers, and nothing is missed meanwhile. After an
interrupt the command says where it was; --since goes on from there, at any member, as far back as history is kept.

-o json prints one event per line, -o raw the data that nodes were given. An event has the data if the node was still as
the event left it when it was sent; if not, a later event has it.

--exec takes the rest of the line as a program and its arguments. It is run once for each event, one after the other,
not through a shell, with these in its environment:

  COORD_EVENT_TYPE   created, changed, deleted or acl_changed
  COORD_EVENT_PATH   the node
  COORD_ZXID         the position; --since with it goes on behind this event's transaction

The first run that fails ends the watch, and the command says from where to go on.

Exit codes: 0, interrupted, or --once is done; 7, history gone: what happened since then can't be told any more. With
--exec, that of the program that failed, 128 and the signal's number if one ended it, 126 or 127 if it can't be run, and
125 if coord itself fails.`,
		Example: `  coord watch /app -R
  coord watch /app/db-url --once
  coord watch /app -R --since 4294967311 -o json
  coord watch /app/config --exec systemctl reload app`,
		Args: func(c *cobra.Command, args []string) error {
			if o.exec != "" && len(args) > 0 {
				args = args[:1] // what follows are arguments of the program
			}
			return pathArgs(0)(c, args)
		},
		ValidArgsFunction: g.completePath,
		RunE: g.asksForever(func(ctx context.Context, a *asking, args []string) error {
			return o.wrapped(o.watch(ctx, a, args))
		}),
	}
	f := c.Flags()
	f.BoolVarP(&o.recursive, "recursive", "R", false, "the node and everything below it")
	f.BoolVar(&o.children, "children", false, "the node and those directly below it")
	f.Uint64Var(&o.since, "since", 0, "begin behind this zxid; without it, now")
	f.BoolVar(&o.once, "once", false, "end after the first transaction that has changed something")
	f.StringVar(&o.exec, "exec", "", "run this program for each event; the rest of the line are its arguments")
	exclusive(c, "recursive", "children")
	return g.command(c)
}

// separateExec puts "--" behind the program of watch --exec, so that what follows is the program's alone.
func separateExec(args []string) []string {
	at := slices.IndexFunc(args, func(s string) bool {
		return s == "--" || s == "--exec" || strings.HasPrefix(s, "--exec=")
	})
	if at < 0 || args[at] == "--" || !slices.Contains(args[:at], "watch") {
		return args
	}
	before, rest := args[:at:at], args[at+1:]
	if args[at] == "--exec" {
		if len(rest) > 0 && rest[0] == "--" {
			rest = rest[1:]
		}
		if len(rest) == 0 {
			return args
		}
		before, rest = append(before, "--exec="+rest[0]), rest[1:]
	} else {
		before = append(before, args[at])
	}
	if len(rest) > 0 && rest[0] == "--" {
		rest = rest[1:]
	}
	return append(append(before, "--"), rest...)
}

// wrapped gives an error of coord's own the exit code that tells it from one of the program.
func (o *watchFlags) wrapped(err error) error {
	e, ok := errors.AsType[*exitError](err)
	if ok && o.exec != "" && !e.child && e.code != exitHistoryGone {
		e.code = exitWrapper
	}
	return err
}

func (o *watchFlags) watch(ctx context.Context, a *asking, args []string) error {
	if o.exec != "" { // better said now than at the first event
		if _, err := exec.LookPath(o.exec); err != nil {
			return cannotRun(o.exec, err)
		}
	}
	w := httpapi.WatchOptions{Connect: a.timeout, Lost: func(err error) {
		a.note("the connection is lost: %s; going on at whichever endpoint answers", reason(err))
	}}
	switch {
	case o.recursive:
		w.Scope = httpapi.ScopeSubtree
	case o.children:
		w.Scope = httpapi.ScopeChildren
	}
	if a.c.Flags().Changed("since") {
		w.Since = (*op.Zxid)(&o.since)
	}
	began := false
	var pos op.Zxid
	for m, err := range a.Watch(ctx, args[0], w) {
		if err != nil {
			return failed(err, "watch %s", args[0])
		}
		if !began {
			began = true
			a.note("watching %s from zxid %d on", args[0], m.Zxid)
		}
		if err := o.show(ctx, a, m, args[1:], pos); err != nil {
			return err
		}
		if pos = m.Zxid; o.once && len(m.Events) > 0 {
			return nil
		}
	}
	if began {
		a.note("interrupted; to go on: --since %d", pos)
		return nil
	}
	return failed(ctx.Err(), "watch %s", args[0])
}

// show prints or runs what the message says. pos is where to go on if that fails.
func (o *watchFlags) show(ctx context.Context, a *asking, m *httpapi.Message, args []string, pos op.Zxid) error {
	for i := range m.Events {
		ev := &m.Events[i]
		if o.exec != "" {
			if err := o.run(ctx, a, ev, args, pos); err != nil {
				return err
			}
			continue
		}
		switch a.output {
		case "json":
			a.out.json(ev.Raw)
		case "raw":
			a.out.value(ev.Bytes())
		default:
			a.out.line("%d  %s  %s%s", ev.Zxid, ev.Type, ev.Path, eventCell(ev))
		}
	}
	return a.out.flush()
}

func eventCell(ev *httpapi.Event) string {
	if data := ev.Bytes(); data != nil {
		return "  " + cell(data)
	}
	return ""
}

// patience is how long an interrupted program has to end.
const patience = 10 * time.Second

// run runs the program for an event. When the command is interrupted, so is the program.
func (o *watchFlags) run(ctx context.Context, a *asking, ev *httpapi.Event, args []string, pos op.Zxid) error {
	p, err := child.Start(child.Command{
		Args: append([]string{o.exec}, args...), Stdout: a.io.out, Stderr: a.io.err,
		Env: []string{
			"COORD_EVENT_TYPE=" + ev.Type, "COORD_EVENT_PATH=" + ev.Path,
			"COORD_ZXID=" + strconv.FormatUint(uint64(ev.Zxid), 10),
		},
	})
	e := &exitError{
		child: true, err: fmt.Errorf("%s failed for %s %s at zxid %d", o.exec, ev.Type, ev.Path, ev.Zxid),
		next: fmt.Sprintf("mend it, then go on with --since %d", pos),
	}
	if err != nil {
		e.code, e.why = child.StartCode(err), err.Error()
		return e
	}
	defer context.AfterFunc(ctx, func() { p.Stop(context.Cause(ctx), patience) })()
	r := p.Wait()
	switch {
	case r.Code == 0:
		return nil
	case r.Signal != 0:
		e.why = "signal: " + r.Signal.String()
	default:
		e.why = fmt.Sprintf("exit status %d", r.Code)
	}
	e.code = r.Code
	return e
}
