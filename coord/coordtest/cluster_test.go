package coordtest_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coord-kv/coord/coord"
	"github.com/coord-kv/coord/coord/coordtest"
)

func TestStart(t *testing.T) {
	for _, members := range []int{1, 3} {
		c := coordtest.Start(t, members).Client(t)
		if _, err := c.Create(t.Context(), "/a/b", []byte("x"), coord.Parents()); err != nil {
			t.Fatal(err)
		}
		n, err := c.Get(t.Context(), "/a/b")
		if err != nil || string(n.Data) != "x" {
			t.Fatal(n, err)
		}
	}
}

// The same on virtual time: an hour passes, a session lives through it, and expires 4 s after it is held up.
func TestVirtualTime(t *testing.T) {
	for _, members := range []int{1, 3} {
		synctest.Test(t, func(t *testing.T) {
			cluster := coordtest.Start(t, members, coordtest.InMemory())
			c := cluster.Client(t)
			ses, err := c.Session(t.Context(), coord.TTL(4*time.Second))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := ses.Create(t.Context(), "/alive", nil, coord.Ephemeral()); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Minute)
			if _, err := c.Get(t.Context(), "/alive"); err != nil {
				t.Fatal(err)
			}
			cluster.PauseSession(ses.ID())
			start := time.Now()
			<-ses.Context().Done()
			if took := time.Since(start); took > 4*time.Second {
				t.Errorf("it was given up after %s", took)
			}
			for {
				if _, err := c.Get(t.Context(), "/alive"); errors.Is(err, coord.ErrNoNode) {
					break
				}
				time.Sleep(50 * time.Millisecond)
			}
			t.Logf("%d members: the node went after %s", members, time.Since(start))
		})
	}
}
