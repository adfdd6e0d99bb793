package api

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"hash/maphash"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coord-kv/coord/op"
)

// Server is the door of one member. It is safe for concurrent use.
type Server struct {
	backend Backend
	metrics *Metrics
	log     *slog.Logger
	now     func() time.Time
	born    time.Time
	name    string
	version string

	servedBy []string // name, as the value of a header
	super    string
	limits   Limits
	hosts    hostList
	origins  *http.CrossOriginProtection
	router   router
	gate     *gate // over the connections of all listeners

	ids      string // what the request ids of this server begin with
	lastID   atomic.Uint64
	requests atomic.Int64 // being served
	watches  atomic.Int64 // streams and polls open
	pongs    wsPongs
	sockets  *sockets

	subscriptions atomic.Int64 // watches of all WebSocket connections
	endpoints     []string
	settings      []Setting

	bodies  atomic.Int64 // bytes of bodies held
	pacer   pacer
	backlog backlog
	answers room
	status  statusCache

	drainOnce sync.Once
	draining  chan struct{} // closed when the server is about to stop
	started   atomic.Bool   // the member has been ready once
}

// New returns a server. It fails if an allowed origin is not one.
func New(c Config) (*Server, error) {
	if c.Backend == nil || c.Name == "" {
		panic("api: Config needs a Backend and a Name")
	}
	s := &Server{
		backend: c.Backend, metrics: c.Metrics, log: c.Logger, now: c.Now, name: c.Name, version: c.Version, servedBy: []string{c.Name},
		super: c.Super, limits: c.Limits.withDefaults(), hosts: newHostList(c.AllowedHosts),
		origins: http.NewCrossOriginProtection(), ids: rand.Text()[:8], draining: make(chan struct{}),
		sockets: newSockets(), endpoints: c.Endpoints, settings: c.Settings,
	}
	for _, origin := range c.AllowedOrigins {
		if err := s.origins.AddTrustedOrigin(origin); err != nil {
			return nil, fmt.Errorf("couldn't allow origin %q: %w", origin, err)
		}
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.now == nil {
		s.now = time.Now
	}
	s.born = s.now().Add(-1)
	if s.metrics == nil {
		s.metrics = NewMetrics()
	}
	s.backlog = newBacklog()
	s.answers.limit = s.limits.AnswerBytes
	s.pacer.seed = maphash.MakeSeed()
	s.gate = newGate(s.limits.Conns, s.limits.ConnsPerIP, s.metrics)
	s.metrics.observe(s.backend, s.version)
	s.router = newRouter(s.routes())
	return s, nil
}

// uptime is how long the server has been there, by which WebSocket connections count time: a third of the bytes of a
// time.Time, of which a connection that is idle needs seven. It is never 0.
func (s *Server) uptime() time.Duration { return s.now().Sub(s.born) }

// Handler returns the door as a handler, for tests and for servers of one's own. Whoever serves it is responsible for the
// timeouts and limits of connections that Serve sets.
func (s *Server) Handler() http.Handler { return http.HandlerFunc(s.serveHTTP) }

// Serve serves the connections of ln until ctx ends; then it drains: readiness fails, long polls and event streams end,
// and what is being done is finished within DrainTimeout, after which WebSocket connections are closed. It closes ln. It may be called for several listeners at once.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	srv := s.httpServer()
	return s.serve(ctx, srv, func() error { return srv.Serve(s.gate.listen(ln)) })
}

// ServeTLS is Serve for HTTPS, with HTTP/2. Client certificates that config verifies become x509 identities.
func (s *Server) ServeTLS(ctx context.Context, ln net.Listener, config *tls.Config) error {
	srv := s.httpServer()
	srv.TLSConfig = config
	return s.serve(ctx, srv, func() error { return srv.ServeTLS(s.gate.listen(ln), "", "") })
}

func (s *Server) serve(ctx context.Context, srv *http.Server, accept func() error) error {
	done := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() { done <- s.shutdown(srv) })
	err := accept()
	if stop() {
		srv.Close()
		return fmt.Errorf("couldn't serve HTTP: %w", err)
	}
	return <-done
}

func (s *Server) httpServer() *http.Server {
	return &http.Server{
		Handler:           s.Handler(),
		ReadHeaderTimeout: s.limits.HeaderTimeout,
		WriteTimeout:      s.limits.BodyTimeout + s.limits.RequestTimeout + s.limits.WriteTimeout,
		IdleTimeout:       s.limits.IdleTimeout,
		MaxHeaderBytes:    s.limits.HeaderBytes,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: 128},
		ConnContext:       withCaller,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),

		DisableGeneralOptionsHandler: true, // it would answer before the host was looked at
	}
}

func (s *Server) shutdown(srv *http.Server) error {
	s.StartDraining()
	ctx, cancel := context.WithTimeout(context.Background(), s.limits.DrainTimeout)
	defer cancel()
	s.sockets.end()
	defer s.sockets.wait(ctx)
	if err := srv.Shutdown(ctx); err != nil {
		srv.Close()
		return fmt.Errorf("couldn't finish all requests in time: %w", err)
	}
	return nil
}

// StartDraining makes /readyz fail, ends all long polls and event streams, each with the position to go on from at another
// member, and asks those on WebSocket connections to go elsewhere. Requests are still served. It may be called more than
// once.
func (s *Server) StartDraining() { s.drainOnce.Do(func() { close(s.draining) }) }

func (s *Server) isDraining() bool {
	select {
	case <-s.draining:
		return true
	default:
		return false
	}
}

// leaderName returns the name of the leader, "" if none is known.
func (s *Server) leaderName() string { return s.status.at(s, s.now()).leader }

// statusAge is how old the status may be that answers name the leader from: it is a hint, and asking the member takes a
// turn of it.
const statusAge = 250 * time.Millisecond

// statusCache is the member's status as of a moment ago. One caller at a time renews it, the others take the old one.
type statusCache struct {
	renewing sync.Mutex
	last     atomic.Pointer[agedStatus]
}

type agedStatus struct {
	status op.Status
	at     time.Time
	leader string   // its name, "" if none is known
	header []string // leader, as the value of a header
	leads  bool     // this member
}

func (c *statusCache) get(s *Server) *op.Status { return &c.at(s, s.now()).status }

// at is get for who knows what time it is.
func (c *statusCache) at(s *Server, now time.Time) *agedStatus {
	last := c.last.Load()
	switch {
	case last == nil:
		c.renewing.Lock()
	case now.Sub(last.at) < statusAge || !c.renewing.TryLock():
		return last
	}
	defer c.renewing.Unlock()
	if other := c.last.Load(); other != last {
		return other
	}
	fresh := s.newStatus()
	c.last.Store(fresh)
	return fresh
}

func (s *Server) newStatus() *agedStatus {
	a := &agedStatus{status: s.backend.Status(), at: s.now()}
	if a.leader = memberName(&a.status, a.status.Leader); a.leader != "" {
		a.header = []string{a.leader}
	}
	a.leads = a.leader == s.name
	return a
}

func memberName(st *op.Status, id uint64) string {
	for i := range st.Members {
		if id != 0 && st.Members[i].ID == id {
			return st.Members[i].Name
		}
	}
	return ""
}

// stateLimits returns the limits of the state, as this member knows them.
func (s *Server) stateLimits(ctx context.Context) op.Limits {
	v, _, err := s.backend.View(ctx, op.ReadOptions{Level: op.Eventual})
	if err != nil {
		return op.DefaultLimits()
	}
	return v.Limits()
}
