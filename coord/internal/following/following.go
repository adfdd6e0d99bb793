// Package following is what the small recipes of the client have in common.
package following

import (
	"context"
	"iter"

	"github.com/coord-kv/coord/internal/recipe"
	"github.com/coord-kv/coord/internal/recipe/follow"
)

// Via is a *coord.Client or a *coord.Session.
type Via interface{ Conn() recipe.Conn }

// Seq yields what a follower has seen, as it is and again whenever it has changed. It ends when the loop ends, or with
// an error: the context's, or why the Client or the Session has ended.
func Seq[T, U any](ctx context.Context, c recipe.Conn, f *follow.Follower[T], as func(T) U) iter.Seq2[U, error] {
	return func(yield func(U, error) bool) {
		defer f.Close()
		for {
			v, _, err := f.Next(ctx)
			if err != nil {
				var none U
				yield(none, Why(c, err))
				return
			}
			if !yield(as(v), nil) {
				return
			}
		}
	}
}

// None yields one error.
func None[U any](err error) iter.Seq2[U, error] {
	return func(yield func(U, error) bool) {
		var none U
		yield(none, err)
	}
}

// Why returns what ended the Client or the Session, if that is what err comes from; nil for none.
func Why(c recipe.Conn, err error) error {
	if err != nil && c.Context().Err() != nil {
		return context.Cause(c.Context())
	}
	return err
}
