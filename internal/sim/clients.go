package sim

import (
	"fmt"
	"slices"
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
func (c *client) attempt(call *check.Call) *op.Result { return c.attempts([]*check.Call{call})[0] }

// attempts sends requests once, in their order and without waiting for an answer in between. A result is nil if nobody
// knows what became of the request.
func (c *client) attempts(calls []*check.Call) []*op.Result {
	results := make([]*op.Result, len(calls))
	l := c.at.serving()
	if l == nil {
		c.sleep(c.w.between(time.Millisecond, 100*time.Millisecond))
		for i := range results {
			results[i] = &op.Result{Err: op.Errorf(op.NoLeader, "no connection")}
		}
		return results
	}
	sent := make([]*replica.Call, len(calls))
	open := len(calls)
	c.await(c.w.between(patience/10, patience), func(done func()) {
		for i, call := range calls {
			r := *call.Request
			sent[i] = &replica.Call{Request: &r, Body: r.AppendBody(nil), Done: func(got *op.Result) {
				if results[i] != nil {
					return
				}
				kept := *got
				results[i] = &kept
				if open--; open == 0 {
					done()
				}
			}}
			l.input(func() { l.core.Submit(sent[i]) })
		}
	})
	for i, call := range calls {
		switch {
		case results[i] == nil && sent[i].Abandon():
			results[i] = &op.Result{Err: op.Errorf(op.NoLeader, "not in time")}
		case l.m.flipped || c.w.chance(2): // the answer is lost, or nobody may believe it
			results[i] = nil
		}
		call.Attempts = append(call.Attempts, check.Attempt{Tag: sent[i].Request.Tag, Result: results[i]})
		if res := results[i]; res != nil && res.Err != nil && res.Err.Outcome == op.Unknown {
			c.w.count.Unknown++
		}
	}
	return slices.Clone(results)
}

// write does a request, and does it again, if that is safe, until it is decided.
func (c *client) write(r *op.Request) *op.Result {
	call := &check.Call{Client: c.id, Start: c.w.moment(), Request: r}
	c.w.history.Calls = append(c.w.history.Calls, call)
	for tries := 0; ; tries++ {
		res := c.attempt(call)
		known, decided := isKnown(res), isDecided(res)
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

func isKnown(r *op.Result) bool { return r != nil && (r.Err == nil || r.Err.Outcome != op.Unknown) }

func isDecided(r *op.Result) bool { return r != nil && (r.Err == nil || r.Err.Outcome == op.Decided) }

// pipeline does numbered requests of a session, sending those that are not decided again, in their order, at other
// members, until all are. It returns false if the session is over or the client gives up: nothing more can be numbered.
func (c *client) pipeline(s *op.SessionInfo, seq uint64, n int) bool {
	var open []*check.Call
	for i := range uint64(n) {
		r := &op.Request{Session: s.ID, Epoch: s.Epoch, Seq: seq + i, Ack: seq, Op: c.sessionOp(s.ID)}
		open = append(open, &check.Call{Client: c.id, Start: c.w.moment(), Request: r})
	}
	c.w.history.Calls = append(c.w.history.Calls, open...)
	for tries := 0; len(open) > 0; tries++ {
		if tries == 30 || c.w.quiet && tries > 5 {
			return false
		}
		if tries > 0 {
			c.w.count.Retries++
			c.move()
		}
		var rest []*check.Call
		for i, res := range c.attempts(open) {
			if !isDecided(res) {
				rest = append(rest, open[i])
				continue
			}
			open[i].Result, open[i].End = res, c.w.moment()
			c.seen = max(c.seen, res.Zxid)
			if res.Err != nil && res.Err.Code == op.SessionExpired {
				return false
			}
		}
		open = rest
	}
	return true
}

// attach gives the session a new epoch, and checks that its number goes on.
func (c *client) attach(s *op.SessionInfo, seq uint64) (*op.SessionInfo, bool) {
	o := &op.Attach{Session: s.ID, Secret: op.Hash{1}, Nonce: c.w.rng.Uint64() | 1}
	for range 10 {
		res := c.write(&op.Request{Op: o}) // the nonce makes it safe to ask again
		switch {
		case res == nil || !isDecided(res):
			c.move()
		case res.Err != nil:
			return nil, false
		case res.Session.NextSeq != seq || res.Session.Epoch <= s.Epoch:
			c.w.fail("%v was attached as %+v, and its next number was %d in epoch %d", s.ID, *res.Session, seq, s.Epoch)
			return nil, false
		default:
			c.w.count.Attaches++
			return res.Session, true
		}
	}
	return nil, false
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
	o := op.ReadOptions{Level: op.Level(c.w.rng.IntN(4)), Max: 300 * time.Millisecond}
	if o.Level == op.Sequential {
		o.MinZxid = c.seen
	}
	if c.ask(&op.Get{Path: c.somePath()}, o) == nil {
		c.move()
	}
}

// ask reads at the client's member. It returns nil if that gave no answer.
func (c *client) ask(what op.Op, o op.ReadOptions) *op.Result {
	l := c.at.serving()
	if l == nil {
		return nil
	}
	call := &check.Call{Client: c.id, Start: c.w.moment(), Request: &op.Request{Op: what}, Read: &o}
	v, info, err := c.view(l, o)
	if v == nil || err != nil || l.m.flipped {
		return nil
	}
	res := v.Read(what, nil)
	call.Result, call.Info, call.End = &res, info, c.w.moment()
	c.seen = max(c.seen, info.Zxid)
	c.w.history.Calls = append(c.w.history.Calls, call)
	c.w.count.Reads++
	return &res
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
		res := c.write(&op.Request{Op: &op.OpenSession{Secret: op.Hash{1}, Timeout: time.Duration(4+c.w.rng.IntN(3)) * time.Second}})
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
				n := 1 + c.w.rng.IntN(4)
				if !c.pipeline(s, seq, n) {
					break
				}
				seq += uint64(n)
			}
			if c.w.chance(10) {
				next, ok := c.attach(s, seq)
				if !ok {
					break
				}
				s = next
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
