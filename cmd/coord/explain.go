package main

import (
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/coord-kv/coord/internal/config"
)

func configExplain(g *globals) *cobra.Command {
	return g.command(&cobra.Command{
		Use:   "explain",
		Short: "Show what this command line tool itself is set to, and what has said so",
		Long: `Show what this command line tool itself is set to, and what has said so: a flag, a variable of the environment, a context
or the default, in this order of precedence. It asks no service, and is not about applications.`,
		Example: "  coord config explain\n  COORD_TIMEOUT=3s coord config explain -o json",
		Args:    noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			said := map[string]string{}
			c.Flags().VisitAll(func(f *pflag.Flag) {
				env := config.EnvName(f.Name)
				switch {
				case f.Changed:
					said[f.Name] = "--" + f.Name
				case os.Getenv(env) != "":
					said[f.Name] = env
				}
			})
			if err := g.prepare(c); err != nil {
				return err
			}
			return g.explain(said)
		},
	})
}

// explain prints the settings. said names what has set those that aren't left to a context or the default.
func (g *globals) explain(said map[string]string) error {
	all, err := loadContexts()
	if err != nil {
		return err
	}
	name := all.Current
	if g.context != "" {
		name = g.context
	}
	used := name != "" && said["endpoints"] == ""
	password := "default"
	switch {
	case os.Getenv("COORD_PASSWORD") != "":
		password = "COORD_PASSWORD"
	case g.password != "":
		password = "context " + name
	}
	p := newPrinter(g)
	rows := [][]string{{"SETTING", "VALUE", "FROM"}}
	form := map[string]map[string]string{}
	add := func(name, value, from string) {
		rows = append(rows, []string{name, plain(value), from})
		form[name] = map[string]string{"value": value, "from": from}
	}
	g.flags.VisitAll(func(f *pflag.Flag) {
		value, from := f.Value.String(), said[f.Name]
		switch {
		case from != "":
		case used && f.Name == "endpoints", used && f.Name == "user" && g.user != "":
			from = "context " + name
		case f.Name == "context" && name != "":
			from = "coord context use"
		default:
			from = "default"
		}
		switch f.Name {
		case "endpoints":
			value = strings.Join(g.endpoints, ",")
		case "context":
			value = name
		}
		add(f.Name, value, from)
	})
	secret := ""
	if g.password != "" {
		secret = "(set)"
	}
	add("password", secret, password)
	if g.output == "json" {
		err = p.encode(form)
	} else {
		p.table(rows)
	}
	if err != nil {
		return err
	}
	return p.flush()
}
