package recipe

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/coord-kv/coord/op"
)

// AcquireAll takes several locks, or none. They are taken in the order of their directories, whatever the order of the
// specs, so that those who take the same ones this way never wait for each other in a circle. The grants are in the
// order of the specs. The error names the lock that it is about.
func AcquireAll(ctx context.Context, c Conn, specs ...Spec) ([]*Grant, error) {
	return all(c, specs, func(l *Lock) (*Grant, error) { return l.Acquire(ctx) })
}

// TryAll takes several locks if all are free.
func TryAll(ctx context.Context, c Conn, specs ...Spec) ([]*Grant, error) {
	return all(c, specs, func(l *Lock) (*Grant, error) { return l.Try(ctx) })
}

func all(c Conn, specs []Spec, take func(*Lock) (*Grant, error)) ([]*Grant, error) {
	locks, order, err := sorted(c, specs)
	if err != nil {
		return nil, err
	}
	grants := make([]*Grant, len(specs))
	for n, i := range order {
		if grants[i], err = take(locks[i]); err == nil {
			continue
		}
		for _, j := range slices.Backward(order[:n]) {
			err = errors.Join(err, grants[j].Release(c.Context()))
		}
		return nil, fmt.Errorf("couldn't take %s, and gave back the others: %w", locks[i].dir, err)
	}
	return grants, nil
}

// sorted returns the locks and the order in which to take them.
func sorted(c Conn, specs []Spec) (locks []*Lock, order []int, err error) {
	for i, s := range specs {
		l, err := NewLock(c, s)
		if err != nil {
			return nil, nil, err
		}
		locks, order = append(locks, l), append(order, i)
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(locks[a].dir, locks[b].dir) })
	for n := 1; n < len(order); n++ {
		if dir := locks[order[n]].dir; dir == locks[order[n-1]].dir {
			return nil, nil, op.Errorf(op.BadRequest, "%s is wanted twice; it could never be had", dir)
		}
	}
	return locks, order, nil
}
