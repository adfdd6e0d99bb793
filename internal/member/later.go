package member

import (
	"time"

	"github.com/coord-kv/coord/fsm"
	"github.com/coord-kv/coord/op"
)

// What doors ask of a member without waiting for the answer.

// DoLater has a request decided; see replica.Replica.Submit.
func (m *Member) DoLater(req *op.Request, done func(*op.Result)) (abandon func() bool) {
	r, err := m.running()
	if err != nil {
		done(&op.Result{Err: err.(*op.Error)})
		return func() bool { return true }
	}
	return r.Submit(req, done)
}

// ViewLater finds a state that is as fresh as o asks; see replica.Replica.ViewLater.
func (m *Member) ViewLater(o op.ReadOptions, done func(*fsm.View, op.ReadInfo, error)) (abandon func() bool) {
	r, err := m.running()
	if err != nil {
		done(nil, op.ReadInfo{}, err)
		return nil
	}
	return r.ViewLater(o, done)
}

// ViewNow returns a state that is as fresh as o asks, if there is one; see replica.Replica.ViewNow.
func (m *Member) ViewNow(o op.ReadOptions) (v *fsm.View, info op.ReadInfo, err error, ok bool) {
	r := m.replica.Load()
	if r == nil {
		return nil, op.ReadInfo{}, nil, false
	}
	return r.ViewNow(o)
}

// Drive does what was handed over without waiting for it; see replica.Replica.Drive.
func (m *Member) Drive() {
	if r := m.replica.Load(); r != nil {
		r.Drive()
	}
}

// KeepAliveLater gives a sign of life of a session; see replica.Replica.KeepAliveLater.
func (m *Member) KeepAliveLater(id op.SessionID, done func(error), timeout func(time.Duration, error)) {
	r, err := m.running()
	if err != nil {
		done(err)
		return
	}
	r.KeepAliveLater(id, done, timeout)
}

// FollowSession has told called with what becomes of a session; see replica.Replica.Follow.
func (m *Member) FollowSession(id op.SessionID, told func(fsm.SessionChange)) (stop func()) {
	r, err := m.running()
	if err != nil {
		return func() {}
	}
	return r.Follow(id, told)
}
