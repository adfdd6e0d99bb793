package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/coord-kv/coord/internal/httpapi"
	"github.com/coord-kv/coord/op"
)

func newGet(g *globals) *cobra.Command {
	var raw, stat bool
	c := &cobra.Command{
		Use:   "get PATH",
		Short: "Print the data of a node",
		Long: `Print the data of a node.

Text ends in a line break that is added if the data has none; --raw writes exactly the bytes. With -o json, the node is
printed as /v1/nodes answers it: text as "data", other bytes as "data_base64".`,
		Example: `  coord get /app/db-url
  coord get /app/logo --raw > logo.png
  coord get /app/db-url -o json --consistency eventual`,
		Args:              pathArgs(0),
		ValidArgsFunction: g.completePath,
		RunE: g.asks(func(ctx context.Context, a *asking, args []string) error {
			n, err := a.Get(ctx, args[0], a.read())
			if err != nil {
				return failed(err, "get %s", args[0])
			}
			switch {
			case a.output == "json":
				a.out.json(n.Body)
			case raw || a.output == "raw":
				a.out.Write(n.Bytes())
			default:
				a.out.value(n.Bytes())
			}
			if stat && a.output != "json" {
				a.out.table(statRows(n.Path, n.Stat))
			}
			return nil
		}),
	}
	c.Flags().BoolVar(&raw, "raw", false, "exactly the bytes, as -o raw")
	c.Flags().BoolVar(&stat, "stat", false, "print the stat behind the data")
	return g.command(c)
}

func newStat(g *globals) *cobra.Command {
	return g.command(&cobra.Command{
		Use:   "stat PATH",
		Short: "Show what is known of a node besides its data",
		Example: `  coord stat /app/db-url
  coord stat /app/db-url -o json`,
		Args:              pathArgs(0),
		ValidArgsFunction: g.completePath,
		RunE: g.asks(func(ctx context.Context, a *asking, args []string) error {
			n, err := a.Get(ctx, args[0], a.read())
			if err != nil {
				return failed(err, "stat %s", args[0])
			}
			if a.output == "json" {
				form := map[string]json.RawMessage{}
				if err := json.Unmarshal(n.Body, &form); err != nil {
					return err
				}
				delete(form, "data")
				delete(form, "data_base64")
				return a.out.encode(form)
			}
			a.out.table(statRows(n.Path, n.Stat))
			return nil
		}),
	})
}

func statRows(path string, s *httpapi.Stat) [][]string {
	owner := s.EphemeralOwner
	if owner == "" {
		owner = "-"
	}
	rows := [][]string{
		{"path", path}, {"kind", s.Kind}, {"etag", s.ETag}, {"version", fmt.Sprint(s.Version)},
		{"data_length", fmt.Sprint(s.DataLength)}, {"num_children", fmt.Sprint(s.NumChildren)},
		{"ephemeral_owner", owner}, {"ctime", stamp(s.Ctime)}, {"mtime", stamp(s.Mtime)},
		{"czxid", fmt.Sprint(s.Czxid)}, {"mzxid", fmt.Sprint(s.Mzxid)}, {"pzxid", fmt.Sprint(s.Pzxid)},
		{"cversion", fmt.Sprint(s.Cversion)}, {"aversion", fmt.Sprint(s.Aversion)},
	}
	if s.TTL != "" {
		rows = append(rows, []string{"ttl", s.TTL})
	}
	return rows
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// writing are the flags that writes have in common.
type writing struct {
	key, fence, match string
	version           int32
}

func (w *writing) addTo(c *cobra.Command, conditional bool) {
	f := c.Flags()
	f.StringVar(&w.key, "idempotency-key", "", "with the same key, the same command is done at most once")
	f.StringVar(&w.fence, "fence", "", "only while this fencing token holds: LOCK=TOKEN or term:ELECTION=TOKEN")
	if conditional {
		f.Int32Var(&w.version, "if-version", 0, "only if the node's data has this version")
		f.StringVar(&w.match, "if-match", "", "only if the node has this ETag")
		exclusive(c, "if-version", "if-match")
	}
}

func (w *writing) write(c *cobra.Command) httpapi.Write {
	out := httpapi.Write{Key: w.key, Fence: w.fence, IfMatch: strings.Trim(w.match, `"`)}
	if c.Flags().Changed("if-version") {
		out.Version = &w.version
	}
	return out
}

func (w *writing) conditional(c *cobra.Command) bool {
	return c.Flags().Changed("if-version") || c.Flags().Changed("if-match")
}

func newSet(g *globals) *cobra.Command {
	w, parents := &writing{}, false
	c := &cobra.Command{
		Use:   "set PATH VALUE|-",
		Short: "Set the data of a node, and create it if there is none",
		Long: `Set the data of a node, and create it if there is none. "-" reads the data from standard input.

With --if-version or --if-match it only changes a node that exists and is still as you have read it.

Exit code 4: the condition doesn't hold. Nothing was changed.`,
		Example: `  coord set /app/db-url postgres://db/app -p
  coord set /app/config - < config.json
  coord set /app/db-url postgres://db2/app --if-version 3`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) == 1 {
				return usageError(c, errors.New(`the value is missing; "-" reads it from standard input, "" is an empty one`))
			}
			return pathArgs(1)(c, args)
		},
		ValidArgsFunction: g.completePath,
		RunE: g.asks(func(ctx context.Context, a *asking, args []string) error {
			if parents && w.conditional(a.c) {
				return usageError(a.c, errors.New("-p is for a node that is created, a condition for one that exists"))
			}
			data, err := a.data(args)
			if err != nil {
				return err
			}
			res, err := a.Set(ctx, args[0], data, httpapi.Create{Parents: parents}, w.write(a.c))
			if err != nil {
				return missingParent(failed(err, "set %s", args[0]), err, args[0])
			}
			a.wrote(res, fmt.Sprintf("%s version %d, etag %s", res.Path, res.Stat.Version, res.Stat.ETag))
			return nil
		}),
	}
	c.Flags().BoolVarP(&parents, "parents", "p", false, "create missing parents")
	w.addTo(c, true)
	c.SetFlagErrorFunc(valueFlagError)
	return g.command(c)
}

// valueFlagError is about values that begin with a dash, which look like flags.
func valueFlagError(c *cobra.Command, err error) error {
	return dashError(c, err, "a value that begins with - stands behind --, such as: "+c.CommandPath()+" /x -- -5")
}

// missingParent says what helps if a node can't be created because its parent is missing.
func missingParent(out, err error, node string) error {
	e, ok := errors.AsType[*httpapi.Error](err)
	if ok && e.Code == op.NoNode.String() && e.Path != node {
		out.(*exitError).next = "give -p to create missing parents"
	}
	return out
}

// wrote shows the answer to a write. For people it is one line, which --quiet leaves out.
func (a *asking) wrote(res *httpapi.Written, line string) {
	switch {
	case a.output == "json":
		a.out.json(res.Body)
	case a.output == "raw":
		a.out.line("%s", res.Path)
	case !a.quiet:
		a.out.line("%s", line)
	}
}

// creation are the flags of coord create.
type creation struct {
	writing
	httpapi.Create
	sequence   bool
	hold       bool
	session    string
	sessionTTL time.Duration
}

func newCreate(g *globals) *cobra.Command {
	o := &creation{}
	c := &cobra.Command{
		Use:   "create PATH [VALUE|-]",
		Short: "Create a node that must not exist",
		Long: `Create a node that must not exist, and print its path. Without a value its data is empty; "-" reads it
from standard input.

An ephemeral node (-e) lives as long as a session, and this command ends at once. So say which session:

  --session ID   one that you keep alive yourself; its secret is read from COORD_SESSION_SECRET. See coord session.
  --hold         one that this command opens and keeps alive. It goes on running, and when it is interrupted (Ctrl-C,
                 SIGTERM) it ends the session, and the node goes. If it is killed, the node goes --session-ttl later.

With --ttl too, the node stays for so long if the session ends because nothing was heard of it, or because somebody else
ended it.

Exit code 4: the node exists. With --hold, 3: the session was ended by somebody else; 5: it could not be kept alive in
time, so the node is gone or will be.`,
		Example: `  coord create /app/migrated yes -p
  coord create /queue/job- payload -s
  coord create /workers/w1 10.0.0.1:80 -e --hold
  coord create /cache/x - --ttl 1h < x`,
		Args: func(c *cobra.Command, args []string) error {
			if o.sequence && len(args) > 0 && strings.HasSuffix(args[0], "/") {
				args = append([]string{args[0] + "0"}, args[1:]...) // a sequence node's name may be the number alone
			}
			return pathArgs(1)(c, args)
		},
		ValidArgsFunction: g.completePath,
		RunE: g.asksForever(func(ctx context.Context, a *asking, args []string) error {
			if err := o.check(a.c); err != nil {
				return err
			}
			data, err := a.data(args)
			if err != nil {
				return err
			}
			if o.hold {
				return o.hang(ctx, a, args[0], data)
			}
			w := o.write(a.c)
			if o.Ephemeral {
				w.Session, w.Secret = o.session, sessionSecret()
			}
			return o.create(ctx, a, args[0], data, w)
		}),
	}
	f := c.Flags()
	f.BoolVarP(&o.Ephemeral, "ephemeral", "e", false, "the node goes when its session ends")
	f.BoolVarP(&o.sequence, "sequence", "s", false, "put the directory's next number behind the name")
	f.BoolVarP(&o.Parents, "parents", "p", false, "create missing parents")
	f.BoolVar(&o.Container, "container", false, "the node goes when its last child has gone")
	f.DurationVar(&o.TTL, "ttl", 0, "the node goes when it has no children and was not set for so long; with -e, since its session was lost")
	f.StringArrayVar(&o.ACL, "acl", nil, "who may do what, as scheme:id:permissions; may be repeated")
	f.StringVar(&o.session, "session", "", "the session to hang an ephemeral node on (or COORD_SESSION)")
	f.BoolVar(&o.hold, "hold", false, "with -e: keep a session of its own alive until interrupted")
	f.DurationVar(&o.sessionTTL, "session-ttl", 15*time.Second, "with --hold: timeout of the session")
	o.addTo(c, false)
	c.SetFlagErrorFunc(valueFlagError)
	exclusive(c, "ephemeral", "container")
	exclusive(c, "container", "ttl")
	exclusive(c, "session", "hold")
	return g.command(c)
}

func (o *creation) check(c *cobra.Command) error {
	if o.hold && !o.Ephemeral {
		return usageError(c, errors.New("--hold is for an ephemeral node: give -e too"))
	}
	if o.session != "" && !o.Ephemeral {
		return usageError(c, errors.New("--session is for an ephemeral node: give -e too"))
	}
	if o.Ephemeral && !o.hold {
		o.session = sessionID(o.session)
		switch {
		case o.session == "":
			return &exitError{
				code: exitUsage, err: errors.New("-e needs a session, or --hold"),
				why:  "an ephemeral node lives as long as a session, and this command ends at once",
				next: "give --hold to keep the node until Ctrl-C, or --session ID and COORD_SESSION_SECRET of coord session open",
			}
		case sessionSecret() == "":
			return noSecret(o.session)
		}
	}
	return nil
}

// create makes the node and prints its path.
func (o *creation) create(ctx context.Context, a *asking, node string, data []byte, w httpapi.Write) error {
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	var res *httpapi.Written
	var err error
	if o.sequence {
		dir, prefix := path.Split(node)
		if dir != op.Root {
			dir = strings.TrimSuffix(dir, "/")
		}
		res, err = a.CreateSequence(ctx, dir, prefix, data, o.Create, w)
	} else {
		res, err = a.Create(ctx, node, data, o.Create, w)
	}
	if err != nil {
		return missingParent(failed(err, "create %s", node), err, node)
	}
	a.wrote(res, res.Path)
	return nil
}

// hang creates the node in a session of its own and keeps that alive until ctx ends.
func (o *creation) hang(ctx context.Context, a *asking, node string, data []byte) error {
	l, err := a.openLife(ctx, httpapi.SessionKind, httpapi.OpenOptions{TTL: o.sessionTTL, Name: "coord create " + node})
	if err != nil {
		return err
	}
	defer l.close()
	w := o.write(a.c)
	w.Session, w.Secret = l.id, l.secret
	if err := o.create(ctx, a, node, data, w); err != nil {
		return err
	}
	if err := a.out.flush(); err != nil {
		return err
	}
	a.note("held by session %s until you interrupt this command (Ctrl-C); then the node goes", l.id)
	return l.keep(ctx)
}
