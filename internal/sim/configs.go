package sim

import (
	"context"
	"fmt"
	"time"

	"github.com/coord-kv/coord/internal/check"
	"github.com/coord-kv/coord/internal/settings"
	"github.com/coord-kv/coord/op"
)

// Configurers change the configuration of one application, others follow it as a bound value does.
const application = "shop"

var configDir = op.Join(settings.Dir, application)

// configure makes versions, in one session after the other.
func (c *client) configure() {
	c.inSessions(func(s *conn) { s.rounds(6, 500*time.Millisecond, s.change) })
}

// change makes one version: of some keys, of all of them, or of what was there before.
func (s *conn) change() {
	all := settings.New(s)
	s.n++
	x := settings.Change{Comment: fmt.Sprintf("c%d-%d", s.client.id, s.n), Values: map[string]*string{}, Replace: s.w.chance(20)}
	for range 1 + s.w.rng.IntN(3) {
		key, value := fmt.Sprint("k", s.w.rng.IntN(4)), x.Comment
		if x.Values[key] = &value; s.w.chance(30) {
			x.Values[key] = nil
		}
	}
	now, err := all.Get(s.ctx, application, op.ReadOptions{Level: op.Eventual})
	if s.expects(err, op.SessionExpired); err != nil {
		return
	}
	if now.Number > 0 && s.w.chance(30) {
		x.If = &op.Cond{Version: now.Node.Version, Mzxid: now.Node.Mzxid}
	}
	commit := all.Commit
	if back := now.Number - int64(s.w.rng.IntN(5)); back > 0 && s.w.chance(30) {
		commit = func(ctx context.Context, app string, x settings.Change) (settings.Committed, error) {
			return all.Rollback(ctx, app, back, x)
		}
	}
	done, err := commit(s.ctx, application, x)
	s.expects(err, op.BadVersion, op.SessionExpired)
	if err == nil && done.Comment == x.Comment { // else nothing has changed
		s.w.count.Configured++
		if done.RolledBack > 0 {
			s.w.count.RolledBack++
		}
		s.w.history.Configs.Commits = append(s.w.history.Configs.Commits,
			check.Commit{Client: s.client.id, Dir: configDir, Version: done.Number, Comment: x.Comment})
	}
}

// bound is what one follower has, which may hear of it along several ways, one ahead of the other.
type bound struct {
	id     int
	latest settings.Latest
}

// bind follows the configuration, in one session after the other, and goes on until the end.
func (c *client) bind(b *bound) {
	for {
		s := c.connect()
		if s == nil {
			c.sleep(c.w.between(time.Millisecond, 100*time.Millisecond))
			continue
		}
		s.followConfig(b)
		s.leave()
	}
}

func (s *conn) followConfig(b *bound) {
	w := settings.New(s).Watch(application)
	defer w.Close()
	var last *check.Shown
	for {
		x, _, err := w.Next(s.ctx)
		if last != nil && err != nil {
			last.Open = false
		}
		if err != nil {
			s.expects(err, op.SessionExpired)
			return
		}
		last = s.takeUp(b, x)
		if s.w.chance(20) { // beside following, it asks for what is there
			x, err := settings.New(s).Get(s.ctx, application, op.ReadOptions{Level: op.Linearizable})
			if s.expects(err, op.SessionExpired); err == nil {
				last = s.takeUp(b, x)
			}
		}
	}
}

// takeUp takes a configuration up if it is newer than what was known, and notes what is known then.
func (s *conn) takeUp(b *bound, x settings.Config) *check.Shown {
	latest := &b.latest
	if latest.Take(x) {
		s.w.count.TakenUp++
	}
	shown := &check.Shown{Follower: b.id, Dir: configDir, Version: latest.Number, Values: latest.Values, Open: true}
	s.w.history.Configs.Shown = append(s.w.history.Configs.Shown, shown)
	return shown
}
