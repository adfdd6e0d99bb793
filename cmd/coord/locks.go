package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/coord-kv/coord/internal/httpapi"
	"github.com/coord-kv/coord/op"
)

func newLocks(g *globals) *cobra.Command {
	c := parent(&cobra.Command{
		Use:   "locks",
		Short: "Show, break, acquire and release locks",
		Long: `Show who holds locks and who waits for them, take one away, and acquire and release one in a script. To run a
program while holding a lock, coord lock is better: it keeps the lock alive, and stops the program when it is lost.`,
	})
	c.AddCommand(listLocks(g), showLock(g), breakLock(g), acquireLock(g), releaseLock(g))
	return c
}

// recipeName is the one argument of commands about a lock or an election.
func recipeName(what string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		switch {
		case len(args) == 0:
			return usageError(c, fmt.Errorf("the name of %s is missing", what))
		case len(args) > 1:
			return usageError(c, fmt.Errorf("unexpected argument %q", args[1]))
		}
		return nil
	}
}

// allPages reads a listing to its end.
func allPages[T any](one func(httpapi.Page) (page *T, next string, err error)) (all []*T, err error) {
	for at := (httpapi.Page{}); ; {
		page, next, err := one(at)
		if err != nil {
			return nil, err
		}
		if all = append(all, page); next == "" {
			return all, nil
		}
		at.After = next
	}
}

func listLocks(g *globals) *cobra.Command {
	sort := ""
	c := g.command(&cobra.Command{
		Use:   "ls",
		Short: "List the locks that are held or wanted",
		Long: `List the locks that are held or wanted: who holds each, for how long, and how many wait. Who waits for each other in
a circle is named behind the table; coord locks break ends that.`,
		Example: "  coord locks ls --sort waiters\n  coord locks ls -o json",
		Args:    noArgs,
		RunE: g.asks(func(ctx context.Context, a *asking, _ []string) error {
			if !slices.Contains([]string{"name", "waiters", "age"}, sort) {
				return usageError(a.c, fmt.Errorf("--sort %q: it is name, waiters or age", sort))
			}
			all, err := allPages(func(p httpapi.Page) (*httpapi.Locks, string, error) {
				l, err := a.Locks(ctx, p, a.read())
				if err != nil {
					return nil, "", err
				}
				return l, l.Next, nil
			})
			if err != nil {
				return failed(err, "list the locks")
			}
			return a.locks(all, sort)
		}),
	})
	c.Flags().StringVar(&sort, "sort", "name", "by name, waiters (most first) or age (held longest first)")
	return c
}

func (a *asking) locks(all []*httpapi.Locks, sort string) error {
	var locks []httpapi.Lock
	var circles [][]httpapi.Wait
	var bodies [][]byte
	for _, page := range all {
		locks, circles, bodies = append(locks, page.Locks...), append(circles, page.Deadlocks...), append(bodies, page.Body)
	}
	if a.output == "json" {
		whole, err := merge(bodies, "locks")
		if err != nil {
			return err
		}
		return a.out.encode(whole)
	}
	order(locks, sort)
	rows := [][]string{{"NAME", "MODE", "HOLDER", "TOKEN", "HELD FOR", "WAITERS"}}
	for _, l := range locks {
		if a.output == "raw" {
			a.out.line("%s", l.Name)
			continue
		}
		rows = append(rows, lockRow(&l))
	}
	if a.output != "raw" {
		a.out.table(rows)
	}
	for _, circle := range circles {
		var waits []string
		for _, w := range circle {
			waits = append(waits, fmt.Sprintf("%s (%s) waits for %s, who is before it at %s", plain(w.Owner), w.Session, w.For, plain(w.Lock)))
		}
		a.note("deadlock: %s", strings.Join(waits, "; "))
	}
	return nil
}

// order sorts locks, which are in the order of their names.
func order(locks []httpapi.Lock, by string) {
	since := func(l httpapi.Lock) time.Time {
		if len(l.Holders) == 0 {
			return time.Unix(1<<40, 0)
		}
		return l.Holders[0].Since
	}
	slices.SortStableFunc(locks, func(x, y httpapi.Lock) int {
		switch by {
		case "waiters":
			return cmp.Compare(len(y.Waiters), len(x.Waiters))
		case "age":
			return since(x).Compare(since(y))
		}
		return 0
	})
}

func lockRow(l *httpapi.Lock) []string {
	row := []string{plain(l.Name), plain(l.Mode), "-", "-", "-", strconv.Itoa(len(l.Waiters))}
	if n := len(l.Holders); n > 0 {
		h := &l.Holders[0]
		row[2], row[3], row[4] = plain(h.Owner), decimal(h.Token), h.HeldFor
		if n > 1 {
			row[2] += fmt.Sprintf(" and %d more", n-1)
		}
	} else if d := l.Delayed; d != nil {
		row[2], row[3] = fmt.Sprintf("(only %s until %s)", plain(d.Owner), stamp(d.Until)), decimal(d.Token)
	} else if l.KeptAfter != 0 {
		row[2], row[3] = "(kept after its holder)", decimal(l.KeptAfter)
	}
	return row
}

func showLock(g *globals) *cobra.Command {
	return g.command(&cobra.Command{
		Use:   "show NAME",
		Short: "Show who holds a lock, who waits for it, and who held it",
		Long: `Show who holds a lock, with the token, since when, and when its session ends if nothing more is heard of it; who
waits, in order and for how long; and the tenures of late, newest first, with the reason that each ended.`,
		Example: "  coord locks show nightly\n  coord locks show nightly -o json",
		Args:    recipeName("a lock"),
		RunE: g.asks(func(ctx context.Context, a *asking, args []string) error {
			l, err := a.Lock(ctx, args[0], a.read())
			if err != nil {
				return failed(err, "show lock %q", args[0])
			}
			if a.output == "json" {
				a.out.json(l.Body)
				return nil
			}
			if a.output == "raw" {
				for _, h := range l.Holders {
					a.out.line("%s", h.Owner)
				}
				return nil
			}
			a.showLock(l)
			return nil
		}),
	})
}

func (a *asking) showLock(l *httpapi.Lock) {
	mode := plain(l.Mode)
	if l.Limit > 0 {
		mode += fmt.Sprintf(" of %d", l.Limit)
	}
	a.out.table([][]string{{"lock", plain(l.Name)}, {"mode", mode}})
	if l.KeptAfter != 0 {
		a.out.line("kept for a while after token %d (at least)", l.KeptAfter)
	}
	if d := l.Delayed; d != nil {
		a.out.line("closed to all but %s until %s: the session of its holder, token %d, ended at %s (delay)",
			plain(d.Owner), stamp(d.Until), d.Token, stamp(d.Since))
	}
	a.holders(l.Holders)
	a.waiters(l.Waiters)
	a.history(l.History)
}

func (a *asking) holders(all []httpapi.Contender) {
	rows := [][]string{{"HOLDER", "TOKEN", "SINCE", "HELD FOR", "EXPIRES IN", "SESSION", "METADATA"}}
	for _, h := range all {
		rows = append(rows, []string{
			plain(h.Owner), decimal(h.Token), stamp(h.Since), h.HeldFor, cmp.Or(h.ExpiresIn, "?"), h.Session, plain(h.Metadata),
		})
	}
	a.section(rows)
}

func (a *asking) waiters(all []httpapi.Contender) {
	rows := [][]string{{"WAITER", "POSITION", "WAITING", "SESSION", "METADATA"}}
	for i, w := range all {
		rows = append(rows, []string{plain(w.Owner), strconv.Itoa(i + 1), w.Waiting, w.Session, plain(w.Metadata)})
	}
	a.section(rows)
}

func (a *asking) history(all []httpapi.Tenure) {
	rows := [][]string{{"PAST", "TOKEN", "SINCE", "UNTIL", "ENDED", "BY"}}
	for _, t := range all {
		until := "-"
		if t.Until != nil {
			until = stamp(*t.Until)
		}
		rows = append(rows, []string{plain(t.Owner), decimal(t.Token), stamp(t.Since), until, t.Ended, plain(t.By)})
	}
	a.section(rows)
}

// section prints a table that is not the first, unless it has only its head.
func (a *asking) section(rows [][]string) {
	if len(rows) > 1 {
		a.out.line("")
		a.out.table(rows)
	}
}

func breakLock(g *globals) *cobra.Command {
	yes, token, by := false, uint64(0), ""
	c := g.command(&cobra.Command{
		Use:   "break NAME [-y]",
		Short: "Take a lock from its holder",
		Long: `Take a lock from its holder. At a terminal, it asks first unless -y is given. The next one in line has it then, with a
higher token, and the lock's history says who has done this. The old holder is told, but may go on for a moment: only what
is fenced is safe from it. A lock that a --delay keeps closed is opened so too; one that is taken from its holder is not
delayed.`,
		Example: "  coord locks break nightly\n  coord locks break nightly --token 41 -y",
		Args:    recipeName("a lock"),
		RunE: g.asksForever(func(ctx context.Context, a *asking, args []string) error {
			if !yes && !ask(a.io, fmt.Sprintf("Take lock %q from its holder, who may still be working?", args[0])) {
				return &exitError{code: exitOther, err: fmt.Errorf("didn't break lock %q", args[0])}
			}
			ctx, cancel := context.WithTimeout(ctx, a.timeout)
			defer cancel()
			b, err := a.Break(ctx, args[0], op.Zxid(token), cmp.Or(by, a.somebody()))
			if err != nil {
				return seeing(failed(err, "break lock %q", args[0]), "coord locks show "+shellQuote(args[0]), op.NotHolder)
			}
			if a.output == "json" {
				a.out.json(b.Body)
				return nil
			}
			a.note("taken from %s (%s), token %d", plain(b.Broken.Owner), b.Broken.Session, b.Broken.Token)
			return nil
		}),
	})
	c.Flags().BoolVarP(&yes, "yes", "y", false, "don't ask at a terminal")
	c.Flags().Uint64Var(&token, "token", 0, "only if it is held with this token")
	c.Flags().StringVar(&by, "by", "", byUsage)
	return c
}

// byUsage is the help for --by.
const byUsage = "who does this, for the history; without it, --user, or you at this machine"

func acquireLock(g *globals) *cobra.Command {
	var shared bool
	var limit int
	var wait, ttl, atLeast, delay time.Duration
	var owner string
	c := g.command(&cobra.Command{
		Use:   "acquire NAME",
		Short: "Acquire a lock in a script",
		Long: `Acquire a lock and end. Nothing keeps it alive: the lock is free when --ttl is over, unless coord session keepalive is
run before. In the session of COORD_SESSION, if that is set; else a session is made for the lock and ends with its release.

-o raw prints lines for a shell to evaluate, which set COORD_LOCK, COORD_FENCING_TOKEN, COORD_SESSION and
COORD_SESSION_SECRET for what follows.

Exit code 4: somebody else holds it.`,
		Example: `  eval "$(coord locks acquire nightly --ttl 10m -o raw)"
  coord set /report done -p --fence "$COORD_LOCK=$COORD_FENCING_TOKEN"
  coord locks release nightly --token "$COORD_FENCING_TOKEN"`,
		Args: recipeName("a lock"),
		RunE: g.asksForever(func(ctx context.Context, a *asking, args []string) error {
			q := url.Values{}
			for name, v := range map[string]string{
				"wait": text(wait), "ttl": text(ttl), "at_least": text(atLeast), "delay": text(delay), "owner": owner,
			} {
				if v != "" {
					q.Set(name, v)
				}
			}
			if shared {
				q.Set("shared", "")
			}
			if a.c.Flags().Changed("limit") {
				q.Set("limit", strconv.Itoa(limit))
			}
			w := httpapi.Write{Session: sessionID(""), Secret: sessionSecret()}
			if w.Session == "" && ttl == 0 {
				q.Set("ttl", "15s")
			}
			// One attempt may take as long as the waiting, at each endpoint.
			ctx, cancel := context.WithTimeout(ctx, a.timeout+wait*time.Duration(len(a.Endpoints())))
			defer cancel()
			got, err := a.Acquire(ctx, args[0], q, w)
			if err != nil {
				return lockHeld(failed(err, "acquire lock %q", args[0]), args[0])
			}
			a.granted(got, cmp.Or(got.Secret, w.Secret))
			return nil
		}),
	})
	f := c.Flags()
	f.DurationVar(&wait, "wait", 0, "how long to wait for it, up to 10m")
	f.DurationVar(&ttl, "ttl", 0, "how long the session lives that is made for it (15s)")
	f.StringVar(&owner, "owner", "", "who holds it, for those who look")
	f.BoolVar(&shared, "shared", false, "hold it together with others who say so")
	f.IntVar(&limit, "limit", 0, "a semaphore: so many can hold it, and all must say the same number")
	f.DurationVar(&atLeast, "at-least", 0, "keep it taken at least that long")
	f.DurationVar(&delay, "delay", 0, delayHelp)
	exclusive(c, "shared", "limit", "at-least")
	exclusive(c, "shared", "limit", "delay")
	return c
}

// text returns a duration as a parameter, "" for none.
func text(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return d.String()
}

// lockHeld points to the lock if that is what the error is about.
func lockHeld(err error, name string) error {
	if e, ok := errors.AsType[*exitError](err); ok && e.code == exitConflict {
		e.next = "coord locks show " + shellQuote(name)
	}
	return err
}

func (a *asking) granted(got *httpapi.Grant, secret string) {
	switch a.output {
	case "json":
		a.out.json(got.Body)
	case "raw":
		a.out.line("export COORD_LOCK=%s", shellQuote(got.Lock))
		a.out.line("export COORD_FENCING_TOKEN=%d", got.Token)
		a.out.line("export COORD_SESSION=%s", got.Session)
		a.out.line("export COORD_SESSION_SECRET=%s", secret)
	default:
		a.out.table([][]string{
			{"lock", plain(got.Lock)}, {"token", decimal(got.Token)}, {"session", got.Session}, {"secret", plain(got.Secret)},
			{"expires in", got.ExpiresIn},
		})
	}
}

func releaseLock(g *globals) *cobra.Command {
	token := uint64(0)
	c := g.command(&cobra.Command{
		Use:     "release NAME [--token N]",
		Short:   "Release a lock that this session holds",
		Long:    "Release a lock that the session of COORD_SESSION holds; its secret is read from COORD_SESSION_SECRET.",
		Example: `  coord locks release nightly --token "$COORD_FENCING_TOKEN"`,
		Args:    recipeName("a lock"),
		RunE: g.asks(func(ctx context.Context, a *asking, args []string) error {
			w, err := a.acting()
			if err != nil {
				return err
			}
			got, err := a.Release(ctx, args[0], op.Zxid(token), w)
			if err != nil {
				return lockHeld(failed(err, "release lock %q", args[0]), args[0])
			}
			if a.output == "json" {
				a.out.json(got.Body)
			}
			return nil
		}),
	})
	c.Flags().Uint64Var(&token, "token", 0, "only if it is held with this token")
	return c
}

// acting is the session of the environment.
func (a *asking) acting() (httpapi.Write, error) {
	w := httpapi.Write{Session: sessionID(""), Secret: sessionSecret()}
	switch {
	case w.Session == "":
		return w, usageError(a.c, errors.New("COORD_SESSION is not set: the session that holds it"))
	case w.Secret == "":
		return w, noSecret(w.Session)
	}
	return w, nil
}

func decimal(z op.Zxid) string { return strconv.FormatUint(uint64(z), 10) }
