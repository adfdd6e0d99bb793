package dns

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"runtime/debug"
	"sync"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sync/errgroup"

	"github.com/coord-kv/coord/fsm"
	"github.com/coord-kv/coord/op"
)

// Source is the member whose state is answered from.
type Source interface {
	// View returns a state that is as fresh as o asks. For Eventual it doesn't wait.
	View(ctx context.Context, o op.ReadOptions) (*fsm.View, op.ReadInfo, error)
}

// Config says what a Server is made of. Only Source must be given.
type Config struct {
	Source Source
	Logger *slog.Logger // nil for slog.DiscardHandler
	// Observe is called after each query with its type (a, aaaa, srv or other) and what came of it: noerror, formerr,
	// servfail, nxdomain, notimp, refused, badvers, or dropped. It must be safe for concurrent use. Nil for nobody.
	Observe func(kind, result string)

	shuffle  func(n int, swap func(i, j int)) // nil for rand.Shuffle
	patience time.Duration                    // in place of firstQuery, nextQuery and toWrite; 0 for those
}

// Server answers queries. It is made by Listen, and served by Run.
type Server struct {
	cfg     Config
	udp     net.PacketConn
	tcp     net.Listener
	shuffle func(n int, swap func(i, j int))
	room    chan struct{} // has as much room as queries may be answered at once
}

// Bounds of what a server takes on.
const (
	maxQueries     = 128 // answered at once; what comes over UDP beyond that is dropped, as a network would
	maxConns       = 256 // TCP connections, and of them
	maxConnsPerIP  = 64  // from one address
	maxConnQueries = 128 // over one connection, then it is closed
	firstQuery     = 2 * time.Second
	nextQuery      = 5 * time.Second
	toWrite        = 2 * time.Second
)

// Listen returns a server that listens on addr, over UDP and TCP. Port 0 is one that is free for both.
func Listen(addr string, cfg Config) (*Server, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Observe == nil {
		cfg.Observe = func(string, string) {}
	}
	s := &Server{cfg: cfg, shuffle: cfg.shuffle, room: make(chan struct{}, maxQueries)}
	if s.shuffle == nil {
		s.shuffle = rand.Shuffle
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("couldn't listen for DNS: %w", err)
	}
	if s.udp, err = net.ListenPacket("udp", ln.Addr().String()); err != nil {
		ln.Close()
		return nil, fmt.Errorf("couldn't listen for DNS: %w", err)
	}
	s.tcp = &listener{Listener: ln, write: cmp.Or(cfg.patience, toWrite), byIP: map[string]int{}}
	return s, nil
}

// Addr returns the address of both.
func (s *Server) Addr() net.Addr { return s.tcp.Addr() }

// Close closes a server that is not run.
func (s *Server) Close() {
	s.tcp.Close()
	s.udp.Close()
}

// Run answers until ctx ends, and returns when nothing of it runs any more.
func (s *Server) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, each := range [...]*dns.Server{{PacketConn: s.udp, UDPSize: maxUDP}, {Listener: s.tcp}} {
		started, ended := make(chan struct{}), make(chan struct{})
		each.Handler, each.MsgAcceptFunc, each.MsgInvalidFunc = dns.HandlerFunc(s.serve), s.accept, s.invalid
		each.ReadTimeout = cmp.Or(s.cfg.patience, firstQuery)
		each.IdleTimeout = func() time.Duration { return cmp.Or(s.cfg.patience, nextQuery) }
		each.MaxTCPQueries = maxConnQueries
		each.NotifyStartedFunc = func() { close(started) }
		g.Go(func() error {
			defer close(ended)
			return each.ActivateAndServe()
		})
		g.Go(func() error {
			<-ctx.Done()
			select {
			case <-started:
			case <-ended:
			}
			_ = each.Shutdown() // it only complains that it has ended already
			return nil
		})
	}
	err := g.Wait()
	s.Close()
	if err != nil {
		s.cfg.Logger.Error("DNS has ended", "err", err)
		return fmt.Errorf("couldn't go on serving DNS: %w", err)
	}
	return nil
}

// serve answers one query.
func (s *Server) serve(w dns.ResponseWriter, req *dns.Msg) {
	kind := kindOf(req)
	_, udp := w.RemoteAddr().(*net.UDPAddr)
	if !s.enter(udp) {
		s.cfg.Observe(kind, "dropped")
		return
	}
	defer func() { <-s.room }()
	m := s.safely(req, w.LocalAddr())
	fit(m, req, udp)
	if err := w.WriteMsg(m); err != nil {
		s.cfg.Logger.Debug("couldn't answer a DNS query", "client", w.RemoteAddr(), "err", err)
	}
	s.cfg.Observe(kind, results[m.Rcode])
}

// safely answers. A panic is an error inside of coord: it ends this query and no other.
func (s *Server) safely(req *dns.Msg, at net.Addr) (m *dns.Msg) {
	defer func() {
		if p := recover(); p != nil {
			s.cfg.Logger.Error("panic in a DNS query", "query", req.String(), "panic", p, "stack", string(debug.Stack()))
			m = new(dns.Msg).SetRcode(req, dns.RcodeServerFailure)
		}
	}()
	return s.answer(context.Background(), req, at)
}

// enter waits for room, but not for a query over UDP: its sender has stopped waiting by then.
func (s *Server) enter(udp bool) bool {
	if !udp {
		s.room <- struct{}{}
		return true
	}
	select {
	case s.room <- struct{}{}:
		return true
	default:
		return false
	}
}

// accept lets queries pass, with a single question.
func (s *Server) accept(h dns.Header) dns.MsgAcceptAction {
	action := dns.DefaultMsgAcceptFunc(h)
	if opcode := int(h.Bits>>11) & 0xf; action != dns.MsgIgnore && opcode != dns.OpcodeQuery {
		action = dns.MsgRejectNotImplemented
	}
	switch action {
	case dns.MsgReject:
		s.cfg.Observe("other", results[dns.RcodeFormatError])
	case dns.MsgRejectNotImplemented:
		s.cfg.Observe("other", results[dns.RcodeNotImplemented])
	}
	return action
}

func (s *Server) invalid([]byte, error) { s.cfg.Observe("other", results[dns.RcodeFormatError]) }

var results = map[int]string{
	dns.RcodeSuccess: "noerror", dns.RcodeFormatError: "formerr", dns.RcodeServerFailure: "servfail",
	dns.RcodeNameError: "nxdomain", dns.RcodeNotImplemented: "notimp", dns.RcodeRefused: "refused", dns.RcodeBadVers: "badvers",
}

func kindOf(req *dns.Msg) string {
	if len(req.Question) == 1 {
		switch req.Question[0].Qtype {
		case dns.TypeA:
			return "a"
		case dns.TypeAAAA:
			return "aaaa"
		case dns.TypeSRV:
			return "srv"
		}
	}
	return "other"
}

// listener turns connections away that are too many, and gives answers a time in which they must be taken.
type listener struct {
	net.Listener
	write time.Duration
	mu    sync.Mutex
	open  int
	byIP  map[string]int
}

// Accept returns the next connection that is let in.
func (l *listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			time.Sleep(time.Millisecond) // out of file descriptors: whoever calls tries again at once
			return nil, err
		}
		host, _, _ := net.SplitHostPort(c.RemoteAddr().String())
		if l.enter(host) {
			return &limited{Conn: c, write: l.write, leave: sync.OnceFunc(func() { l.leave(host) })}, nil
		}
		c.Close()
	}
}

func (l *listener) enter(host string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open >= maxConns || l.byIP[host] >= maxConnsPerIP {
		return false
	}
	l.open++
	l.byIP[host]++
	return true
}

func (l *listener) leave(host string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open--
	if l.byIP[host]--; l.byIP[host] == 0 {
		delete(l.byIP, host)
	}
}

type limited struct {
	net.Conn
	write time.Duration
	leave func()
}

func (c *limited) Write(b []byte) (int, error) {
	c.SetWriteDeadline(time.Now().Add(c.write))
	return c.Conn.Write(b)
}

func (c *limited) Close() error {
	c.leave()
	return c.Conn.Close()
}
