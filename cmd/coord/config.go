package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/coord-kv/coord/internal/httpapi"
	"github.com/coord-kv/coord/internal/near"
	"github.com/coord-kv/coord/internal/settings"
)

func newConfig(g *globals) *cobra.Command {
	c := parent(&cobra.Command{
		Use:   "config",
		Short: "Values of applications, changed live, with a history and a way back",
		Long: `Values of applications, changed several at once, with a history that says who changed what, when and why, and a way
back. docs/app-config.md is a tour. What coord itself is configured with is in docs/configuration.md;
explain shows what this tool is set to.

Values are nodes below /config/APP: coord rm -R /config/APP deletes all of an application, its history too.`,
	})
	c.AddCommand(configLs(g), configGet(g), configSet(g), configRm(g), configHistory(g), configDiff(g), configRollback(g), configWatch(g),
		newConfigRun(g), configExplain(g))
	return c
}

// appArgs are the arguments of a command about an application, and between least and most others.
func appArgs(least, most int, others string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		switch {
		case len(args) == 0:
			return usageError(c, errors.New("the name of an application is missing"))
		case len(args)-1 < least:
			return usageError(c, fmt.Errorf("%s is missing", others))
		case most >= 0 && len(args)-1 > most:
			return usageError(c, fmt.Errorf("unexpected argument %q", args[1+most]))
		}
		if err := settings.CheckApp(args[0]); err != nil {
			return usageError(c, errors.New(detail(err)))
		}
		return nil
	}
}

func configLs(g *globals) *cobra.Command {
	return g.command(&cobra.Command{
		Use:     "ls",
		Short:   "List the applications that have a configuration",
		Example: "  coord config ls",
		Args:    noArgs,
		RunE: g.asks(func(ctx context.Context, a *asking, _ []string) error {
			l, err := a.Configs(ctx, a.read())
			if err != nil {
				return failed(err, "list the configurations")
			}
			if a.output == "json" {
				a.out.json(l.Body)
				return nil
			}
			for _, app := range l.Apps {
				a.out.line("%s", plain(app))
			}
			return nil
		}),
	})
}

func configGet(g *globals) *cobra.Command {
	number := int64(0)
	c := &cobra.Command{
		Use:   "get APP [KEY]",
		Short: "Print the values of an application, or one of them",
		Long: `Print the values of an application, or one of them.

-o env prints assignments for a shell to read, with names in capitals and _ for what a variable's name can't have, -o yaml a
mapping, which coord config set -f reads. -o raw writes exactly the bytes of one value.

Exit code 3: nobody has written a configuration of that name, there is no such key, or the version isn't kept. eval doesn't
see the exit code of what it is given, so keep the assignments first, as below.`,
		Example: `  coord config get shop
  coord config get shop limit
  coord config get shop -o env --version 7
  values=$(coord config get shop -o env) && eval "$values"`,
		Annotations: map[string]string{outputs: "env,yaml"},
		Args:        appArgs(0, 1, ""),
		RunE: g.asks(func(ctx context.Context, a *asking, args []string) error {
			x, err := a.AppConfig(ctx, args[0], number, a.read())
			if err != nil {
				return failed(err, "get the configuration of %s", args[0])
			}
			if unwritten(x) {
				return a.noConfig(ctx, args[0], "configuration")
			}
			if len(args) == 1 {
				return a.printConfig(x)
			}
			value, ok := x.Values[args[1]]
			if !ok {
				return &exitError{
					code: exitNotFound, err: fmt.Errorf("%s has no key %q", args[0], args[1]),
					why: fmt.Sprintf("version %d has %s", x.Version, plural(len(x.Values), "key")), next: "coord config get " + shellQuote(args[0]),
				}
			}
			switch a.output {
			case "raw":
				_, err = a.out.WriteString(value)
				return err
			case "table":
				a.out.value([]byte(value))
				return nil
			}
			x.Values = map[string]string{args[1]: value}
			x.Body = nil
			return a.printConfig(x)
		}),
	}
	c.Flags().Int64Var(&number, "version", 0, "as it was at this version; 0 is as it is")
	return g.command(c)
}

// unwritten reports whether x is what is answered of an application that has no configuration.
func unwritten(x *httpapi.AppConfig) bool { return x.Version == 0 && len(x.Values) == 0 }

// noConfig is the error that nobody has written a configuration. Its name may be misspelt, so those that there are are
// looked at.
func (a *asking) noConfig(ctx context.Context, app, what string) error {
	e := &exitError{
		code: exitNotFound, err: fmt.Errorf("there is no %s of %s", what, app), why: "nobody has written one",
		next: "coord config ls",
	}
	if l, err := a.Configs(ctx, a.read()); err == nil {
		if meant := near.Nearest(app, l.Apps); meant != "" {
			e.why += "; did you mean " + plain(meant) + "?"
		}
	}
	return e
}

func (a *asking) printConfig(x *httpapi.AppConfig) error {
	switch a.output {
	case "json":
		if x.Body == nil {
			return a.out.encode(x.Values)
		}
		a.out.json(x.Body)
	case "env":
		list, err := settings.Variables(x.Values)
		if err != nil {
			return &exitError{
				code: exitUsage, err: fmt.Errorf("%s can't be an environment", x.App), why: detail(err), next: "rename a key, or use -o yaml",
			}
		}
		a.out.Write(settings.Assignments(list))
	case "yaml":
		a.out.Write(settings.YAML(x.Values))
	default:
		var rows [][]string
		for _, key := range slices.Sorted(maps.Keys(x.Values)) {
			rows = append(rows, []string{plain(key), cell([]byte(x.Values[key]))})
		}
		a.out.table(rows)
		if a.output == "table" {
			a.note("version %d%s", x.Version, by(&x.ConfigVersion))
		}
	}
	return nil
}

func by(v *httpapi.ConfigVersion) string {
	if v.Version == 0 {
		return ": nobody has written one"
	}
	return " of " + stamp(v.Time) + ", by " + plain(v.Author)
}

// committing are the flags of commands that make a version.
type committing struct {
	writing
	author, comment string
	base            int64
}

func (o *committing) addTo(c *cobra.Command) {
	o.writing.addTo(c, false)
	f := c.Flags()
	f.StringVar(&o.author, "author", "", "who makes the change; without it, you at this machine")
	f.StringVarP(&o.comment, "message", "m", "", "why")
	f.Int64Var(&o.base, "if-version", 0, "only if this is the newest version; 0: only if there is none yet")
}

// commit makes a version, and says what it is.
func (o *committing) commit(ctx context.Context, a *asking, app string, x httpapi.ConfigChange) error {
	x.Author, x.Comment = cmp.Or(o.author, a.somebody()), o.comment
	w, before := o.write(a.c), int64(-1) // not known
	if a.c.Flags().Changed("if-version") {
		now, err := a.AppConfig(ctx, app, 0, httpapi.Read{})
		if err != nil {
			return failed(err, "look at the configuration of %s", app)
		}
		if now.Version != o.base {
			return &exitError{
				code: exitConflict, err: fmt.Errorf("%s is at version %d, not %d", app, now.Version, o.base),
				why: fmt.Sprintf("version %d%s", now.Version, by(&now.ConfigVersion)), next: "coord config diff " + shellQuote(app),
			}
		}
		w.Version, w.IfMatch, x.Absent, before = nil, now.ETag(), now.ETag() == "", now.Version
	} else if a.output != "json" && !a.quiet {
		if now, err := a.AppConfig(ctx, app, 0, httpapi.Read{}); err == nil {
			before = now.Version
		}
	}
	v, err := a.ChangeConfig(ctx, app, x, w)
	if err != nil {
		out := failed(err, "change the configuration of %s", app).(*exitError)
		if out.code == exitConflict || out.code == exitNotFound {
			out.next = "coord config history " + shellQuote(app)
		}
		return out
	}
	switch {
	case a.output == "json":
		a.out.json(v.Body)
	case v.Version == before:
		a.out.line("%s version %d: nothing to change", app, v.Version)
	case !a.quiet:
		a.out.line("%s version %d: %s", app, v.Version, changed(v))
	}
	return nil
}

func changed(v *httpapi.ConfigVersion) string {
	what := fmt.Sprintf("%d set, %d deleted", v.Set, v.Deleted)
	if v.RolledBackTo > 0 {
		what += fmt.Sprintf(", as at version %d", v.RolledBackTo)
	}
	return what
}

// somebody returns who acts, for a history: user@host, or "" with --user, as the service knows that itself.
func (a *asking) somebody() string {
	if a.user != "" {
		return ""
	}
	return whoami()
}

// whoami returns user@host.
func whoami() string {
	name, host := "", ""
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	host, _ = os.Hostname()
	return strings.ToValidUTF8(name+"@"+host, "?")
}

func configSet(g *globals) *cobra.Command {
	o, file, replace := &committing{}, "", false
	c := &cobra.Command{
		Use:   "set APP KEY VALUE|- | APP KEY=VALUE... | APP [KEY] -f FILE",
		Short: "Set values of an application, all at once, as a new version",
		Long: `Set values of an application, all at once, as a new version. The other keys stay, unless --replace says that they go.
"-" reads a value from standard input. -f FILE is a value with KEY, and without it a file of values: a mapping in YAML or
JSON, where nested ones make keys with dots, or assignments if its name ends in .env. What changes nothing makes no version.

Exit code 4: --if-version doesn't hold. Nothing was changed.`,
		Example: `  coord config set shop limit 50 -m 'more for the holidays'
  coord config set shop limit=50 motd='open all night' --if-version 3
  coord config set shop -f shop.yaml --replace
  coord config set shop tls.cert -f cert.pem`,
		Args: appArgs(0, -1, ""),
		RunE: g.asks(func(ctx context.Context, a *asking, args []string) error {
			values, err := a.valuesToSet(args[1:], file)
			if err != nil {
				return err
			}
			return o.commit(ctx, a, args[0], httpapi.ConfigChange{Values: values, Replace: replace})
		}),
	}
	c.Flags().StringVarP(&file, "file", "f", "", `a file of values, or of one value; "-" is standard input`)
	c.Flags().BoolVar(&replace, "replace", false, "keys that aren't given go")
	o.addTo(c)
	c.SetFlagErrorFunc(valueFlagError)
	return g.command(c)
}

func configRm(g *globals) *cobra.Command {
	o := &committing{}
	c := &cobra.Command{
		Use:     "rm APP KEY...",
		Short:   "Delete keys of an application, all at once, as a new version",
		Long:    "Delete keys of an application, all at once, as a new version. Keys that there aren't count as deleted.",
		Example: "  coord config rm shop motd",
		Args:    appArgs(1, -1, "a key"),
		RunE: g.asks(func(ctx context.Context, a *asking, args []string) error {
			values := map[string]*string{}
			for _, key := range args[1:] {
				values[key] = nil
			}
			if err := a.checkValues(values); err != nil {
				return err
			}
			return o.commit(ctx, a, args[0], httpapi.ConfigChange{Values: values})
		}),
	}
	o.addTo(c)
	return g.command(c)
}

func configHistory(g *globals) *cobra.Command {
	return g.command(&cobra.Command{
		Use:   "history APP [KEY]",
		Short: "List the versions that are kept, or those that have changed a key",
		Long: "List the versions that are kept, the newest first: 100, or 4 MiB of values. With KEY, those that have changed it.\n" +
			"Exit code 3: there is none.",
		Example: "  coord config history shop\n  coord config history shop limit",
		Args:    appArgs(0, 1, ""),
		RunE: g.asks(func(ctx context.Context, a *asking, args []string) error {
			key := ""
			if len(args) == 2 {
				key = args[1]
			}
			h, err := a.ConfigHistory(ctx, args[0], key, a.read())
			if err != nil {
				return failed(err, "list the versions of %s", args[0])
			}
			switch {
			case len(h.Versions) > 0:
			case key != "":
				return &exitError{
					code: exitNotFound, err: fmt.Errorf("no version of %s has changed key %q", args[0], key),
					why: "of those that are kept", next: "coord config history " + shellQuote(args[0]),
				}
			default:
				return a.noConfig(ctx, args[0], "history")
			}
			if a.output == "json" {
				a.out.json(h.Body)
				return nil
			}
			rows := [][]string{{"VERSION", "TIME", "AUTHOR", "CHANGE", "COMMENT"}}
			for i := range h.Versions {
				v := &h.Versions[i]
				what := changed(v)
				if key != "" {
					what = optional(v.Value)
				}
				rows = append(rows, []string{strconv.FormatInt(v.Version, 10), stamp(v.Time), plain(v.Author), what, plain(v.Comment)})
			}
			if a.output == "raw" {
				rows = rows[1:]
			}
			a.out.table(rows)
			return nil
		}),
	})
}

func optional(v *string) string {
	if v == nil {
		return "-"
	}
	return cell([]byte(*v))
}

// versionArg reads the number of a version.
func versionArg(c *cobra.Command, s string) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 1 {
		return 0, usageError(c, fmt.Errorf("%q is not the number of a version; they begin at 1", s))
	}
	return n, nil
}

// previous returns the version before the newest one.
func (a *asking) previous(ctx context.Context, app string) (int64, error) {
	h, err := a.ConfigHistory(ctx, app, "", httpapi.Read{})
	if err != nil {
		return 0, failed(err, "list the versions of %s", app)
	}
	if len(h.Versions) < 2 {
		return 0, &exitError{
			code: exitNotFound, err: fmt.Errorf("%s has no version before the newest", app),
			why: plural(len(h.Versions), "version") + " kept", next: "coord config history " + shellQuote(app),
		}
	}
	return h.Versions[1].Version, nil
}

func configRollback(g *globals) *cobra.Command {
	o, keys := &committing{}, []string(nil)
	c := &cobra.Command{
		Use:   "rollback APP [VERSION]",
		Short: "Make the values what they were at a version, as a new version",
		Long: `Make the values what they were at a version, all at once, as a new version. Without VERSION, the one before the newest:
that undoes the last change, and done twice it does the change again.

Exit code 3: the version isn't kept.`,
		Example: "  coord config rollback shop 3 -m '50 was too much'\n  coord config rollback shop 3 --key limit",
		Args:    appArgs(0, 1, ""),
		RunE: g.asks(func(ctx context.Context, a *asking, args []string) (err error) {
			n := int64(0)
			if len(args) == 2 {
				n, err = versionArg(a.c, args[1])
			} else {
				n, err = a.previous(ctx, args[0])
			}
			if err != nil {
				return err
			}
			return o.commit(ctx, a, args[0], httpapi.ConfigChange{Version: n, Keys: keys})
		}),
	}
	c.Flags().StringArrayVar(&keys, "key", nil, "only this key goes back; may be given several times")
	o.addTo(c)
	return g.command(c)
}
