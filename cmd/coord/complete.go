package main

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/coord-kv/coord/internal/httpapi"
	"github.com/coord-kv/coord/op"
)

const (
	completionTime  = time.Second // longer, and the shell seems to hang
	completionNames = 200
)

// completePath completes the path of a node from the live tree. What it can't read in time it doesn't know.
func (g *globals) completePath(c *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	const how = cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	if len(args) > 0 || g.prepare(c) != nil {
		return nil, cobra.ShellCompDirectiveDefault
	}
	cl, err := g.client(c)
	if err != nil {
		return nil, how
	}
	ctx, cancel := context.WithTimeout(context.Background(), completionTime)
	defer cancel()
	dir := op.Root
	if i := strings.LastIndexByte(typed, '/'); i > 0 {
		dir = typed[:i]
	}
	fast := httpapi.Read{Consistency: op.Eventual.String()}
	l, err := cl.Children(ctx, dir, false, httpapi.Page{Limit: completionNames}, fast)
	if err != nil {
		return nil, how
	}
	var paths []string
	for _, n := range l.Children {
		if p := op.Join(dir, n.Name); strings.HasPrefix(p, typed) {
			paths = append(paths, p)
		}
	}
	return paths, how
}
