package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/coord-kv/coord/internal/config"
)

// stdio is where a command reads and writes: data to out, everything else to err.
type stdio struct {
	in       io.Reader
	out, err io.Writer
}

func newRoot(io stdio) *cobra.Command {
	root := &cobra.Command{
		Use:   "coord",
		Short: "A coordination service: a replicated tree with sessions, watches and locks",
		Long: "coord keeps a small tree of nodes consistent on several machines, and tells everybody who watches what changes.\n" +
			"Start with `coord dev`, then talk to it with curl or with the other commands.",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetIn(io.in)
	root.SetOut(io.out)
	root.SetErr(io.err)
	root.SetFlagErrorFunc(flagError)
	root.AddGroup(&cobra.Group{ID: "server", Title: "Run the service:"}, &cobra.Group{ID: "client", Title: "Use it:"},
		&cobra.Group{ID: "other", Title: "Other:"})
	root.SetHelpCommandGroupID("other")
	root.SetCompletionCommandGroupID("other")
	root.AddCommand(newDev(io), newServe(io), newCheckConfig(io), newVersion(io), newExitCodes())
	addClient(root, io)
	strictHelp(root)
	return root
}

// strictHelp makes usage errors of what cobra's own commands take as a wish for help.
func strictHelp(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, c := range root.Commands() {
		switch c.Name() {
		case "completion":
			parent(c)
		case "help":
			c.Run, c.RunE = nil, func(_ *cobra.Command, args []string) error {
				of, rest, err := root.Find(args)
				switch {
				case of == nil || err != nil:
					return noCommand(root, args[0])
				case len(rest) > 0:
					return noCommand(of, rest[0])
				}
				of.InitDefaultHelpFlag()
				return of.Help()
			}
		}
	}
}

func usageError(c *cobra.Command, err error) error {
	return &exitError{code: exitUsage, err: err, why: "usage: " + c.UseLine(), next: c.CommandPath() + " --help"}
}

// noArgs refuses arguments with a usage error.
func noArgs(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError(c, fmt.Errorf("unexpected argument %q", args[0]))
	}
	return nil
}

// fromEnvironment sets every flag that the command line doesn't from its environment variable: COORD_ and the flag's
// name in capitals. The command line wins; an empty variable counts as one that isn't set.
func fromEnvironment(flags *pflag.FlagSet) error {
	var errs []error
	flags.VisitAll(func(f *pflag.Flag) {
		name := config.EnvName(f.Name)
		v := os.Getenv(name)
		if v == "" || f.Changed {
			return
		}
		if err := flags.Set(f.Name, v); err != nil {
			errs = append(errs, fmt.Errorf("%s=%q: %w", name, v, err))
		}
	})
	return errors.Join(errs...)
}

func newExitCodes() *cobra.Command {
	return &cobra.Command{
		Use:   "exit-codes",
		Short: "What the exit codes mean",
		Long: `Exit codes of commands that don't run another program:

  0   ok
  1   another error
  2   usage or configuration
  3   not found
  4   conflict: exists already, another version, not empty, a failed precondition
  5   unavailable: no connection, no leader, not in time
  6   denied
  7   history gone: a watch can't resume from so far back

status and check say how the cluster is instead, see their --help.

Commands that run a program (lock, elect, once, barrier, queue pop, group join, service register, config run,
watch --exec) end with its code, and with:

  123  what it ran under was lost, and the program was stopped
  124  that was not got in time; -E CODE sets another code
  125  coord itself failed
  126  the program can't be executed
  127  there is no such program
  128  and the number of the signal that ended the program

serve and dev also end with:

  65  the data directory is damaged, or belongs to another member, cluster or version
  74  a write to the data directory failed; nobody knows what is stored, so the member stops`,
	}
}
