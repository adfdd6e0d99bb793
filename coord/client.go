package coord

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// Client is a way to the service without a session. It is safe for concurrent use: one is enough for a process, and its
// requests share one connection.
type Client struct {
	tree
	cfg *config

	mu       sync.Mutex
	sessions []*Session // that were opened and not closed
	closed   bool
}

// dialLimit bounds Dial if its context doesn't.
const dialLimit = 10 * time.Second

// Dial connects to the service, at the endpoints of WithEndpoints, else of COORD_ENDPOINTS, else at localhost:7070.
// It tries them until ctx ends, or for 10 s if ctx has no deadline. After that the Client connects by itself whenever
// it has something to ask, and calls wait until a member can be reached or their context ends.
func Dial(ctx context.Context, opts ...Option) (*Client, error) {
	cfg, err := newConfig(opts)
	if err != nil {
		return nil, err
	}
	c := &Client{tree: tree{newEngine(context.Background(), cfg, nil)}, cfg: cfg}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, dialLimit)
		defer cancel()
	}
	if err := c.e.join(ctx); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// Close ends the connections of the Client and of its sessions, and returns when nothing of them runs any more.
// Sessions that were not closed before expire when their timeout is over. Calls that wait return with ErrClosed.
func (c *Client) Close() error {
	c.mu.Lock()
	sessions := c.sessions
	c.sessions, c.closed = nil, true
	c.mu.Unlock()
	for _, s := range sessions {
		s.e.close()
	}
	c.e.close()
	return nil
}

// own takes a session into the Client's care, and reports whether the Client is still open.
func (c *Client) own(s *Session) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sessions = slices.DeleteFunc(c.sessions, func(s *Session) bool { return s.e.life.Err() != nil })
	if !c.closed {
		c.sessions = append(c.sessions, s)
	}
	return !c.closed
}

// Session opens a session. ctx bounds the opening alone; its values are those of the session's Context.
func (c *Client) Session(ctx context.Context, opts ...SessionOption) (*Session, error) {
	s := newSession(ctx, c.cfg, opts)
	if !c.own(s) {
		s.e.close()
		return nil, interrupt("", false, ErrClosed, nil)
	}
	if err := s.e.join(ctx); err != nil {
		s.e.close()
		return nil, explainOpening(err)
	}
	return s, nil
}

func explainOpening(err error) error {
	if e := (*Error)(nil); errors.As(err, &e) && e.Detail == "" && errors.Is(err, ErrDenied) {
		e.Detail = "a live session has that identity; give its Secret to Identity"
	}
	return err
}
