package fence_test

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/coord-kv/coord/coord"
	"github.com/coord-kv/coord/coord/coordtest"
	"github.com/coord-kv/coord/coord/fence"
)

// TestHandler: what each request is answered with, in order.
func TestHandler(t *testing.T) {
	guard := fence.New("nightly", new(fence.Memory))
	served := 0
	h := guard.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		served++
		want, _ := coord.ParseToken(r.Header.Get(fence.Header))
		if token, _ := fence.TokenOf(r.Context()); token != want {
			t.Errorf("the handler is told of the token %v, not %v", token, want)
		}
	}))
	for i, c := range []struct {
		method string
		tokens []string
		status int
		code   string
	}{
		{"POST", nil, 428, "precondition_required"},
		{"GET", nil, 200, ""},
		{"POST", []string{"nightly=41"}, 200, ""},
		{"POST", []string{"nightly=41"}, 200, ""},
		{"POST", []string{"nightly=43"}, 200, ""},
		{"POST", []string{"nightly=42"}, 412, "stale_token"},
		{"GET", []string{"nightly=42"}, 412, "stale_token"},
		{"POST", []string{"%2Flocks%2Fnightly=43"}, 200, ""},
		{"POST", []string{"daily=99"}, 400, "bad_request"},
		{"POST", []string{"term:nightly=99"}, 400, "bad_request"},
		{"POST", []string{"99"}, 400, "bad_request"},
		{"POST", []string{"nightly=0"}, 400, "bad_request"},
		{"POST", []string{"nightly=-1"}, 400, "bad_request"},
		{"POST", []string{"nightly=99999999999999999999"}, 400, "bad_request"},
		{"POST", []string{"a/b=1"}, 400, "bad_request"},
		{"POST", []string{"%zz=1"}, 400, "bad_request"},
		{"POST", []string{"../x=1"}, 400, "bad_path"},
		{"POST", []string{"nightly=43", "nightly=44"}, 400, "bad_request"},
		{"POST", []string{"nightly=43"}, 200, ""}, // none of these has moved it on
	} {
		before := served
		r := httptest.NewRequest(c.method, "/", nil)
		for _, token := range c.tokens {
			r.Header.Add(fence.Header, token)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		var p struct {
			Type, Code, Hint string
			Status           int
		}
		json.NewDecoder(w.Body).Decode(&p)
		if w.Code != c.status || (served > before) != (c.status == 200) {
			t.Errorf("%d: %s %v was answered %d", i, c.method, c.tokens, w.Code)
		}
		if c.code != "" && (p.Code != c.code || p.Type != "urn:coord:error:"+c.code || p.Status != c.status || p.Hint == "" ||
			w.Header().Get("Content-Type") != "application/problem+json") {
			t.Errorf("%d: %+v, %v", i, p, w.Header())
		}
	}
}

// TestStrict: GuardReads leaves nothing open; a name that can't be one lets nobody in.
func TestStrict(t *testing.T) {
	next := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("it was served") })
	for status, guard := range map[int]*fence.Guard{
		428: fence.New("nightly", new(fence.Memory), fence.GuardReads()),
		400: fence.New("a//b", new(fence.Memory), fence.GuardReads()),
	} {
		r := httptest.NewRequest("GET", "/", nil)
		if status == 400 {
			r.Header.Set(fence.Header, "a//b=1")
		}
		w := httptest.NewRecorder()
		guard.Handler(next).ServeHTTP(w, r)
		if w.Code != status {
			t.Errorf("%d, not %d", w.Code, status)
		}
	}
}

type broken struct{}

func (broken) Pass(context.Context, coord.Zxid) error { return errors.New("no connection to 10.0.0.1") }

// TestStoreFails: what can't be decided is refused, and why is not told to the sender.
func TestStoreFails(t *testing.T) {
	h := fence.New("x", broken{}).Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("it was served") }))
	r := httptest.NewRequest("POST", "/", nil)
	fence.Set(r.Header, token("x", 1))
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Code != 503 || w.Header().Get("Retry-After") == "" || strings.Contains(w.Body.String(), "10.0.0.1") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func token(name string, n coord.Zxid) coord.Token { return coord.Token{Dir: "/locks/" + name, Zxid: n} }

// TestOldUseEnds: a use is told when a higher token comes, and that one waits for it.
func TestOldUseEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		guard := fence.New("x", new(fence.Memory))
		var order []string
		finish, old := make(chan bool), make(chan error, 1)
		go func() {
			old <- guard.Do(t.Context(), token("x", 1), func(ctx context.Context) error {
				<-ctx.Done()
				order = append(order, "old told")
				<-finish
				order = append(order, "old ended")
				return context.Cause(ctx)
			})
		}()
		synctest.Wait()
		impatient, cancel := context.WithCancel(t.Context())
		given := make(chan error, 1)
		go func() {
			given <- guard.Do(impatient, token("x", 2), func(context.Context) error { return nil })
		}()
		synctest.Wait()
		cancel()
		if err := <-given; !errors.Is(err, context.Canceled) {
			t.Errorf("who gave up waiting for the old one: %v", err)
		}
		next := make(chan error, 1)
		go func() {
			next <- guard.Do(t.Context(), token("x", 2), func(context.Context) error {
				order = append(order, "new")
				return nil
			})
		}()
		synctest.Wait()
		close(finish)
		if err := <-old; !errors.Is(err, coord.ErrStaleToken) {
			t.Errorf("the old one: %v", err)
		}
		if err := <-next; err != nil || len(order) != 3 || order[2] != "new" {
			t.Errorf("%v, %v", order, err)
		}
	})
}

// TestNoOverlap: whatever comes at once, uses begin in the order of their tokens, and only equal ones are under way together.
func TestNoOverlap(t *testing.T) {
	guard := fence.New("x", new(fence.Memory))
	var mu sync.Mutex
	var highest coord.Zxid
	running := map[coord.Zxid]int{}
	var all sync.WaitGroup
	for range 200 {
		n := coord.Zxid(1 + rand.IntN(20))
		all.Go(func() {
			err := guard.Do(t.Context(), token("x", n), func(ctx context.Context) error {
				mu.Lock()
				for other, count := range running {
					if other != n && count > 0 {
						t.Errorf("%d began while %d was under way", n, other)
					}
				}
				if n < highest {
					t.Errorf("%d began after %d", n, highest)
				}
				highest = n
				running[n]++
				mu.Unlock()
				defer func() {
					mu.Lock()
					running[n]--
					mu.Unlock()
				}()
				return nil
			})
			if err != nil && !errors.Is(err, coord.ErrStaleToken) {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

// TestFile: what a File has let through it knows after a restart; what is no fence is left alone.
func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fence")
	for i, n := range []coord.Zxid{7, 7, 9, 8, 9} {
		f, err := fence.OpenFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Pass(t.Context(), n); errors.Is(err, coord.ErrStaleToken) != (i == 3) || err != nil && i != 3 {
			t.Errorf("%d: %v", i, err)
		}
	}
	os.WriteFile(path, []byte("my notes"), 0o600)
	if _, err := fence.OpenFile(path); err == nil {
		t.Error("it took a file that is no fence")
	}
	if data, _ := os.ReadFile(path); string(data) != "my notes" {
		t.Errorf("it is %q now", data)
	}
	if _, err := fence.OpenFile(filepath.Join(path+"s", "fence")); err == nil {
		t.Error("it took a directory that doesn't exist")
	}
}

// TestRegister: guards in different processes share what they know through the service.
func TestRegister(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := coordtest.Start(t, 3, coordtest.InMemory())
		client := c.Client(t)
		register := fence.NewRegister(client, "printer")
		if _, _, err := register.Highest(t.Context()); !errors.Is(err, coord.ErrNoNode) {
			t.Errorf("before any use: %v", err)
		}
		use := func(guard *fence.Guard, n coord.Zxid) error {
			return guard.Do(t.Context(), token("x", n), func(context.Context) error { return nil })
		}
		a, b := fence.New("x", register), fence.New("x", fence.NewRegister(client, "printer"))
		if err := errors.Join(use(a, 41), use(b, 42)); err != nil {
			t.Error(err)
		}
		if err := use(a, 41); !errors.Is(err, coord.ErrStaleToken) {
			t.Errorf("%v", err)
		}
		c.Kill(c.Leader())
		if err := use(a, 43); err != nil {
			t.Errorf("after a failover: %v", err)
		}
		if n, since, err := register.Highest(t.Context()); n != 43 || since.IsZero() || err != nil {
			t.Errorf("%d, %v, %v", n, since, err)
		}
		if err := use(fence.New("x", fence.NewRegister(client, "a/b")), 1); !errors.Is(err, coord.ErrBadPath) {
			t.Errorf("%v", err)
		}
	})
}

// TestSharedTokens don't grow, so they open nothing.
func TestSharedTokens(t *testing.T) {
	guard := fence.New("x", new(fence.Memory))
	for _, shared := range []coord.Token{{Dir: "/locks/x", Zxid: 1, Shared: true}, {Dir: "/locks/x", Zxid: 1, Slots: 2}} {
		err := guard.Do(t.Context(), shared, func(context.Context) error { return nil })
		var e *coord.Error
		if !errors.As(err, &e) || e.Outcome != coord.Refused {
			t.Errorf("%v", err)
		}
	}
}
