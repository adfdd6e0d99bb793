package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/coord-kv/coord/internal/config"
	"github.com/coord-kv/coord/internal/peer"
)

// devPort is where every client looks for a service if nothing tells it where.
const devPort = 7070

// devOptions are the flags of `coord dev`.
type devOptions struct {
	members  int
	dataDir  string
	memory   bool
	port     int
	dns      string
	logLevel string
}

func newDev(io stdio) *cobra.Command {
	o := &devOptions{}
	c := &cobra.Command{
		Use:     "dev",
		Short:   "Run a service for development in this process",
		GroupID: "server",
		Long: `Run a service for development: one member or three, in this process, on loopback.

With --members 3 it is a real cluster: the members listen on --port, --port + 1 and --port + 2. Stop it with Ctrl-C; the
data stays, so that the next start goes on where this one ended.`,
		Example: `  coord dev
  coord dev --members 3 --memory`,
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
	f.IntVar(&o.members, "members", 1, "how many members, 1 or 3")
	f.StringVar(&o.dataDir, "data", "coord.data", "directory for the data, made if missing")
	f.BoolVar(&o.memory, "memory", false, "keep nothing on disk")
	f.IntVar(&o.port, "port", devPort, "port of the first member")
	f.StringVar(&o.dns, "dns-listen", "", "serve DNS at this address, such as 127.0.0.1:7072, from the first member")
	f.StringVar(&o.logLevel, "log-level", "warn", "debug, info, warn or error")
	c.MarkFlagsMutuallyExclusive("data", "memory")
	return c
}

func (o *devOptions) server(io stdio) (*server, error) {
	switch {
	case o.members != 1 && o.members != 3:
		return nil, fmt.Errorf("--members %d: it is 1 or 3", o.members)
	case o.port < 1 || o.port+o.members-1 > 65535:
		return nil, fmt.Errorf("--port %d: it is 1 to %d", o.port, 65536-o.members)
	}
	if _, _, err := net.SplitHostPort(o.dns); o.dns != "" && err != nil {
		return nil, fmt.Errorf("--dns-listen %q: it is host:port, such as 127.0.0.1:7072", o.dns)
	}
	log, err := newLogger(io, o.logLevel, "text")
	if err != nil {
		return nil, err
	}
	s := &server{log: log, cfg: config.New(), ready: func() { o.welcome(io) }}
	if s.members, err = o.specs(); err != nil {
		return nil, err
	}
	return s, nil
}

// specs lays the members out: one in the data directory itself, three below it.
func (o *devOptions) specs() ([]memberSpec, error) {
	specs := make([]memberSpec, o.members)
	var list []peer.Member
	for i := range specs {
		s := &specs[i]
		s.name = fmt.Sprintf("n%d", i+1)
		s.dir, s.memory = filepath.Join(o.dataDir, s.name), o.memory
		s.listen = fmt.Sprintf("127.0.0.1:%d", o.port+i)
		addr := "127.0.0.1:0" // a member alone is never dialled
		if o.members > 1 {
			ln, err := net.Listen("tcp", addr)
			if err != nil {
				return nil, err
			}
			s.peers, addr = ln, ln.Addr().String()
		}
		list = append(list, peer.Member{Name: s.name, Addr: addr})
	}
	for i := range specs {
		specs[i].list = list
	}
	specs[0].dns = o.dns
	if other := o.otherSize(); other != "" {
		return nil, fmt.Errorf("%s holds the data of %s: start it with as many members as before, or use another --data",
			o.dataDir, other)
	}
	return specs, nil
}

// otherSize says what the data directory holds if that is not what is about to start.
func (o *devOptions) otherSize() string {
	if o.memory {
		return ""
	}
	_, err := os.Stat(filepath.Join(o.dataDir, "n2"))
	three := err == nil
	_, err = os.Stat(filepath.Join(o.dataDir, "n1"))
	switch one := err == nil; {
	case three && o.members == 1:
		return "three members"
	case one && !three && o.members == 3:
		return "one member"
	}
	return ""
}

// welcome says where everything is and what to try. It is all that goes to standard output.
func (o *devOptions) welcome(io stdio) {
	var urls []string
	for i := range o.members {
		urls = append(urls, fmt.Sprintf("http://localhost:%d", o.port+i))
	}
	data := o.dataDir
	if o.memory {
		data = "in memory, gone when this ends"
	}
	if o.dns != "" {
		data += "\n  DNS      " + o.dns + " for the names below service.coord"
	}
	fmt.Fprintf(io.out, `coord %s: %s, for development, not for production

  API      %s
  health   %s/readyz?verbose     metrics %[4]s/metrics
  data     %[5]s
%[6]s
Try:
  curl -X PUT '%[4]s/v1/nodes/app/greeting?parents' -d hello
  curl %[4]s/v1/nodes/app/greeting
  curl -N -H 'Accept: text/event-stream' %[4]s/v1/watch/app      (leave it open and write again)
  coord lock nightly -- sleep 5                                  (and the same in another terminal)

Ctrl-C ends it.
`, buildVersion(), plural(o.members, "member"), strings.Join(urls, "  "), urls[0], data, o.forCommands(urls))
}

// forCommands is the line to copy for commands and programs to find the service, if they don't by themselves.
func (o *devOptions) forCommands(urls []string) string {
	if len(urls) == 1 && o.port == devPort {
		return ""
	}
	return "\n  export COORD_ENDPOINTS=" + strings.Join(urls, ",") + "\n"
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
