package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// addClient adds the commands that ask a service. The root has their flags too, so that these can stand before the
// command; commands that run a service don't have them.
func addClient(root *cobra.Command, io stdio) {
	g := newGlobals(io)
	for _, c := range [...]*cobra.Command{
		newGet(g), newSet(g), newCreate(g), newRm(g), newStat(g), newLs(g), newTree(g), newWatch(g), newTxn(g),
		newSession(g), newLease(g), newConfig(g), newServices(g), newStatus(g), newCheck(g), newLimits(g), newBench(g),
		newLock(g), newLocks(g), newElect(g), newElections(g), newOnce(g), newBarrier(g), newBarriers(g), newLatch(g), newCounter(g), newQueue(g), newGroup(g),
	} {
		c.GroupID = "client"
		root.AddCommand(c)
	}
	root.AddCommand(newContext(g), newDocs(io))
	for _, c := range root.Commands() {
		c.SuggestFor = elsewhere[c.Name()]
		for _, sub := range c.Commands() {
			sub.SuggestFor = elsewhere[sub.Name()]
		}
	}
	root.TraverseChildren = true
	g.addTo(root)
	parent(root)
}

// meant returns the commands that somebody may have meant who has written word.
func meant(c *cobra.Command, word string) []string {
	for _, sub := range c.Commands() {
		if slices.Contains(sub.SuggestFor, word) {
			return []string{sub.Name()}
		}
	}
	return c.SuggestionsFor(word)
}

// elsewhere are words by which other services' commands do what the command of that name does.
var elsewhere = map[string][]string{
	"set":      {"put", "write", "update"},
	"rm":       {"del", "delete", "remove", "deleteall", "unset"},
	"get":      {"read", "cat"},
	"ls":       {"list", "children"},
	"create":   {"mk", "mkdir", "touch", "add"},
	"watch":    {"subscribe", "tail"},
	"status":   {"members", "member", "leader", "health", "cluster", "info", "endpoint"},
	"services": {"catalog", "resolve"},
	"dev":      {"start", "run"},
	"serve":    {"server", "agent"},
}

// exclusive refuses more than one of the flags.
func exclusive(c *cobra.Command, names ...string) {
	before := c.PreRunE
	c.PreRunE = func(c *cobra.Command, args []string) error {
		first := ""
		for _, name := range names {
			switch given := c.Flags().Changed(name); {
			case given && first != "":
				return usageError(c, fmt.Errorf("--%s and --%s can't be given together", first, name))
			case given:
				first = name
			}
		}
		if before != nil {
			return before(c, args)
		}
		return nil
	}
}

// parent makes c a command that only has others below it: alone it shows its help, and a word that is none of them is
// an error.
func parent(c *cobra.Command) *cobra.Command {
	c.Args = cobra.ArbitraryArgs
	c.SuggestionsMinimumDistance = 2 // letters
	c.RunE = func(c *cobra.Command, args []string) error {
		if len(args) == 0 {
			return c.Help()
		}
		return noCommand(c, args[0])
	}
	return c
}

// noCommand is the error of a word that stands where one of c's commands should.
func noCommand(c *cobra.Command, word string) error {
	e := &exitError{code: exitUsage, why: "usage: " + c.UseLine(), next: c.CommandPath() + " --help"}
	e.err = fmt.Errorf("%s has no command %q", c.CommandPath(), word)
	if near := meant(c, word); len(near) > 0 {
		e.why = "did you mean " + strings.Join(near, ", or ") + "?"
	}
	return e
}
