package coord_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coord-kv/coord/coord"
	"github.com/coord-kv/coord/coord/coordtest"
)

// bubble runs a test against a cluster on virtual time.
func bubble(t *testing.T, members int, test func(t *testing.T, cluster *coordtest.Cluster)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(t, coordtest.Start(t, members, coordtest.InMemory())) })
}

func ok[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func wantErr(t *testing.T, err, want error, outcome coord.Outcome, path string) {
	t.Helper()
	var e *coord.Error
	if !errors.Is(err, want) || !errors.As(err, &e) || e.Outcome != outcome || e.Path != path {
		t.Errorf("%v is not %v (%s) about %s", err, want, outcome, path)
	}
	if coord.Hint(err) == "" {
		t.Errorf("there is no hint for %v", err)
	}
}

func TestNodes(t *testing.T) {
	bubble(t, 1, func(t *testing.T, cluster *coordtest.Cluster) {
		c, ctx := cluster.Client(t), t.Context()
		_, err := c.Get(ctx, "/a")
		wantErr(t, err, coord.ErrNoNode, coord.Decided, "/a")
		_, err = c.Create(ctx, "/a/b", nil)
		wantErr(t, err, coord.ErrNoNode, coord.Decided, "/a")
		made := ok(c.Create(ctx, "/a/b", []byte("1"), coord.Parents()))(t)
		_, err = c.Create(ctx, "/a/b", []byte("2"))
		wantErr(t, err, coord.ErrNodeExists, coord.Decided, "/a/b")
		set := ok(c.Set(ctx, "/a/b", []byte("2"), coord.IfMatch(made)))(t)
		if set.Stat.Version != 1 || set.Stat.Mzxid <= made.Stat.Mzxid || set.Path != "/a/b" || string(set.Data) != "2" {
			t.Errorf("set returned %+v", set)
		}
		_, err = c.Set(ctx, "/a/b", []byte("3"), coord.IfMatch(made))
		wantErr(t, err, coord.ErrBadVersion, coord.Decided, "/a/b")
		_, err = c.Set(ctx, "/a/b", []byte("3"), coord.IfVersion(0))
		wantErr(t, err, coord.ErrBadVersion, coord.Decided, "/a/b")
		ok(c.Create(ctx, "/a/b", []byte("3"), coord.OrSet()))(t)
		if n := ok(c.Get(ctx, "/a/b"))(t); string(n.Data) != "3" || n.Stat.Version != 2 {
			t.Errorf("get returned %+v", n)
		}
		wantErr(t, c.Delete(ctx, "/a"), coord.ErrNotEmpty, coord.Decided, "/a")
		if err := c.Delete(ctx, "/a", coord.Recursive()); err != nil {
			t.Error(err)
		}
		if stat := ok(c.Exists(ctx, "/a"))(t); stat != nil {
			t.Errorf("what was deleted has the stat %+v", stat)
		}
		_, err = c.Get(ctx, "a")
		wantErr(t, err, coord.ErrBadPath, coord.Refused, "a")
		_, err = c.Create(ctx, "/e", nil, coord.Ephemeral())
		if e := (*coord.Error)(nil); !errors.As(err, &e) || e.Outcome != coord.Refused {
			t.Errorf("an ephemeral node without a session: %v", err)
		}
		if n := ok(c.Create(ctx, "/null", nil))(t); ok(c.Get(ctx, n.Path))(t).Data != nil {
			t.Error("null became something")
		}
		ok(c.Set(ctx, "/null", []byte{}))(t)
		if ok(c.Get(ctx, "/null"))(t).Data == nil {
			t.Error("empty became null")
		}
	})
}

func TestKindsOfNodes(t *testing.T) {
	bubble(t, 1, func(t *testing.T, cluster *coordtest.Cluster) {
		c, ctx := cluster.Client(t), t.Context()
		for i := range 3 {
			n := ok(c.Create(ctx, "/job-", nil, coord.Sequence()))(t)
			if want := fmt.Sprintf("/job-%010d", i); n.Path != want {
				t.Errorf("%s, not %s", n.Path, want)
			}
		}
		ok(c.Create(ctx, "/ttl", nil, coord.TTL(time.Minute)))(t)
		ok(c.Create(ctx, "/box", nil, coord.Container()))(t)
		ok(c.Create(ctx, "/box/a", nil))(t)
		if err := c.Delete(ctx, "/box/a"); err != nil {
			t.Error(err)
		}
		time.Sleep(2 * time.Minute)
		for _, path := range []string{"/ttl", "/box"} {
			if stat := ok(c.Exists(ctx, path))(t); stat != nil {
				t.Errorf("%s is still there", path)
			}
		}
	})
}

func TestListings(t *testing.T) {
	bubble(t, 1, func(t *testing.T, cluster *coordtest.Cluster) {
		c, ctx := cluster.Client(t), t.Context()
		const n = 2500 // three pages
		ok(c.Create(ctx, "/dir", nil))(t)
		for i := 0; i < n; i += 500 {
			txn := c.Txn()
			for j := range 500 {
				txn.Create(fmt.Sprintf("/dir/%04d", i+j), []byte("x"))
			}
			ok(txn.Commit(ctx))(t)
		}
		i := 0
		for node, err := range c.Children(ctx, "/dir") {
			if err != nil || node.Path != fmt.Sprintf("/dir/%04d", i) || string(node.Data) != "x" || node.Stat.Czxid == 0 {
				t.Fatalf("child %d is %+v, %v", i, node, err)
			}
			i++
		}
		for node, err := range c.Children(ctx, "/dir", coord.NamesOnly()) {
			if err != nil || node.Data != nil || node.Path != "/dir/0000" {
				t.Fatalf("%+v, %v", node, err)
			}
			break
		}
		all := 0
		for _, err := range c.Subtree(ctx, "/dir") {
			if err != nil {
				t.Fatal(err)
			}
			all++
		}
		if i != n || all != n+1 {
			t.Errorf("%d children, %d nodes", i, all)
		}
		for node, err := range c.Children(ctx, "/none") {
			wantErr(t, err, coord.ErrNoNode, coord.Decided, "/none")
			if node != nil {
				t.Errorf("%+v", node)
			}
		}
	})
}

func TestReadLevels(t *testing.T) {
	bubble(t, 3, func(t *testing.T, cluster *coordtest.Cluster) {
		c, ctx := cluster.Client(t), t.Context()
		other := cluster.Client(t)
		ok(c.Create(ctx, "/x", nil))(t)
		for _, opt := range []coord.ReadOption{
			coord.Linearizable(), coord.Sequential(), coord.Bounded(time.Second), coord.AtLeast(c.Zxid()),
		} {
			var info coord.ReadInfo
			ok(c.Get(ctx, "/x", opt, coord.Info(&info)))(t)
			if info.Zxid == 0 {
				t.Errorf("%+v", info)
			}
		}
		// What one has seen another sees, if it is told the position.
		ok(other.Get(ctx, "/x", coord.Eventual(), coord.AtLeast(c.Zxid())))(t)
		_, err := c.Get(ctx, "/x", coord.AtLeast(c.Zxid()+1_000_000))
		if e := (*coord.Error)(nil); !errors.As(err, &e) || e.Code.String() != "future_zxid" {
			t.Errorf("a position that was never given out: %v", err)
		}
	})
}

func TestTxn(t *testing.T) {
	bubble(t, 1, func(t *testing.T, cluster *coordtest.Cluster) {
		c, ctx := cluster.Client(t), t.Context()
		res := ok(c.Txn().CheckAbsent("/a").Create("/a", []byte("1")).Get("/a").Commit(ctx))(t)
		if res.Else || len(res.Results) != 2 || string(res.Results[1].Data) != "1" || res.Results[1].Stat.Czxid != res.Zxid {
			t.Errorf("%+v", res)
		}
		res = ok(c.Txn().CheckAbsent("/a").Create("/b", nil).Else().Set("/a", []byte("2")).Commit(ctx))(t)
		if !res.Else || len(res.Results) != 1 {
			t.Errorf("%+v", res)
		}
		_, err := c.Txn().Check("/a", coord.IfVersion(7)).Delete("/a").Commit(ctx)
		wantErr(t, err, coord.ErrBadVersion, coord.Decided, "/a")
		_, err = c.Txn().Create("/b", nil).Delete("/none").Commit(ctx)
		wantErr(t, err, coord.ErrNoNode, coord.Decided, "/none")
		if e := (*coord.Error)(nil); errors.As(err, &e) && e.Index != 1 {
			t.Errorf("it failed at operation %d", e.Index)
		}
		if stat := ok(c.Exists(ctx, "/b"))(t); stat != nil {
			t.Error("half of a transaction was done")
		}
	})
}

func TestUpdate(t *testing.T) {
	bubble(t, 3, func(t *testing.T, cluster *coordtest.Cluster) {
		ctx := t.Context()
		c := cluster.Client(t)
		ok(c.Create(ctx, "/count", []byte("0")))(t)
		done := make(chan error)
		const clients, each = 4, 10
		for range clients {
			other := cluster.Client(t)
			go func() {
				for range each {
					if _, err := other.Update(ctx, "/count", increment); err != nil {
						done <- err
						return
					}
				}
				done <- nil
			}()
		}
		for range clients {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if n := ok(c.Get(ctx, "/count"))(t); string(n.Data) != fmt.Sprint(clients*each) {
			t.Errorf("it counted to %s", n.Data)
		}
		stop := errors.New("stop")
		if _, err := c.Update(ctx, "/count", func(*coord.Node) ([]byte, error) { return nil, stop }); err != stop {
			t.Error(err)
		}
	})
}

func increment(n *coord.Node) ([]byte, error) {
	var i int
	_, err := fmt.Sscan(string(n.Data), &i)
	return fmt.Append(nil, i+1), err
}

func TestFenced(t *testing.T) {
	bubble(t, 1, func(t *testing.T, cluster *coordtest.Cluster) {
		c, ctx := cluster.Client(t), t.Context()
		ses := ok(c.Session(ctx))(t)
		lock := ok(ses.Create(ctx, "/locks/x/_c_1-lock-", nil, coord.Parents(), coord.Sequence(), coord.Ephemeral()))(t)
		token := coord.Token{Dir: "/locks/x", Zxid: lock.Stat.Czxid}
		made := ok(c.Create(ctx, "/report", []byte("1"), coord.Fenced(token)))(t)
		if made.Path != "/report" {
			t.Errorf("%+v", made)
		}
		if n := ok(c.Set(ctx, "/report", []byte("2"), coord.Fenced(token), coord.IfMatch(made)))(t); n.Stat.Version != 1 {
			t.Errorf("%+v", n)
		}
		if err := ses.Close(ctx); err != nil {
			t.Fatal(err)
		}
		_, err := c.Set(ctx, "/report", []byte("3"), coord.Fenced(token))
		wantErr(t, err, coord.ErrStaleToken, coord.Decided, "/locks/x")
		wantErr(t, c.Delete(ctx, "/report", coord.Fenced(token)), coord.ErrStaleToken, coord.Decided, "/locks/x")
		if got, want := token.String(), fmt.Sprintf("x=%d", token.Zxid); got != want {
			t.Errorf("the token is %s, not %s", got, want)
		}
	})
}

func TestIdempotencyKey(t *testing.T) {
	bubble(t, 3, func(t *testing.T, cluster *coordtest.Cluster) {
		ctx := t.Context()
		ok(cluster.Client(t).Create(ctx, "/q", nil))(t)
		first := ok(cluster.Client(t).Create(ctx, "/q/j-", []byte("a"), coord.Sequence(), coord.IdempotencyKey("k")))(t)
		again := ok(cluster.Client(t).Create(ctx, "/q/j-", []byte("a"), coord.Sequence(), coord.IdempotencyKey("k")))(t)
		if first.Path != again.Path {
			t.Errorf("%s and %s", first.Path, again.Path)
		}
		_, err := cluster.Client(t).Create(ctx, "/q/j-", []byte("b"), coord.Sequence(), coord.IdempotencyKey("k"))
		wantErr(t, err, coord.ErrKeyMismatch, coord.Decided, "/q/j-")
	})
}

func TestWatch(t *testing.T) {
	bubble(t, 1, func(t *testing.T, cluster *coordtest.Cluster) {
		c, ctx := cluster.Client(t), t.Context()
		ok(c.Create(ctx, "/w", []byte("0")))(t)
		start := c.Zxid()
		ok(c.Set(ctx, "/w", []byte("1")))(t)
		ok(c.Txn().Create("/w/a", []byte("2")).Create("/w/a/b", nil).Set("/w", []byte("3")).Commit(ctx))(t)
		if err := c.Delete(ctx, "/w/a/b"); err != nil {
			t.Fatal(err)
		}
		for _, test := range []struct {
			opts []coord.WatchOption
			want []string
		}{
			{nil, []string{"changed /w", "changed /w 3"}},
			{[]coord.WatchOption{coord.WithChildren()}, []string{"changed /w", "created /w/a 2 …", "changed /w 3"}},
			{[]coord.WatchOption{coord.Recursive()}, []string{
				"changed /w", "created /w/a 2 …", "created /w/a/b …", "changed /w 3", "deleted /w/a/b",
			}},
		} {
			got := take(t, c, "/w", len(test.want), append(test.opts, coord.Since(start))...)
			if !slices.Equal(got, test.want) {
				t.Errorf("%q, not %q", got, test.want)
			}
		}
		got := take(t, c, "/w", 3, coord.WithInitial(), coord.Recursive())
		if want := []string{"present /w 3 …", "present /w/a 2 …", "bookmark "}; !slices.Equal(got, want) {
			t.Errorf("%q, not %q", got, want)
		}
		time.AfterFunc(time.Second, func() { c.Create(ctx, "/elsewhere", nil) })
		before := c.Zxid()
		for ev, err := range c.Watch(ctx, "/w", coord.WithBookmarks()) {
			if err != nil || ev.Type != coord.Bookmark || ev.Zxid <= before {
				t.Errorf("%v, %v", ev, err)
			}
			break
		}
		short, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		for ev, err := range c.Watch(short, "/quiet") {
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%v, %v", ev, err)
			}
		}
	})
}

// take returns the next events of a watch, in words.
func take(t *testing.T, c *coord.Client, path string, n int, opts ...coord.WatchOption) (got []string) {
	t.Helper()
	for ev, err := range c.Watch(t.Context(), path, opts...) {
		if err != nil {
			t.Fatal(err)
		}
		s := fmt.Sprintf("%s %s", ev.Type, ev.Path)
		if len(ev.Data) > 0 {
			s += " " + string(ev.Data)
		}
		if ev.More {
			s += " …"
		}
		if got = append(got, s); len(got) == n {
			break
		}
	}
	return got
}

// TestOutlivesItsSession: an ephemeral node with a TTL stays for it when its session expires, and goes with one that is
// closed.
func TestOutlivesItsSession(t *testing.T) {
	bubble(t, 1, func(t *testing.T, cluster *coordtest.Cluster) {
		ctx := t.Context()
		c := cluster.Client(t)
		closed, expired := ok(c.Session(ctx))(t), ok(c.Session(ctx))(t)
		ok(closed.Create(ctx, "/closed", nil, coord.Ephemeral(), coord.TTL(time.Minute)))(t)
		n := ok(expired.Create(ctx, "/expired", nil, coord.TTL(time.Minute), coord.Ephemeral()))(t)
		if n.Stat.Kind != coord.EphemeralNode || n.Stat.TTL != time.Minute {
			t.Errorf("%+v", n.Stat)
		}
		if err := closed.Close(ctx); err != nil {
			t.Fatal(err)
		}
		cluster.ExpireSession(expired.ID())
		<-expired.Context().Done()
		if n, err := c.Get(ctx, "/closed"); !errors.Is(err, coord.ErrNoNode) {
			t.Errorf("%+v, %v", n, err)
		}
		if n := ok(c.Get(ctx, "/expired"))(t); n.Stat.Kind != coord.TTLNode || n.Stat.EphemeralOwner != 0 {
			t.Errorf("%+v", n.Stat)
		}
		time.Sleep(2 * time.Minute)
		if n, err := c.Get(ctx, "/expired"); !errors.Is(err, coord.ErrNoNode) {
			t.Errorf("%+v, %v", n, err)
		}
	})
}

func TestIdentity(t *testing.T) {
	bubble(t, 1, func(t *testing.T, cluster *coordtest.Cluster) {
		ctx := t.Context()
		c := cluster.Client(t)
		old := ok(c.Session(ctx, coord.Identity("worker-1", nil), coord.TTL(time.Hour), coord.Name("w"),
			coord.Metadata([]byte("m"))))(t)
		if old.TTL() != time.Hour {
			t.Errorf("the timeout is %s", old.TTL())
		}
		ok(old.Create(ctx, "/worker", nil, coord.Ephemeral()))(t)
		_, err := c.Session(ctx, coord.Identity("worker-1", nil))
		if !errors.Is(err, coord.ErrDenied) {
			t.Errorf("anybody takes a session over: %v", err)
		}
		next := ok(c.Session(ctx, coord.Identity("worker-1", old.Secret())))(t)
		ok(next.Create(ctx, "/worker", nil, coord.Ephemeral()))(t)
		<-old.Context().Done()
		if !errors.Is(context.Cause(old.Context()), coord.ErrSessionExpired) {
			t.Error(context.Cause(old.Context()))
		}
	})
}

func TestBasicAuth(t *testing.T) {
	bubble(t, 1, func(t *testing.T, cluster *coordtest.Cluster) {
		ctx := t.Context()
		ann := cluster.Client(t, coord.WithBasicAuth("ann", "secret"))
		ok(ann.Create(ctx, "/hers", nil, coord.WithACL(coord.ACL{Perms: 31, Scheme: "auth"})))(t)
		ok(ann.Get(ctx, "/hers"))(t)
		_, err := cluster.Client(t).Get(ctx, "/hers")
		wantErr(t, err, coord.ErrDenied, coord.Decided, "/hers")
	})
}

func TestDialFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, opts := range [][]coord.Option{
			{coord.WithEndpoints("http://a b")}, {coord.WithEndpoints("ftp://x")}, {coord.WithEndpoints("http://x/y")},
		} {
			if _, err := coord.Dial(t.Context(), opts...); err == nil {
				t.Error("a bad endpoint was taken")
			}
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := coord.Dial(ctx, coord.WithEndpoints("127.0.0.1:1"))
	if !errors.Is(err, coord.ErrTimeout) || !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

// TestAnotherCluster: where the cluster is replaced by another one, at the same addresses, watches end, and what is asked
// from then on is of the new one. A position of the old one would be waited for in vain.
func TestAnotherCluster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old, fresh := coordtest.Start(t, 1, coordtest.InMemory()), coordtest.Start(t, 1, coordtest.InMemory())
		if old.Endpoints()[0] != fresh.Endpoints()[0] {
			t.Fatal("they have different addresses: the test shows nothing")
		}
		var replaced atomic.Bool
		dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
			if replaced.Load() {
				return fresh.Dialer()(ctx, network, addr)
			}
			return old.Dialer()(ctx, network, addr)
		}
		c := old.Client(t, coord.WithDialer(dial))
		for range 100 {
			if _, err := c.Create(t.Context(), "/a", []byte("old"), coord.OrSet()); err != nil {
				t.Fatal(err)
			}
		}
		ended := make(chan error, 1)
		go func() {
			for _, err := range c.Watch(t.Context(), "/a") {
				if err != nil {
					ended <- err
				}
			}
		}()
		synctest.Wait()
		replaced.Store(true)
		old.Kill(0)
		if err := <-ended; !errors.Is(err, coord.ErrClusterChanged) {
			t.Errorf("the watch ended with %v", err)
		}
		if _, err := c.Get(t.Context(), "/a"); !errors.Is(err, coord.ErrNoNode) {
			t.Errorf("read in the new cluster: %v", err)
		}
		if _, err := c.Create(t.Context(), "/a", []byte("new")); err != nil {
			t.Error(err)
		}
	})
}

// TestSync: whoever has the position of a Sync sees what was written before it, at whichever member and level.
func TestSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cluster, ctx := coordtest.Start(t, 3, coordtest.InMemory()), t.Context()
		writer, reader, other := cluster.Client(t), cluster.Client(t), cluster.Client(t)
		made, err := writer.Create(ctx, "/a", []byte("1"))
		if err != nil {
			t.Fatal(err)
		}
		at, err := reader.Sync(ctx)
		if err != nil || at < made.Stat.Czxid {
			t.Fatalf("at %d, %v; the node is of %d", at, err, made.Stat.Czxid)
		}
		if n, err := other.Get(ctx, "/a", coord.Eventual(), coord.AtLeast(at)); err != nil || string(n.Data) != "1" {
			t.Errorf("%v, %v", n, err)
		}
	})
}
