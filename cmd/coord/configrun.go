package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"text/template"
	"time"

	"github.com/spf13/cobra"

	"github.com/coord-kv/coord/internal/child"
	"github.com/coord-kv/coord/internal/httpapi"
	"github.com/coord-kv/coord/internal/settings"
)

// supplyFlags are the flags of coord config run.
type supplyFlags struct {
	reload    string
	restart   bool
	templates []string
	envFile   string
	prefix    string
	require   bool
	grace     time.Duration
}

func newConfigRun(g *globals) *cobra.Command {
	o := &supplyFlags{}
	c := &cobra.Command{
		Use:   "run APP [--reload SIGNAL|--restart] [--template FILE:DEST]... -- CMD [ARG...]",
		Short: "Run a program, and keep it supplied with a configuration",
		Long: `Run a program with the values of an application in its environment, in capitals and with _ for what a variable's name
can't have; --prefix puts something in front. Whoever may change the configuration can set any variable, PATH too, unless
there is a prefix.

When the configuration changes, the program is started anew: it gets SIGTERM, and after --grace SIGKILL. With --reload it is
sent a signal instead, such as SIGHUP; the environment that it runs with stays as it was, so give it files:

  --template FILE:DEST   makes DEST of FILE, a template as in Go's text/template, in which {{value "db.url"}} is a value that
                         must be there, {{valueOr "limit" "20"}} one that may be missing, {{.Values}} all of them,
                         {{.App}} and {{.Version}} where they come from
  --env-file DEST        writes the values to DEST as assignments, as coord config get -o env does

Files are replaced as a whole, one after the other, before the program is told. DEST keeps its mode; a new one is for you
alone. What can't be made of a version, because a template fails or two keys become one variable, changes nothing: the
files and the program stay as they are, and this command says why. While no member can be reached the program goes on.

An application of which nobody has written a configuration has no values; that is said, and with --require it is an error.

The program runs without a shell, in a process group of its own, and gets signals passed on. Its environment also has
COORD_CONFIG_APP, COORD_CONFIG_VERSION and COORD_ENDPOINTS.

Exit codes: the program's own, 128 and the signal's number if one ended it, 126 or 127 if it can't be run; 125 if coord
itself fails, or the first configuration can't be used.`,
		Example: `  coord config run shop -- ./server
  coord config run shop --reload SIGHUP --template nginx.conf.tmpl:/etc/nginx/nginx.conf -- nginx -g 'daemon off;'`,
		RunE: g.asksForever(func(ctx context.Context, a *asking, args []string) error {
			s := &supply{supplyFlags: o, a: a, app: args[0], args: args[1:]}
			if err := s.check(); err != nil {
				return err
			}
			return s.run(ctx)
		}),
	}
	f := c.Flags()
	f.StringVar(&o.reload, "reload", "", "send this signal when the configuration has changed, instead of starting anew")
	f.BoolVar(&o.restart, "restart", false, "start the program anew when the configuration has changed; the default")
	f.StringArrayVar(&o.templates, "template", nil, "FILE:DEST, may be given several times")
	f.StringVar(&o.envFile, "env-file", "", "write the values to this file as assignments")
	f.BoolVar(&o.require, "require", false, "don't run the program before somebody has written a configuration")
	f.StringVar(&o.prefix, "prefix", "", "of the variables, such as SHOP_")
	f.DurationVar(&o.grace, "grace", child.DefaultGrace, "time between SIGTERM and SIGKILL")
	exclusive(c, "reload", "restart")
	return g.wrapper(c)
}

var reloadSignals = map[string]syscall.Signal{
	"HUP": syscall.SIGHUP, "USR1": syscall.SIGUSR1, "USR2": syscall.SIGUSR2, "INT": syscall.SIGINT, "TERM": syscall.SIGTERM,
	"QUIT": syscall.SIGQUIT, "WINCH": syscall.SIGWINCH,
}

// supply is a program that is kept supplied.
type supply struct {
	*supplyFlags
	a      *asking
	app    string
	args   []string
	signal syscall.Signal // 0: start anew
	made   []made         // the templates
}

// made is a file that is made of a template.
type made struct {
	template *template.Template
	dest     string
}

// outcome is what a version makes: variables and files.
type outcome struct {
	env   []string
	files map[string][]byte // by name
}

func (s *supply) check() error {
	usage := func(format string, args ...any) error { return usageError(s.a.c, fmt.Errorf(format, args...)) }
	if err := settings.CheckApp(s.app); err != nil {
		return usage("%s", detail(err))
	}
	if s.reload != "" {
		if s.signal = reloadSignals[strings.TrimPrefix(strings.ToUpper(s.reload), "SIG")]; s.signal == 0 {
			return usage("--reload %q: it is SIGHUP, SIGUSR1, SIGUSR2, SIGINT, SIGTERM, SIGQUIT or SIGWINCH", s.reload)
		}
		s.reload = "SIG" + strings.TrimPrefix(strings.ToUpper(s.reload), "SIG")
	}
	if s.grace < 0 {
		return usage("--grace %s: it is 0 or more", s.grace)
	}
	if strings.ContainsAny(s.prefix, "=\x00 ") {
		return usage("--prefix %q: a variable's name has letters, digits and _", s.prefix)
	}
	for _, spec := range s.templates {
		at := strings.LastIndexByte(spec, ':')
		if at < 1 || at == len(spec)-1 {
			return usage("--template %q: it is FILE:DEST", spec)
		}
		text, err := os.ReadFile(spec[:at])
		if err != nil {
			return usage("--template: %w", err)
		}
		t, err := template.New(filepath.Base(spec[:at])).Option("missingkey=error").Funcs(valuesOf(nil)).Parse(string(text))
		if err != nil {
			return usage("--template: %w", err)
		}
		s.made = append(s.made, made{t, spec[at+1:]})
	}
	return nil
}

// valuesOf are the functions that templates have.
func valuesOf(values map[string]string) template.FuncMap {
	return template.FuncMap{
		"value": func(key string) (string, error) {
			v, ok := values[key]
			if !ok {
				return "", fmt.Errorf("there is no key %q", key)
			}
			return v, nil
		},
		"valueOr": func(key, other string) string {
			if v, ok := values[key]; ok {
				return v
			}
			return other
		},
	}
}

// make makes what a version makes, and writes nothing.
func (s *supply) make(x *httpapi.AppConfig) (*outcome, error) {
	out := &outcome{files: map[string][]byte{}}
	list, err := settings.Variables(x.Values)
	if err != nil {
		return nil, errors.New(detail(err))
	}
	for i := range list {
		list[i].Name = s.prefix + list[i].Name
		out.env = append(out.env, list[i].Name+"="+list[i].Value)
	}
	if s.envFile != "" {
		out.files[s.envFile] = settings.Assignments(list)
	}
	for _, m := range s.made {
		var b bytes.Buffer
		data := struct {
			App     string
			Version int64
			Values  map[string]string
		}{s.app, x.Version, x.Values}
		if err := m.template.Funcs(valuesOf(x.Values)).Execute(&b, data); err != nil {
			return nil, err
		}
		out.files[m.dest] = b.Bytes()
	}
	return out, nil
}

func (o *outcome) same(p *outcome) bool {
	return slices.Equal(o.env, p.env) && maps.EqualFunc(o.files, p.files, bytes.Equal)
}

// write replaces the files that are not as they should be.
func (o *outcome) write() error {
	for _, name := range slices.Sorted(maps.Keys(o.files)) {
		if now, err := os.ReadFile(name); err == nil && bytes.Equal(now, o.files[name]) {
			continue
		}
		if err := replaceFile(name, o.files[name]); err != nil {
			return fmt.Errorf("couldn't write %s: %w", name, err)
		}
	}
	return nil
}

// replaceFile replaces a file as a whole, with the mode that it had.
func replaceFile(name string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+"-*") // its mode is 0600
	if err != nil {
		return err
	}
	if info, err := os.Stat(name); err == nil {
		f.Chmod(info.Mode().Perm())
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}

// errRenewed is why a program is stopped that is to be started anew.
var errRenewed = errors.New("the configuration has changed")

// run runs the program until it ends by itself.
func (s *supply) run(ctx context.Context) error {
	first, cancel := context.WithTimeout(ctx, s.a.timeout)
	x, err := s.a.AppConfig(first, s.app, 0, s.a.read())
	cancel()
	if err != nil {
		return failed(err, "get the configuration of %s", s.app)
	}
	if err := s.written(ctx, x); err != nil {
		return err
	}
	now, err := s.make(x)
	if err == nil {
		err = now.write()
	}
	if err != nil {
		return &exitError{
			code: exitWrapper, err: fmt.Errorf("couldn't use version %d of %s", x.Version, s.app), why: err.Error(),
			next: "coord config get " + shellQuote(s.app),
		}
	}
	following, stop := context.WithCancel(context.WithoutCancel(ctx))
	changes, ended := make(chan *httpapi.AppConfig), make(chan struct{})
	go func() {
		defer close(ended)
		s.follow(following, x, changes)
	}()
	defer func() { stop(); <-ended }()
	for {
		p, err := s.start(x, now)
		if err != nil {
			return cannotRun(s.args[0], err)
		}
		if ctx.Err() != nil { // before signals were the program's
			p.Signal(syscall.SIGTERM)
		}
		x, now = s.oversee(p, x, now, changes)
		r := p.Wait()
		switch {
		case r.Reason == errRenewed && ctx.Err() == nil:
			s.a.note("version %d of %s: starting %s anew", x.Version, s.app, s.args[0])
		case r.Code != 0:
			return &exitError{child: true, silent: true, code: r.Code, err: fmt.Errorf("%s failed", s.args[0])}
		default:
			return nil
		}
	}
}

// written says that there is no configuration, if that is so; with --require it is an error.
func (s *supply) written(ctx context.Context, x *httpapi.AppConfig) error {
	if !unwritten(x) {
		return nil
	}
	limited, cancel := context.WithTimeout(ctx, s.a.timeout)
	defer cancel()
	e := s.a.noConfig(limited, s.app, "configuration").(*exitError)
	if s.require {
		e.code = exitWrapper
		return e
	}
	s.a.note("%v: %s; %s has no values from it", e.err, e.why, s.args[0])
	return nil
}

func (s *supply) start(x *httpapi.AppConfig, now *outcome) (*child.Process, error) {
	return child.Start(child.Command{
		Args: s.args, Stdin: s.a.io.in, Stdout: s.a.io.out, Stderr: s.a.io.err, Grace: s.grace,
		Env: append(slices.Clone(now.env), "COORD_CONFIG_APP="+s.app, fmt.Sprintf("COORD_CONFIG_VERSION=%d", x.Version),
			"COORD_ENDPOINTS="+strings.Join(s.a.endpoints, ",")),
	})
}

// oversee supplies a program until it ends or is stopped to be started anew, and returns what is in force then.
func (s *supply) oversee(
	p *child.Process, x *httpapi.AppConfig, now *outcome, changes <-chan *httpapi.AppConfig,
) (*httpapi.AppConfig, *outcome) {
	for {
		var newer *httpapi.AppConfig
		select {
		case <-p.Done():
			return x, now
		case newer = <-changes:
		}
		next, err := s.make(newer)
		if err == nil && next.same(now) {
			continue
		}
		if err == nil {
			err = next.write()
		}
		if err != nil {
			s.a.note("version %d of %s can't be used, and version %d stays in force: %v", newer.Version, s.app, x.Version, err)
			continue
		}
		x, now = newer, next
		if s.signal == 0 {
			p.Stop(errRenewed, s.grace)
			return x, now
		}
		s.a.note("version %d of %s: %s gets %s", x.Version, s.app, s.args[0], s.reload)
		p.Signal(s.signal)
	}
}

const (
	followWait  = 10 * time.Second
	followPause = time.Second // after a failure
)

// follow sends on what the configuration becomes after x, until ctx ends.
func (s *supply) follow(ctx context.Context, x *httpapi.AppConfig, changes chan<- *httpapi.AppConfig) {
	for reached := true; ctx.Err() == nil; {
		// Each endpoint has its share of the time.
		limited, cancel := context.WithTimeout(ctx, time.Duration(len(s.a.endpoints))*(followWait+s.a.timeout))
		next, err := s.a.AwaitConfig(limited, s.app, x.Next, followWait)
		cancel()
		if err != nil {
			if reached && ctx.Err() == nil {
				s.a.note("the configuration of %s can't be followed: %s; what is in force stays", s.app, reason(err))
			}
			reached = false
			select {
			case <-time.After(followPause):
			case <-ctx.Done():
			}
			continue
		}
		if !reached {
			s.a.note("the configuration of %s is followed again", s.app)
		}
		reached = true
		different := next.ETag() != x.ETag() || !maps.Equal(next.Values, x.Values)
		if different && next.Version == 0 && x.Version > 0 {
			s.a.note("the configuration of %s was deleted; what is in force stays", s.app)
			x.Next = next.Next
			continue
		}
		if x = next; !different {
			continue
		}
		select {
		case changes <- x:
		case <-ctx.Done():
		}
	}
}
