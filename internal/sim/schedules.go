package sim

import (
	"errors"
	"fmt"
	"time"

	"github.com/coord-kv/coord/internal/check"
	"github.com/coord-kv/coord/internal/recipe/once"
	"github.com/coord-kv/coord/op"
)

// schedules are what is run once in each period: one at least once, one at most once.
var schedules = []*check.Schedule{
	{Dir: once.Dir + "/often", Every: 1500 * time.Millisecond},
	{Dir: once.Dir + "/rare", Every: 5 * time.Second, AtMostOnce: true},
}

// keepSchedules runs this one and that, in one session after the other.
func (c *client) keepSchedules() {
	c.inSessions(func(s *conn) {
		s.rounds(8, time.Second, func() { s.runOnce(pick(c.w, schedules)) })
	})
}

// runOnce runs it, unless there is nothing to do; sometimes it fails, or dies with it.
func (s *conn) runOnce(of *check.Schedule) {
	r, err := must(once.New(s, op.Base(of.Dir))).Begin(s.ctx, fmt.Sprint(s.client.id), of.Every, of.AtMostOnce)
	if t, ok := errors.AsType[*once.Taken](err); ok {
		s.w.count.Skipped++
		skip := check.Skip{Of: of, Client: s.client.id, Running: t.Running, Zxid: s.seen}
		s.w.history.Small.Skips = append(s.w.history.Small.Skips, &skip)
		return
	}
	if !s.waited(err) {
		return
	}
	s.w.count.Ran++
	run := &check.Run{Of: of, Client: s.client.id, Session: s.id, Token: r.Token, Told: s.w.moment()}
	s.runs = append(s.runs, run)
	s.w.history.Small.Runs = append(s.w.history.Small.Runs, run)
	s.sleep(s.w.between(0, 500*time.Millisecond))
	run.Failed, run.Over = s.w.chance(30), s.w.moment()
	switch n := s.w.rng.IntN(10); {
	case n < 2:
		s.leave()
		return
	case n < 3 && !s.w.quiet:
		s.stop() // from here on it does nothing, so somebody else may be told that it runs it
		s.standStill()
	}
	err = r.End(s.ctx, "it is over", run.Failed)
	run.Acked = err == nil
	s.expects(err, op.NotHolder, op.SessionExpired)
}
