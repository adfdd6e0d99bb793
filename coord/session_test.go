package coord

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coord-kv/coord/internal/frame"
	"github.com/coord-kv/coord/op"
)

// A cut connection suspends the session; it is known to live until its timeout, less a hundredth, has passed since
// the last confirmed sign of life was sent. At that moment, and not before, it is given up.
func TestSessionLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newService(1)
		c := s.client()
		defer c.Close()
		ses := must(c.Session(t.Context()))(t)
		opened := time.Now()
		if st := <-ses.States(); st.Phase != Connected {
			t.Errorf("at first it is %s", st.Phase)
		}
		time.Sleep(time.Minute) // pings go every 3 s
		synctest.Wait()
		proven := opened.Add(time.Minute + s.ttl - s.ttl/driftShare)
		if !ses.ValidUntil().Equal(proven) {
			t.Errorf("it is valid until %v after opening", ses.ValidUntil().Sub(opened))
		}
		s.set(func() { s.down = true })
		s.cut()
		synctest.Wait()
		if st := <-ses.States(); st.Phase != Suspended || !st.Until.Equal(proven) || st.Err == nil {
			t.Errorf("without a connection it is %+v", st)
		}
		time.Sleep(time.Until(proven) - time.Nanosecond)
		synctest.Wait()
		if ses.Context().Err() != nil {
			t.Error("it is given up while it is known to live")
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if !errors.Is(context.Cause(ses.Context()), ErrSessionExpired) {
			t.Errorf("it is not given up when it can't be proven alive: %v", context.Cause(ses.Context()))
		}
		if st, ok := <-ses.States(); st.Phase != Lost || !ok {
			t.Errorf("at last it is %s", st.Phase)
		}
		if _, ok := <-ses.States(); ok {
			t.Error("there are states after it is lost")
		}
		_, err := ses.Create(t.Context(), "/late", nil)
		if e := (*Error)(nil); !errors.Is(err, ErrSessionExpired) || !errors.As(err, &e) || e.Outcome != Refused {
			t.Errorf("a call afterwards: %v", err)
		}
	})
}

// A member that is connected but whose signs of life no leader confirms proves nothing.
func TestSessionUnconfirmed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newService(1)
		c := s.client()
		defer c.Close()
		ses := must(c.Session(t.Context()))(t)
		<-ses.States()
		s.set(func() { s.silent = true })
		start := time.Now()
		if st := <-ses.States(); st.Phase != Suspended {
			t.Errorf("it is %s", st.Phase)
		}
		<-ses.Context().Done()
		if got, want := time.Since(start), s.ttl-s.ttl/driftShare; got != want {
			t.Errorf("it was given up after %s, not %s", got, want)
		}
	})
}

// A session comes back from a short loss of its connection, with what was asked for meanwhile.
func TestSessionResumes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newService(1)
		c := s.client()
		defer c.Close()
		ses := must(c.Session(t.Context()))(t)
		id := ses.ID()
		<-ses.States()
		s.set(func() { s.down = true })
		s.cut()
		<-ses.States()
		done := make(chan error, 1)
		go func() {
			_, err := ses.Create(t.Context(), "/meanwhile", nil)
			done <- err
		}()
		time.Sleep(8 * time.Second)
		s.set(func() { s.down = false })
		if err := <-done; err != nil {
			t.Error(err)
		}
		if st := <-ses.States(); st.Phase != Connected || ses.ID() != id {
			t.Errorf("it is %s, %s", ses.ID(), st.Phase)
		}
		if count(s.paths(), "/meanwhile") != 1 {
			t.Error("the write was not done once")
		}
	})
}

// A session that the service has ended is lost at once.
func TestSessionEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newService(1)
		c := s.client()
		defer c.Close()
		ses := must(c.Session(t.Context()))(t)
		s.set(func() {
			s.ended = true
			for l := range s.conns {
				l.send(&frame.SessionEnded{Session: s.session, Err: &op.Error{Code: op.SessionExpired, Outcome: op.Decided}})
			}
		})
		synctest.Wait()
		if !errors.Is(context.Cause(ses.Context()), ErrSessionExpired) {
			t.Errorf("%v", context.Cause(ses.Context()))
		}
		if err := ses.Close(t.Context()); err != nil {
			t.Errorf("closing what has ended: %v", err)
		}
	})
}

// Attached elsewhere, by an attempt to connect that was given up, the session is attached anew.
func TestSessionSuperseded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newService(1)
		c := s.client()
		defer c.Close()
		ses := must(c.Session(t.Context()))(t)
		s.set(func() {
			s.epoch++
			for l := range s.conns {
				l.send(&frame.SessionEnded{Session: s.session, Err: op.Errorf(op.Superseded, "elsewhere")})
			}
		})
		must(ses.Create(t.Context(), "/x", nil))(t)
	})
}

// A goaway moves the client on, after what is under way has been answered.
func TestGoaway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newService(1)
		c := s.client()
		defer c.Close()
		ses := must(c.Session(t.Context()))(t)
		s.set(func() {
			for l := range s.conns {
				l.send(&frame.Goaway{Reason: "draining"})
			}
		})
		synctest.Wait()
		must(ses.Create(t.Context(), "/x", nil))(t)
		s.set(func() {
			if s.hellos != 2 {
				t.Errorf("there were %d hellos", s.hellos)
			}
		})
	})
}

// Calls respect their contexts while nobody can be reached, and say what stands in the way.
func TestNobodyThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newService(1)
		s.down = true
		c := s.client()
		defer c.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		start := time.Now()
		_, err := c.Get(ctx, "/x")
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, ErrTimeout) || time.Since(start) != 3*time.Second {
			t.Errorf("after %s: %v", time.Since(start), err)
		}
		if _, err := c.Session(ctx); err == nil {
			t.Error("a session of nobody")
		}
	})
}

// Close ends everything that waits.
func TestCloseEndsCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newService(1)
		s.down = true
		c := s.client()
		done := make(chan error, 2)
		go func() {
			_, err := c.Get(t.Context(), "/x")
			done <- err
		}()
		go func() {
			for _, err := range c.Watch(t.Context(), "/x") {
				done <- err
			}
		}()
		synctest.Wait()
		c.Close()
		for range 2 {
			if err := <-done; !errors.Is(err, ErrClosed) {
				t.Error(err)
			}
		}
		if _, err := c.Get(t.Context(), "/x"); !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
	})
}

func TestLeaseProvesNothingByForgottenPings(t *testing.T) {
	var l lease
	start := time.Now()
	l.begun(start, 10*time.Second)
	for i := range uint64(100) {
		l.sent(i+1, start.Add(time.Duration(i)*time.Second))
	}
	proven := l.until
	l.confirmed(1, 10*time.Second) // too long ago to be remembered
	l.confirmed(1000, 10*time.Second)
	if !l.until.Equal(proven) {
		t.Errorf("it is proven until %v", l.until.Sub(start))
	}
	l.confirmed(100, 20*time.Second)
	if got, want := l.until.Sub(start), 99*time.Second+20*time.Second-200*time.Millisecond; got != want {
		t.Errorf("it is proven until %v, not %v", got, want)
	}
}
