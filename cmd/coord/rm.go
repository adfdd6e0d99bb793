package main

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/coord-kv/coord/internal/httpapi"
	"github.com/coord-kv/coord/op"
)

func newRm(g *globals) *cobra.Command {
	w, recursive, yes := &writing{}, false, false
	c := &cobra.Command{
		Use:   "rm PATH",
		Short: "Delete a node, with -R and everything below it",
		Long: `Delete a node, with -R and everything below it.

At a terminal, -R asks first unless -y is given. A subtree goes in one decision if it is no larger than what one request
may change (10,000 nodes). A larger one is deleted in steps, from the leaves up, and the command says so: others can see
it half deleted, and an interrupted command leaves the rest.

Exit code 3: there is no such node. 4: it has children and -R is not given, or the condition doesn't hold.`,
		Example: `  coord rm /app/db-url
  coord rm /app/db-url --if-version 3
  coord rm -R /app -y`,
		Args:              pathArgs(0),
		ValidArgsFunction: g.completePath,
		RunE: g.asksForever(func(ctx context.Context, a *asking, args []string) error {
			path := args[0]
			if path == op.Root {
				return usageError(a.c, errors.New("/ is always there and can't be deleted"))
			}
			if recursive && !yes && !ask(a.io, "Delete "+path+" and everything below it?") {
				return &exitError{code: exitOther, err: errors.New("nothing was deleted"), why: "the answer was not yes"}
			}
			n, err := remove(ctx, a, path, recursive, w.write(a.c))
			if err != nil {
				return failed(err, "delete %s", path)
			}
			switch {
			case a.output == "json":
				return a.out.encode(map[string]any{"path": path, "deleted": n})
			case a.output == "table" && !a.quiet:
				a.out.line("%s deleted, %s", path, plural(int(n), "node"))
			}
			return nil
		}),
	}
	f := c.Flags()
	f.BoolVarP(&recursive, "recursive", "R", false, "everything below it too")
	f.BoolVarP(&yes, "yes", "y", false, "don't ask at a terminal")
	w.addTo(c, true)
	return g.command(c)
}

// remove deletes a node or a subtree and returns how many nodes that were.
func remove(ctx context.Context, a *asking, path string, recursive bool, w httpapi.Write) (int64, error) {
	var res *httpapi.Deleted
	err := within(ctx, a.timeout, func(ctx context.Context) (err error) {
		res, err = a.Delete(ctx, path, recursive, w)
		return err
	})
	if recursive && errors.Is(err, &op.Error{Code: op.TooLarge}) {
		d := &demolition{a: a, root: path, w: w}
		a.note("%s is too large for one request: it is deleted in steps, not at once", path)
		if err := d.subtree(ctx, path); err != nil {
			a.note("%s were deleted before this", plural(int(d.deleted), "node"))
			return d.deleted, err
		}
		return d.deleted, nil
	}
	if err != nil {
		return 0, err
	}
	return res.Deleted, nil
}

// within runs f with a timeout of its own.
func within(ctx context.Context, d time.Duration, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	return f(ctx)
}

// demolition deletes a subtree in steps, each a transaction. The condition on its root is checked in every one: to
// delete children doesn't change their parent's data.
type demolition struct {
	a       *asking
	root    string
	w       httpapi.Write
	deleted int64
}

// stepNodes is how many nodes one step deletes at the most. It is far below what a transaction may do, so that steps
// are short and others get their turn.
const stepNodes = 1000

// subtree deletes everything below path, and path.
func (d *demolition) subtree(ctx context.Context, path string) error {
	for {
		var page *httpapi.Listing
		err := within(ctx, d.a.timeout, func(ctx context.Context) (err error) {
			page, err = d.a.Children(ctx, path, true, httpapi.Page{Limit: stepNodes}, httpapi.Read{})
			return err
		})
		switch {
		case errors.Is(err, &op.Error{Code: op.NoNode}):
			return nil // somebody else was faster
		case err != nil:
			return err
		case len(page.Children) == 0:
			return d.step(ctx, []string{path})
		}
		if err := d.children(ctx, path, page.Children); err != nil {
			return err
		}
	}
}

// children deletes children of path: those that are leaves together, others one by one.
func (d *demolition) children(ctx context.Context, path string, list []httpapi.Node) error {
	var leaves, others []string
	for _, n := range list {
		if child := op.Join(path, n.Name); n.Stat != nil && n.Stat.NumChildren == 0 {
			leaves = append(leaves, child)
		} else {
			others = append(others, child)
		}
	}
	if err := d.step(ctx, leaves); err != nil {
		return err
	}
	for _, child := range others {
		err := d.step(ctx, []string{child})
		if errors.Is(err, &op.Error{Code: op.TooLarge}) {
			err = d.subtree(ctx, child)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// step deletes subtrees in one transaction. If one of them has gone meanwhile, it deletes them one by one.
func (d *demolition) step(ctx context.Context, paths []string) error {
	if len(paths) == 0 {
		return nil
	}
	t := httpapi.Txn{}
	if d.w.Version != nil || d.w.IfMatch != "" {
		t.Checks = []httpapi.Op{{Op: "check", Path: d.root, Version: d.w.Version, IfMatch: d.w.IfMatch}}
	}
	for _, p := range paths {
		t.Ops = append(t.Ops, httpapi.Op{Op: "delete", Path: p, Recursive: true})
	}
	var res *httpapi.TxnResult
	err := within(ctx, d.a.timeout, func(ctx context.Context) (err error) {
		res, err = d.a.Txn(ctx, t.JSON(), httpapi.Write{Fence: d.w.Fence})
		return err
	})
	switch gone := errors.Is(err, &op.Error{Code: op.NoNode}); {
	case gone && len(paths) == 1:
		return nil
	case gone || errors.Is(err, &op.Error{Code: op.TooLarge}) && len(paths) > 1:
		for _, p := range paths {
			if err := d.step(ctx, []string{p}); err != nil {
				return err
			}
		}
		return nil
	case err != nil:
		return err
	}
	for _, r := range res.Results {
		if r.Deleted != nil {
			d.deleted += *r.Deleted
		}
	}
	return nil
}
