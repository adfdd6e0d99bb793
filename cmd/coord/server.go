package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/coord-kv/coord/api"
	"github.com/coord-kv/coord/internal/config"
	"github.com/coord-kv/coord/internal/dns"
	"github.com/coord-kv/coord/internal/gcpace"
	"github.com/coord-kv/coord/internal/member"
	"github.com/coord-kv/coord/internal/peer"
	"github.com/coord-kv/coord/internal/replica"
	"github.com/coord-kv/coord/internal/storage"
)

// server is one or several members of a cluster in this process, with their doors.
type server struct {
	log     *slog.Logger
	cfg     *config.Config // what its members have in common
	members []memberSpec
	ready   func() // called once all doors are open; nil for nothing
}

// memberSpec is one member to be run.
type memberSpec struct {
	name, dir string
	memory    bool
	listen    string       // for clients
	dns       string       // for DNS; "" for none
	peers     net.Listener // for other members; nil if there are none
	list      []peer.Member
}

// run serves until ctx ends, then stops from the outside in: doors refuse new work, leadership goes to another member,
// what is under way is finished, and the members stop.
func (s *server) run(ctx context.Context) error {
	s.limitConns()
	var running []*running
	for _, spec := range s.members {
		r, err := s.open(spec)
		if err != nil {
			for _, r := range running {
				r.close()
			}
			return explain(err)
		}
		running = append(running, r)
	}
	life, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	g, life := errgroup.WithContext(life)
	g.Go(func() error { gcpace.Run(life); return nil })
	for _, r := range running {
		g.Go(func() error { return r.member.Run(life) })
	}
	g.Go(func() error {
		defer stop()
		return s.serveDoors(ctx, life, running)
	})
	if s.ready != nil {
		s.ready()
	}
	return explain(g.Wait())
}

// limitConns takes no more connections than leave files for the members themselves.
func (s *server) limitConns() {
	l, def := &s.cfg.Limits, api.DefaultLimits()
	may, perIP := cmp.Or(l.Conns, def.Conns), cmp.Or(l.ConnsPerIP, def.ConnsPerIP)
	conns, why := maxConns(may, len(s.members), openFiles())
	if why == "" {
		return
	}
	s.log.Warn(why)
	l.Conns, l.ConnsPerIP = conns, max(1, perIP*conns/may) // one address gets the same share of them
}

// serveDoors serves clients until ctx ends, or a member fails, which ends life.
func (s *server) serveDoors(ctx, life context.Context, all []*running) error {
	doors, closeDoors := context.WithCancel(life)
	defer closeDoors()
	var g errgroup.Group
	for _, r := range all {
		g.Go(func() error { return r.door.Serve(doors, r.listener) })
		if r.dns != nil {
			g.Go(func() error { return r.dns.Run(doors) })
		}
	}
	select {
	case <-ctx.Done():
	case <-life.Done():
	}
	for _, r := range all {
		r.door.StartDraining()
	}
	if len(all) == 1 && life.Err() == nil { // members of one process stop together: nobody takes over
		s.handOver(life, all[0])
	}
	closeDoors()
	return g.Wait()
}

func (s *server) handOver(ctx context.Context, r *running) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.HandOverTimeout)
	defer cancel()
	if err := r.member.HandOver(ctx); err != nil {
		s.log.Warn("stopping as leader", "err", err)
	}
}

// running is a member and its doors.
type running struct {
	member   *member.Member
	door     *api.Server
	listener net.Listener
	dns      *dns.Server // nil for none
}

func (s *server) open(spec memberSpec) (*running, error) {
	ln, err := net.Listen("tcp", spec.listen)
	if err != nil {
		return nil, fmt.Errorf("couldn't listen for clients: %w", err)
	}
	log := s.log
	if len(s.members) > 1 {
		log = log.With("member", spec.name)
	}
	metrics := api.NewMetrics()
	m, err := member.Open(s.memberConfig(spec, log, metrics))
	if err != nil {
		ln.Close()
		return nil, err
	}
	door, err := api.New(api.Config{
		Backend: m, Name: spec.name, Version: buildVersion(), Logger: log, Metrics: metrics,
		AllowedHosts: s.cfg.AllowHosts, AllowedOrigins: s.cfg.AllowOrigins, Super: s.cfg.Super, Limits: s.cfg.Limits,
		Settings: s.settings(spec),
	})
	if err != nil {
		ln.Close()
		return nil, errors.Join(err, m.Close())
	}
	r := &running{member: m, door: door, listener: ln}
	if spec.dns != "" {
		r.dns, err = dns.Listen(spec.dns, dns.Config{Source: m, Logger: log, Observe: metrics.DNSQueryDone})
		if err != nil {
			r.close()
			return nil, err
		}
	}
	return r, nil
}

// settings returns how a member is configured. The members of coord dev are so by the command itself.
func (s *server) settings(spec memberSpec) []api.Setting {
	c := *s.cfg
	c.Name, c.DataDir, c.Listen, c.DNSListen = spec.name, spec.dir, spec.listen, spec.dns
	if len(spec.list) > 1 {
		c.Cluster = spec.list
	}
	given, all := s.cfg.Effective(), c.Effective()
	for i := range all {
		if all[i].Value != given[i].Value {
			all[i].From = "coord dev"
		}
	}
	return all
}

func (s *server) memberConfig(spec memberSpec, log *slog.Logger, metrics *api.Metrics) member.Config {
	c := member.Config{
		Name: spec.name, Dir: spec.dir, Memory: spec.memory, Members: spec.list, Listener: spec.peers,
		Logger: log, Observe: observer{metrics}, History: s.cfg.History, AcceptCutTail: s.cfg.AcceptCutTail,
		Replica: replica.Config{Tick: s.cfg.Tick, ElectionTicks: s.cfg.ElectionTicks(), SpaceMark: s.cfg.SpaceMark},
		Disk:    storage.Options{SegmentBytes: s.cfg.SegmentBytes},
	}
	if spec.memory {
		c.Replica.SpaceMark = 0
	}
	return c
}

func (r *running) close() {
	r.listener.Close()
	if r.dns != nil {
		r.dns.Close()
	}
	r.member.Close()
}

// observer tells the metrics what a replica has done.
type observer struct{ *api.Metrics }

func (o observer) CheckpointDone(what string, d time.Duration, err error) {
	o.Metrics.CheckpointDone(api.SnapshotOp(what), d, err)
}

// explain gives an error its exit code and the next thing to do.
func explain(err error) error {
	var corrupt *storage.CorruptError
	var refused *storage.RefusedError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.EADDRINUSE):
		return &exitError{code: exitOther, err: err, why: "another process listens there: stop it, or choose another port"}
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return &exitError{code: exitOther, err: err, why: "this machine has no such address: choose one of its own, or :7070 for all"}
	case errors.Is(err, syscall.EACCES):
		return &exitError{code: exitOther, err: err, why: "this user may not: choose a port above 1023, or a directory of its own"}
	case errors.Is(err, syscall.ENOENT), errors.Is(err, syscall.ENOTDIR):
		return &exitError{code: exitOther, err: err, why: "no directory can be made there: choose another place for it"}
	case errors.Is(err, syscall.EROFS):
		return &exitError{code: exitOther, err: err, why: "that file system is read-only: choose a directory on another one"}
	case errors.Is(err, storage.ErrDisk):
		return &exitError{code: exitDisk, err: err, why: "nobody knows what that write left on the disk, so this member stops; check the disk, then start it again"}
	case errors.As(err, &corrupt), errors.As(err, &refused):
		return &exitError{code: exitDamaged, err: err}
	}
	return &exitError{code: exitOther, err: err}
}
