package sim

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/coord-kv/coord/internal/check"
	"github.com/coord-kv/coord/internal/recipe/barrier"
	"github.com/coord-kv/coord/internal/recipe/counter"
	"github.com/coord-kv/coord/internal/recipe/group"
	queues "github.com/coord-kv/coord/internal/recipe/queue"
	"github.com/coord-kv/coord/op"
)

// Workers use the small recipes, all of them the same ones: a queue, a counter, a double barrier of two, latches and a group.

const (
	jobs    = "jobs"
	hits    = "hits"
	step    = "step"
	workers = "workers"
	entry   = "entry"
	pair    = 2 // members of the double barrier, and counts of a latch
)

// work does this and that, in one session after the other.
func (c *client) work() {
	c.inSessions(func(s *conn) {
		all := []func(){s.push, s.push, s.receive, s.receive, s.add, s.pass, s.countDown, s.belong, s.gate}
		s.rounds(8, 100*time.Millisecond, func() { pick(c.w, all)() })
	})
}

// must returns a recipe, which can't be refused: its name is one.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// waited takes in the end of a wait, and reports whether it has come to what was waited for.
func (s *conn) waited(err error, codes ...op.Code) bool {
	switch {
	case errors.Is(err, &op.Error{Code: op.SessionExpired}):
		s.w.count.Orphaned++
	case errors.Is(err, context.Canceled):
		s.w.count.GaveUp++
		return false
	}
	s.expects(err, append(codes, op.SessionExpired)...)
	return err == nil
}

func (s *conn) push() {
	q := must(queues.New(s, jobs))
	id, err := q.Push(s.ctx, fmt.Append(nil, s.client.id), s.w.rng.IntN(2))
	if s.waited(err) {
		s.w.count.Pushed++
		s.w.history.Small.Pushed = append(s.w.history.Small.Pushed, queues.Dir+"/"+jobs+"/items/"+id)
	}
}

// receive receives an item, works on it, and acknowledges or returns it, or dies with it.
func (s *conn) receive() {
	q := must(queues.New(s, jobs))
	r := &check.Receipt{Client: s.client.id, Session: s.id, Queue: queues.Dir + "/" + jobs}
	s.receipts = append(s.receipts, r)
	s.w.history.Small.Receipts = append(s.w.history.Small.Receipts, r)
	take := q.Receive
	if s.w.chance(30) {
		take = q.TryReceive
	}
	ctx, cancel := s.willing()
	defer cancel()
	d, err := take(ctx)
	r.Over = true
	if !s.waited(err, op.NoNode) { // which is that of an empty queue
		return
	}
	r.Item, r.Claim, r.Told = r.Queue+"/items/"+d.ID, d.Claim, s.w.moment()
	s.w.count.Received++
	s.sleep(s.w.between(0, 500*time.Millisecond))
	switch n := s.w.rng.IntN(10); {
	case n < 2:
		s.expects(q.Return(s.ctx, d.ID, d.Claim), op.NotHolder, op.SessionExpired)
		return
	case n < 4 && !s.w.quiet:
		s.stop()
		s.standStill()
	}
	err = q.Ack(s.ctx, d.ID, d.Claim)
	if r.Acked = err == nil; r.Acked {
		s.w.count.Acked++
	}
	s.expects(err, op.NotHolder, op.SessionExpired)
}

func (s *conn) add() {
	a := &check.Addition{Counter: counter.Dir + "/" + hits, Delta: 1 + int64(s.w.rng.IntN(5))}
	s.w.history.Small.Additions = append(s.w.history.Small.Additions, a)
	v, err := must(counter.New(s, hits)).Add(s.ctx, a.Delta, counter.Any)
	if a.Known = s.waited(err); a.Known {
		a.Result = v.N
		s.w.count.Added++
	}
}

// pass goes through the double barrier.
func (s *conn) pass() {
	d := must(barrier.NewDouble(s, step, pair))
	p := &check.Passage{Client: s.client.id, Session: s.id, Barrier: barrier.DoublesDir + "/" + step, Count: pair}
	s.w.history.Small.Passages = append(s.w.history.Small.Passages, p)
	ctx, cancel := s.willing()
	defer cancel()
	err := d.Enter(ctx)
	p.Over = true
	if !s.waited(err, op.NodeExists) { // of one who gave up, and couldn't say so
		return
	}
	p.Round = d.Round()
	s.w.count.Begun++
	s.sleep(s.w.between(0, 500*time.Millisecond))
	if s.waited(d.Leave(s.ctx)) {
		p.Through = s.seen
		s.w.count.Ended++
	}
}

// gate closes or lifts a barrier, or waits for it.
func (s *conn) gate() {
	b := must(barrier.New(s, entry))
	switch s.w.rng.IntN(3) {
	case 0:
		s.waited(b.Close(s.ctx))
		return
	case 1:
		s.waited(b.Lift(s.ctx))
		return
	}
	g := &check.Gate{Client: s.client.id, Session: s.id, Barrier: barrier.Dir + "/" + entry}
	s.w.history.Small.Gates = append(s.w.history.Small.Gates, g)
	ctx, cancel := s.willing()
	defer cancel()
	err := b.Wait(ctx)
	g.Over = true
	if s.waited(err) {
		s.w.count.Passed++
		g.Zxid = s.seen
	}
}

// countDown sets a latch of this moment, counts it down in the client's name and waits for it.
func (s *conn) countDown() {
	name := fmt.Sprintf("l%d", s.w.now/(3*time.Second))
	l := must(barrier.NewLatch(s, name))
	if !s.waited(l.Set(s.ctx, pair)) {
		return
	}
	for range 1 + s.w.rng.IntN(2) {
		if _, err := l.CountDown(s.ctx, fmt.Sprint(s.client.id)); !s.waited(err) {
			return
		}
	}
	ctx, cancel := s.willing()
	defer cancel()
	if s.waited(l.Wait(ctx)) {
		s.w.count.Opened++
		s.w.history.Small.Openings = append(s.w.history.Small.Openings, check.Opening{Latch: barrier.LatchesDir + "/" + name, Zxid: s.seen})
	}
}

// belong is a member of the group for a while.
func (s *conn) belong() {
	g, id := must(group.New(s, workers)), fmt.Sprint(s.client.id%2)
	m, err := g.Join(s.ctx, id, fmt.Append(nil, s.w.rng.IntN(3)), s.w.chance(50))
	if !s.waited(err, op.NodeExists) {
		return
	}
	s.w.count.Joined++
	s.sleep(s.w.between(0, time.Second))
	if s.w.chance(50) {
		s.expects(g.Quit(s.ctx, m), op.NotHolder, op.SessionExpired)
	}
}

// attend follows who is in the group, in one session after the other.
func (c *client) attend() {
	watcher := c.id
	c.inSessions(func(s *conn) {
		s.watchGroup(watcher)
		watcher += 1000
	})
}

func (s *conn) watchGroup(watcher int) {
	f := must(group.New(s, workers)).Watch()
	defer f.Close()
	var last *check.Listing
	for {
		list, at, err := f.Next(s.ctx)
		if last != nil && err != nil {
			last.Open = false
		}
		if err != nil {
			s.expects(err, op.SessionExpired)
			return
		}
		last = &check.Listing{Watcher: watcher, Group: group.Dir + "/" + workers, Zxid: at, Open: true}
		for _, m := range list {
			last.Members = append(last.Members, m.ID+" "+m.Stat.EphemeralOwner.String())
		}
		s.w.history.Small.Listings = append(s.w.history.Small.Listings, last)
		s.w.count.Listed++
	}
}
