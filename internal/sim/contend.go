package sim

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/coord-kv/coord/internal/check"
	"github.com/coord-kv/coord/internal/recipe"
	"github.com/coord-kv/coord/op"
)

// What contenders fight for: a mutex, a lock for readers and writers, a semaphore, and an election. In some runs it is
// one of these alone.
const (
	mutex     = "a"
	shared    = "b"
	semaphore = "c"
	election  = "e"
)

var prizes = []string{mutex, shared, semaphore, election}

// contend takes locks and leads, in one session after the other.
func (c *client) contend() {
	c.inSessions(func(s *conn) { s.rounds(6, 200*time.Millisecond, s.takePart) })
}

func (s *conn) takePart() {
	prize := s.w.profile.Prize
	if prize == "" {
		prize = pick(s.w, prizes)
	}
	switch meddle := s.w.chance(10); {
	case meddle && prize == election:
		to := fmt.Sprint(500 + s.w.rng.IntN(s.w.profile.Contenders))
		s.meddled(recipe.Transfer(s.ctx, s, election, to, "ops"))
	case meddle:
		_, err := recipe.Break(s.ctx, s, prize, 0, "ops")
		s.meddled(err)
	case prize == election:
		s.campaign()
	default:
		s.lock(prize)
	}
}

func (s *conn) meddled(err error) {
	if err == nil {
		s.w.count.Broken++
	}
	s.expects(err, op.NoLock, op.NotHolder, op.NotLeaderCandidate, op.SessionExpired)
}

func (s *conn) spec(name string) (spec recipe.Spec, rule op.Rule) {
	spec = recipe.Spec{Name: name, Owner: fmt.Sprint(s.client.id), Rand: names{s.w}}
	switch {
	case name == semaphore:
		spec.Mode, spec.Slots, rule.Slots = recipe.Slot, 2, 2
	case name == shared && s.w.chance(50):
		spec.Mode, rule.Shared = recipe.Read, true
	case name == shared:
		spec.Mode = recipe.Write
	case s.w.chance(20):
		spec.AtLeast = time.Duration(1+s.w.rng.IntN(1000)) * time.Millisecond
	}
	if (spec.Mode == recipe.Exclusive || spec.Mode == recipe.Write) && s.w.chance(60) {
		spec.Delay = time.Duration(1+s.w.rng.IntN(5000)) * time.Millisecond
	}
	return spec, rule
}

func (s *conn) lock(name string) {
	spec, rule := s.spec(name)
	l, err := recipe.NewLock(s, spec)
	if err != nil {
		panic(err)
	}
	turn := s.asks(&check.Turn{Dir: recipe.LocksDir + "/" + name, Rule: rule, AtLeast: spec.AtLeast, Owner: spec.Owner, Delay: spec.Delay})
	take := l.Acquire
	if s.w.chance(15) {
		take = l.Try
	}
	ctx, cancel := s.willing()
	defer cancel()
	g, err := take(ctx)
	if !s.answered(turn, err) {
		return
	}
	s.w.count.Grants++
	turn.Path, turn.Token = g.Path, g.Token
	if rule == (op.Rule{}) {
		s.use(&op.Holder{Dir: turn.Dir, Token: turn.Token}, name, turn.Token)
	}
	s.sleep(s.w.between(0, time.Second))
	if spec.Delay > 0 && s.w.chance(30) {
		s.die()
		return
	}
	s.expects(g.Release(s.ctx), op.NotHolder, op.SessionExpired)
}

func (s *conn) campaign() {
	e, err := recipe.NewElection(s, recipe.Candidacy{
		Name: election, ID: fmt.Sprint(s.client.id), Priority: s.w.rng.IntN(3) / 2, Rand: names{s.w},
	})
	if err != nil {
		panic(err)
	}
	turn := s.asks(&check.Turn{Dir: recipe.ElectionsDir + "/" + election, Leads: true})
	ctx, cancel := s.willing()
	defer cancel()
	term, err := e.Campaign(ctx)
	if !s.answered(turn, err) {
		return
	}
	s.w.count.Terms++
	turn.Path, turn.Token = term.Path, term.Token
	s.use(&op.Term{Dir: turn.Dir, Token: turn.Token}, election, turn.Token)
	s.sleep(s.w.between(0, time.Second))
	s.expects(term.Resign(s.ctx), op.NotHolder, op.SessionExpired)
}

// names are what recipes draw for their names.
type names struct{ w *world }

func (n names) Read(p []byte) (int, error) {
	for i := 0; i < len(p); i += 8 {
		var b [8]byte
		binary.BigEndian.PutUint64(b[:], n.w.rng.Uint64())
		copy(p[i:], b[:])
	}
	return len(p), nil
}

// asks begins the record of a turn.
func (s *conn) asks(t *check.Turn) *check.Turn {
	t.Client, t.Session, t.Asked = s.client.id, s.id, s.w.moment()
	s.turns = append(s.turns, t)
	s.w.history.Turns = append(s.w.history.Turns, t)
	return t
}

// willing returns a context for waiting, which may end before the turn comes. Sometimes the process stands still
// instead, from any moment on, and doesn't know that its session ends while it waits.
func (s *conn) willing() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	switch s.w.rng.IntN(10) {
	case 0, 1, 2, 3:
		s.w.after(s.w.between(0, 8*time.Second), cancel)
	case 4:
		s.w.after(s.w.between(0, 2*time.Second), func() {
			if ctx.Err() == nil && !s.w.quiet && s.ctx.Err() == nil {
				s.stop()
			}
		})
	}
	return ctx, cancel
}

// answered ends the asking, and reports whether the turn was granted.
func (s *conn) answered(t *check.Turn, err error) bool {
	t.Ended = s.w.moment()
	s.w.note("client %d in %v was answered about %s: %v", t.Client, t.Session, t.Dir, err)
	switch {
	case err == nil:
		t.Told, t.Granted = t.Ended, s.decided
	case errors.Is(err, &op.Error{Code: op.SessionExpired}):
		s.w.count.Orphaned++
	case errors.Is(err, context.Canceled):
		s.w.count.GaveUp++
	}
	s.expects(err, op.LockHeld, op.NotHolder, op.SessionExpired)
	return err == nil
}

// expects fails the run unless an error is none or has one of the codes.
func (s *conn) expects(err error, codes ...op.Code) {
	for _, c := range codes {
		if errors.Is(err, &op.Error{Code: c}) {
			return
		}
	}
	if err != nil && s.ctx.Err() == nil {
		s.w.fail("client %d in %v met an error that it should not: %v", s.client.id, s.id, err)
	}
}

// use is what a holder does: it writes under its token, sometimes long after its session has ended, and shows the token
// to the register of a resource.
func (s *conn) use(fence op.Op, resource string, token op.Zxid) {
	s.sleep(s.w.between(0, time.Second))
	if !s.w.quiet && s.w.chance(15) {
		s.stop()
		s.standStill()
	}
	s.fenced(fence, resource)
	if s.w.chance(50) {
		return
	}
	by := s
	if s.w.now > s.until {
		if by = s.client.connect(); by == nil {
			return
		}
		defer by.leave()
	}
	_, err := recipe.Pass(by.ctx, by, resource, token)
	by.expects(err, op.StaleToken, op.SessionExpired)
}

// fenced writes without a session, as somebody does to whom a holder has given its token.
func (s *conn) fenced(fence op.Op, resource string) {
	s.n++
	path := "/guarded-" + resource
	res := s.write(&op.Request{
		Key: &op.Key{Principal: "world", Key: fmt.Sprintf("f%d-%d", s.client.id, s.n)},
		Op:  &op.Txn{If: []op.Op{fence}, Then: []op.Op{&op.Create{Path: path, Data: fmt.Append(nil, s.n), Replace: true}}},
	})
	switch {
	case res == nil:
	case res.Err == nil:
		s.w.count.Fenced++
	case res.Err.Code == op.StaleToken:
		s.w.count.Stale++
	case isDecided(res):
		s.w.fail("a fenced write got %v", res.Err)
	}
}

// observe follows who leads, in one session after the other.
func (c *client) observe() {
	c.inSessions((*conn).watchLeaders)
}

func (s *conn) watchLeaders() {
	o, err := recipe.Observe(s, election)
	if err != nil {
		panic(err)
	}
	for !s.w.quiet {
		l, err := o.Next(s.ctx)
		if err != nil {
			s.expects(err, op.SessionExpired)
			return
		}
		s.w.count.Sightings++
		s.w.history.Sightings = append(s.w.history.Sightings,
			check.Sighting{Observer: s.client.id, Dir: recipe.ElectionsDir + "/" + election, Token: l.Token})
	}
}
