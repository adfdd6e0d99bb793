package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestKillLosesNothing kills members at random moments, one at a time, while clients write and a watch follows, and
// then looks for every write that was acknowledged: each must be there on every member, with the zxid that its client was
// told, and must have been seen by the watch, once and in order.
func TestKillLosesNothing(t *testing.T) {
	for _, n := range []int{1, 3} {
		t.Run(fmt.Sprintf("%d members", n), func(t *testing.T) {
			t.Parallel()
			c := startCluster(t, n)
			rounds := 8
			w := newWorkload(c)
			w.run(rounds)
			w.check()
		})
	}
}

type workload struct {
	c      *cluster
	ctx    context.Context
	cancel context.CancelFunc
	rng    *rand.Rand

	mu    sync.Mutex
	acked map[string]string // path -> zxid
	seen  []seenEvent
	end   string // zxid of the last write
	wg    sync.WaitGroup
}

type seenEvent struct{ Zxid, Type, Path string }

func newWorkload(c *cluster) *workload {
	seed := rand.Uint64()
	c.t.Logf("seed %d", seed)
	ctx, cancel := context.WithCancel(c.t.Context())
	w := &workload{c: c, ctx: ctx, cancel: cancel, rng: rand.New(rand.NewPCG(seed, 1)), acked: map[string]string{}}
	c.members[0].must(c.t, "PUT", "/v1/nodes/w", "", nil)
	return w
}

func (w *workload) run(rounds int) {
	for i := range 4 {
		w.wg.Go(func() { w.write(i) })
	}
	w.wg.Go(w.watch)
	for range rounds {
		w.progress()
		w.pause(time.Duration(50+w.rng.IntN(250)) * time.Millisecond)
		p := w.c.members[w.rng.IntN(len(w.c.members))]
		if w.rng.IntN(2) == 0 {
			p = w.c.leader()
		}
		p.kill()
		w.pause(time.Duration(w.rng.IntN(150)) * time.Millisecond)
		w.c.start(p)
		w.c.waitReady(p)
	}
	w.cancel()
	w.wg.Wait()
}

// progress waits until some writes more are acknowledged.
func (w *workload) progress() {
	const enough = 10
	acked := func() int {
		w.mu.Lock()
		defer w.mu.Unlock()
		return len(w.acked)
	}
	for before, end := acked(), time.Now().Add(slowest); acked() < before+enough && time.Now().Before(end); {
		w.pause(time.Millisecond)
	}
}

// pause lets the other processes work; nothing is concluded from how long it took.
func (w *workload) pause(d time.Duration) { <-time.After(d) }

// write creates one node after another at whichever member answers.
func (w *workload) write(client int) {
	for i := 0; w.ctx.Err() == nil; i++ {
		path := fmt.Sprintf("/w/c%d-%d", client, i)
		p := w.c.members[(client+i)%len(w.c.members)]
		ctx, cancel := context.WithTimeout(w.ctx, 3*time.Second)
		code, _, header := p.do(ctx, "PUT", "/v1/nodes"+path, "x", map[string]string{"If-None-Match": "*"})
		cancel()
		if code == 201 {
			w.mu.Lock()
			w.acked[path] = header.Get("Coord-Zxid")
			w.mu.Unlock()
		}
	}
}

// watch follows /w by server-sent events, and goes on at another member from where it was whenever the stream ends.
func (w *workload) watch() {
	last := "0"
	for i := 0; w.ctx.Err() == nil; i++ {
		last = w.follow(w.ctx, w.c.members[i%len(w.c.members)], last, "")
	}
	// A last write marks how far everybody's view is compared: requests that were cut off may still take effect after it.
	p := w.c.members[0]
	_, header, err := p.insist(w.c.t.Context(), "PUT", "/v1/nodes/w/end", "", map[string]string{"Idempotency-Key": "end"})
	if err != nil {
		w.c.t.Errorf("couldn't write the last node: %v", err)
		return
	}
	w.end = header.Get("Coord-Zxid")
	ctx, cancel := context.WithTimeout(w.c.t.Context(), slowest)
	defer cancel()
	for last != w.end && ctx.Err() == nil {
		last = w.follow(ctx, p, last, w.end)
	}
}

// follow reads one stream until it ends or reaches the position until, and returns the last position it told.
func (w *workload) follow(ctx context.Context, p *process, last, until string) string {
	req, _ := http.NewRequestWithContext(ctx, "GET", "http://"+p.http+"/v1/watch/w", nil)
	req.Header.Set("Accept", "text/event-stream")
	req.Header.Set("Last-Event-ID", last)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return last
	}
	defer resp.Body.Close()
	if resp.StatusCode != 200 {
		return last
	}
	var data string
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		line := lines.Text()
		switch {
		case strings.HasPrefix(line, "data: "):
			data = line[len("data: "):]
		case strings.HasPrefix(line, "id: "):
			var tx struct{ Events []seenEvent }
			if json.Unmarshal([]byte(data), &tx) == nil {
				w.seen = append(w.seen, tx.Events...)
			}
			last = line[len("id: "):]
			if last == until {
				return last
			}
		}
	}
	return last
}

func (w *workload) check() {
	t := w.c.t
	if len(w.acked) < 50 {
		t.Fatalf("only %d writes were acknowledged: the test shows nothing", len(w.acked))
	}
	w.restartAll()
	for _, p := range w.c.members {
		w.c.waitReady(p)
		present := w.children(p)
		for path, zxid := range w.acked {
			if present[path] != zxid {
				t.Errorf("%s acknowledged at zxid %s, %s has it at %q", path, zxid, p.name, present[path])
			}
		}
		if p == w.c.members[0] {
			w.checkSeen(present)
		}
	}
	t.Logf("%d acknowledged writes, %d events", len(w.acked), len(w.seen))
}

// restartAll kills all members at once and starts them again: what they hold then is what their disks hold.
func (w *workload) restartAll() {
	for _, p := range w.c.members {
		p.cmd.Process.Kill()
	}
	for _, p := range w.c.members {
		p.cmd.Wait()
		w.c.start(p)
	}
}

// children returns the czxid of every node below /w.
func (w *workload) children(p *process) map[string]string {
	present := map[string]string{}
	after := ""
	for {
		text, _ := p.must(w.c.t, "GET", "/v1/nodes/w?children&stat&limit=1000&after="+after, "", nil)
		var page struct {
			Children []struct {
				Name string
				Stat struct{ Czxid string }
			}
		}
		if err := json.Unmarshal([]byte(text), &page); err != nil {
			w.c.t.Fatalf("%v: %s", err, text)
		}
		for _, n := range page.Children {
			present["/w/"+n.Name] = n.Stat.Czxid
			after = n.Name
		}
		if len(page.Children) < 1000 {
			return present
		}
	}
}

// checkSeen compares the events with what exists: nothing was deleted, so each node was created once.
func (w *workload) checkSeen(present map[string]string) {
	var want []seenEvent
	for path, zxid := range present {
		if compareZxid(zxid, w.end) <= 0 {
			want = append(want, seenEvent{zxid, "created", path})
		}
	}
	slices.SortFunc(want, func(a, b seenEvent) int { return compareZxid(a.Zxid, b.Zxid) })
	got := slices.DeleteFunc(slices.Clone(w.seen), func(e seenEvent) bool { return e.Path == "/w" })
	if !slices.Equal(got, want) {
		w.c.t.Errorf("the watch saw %d events, %d nodes were created%s", len(got), len(want), firstDifference(got, want))
	}
}

// compareZxid compares decimal numbers.
func compareZxid(a, b string) int {
	if d := len(a) - len(b); d != 0 {
		return d
	}
	return strings.Compare(a, b)
}

func firstDifference(got, want []seenEvent) string {
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			return fmt.Sprintf("; first difference: saw %v, want %v", got[i], want[i])
		}
	}
	return ""
}
