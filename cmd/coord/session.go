package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/coord-kv/coord/internal/httpapi"
	"github.com/coord-kv/coord/op"
)

// The session to act in comes from a flag or the environment, its secret from the environment alone: everybody on a
// machine sees command lines.
func sessionID(flag string) string {
	if flag != "" {
		return flag
	}
	return os.Getenv("COORD_SESSION")
}

// sessionSecret returns the secret; coord lock and its kin give their programs a file that has it.
func sessionSecret() string {
	if s := os.Getenv("COORD_SESSION_SECRET"); s != "" {
		return s
	}
	b, _ := os.ReadFile(os.Getenv("COORD_SESSION_SECRET_FILE")) // without one, the secret is missing
	return strings.TrimSpace(string(b))
}

func noSecret(id string) error {
	return &exitError{
		code: exitDenied, err: fmt.Errorf("the secret of session %s is missing", id),
		why:  "whoever acts in a session proves that it is theirs",
		next: "set COORD_SESSION_SECRET to what coord session open printed",
	}
}

// family is coord session or coord lease: the same commands, for what two audiences call by two names.
type family struct {
	g    *globals
	kind httpapi.Kind
	noun string
}

func newSession(g *globals) *cobra.Command {
	f := &family{g, httpapi.SessionKind, "session"}
	return f.command("Open, show, keep alive and end sessions", "open", "close",
		`An ephemeral node lives as long as the session that created it, a session as long as somebody keeps it alive.

	eval "$(coord session open --ttl 1m -o raw)"     # sets COORD_SESSION and COORD_SESSION_SECRET
	coord session keepalive --hold &
	coord create /workers/w1 10.0.0.1:80 -e -p

The secret is shown once, by open. Who has only one node to keep uses coord create -e --hold.`)
}

func newLease(g *globals) *cobra.Command {
	f := &family{g, httpapi.LeaseKind, "lease"}
	return f.command("Grant, show, keep alive and revoke leases", "grant", "revoke",
		`A lease is a session that only requests keep alive, never a connection. Nodes hang on it that are created as
ephemeral in it, and go when it ends.

	eval "$(coord lease grant --ttl 10m -o raw)"     # sets COORD_SESSION and COORD_SESSION_SECRET
	coord create /reservations/seat-7 ann -e -p
	coord lease keepalive                            # within ten minutes, again and again`)
}

func (f *family) command(short, begin, end, long string) *cobra.Command {
	c := parent(&cobra.Command{Use: f.noun, Aliases: []string{f.noun + "s"}, Short: short, Long: strings.ReplaceAll(long, "\t", "  ")})
	c.AddCommand(f.open(begin), f.show(), f.list(), f.keepAlive(), f.close(end))
	if f.kind == httpapi.SessionKind {
		c.AddCommand(f.setTTL())
	}
	return c
}

// idArgs is the one argument of most of these commands: which session, or the environment says it.
func (f *family) idArgs(c *cobra.Command, args []string) error {
	if len(args) > 1 {
		return usageError(c, fmt.Errorf("unexpected argument %q", args[1]))
	}
	if len(args) == 0 && os.Getenv("COORD_SESSION") == "" {
		return usageError(c, fmt.Errorf("the id of the %s is missing; COORD_SESSION can have it too", f.noun))
	}
	return nil
}

func (f *family) id(args []string) string {
	if len(args) > 0 {
		return args[0]
	}
	return os.Getenv("COORD_SESSION")
}

func (f *family) open(verb string) *cobra.Command {
	o := httpapi.OpenOptions{}
	c := &cobra.Command{
		Use:   verb,
		Short: strings.ToUpper(verb[:1]) + verb[1:] + " a " + f.noun + " and print its id and secret",
		Long: strings.ToUpper(verb[:1]) + verb[1:] + " a " + f.noun + ` and print its id and secret. The secret is shown
here and never again.

-o raw prints lines for a shell to evaluate, which set COORD_SESSION and COORD_SESSION_SECRET for what follows.`,
		Example: "  coord " + f.noun + " " + verb + " --ttl 1m\n" +
			"  eval \"$(coord " + f.noun + " " + verb + " --ttl 1m --name worker-1 -o raw)\"",
		Args: noArgs,
		RunE: f.g.asks(func(ctx context.Context, a *asking, _ []string) error {
			if err := checkTTL("ttl", o.TTL); err != nil {
				return usageError(a.c, err)
			}
			o.Previous = os.Getenv("COORD_PREVIOUS_SECRET")
			s, err := a.Open(ctx, f.kind, o)
			if err != nil {
				return failed(err, "%s a %s", verb, f.noun)
			}
			switch a.output {
			case "json":
				a.out.json(s.Body)
			case "raw":
				a.out.line("export COORD_SESSION=%s", s.ID)
				a.out.line("export COORD_SESSION_SECRET=%s", s.Secret)
			default:
				a.out.table([][]string{{"id", s.ID}, {"secret", s.Secret}, {"ttl", s.TTL}})
			}
			return nil
		}),
	}
	flags := c.Flags()
	flags.DurationVar(&o.TTL, "ttl", 15*time.Second, "how long it lives without a sign of life")
	flags.StringVar(&o.Name, "name", "", "for people")
	flags.StringVar(&o.Metadata, "metadata", "", "for people and programs, up to 4 KiB")
	flags.StringVar(&o.Identity, "identity", "",
		"ends the live one of the same identity, whose secret is read from COORD_PREVIOUS_SECRET")
	return f.g.command(c)
}

func (f *family) show() *cobra.Command {
	return f.g.command(&cobra.Command{
		Use:     "show [ID]",
		Short:   "Show a " + f.noun + ", the time that it has left, and its nodes",
		Example: "  coord " + f.noun + " show s-5",
		Args:    f.idArgs,
		RunE: f.g.asks(func(ctx context.Context, a *asking, args []string) error {
			s, err := a.Session(ctx, f.kind, f.id(args), a.read())
			if err != nil {
				return failed(err, "show %s", f.id(args))
			}
			if a.output == "json" {
				a.out.json(s.Body)
				return nil
			}
			a.out.table(sessionRows(s))
			return nil
		}),
	})
}

func sessionRows(s *httpapi.Session) [][]string {
	what := "session"
	if s.Lease {
		what = "lease"
	}
	rows := [][]string{
		{"id", s.ID}, {"kind", what}, {"name", plain(s.Name)}, {"identity", plain(s.Identity)}, {"ttl", s.TTL},
		{"time_left", plain(s.TimeLeft)}, {"opened", stamp(s.Opened)}, {"ephemerals", fmt.Sprint(s.Ephemerals)},
	}
	if s.Metadata != nil {
		rows = append(rows, []string{"metadata", cell([]byte(*s.Metadata))})
	}
	for _, n := range s.Nodes {
		rows = append(rows, []string{"node", n})
	}
	if s.Hidden > 0 {
		rows = append(rows, []string{"node", fmt.Sprintf("and %d that you may not read", s.Hidden)})
	}
	return rows
}

// plain returns s as it can stand in a table: names of sessions may have any character.
func plain(s string) string {
	switch {
	case s == "":
		return "-"
	case !printable([]byte(s)) || strings.ContainsAny(s, "\n\t"):
		return cell([]byte(s))
	}
	return s
}

func (f *family) list() *cobra.Command {
	p := httpapi.Page{}
	c := &cobra.Command{
		Use:     "ls",
		Short:   "List the " + f.noun + "s",
		Example: "  coord " + f.noun + " ls\n  coord " + f.noun + " ls -o json",
		Args:    noArgs,
		RunE: f.g.asks(func(ctx context.Context, a *asking, _ []string) error {
			rows := [][]string{{"ID", "KIND", "TTL", "NODES", "OPENED", "NAME"}}
			next, bodies, err := f.pages(ctx, a, p, func(s *httpapi.Session) {
				kind := "session"
				if s.Lease {
					kind = "lease"
				}
				rows = append(rows, []string{s.ID, kind, s.TTL, fmt.Sprint(s.Ephemerals), stamp(s.Opened), plain(s.Name)})
			})
			if err != nil {
				return failed(err, "list the %ss", f.noun)
			}
			if a.output == "json" {
				form, err := merge(bodies, string(f.kind))
				if err != nil {
					return err
				}
				if next != "" {
					form["next"], _ = quoteJSON(next)
				}
				return a.out.encode(form)
			}
			if a.output == "raw" {
				rows = rows[1:]
			}
			a.out.table(rows)
			if next != "" {
				a.note("there is more: --after %s", next)
			}
			return nil
		}),
	}
	c.Flags().IntVar(&p.Limit, "limit", 0, "no more than so many; without it, all")
	c.Flags().StringVar(&p.After, "after", "", "begin behind this id")
	return f.g.command(c)
}

// pages reads one page if a limit is given, else all of them.
func (f *family) pages(
	ctx context.Context, a *asking, p httpapi.Page, each func(*httpapi.Session),
) (next string, bodies [][]byte, err error) {
	for {
		l, err := a.Sessions(ctx, f.kind, p, a.read())
		if err != nil {
			return "", nil, err
		}
		bodies = append(bodies, l.Body)
		for _, list := range [][]httpapi.Session{l.Sessions, l.Leases} {
			for i := range list {
				each(&list[i])
			}
		}
		if l.Next == "" || p.Limit > 0 {
			return l.Next, bodies, nil
		}
		p.After = l.Next
	}
}

func (f *family) keepAlive() *cobra.Command {
	hold := false
	c := &cobra.Command{
		Use:   "keepalive [ID]",
		Short: "Keep a " + f.noun + " alive, once or with --hold until interrupted",
		Long: "Keep a " + f.noun + ` alive. Its secret is read from COORD_SESSION_SECRET. It then lives at least its
ttl longer, counted from when the command was started.

With --hold the command goes on running and repeats it in time, until it is interrupted; that leaves it to expire.

Exit code 3: it has ended. 5: with --hold, it could not be kept alive in time, so it has ended or will.`,
		Example: "  coord " + f.noun + " keepalive s-5\n  coord " + f.noun + " keepalive --hold &",
		Args:    f.idArgs,
		RunE: f.g.asksForever(func(ctx context.Context, a *asking, args []string) error {
			l := &life{a: a, kind: f.kind, id: f.id(args), secret: sessionSecret()}
			if l.secret == "" {
				return noSecret(l.id)
			}
			alive, err := l.beat(ctx)
			if err != nil {
				return failed(err, "keep %s alive", l.id)
			}
			switch {
			case hold:
				a.note("%s is kept alive until you interrupt this command (Ctrl-C)", l.id)
				return l.keep(ctx)
			case a.output == "json":
				a.out.json(alive.Body)
			case !a.quiet:
				a.out.line("%s lives at least %s longer", l.id, alive.TTL)
			}
			return nil
		}),
	}
	c.Flags().BoolVar(&hold, "hold", false, "go on until interrupted")
	return f.g.command(c)
}

func (f *family) setTTL() *cobra.Command {
	return f.g.command(&cobra.Command{
		Use:     "ttl DURATION [ID]",
		Short:   "Change the ttl of a session or lease",
		Long:    "Change the ttl of a session or lease. Its secret is read from COORD_SESSION_SECRET.",
		Example: "  coord session ttl 1m s-5",
		Args: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usageError(c, errors.New("the duration is missing, such as 1m"))
			}
			if _, err := time.ParseDuration(args[0]); err != nil {
				return usageError(c, fmt.Errorf("%q is not a duration such as 1m", args[0]))
			}
			return f.idArgs(c, args[1:])
		},
		RunE: f.g.asks(func(ctx context.Context, a *asking, args []string) error {
			ttl, _ := time.ParseDuration(args[0]) // Args has checked it
			id := f.id(args[1:])
			if sessionSecret() == "" {
				return noSecret(id)
			}
			alive, err := a.SetTTL(ctx, f.kind, id, sessionSecret(), ttl)
			if err != nil {
				return failed(err, "change the ttl of %s", id)
			}
			if a.output == "json" {
				a.out.json(alive.Body)
			} else if !a.quiet {
				a.out.line("%s has the ttl %s", id, alive.TTL)
			}
			return nil
		}),
	})
}

func (f *family) close(verb string) *cobra.Command {
	kill := false
	c := &cobra.Command{
		Use:     verb + " [ID]",
		Aliases: []string{"kill"}, // which is to end somebody else's
		Short:   "End a " + f.noun + "; its nodes go with it",
		Long: "End a " + f.noun + `; its nodes go with it, at once. Its secret is read from COORD_SESSION_SECRET.

--kill, or kill in place of ` + verb + `, ends somebody else's. That takes the permission to administer the root. Nodes that
were created with a ttl stay that long then.`,
		Example: "  coord " + f.noun + " " + verb + " s-5\n  coord " + f.noun + " " + verb + " s-5 --kill",
		Args:    f.idArgs,
		RunE: f.g.asks(func(ctx context.Context, a *asking, args []string) error {
			id, secret := f.id(args), sessionSecret()
			if kill || a.c.CalledAs() == "kill" {
				secret = ""
			} else if secret == "" {
				return noSecret(id)
			}
			res, err := a.Close(ctx, f.kind, id, secret)
			if err != nil {
				return failed(err, "end %s", id)
			}
			if a.output == "json" {
				a.out.json(res.Body)
			} else if !a.quiet {
				a.out.line("%s has ended", id)
			}
			return nil
		}),
	}
	c.Flags().BoolVar(&kill, "kill", false, "end somebody else's, without its secret")
	return f.g.command(c)
}

// life keeps one session alive.
type life struct {
	a          *asking
	kind       httpapi.Kind
	id, secret string
	ttl        time.Duration
	safe       time.Time // the session lives at least until then, by the monotonic clock
}

// openLife opens a session to be kept alive.
func (a *asking) openLife(ctx context.Context, k httpapi.Kind, o httpapi.OpenOptions) (*life, error) {
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	start := time.Now()
	s, err := a.Open(ctx, k, o)
	if err != nil {
		return nil, failed(err, "open a session")
	}
	l := &life{a: a, kind: k, id: s.ID, secret: s.Secret}
	return l, l.lives(start, s.TTL)
}

// lives takes in that the session lives at least ttl longer from start on, when the request was sent that was answered
// so.
func (l *life) lives(start time.Time, ttl string) error {
	d, err := time.ParseDuration(ttl)
	if err != nil || d <= 0 {
		return failed(fmt.Errorf("its ttl is %q", ttl), "keep %s alive", l.id)
	}
	l.ttl, l.safe = d, start.Add(d)
	return nil
}

// beat gives one sign of life.
func (l *life) beat(ctx context.Context) (*httpapi.Alive, error) {
	limit := l.a.timeout
	if l.ttl > 0 {
		limit = min(limit, time.Until(l.safe))
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	start := time.Now()
	alive, err := l.a.KeepAlive(ctx, l.kind, l.id, l.secret)
	if err != nil {
		return nil, err
	}
	return alive, l.lives(start, alive.TTL)
}

// keep gives signs of life until ctx ends, which is no error, or the session has ended or can't be said to live.
func (l *life) keep(ctx context.Context) error {
	wait := l.ttl / 3
	for {
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return nil
		case <-t.C:
		}
		_, err := l.beat(ctx)
		wait = l.ttl / 3
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
		case l.over(err):
			out := failed(err, "keep %s alive", l.id).(*exitError)
			out.next = "its nodes are gone, or will be soon; start anew"
			return out
		default:
			wait = min(wait, time.Second)
			l.a.note("no sign of life of %s got through: %s; trying again", l.id, reason(err))
		}
	}
}

// over reports whether no further attempt makes sense.
func (l *life) over(err error) bool {
	for _, code := range [...]op.Code{op.SessionExpired, op.NoSession, op.Unauthenticated, op.Denied} {
		if errors.Is(err, &op.Error{Code: code}) {
			return true
		}
	}
	return !time.Now().Before(l.safe)
}

// closing is how long the end of a session may take. Whoever has interrupted the command waits for it.
const closing = 2 * time.Second

// close ends the session. If that can't be done it expires by itself.
func (l *life) close() {
	ctx, cancel := context.WithTimeout(context.Background(), closing)
	defer cancel()
	_, err := l.a.Close(ctx, l.kind, l.id, l.secret)
	gone := errors.Is(err, &op.Error{Code: op.SessionExpired}) || errors.Is(err, &op.Error{Code: op.NoSession})
	if err != nil && !gone {
		l.a.note("couldn't end %s: %s; it expires within %s", l.id, reason(err), l.ttl)
	}
}
