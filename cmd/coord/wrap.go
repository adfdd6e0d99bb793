package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/coord-kv/coord/coord"
	"github.com/coord-kv/coord/internal/child"
	"github.com/coord-kv/coord/op"
)

// Exit codes of commands that run another program, besides those of the program.
const (
	exitLost    = 123 // what the program ran under was lost, and the program stopped
	exitNotGot  = 124 // it was not got in time
	exitWrapper = 125 // coord itself failed
)

// wrapperCodes is the part of a command's help about its exit codes.
const wrapperCodes = `
Exit codes: the program's own, 128 and the signal's number if one ended it, 126 or 127 if it can't be run; 124 (or what
-E says) if %[1]s was not got in time; 123 if %[1]s was lost while the program ran; 125 if coord itself fails.`

// wrapperEnv is the part of a command's help about how the program runs.
const wrapperEnv = `
The program runs without a shell, in a process group of its own, which is given SIGINT, SIGTERM, SIGHUP, SIGQUIT,
SIGUSR1 and SIGUSR2. When it ends, what it has left behind is ended too.

If %[1]s is lost, the group gets SIGTERM, and after --grace SIGKILL; another one may have it by then already. If the
service can't be reached, that is done before anybody else can get it, with a grace of a third of --ttl at the most. Only
what is done with the fencing token is safe in any case.

The program's environment has COORD_ENDPOINTS, COORD_SESSION, COORD_SESSION_SECRET_FILE with the name of a file that is
there while it runs, and:
`

// wrapFlags are the flags of commands that run a program while they hold something.
type wrapFlags struct {
	ttl, grace, wait time.Duration
	notGot           int
	name             string // for people
	shell            bool
}

func (w *wrapFlags) add(c *cobra.Command, nameFlag, nameHelp string) {
	f := c.Flags()
	f.DurationVar(&w.wait, "wait", 0, "give up after that long; without it, wait as long as it takes")
	f.IntVarP(&w.notGot, "conflict-exit-code", "E", exitNotGot, "exit code if it is not got in time; 0 with -q: without a word")
	f.DurationVar(&w.ttl, "ttl", 15*time.Second, "how long it is kept after the last sign of life of this command")
	f.DurationVar(&w.grace, "grace", child.DefaultGrace, "time between SIGTERM and SIGKILL")
	f.StringVar(&w.name, nameFlag, "", nameHelp+"; without it, the machine's name and the process's number")
	f.BoolVar(&w.shell, "shell", false, "run the words behind -- as a line for /bin/sh")
}

// check refuses what can't be meant.
func (w *wrapFlags) check(c *cobra.Command) error {
	for name, d := range map[string]time.Duration{"wait": w.wait, "grace": w.grace} {
		if d < 0 {
			return usageError(c, fmt.Errorf("--%s %s: it is 0 or more", name, d))
		}
	}
	if err := checkTTL("ttl", w.ttl); err != nil {
		return usageError(c, err)
	}
	if w.notGot < 0 || w.notGot > 255 {
		return usageError(c, fmt.Errorf("--conflict-exit-code %d: it is 0 to 255", w.notGot))
	}
	if w.name == "" {
		host, _ := os.Hostname()
		w.name = host + ":" + strconv.Itoa(os.Getpid())
	}
	return nil
}

// checkTTL refuses what no session can have. What is less or more than a cluster grants is for the cluster to say.
func checkTTL(flag string, ttl time.Duration) error {
	if ttl < time.Millisecond || ttl%time.Millisecond != 0 {
		return fmt.Errorf("--%s %s: it is at least 1ms, in whole milliseconds", flag, ttl)
	}
	return nil
}

// noteTTL says so if a session lives for another time than was asked for.
func (a *asking) noteTTL(asked, granted time.Duration) {
	switch {
	case granted > asked:
		a.note("--ttl %s is less than this cluster grants: it is %s", asked, granted)
	case granted < asked:
		a.note("--ttl %s is more than this cluster grants: it is %s", asked, granted)
	}
}

// wrapper completes a command that runs a program: what goes wrong before that, or around it, has exit code 125.
func (g *globals) wrapper(c *cobra.Command) *cobra.Command {
	c.Args, c.PreRunE, c.RunE = g.wrapped(programArgs), g.wrapped(c.PreRunE), g.wrapped(c.RunE)
	c.DisableFlagsInUseLine = true
	c.SetFlagErrorFunc(func(c *cobra.Command, err error) error { return asWrapper(flagError(c, err)) })
	return g.command(c)
}

// maybeWrapper is wrapper for a command that can do without a program: then name checks its arguments, and its exit codes
// are those of any command. Whether there is a program isn't known where a flag is wrong.
func (g *globals) maybeWrapper(c *cobra.Command, name cobra.PositionalArgs) *cobra.Command {
	alone := c.RunE
	c = g.wrapper(c)
	program, run := c.Args, c.RunE
	c.Args = func(c *cobra.Command, args []string) error {
		if c.ArgsLenAtDash() < 0 && len(args) < 2 {
			return name(c, args)
		}
		if err := program(c, args); err != nil {
			return err
		}
		return asWrapper(name(c, args[:1]))
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		if len(args) < 2 {
			return alone(c, args)
		}
		return run(c, args)
	}
	return c
}

func (g *globals) wrapped(f func(*cobra.Command, []string) error) func(*cobra.Command, []string) error {
	if f == nil {
		return nil
	}
	return func(c *cobra.Command, args []string) error {
		err := asWrapper(f(c, args))
		if e, ok := errors.AsType[*exitError](err); ok && e.code == exitOK { // -E 0: it is no failure
			e.silent = e.silent || g.quiet
		}
		return err
	}
}

// asWrapper gives an error of coord's own the exit code that tells it from one of the program.
func asWrapper(err error) error {
	if e, ok := errors.AsType[*exitError](err); ok && !e.child {
		e.code = exitWrapper
	}
	return err
}

// programArgs are a name, --, and a program with its arguments.
func programArgs(c *cobra.Command, args []string) error {
	before := c.ArgsLenAtDash()
	switch {
	case len(args) == 0 || before == 0:
		return usageError(c, errors.New("the name is missing"))
	case before < 0 && len(args) == 1:
		return usageError(c, errors.New("-- and a program are missing"))
	case before != 1 && len(args) > 1:
		e := usageError(c, fmt.Errorf("%q stands before --, where only the name does", args[1])).(*exitError)
		if before < 0 {
			e.next = c.CommandPath() + " " + shellQuote(args[0]) + " --"
			for _, a := range args[1:] {
				e.next += " " + shellQuote(a)
			}
		}
		return e
	case len(args) == 1:
		return usageError(c, errors.New("a program is missing behind --"))
	}
	return nil
}

// signalled is why a command was interrupted.
type signalled struct{ syscall.Signal }

func (s signalled) Error() string { return "interrupted by " + unix.SignalName(s.Signal) }

// untilSignal returns a context that ends with the first of these signals.
func untilSignal(ctx context.Context, signals ...os.Signal) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	c := make(chan os.Signal, 1)
	signal.Notify(c, signals...)
	go func() {
		select {
		case s := <-c:
			cancel(signalled{s.(syscall.Signal)})
		case <-ctx.Done():
		}
	}()
	return ctx, func() { signal.Stop(c); cancel(nil) }
}

// interrupted is the error of a command that has ended before its program ran, because it was told to.
func interrupted(ctx context.Context, what string) error {
	code := child.Signalled + int(syscall.SIGINT)
	if s, ok := errors.AsType[signalled](context.Cause(ctx)); ok {
		code = child.Signalled + int(s.Signal)
	}
	return &exitError{child: true, code: code, err: errors.New(what), why: context.Cause(ctx).Error()}
}

// session opens a session for what the program runs under. close ends it.
func (w *wrapFlags) session(ctx context.Context, a *asking) (s *coord.Session, closeAll func(), err error) {
	limited, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	client, err := a.dial(limited)
	if err == nil {
		if s, err = client.Session(limited, coord.TTL(w.ttl), coord.Name(w.name)); err != nil {
			client.Close()
		}
	}
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, nil, interrupted(ctx, "opened no session")
	case err != nil:
		return nil, nil, notReached(err, "open a session")
	}
	a.noteTTL(w.ttl, s.TTL())
	return s, func() {
		limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.timeout)
		defer cancel()
		s.Close(limited) // if that fails, it expires
		client.Close()
	}, nil
}

// notReached is clientFailed for what begins with a connection.
func notReached(err error, what string) error {
	out := clientFailed(err, "%s", what).(*exitError)
	if errors.Is(err, context.DeadlineExceeded) {
		out.next = nobodyThere
	}
	return out
}

// clientFailed makes an error of the Go client the error of a command.
func clientFailed(err error, what string, args ...any) error {
	out := &exitError{code: exitOther, err: fmt.Errorf("couldn't "+what, args...), next: nobodyThere}
	out.why = strings.NewReplacer("\n", " ", context.DeadlineExceeded.Error(), "gave up when --timeout was over").Replace(err.Error())
	e, ok := errors.AsType[*op.Error](err)
	switch {
	case ok:
		out.code, out.next = codes[e.Code].exit, nextFor(e.Path, codes[e.Code].next)
		if e.Code == op.SessionExpired {
			out.next = "run it again: it opens a session of its own"
		}
	case errors.Is(err, context.DeadlineExceeded):
		out.next = "coord status"
	}
	return out
}

// tenure is what a program runs under.
type tenure struct {
	what    string          // such as lock "nightly"
	see     string          // the command that shows it
	ctx     context.Context // ends when it is lost
	release func(context.Context) error
	env     []string

	// Of those that need more than to be held and released:
	stdin io.Reader                                 // the program's; nil for this command's
	ended func(context.Context, child.Result) error // instead of release, when the program has ended; ctx is the command's
}

// run runs the program while the tenure lasts, ends what is left of both, and returns how it went.
func (w *wrapFlags) run(ctx context.Context, a *asking, s *coord.Session, t tenure, args []string) error {
	release := func() error {
		limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.timeout)
		defer cancel()
		return t.release(limited)
	}
	if ctx.Err() != nil {
		release()
		return interrupted(ctx, "gave "+t.what+" back before anything ran")
	}
	secret, err := secretFile(s)
	if err != nil {
		release()
		return &exitError{code: exitWrapper, err: errors.New("couldn't write the session's secret to a file"), why: err.Error()}
	}
	defer os.Remove(secret)
	if w.shell {
		args = []string{"/bin/sh", "-c", strings.Join(args, " ")}
	}
	stdin := a.io.in
	if t.stdin != nil {
		stdin = t.stdin
	}
	p, err := child.Start(child.Command{
		Args: args, Stdin: stdin, Stdout: a.io.out, Stderr: a.io.err, Grace: w.grace,
		Env: append(t.env, "COORD_SESSION="+s.ID(), "COORD_SESSION_SECRET_FILE="+secret,
			"COORD_ENDPOINTS="+strings.Join(a.endpoints, ",")),
	})
	if err != nil {
		release()
		return cannotRun(args[0], err)
	}
	if ctx.Err() != nil { // before signals were the program's
		p.Signal(syscall.SIGTERM)
	}
	w.guard(s, t.ctx, p)
	r := p.Wait()
	var gone error
	if t.ended != nil {
		gone = t.ended(ctx, r)
	} else {
		gone = release()
	}
	if r.Reason != nil || errors.Is(gone, coord.ErrSessionExpired) || errors.Is(gone, &op.Error{Code: op.NotHolder}) {
		return lost(t, args[0], r, gone)
	}
	if gone != nil {
		a.note("%s could not be given back, and expires: %v", t.what, gone)
	}
	if r.Code != 0 {
		return &exitError{child: true, silent: true, code: r.Code, err: fmt.Errorf("%s failed", args[0])}
	}
	return nil
}

// outOfTouch is why a program is stopped that long after its session could be proven alive. It is stopped before, unless
// this very process stood still.
func outOfTouch(late time.Duration) error {
	if late > time.Second {
		return errors.New("this command stood still, or the machine slept, for so long that somebody else may have it by now")
	}
	return errors.New("the service could not be reached for so long that somebody else may get it soon")
}

// guard stops the program when the tenure is lost; and, while the session can't be proven alive, so early that nothing of
// the program runs any more when it may be another's. It returns when there is nothing more to do.
func (w *wrapFlags) guard(s *coord.Session, held context.Context, p *child.Process) {
	reserve := min(w.grace, s.TTL()/3)
	for {
		spare := time.Until(s.ValidUntil()) - reserve
		if spare <= 0 {
			p.Stop(outOfTouch(-spare-reserve), time.Until(s.ValidUntil()))
			return
		}
		again := time.NewTimer(spare)
		select {
		case <-p.Done():
		case <-held.Done():
			p.Stop(context.Cause(held), w.grace)
		case <-again.C:
			continue
		}
		again.Stop()
		return
	}
}

func lost(t tenure, program string, r child.Result, gone error) error {
	e := &exitError{child: true, code: exitLost, next: t.see}
	reason := r.Reason
	if reason == nil {
		e.err = fmt.Errorf("%s was lost just before %s ended, with status %d", t.what, program, r.Code)
		reason = gone
	} else {
		e.err = fmt.Errorf("%s was lost while %s ran, which was stopped, with status %d", t.what, program, r.Code)
	}
	e.why = strings.ReplaceAll(reason.Error(), "\n", " ")
	return e
}

func cannotRun(program string, err error) error {
	e := &exitError{child: true, code: child.StartCode(err), err: fmt.Errorf("couldn't run %s", program), why: err.Error()}
	e.next = "is it there, and spelled as it is called?"
	if e.code == child.CannotExecute {
		e.next = "is it executable, and does a script begin with #! and its interpreter?"
	}
	return e
}

// secretFile writes the session's secret to a file that only this user can read, and returns its name.
func secretFile(s *coord.Session) (string, error) {
	f, err := os.CreateTemp(os.Getenv("XDG_RUNTIME_DIR"), "coord-session-")
	if err != nil {
		return "", err
	}
	_, err = f.WriteString(base64.RawURLEncoding.EncodeToString(s.Secret()) + "\n")
	if err = errors.Join(err, f.Close()); err != nil {
		os.Remove(f.Name())
	}
	return f.Name(), err
}
