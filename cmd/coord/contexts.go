package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/coord-kv/coord/internal/httpapi"
)

// contexts is the file in which a user keeps where clusters are.
type contexts struct {
	Current  string              `yaml:"current,omitempty"`
	Contexts map[string]aContext `yaml:"contexts"`
}

type aContext struct {
	Endpoints []string `yaml:"endpoints"`
	User      string   `yaml:"user,omitempty"`
	Password  string   `yaml:"password,omitempty"`
}

// maxContexts is how long the file may be.
const maxContexts = 1 << 20

// contextsFile returns the file's name: below XDG_CONFIG_HOME, else below ~/.config, on every system.
func contextsFile() (string, error) {
	dir := os.Getenv("XDG_CONFIG_HOME")
	if dir == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", err
		}
		dir = filepath.Join(home, ".config")
	}
	return filepath.Join(dir, "coord", "contexts.yaml"), nil
}

// loadContexts reads the file. Without one there are no contexts. It may have passwords, so nobody else may read it.
func loadContexts() (*contexts, error) {
	all := &contexts{Contexts: map[string]aContext{}}
	name, err := contextsFile()
	if err != nil {
		return all, nil // no home directory, as in a container: no contexts
	}
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return all, nil
	}
	if err != nil {
		return nil, contextsError(name, err, "chmod 600 "+shellQuote(name))
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Mode().Perm()&0o077 != 0 {
		return nil, contextsError(name, fmt.Errorf("its mode is %o, and it may have passwords", info.Mode().Perm()),
			"chmod 600 "+shellQuote(name))
	}
	d := yaml.NewDecoder(io.LimitReader(f, maxContexts))
	d.KnownFields(true)
	if err := d.Decode(all); err != nil && err != io.EOF {
		return nil, contextsError(name, err, "correct the file, or remove it and use coord context add")
	}
	if all.Contexts == nil {
		all.Contexts = map[string]aContext{}
	}
	return all, nil
}

func contextsError(name string, err error, next string) error {
	return &exitError{
		code: exitUsage, err: fmt.Errorf("couldn't use %s", name), next: next,
		why: strings.ReplaceAll(err.Error(), "\n", " "),
	}
}

// save replaces the file as a whole.
func (all *contexts) save() error {
	name, err := contextsFile()
	if err != nil {
		return contextsError("the contexts", err, "set XDG_CONFIG_HOME")
	}
	var b bytes.Buffer
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	if err := errors.Join(e.Encode(all), e.Close(), writeFile(name, b.Bytes())); err != nil {
		return contextsError(name, err, "is there room, and may you write there?")
	}
	return nil
}

// writeFile writes a file that only its owner may read, under another name first, so that it is never half written.
func writeFile(name string, b []byte) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(name), ".contexts-*") // its mode is 0600
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}

// applyContext takes from the context what neither the command line nor the environment says. A context's user and
// password are for its endpoints: they are not sent to others.
func (g *globals) applyContext() error {
	all, err := loadContexts()
	if err != nil {
		return err
	}
	name := all.Current
	if g.flags.Changed("context") {
		name = g.context
	}
	if name == "" {
		return nil
	}
	cx, ok := all.Contexts[name]
	if !ok {
		return &exitError{
			code: exitUsage, err: fmt.Errorf("there is no context %q", name),
			why: "only names that were added can be used", next: "coord context ls",
		}
	}
	if g.flags.Changed("endpoints") {
		return nil
	}
	g.endpoints = cx.Endpoints
	if !g.flags.Changed("user") {
		g.user = cx.User
		if g.password == "" {
			g.password = cx.Password
		}
	}
	return nil
}

func newContext(g *globals) *cobra.Command {
	c := parent(&cobra.Command{
		Use:     "context",
		Short:   "Keep the endpoints of several clusters under names",
		GroupID: "other",
		Long: `Keep the endpoints of several clusters under names, in ~/.config/coord/contexts.yaml, which only you may read.

A command takes the endpoints from --endpoints, else COORD_ENDPOINTS, else the context that --context or COORD_CONTEXT
names, else the current context, else ` + defaultEndpoint + `.`,
	})
	c.AddCommand(contextLs(g.io), contextAdd(g.io), contextUse(g.io), contextRm(g.io))
	return c
}

// oneName is the argument of a command about one context.
func oneName(c *cobra.Command, args []string) error {
	switch {
	case len(args) == 0:
		return usageError(c, errors.New("the name of a context is missing"))
	case len(args) > 1:
		return usageError(c, fmt.Errorf("unexpected argument %q", args[1]))
	}
	return nil
}

// edits makes RunE of a command that changes the file.
func edits(f func(all *contexts, name string) error) func(*cobra.Command, []string) error {
	return func(_ *cobra.Command, args []string) error {
		all, err := loadContexts()
		if err != nil {
			return err
		}
		if err := f(all, args[0]); err != nil {
			return err
		}
		return all.save()
	}
}

func (all *contexts) has(name string) error {
	if _, ok := all.Contexts[name]; ok {
		return nil
	}
	return &exitError{
		code: exitNotFound, err: fmt.Errorf("there is no context %q", name),
		why: "only names that were added can be used", next: "coord context ls",
	}
}

func contextLs(io stdio) *cobra.Command {
	return &cobra.Command{
		Use:     "ls",
		Short:   "List the contexts; the current one has a star",
		Example: "  coord context ls",
		Args:    noArgs,
		RunE: func(*cobra.Command, []string) error {
			all, err := loadContexts()
			if err != nil {
				return err
			}
			p := newPrinter(&globals{io: io, color: "never"})
			var rows [][]string
			for _, name := range slices.Sorted(maps.Keys(all.Contexts)) {
				star, cx := " ", all.Contexts[name]
				if name == all.Current {
					star = "*"
				}
				rows = append(rows, []string{star, name, strings.Join(cx.Endpoints, ","), dash(cx.User)})
			}
			p.table(rows)
			return p.flush()
		},
	}
}

func contextAdd(io stdio) *cobra.Command {
	cx, use := aContext{}, false
	c := &cobra.Command{
		Use:   "add NAME --endpoints URL,...",
		Short: "Add a context, or replace it",
		Long:  "Add a context, or replace it. The first one becomes the current one. A password is read from COORD_PASSWORD.",
		Example: `  coord context add prod --endpoints http://n1:7070,http://n2:7070,http://n3:7070 --use
  COORD_PASSWORD=secret coord context add staging -e http://s1:7070 --user ann`,
		Args: oneName,
	}
	c.RunE = edits(func(all *contexts, name string) error {
		if _, err := httpapi.New(httpapi.Config{Endpoints: cx.Endpoints}); err != nil {
			return usageError(c, fmt.Errorf("--endpoints: %w", err))
		}
		if cx.User != "" {
			cx.Password = os.Getenv("COORD_PASSWORD")
		}
		all.Contexts[name] = cx
		if use || all.Current == "" {
			all.Current = name
		}
		return nil
	})
	f := c.Flags()
	f.StringSliceVarP(&cx.Endpoints, "endpoints", "e", nil, "members of the cluster")
	f.StringVar(&cx.User, "user", "", "who you are there")
	f.BoolVar(&use, "use", false, "make it the current one")
	return c
}

func contextUse(io stdio) *cobra.Command {
	return &cobra.Command{
		Use:     "use NAME",
		Short:   "Make a context the current one",
		Example: "  coord context use prod",
		Args:    oneName,
		RunE: edits(func(all *contexts, name string) error {
			all.Current = name
			return all.has(name)
		}),
	}
}

func contextRm(io stdio) *cobra.Command {
	return &cobra.Command{
		Use:     "rm NAME",
		Short:   "Remove a context",
		Example: "  coord context rm staging",
		Args:    oneName,
		RunE: edits(func(all *contexts, name string) error {
			if err := all.has(name); err != nil {
				return err
			}
			delete(all.Contexts, name)
			if all.Current == name {
				all.Current = ""
			}
			return nil
		}),
	}
}
