package main

import (
	"fmt"
	"log/slog"
	"net"
	"strings"

	"github.com/spf13/cobra"

	"github.com/coord-kv/coord/internal/peer"
)

// serveOptions are the flags of `coord serve`; each has an environment variable too.
type serveOptions struct {
	name, dataDir      string
	listen, peerListen string
	cluster            string
	allowedHosts       []string
	allowedOrigins     []string
	logLevel           string
	logFormat          string
}

func newServe(io stdio) *cobra.Command {
	o := &serveOptions{}
	c := &cobra.Command{
		Use:     "serve",
		Short:   "Run one member of a cluster",
		GroupID: "server",
		Long: `Run one member of a cluster.

Every member gets the same --cluster list. A new cluster starts when all of its members are up; after that a majority is
enough. SIGTERM makes the member hand over leadership, finish what is under way, and stop.

Each flag can be given as an environment variable: COORD_ and its name in capitals (COORD_DATA_DIR). Flags win.`,
		Example: `  coord serve --name n1 --data-dir /var/lib/coord --listen 127.0.0.1:7070 --peer-listen 127.0.0.1:7071 \
      --cluster n1=127.0.0.1:7071,n2=127.0.0.1:7171,n3=127.0.0.1:7271`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := fromEnvironment(c.Flags()); err != nil {
				return usageError(c, err)
			}
			s, err := o.server(io)
			if err != nil {
				return usageError(c, err)
			}
			return s.run(c.Context())
		},
	}
	f := c.Flags()
	f.StringVar(&o.name, "name", "", "this member's name, one of the cluster list (required)")
	f.StringVar(&o.dataDir, "data-dir", "", "directory of this member alone, made if missing (required)")
	f.StringVar(&o.listen, "listen", "127.0.0.1:7070", "address for clients (HTTP)")
	f.StringVar(&o.peerListen, "peer-listen", "127.0.0.1:7071", "address for the other members")
	f.StringVar(&o.cluster, "cluster", "", "all members as name=host:port of their peer address, separated by commas; a member alone may leave it out")
	f.StringSliceVar(&o.allowedHosts, "allow-host", nil, "further host names that clients may use, besides loopback and the listen address")
	f.StringSliceVar(&o.allowedOrigins, "allow-origin", nil, "web origins (https://host) whose pages may call the API, besides its own")
	f.StringVar(&o.logLevel, "log-level", "info", "debug, info, warn or error")
	f.StringVar(&o.logFormat, "log-format", "text", "text or json")
	return c
}

// server checks the options and turns them into what is to be run.
func (o *serveOptions) server(io stdio) (*server, error) {
	switch {
	case o.name == "":
		return nil, fmt.Errorf("--name is required: this member's name, such as n1")
	case o.dataDir == "":
		return nil, fmt.Errorf("--data-dir is required: a directory for this member alone")
	}
	members, err := parseCluster(o.cluster, o.name, o.peerListen)
	if err != nil {
		return nil, err
	}
	log, err := newLogger(io, o.logLevel, o.logFormat)
	if err != nil {
		return nil, err
	}
	spec := memberSpec{name: o.name, dir: o.dataDir, listen: o.listen, list: members}
	if len(members) > 1 {
		if spec.peers, err = net.Listen("tcp", o.peerListen); err != nil {
			return nil, err
		}
	}
	return &server{log: log, hosts: o.allowedHosts, origins: o.allowedOrigins, members: []memberSpec{spec}}, nil
}

// parseCluster reads name=host:port,... An empty list means a member alone.
func parseCluster(list, self, peerListen string) ([]peer.Member, error) {
	if list == "" {
		return []peer.Member{{Name: self, Addr: peerListen}}, nil
	}
	var members []peer.Member
	found := false
	for part := range strings.SplitSeq(list, ",") {
		name, addr, ok := strings.Cut(strings.TrimSpace(part), "=")
		if _, _, err := net.SplitHostPort(addr); !ok || name == "" || err != nil {
			return nil, fmt.Errorf("--cluster: %q is not name=host:port", part)
		}
		found = found || name == self
		members = append(members, peer.Member{Name: name, Addr: addr})
	}
	if !found {
		return nil, fmt.Errorf("--cluster %s doesn't have this member's name, %s", list, self)
	}
	return members, nil
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
