// Package bubble runs tests of recipes against a cluster on virtual time.
package bubble

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/coord-kv/coord/coord"
	"github.com/coord-kv/coord/coord/coordtest"
)

// World is a cluster on virtual time, in a bubble that holds that every goroutine of a test has ended with it.
type World struct {
	*testing.T
	Cluster *coordtest.Cluster
	Client  *coord.Client
}

// Run runs a test in a bubble.
func Run(t *testing.T, members int, test func(w *World)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := coordtest.Start(t, members, coordtest.InMemory())
		test(&World{t, c, c.Client(t)})
	})
}

// TTL is the timeout of sessions.
const TTL = 10 * time.Second

// Session opens a session.
func (w *World) Session() *coord.Session {
	w.Helper()
	s, err := w.Client.Session(w.Context(), coord.TTL(TTL))
	if err != nil {
		w.Fatal(err)
	}
	return s
}

// Must returns v, and panics if there is an error.
func Must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// Seeds returns how many random runs a test makes: n, or one with -short, as under the race detector, where they take long.
func Seeds(n uint64) uint64 {
	if testing.Short() {
		return 1
	}
	return n
}
