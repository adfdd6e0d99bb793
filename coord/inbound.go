package coord

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/coord-kv/coord/internal/frame"
	"github.com/coord-kv/coord/op"
)

// What an engine does with what comes from the member.

// read takes what arrives until the connection breaks.
func (e *engine) read(l link) error {
	for {
		message, err := l.read()
		if err != nil {
			return err
		}
		e.alive()
		if err := e.take(message); err != nil {
			return err
		}
	}
}

// take handles the frames of one message. An error ends the connection.
func (e *engine) take(message []byte) error {
	d := frame.FromServer(message)
	e.mu.Lock()
	defer e.mu.Unlock()
	for e.ended == nil {
		f, err := d.Next()
		if err == io.EOF {
			e.signal() // room for more requests
			return nil
		}
		if err == nil {
			err = e.handle(f)
		}
		if err != nil {
			return err
		}
	}
	return e.ended
}

// handle takes one frame in. The caller holds e.mu.
func (e *engine) handle(f frame.Frame) error {
	switch f := f.(type) {
	case *frame.Reply:
		e.seen = max(e.seen, f.Info.Zxid)
		if f.Result != nil {
			e.seen = max(e.seen, f.Result.Zxid)
			e.forgetPosition(f.Result.Err)
		}
		if s := e.p.subs[f.ID]; s != nil && f.Result != nil {
			return e.awaited(s, f)
		}
		return e.follow(e.p.reply(f), f.Result)
	case *frame.Pong:
		e.lease.confirmed(f.ID, f.TTL)
		e.failures = 0
		e.tellPhase()
	case *frame.Failed:
		return e.refused(f)
	case *frame.SessionEnded:
		return e.sessionEnded(f)
	case *frame.Goaway:
		e.cfg.finder.learn(f.Endpoints)
		e.leaving = time.Now().Add(leaveTime)
	case *frame.Welcome:
		return errors.New("the member said welcome twice")
	default:
		return e.watchFrame(f)
	}
	return nil
}

// forgetPosition forgets what was seen before the cluster was restored from a backup, once that has been told.
func (e *engine) forgetPosition(err *op.Error) {
	if err != nil && err.Code == op.ClusterChanged {
		e.seen = 0
	}
}

func (e *engine) follow(v verdict, r *op.Result) error {
	switch v {
	case move:
		return fmt.Errorf("%w: %w", errLeft, r.Err)
	case pause:
		e.failures++
		e.held = time.Now().Add(backoff(e.failures, backoffCap, e.cfg.float))
		return nil
	}
	e.failures = 0
	if e.open != nil && r != nil && r.Err != nil && r.Err.Code == op.SessionExpired {
		e.failLocked(sessionOver())
	}
	return nil
}

func sessionOver() *Error {
	return &Error{Code: op.SessionExpired, Outcome: Decided, Detail: "the session has ended"}
}

func (e *engine) refused(f *frame.Failed) error {
	if s := e.p.subs[f.ID]; s != nil {
		e.endWatch(s, s.pos, f.Err)
		return nil
	}
	if f.ID == 0 {
		return f.Err
	}
	if ends(f.Err) && e.open != nil {
		e.failLocked(f.Err)
	}
	return nil // of a ping: the next one may be confirmed
}

// sessionEnded is told that the session has ended, or that it is attached elsewhere: by an attempt of this client to
// connect that it had given up, since nobody else knows the secret. Then it is attached anew.
func (e *engine) sessionEnded(f *frame.SessionEnded) error {
	if f.Err != nil && f.Err.Code == op.Superseded || e.open == nil {
		return f.Err
	}
	e.failLocked(sessionOver())
	return f.Err
}

func (e *engine) watchFrame(f frame.Frame) error {
	switch f := f.(type) {
	case *frame.Watching:
		if s := e.p.subs[f.Watch]; s != nil {
			s.watching(f)
		}
	case *frame.Initial:
		if s := e.p.subs[f.Watch]; s != nil {
			s.state(f)
		}
	case *frame.Events:
		e.seen = max(e.seen, f.Pos)
		if s := e.p.subs[f.Watch]; s != nil && s.events(f) {
			e.dropWatch(s)
			s.paused = true
		}
	case *frame.Bookmark:
		if s := e.p.subs[f.Watch]; s != nil {
			s.bookmark(f.Pos)
		}
	case *frame.Ended:
		if s := e.p.subs[f.Watch]; s != nil {
			e.endWatch(s, f.Pos, f.Err)
		}
	}
	return nil
}

// awaited takes the answer of an await, which is over with it, unless that is to be asked again.
func (e *engine) awaited(s *subscription, f *frame.Reply) error {
	if err := f.Result.Err; err != nil && transient(err.Code) {
		e.endWatch(s, s.pos, err)
		return nil
	}
	delete(e.p.subs, s.id)
	s.id = 0
	s.answered(answerOf(f))
	return e.follow(fine, f.Result)
}

// dropWatch ends a watch at the server.
func (e *engine) dropWatch(s *subscription) {
	if s.id != 0 {
		delete(e.p.subs, s.id)
		e.p.unwatch = append(e.p.unwatch, s.id)
		s.id = 0
	}
	e.p.waiting = slices.DeleteFunc(e.p.waiting, func(x *subscription) bool { return x == s })
	e.signal()
}

// endWatch takes the end of a watch by the server: it is begun again where it was, after a pause, unless err says that
// this is of no use.
func (e *engine) endWatch(s *subscription, pos op.Zxid, err *op.Error) {
	delete(e.p.subs, s.id)
	s.id = 0
	if !transient(err.Code) {
		s.fail(err)
		return
	}
	if s.placed {
		s.pos = max(s.pos, pos)
	}
	s.detached()
	e.p.waiting = append(e.p.waiting, s)
	e.failures++
	e.held = time.Now().Add(backoff(e.failures, backoffCap, e.cfg.float))
}
