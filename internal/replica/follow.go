package replica

import (
	"maps"
	"slices"

	"github.com/coord-kv/coord/fsm"
	"github.com/coord-kv/coord/op"
)

// Follow is somebody who is told what becomes of a session.
type Follow struct {
	Session op.SessionID
	Told    func(fsm.SessionChange)
}

// Follow tells f how the session stands, and from now on of every change of it.
func (c *Core) Follow(f *Follow) {
	c.lives.follows[f.Session] = append(c.lives.follows[f.Session], f)
	c.halt.tell(func() { c.lives.tell(f.Session) })
}

// Unfollow ends what Follow began.
func (c *Core) Unfollow(f *Follow) {
	left := slices.DeleteFunc(c.lives.follows[f.Session], func(g *Follow) bool { return g == f })
	if c.lives.follows[f.Session] = left; len(left) == 0 {
		delete(c.lives.follows, f.Session)
	}
}

// tell tells those who follow a session how it stands now.
func (l *lives) tell(id op.SessionID) {
	s, alive := l.c.machine.Session(id)
	l.changedTo(fsm.SessionChange{ID: id, Epoch: s.Epoch, Timeout: s.Timeout, Lease: s.Lease, Ended: !alive})
}

// tellEnd tells those who follow a session that it has ended.
func (l *lives) tellEnd(s fsm.SessionChange) {
	for _, f := range l.follows[s.ID] {
		f.Told(s)
	}
}

// changedTo tells those who follow a session what it has become, once the state in which it has is published.
func (l *lives) changedTo(s fsm.SessionChange) {
	for _, f := range l.follows[s.ID] {
		l.c.answer(func() { f.Told(s) })
	}
}

// tellAll is tell for all sessions that are followed: the state has been replaced.
func (l *lives) tellAll() {
	for _, id := range slices.Sorted(maps.Keys(l.follows)) {
		l.tell(id)
	}
}
