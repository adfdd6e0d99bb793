package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// sessionTimeout is what idle sessions and leases have. Each gives a sign of life in a third of it.
const sessionTimeout = 30 * time.Second

// idler is a system that can hold an idle session on a connection of its own.
type idler interface {
	idle(i int, timeout time.Duration) (idleSession, error)
}

// idleSession gives a sign of life by ping, which receive sees answered.
type idleSession interface {
	ping() error
	receive() error
	close()
}

// leaser is a system with sessions that don't take a connection. lease opens so many, and returns what keeps them alive.
type leaser interface {
	lease(n int) (keep func(until time.Time) error, stop func(), err error)
}

// idleSessions prints what a session costs, on a connection of its own and without. Each is measured with a server that
// has done nothing else.
func (o *options) idleSessions(dir string) error {
	t := newTable(o.markdown, "goal", fmt.Sprintf("%d of", o.sessions), "system", "memory each", "CPU of a core")
	for _, kind := range []string{"sessions on their own connections", "leases without connections"} {
		for name := range strings.SplitSeq(o.systems, ",") {
			if err := o.idle(t, kind, name, dir); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
		t.flush()
	}
	return nil
}

func (o *options) idle(t *table, kind, name, dir string) error {
	s, err := start(name, o.binaries[name], dir, 1)
	if err != nil {
		return err
	}
	defer s.stop()
	before := s.resident()
	var keep func(time.Time) error
	var stop func()
	switch x := s.system.(type) {
	case idler:
		if kind[0] == 's' {
			keep, stop, err = connections(x, o.sessions)
			break
		}
		l, ok := x.(leaser)
		if !ok {
			return nil
		}
		keep, stop, err = l.lease(o.sessions)
	case leaser:
		if kind[0] == 's' {
			return nil
		}
		keep, stop, err = x.lease(o.sessions)
	}
	if err != nil {
		return err
	}
	defer stop()
	fmt.Fprintf(os.Stderr, "%s %s, %s: open\n", sessionsGoal, kind, name)
	if err := keep(time.Now().Add(sessionTimeout / 3)); err != nil { // what opening has left behind settles
		return err
	}
	cpu, begin := s.cpu(), time.Now()
	if err := keep(begin.Add(2 * sessionTimeout / 3)); err != nil {
		return err
	}
	spent := (s.cpu() - cpu).Seconds() / time.Since(begin).Seconds() * 100
	t.row(sessionsGoal, kind, name, fmt.Sprintf("%.1f KiB", float64(s.resident()-before)/1024/float64(o.sessions)), fmt.Sprintf("%.1f %%", spent))
	return nil
}

func connections(x idler, n int) (keep func(time.Time) error, stop func(), err error) {
	sessions := make([]idleSession, n)
	for i := range sessions {
		if sessions[i], err = x.idle(i, sessionTimeout); err != nil {
			return nil, nil, fmt.Errorf("session %d: %w", i, err)
		}
	}
	stop = func() {
		for _, s := range sessions {
			s.close()
		}
	}
	return func(until time.Time) error { return keepAlive(sessions, sessionTimeout/3, until) }, stop, nil
}

// keepAlive has each session give a sign of life once in every period, spread over it.
func keepAlive(sessions []idleSession, period time.Duration, until time.Time) error {
	const together = 200 // an answer may take two ticks of the leader
	groups := (len(sessions) + together - 1) / together
	for due := time.Now(); due.Before(until); {
		for group := range slices.Chunk(sessions, together) {
			for _, s := range group {
				if err := s.ping(); err != nil {
					return err
				}
			}
			for _, s := range group {
				if err := s.receive(); err != nil {
					return err
				}
			}
			due = due.Add(period / time.Duration(groups))
			time.Sleep(time.Until(due))
		}
	}
	return nil
}

// httpLease is one that is kept alive by requests on a connection that many share.
type httpLease struct {
	*webConn
	ID, Secret string
}

func (l *httpLease) ping() error {
	fmt.Fprintf(l.out, "PUT /v1/leases/%s/keepalive HTTP/1.1\r\nHost: localhost\r\nCoord-Session-Secret: %s\r\nContent-Length: 0\r\n\r\n", l.ID, l.Secret)
	return l.flush()
}

func (l *httpLease) open() error {
	body := fmt.Sprintf(`{"ttl":"%v"}`, sessionTimeout)
	fmt.Fprintf(l.out, "POST /v1/leases HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	if err := l.flush(); err != nil {
		return err
	}
	resp, err := http.ReadResponse(l.in, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, l); err != nil || l.ID == "" {
		return fmt.Errorf("a lease was answered by %s: %s", resp.Status, text)
	}
	return nil
}

// leaseConns is how many connections the leases share.
const leaseConns = 200

func (s *service) lease(n int) (keep func(time.Time) error, stop func(), err error) {
	conns := make([]*webConn, leaseConns)
	for i := range conns {
		c, err := dialWeb(s)
		if err != nil {
			return nil, nil, err
		}
		conns[i] = c.(*webConn)
	}
	all := make([]idleSession, n)
	for i := range all {
		l := &httpLease{webConn: conns[i%len(conns)]}
		if err := l.open(); err != nil {
			return nil, nil, fmt.Errorf("lease %d: %w", i, err)
		}
		all[i] = l
	}
	stop = func() {
		for _, c := range conns {
			c.close()
		}
	}
	return func(until time.Time) error { return keepAlive(all, sessionTimeout/3, until) }, stop, nil
}

// lease has etcd's client send the signs of life, once in a third of the timeout.
func (e *etcd) lease(n int) (keep func(time.Time) error, stop func(), err error) {
	const clients = 20
	ctx, cancel := context.WithCancel(context.Background())
	errs := make(chan error, clients)
	var all []*clientv3.Client
	stop = func() {
		cancel()
		for _, c := range all {
			c.Close()
		}
	}
	for range clients {
		c, err := e.client()
		if err != nil {
			return nil, stop, err
		}
		all = append(all, c)
		go func() { errs <- grant(ctx, c, n/clients) }()
	}
	for range clients {
		if err := <-errs; err != nil {
			return nil, stop, err
		}
	}
	return func(until time.Time) error { time.Sleep(time.Until(until)); return nil }, stop, nil
}

// grant opens leases that its client keeps alive.
func grant(ctx context.Context, c *clientv3.Client, n int) error {
	for range n {
		l, err := c.Grant(ctx, int64(sessionTimeout/time.Second))
		if err != nil {
			return err
		}
		alive, err := c.KeepAlive(ctx, l.ID)
		if err != nil {
			return err
		}
		go func() {
			for range alive {
			}
		}()
	}
	return nil
}
