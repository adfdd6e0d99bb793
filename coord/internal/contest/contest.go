// Package contest is what the packages lock and election have in common.
package contest

import (
	"context"
	"fmt"
	"sync"

	"github.com/coord-kv/coord/coord"
	"github.com/coord-kv/coord/internal/recipe"
)

// Tenure is the time for which something is held. One goroutine waits for its end.
type Tenure struct {
	ctx   context.Context
	end   context.CancelCauseFunc
	ended sync.WaitGroup
}

// Begin returns a tenure in a session. lost must return when it is lost, or with its context's error.
func Begin(s *coord.Session, lost func(context.Context) error) *Tenure {
	t := &Tenure{}
	t.ctx, t.end = context.WithCancelCause(s.Context())
	t.ended.Go(func() { t.end(lost(t.ctx)) })
	return t
}

// Context ends with the tenure. Its cause says why it was lost; it is context.Canceled after End.
func (t *Tenure) Context() context.Context { return t.ctx }

// Lost returns why the tenure was lost; nil if it stands, or if it was ended.
func (t *Tenure) Lost() error {
	if err := context.Cause(t.ctx); err != context.Canceled {
		return err
	}
	return nil
}

// End ends the context, and returns when nothing runs any more.
func (t *Tenure) End() {
	t.end(context.Canceled)
	t.ended.Wait()
}

// Within returns a context that ends with ctx and with the tenure, with the cause of whichever came first.
func (t *Tenure) Within(ctx context.Context) (context.Context, context.CancelFunc) {
	return Within(ctx, t.ctx)
}

// Within returns a context that ends with ctx and with another one, with the cause of whichever came first.
func Within(ctx, other context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(other, func() { cancel(context.Cause(other)) })
	return ctx, func() { stop(); cancel(nil) }
}

// Await calls f, which isn't over before the session has an answer or ends, and waits for it as long as ctx lasts.
func Await(ctx context.Context, f func() error) error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("it was asked for and not answered yet: %w", context.Cause(ctx))
	}
}

// Contenders returns them as programs see them.
func Contenders(list []recipe.Contender) []coord.Contender {
	var out []coord.Contender
	for _, c := range list {
		out = append(out, coord.Contender{
			Owner: c.Owner, Metadata: c.Metadata, Session: c.Session.String(), Token: c.Token, Priority: c.Priority,
			Shared: c.Shared, Since: c.Since.Std(),
		})
	}
	return out
}

// History returns tenures as programs see them.
func History(list []recipe.Tenure) []coord.Tenure {
	var out []coord.Tenure
	for _, t := range list {
		tenure := coord.Tenure{
			Token: t.Token, Owner: t.Owner, Session: t.Session.String(), Since: t.Since.Std(), Ended: t.Ended, By: t.By,
		}
		if t.Until != 0 {
			tenure.Until = t.Until.Std()
		}
		out = append(out, tenure)
	}
	return out
}
