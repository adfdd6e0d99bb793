package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
	"github.com/spf13/pflag"

	"github.com/coord-kv/coord/internal/config"
)

// newDocs is what packaging uses. It is hidden: nobody needs it to use coord.
func newDocs(io stdio) *cobra.Command {
	c := parent(&cobra.Command{Use: "docs", Short: "Write the documentation of the command", Hidden: true})
	c.AddCommand(&cobra.Command{
		Use:   "man DIR",
		Short: "Write a manual page for each command into a directory, made if missing",
		Args: func(c *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageError(c, errors.New("it takes one argument, the directory"))
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return failed(err, "make %s", args[0])
			}
			c.Root().DisableAutoGenTag = true // the same input gives the same pages
			c.Root().Long += "\n\n" + newExitCodes().Long
			visit(c.Root(), func(c *cobra.Command) { c.Long = fenced(c.Long) }) // which a page's maker takes for Markdown
			if err := doc.GenManTree(c.Root(), &doc.GenManHeader{Section: "1", Source: "coord"}, args[0]); err != nil {
				return failed(err, "write manual pages into %s", args[0])
			}
			return nil
		},
	}, &cobra.Command{
		Use:   "markdown",
		Short: "Write docs/cli.md to standard output",
		Args:  noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return writeMarkdown(io.out, c.Root())
		},
	})
	return c
}

// writeMarkdown writes all commands as one page.
func writeMarkdown(w io.Writer, root *cobra.Command) error {
	m := &markdown{}
	m.printf("# The command\n\n")
	m.printf("This page is made from the command itself by `coord docs markdown`; a test holds that it is up to date. ")
	m.printf("What a\ncommand prints is data on standard output; everything else goes to standard error.\n\n")
	visit(root, func(c *cobra.Command) {
		if c.Runnable() && c != root {
			m.printf("- [%s](#%s): %s\n", c.CommandPath(), anchor(c), c.Short)
		}
	})
	m.globalFlags(root)
	visit(root, func(c *cobra.Command) {
		if c != root {
			m.command(c, root)
		}
	})
	_, err := io.WriteString(w, m.String())
	return err
}

// visit calls f for every command that is shown, parents first.
func visit(c *cobra.Command, f func(*cobra.Command)) {
	f(c)
	for _, sub := range c.Commands() {
		if !sub.Hidden && sub.Name() != "help" && sub.Name() != "completion" {
			visit(sub, f)
		}
	}
}

func anchor(c *cobra.Command) string { return strings.ReplaceAll(c.CommandPath(), " ", "-") }

// markdown is a page in the making.
type markdown struct{ strings.Builder }

func (m *markdown) printf(format string, args ...any) { fmt.Fprintf(m, format, args...) }

func (m *markdown) globalFlags(root *cobra.Command) {
	m.printf("\n## Flags of every command that asks a service\n\n")
	m.printf("They stand before the command or behind it. Each can be given in the environment too.\n\n")
	m.printf("| flag | environment | |\n|---|---|---|\n")
	root.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if f.Name != "help" {
			m.printf("| %s | `%s` | %s |\n", flagName(f), config.EnvName(f.Name), flagUsage(f))
		}
	})
}

func (m *markdown) command(c, root *cobra.Command) {
	text := c.Long
	if text == "" {
		text = c.Short + "."
	}
	m.printf("\n## %s\n\n```\n%s\n```\n\n%s\n", c.CommandPath(), strings.TrimSpace(c.UseLine()), fenced(text))
	if c.Example != "" {
		m.printf("\n```sh no-run: it stands alone\n%s\n```\n", unindent(c.Example))
	}
	var rows strings.Builder
	c.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if f.Name != "help" && !f.Hidden && root.Flags().Lookup(f.Name) == nil {
			fmt.Fprintf(&rows, "| %s | %s |\n", flagName(f), flagUsage(f))
		}
	})
	if rows.Len() > 0 {
		m.printf("\n| flag | |\n|---|---|\n%s", rows.String())
	}
}

func flagName(f *pflag.Flag) string {
	name := "`--" + f.Name + "`"
	if f.Shorthand != "" {
		name = "`-" + f.Shorthand + "`, " + name
	}
	return name
}

func flagUsage(f *pflag.Flag) string {
	usage := strings.ReplaceAll(f.Usage, "|", `\|`)
	switch f.DefValue {
	case "", "false", "0", "0s", "[]":
		return usage
	}
	return usage + " (default `" + strings.Trim(f.DefValue, "[]") + "`)"
}

// fenced puts indented paragraphs, which are examples and tables, into fences.
func fenced(text string) string {
	paragraphs := strings.Split(text, "\n\n")
	for i, p := range paragraphs {
		if strings.HasPrefix(p, "  ") {
			paragraphs[i] = "```\n" + unindent(p) + "\n```"
		}
	}
	return strings.Join(paragraphs, "\n\n")
}

// unindent takes two spaces from the beginning of each line.
func unindent(s string) string {
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		lines[i] = strings.TrimPrefix(l, "  ")
	}
	return strings.Join(lines, "\n")
}
