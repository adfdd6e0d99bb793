package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

const statusCodes = `Exit codes:

  0   healthy
  1   could not tell: no endpoint answers, or they belong to different clusters
  2   degraded: it works, and something is wrong
  3   no quorum: writes and linearizable reads are refused`

// oneLook is how long one examination of a cluster that is waited for may take.
const oneLook = 10 * time.Second

func newStatus(g *globals) *cobra.Command {
	wait := ""
	c := &cobra.Command{
		Use:   "status",
		Short: "Say how the cluster is, what is wrong and what that means",
		Long: `Say how the cluster is, what is wrong and what that means. Every endpoint is asked, and of members that have
none here, those that answer are asked. A linearizable read proves that there is a quorum.

--wait healthy waits until everything is well, for as long as --timeout says.

` + statusCodes,
		Example: `  coord status
  coord status -e localhost:7070,localhost:7071,localhost:7072
  coord status --wait healthy --timeout 1m`,
		Args: noArgs,
		RunE: g.asksForever(func(ctx context.Context, a *asking, _ []string) error {
			r, err := look(ctx, a, wait)
			if err != nil {
				return err
			}
			if a.output == "json" {
				err = a.out.encode(r)
			} else {
				r.print(a)
			}
			if err == nil && r.Status != healthy {
				err = &exitError{code: int(r.Status), silent: true, err: errors.New(r.Status.String())}
			}
			return err
		}),
	}
	c.Flags().StringVar(&wait, "wait", "", "healthy: wait until it is")
	return g.command(c)
}

func look(ctx context.Context, a *asking, wait string) (*report, error) {
	switch wait {
	case "":
		return examine(ctx, a.Client, a.timeout), nil
	case "healthy":
		ctx, cancel := context.WithTimeout(ctx, a.timeout)
		defer cancel()
		return await(ctx, a.Client, min(a.timeout, oneLook)), nil
	}
	return nil, usageError(a.c, fmt.Errorf("--wait %q: it is healthy", wait))
}

func (r *report) print(a *asking) {
	if a.output == "raw" {
		a.out.line("%s", r.Status)
		return
	}
	how := map[verdict]string{healthy: good, degraded: poor, unclear: poor, noQuorum: bad}[r.Status]
	name := ""
	if r.Cluster != "" {
		name = "cluster " + r.Cluster + ": "
	}
	a.out.line("%s%s", name, a.out.color(how, r.Status.String()))
	for _, m := range r.Meaning {
		a.out.line("%s", m)
	}
	if r.Next != "" {
		a.out.line("next: %s", r.Next)
	}
	if len(r.Members) == 0 {
		return
	}
	a.out.line("")
	rows := [][]string{{"MEMBER", "ENDPOINT", "ROLE", "ZXID", "LAG", "VERSION", "STATE"}}
	for _, v := range r.Members {
		lag := "-" // of one that is down: what was sent to it last says nothing
		if v.Zxid != "" || v.Up {
			lag = fmt.Sprint(v.Lag)
		}
		rows = append(rows, []string{
			dash(v.Name), dash(v.Endpoint), dash(v.Role), dash(v.Zxid), lag, dash(v.Version), v.State,
		})
	}
	a.out.table(rows)
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func newCheck(g *globals) *cobra.Command {
	format, member := "text", false
	c := &cobra.Command{
		Use:   "check",
		Short: "Say in one line how the cluster is, for monitoring",
		Long: `Say in one line how the cluster is, for monitoring: text, json, nagios or prometheus (for a node exporter's
textfile collector).

--member asks only whether the endpoint serves: 0 if it does, else 1. That is what the health check of a container is to
ask: that another member is down is no reason to restart this one.

` + statusCodes + `

With --format nagios they are a plugin's: 0 OK, 1 WARNING (degraded), 2 CRITICAL (no quorum), 3 UNKNOWN.`,
		Example: `  coord check
  coord check --format nagios -e n1:7070,n2:7070,n3:7070
  coord check --member -q`,
		Args: noArgs,
		RunE: g.asksForever(func(ctx context.Context, a *asking, _ []string) error {
			if a.output == "json" && !a.c.Flags().Changed("format") {
				format = "json"
			}
			render, ok := formats[format]
			if !ok {
				return usageError(a.c, fmt.Errorf("--format %q: it is text, json, nagios or prometheus", format))
			}
			if member {
				return checkMember(ctx, a)
			}
			r := examine(ctx, a.Client, a.timeout)
			code := int(r.Status)
			if format == "nagios" {
				code = nagiosCodes[r.Status]
			}
			if !a.quiet {
				if err := render(a.out, r); err != nil {
					return err
				}
			}
			if code != 0 {
				return &exitError{code: code, silent: true, err: errors.New(r.Status.String())}
			}
			return nil
		}),
	}
	c.Flags().StringVar(&format, "format", "text", "text, json, nagios or prometheus")
	c.Flags().BoolVar(&member, "member", false, "only whether the endpoint serves")
	return g.command(c)
}

func checkMember(ctx context.Context, a *asking) error {
	endpoints := a.Endpoints()
	if len(endpoints) != 1 {
		return usageError(a.c, errors.New("--member is about one endpoint, and --endpoints names several"))
	}
	ctx, cancel := context.WithTimeout(ctx, a.timeout/3) // as status asks
	defer cancel()
	if err := a.Ready(ctx, endpoints[0]); err != nil {
		return &exitError{
			code: exitOther, err: fmt.Errorf("%s does not serve", endpoints[0]), why: shortReason(err), next: "coord status",
		}
	}
	if !a.quiet {
		a.out.line("ok")
	}
	return nil
}

var formats = map[string]func(*printer, *report) error{
	"text": func(p *printer, r *report) error {
		p.line("%s: %s", r.Status, strings.Join(r.Meaning, "; "))
		return nil
	},
	"json":       func(p *printer, r *report) error { return p.encode(r) },
	"nagios":     nagios,
	"prometheus": prometheusText,
}

// nagiosCodes are the exit codes of a plugin (OK, WARNING, CRITICAL, UNKNOWN).
var nagiosCodes = map[verdict]int{healthy: 0, degraded: 1, noQuorum: 2, unclear: 3}

// nagios writes what a plugin does: a state, words, and behind a bar what can be drawn. Words must not have a bar.
func nagios(p *printer, r *report) error {
	state := [...]string{"OK", "WARNING", "CRITICAL", "UNKNOWN"}[nagiosCodes[r.Status]]
	words := strings.ReplaceAll(strings.Join(r.Meaning, "; "), "|", "/")
	p.line("COORD %s - %s | members=%d members_up=%d quorum=%d", state, words, r.Voters, r.Up, r.Needed)
	return nil
}

// prometheusText writes the text format. The names are none of the server's: this is a look from outside.
func prometheusText(p *printer, r *report) error {
	for _, m := range []struct {
		name, help string
		value      int
	}{
		{"status", "How the cluster is: 0 healthy, 1 could not tell, 2 degraded, 3 no quorum.", int(r.Status)},
		{"members", "Voting members of the cluster, 0 if unknown.", r.Voters},
		{"members_up", "Voting members that answer.", r.Up},
		{"quorum_members", "Voting members that are needed, 0 if unknown.", r.Needed},
	} {
		p.line("# HELP coord_check_%s %s\n# TYPE coord_check_%[1]s gauge\ncoord_check_%[1]s %[3]d", m.name, m.help, m.value)
	}
	return nil
}
