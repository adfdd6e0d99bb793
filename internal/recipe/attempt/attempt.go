// Package attempt is the loop of recipes that read, decide, and write on the condition that what they have read is still
// so.
//
// A connection may answer a write that is a repetition, under an idempotency key of its request, as it was answered the
// first time. So what a recipe answers must be in the result of its transaction; and what it would refuse because of what
// it reads now may have been done then, and led to what it reads now.
package attempt

import (
	"context"
	"errors"

	"github.com/coord-kv/coord/internal/recipe"
	"github.com/coord-kv/coord/op"
)

// limit bounds how often a write is tried again. Each time, somebody else has written in between; so many times in a row,
// something else is wrong.
const limit = 1000

// Repeating is what a Conn has whose writes may be repetitions.
type Repeating interface {
	// Repeating reports whether they may be.
	Repeating() bool
}

// Refusal is the error of a plan which says that what was read doesn't allow the write.
type Refusal struct{ Err error }

// Error is that of Err.
func (r *Refusal) Error() string { return r.Err.Error() }

// Unwrap returns Err.
func (r *Refusal) Unwrap() error { return r.Err }

// Refuse returns err as the error of a plan.
func Refuse(err error) error { return &Refusal{err} }

// Do does what plan returns, in one transaction. If that fails with no_node, node_exists or bad_version, what the plan was
// based on isn't so any more, and there is a new one. An error of the plan ends it, that of a Refusal as it is.
func Do(ctx context.Context, c recipe.Conn, plan func() ([]op.Op, error)) (res *op.Result, err error) {
	for range limit {
		ops, planErr := plan()
		no, refused := errors.AsType[*Refusal](planErr)
		switch {
		case refused && !repeats(c):
			return nil, no.Err
		case refused:
			ops = never
		case planErr != nil:
			return nil, planErr
		}
		res, err = c.Do(ctx, &op.Txn{Then: ops})
		if refused && isNever(err) {
			return nil, no.Err
		}
		if err == nil || !moved(err) {
			return res, err
		}
	}
	return nil, err
}

func repeats(c recipe.Conn) bool {
	r, ok := c.(Repeating)
	return ok && r.Repeating()
}

// never is a transaction that is always refused, so that whoever keeps earlier answers gives them instead.
var never = []op.Op{&op.Check{Path: op.Root, If: op.Cond{Absent: true}}}

func isNever(err error) bool {
	e, ok := errors.AsType[*op.Error](err)
	return ok && e.Outcome == op.Decided && e.Path == op.Root
}

// moved reports whether a transaction failed because of what others have written.
func moved(err error) bool {
	e, ok := errors.AsType[*op.Error](err)
	return ok && (e.Code == op.NoNode || e.Code == op.NodeExists || e.Code == op.BadVersion)
}
