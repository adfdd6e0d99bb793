package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/coord-kv/coord/internal/httpapi"
	"github.com/coord-kv/coord/op"
)

// rootArgs are the arguments of a command about a node that is the root unless told otherwise.
func rootArgs(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return pathArgs(0)(c, args)
}

func rootOr(args []string) string {
	if len(args) == 0 {
		return op.Root
	}
	return args[0]
}

// listing are the flags of coord ls.
type listing struct {
	recursive, long bool
	httpapi.Page
}

func newLs(g *globals) *cobra.Command {
	o := &listing{}
	c := &cobra.Command{
		Use:   "ls [PATH]",
		Short: "List the children of a node, / unless told otherwise",
		Long: `List the names of a node's children, in byte order; with -R, the paths of everything below it.

A long listing is read in pages, each from one state and the next one perhaps from a later one. With --limit, only that
many are listed, and the command says how to go on.`,
		Example: `  coord ls
  coord ls /workers -l
  coord ls /app -R -o json
  coord ls /queue --limit 100 --after job-0000000099`,
		Args:              rootArgs,
		ValidArgsFunction: g.completePath,
		RunE: g.asks(func(ctx context.Context, a *asking, args []string) error {
			if o.Limit < 0 || o.Limit == 0 && a.c.Flags().Changed("limit") {
				return usageError(a.c, errors.New("--limit is 1 or more"))
			}
			path := rootOr(args)
			l, err := o.read(ctx, a, path)
			if err != nil {
				return failed(err, "list %s", path)
			}
			return o.print(a, path, l)
		}),
	}
	f := c.Flags()
	f.BoolVarP(&o.recursive, "recursive", "R", false, "everything below it")
	f.BoolVarP(&o.long, "long", "l", false, "with kind, version, size, children and time of the last change")
	f.IntVar(&o.Limit, "limit", 0, "no more than so many; without it, all")
	f.StringVar(&o.After, "after", "", "begin behind this name, or with -R this path")
	return g.command(c)
}

// pages are the pages of one listing.
type pages struct {
	nodes  []httpapi.Node
	bodies [][]byte
	next   string
}

// read reads one page if a limit is given, else all of them.
func (o *listing) read(ctx context.Context, a *asking, path string) (*pages, error) {
	p, r, all := o.Page, a.read(), &pages{}
	for {
		l, err := o.page(ctx, a, path, p, r)
		if err != nil {
			return nil, err
		}
		all.nodes = append(append(all.nodes, l.Children...), l.Nodes...)
		if all.next = l.Next; a.output == "json" {
			all.bodies = append(all.bodies, l.Body)
		}
		if p.Limit > 0 {
			p.Limit -= len(l.Children) + len(l.Nodes)
		}
		if l.Next == "" || o.Limit > 0 && p.Limit <= 0 {
			return all, nil
		}
		p.After, r.MinZxid = l.Next, max(r.MinZxid, l.Zxid()) // never back in time
	}
}

func (o *listing) page(
	ctx context.Context, a *asking, path string, p httpapi.Page, r httpapi.Read,
) (*httpapi.Listing, error) {
	if o.recursive {
		return a.Subtree(ctx, path, p, r)
	}
	return a.Children(ctx, path, o.long || a.output == "json", p, r)
}

func (o *listing) print(a *asking, path string, all *pages) error {
	if a.output == "json" {
		name := "children"
		if o.recursive {
			name = "nodes"
		}
		form, err := merge(all.bodies, name)
		if err != nil {
			return err
		}
		if all.next != "" {
			form["next"], err = quoteJSON(all.next)
		}
		if err != nil {
			return err
		}
		return a.out.encode(form)
	}
	o.printNames(a, path, all.nodes)
	if all.next != "" {
		a.note("there is more: --after %s", shellQuote(all.next))
	}
	return nil
}

func (o *listing) printNames(a *asking, path string, nodes []httpapi.Node) {
	var rows [][]string
	if o.long && a.output == "table" {
		rows = append(rows, []string{"KIND", "VERSION", "SIZE", "CHILDREN", "CHANGED", "NAME"})
	}
	for _, n := range nodes {
		name := n.Name
		if o.recursive {
			if n.Path == path {
				continue // what is below it is asked for
			}
			name = n.Path
		}
		if !o.long {
			a.out.line("%s", name)
			continue
		}
		rows = append(rows, append(longCells(n.Stat), name))
	}
	a.out.table(rows)
}

// longCells describes a node. One that the caller may not read has no stat.
func longCells(s *httpapi.Stat) []string {
	if s == nil {
		return []string{"?", "?", "?", "?", "?"}
	}
	return []string{s.Kind, fmt.Sprint(s.Version), fmt.Sprint(s.DataLength), fmt.Sprint(s.NumChildren), stamp(s.Mtime)}
}

func newTree(g *globals) *cobra.Command {
	values := false
	c := &cobra.Command{
		Use:   "tree [PATH]",
		Short: "Draw a node and everything below it",
		Long: `Draw a node and everything below it. Behind the names of nodes that are not persistent stands their kind.

-o json prints what ls -R does, -o raw the paths.`,
		Example: `  coord tree
  coord tree /app --values`,
		Args:              rootArgs,
		ValidArgsFunction: g.completePath,
		RunE: g.asks(func(ctx context.Context, a *asking, args []string) error {
			o, path := &listing{recursive: true}, rootOr(args)
			all, err := o.read(ctx, a, path)
			if err != nil {
				return failed(err, "list %s", path)
			}
			if a.output != "table" {
				return o.print(a, path, all)
			}
			drawTree(a.out, path, all.nodes, values)
			return nil
		}),
	}
	c.Flags().BoolVar(&values, "values", false, "show the data too")
	return g.command(c)
}

// branch is a node of a drawing.
type branch struct {
	label string
	below []*branch
}

// drawTree draws nodes, which come with parents before children. A node whose parent is not among them, since pages are
// read from states that may differ, is drawn at the top.
func drawTree(out *printer, root string, nodes []httpapi.Node, values bool) {
	top := &branch{}
	at := map[string]*branch{}
	for i := range nodes {
		n := &nodes[i]
		b := &branch{label: op.Base(n.Path) + describe(n, values)}
		parent, ok := at[op.Parent(n.Path)]
		if n.Path == root || !ok {
			parent, b.label = top, n.Path+describe(n, values)
		}
		parent.below = append(parent.below, b)
		at[n.Path] = b
	}
	for _, b := range top.below {
		out.line("%s", b.label)
		b.draw(out, "")
	}
}

func (b *branch) draw(out *printer, indent string) {
	for i, sub := range b.below {
		lead, more := "├── ", "│   "
		if i == len(b.below)-1 {
			lead, more = "└── ", "    "
		}
		out.line("%s%s%s", indent, lead, sub.label)
		sub.draw(out, indent+more)
	}
}

func describe(n *httpapi.Node, values bool) string {
	var b strings.Builder
	if s := n.Stat; s != nil && s.Kind != op.Persistent.String() {
		b.WriteString("  (" + strings.TrimRight(s.Kind+" "+s.EphemeralOwner+s.TTL, " ") + ")")
	}
	if data := n.Bytes(); values && len(data) > 0 {
		b.WriteString("  " + cell(data))
	}
	return b.String()
}
