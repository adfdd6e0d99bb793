package sim

import (
	"context"
	"errors"
	"time"

	"github.com/coord-kv/coord/internal/check"
	"github.com/coord-kv/coord/internal/recipe"
	"github.com/coord-kv/coord/op"
	"github.com/coord-kv/coord/watch"
)

// conn is a session as recipes use it. Every call stops its client's coroutine; one coroutine uses it at a time, beside
// the one that keeps the session alive.
//
// Once the session is lost no call does anything but fail. That makes runs repeatable: a context derived from the
// session's ends by a goroutine of package context, at a moment that nobody chooses, and all that it can change then is
// which of two errors of a lost session a recipe meets first.
type conn struct {
	*client
	id      op.SessionID
	epoch   uint64
	seq     uint64 // of the next request
	decided op.Zxid

	timeout time.Duration
	until   time.Duration // the session lives until then at least
	last    check.Moment  // its last sign of life, heard or not
	paused  time.Duration // the process stands still until then, and so do its timers
	left    bool          // nobody keeps it alive any more

	ctx   context.Context
	end   context.CancelCauseFunc
	turns []*check.Turn

	receipts []*check.Receipt
	runs     []*check.Run
}

var _ recipe.Conn = (*conn)(nil)

// connect opens a session and keeps it alive. It returns nil if that didn't work out.
func (c *client) connect() *conn {
	sent := c.w.moment()
	res := c.write(&op.Request{Op: &op.OpenSession{Secret: op.Hash{1}, Timeout: time.Duration(4+c.w.rng.IntN(3)) * time.Second}})
	if res == nil || res.Err != nil {
		c.move()
		return nil
	}
	s := &conn{
		client: c, id: res.Session.ID, epoch: res.Session.Epoch, seq: res.Session.NextSeq,
		timeout: time.Duration(res.Session.Timeout) * time.Millisecond, last: sent,
	}
	s.ctx, s.end = context.WithCancelCause(context.Background())
	s.proven(sent)
	c.w.spawn(s.keep)
	return s
}

// keep gives signs of life until the session is left or lost.
func (s *conn) keep(t *task) {
	c := s.w.newClient(t, s.client.id)
	for !s.left && s.ctx.Err() == nil {
		if s.w.now < s.paused {
			c.sleep(s.paused - s.w.now + s.notices())
			continue
		}
		sent := s.w.moment()
		s.last = sent
		if c.alive(s.id) {
			s.w.count.Promises++
			s.w.history.Promises = append(s.w.history.Promises,
				check.Promise{Session: s.id, Sent: sent, Told: s.w.moment(), Timeout: s.timeout})
			s.proven(sent)
		}
		c.sleep(s.w.between(50*time.Millisecond, s.timeout/4))
	}
}

// proven makes the session live for its timeout from when the sign of life was sent. When that is over the client
// notices: at once, or if it stands still then, some time after it goes on.
func (s *conn) proven(sent check.Moment) {
	s.until = max(s.until, sent.At+s.timeout)
	var due func()
	due = func() {
		switch {
		case s.w.now < s.paused:
			s.w.after(s.paused-s.w.now+s.notices(), due)
		case s.w.now >= s.until:
			s.lose(errUnproven)
		}
	}
	s.w.after(s.until-s.w.now, due)
}

// notices draws how long a process that has stood still runs before it looks at its clock.
func (s *conn) notices() time.Duration { return s.w.between(0, 500*time.Millisecond) }

var (
	errUnproven = errors.New("the session can't be proven alive")
	errExpired  = errors.New("the session has expired")
	errClosed   = errors.New("the session was closed")
)

// lose makes the client stop to believe in the session.
func (s *conn) lose(why error) {
	if s.ctx.Err() != nil {
		return
	}
	s.w.note("client %d loses %v: %v", s.client.id, s.id, why)
	lost := s.w.moment()
	for _, t := range s.turns {
		t.Lost = lost
	}
	for _, r := range s.receipts {
		r.Lost = lost
	}
	for _, r := range s.runs {
		r.Lost = lost
	}
	s.end(why)
}

// stop makes the process stand still for so long that its session ends. Its coroutine notices at its next call.
func (s *conn) stop() {
	s.w.count.Stopped++
	s.paused = s.w.now + s.timeout + s.w.between(time.Second, 4*time.Second)
}

// standStill waits until the process goes on.
func (s *conn) standStill() {
	for s.w.now < s.paused {
		s.sleep(s.paused - s.w.now)
	}
}

// inSessions does f in one session after the other, as long as there are faults.
func (c *client) inSessions(f func(s *conn)) {
	for !c.w.quiet {
		s := c.connect()
		if s == nil {
			c.sleep(c.w.between(time.Millisecond, 100*time.Millisecond))
			continue
		}
		f(s)
		s.leave()
	}
}

// rounds does f up to so many times, with pauses, while the session lives and there are faults.
func (s *conn) rounds(most int, pause time.Duration, f func()) {
	for range 1 + s.w.rng.IntN(most) {
		if s.w.quiet || s.ctx.Err() != nil {
			return
		}
		f()
		s.sleep(s.w.between(0, pause))
	}
}

// leave closes the session, or lets it expire.
func (s *conn) leave() {
	s.left = true
	if s.w.chance(50) {
		s.Do(s.ctx, &op.CloseSession{Session: s.id})
	} else if s.ctx.Err() == nil {
		s.w.history.Lives = append(s.w.history.Lives, check.Life{Session: s.id, Last: s.last, Timeout: s.timeout})
	}
	s.lose(errClosed)
}

// die stops without a word, as a program does that is killed; somebody may notice and kill its session too.
func (s *conn) die() {
	if s.ctx.Err() != nil {
		return
	}
	s.left = true
	s.w.history.Lives = append(s.w.history.Lives, check.Life{Session: s.id, Last: s.last, Timeout: s.timeout})
	s.lose(errClosed)
	if s.w.chance(50) {
		s.write(&op.Request{Op: &op.CloseSession{Session: s.id, Killed: true}})
	}
}

func (s *conn) Session() op.SessionID    { return s.id }
func (s *conn) Context() context.Context { return s.ctx }

// Do sends a numbered request until it is decided or the session is lost. It takes no notice of its context: what was
// sent and is not decided would be in the way of the next number.
func (s *conn) Do(_ context.Context, o op.Op) (*op.Result, error) {
	s.standStill()
	if s.ctx.Err() != nil {
		return nil, s.over(op.Refused)
	}
	r := &op.Request{Session: s.id, Epoch: s.epoch, Seq: s.seq, Ack: s.seq, Op: o}
	call := &check.Call{Client: s.client.id, Start: s.w.moment(), Request: r}
	s.w.history.Calls = append(s.w.history.Calls, call)
	for s.ctx.Err() == nil {
		res := s.attempt(call)
		if !isDecided(res) {
			s.w.count.Retries++
			s.move()
			continue
		}
		call.Result, call.End = res, s.w.moment()
		s.seq++
		s.decided, s.seen = res.Zxid, max(s.seen, res.Zxid)
		if res.Err == nil {
			return res, nil
		}
		if res.Err.Code == op.SessionExpired {
			s.lose(errExpired)
		}
		return nil, res.Err
	}
	return nil, s.over(op.Unknown)
}

func (s *conn) over(o op.Outcome) error { return &op.Error{Code: op.SessionExpired, Outcome: o} }

// Read asks members until one answers or the session is lost.
func (s *conn) Read(_ context.Context, o op.Op, ro op.ReadOptions) (*op.Result, error) {
	s.standStill()
	for s.ctx.Err() == nil {
		ro.MinZxid = max(ro.MinZxid, s.seen)
		if res := s.ask(o, ro); res == nil {
			s.move()
			s.sleep(s.w.between(time.Millisecond, 50*time.Millisecond))
		} else if res.Err != nil {
			return nil, res.Err
		} else {
			return res, nil
		}
	}
	return nil, s.over(op.Refused)
}

func (s *conn) Watch(_ context.Context, f watch.Filter, from op.Zxid) (recipe.Events, error) {
	return &events{conn: s, filter: f, pos: from}, nil
}

// events is a watch that goes on at another member from where it was whenever its member fails or it feels like it.
type events struct {
	*conn
	filter watch.Filter
	pos    op.Zxid
	stream *watch.Stream // nil if there is none
	from   *life
	moves  time.Duration // when it leaves its member
}

func (e *events) Close() {
	if e.stream != nil {
		e.stream.Close()
		e.stream = nil
	}
}

func (e *events) Next(ctx context.Context) ([]op.Event, op.Zxid, error) {
	for {
		e.standStill()
		// The session first, because ctx may end with it, but later.
		if e.ctx.Err() != nil {
			return nil, e.pos, e.over(op.Refused)
		}
		if err := ctx.Err(); err != nil {
			return nil, e.pos, err
		}
		list, err := e.take()
		if len(list) > 0 || err != nil {
			return list, e.pos, err
		}
		e.sleep(e.w.between(time.Millisecond, 50*time.Millisecond))
	}
}

// take returns what there is. The only error is that history is gone.
func (e *events) take() ([]op.Event, error) {
	if e.stream != nil && (e.from.dead || e.from.m.flipped || e.w.now > e.moves) {
		e.Close()
		e.move()
	}
	if e.stream == nil {
		if err := e.subscribe(); e.stream == nil {
			return nil, err
		}
	}
	list, at, err := e.stream.Take(1 + e.w.rng.IntN(5))
	if err != nil {
		e.w.count.HistoryGone++
		return nil, err
	}
	e.pos = max(e.pos, at)
	return list, nil
}

// subscribe begins a stream, if the member has got as far as the watch.
func (e *events) subscribe() error {
	l := e.at.serving()
	if l == nil || !l.pub.Serving {
		e.move()
		return nil
	}
	stream, err := l.core.History().Subscribe(e.filter, e.pos)
	if errors.Is(err, &op.Error{Code: op.HistoryGone}) {
		e.w.count.HistoryGone++
		return err
	}
	if err == nil {
		e.stream, e.from = stream, l
		e.moves = e.w.now + e.w.between(500*time.Millisecond, 10*time.Second)
		e.w.count.Resumes++
	}
	return nil
}
