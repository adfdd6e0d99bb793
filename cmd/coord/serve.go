package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/coord-kv/coord/internal/config"
	"github.com/coord-kv/coord/op"
)

func newServe(io stdio) *cobra.Command {
	cfg := config.New()
	c := &cobra.Command{
		Use:     "serve",
		Short:   "Run one member of a cluster",
		GroupID: "server",
		Long: `Run one member of a cluster.

Every member gets the same --cluster list. A new cluster starts when all of its members are up; after that a majority is
enough. SIGTERM makes the member hand over leadership, finish what is under way, and stop.

Each option can be given as a flag, as an environment variable (COORD_ and its name in capitals: COORD_DATA_DIR), or in
the YAML file that --config names, under its name (data-dir: /var/lib/coord). A flag wins over the environment, and that
over the file. ` + "`coord check-config FILE`" + ` says what is wrong with a file.`,
		Example: `  coord serve --config /etc/coord.yaml
  coord serve --name n1 --data-dir /var/lib/coord --cluster n1=10.0.0.1:7071,n2=10.0.0.2:7071,n3=10.0.0.3:7071 \
      --listen 10.0.0.1:7070 --peer-listen 10.0.0.1:7071`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := cfg.Load(c.Flags(), os.LookupEnv); err != nil {
				return configError(c, err)
			}
			return serve(c.Context(), io, cfg)
		},
	}
	cfg.Register(c.Flags())
	return c
}

func serve(ctx context.Context, io stdio, cfg *config.Config) error {
	log, err := newLogger(io, cfg.LogLevel, cfg.LogFormat)
	if err != nil {
		return err
	}
	log.Info("starting", "version", buildVersion(), "member", cfg.Name, "options", strings.Join(cfg.Given(), " "))
	for _, w := range cfg.Warnings(op.DefaultLimits().SessionMin) {
		log.Warn(w)
	}
	spec := memberSpec{name: cfg.Name, dir: cfg.DataDir, listen: cfg.Listen, dns: cfg.DNSListen, list: cfg.Members()}
	if len(spec.list) > 1 {
		if spec.peers, err = net.Listen("tcp", cfg.PeerListen); err != nil {
			return explain(fmt.Errorf("couldn't listen for other members: %w", err))
		}
	}
	s := &server{log: log, cfg: cfg, members: []memberSpec{spec}}
	s.ready = func() {
		log.Info("serving", "listen", cfg.Listen, "peer-listen", cfg.PeerListen, "dns-listen", cfg.DNSListen, "data-dir", cfg.DataDir)
	}
	return s.run(ctx)
}

func newCheckConfig(io stdio) *cobra.Command {
	return &cobra.Command{
		Use:     "check-config FILE",
		Short:   "Say what is wrong with a configuration file",
		GroupID: "server",
		Long: `Say what is wrong with a configuration file of ` + "`coord serve`" + `, with line numbers, and exit with 2 if anything is.

The file is checked alone: flags and environment variables, which win over it, are not looked at.`,
		Example: `  coord check-config /etc/coord.yaml`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageError(c, errors.New("it takes one argument: the file"))
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			missing, err := config.CheckFile(args[0])
			if err != nil {
				return configError(c, err)
			}
			fmt.Fprintf(io.out, "%s: ok\n", args[0])
			for _, name := range missing {
				fmt.Fprintf(io.out, "to be given as --%s or %s: it is required and not in the file\n", name, config.EnvName(name))
			}
			return nil
		},
	}
}

// configError says what is wrong with a configuration, a line for each mistake: "file:line: what" is what editors jump to.
func configError(c *cobra.Command, err error) error {
	return &exitError{code: exitUsage, err: errors.New("the configuration is not valid"), why: err.Error(), next: c.CommandPath() + " --help"}
}

func newLogger(io stdio, level, format string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("--log-level %q: it is debug, info, warn or error", level)
	}
	opts := &slog.HandlerOptions{Level: l}
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(io.err, opts)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(io.err, opts)), nil
	}
	return nil, fmt.Errorf("--log-format %q: it is text or json", format)
}
