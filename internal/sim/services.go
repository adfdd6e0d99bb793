package sim

import (
	"fmt"
	"time"

	"github.com/coord-kv/coord/internal/check"
	"github.com/coord-kv/coord/internal/registry"
	"github.com/coord-kv/coord/op"
)

// Providers register instances of one service, and say how these are; two others watch it.
const service = "web"

// provide registers, in one session after the other.
func (c *client) provide() {
	c.inSessions(func(s *conn) { s.rounds(4, 500*time.Millisecond, s.register) })
}

// register registers one of three ids, which others want as well, changes its status for a while, and sometimes
// deregisters it; else it goes with the session.
func (s *conn) register() {
	r := registry.New(s)
	x := registry.Instance{Service: service, ID: fmt.Sprint(s.client.id % 3), Address: "10.0.0.1", Port: 80}
	_, err := r.Register(s.ctx, x, s.w.chance(50))
	if s.expects(err, op.NodeExists, op.SessionExpired); err != nil {
		return
	}
	s.w.count.Registered++
	for range s.w.rng.IntN(4) {
		s.sleep(s.w.between(0, 500*time.Millisecond))
		status := pick(s.w, []registry.Status{registry.Passing, registry.Warning, registry.Critical})
		_, err := r.SetStatus(s.ctx, service, x.ID, status, "", true)
		s.expects(err, op.NoNode, op.NotHolder, op.SessionExpired)
	}
	if s.w.chance(50) {
		s.expects(r.Deregister(s.ctx, service, x.ID, true), op.NoNode, op.NotHolder, op.SessionExpired)
	}
}

// discover watches the service, in one session after the other.
func (c *client) discover(q registry.Query) {
	watcher := c.id
	c.inSessions(func(s *conn) {
		s.watchService(watcher, q)
		watcher += 1000
	})
}

func (s *conn) watchService(watcher int, q registry.Query) {
	w := registry.New(s).Watch(service, q)
	defer w.Close()
	var last *check.Listing
	for {
		list, at, err := w.Next(s.ctx)
		if last != nil && err != nil {
			last.Open = false
		}
		if err != nil {
			s.expects(err, op.SessionExpired)
			return
		}
		last = &check.Listing{
			Watcher: watcher, Group: op.Join(registry.Dir, service), Passing: q.Passing, Zxid: at, Open: true,
		}
		for _, x := range list {
			last.Members = append(last.Members, x.ID+" "+x.Session.String())
		}
		s.w.history.Small.Listings = append(s.w.history.Small.Listings, last)
		s.w.count.Resolved++
	}
}
