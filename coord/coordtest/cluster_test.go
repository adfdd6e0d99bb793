package coordtest_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
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

// The same on virtual time: a minute passes, a session lives through it, and expires 4 s after it is held up.
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
			time.Sleep(time.Minute)
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

// What the cluster does to members shows in what its clients can do: here it goes on without the member that leads.
func TestFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cluster := coordtest.Start(t, 3, coordtest.InMemory())
		c := cluster.Client(t)
		write := func(within time.Duration) error {
			ctx, cancel := context.WithTimeout(t.Context(), within)
			defer cancel()
			_, err := c.Create(ctx, "/x", nil, coord.OrSet(), coord.IdempotencyKey(rand.Text()))
			return err
		}
		for _, fault := range []struct {
			name       string
			begin, end func(i int)
		}{
			{"kill", cluster.Kill, cluster.Restart},
			{"pause", cluster.Pause, cluster.Resume},
			{"partition", cluster.Partition, func(int) { cluster.Heal() }},
		} {
			leader := cluster.Leader()
			fault.begin(leader)
			if err := write(time.Minute); err != nil {
				t.Errorf("%s of the leader: %v", fault.name, err)
			}
			other := (leader + 1) % 3
			fault.begin(other)
			if err := write(time.Minute); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s of a majority: %v", fault.name, err)
			}
			fault.end(leader)
			fault.end(other)
			if err := write(time.Minute); err != nil {
				t.Errorf("after %s: %v", fault.name, err)
			}
		}
	})
}

// A killed member has what it had written when it starts again, alone or with the others.
func TestRestart(t *testing.T) {
	for _, members := range []int{1, 3} {
		synctest.Test(t, func(t *testing.T) {
			cluster := coordtest.Start(t, members, coordtest.InMemory())
			c := cluster.Client(t)
			for i := range 5 {
				if _, err := c.Create(t.Context(), fmt.Sprintf("/%d", i), nil); err != nil {
					t.Fatal(err)
				}
				for i := range members {
					cluster.Kill(i)
				}
				for i := range members {
					cluster.Restart(i)
				}
			}
			for i := range 5 {
				if _, err := c.Get(t.Context(), fmt.Sprintf("/%d", i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// Members on loopback answer plain HTTP.
func TestEndpoints(t *testing.T) {
	cluster := coordtest.Start(t, 1)
	resp, err := http.Get(cluster.Endpoints()[0] + "/readyz")
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatal(resp, err)
	}
	resp.Body.Close()
	http.DefaultClient.CloseIdleConnections()
}
