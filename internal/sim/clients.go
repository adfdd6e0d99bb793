package sim

import (
	"fmt"
	"time"

	"github.com/coord-kv/coord/fsm"
	"github.com/coord-kv/coord/internal/check"
	"github.com/coord-kv/coord/internal/replica"
	"github.com/coord-kv/coord/op"
	"github.com/coord-kv/coord/watch"
)

// client works at one member at a time and moves on when that one fails it.
type client struct {
	*task
	id   int
	at   *member
	n    int
	seen op.Zxid // the newest state that it knows of

	watcher int // who it is as a watcher
}

func (w *world) newClient(t *task, id int) *client {
	return &client{task: t, id: id, at: pick(w, w.members)}
}

func (c *client) move() { c.at = pick(c.w, c.w.members) }

// patience is how long a client waits for one answer.
const patience = 3 * time.Second

// attempt sends a request once. It returns nil if nobody knows what became of it.
func (c *client) attempt(call *check.Call) *op.Result {
	r := *call.Request
	l := c.at.serving()
	if l == nil {
		c.sleep(c.w.between(time.Millisecond, 100*time.Millisecond))
		return &op.Result{Err: op.Errorf(op.NoLeader, "no connection")}
	}
	i := len(call.Attempts)
	call.Attempts = append(call.Attempts, check.Attempt{})
	var res *op.Result
	k := &replica.Call{Request: &r, Body: r.AppendBody(nil)}
	answered := c.await(c.w.between(patience/10, patience), func(done func()) {
		k.Done = func(got *op.Result) {
			if res == nil {
				kept := *got
				res = &kept
				done()
			}
		}
		l.input(func() { l.core.Submit(k) })
	})
	switch {
	case !answered && k.Abandon():
		res = &op.Result{Err: op.Errorf(op.NoLeader, "not in time")}
	case !answered || l.m.flipped || c.w.chance(2): // the answer is lost, or nobody may believe it
		res = nil
	}
	call.Attempts[i] = check.Attempt{Tag: r.Tag, Result: res}
	if res != nil && res.Err != nil && res.Err.Outcome == op.Unknown {
		c.w.count.Unknown++
	}
	return res
}

// write does a request, and does it again, if that is safe, until it is decided.
func (c *client) write(r *op.Request) *op.Result {
	call := &check.Call{Client: c.id, Start: c.w.moment(), Request: r}
	c.w.history.Calls = append(c.w.history.Calls, call)
	for tries := 0; ; tries++ {
		res := c.attempt(call)
		known := res != nil && (res.Err == nil || res.Err.Outcome != op.Unknown)
		decided := known && (res.Err == nil || res.Err.Outcome == op.Decided)
		again := r.Seq != 0 || r.Key != nil
		switch {
		case decided || known && !again:
			call.Result, call.End = res, c.w.moment()
			c.seen = max(c.seen, res.Zxid)
			return res
		case !again || tries == 30 || c.w.quiet && tries > 5:
			return nil
		}
		c.w.count.Retries++
		c.move()
	}
}

// plain, keyed: what a client does without a session.
func (c *client) wander() {
	for !c.w.quiet {
		r := &op.Request{Op: c.someOp()}
		if c.w.chance(40) {
			c.n++
			r.Key = &op.Key{Principal: "world", Key: fmt.Sprintf("c%d-%d", c.id, c.n)}
		}
		if c.w.chance(35) {
			c.read()
		} else if c.write(r) == nil {
			c.move()
		}
		c.sleep(c.w.between(0, 100*time.Millisecond))
	}
}

func (c *client) somePath() string { return fmt.Sprintf("/p%d", c.w.rng.IntN(4)) }

func (c *client) someOp() op.Op {
	c.n++
	data := fmt.Appendf(nil, "c%d.%d", c.id, c.n)
	path := c.somePath()
	switch c.w.rng.IntN(8) {
	case 0, 1:
		return &op.Create{Path: path, Data: data}
	case 2, 3:
		return &op.Set{Path: path, Data: data, If: op.Always}
	case 4:
		return &op.Set{Path: path, Data: data, If: op.Cond{Version: int32(c.w.rng.IntN(3))}}
	case 5:
		return &op.Delete{Path: path, If: op.Always}
	case 6:
		return &op.Txn{If: []op.Op{&op.Check{Path: path, If: op.Always}}, Then: []op.Op{
			&op.Set{Path: path, Data: data, If: op.Always}, &op.Create{Path: c.somePath(), Data: data},
		}}
	}
	return &op.Create{Path: "/queue/q-", Data: data, Sequence: true}
}

// read reads at some level.
func (c *client) read() {
	l := c.at.serving()
	if l == nil {
		c.move()
		return
	}
	o := op.ReadOptions{Level: op.Level(c.w.rng.IntN(4)), Max: 300 * time.Millisecond}
	if o.Level == op.Sequential {
		o.MinZxid = c.seen
	}
	call := &check.Call{Client: c.id, Start: c.w.moment(), Request: &op.Request{Op: &op.Get{Path: c.somePath()}}, Read: &o}
	v, info, err := c.view(l, o)
	if v == nil || err != nil || l.m.flipped {
		c.move()
		return
	}
	res := v.Read(call.Request.Op, nil)
	call.Result, call.Info, call.End = &res, info, c.w.moment()
	c.seen = max(c.seen, info.Zxid)
	c.w.history.Calls = append(c.w.history.Calls, call)
	c.w.count.Reads++
}

func (c *client) view(l *life, o op.ReadOptions) (v *fsm.View, info op.ReadInfo, err error) {
	if v, info, err, ok := l.pub.Serve(o, l.clock().Mono); ok {
		return v, info, err
	}
	r := &replica.Read{Options: o}
	if !c.await(patience, func(done func()) {
		r.Done = func(got *fsm.View, i op.ReadInfo, e error) { v, info, err = got, i, e; done() }
		l.input(func() { l.core.Read(r) })
	}) {
		r.Abandon()
		return nil, info, nil
	}
	return v, info, err
}

// hold opens sessions, keeps them alive for a while with nodes on them and numbered requests, and lets them go.
func (c *client) hold() {
	for !c.w.quiet {
		res := c.write(&op.Request{Op: &op.OpenSession{Timeout: time.Duration(4+c.w.rng.IntN(3)) * time.Second}})
		if res == nil || res.Err != nil {
			c.move()
			continue
		}
		s := res.Session
		timeout := time.Duration(s.Timeout) * time.Millisecond
		last, seq := c.w.moment(), s.NextSeq
		for end := c.w.now + c.w.between(time.Second, 12*time.Second); c.w.now < end && !c.w.quiet; {
			sent := c.w.moment()
			if c.alive(s.ID) {
				last = sent
				c.w.history.Promises = append(c.w.history.Promises, check.Promise{Session: s.ID, Sent: sent, Told: c.w.moment(), Timeout: timeout})
				c.w.count.Promises++
			}
			last = sent
			if c.w.chance(60) {
				r := &op.Request{Session: s.ID, Epoch: s.Epoch, Seq: seq, Ack: seq, Op: c.sessionOp(s.ID)}
				if res := c.write(r); res == nil || res.Err != nil && res.Err.Code == op.SessionExpired {
					break
				}
				seq++
			}
			c.sleep(c.w.between(50*time.Millisecond, timeout/2))
		}
		if c.w.chance(30) {
			c.write(&op.Request{Session: s.ID, Op: &op.CloseSession{Session: s.ID}})
		} else {
			c.w.history.Lives = append(c.w.history.Lives, check.Life{Session: s.ID, Last: last, Timeout: timeout})
		}
	}
}

func (c *client) sessionOp(id op.SessionID) op.Op {
	c.n++
	if c.w.chance(50) {
		return &op.Create{Path: fmt.Sprintf("/e%d-%d", id, c.n), Kind: op.Ephemeral}
	}
	return c.someOp()
}

// alive gives a sign of life and reports whether it was confirmed.
func (c *client) alive(id op.SessionID) bool {
	l := c.at.serving()
	if l == nil {
		c.move()
		c.sleep(20 * time.Millisecond)
		return false
	}
	ok := false
	c.await(time.Second, func(done func()) {
		l.input(func() {
			l.core.KeepAlive(&replica.KeepAlive{Session: id, Done: func(err error) { ok = err == nil; done() }})
		})
	})
	if !ok || l.m.flipped {
		c.move()
		return false
	}
	return true
}

// follow watches, and goes on at another member from where it was whenever its member fails or it feels like it.
func (c *client) follow() {
	scope := watch.Scope(c.w.rng.IntN(3))
	path := pick(c.w, []string{"/", "/queue", "/p1"})
	pos := op.Zxid(0)
	c.watcher = c.id
	for !c.over {
		l := c.at.serving()
		if l == nil || !l.pub.Serving {
			c.move()
			c.sleep(20 * time.Millisecond)
			continue
		}
		s, err := l.core.History().Subscribe(watch.Filter{Path: path, Scope: scope}, pos)
		if err != nil {
			pos = c.lost(err, pos)
			c.sleep(50 * time.Millisecond)
			continue
		}
		seen := &check.Watch{Watcher: c.watcher, Path: path, Scope: check.Scope(scope), From: pos, Open: true}
		c.w.history.Watches = append(c.w.history.Watches, seen)
		pos = c.take(l, s, seen)
		s.Close()
		c.w.count.Resumes++
		c.move()
		if c.w.chance(20) && !c.w.quiet {
			pos, c.watcher = 0, c.watcher+1000 // another, that wants all that anybody remembers
		}
	}
}

// lost says where to go on after an error: anywhere if the history is gone, which the record says.
func (c *client) lost(err error, pos op.Zxid) op.Zxid {
	e, ok := err.(*op.Error)
	if !ok || e.Code != op.HistoryGone {
		return pos // this member is behind: wait for it, or ask another
	}
	c.w.count.HistoryGone++
	c.w.history.Watches = append(c.w.history.Watches, &check.Watch{Watcher: c.watcher, Path: "/", From: pos, Gone: true})
	return e.Oldest
}

func (c *client) take(l *life, s *watch.Stream, seen *check.Watch) op.Zxid {
	pos := seen.From
	leave := c.w.now + c.w.between(time.Second, 20*time.Second)
	for !l.dead && !l.m.flipped && (c.w.now < leave || c.w.quiet) {
		events, at, err := s.Take(1 + c.w.rng.IntN(50))
		if err != nil {
			seen.Open, seen.Gone = false, true
			c.w.count.HistoryGone++
			return max(pos, err.(*op.Error).Oldest)
		}
		if len(events) > 0 || at > pos {
			seen.Batches = append(seen.Batches, check.WatchBatch{Events: events, At: at})
			c.w.count.WatchBatches++
			pos = at
		}
		c.sleep(c.w.between(time.Millisecond, 50*time.Millisecond))
	}
	seen.Open = false
	return pos
}
