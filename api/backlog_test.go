package api

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestBacklog: of long work no more is done at a time than there is room for, all of it is done, and short work doesn't
// wait for it.
func TestBacklog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := make(backlog, 2)
		var mu sync.Mutex
		working, most, done := 0, 0, 0
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				b.do(many, func() {
					mu.Lock()
					working++
					most = max(most, working)
					mu.Unlock()
					time.Sleep(time.Second) // simulated
					mu.Lock()
					working--
					done++
					mu.Unlock()
				})
			})
		}
		synctest.Wait()
		short := false
		b.do(many-1, func() { short = true })
		mu.Lock()
		if !short || done != 0 {
			t.Errorf("%d long ones were done before the short one", done)
		}
		mu.Unlock()
		wg.Wait()
		if done != 20 || most != 2 {
			t.Errorf("%d were done, up to %d at a time", done, most)
		}
	})
}

// TestManyCatchUp: watches that have much to catch up with at the same time are all told everything, and so is who begins
// with the state as it is.
func TestManyCatchUp(t *testing.T) {
	inBubble(t, Limits{}, func(b *bubble) {
		const nodes = many + many/2 // as much as the history of a test keeps
		for i := range nodes {
			b.write(set(fmt.Sprintf("/app/n%d", i), "x"))
		}
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				c := b.events("/v1/watch/app?since=0")
				defer c.conn.Close()
				for z := 1; z <= nodes; z++ {
					if got := c.message(); !strings.HasSuffix(got, fmt.Sprintf(" | id: %d", z)) {
						t.Errorf("event %d: %s", z, got)
						return
					}
				}
			})
		}
		wg.Wait()
		if got := strings.Count(b.ask("/v1/watch/app?since=0").body(), `"type":"created"`); got != nodes+1 {
			t.Errorf("a poll was told of %d", got)
		}
		c := b.events("/v1/watch/app?initial")
		defer c.conn.Close()
		if got := strings.Count(c.message(), `"path":"/app/n`); got != nodes {
			t.Errorf("the state has %d", got)
		}
	})
}
