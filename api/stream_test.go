package api

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/coord-kv/coord/op"
)

// Streams and polls in a bubble of simulated time: the connections are pipes, so that time passes when all wait.

// pipes is a listener of connections within the process.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
}

func newPipes() *pipes { return &pipes{make(chan net.Conn), make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-p.conns:
		return conn, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	close(p.done)
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

func (p *pipes) dial() net.Conn {
	client, server := net.Pipe()
	p.conns <- server
	return client
}

// bubble is a server within a bubble.
type bubble struct {
	*testing.T
	m     *member
	s     *Server
	pipes *pipes
	stop  context.CancelFunc
}

// inBubble runs a test with a server, which has ended when it returns.
func inBubble(t *testing.T, limits Limits, test func(b *bubble)) {
	synctest.Test(t, func(t *testing.T) {
		m := newMember()
		s, err := New(Config{Backend: m, Name: "n1", Limits: limits})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(context.Background())
		b := &bubble{t, m, s, newPipes(), stop}
		served := make(chan error, 1)
		go func() { served <- s.Serve(ctx, b.pipes) }()
		defer func() {
			stop()
			if err := <-served; err != nil {
				t.Error(err)
			}
		}()
		test(b)
	})
}

// write does operations as one transaction.
func (b *bubble) write(ops ...op.Op) {
	b.Helper()
	res := b.m.Do(b.Context(), &op.Request{Op: &op.Txn{Then: ops}})
	if res.Err != nil {
		b.Fatal(res.Err)
	}
}

func set(path, data string) op.Op {
	return &op.Create{Path: path, Data: []byte(data), Replace: true, Parents: true}
}

// conversation is a connection on which one request was sent.
type conversation struct {
	b    *bubble
	conn net.Conn
	resp *http.Response
	in   *bufio.Reader
}

// ask sends a request; the answer is read by answer.
func (b *bubble) ask(target string, headers ...string) *conversation {
	conn := b.pipes.dial()
	go io.WriteString(conn, onWire(strings.Join(append([]string{"GET " + target}, headers...), "\n")+"\n\n"))
	return &conversation{b: b, conn: conn, in: bufio.NewReader(conn)}
}

// head reads the head of the answer.
func (c *conversation) head() *conversation {
	c.b.Helper()
	resp, err := http.ReadResponse(c.in, nil)
	if err != nil {
		c.b.Fatal(err)
	}
	c.resp, c.in = resp, bufio.NewReader(resp.Body)
	return c
}

// body reads the whole answer and ends the conversation.
func (c *conversation) body() string {
	c.b.Helper()
	c.head()
	body, err := io.ReadAll(c.in)
	if err != nil {
		c.b.Fatal(err)
	}
	c.conn.Close()
	return fmt.Sprintf("%d %s", c.resp.StatusCode, strings.TrimSpace(string(body)))
}

// message reads the next message of an event stream, in one line; "end" at its end.
func (c *conversation) message() string {
	c.b.Helper()
	var lines []string
	for {
		line, err := c.in.ReadString('\n')
		if err == io.EOF && len(lines) == 0 {
			return "end"
		}
		if err != nil {
			c.b.Fatal(err)
		}
		if line = strings.TrimSuffix(line, "\n"); line == "" {
			return strings.Join(lines, " | ")
		}
		lines = append(lines, line)
	}
}

func (c *conversation) expect(want ...string) {
	c.b.Helper()
	for _, w := range want {
		if got := c.message(); got != w {
			c.b.Fatalf("\n got %s\nwant %s", got, w)
		}
	}
}

// events begins an event stream and reads what comes before its first message.
func (b *bubble) events(target string, headers ...string) *conversation {
	b.Helper()
	c := b.ask(target, append(headers, "Accept: text/event-stream")...).head()
	if c.resp.StatusCode != 200 || c.resp.Header.Get("Content-Type") != "text/event-stream" {
		body, _ := io.ReadAll(c.in)
		b.Fatalf("%s\n%s", c.resp.Status, body)
	}
	c.expect("retry: 1000")
	return c
}

// TestRequestTimeout: a request that can't be answered ends when its time is over.
func TestRequestTimeout(t *testing.T) {
	for path, trouble := range map[string]func(m *member){
		"/v1/nodes/a":                      func(m *member) { m.lagging = true },
		"/v1/nodes/a?consistency=eventual": func(m *member) { m.starting = true },
	} {
		inBubble(t, Limits{RequestTimeout: 7 * time.Second}, func(b *bubble) {
			b.m.tell(func() { trouble(b.m) })
			b.write(set("/a", "1"))
			start := time.Now()
			if got := b.ask(path).body(); !strings.HasPrefix(got, "504 ") || time.Since(start) != 7*time.Second {
				t.Errorf("%s, after %s: %s", path, time.Since(start), got)
			}
		})
	}
}

// TestEventStream: one message per transaction, with the zxid as its id.
func TestEventStream(t *testing.T) {
	inBubble(t, Limits{}, func(b *bubble) {
		b.write(set("/app", "0"))
		c := b.events("/v1/watch/app")
		defer c.conn.Close()
		if c.resp.Header.Get("Coord-Watch-Position") != "1" || c.resp.Header.Get("Coord-Consistency") != "linearizable" {
			t.Errorf("%v", c.resp.Header)
		}
		b.write(set("/app", "1"), set("/app/a", "2"))
		c.expect(`event: change | data: {"zxid":"2","events":[` +
			`{"zxid":"2","type":"changed","path":"/app","kind":"persistent","version":1,"data":"1"},` +
			`{"zxid":"2","type":"created","path":"/app/a","kind":"persistent","version":0,"data":"2"}]} | id: 2`)
		b.write(set("/elsewhere", ""))
		b.write(&op.Delete{Path: "/app", If: op.Always, Recursive: true})
		c.expect(`event: change | data: {"zxid":"4","events":[` +
			`{"zxid":"4","type":"deleted","path":"/app/a","kind":"persistent","version":0},` +
			`{"zxid":"4","type":"deleted","path":"/app","kind":"persistent","version":1}]} | id: 4`)
	})
}

// TestResume: Last-Event-ID goes before what the URL says, and nothing is lost or told twice.
func TestResume(t *testing.T) {
	inBubble(t, Limits{}, func(b *bubble) {
		for i := range 5 {
			b.write(set("/n", fmt.Sprint(i)))
		}
		c := b.events("/v1/watch/n?initial", "Last-Event-ID: 3")
		c.expect(
			`event: change | data: {"zxid":"4","events":[{"zxid":"4","type":"changed","path":"/n","kind":"persistent","version":3}]} | id: 4`,
			`event: change | data: {"zxid":"5","events":[{"zxid":"5","type":"changed","path":"/n","kind":"persistent","version":4,"data":"4"}]} | id: 5`)
		c.conn.Close()
		c = b.events("/v1/watch/n?since=4")
		c.expect(`event: change | data: {"zxid":"5","events":[{"zxid":"5","type":"changed","path":"/n","kind":"persistent","version":4,"data":"4"}]} | id: 5`)
		c.conn.Close()
	})
}

// TestBookmarks: in silence the position is told every five seconds, so that it never grows old.
func TestBookmarks(t *testing.T) {
	inBubble(t, Limits{}, func(b *bubble) {
		c := b.events("/v1/watch/quiet")
		defer c.conn.Close()
		start := time.Now()
		c.expect(`event: bookmark | data: {"zxid":"0"} | id: 0`)
		b.write(set("/elsewhere", ""))
		c.expect(`event: bookmark | data: {"zxid":"1"} | id: 1`)
		if d := time.Since(start); d != 10*time.Second {
			t.Errorf("two bookmarks took %s", d)
		}
		time.Sleep(4 * time.Second)
		b.write(set("/quiet", ""))
		c.expect(`event: change | data: {"zxid":"2","events":[{"zxid":"2","type":"created","path":"/quiet","kind":"persistent","version":0,"data":""}]} | id: 2`)
		c.expect(`event: bookmark | data: {"zxid":"2"} | id: 2`)
		if d := time.Since(start); d != 19*time.Second {
			t.Errorf("an event is no silence, and yet the third came after %s", d)
		}
	})
}

// TestInitialState: the state first, in pages of which only the last has an id, then what changes it.
func TestInitialState(t *testing.T) {
	inBubble(t, Limits{}, func(b *bubble) {
		var ops []op.Op
		for i := range initialPage + 1 {
			ops = append(ops, set(fmt.Sprintf("/big/%04d", i), ""))
		}
		b.write(ops...)
		b.write(set("/small", "x"))
		c := b.events("/v1/watch/big?initial")
		first, second := c.message(), c.message()
		if n := strings.Count(first, `"path"`); n != initialPage || !strings.HasSuffix(first, `"more":true}`) {
			t.Errorf("the first page has %d nodes and ends %s", n, first[len(first)-20:])
		}
		if n := strings.Count(second, `"path"`); n != 2 || !strings.HasSuffix(second, `"more":false} | id: 2`) {
			t.Errorf("the second page is %s", second)
		}
		b.write(set("/big/0000", "y"))
		c.expect(`event: change | data: {"zxid":"3","events":[{"zxid":"3","type":"changed","path":"/big/0000","kind":"persistent","version":1,"data":"y"}]} | id: 3`)
		c.conn.Close()
		if got := b.ask("/v1/watch/big?initial").body(); !strings.Contains(got, "too_large") {
			t.Errorf("a poll got %.200s", got)
		}
		c = b.events("/v1/watch/nothing?initial&children")
		c.expect(`event: initial | data: {"zxid":"3","nodes":[],"more":false} | id: 3`)
		c.conn.Close()
	})
}

// TestLostPosition: a client that connects again is told in the stream to begin anew, and forgets its position; one that
// asks for the first time gets the problem.
func TestLostPosition(t *testing.T) {
	inBubble(t, Limits{}, func(b *bubble) {
		for i := range 1000 {
			b.write(set("/n", fmt.Sprint(i)))
		}
		c := b.events("/v1/watch/n?initial", "Last-Event-ID: 1")
		got := c.message()
		if !strings.HasPrefix(got, `event: reset | id | data: {"type":"urn:coord:error:history_gone"`) || !strings.Contains(got, `"oldest":"`) {
			t.Errorf("%s", got)
		}
		c.expect("end")
		c.conn.Close()
		for _, accept := range []string{"text/event-stream", "application/json"} {
			if got := b.ask("/v1/watch/n?since=1", "Accept: "+accept).body(); !strings.HasPrefix(got, `410 {"type":"urn:coord:error:history_gone"`) {
				t.Errorf("%s", got)
			}
		}
		if got := testutil.ToFloat64(b.s.metrics.resumes.WithLabelValues("history_gone")); got != 3 {
			t.Errorf("%v resumes with history gone are counted", got)
		}
	})
}

// TestSlowReader: somebody who doesn't read is told so when he does, if history has gone on; and is cut off if he never
// does. The writer doesn't wait for him in either case.
func TestSlowReader(t *testing.T) {
	inBubble(t, Limits{}, func(b *bubble) {
		c := b.events("/v1/watch/n")
		for i := range 1000 {
			b.write(set("/n", fmt.Sprint(i))) // a pipe has no room at all: the server is stuck in its first message
		}
		for {
			got := c.message()
			if strings.HasPrefix(got, "event: reset") {
				break
			}
			if !strings.HasPrefix(got, "event: change") {
				t.Fatalf("%s", got)
			}
		}
		c.expect("end")
		c.conn.Close()

		c = b.events("/v1/watch/n")
		b.write(set("/n", "last"))
		time.Sleep(31 * time.Second)
		synctest.Wait()
		if got := testutil.ToFloat64(b.s.metrics.slowConsumers); got != 2 {
			t.Errorf("%v slow consumers are counted", got)
		}
		if open := b.s.watches.Load(); open != 0 {
			t.Errorf("%d watches are open", open)
		}
		c.conn.Close()
	})
}

// TestDrainedWatches: polls and streams end at once, with the position to go on from at another member.
func TestDrainedWatches(t *testing.T) {
	inBubble(t, Limits{}, func(b *bubble) {
		c := b.events("/v1/watch/n")
		poll := b.ask("/v1/watch/n?wait=10m")
		synctest.Wait()
		b.write(set("/elsewhere", ""))
		start := time.Now()
		b.s.StartDraining()
		c.expect(`event: bookmark | data: {"zxid":"1"} | id: 1`, "end")
		if got := poll.body(); got != `200 {"events":[],"next":"1"}` {
			t.Errorf("%s", got)
		}
		if d := time.Since(start); d != 0 {
			t.Errorf("that took %s", d)
		}
		c.conn.Close()
	})
}

// TestStopWithWatches: Serve ends although clients watch.
func TestStopWithWatches(t *testing.T) {
	inBubble(t, Limits{}, func(b *bubble) {
		c := b.events("/v1/watch/n")
		b.stop()
		c.expect(`event: bookmark | data: {"zxid":"0"} | id: 0`, "end")
		c.conn.Close()
	})
}

// TestLongPoll: it waits as long as it was told, or until something happens.
func TestLongPoll(t *testing.T) {
	inBubble(t, Limits{}, func(b *bubble) {
		start := time.Now()
		poll := func(want time.Duration, target string, headers ...string) string {
			t.Helper()
			got := b.ask(target, headers...).body()
			if d := time.Since(start); d != want {
				t.Errorf("%s took %s, not %s", target, d, want)
			}
			start = time.Now()
			return got
		}
		poll(30*time.Second, "/v1/watch/n")
		poll(2*time.Minute, "/v1/watch/n?wait=2m")
		poll(7*time.Second, "/v1/watch/n", "Prefer: wait=7")
		poll(10*time.Minute, "/v1/watch/n", "Prefer: wait=99999")
		poll(0, "/v1/watch/n?wait=0s")
		time.AfterFunc(3*time.Second, func() { b.write(set("/elsewhere", "")) })
		time.AfterFunc(5*time.Second, func() { b.write(set("/n", "x")) })
		got := poll(5*time.Second, "/v1/watch/n?since=0&wait=1m")
		if want := `200 {"events":[{"zxid":"2","type":"created","path":"/n","kind":"persistent","version":0,"data":"x"}],"next":"2"}`; got != want {
			t.Errorf("%s", got)
		}
		if n := testutil.CollectAndCount(b.s.metrics.durations); n == 0 {
			t.Error("no durations")
		}
	})
}

// TestPacing: who polls more than 20 times a second gets several changes in one answer; who doesn't waits for nothing.
func TestPacing(t *testing.T) {
	inBubble(t, Limits{}, func(b *bubble) {
		done := make(chan struct{})
		go func() {
			defer close(done)
			for i := range 1000 {
				b.write(set("/n", fmt.Sprint(i)))
				time.Sleep(time.Millisecond)
			}
		}()
		polls, events, next := 0, 0, "0"
		for start := time.Now(); time.Since(start) < time.Second; polls++ {
			got := b.ask("/v1/watch/n?wait=100ms&since=" + next).body()
			events += strings.Count(got, `"type"`)
			_, after, _ := strings.Cut(got, `"next":"`)
			next, _, _ = strings.Cut(after, `"`)
		}
		<-done
		if polls > 25 || events < 900 {
			t.Errorf("%d polls got %d events", polls, events)
		}
	})
}

// TestAbandonedWatches: when clients go, nothing of theirs stays.
func TestAbandonedWatches(t *testing.T) {
	inBubble(t, Limits{Conns: 1000, ConnsPerIP: 1000, Watches: 300}, func(b *bubble) {
		var open []*conversation
		for range 150 {
			open = append(open, b.ask("/v1/watch/n?wait=10m"), b.ask("/v1/watch/n", "Accept: text/event-stream"))
		}
		synctest.Wait()
		if got := b.ask("/v1/watch/n").body(); !strings.HasPrefix(got, "503") || !strings.Contains(got, "overloaded") {
			t.Errorf("one too many: %s", got)
		}
		if got := testutil.ToFloat64(b.s.metrics.watches.WithLabelValues("subtree")); got != 300 {
			t.Errorf("%v watches are counted", got)
		}
		for _, c := range open {
			c.conn.Close()
		}
		synctest.Wait()
		if n := b.s.watches.Load(); n != 0 {
			t.Errorf("%d watches are still open", n)
		}
		if got := testutil.ToFloat64(b.s.metrics.watches.WithLabelValues("subtree")); got != 0 {
			t.Errorf("%v watches are still counted", got)
		}
	})
}
