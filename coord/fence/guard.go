package fence

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/coord-kv/coord/coord"
	"github.com/coord-kv/coord/op"
)

// Guard lets those use a resource who have a token that is not stale. It is safe for concurrent use.
type Guard struct {
	name  string
	want  coord.Token // without a number
	err   error       // what is wrong with name
	store Store
	reads bool

	mu      sync.Mutex
	highest coord.Zxid
	uses    map[*use]bool // under way
	left    chan struct{} // closed when one of them has ended
}

type use struct {
	token  coord.Zxid
	cancel context.CancelCauseFunc
}

// Option sets something of a Guard.
type Option func(*Guard)

// GuardReads has Handler ask for a token with GET, HEAD and OPTIONS too.
func GuardReads() Option { return func(g *Guard) { g.reads = true } }

// New returns the guard of a resource that is used by the holder of a lock, which name says as a token does: "nightly"
// for a lock, "term:scheduler" for an election. It must be an exclusive lock: the tokens of others don't grow. If the name
// can't be one, every use is refused.
func New(name string, store Store, opts ...Option) *Guard {
	g := &Guard{name: name, store: store, uses: map[*use]bool{}, left: make(chan struct{})}
	g.want, g.err = coord.ParseToken(name + "=1")
	for _, o := range opts {
		o(g)
	}
	return g
}

// Do calls f if the token is not stale. The context that f is given ends with ctx, and, with coord.ErrStaleToken for its
// cause, when a higher token comes; f should return soon then, since that one waits for it. TokenOf finds the token in it.
//
// The error is that of f; or coord.ErrStaleToken; or an *coord.Error with the outcome coord.Refused if the token is that of
// another lock; or why the Store couldn't tell.
func (g *Guard) Do(ctx context.Context, token coord.Token, f func(ctx context.Context) error) error {
	if err := g.check(token); err != nil {
		return err
	}
	if err := g.store.Pass(ctx, token.Zxid); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(context.WithValue(ctx, tokenKey{}, token))
	defer cancel(nil)
	u := &use{token.Zxid, cancel}
	if err := g.enter(ctx, u); err != nil {
		return err
	}
	defer g.leave(u)
	return f(ctx)
}

func (g *Guard) check(token coord.Token) error {
	switch {
	case g.err != nil:
		return g.err
	case token.Dir != g.want.Dir || token.Term != g.want.Term:
		return op.Errorf(op.BadRequest, "the token %v is of another lock than %s, which guards this", token, g.name)
	case token.Shared || token.Slots > 1:
		return op.Errorf(op.BadRequest, "the token %v is of a lock that is shared: such tokens don't grow", token)
	}
	return nil
}

// enter waits until no use with a lower token is under way; it ends those.
func (g *Guard) enter(ctx context.Context, u *use) error {
	for {
		left, err := g.tryEnter(u)
		if left == nil || err != nil {
			return err
		}
		select {
		case <-left:
		case <-ctx.Done():
			return fmt.Errorf("an older use of the resource has not ended: %w", context.Cause(ctx))
		}
	}
}

// tryEnter returns what to wait for; nil if nothing.
func (g *Guard) tryEnter(u *use) (left chan struct{}, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if u.token < g.highest {
		return nil, stale(u.token, g.highest)
	}
	g.highest = u.token
	for other := range g.uses {
		if other.token < u.token {
			other.cancel(stale(other.token, u.token))
			left = g.left
		}
	}
	if left == nil {
		g.uses[u] = true
	}
	return left, nil
}

func (g *Guard) leave(u *use) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.uses, u)
	close(g.left)
	g.left = make(chan struct{})
}

type tokenKey struct{}

// TokenOf returns the token that a Guard has let through: for handing it on to what is behind the resource.
func TokenOf(ctx context.Context) (token coord.Token, ok bool) {
	token, ok = ctx.Value(tokenKey{}).(coord.Token)
	return token, ok
}

// isRefusal reports whether err says that the request was wrong.
func isRefusal(err error) bool {
	e, ok := errors.AsType[*coord.Error](err)
	return ok && (e.Code == op.BadRequest || e.Code == op.BadPath)
}
