package config_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coord-kv/coord/coord"
	"github.com/coord-kv/coord/coord/config"
	"github.com/coord-kv/coord/coord/coordtest"
	"github.com/coord-kv/coord/coord/internal/bubble"
	"github.com/coord-kv/coord/op"
)

// inBubble runs a test on virtual time. Whatever still runs at its end fails it.
func inBubble(t *testing.T, members int, f func(*testing.T, *coordtest.Cluster)) {
	synctest.Test(t, func(t *testing.T) { f(t, coordtest.Start(t, members, coordtest.InMemory())) })
}

type shop struct {
	Limit int    `config:"limit,required"`
	Motd  string `config:"motd"`
}

func (s *shop) Validate() error {
	if s.Limit < 0 {
		return errors.New("limit is below 0")
	}
	return nil
}

func set(t *testing.T, c config.Source, values ...string) config.Version {
	t.Helper()
	m := map[string]string{}
	for _, v := range values {
		key, value, _ := strings.Cut(v, "=")
		m[key] = value
	}
	v, err := config.Set(t.Context(), c, "shop", m, config.Author("ann"))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func bind[T any](t *testing.T, c config.Source, name string, opts ...config.Option) *config.Value[T] {
	t.Helper()
	v, err := config.Bind[T](t.Context(), c, name, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// await waits until what v shows is as wanted.
func await[T any](t *testing.T, v *config.Value[T], want func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Minute); !want(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it is %+v, version %d: %v", v.Get(), v.Version().Number, v.Err())
		}
	}
}

func TestBind(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, cluster *coordtest.Cluster) {
		c := cluster.Client(t)
		set(t, c, "limit=20")
		var said []string
		v := bind[shop](t, c, "shop", config.Default(shop{Motd: "hello"}),
			config.OnError(func(err error) { said = append(said, err.Error()) }))
		stop := v.OnChange(func(old, now shop) { said = append(said, fmt.Sprint(old, now, v.Get() == now)) })
		if v.Get() != (shop{20, "hello"}) || v.Version().Number != 1 || v.Version().Author != "ann" || v.Err() != nil {
			t.Errorf("%+v %+v %v", v.Get(), v.Version(), v.Err())
		}
		set(t, c, "limit=30", "motd=open")
		await(t, v, func() bool { return v.Get() == shop{30, "open"} })
		for i, wrong := range []string{"limit=many", "limit=-1", "limt=5"} { // each is another reason to stay
			set(t, c, wrong, "motd=closed")
			await(t, v, func() bool { return v.Err() != nil })
			if v.Get() != (shop{30, "open"}) || v.Version().Number != int64(2+2*i) {
				t.Errorf("%s is in force: %+v, version %d", wrong, v.Get(), v.Version().Number)
			}
			if _, err := config.Rollback(t.Context(), c, "shop", 2); err != nil {
				t.Fatal(err)
			}
			await(t, v, func() bool { return v.Err() == nil })
		}
		if v.Get() != (shop{30, "open"}) || v.Version().Number != 8 || v.Version().RolledBackTo != 2 {
			t.Errorf("%+v %+v", v.Get(), v.Version())
		}
		if err := c.Delete(t.Context(), "/config/shop", coord.Recursive()); err != nil {
			t.Fatal(err)
		}
		await(t, v, func() bool { return errors.Is(v.Err(), config.ErrDeleted) })
		stop()
		set(t, c, "limit=1")
		await(t, v, func() bool { return v.Get() == shop{1, "hello"} })
		v.Close()
		v.Close()
		if err := context.Cause(v.Context()); err != coord.ErrClosed || v.Get().Limit != 1 {
			t.Error(err, v.Get())
		}
		want := []string{
			"{20 hello} {30 open} true",
			`config: version 3 of shop is not in force: the value of "limit" is no integer of 64 bits`,
			"config: version 5 of shop is not in force: limit is below 0",
			`config: version 7 of shop is not in force: there is no field for the key "limt"`,
			"config: what was in force of shop still is: it was deleted as a whole",
		}
		if strings.Join(said, "\n") != strings.Join(want, "\n") {
			t.Errorf("it said\n%s", strings.Join(said, "\n"))
		}
	})
}

// A path is bound to what one text can be.
func TestBindPath(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, cluster *coordtest.Cluster) {
		c := cluster.Client(t)
		type point struct{ X, Y int }
		none := bind[int](t, c, "/none", config.Default(7))
		if none.Get() != 7 {
			t.Error(none.Get())
		}
		if _, err := config.Bind[int](t.Context(), c, "/none"); err == nil {
			t.Error("there is no node, and no default")
		}
		set(t, c, "limit=20", `point={"X":1}`)
		limit, p := bind[int](t, c, "/config/shop/limit"), bind[point](t, c, "/config/shop/point")
		loose := bind[point](t, c, "/config/shop/point", config.IgnoreUnknown())
		raw := bind[[]byte](t, c, "/config/shop/point")
		if limit.Get() != 20 || p.Get() != (point{1, 0}) || string(raw.Get()) != `{"X":1}` {
			t.Error(limit.Get(), p.Get(), raw.Get())
		}
		set(t, c, "limit=30", `point={"X":2,"Z":3}`)
		await(t, limit, func() bool { return limit.Get() == 30 })
		await(t, loose, func() bool { return loose.Get() == point{2, 0} })
		await(t, p, func() bool { return p.Err() != nil })
		if p.Get() != (point{1, 0}) || !strings.Contains(p.Err().Error(), `the data is not JSON for config_test.point: it has the unknown field "Z"`) {
			t.Error(p.Get(), p.Err())
		}
		if _, err := c.Create(t.Context(), "/none", []byte("8")); err != nil {
			t.Fatal(err)
		}
		await(t, none, func() bool { return none.Get() == 8 })
		if err := c.Delete(t.Context(), "/none"); err != nil {
			t.Fatal(err)
		}
		await(t, none, func() bool { return errors.Is(none.Err(), config.ErrDeleted) })
		if none.Get() != 8 {
			t.Error(none.Get())
		}
	})
}

// What is wrong from the beginning is an error of Bind, and leaves nothing behind.
func TestBindRefuses(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, cluster *coordtest.Cluster) {
		c := cluster.Client(t)
		refuses := func(what string, err error) {
			t.Helper()
			if err == nil || !strings.Contains(err.Error(), what) {
				t.Errorf("%q: %v", what, err)
			}
		}
		_, err := config.Bind[shop](t.Context(), c, "shop")
		refuses(`the key "limit" is missing`, err)
		if _, ok := errors.AsType[*config.InvalidError](err); !ok {
			t.Errorf("%T", err)
		}
		for _, name := range []string{"", ".shop", "a/b", "/", "/a/", "/a//b", strings.Repeat("x", 256), "a\x00b"} {
			if _, err = config.Bind[shop](t.Context(), c, name); err == nil && name != "/" {
				t.Errorf("the name %.20q is accepted", name)
			}
		}
		_, err = config.Bind[int](t.Context(), c, "shop")
		refuses("int is neither", err)
		_, err = config.Bind[chan int](t.Context(), c, "/x")
		refuses("bound to a chan int", err)
		_, err = config.Bind[shop](t.Context(), c, "shop", config.Default(5))
		refuses("the Default is a int", err)
		_, err = config.Bind[shop](t.Context(), c, "shop", config.Validate(func(int) error { return nil }))
		refuses("Validate has a func(int) error", err)
		_, err = config.Bind[shop](t.Context(), c, "shop", config.CheckEvery(-1))
		refuses("more than 0", err)
		set(t, c, "limit=20")
		_, err = config.Bind[shop](t.Context(), c, "shop", config.Validate(func(s shop) error { return fmt.Errorf("no %d", s.Limit) }))
		refuses("version 1 of shop is not in force: no 20", err)
		cluster.Kill(0)
		_, err = config.Bind[shop](t.Context(), c, "shop", config.Timeout(time.Second))
		refuses("couldn't read shop: ", err)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		cluster.Restart(0)
	})
}

// A Value goes on with what it knows while no member is there, says of when that is, and comes to the newest afterwards.
func TestOutlives(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, cluster *coordtest.Cluster) {
		c, other := cluster.Client(t), cluster.Client(t)
		set(t, c, "limit=20")
		v := bind[shop](t, c, "shop")
		start := time.Now()
		await(t, v, func() bool { return v.AsOf().After(start.Add(time.Minute)) })
		if now := time.Now(); now.Sub(start) > 72*time.Second {
			t.Errorf("known to be the newest as of %s, which took until %s", v.AsOf().Sub(start), now.Sub(start))
		}
		for i := range 3 {
			cluster.Kill(i)
		}
		lost := time.Now()
		time.Sleep(10 * time.Minute)
		if v.Get().Limit != 20 || v.Err() != nil || v.AsOf().After(lost) {
			t.Errorf("%+v %v, as of %s after the loss", v.Get(), v.Err(), v.AsOf().Sub(lost))
		}
		for i := range 3 {
			cluster.Restart(i)
		}
		set(t, other, "limit=30")
		await(t, v, func() bool { return v.Get().Limit == 30 })
		await(t, v, func() bool { return v.AsOf().After(lost) })
	})
}

// The client's end, the session's and the context's each end a Value, which says so and keeps what it knew.
func TestEnds(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, cluster *coordtest.Cluster) {
		set(t, cluster.Client(t), "limit=20")
		ctx, cancel := context.WithCancelCause(t.Context())
		done := errors.New("done")
		a, err := config.Bind[shop](ctx, cluster.Client(t), "shop")
		if err != nil {
			t.Fatal(err)
		}
		cancel(done)
		<-a.Context().Done()
		if context.Cause(a.Context()) != done || a.Get().Limit != 20 {
			t.Error(context.Cause(a.Context()), a.Get())
		}
		c := cluster.Client(t)
		b := bind[shop](t, c, "shop")
		c.Close()
		<-b.Context().Done()
		if context.Cause(b.Context()) != coord.ErrClosed || b.Get().Limit != 20 || b.Err() != nil {
			t.Error(context.Cause(b.Context()), b.Get(), b.Err())
		}
		s, err := cluster.Client(t).Session(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		d := bind[shop](t, s, "shop")
		cluster.ExpireSession(s.ID())
		<-d.Context().Done()
		if !errors.Is(context.Cause(d.Context()), coord.ErrSessionExpired) || d.Get().Limit != 20 {
			t.Error(context.Cause(d.Context()), d.Get())
		}
	})
}

// What can't be read any more stays in force, and is told once.
func TestDenied(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, cluster *coordtest.Cluster) {
		c := cluster.Client(t)
		admin := cluster.Client(t, coord.WithBasicAuth("ann", "pw"))
		set(t, c, "limit=20")
		told := 0
		v := bind[shop](t, c, "shop", config.OnError(func(error) { told++ }))
		allow := func(acl []op.ACL) {
			t.Helper()
			if _, err := admin.Conn().Do(t.Context(), &op.SetACL{Path: "/config/shop", ACL: acl, Version: op.AnyVersion}); err != nil {
				t.Fatal(err)
			}
		}
		allow([]op.ACL{{Perms: op.AllPerm, Scheme: "auth"}})
		await(t, v, func() bool { return errors.Is(v.Err(), coord.ErrDenied) })
		time.Sleep(time.Minute)
		if v.Get().Limit != 20 || told != 1 {
			t.Error(v.Get(), told)
		}
		allow(op.OpenACL)
		set(t, c, "limit=30")
		await(t, v, func() bool { return v.Get().Limit == 30 && v.Err() == nil })
	})
}

// Under faults a Value shows versions as they were written, never an older one after a newer, and the newest in the end.
func TestFaults(t *testing.T) {
	for seed := range bubble.Seeds(4) {
		inBubble(t, 3, func(t *testing.T, cluster *coordtest.Cluster) { playFaults(t, cluster, rand.New(rand.NewPCG(seed, 0))) })
	}
}

type numbered struct {
	N     int `config:"n"`
	Twice int `config:"twice"` // of n: whoever sees half a change finds it wrong
}

func playFaults(t *testing.T, cluster *coordtest.Cluster, r *rand.Rand) {
	writer := cluster.Client(t)
	write := func(n int) {
		s, err := writer.Session(t.Context(), coord.TTL(time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close(t.Context())
		values := map[string]string{"n": strconv.Itoa(n), "twice": strconv.Itoa(2 * n)}
		if _, err := config.Set(t.Context(), s, "shop", values); err != nil {
			t.Fatal(err)
		}
	}
	write(0)
	var all []*config.Value[numbered]
	for range 3 {
		v := bind[numbered](t, cluster.Client(t), "shop")
		v.OnChange(func(old, now numbered) {
			if now.N <= old.N || now.Twice != 2*now.N || v.Get() != now {
				t.Errorf("%+v after %+v", now, old)
			}
		})
		all = append(all, v)
	}
	const changes = 40
	for n := 1; n <= changes; n++ {
		switch i := r.IntN(3); r.IntN(6) {
		case 0:
			cluster.Kill(i)
			write(n)
			time.Sleep(time.Duration(r.IntN(15)) * time.Second)
			cluster.Restart(i)
		case 1:
			cluster.Partition(i)
			write(n)
			time.Sleep(time.Duration(r.IntN(15)) * time.Second)
			cluster.Heal()
		case 2:
			cluster.Pause(i)
			write(n)
			time.Sleep(time.Duration(r.IntN(15)) * time.Second)
			cluster.Resume(i)
		default:
			write(n)
		}
	}
	for _, v := range all {
		await(t, v, func() bool { return v.Get().N == changes })
		if v.Err() != nil || v.Version().Number != changes+1 {
			t.Error(v.Err(), v.Version())
		}
	}
}

// TestConcurrently uses everything from many goroutines, for the race detector.
func TestConcurrently(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, cluster *coordtest.Cluster) {
		c := cluster.Client(t)
		set(t, c, "limit=0")
		v := bind[shop](t, c, "shop", config.CheckEvery(time.Millisecond))
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				last := int64(0)
				for range 10 {
					stop := v.OnChange(func(_, _ shop) {})
					_, err := config.Update(t.Context(), c, "shop", func(values map[string]string) error {
						n, err := strconv.Atoi(values["limit"])
						values["limit"] = strconv.Itoa(n + 1)
						return err
					})
					if err != nil {
						t.Error(err)
					}
					if n := v.Version().Number; n < last {
						t.Errorf("version %d after %d", n, last)
					} else {
						last = n
					}
					_, _, _ = v.Get(), v.Err(), v.AsOf()
					stop()
				}
			})
		}
		all.Wait()
		await(t, v, func() bool { return v.Get().Limit == 80 })
	})
}
