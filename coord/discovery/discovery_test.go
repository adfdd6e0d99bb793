package discovery_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coord-kv/coord/coord"
	"github.com/coord-kv/coord/coord/coordtest"
	"github.com/coord-kv/coord/coord/discovery"
)

// inBubble runs a test on virtual time. Whatever still runs at its end fails it.
func inBubble(t *testing.T, members int, f func(*testing.T, *coordtest.Cluster)) {
	synctest.Test(t, func(t *testing.T) { f(t, coordtest.Start(t, members, coordtest.InMemory())) })
}

func session(t *testing.T, c *coord.Client) *coord.Session {
	t.Helper()
	s, err := c.Session(t.Context(), coord.TTL(10*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func register(
	t *testing.T, s *coord.Session, id string, opts ...discovery.RegisterOption,
) *discovery.Registration {
	t.Helper()
	x := discovery.Instance{Service: "web", ID: id, Address: "10.0.0.1", Port: 8080, Tags: []string{"v1", id}}
	r, err := discovery.Register(t.Context(), s, x, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// list writes instances as "id status".
func list(all []discovery.Instance) string {
	var s []string
	for _, x := range all {
		s = append(s, x.ID+" "+string(x.Status))
	}
	return strings.Join(s, ", ")
}

func resolve(t *testing.T, c discovery.Source, opts ...discovery.Option) string {
	t.Helper()
	all, err := discovery.Resolve(t.Context(), c, "web", opts...)
	if err != nil {
		t.Fatal(err)
	}
	return list(all)
}

// await follows the service until it is as wanted.
func await(t *testing.T, c discovery.Source, want string, opts ...discovery.Option) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	got := ""
	for all, err := range discovery.Watch(ctx, c, "web", opts...) {
		if err != nil {
			t.Fatalf("it is %q, want %q: %v", got, want, err)
		}
		if got = list(all); got == want {
			return
		}
	}
}

func TestRegister(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, cluster *coordtest.Cluster) {
		c := cluster.Client(t)
		if got := resolve(t, c); got != "" {
			t.Errorf("nobody has registered: %s", got)
		}
		s := session(t, c)
		x := discovery.Instance{
			Service: "web", Address: "::1", Port: 80, Tags: []string{"a"}, Meta: map[string]string{"zone": "eu"},
		}
		r, err := discovery.Register(t.Context(), s, x)
		if err != nil {
			t.Fatal(err)
		}
		all, err := discovery.Resolve(t.Context(), s, "web")
		if err != nil || len(all) != 1 {
			t.Fatal(all, err)
		}
		got := all[0]
		if got.HostPort() != "[::1]:80" || got.ID != "[::1]:80" || got.Meta["zone"] != "eu" || got.Session != s.ID() ||
			got.Status != discovery.Passing || got.Since.IsZero() || !got.Since.Equal(got.Registered) {
			t.Errorf("%+v", got)
		}
		register(t, s, "b")
		if got := resolve(t, c, discovery.Tag("v1")); got != "b passing" {
			t.Error(got)
		}
		if got := resolve(t, c, discovery.Tag("v1"), discovery.Tag("a")); got != "" {
			t.Error(got)
		}
		if err := r.Close(t.Context()); err != nil || context.Cause(r.Context()) != coord.ErrClosed {
			t.Error(err, context.Cause(r.Context()))
		}
		if err := r.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if got := resolve(t, c); got != "b passing" {
			t.Error(got)
		}
		if err := s.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if got := resolve(t, c); got != "" {
			t.Errorf("its session has ended: %s", got)
		}
	})
}

func TestRefused(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, cluster *coordtest.Cluster) {
		c := cluster.Client(t)
		s := session(t, c)
		good := discovery.Instance{Service: "web", Address: "h", Port: 1}
		for what, spoil := range map[string]func(*discovery.Instance){
			"the name of a service": func(x *discovery.Instance) { x.Service = "Web" },
			"the port -1":           func(x *discovery.Instance) { x.Port = -1 },
			"the port 65536":        func(x *discovery.Instance) { x.Port = 65536 },
			"the address":           func(x *discovery.Instance) { x.ID, x.Address = "i", "" },
			"is no status":          func(x *discovery.Instance) { x.Status = "fine" },
			"up to 32 can be given": func(x *discovery.Instance) { x.Tags = make([]string, 33) },
		} {
			x := good
			spoil(&x)
			if _, err := discovery.Register(t.Context(), s, x); err == nil || !strings.Contains(err.Error(), what) {
				t.Errorf("%s: %v", what, err)
			}
		}
		if _, err := discovery.Register(t.Context(), s, good, discovery.WithChecks(discovery.Check{})); err == nil {
			t.Error("a check without a probe is accepted")
		}
		if _, err := discovery.Resolve(t.Context(), c, "no_label"); err == nil {
			t.Error("a wrong name is accepted")
		}
		for _, err := range discovery.Watch(t.Context(), c, "no_label") {
			if err == nil {
				t.Error("a wrong name is accepted")
			}
		}
	})
}

// switched is a probe that finds what it was told.
type switched struct{ err atomic.Pointer[error] }

func (s *switched) set(err error) { s.err.Store(&err) }

func (s *switched) check() discovery.Check {
	return discovery.Check{Name: "switch", Interval: time.Second, FailAfter: 2, Probe: func(context.Context) error {
		return *s.err.Load()
	}}
}

func TestChecks(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, cluster *coordtest.Cluster) {
		c := cluster.Client(t)
		var p, q switched
		p.set(errors.New("not yet"))
		q.set(nil)
		var said []string
		r := register(t, session(t, c), "a", discovery.WithChecks(p.check(), q.check()),
			discovery.OnStatus(func(s discovery.Status, err error) { said = append(said, fmt.Sprint(s, " ", err)) }))
		if r.Instance().Status != discovery.Critical {
			t.Error("it counts as well before anybody has looked")
		}
		time.Sleep(10 * time.Second)
		await(t, c, "a critical")
		p.set(nil)
		await(t, c, "a passing")
		q.set(discovery.Warn(errors.New("low on coffee")))
		await(t, c, "a warning")
		await(t, c, "", discovery.PassingOnly())
		p.set(errors.New("broken"))
		await(t, c, "a critical")
		p.set(nil)
		q.set(nil)
		await(t, c, "a passing")
		if err := r.SetStatus(t.Context(), discovery.Critical); err != nil || resolve(t, c) != "a critical" {
			t.Error(err, resolve(t, c))
		}
		time.Sleep(10 * time.Second)
		await(t, c, "a critical") // checks that find it well don't overrule the program
		if err := r.SetStatus(t.Context(), discovery.Passing); err != nil || resolve(t, c) != "a passing" {
			t.Error(err, resolve(t, c))
		}
		if err := r.SetStatus(t.Context(), "fine"); err == nil {
			t.Error("a wrong status is accepted")
		}
		r.Close(t.Context())
		if err := r.SetStatus(t.Context(), discovery.Passing); err != coord.ErrClosed {
			t.Error(err)
		}
		want := []string{
			"critical switch: not yet", "passing <nil>", "warning switch: low on coffee", "critical switch: broken",
		}
		if !slices.Equal(said[:4], want) {
			t.Errorf("%q", said)
		}
	})
}

// fickle says something else each time.
type fickle struct{ times atomic.Int64 }

func (f *fickle) Error() string { return fmt.Sprint("for the ", f.times.Add(1), ". time") }

// Who looks an instance up learns why it isn't well: what the check that made it so had failed with, or keeps failing with
// since. What fails in other words each time is not written each time.
func TestReasons(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, cluster *coordtest.Cluster) {
		c := cluster.Client(t)
		var p, q switched
		p.set(errors.New("not yet"))
		q.set(nil)
		register(t, session(t, c), "a", discovery.WithChecks(p.check(), q.check()))
		reason := func() string {
			time.Sleep(5 * time.Second)
			synctest.Wait()
			all, err := discovery.Resolve(t.Context(), c, "web")
			if err != nil || len(all) != 1 {
				t.Fatal(all, err)
			}
			return string(all[0].Status) + " " + all[0].Reason
		}
		expect := func(want string) {
			t.Helper()
			if got := reason(); got != want {
				t.Errorf("%q, want %q", got, want)
			}
		}
		expect("critical switch: not yet")
		before, err := c.Get(t.Context(), "/services/web/a")
		if err != nil {
			t.Fatal(err)
		}
		p.set(new(fickle))
		expect("critical switch: not yet")
		if after, err := c.Get(t.Context(), "/services/web/a"); err != nil || after.Stat.Version != before.Stat.Version {
			t.Errorf("the same status was written again: %+v, %v", after, err)
		}
		p.set(errors.New("no database"))
		expect("critical switch: no database")
		time.Sleep(time.Minute)
		if after, err := c.Get(t.Context(), "/services/web/a"); err != nil || after.Stat.Version != before.Stat.Version+1 {
			t.Errorf("another reason was written %d times, %v", after.Stat.Version-before.Stat.Version, err)
		}
		q.set(fmt.Errorf("two\nlines\x00%s", strings.Repeat("é", 1000)))
		p.set(nil)
		if got := reason(); !strings.HasPrefix(got, "critical switch: two lines é") || len(got) > len("critical ")+256 ||
			!strings.HasSuffix(got, "é…") {
			t.Errorf("of the other check: %q", got)
		}
		q.set(discovery.Warn(errors.New("low on coffee")))
		expect("warning switch: low on coffee")
		q.set(nil)
		expect("passing ")
	})
}

// A program that has just started is in use soon after it is ready, whatever the interval; one that was well and fails is
// looked at in its interval.
func TestStarting(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, cluster *coordtest.Cluster) {
		start := time.Now()
		var runs []time.Duration
		probe := func(context.Context) error {
			at := time.Since(start).Round(time.Millisecond)
			if runs = append(runs, at); at < time.Second || at > 20*time.Second {
				return errors.New("connection refused")
			}
			return nil
		}
		register(t, session(t, cluster.Client(t)), "a", discovery.WithChecks(discovery.Check{Probe: probe, Interval: 10 * time.Second}))
		time.Sleep(time.Minute)
		synctest.Wait()
		for i, apart := range []time.Duration{200, 400, 800, 10_000, 10_000, 10_000, 10_000} {
			if got := runs[i+1] - runs[i]; got != apart*time.Millisecond {
				t.Errorf("between runs %d and %d there are %s, want %d ms", i, i+1, got, apart)
			}
		}
	})
}

// A registration ends when its instance does, and says why.
func TestGone(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, cluster *coordtest.Cluster) {
		c := cluster.Client(t)
		s, other := session(t, c), session(t, c)
		r := register(t, s, "a")
		if err := c.Delete(t.Context(), "/services/web/a"); err != nil {
			t.Fatal(err)
		}
		<-r.Context().Done()
		if err := context.Cause(r.Context()); err != discovery.ErrGone {
			t.Error(err)
		}

		r = register(t, s, "b")
		x := r.Instance()
		if _, err := discovery.Register(t.Context(), other, x); !errors.Is(err, coord.ErrNodeExists) {
			t.Errorf("an id twice: %v", err)
		}
		if _, err := discovery.Register(t.Context(), other, x, discovery.Replace()); err != nil {
			t.Fatal(err)
		}
		<-r.Context().Done()
		if err := context.Cause(r.Context()); err != discovery.ErrGone {
			t.Error(err)
		}
		if err := r.Close(t.Context()); err != nil || resolve(t, c) != "b passing" {
			t.Errorf("what has replaced it is not its own to close: %v, %s", err, resolve(t, c))
		}

		r = register(t, s, "c")
		cluster.ExpireSession(s.ID())
		<-r.Context().Done()
		if err := context.Cause(r.Context()); !errors.Is(err, coord.ErrSessionExpired) {
			t.Error(err)
		}
		await(t, c, "b passing")
	})
}

// A check's result that can't be written while the cluster is away is written later.
func TestWrittenLater(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, cluster *coordtest.Cluster) {
		c := cluster.Client(t)
		s, err := c.Session(t.Context(), coord.TTL(time.Minute))
		if err != nil {
			t.Fatal(err)
		}
		var p switched
		p.set(nil)
		register(t, s, "a", discovery.WithChecks(p.check()))
		await(t, c, "a passing")
		cluster.Kill(0)
		cluster.Kill(1)
		p.set(errors.New("broken"))
		time.Sleep(10 * time.Second)
		cluster.Restart(0)
		await(t, c, "a critical")
		cluster.Restart(1)
	})
}

// Balancer and Watch go on with what they know while no member is there, and see what they have missed afterwards.
func TestOutlives(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, cluster *coordtest.Cluster) {
		c := cluster.Client(t)
		s := session(t, c)
		register(t, s, "a")
		b := discovery.NewBalancer(c, "web")
		defer b.Close()
		if x, err := b.Pick(t.Context()); err != nil || x.ID != "a" {
			t.Fatal(x, err)
		}
		cluster.Kill(0)
		time.Sleep(5 * time.Second)
		if x, err := b.Pick(t.Context()); err != nil || x.ID != "a" {
			t.Error(x, err)
		}
		cluster.Restart(0)
		register(t, s, "b")
		for seen := ""; seen != "b"; time.Sleep(time.Millisecond) {
			x, err := b.Pick(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			seen = x.ID
		}
	})
}

// Eventual answers without a majority.
func TestEventual(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, cluster *coordtest.Cluster) {
		c := cluster.Client(t)
		s, err := c.Session(t.Context(), coord.TTL(time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		register(t, s, "a")
		for i := range 3 { // everybody knows
			one := cluster.Client(t, func() coord.Option { return coord.WithEndpoints(cluster.Endpoints()[i]) }())
			await(t, one, "a passing")
		}
		leader := cluster.Leader()
		cluster.Kill(leader)
		cluster.Kill((leader + 1) % 3)
		if got := resolve(t, c, discovery.Eventual()); got != "a passing" {
			t.Error(got)
		}
		await(t, c, "a passing", discovery.Eventual())
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if all, err := discovery.Resolve(ctx, c, "web"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("without a majority: %v %v", all, err)
		}
	})
}

func TestBalancer(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, cluster *coordtest.Cluster) {
		c := cluster.Client(t)
		s := session(t, c)
		b := discovery.NewBalancer(c, "web")
		defer b.Close()
		if _, err := b.Pick(t.Context()); !errors.Is(err, discovery.ErrNoInstance) {
			t.Error(err)
		}
		picks := func(n int) string {
			synctest.Wait()
			count := map[string]int{}
			for range n {
				x, err := b.Pick(t.Context())
				if err != nil {
					return err.Error()
				}
				count[x.ID]++
			}
			return fmt.Sprint(count)
		}
		for _, id := range []string{"a", "b", "c"} {
			x := discovery.Instance{Service: "web", ID: id, Address: id, Port: 80}
			if _, err := discovery.Register(t.Context(), s, x); err != nil {
				t.Fatal(err)
			}
		}
		await(t, c, "a passing, b passing, c passing")
		if got := picks(9); got != "map[a:3 b:3 c:3]" {
			t.Error(got)
		}
		b.Failed(discovery.Instance{Address: "b", Port: 80})
		if got := picks(8); got != "map[a:4 c:4]" && got != "map[a:5 c:3]" && got != "map[a:3 c:5]" {
			t.Error(got)
		}
		time.Sleep(5 * time.Second)
		if got := picks(9); got != "map[a:3 b:3 c:3]" {
			t.Errorf("after 5 s: %s", got)
		}
		for _, id := range []string{"a", "b", "c"} {
			b.Failed(discovery.Instance{Address: id, Port: 80})
		}
		if got := picks(9); got != "map[a:3 b:3 c:3]" {
			t.Errorf("when all have failed: %s", got)
		}
	})
}

// With a Warning alone, that is better than nothing.
func TestBalancerWarning(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, cluster *coordtest.Cluster) {
		c := cluster.Client(t)
		s := session(t, c)
		x := discovery.Instance{Service: "web", ID: "a", Address: "a", Port: 80, Status: discovery.Warning}
		discovery.Register(t.Context(), s, x)
		x.ID, x.Status = "b", discovery.Critical
		discovery.Register(t.Context(), s, x)
		b := discovery.NewBalancer(c, "web")
		for range 3 {
			if got, err := b.Pick(t.Context()); err != nil || got.ID != "a" {
				t.Error(got, err)
			}
		}
		b.Close()
		if _, err := b.Pick(t.Context()); !errors.Is(err, context.Canceled) {
			t.Errorf("after Close: %v", err)
		}
	})
}

// server registers a server of HTTP that answers with its id and what it was sent.
func server(t *testing.T, s *coord.Session, id string) *httptest.Server {
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.URL.Path == "/away" {
			http.Redirect(w, r, string(body), http.StatusTemporaryRedirect)
			return
		}
		fmt.Fprintf(w, "%s %s%s %s", id, r.Host, r.URL, body)
	}))
	t.Cleanup(h.Close)
	u, _ := url.Parse(h.URL)
	port, _ := strconv.Atoi(u.Port())
	x := discovery.Instance{Service: "web", ID: id, Address: u.Hostname(), Port: port}
	if _, err := discovery.Register(t.Context(), s, x); err != nil {
		t.Fatal(err)
	}
	return h
}

func TestTransport(t *testing.T) {
	c := coordtest.Start(t, 1).Client(t)
	s := session(t, c)
	a, b := server(t, s, "a"), server(t, s, "b")
	balancer := discovery.NewBalancer(c, "web")
	t.Cleanup(balancer.Close)
	client := &http.Client{Transport: balancer.Transport(nil)}
	post := func(url string) string {
		t.Helper()
		res, err := client.Post(url, "text/plain", strings.NewReader("hello"))
		if err != nil {
			return err.Error()
		}
		defer res.Body.Close()
		body, _ := io.ReadAll(res.Body)
		return string(body)
	}
	both := []string{post("http://web/x?y"), post("http://web/x?y")}
	slices.Sort(both)
	if want := []string{"a web/x?y hello", "b web/x?y hello"}; !slices.Equal(both, want) {
		t.Errorf("got %q", both)
	}
	if got := post(a.URL + "/direct"); !strings.HasPrefix(got, "a 127.0.0.1:") {
		t.Errorf("another host: %s", got)
	}
	a.Close()
	for range 4 {
		if got := post("http://web/"); got != "b web/ hello" {
			t.Errorf("a is down: %s", got)
		}
	}
	b.Close()
	if got := post("http://web/"); !strings.Contains(got, "connect") {
		t.Errorf("both are down: %s", got)
	}
	unread := io.NopCloser(strings.NewReader("once")) // a body that can't be sent again
	req, _ := http.NewRequest("POST", "http://web/", unread)
	if _, err := client.Do(req); err == nil {
		t.Error("both are down")
	}
	s.Close(t.Context())
	for list, err := range discovery.Watch(t.Context(), c, "web") {
		if err != nil {
			t.Fatal(err)
		}
		if len(list) == 0 {
			break
		}
	}
	deadline, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		if _, err := balancer.Pick(deadline); errors.Is(err, discovery.ErrNoInstance) {
			break
		} else if deadline.Err() != nil {
			t.Fatal("the balancer has not heard of it")
		}
	}
}

// TestConcurrently uses everything from many goroutines, for the race detector.
func TestConcurrently(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, cluster *coordtest.Cluster) {
		c := cluster.Client(t)
		s := session(t, c)
		b := discovery.NewBalancer(c, "web")
		var all sync.WaitGroup
		for i := range 8 {
			all.Go(func() {
				var p switched
				p.set(nil)
				r := register(t, s, strconv.Itoa(i), discovery.WithChecks(p.check()))
				for n := range 20 {
					r.SetStatus(t.Context(), []discovery.Status{discovery.Passing, discovery.Critical}[n%2])
					r.Status()
					if x, err := b.Pick(t.Context()); err == nil {
						b.Failed(x)
					}
					time.Sleep(100 * time.Millisecond)
				}
				if err := r.Close(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		b.Close()
		if got := resolve(t, c); got != "" {
			t.Errorf("all are closed: %s", got)
		}
	})
}
