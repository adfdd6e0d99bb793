package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"github.com/coord-kv/coord/coord"
	"github.com/coord-kv/coord/internal/httpapi"
	"github.com/coord-kv/coord/op"
)

// globals are the flags that every command has that asks a service. They can stand before the command or behind it.
type globals struct {
	io          stdio
	flags       *pflag.FlagSet
	endpoints   []string
	context     string
	user        string
	timeout     time.Duration
	output      string
	consistency string
	minZxid     uint64
	quiet       bool
	verbose     bool
	color       string
	password    string // from the environment or the context: a flag would be seen by everybody on the machine
}

const defaultEndpoint = "http://127.0.0.1:7070"

func newGlobals(io stdio) *globals {
	g := &globals{io: io, flags: pflag.NewFlagSet("global", pflag.ContinueOnError)}
	f := g.flags
	f.StringSliceVarP(&g.endpoints, "endpoints", "e", []string{defaultEndpoint}, "members, tried one after the other")
	f.StringVarP(&g.context, "context", "c", "", "use this context instead of the current one; see coord context")
	f.StringVar(&g.user, "user", "", "who you are; the password is read from COORD_PASSWORD")
	f.DurationVar(&g.timeout, "timeout", 10*time.Second, "give up after that long")
	f.StringVarP(&g.output, "output", "o", "table", "table for people, json or raw for programs")
	f.StringVar(&g.consistency, "consistency", "", "linearizable (default), sequential, bounded:500ms or eventual")
	f.Uint64Var(&g.minZxid, "min-zxid", 0, "read no state older than this zxid")
	f.BoolVarP(&g.quiet, "quiet", "q", false, "say nothing but data and errors")
	f.BoolVarP(&g.verbose, "verbose", "v", false, "show each request on standard error")
	f.StringVar(&g.color, "color", "auto", "auto, always or never; NO_COLOR means never")
	return g
}

// addTo gives a command the global flags. A flag of the command's own may have the same letter: the global one has no
// letter there then.
func (g *globals) addTo(c *cobra.Command) {
	g.flags.VisitAll(func(f *pflag.Flag) {
		if f.Shorthand != "" && c.Flags().ShorthandLookup(f.Shorthand) != nil {
			f = withoutShorthand(f)
		}
		c.Flags().AddFlag(f)
	})
}

func withoutShorthand(f *pflag.Flag) *pflag.Flag {
	without := *f
	without.Shorthand = ""
	return &without
}

// prepare takes in what the command line left open and checks it. The command line wins over the environment, that over
// the context.
func (g *globals) prepare(c *cobra.Command) error {
	given := map[string]bool{}
	c.Flags().VisitAll(func(f *pflag.Flag) { given[f.Name] = f.Changed }) // copies without a letter are not in g.flags
	g.flags.VisitAll(func(f *pflag.Flag) { f.Changed = f.Changed || given[f.Name] })
	if err := fromEnvironment(g.flags); err != nil {
		return usageError(c, err)
	}
	g.password = os.Getenv("COORD_PASSWORD")
	if err := g.applyContext(); err != nil {
		return err
	}
	if err := g.check(c); err != nil {
		return usageError(c, err)
	}
	if _, set := os.LookupEnv("COORD_PASSWORD"); g.user != "" && g.password == "" && !set {
		g.note("COORD_PASSWORD is not set: %s comes with an empty password", plain(g.user)) // who is another one than with a password
	}
	return nil
}

// outputs names the annotation of commands that have further forms of output.
const outputs = "outputs"

func (g *globals) check(c *cobra.Command) error {
	forms := []string{"table", "json", "raw"}
	if more := c.Annotations[outputs]; more != "" {
		forms = append(strings.Split(more, ","), forms...)
	}
	if last := len(forms) - 1; !slices.Contains(forms, g.output) {
		return fmt.Errorf("--output %q: it is %s or %s", g.output, strings.Join(forms[:last], ", "), forms[last])
	}
	if !slices.Contains([]string{"auto", "always", "never"}, g.color) {
		return fmt.Errorf("--color %q: it is auto, always or never", g.color)
	}
	if g.timeout <= 0 {
		return fmt.Errorf("--timeout %s: it is more than 0", g.timeout)
	}
	if name, _, more := strings.Cut(g.user, ":"); more { // what is behind the colon may be a password
		return fmt.Errorf("--user %q and a colon: it is the name alone, and the password is read from COORD_PASSWORD", name)
	}
	if g.consistency == "" {
		return nil
	}
	level, age, ok := op.CutLevel(g.consistency)
	if !ok {
		return fmt.Errorf("--consistency %q: it is linearizable, sequential, bounded:500ms or eventual", g.consistency)
	}
	if level == op.Bounded {
		if _, err := time.ParseDuration(age); err != nil {
			return fmt.Errorf("--consistency %q: %q is not a duration such as 500ms", g.consistency, age)
		}
		g.consistency = level.String() + "; max=" + age
	}
	return nil
}

// read is how fresh the user wants what is read.
func (g *globals) read() httpapi.Read {
	return httpapi.Read{Consistency: g.consistency, MinZxid: op.Zxid(g.minZxid)}
}

// client returns a client of the endpoints.
func (g *globals) client(c *cobra.Command) (*httpapi.Client, error) {
	cfg := httpapi.Config{
		Endpoints: g.endpoints, User: g.user, Password: g.password, Agent: "coord/" + buildVersion(),
	}
	if g.verbose {
		cfg.Trace = g.trace
	}
	cl, err := httpapi.New(cfg)
	if err != nil {
		return nil, usageError(c, fmt.Errorf("--endpoints: %w", err))
	}
	return cl, nil
}

// dial returns a Go client of the endpoints.
func (g *globals) dial(ctx context.Context) (*coord.Client, error) {
	ctx, cancel := context.WithTimeout(ctx, g.timeout)
	defer cancel()
	opts := []coord.Option{coord.WithEndpoints(g.endpoints...)}
	if g.user != "" {
		opts = append(opts, coord.WithBasicAuth(g.user, g.password))
	}
	return coord.Dial(ctx, opts...)
}

func (g *globals) trace(a httpapi.Attempt) {
	what := "ok"
	if a.Err != nil {
		what = reason(a.Err)
	}
	by := ""
	if a.ServedBy != "" {
		by = " (" + a.ServedBy + ")"
	}
	fmt.Fprintf(g.io.err, "%s %s: %s%s in %s\n", a.Method, a.URL, what, by, a.Took.Round(100*time.Microsecond))
}

// note tells the user something that is no data.
func (g *globals) note(format string, args ...any) {
	if !g.quiet {
		fmt.Fprintf(g.io.err, format+"\n", args...)
	}
}

// asking is one execution of a command: what its flags say, a client, and where the output goes.
type asking struct {
	*globals
	*httpapi.Client
	c   *cobra.Command
	out *printer
}

// askFunc is what a command does that asks a service.
type askFunc = func(ctx context.Context, a *asking, args []string) error

// asks makes RunE of a command that asks a service. Its context has the timeout, unless the command runs until it is
// interrupted and limits its requests itself.
func (g *globals) asks(f askFunc) func(*cobra.Command, []string) error {
	return g.asksForever(func(ctx context.Context, a *asking, args []string) error {
		ctx, cancel := context.WithTimeout(ctx, g.timeout)
		defer cancel()
		return f(ctx, a, args)
	})
}

func (g *globals) asksForever(f askFunc) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, args []string) error {
		if err := g.prepare(c); err != nil {
			return err
		}
		cl, err := g.client(c)
		if err != nil {
			return err
		}
		a := &asking{g, cl, c, newPrinter(g)}
		if err := f(c.Context(), a, args); err != nil {
			a.out.flush()
			return err
		}
		return a.out.flush()
	}
}

// command completes a command that asks a service.
func (g *globals) command(c *cobra.Command) *cobra.Command {
	g.addTo(c)
	return c
}

// pathArgs are the arguments of a command about one node: its path, and up to extra others.
func pathArgs(extra int) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		switch {
		case len(args) == 0:
			return usageError(c, errors.New("the path of a node is missing"))
		case len(args) > 1+extra:
			return usageError(c, fmt.Errorf("unexpected argument %q", args[1+extra]))
		}
		return checkPath(c, args[0])
	}
}

func checkPath(c *cobra.Command, path string) error {
	err := op.CheckPath(path)
	if err == nil {
		return nil
	}
	e := &exitError{code: exitUsage, next: c.CommandPath() + " --help"}
	e.err = fmt.Errorf("%.200q is not the path of a node", path)
	if b, ok := errors.AsType[*op.Error](err); ok {
		e.why = b.Detail
	}
	if fixed := "/" + strings.Trim(path, "/"); op.CheckPath(fixed) == nil {
		e.why = cmp.Or(e.why, "a path begins with a slash and doesn't end in one")
		e.next = c.CommandPath() + " " + fixed
	}
	return e
}

// What the server takes of a node's data and of a transaction at the most. A cluster's own limit on data may be lower.
const (
	maxValue = 4 << 20
	maxTxn   = 8 << 20
)

// data returns what a command is to store: its argument, standard input for "-", nothing without one.
func (a *asking) data(args []string) ([]byte, error) {
	if len(args) < 2 {
		return nil, nil
	}
	if args[1] != "-" {
		return []byte(args[1]), nil
	}
	return a.stdin(maxValue)
}

// stdin reads standard input, but no more than what the server would take.
func (a *asking) stdin(limit int64) ([]byte, error) {
	if closedInput(a.io.in) {
		return nil, &exitError{
			code: exitUsage, err: errors.New("standard input is closed, so there is no value to read"),
			why: `"-" reads the value from standard input`, next: `give it a file or a pipe; an empty value is "" in place of "-"`,
		}
	}
	return a.readInput("standard input", a.io.in, limit)
}

// closedInput reports whether standard input was closed when the command was started. Go opens the null device, for reading
// and writing, in place of a standard stream that is not there, and no empty value must come of that.
func closedInput(r io.Reader) bool {
	f, ok := r.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	null, err2 := os.Stat(os.DevNull)
	if err != nil || err2 != nil || !os.SameFile(info, null) {
		return false
	}
	flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
	return err == nil && flags&unix.O_ACCMODE == unix.O_RDWR
}

func (a *asking) readInput(name string, r io.Reader, limit int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	switch {
	case err != nil:
		return nil, &exitError{
			code: exitOther, err: fmt.Errorf("couldn't read %s", name), why: err.Error(), next: a.c.CommandPath() + " --help",
		}
	case int64(len(b)) > limit:
		return nil, &exitError{
			code: exitOther, err: fmt.Errorf("%s is too large", name), why: fmt.Sprintf("the limit is %d bytes", limit),
			next: "store large things elsewhere, and where they are here",
		}
	}
	return b, nil
}
