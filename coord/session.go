package coord

import (
	"context"
	"crypto/rand"
	"slices"
	"time"

	"github.com/coord-kv/coord/internal/frame"
	"github.com/coord-kv/coord/op"
)

// Session is a session, and a way to the service in its name: ephemeral nodes that it creates go when it ends, and
// what it writes takes effect in the order of the calls, each at most once, whatever happens to connections and
// members. It is kept alive by a connection of its own, and is safe for concurrent use.
type Session struct{ tree }

func newSession(ctx context.Context, cfg *config, opts []SessionOption) *Session {
	open := &frame.Open{Secret: make([]byte, 16)}
	rand.Read(open.Secret)
	for _, o := range opts {
		o.applySession(open)
	}
	return &Session{tree{newEngine(ctx, cfg, open)}}
}

// ID returns the session's id, such as "s-1c".
func (s *Session) ID() string { return s.number().String() }

func (s *Session) number() op.SessionID {
	s.e.mu.Lock()
	defer s.e.mu.Unlock()
	return s.e.session
}

// Secret returns what proves to be the owner of the session: for Identity, after a restart. Keep it from others.
func (s *Session) Secret() []byte { return slices.Clone(s.e.open.Secret) }

// TTL returns the timeout that was granted.
func (s *Session) TTL() time.Duration {
	s.e.mu.Lock()
	defer s.e.mu.Unlock()
	return s.e.lease.ttl
}

// Context returns a context that ends when the session is closed, has ended, or can't be proven alive any more, by
// the local monotonic clock. Its cause says which: ErrClosed, or an *Error with ErrSessionExpired. Work that needs
// the session, such as being the holder of a lock, belongs under this context.
//
// A process that is stopped, and continued after the session has expired, may run for a moment before it notices; and
// a machine that sleeps may stop its monotonic clock. So a context alone protects no resource from two holders:
// writes that are Fenced do.
func (s *Session) Context() context.Context { return s.e.life }

// ValidUntil returns the time until which the session is known to live, however few of its messages get through. It
// has a monotonic reading, so time.Until and comparisons with time.Now don't depend on the wall clock.
func (s *Session) ValidUntil() time.Time {
	s.e.mu.Lock()
	defer s.e.mu.Unlock()
	return s.e.lease.until
}

// State returns what is known of the session now.
func (s *Session) State() State {
	s.e.mu.Lock()
	defer s.e.mu.Unlock()
	return s.e.stateLocked()
}

// States returns a channel of changes of the session's phase, always the same one. Who receives late gets the latest;
// who doesn't receive holds up nothing. It is closed after Lost.
func (s *Session) States() <-chan State { return s.e.states }

// Close ends the session, so that its ephemeral nodes go at once, after what was asked for before has been answered.
// If ctx ends first, the session is left to expire, and the error says so. In any case nothing of it runs any more
// afterwards.
func (s *Session) Close(ctx context.Context) error {
	err := s.e.leave(ctx)
	s.e.close()
	return err
}
