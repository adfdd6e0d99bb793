package election_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coord-kv/coord/coord"
	"github.com/coord-kv/coord/coord/coordtest"
	"github.com/coord-kv/coord/coord/election"
)

// world is a cluster on virtual time, in a bubble that holds that every goroutine of a test has ended with it.
type world struct {
	*testing.T
	cluster *coordtest.Cluster
	client  *coord.Client
}

func bubble(t *testing.T, members int, test func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := coordtest.Start(t, members, coordtest.InMemory())
		test(&world{t, c, c.Client(t)})
	})
}

const ttl = 10 * time.Second

func (w *world) session() *coord.Session {
	w.Helper()
	s, err := w.client.Session(w.Context(), coord.TTL(ttl))
	if err != nil {
		w.Fatal(err)
	}
	return s
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// TestCampaign: candidates lead one after the other, with growing tokens that fence, and everybody sees who.
func TestCampaign(t *testing.T) {
	bubble(t, 1, func(w *world) {
		if l := must(election.LeaderOf(w.Context(), w.client, "boss")); l != (election.Leader{}) {
			t.Errorf("before anybody stands, %+v leads", l)
		}
		a := election.New(w.session(), "boss", election.Candidate("a"), election.Value("10.0.0.1:80"))
		b := election.New(w.session(), "boss", election.Candidate("b"))
		first := must(a.Campaign(w.Context()))
		got := make(chan *election.Term, 1)
		go func() { got <- must(b.Campaign(w.Context())) }()
		synctest.Wait()
		i := must(b.Inspect(w.Context()))
		if i.Leader.Candidate != "a" || i.Leader.Value != "10.0.0.1:80" || i.Leader.Token != first.Token().Zxid ||
			len(i.Candidates) != 1 || i.Candidates[0].Owner != "b" {
			t.Errorf("%+v", i)
		}
		if _, err := w.client.Create(w.Context(), "/a", nil, coord.Fenced(first.Token())); err != nil {
			t.Error(err)
		}
		if _, err := a.Campaign(w.Context()); !errors.Is(err, election.ErrStands) {
			t.Errorf("who leads campaigned: %v", err)
		}
		if err := first.Resign(w.Context()); err != nil {
			t.Error(err)
		}
		second := <-got
		if second.Token().Zxid <= first.Token().Zxid || second.Candidate() != "b" {
			t.Errorf("%v, then %v", first.Token(), second.Token())
		}
		if _, err := w.client.Set(w.Context(), "/a", nil, coord.Fenced(first.Token())); !errors.Is(err, coord.ErrStaleToken) {
			t.Errorf("a write of the old leader: %v", err)
		}
		if err := first.Resign(w.Context()); !errors.Is(err, election.ErrNotLeader) {
			t.Errorf("resigned twice: %v", err)
		}
		ctx, cancel := context.WithTimeout(w.Context(), time.Minute)
		defer cancel()
		if _, err := a.Campaign(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
		if i := must(b.Inspect(w.Context())); len(i.Candidates) != 0 || len(i.History) != 1 || i.History[0].Owner != "a" {
			t.Errorf("%+v", i)
		}
		second.Resign(w.Context())
	})
}

// TestRun: after a loss Run waits for its function, and then campaigns again; nobody leads twice at once.
func TestRun(t *testing.T) {
	bubble(t, 1, func(w *world) {
		s := w.session()
		leading, terms, release := 0, make(chan coord.Token), make(chan bool)
		ended := make(chan error, 1)
		mine := errors.New("mine")
		go func() {
			n := 0
			ended <- election.New(s, "boss", election.Candidate("a")).Run(w.Context(),
				func(ctx context.Context, term *election.Term) error {
					if leading++; leading > 1 {
						t.Error("it leads twice")
					}
					defer func() { leading-- }()
					terms <- term.Token()
					if n++; n == 2 {
						return mine
					}
					<-ctx.Done()
					if !errors.Is(context.Cause(ctx), election.ErrNotLeader) {
						t.Errorf("the cause is %v", context.Cause(ctx))
					}
					<-release // it takes its time
					return errors.New("dropped")
				})
		}()
		first := <-terms
		other := election.New(w.session(), "boss", election.Candidate("b"))
		got := make(chan *election.Term, 1)
		go func() { got <- must(other.Campaign(w.Context())) }()
		synctest.Wait()
		if err := election.Transfer(w.Context(), w.client, "boss", "c", "an admin"); !errors.Is(err, election.ErrNoCandidate) {
			t.Errorf("%v", err)
		}
		if err := election.Transfer(w.Context(), w.client, "boss", "b", "an admin"); err != nil {
			t.Fatal(err)
		}
		b := <-got
		time.Sleep(time.Minute)
		if i := must(other.Inspect(w.Context())); len(i.Candidates) != 0 || i.Leader.Candidate != "b" {
			t.Errorf("while its function runs: %+v", i)
		}
		release <- true
		synctest.Wait()
		if i := must(other.Inspect(w.Context())); len(i.Candidates) != 1 || i.History[0].By != "an admin" {
			t.Errorf("when its function has ended: %+v", i)
		}
		b.Resign(w.Context())
		if second := <-terms; second.Zxid <= first.Zxid {
			t.Errorf("%v, then %v", first, second)
		}
		if err := <-ended; err != mine {
			t.Errorf("Run returned %v", err)
		}
		if l := must(other.Leader(w.Context())); l != (election.Leader{}) {
			t.Errorf("when Run has ended, %+v leads", l)
		}
	})
}

// TestRunEnds with its context, and with its session.
func TestRunEnds(t *testing.T) {
	bubble(t, 1, func(w *world) {
		for what, want := range map[string]error{"context": context.Canceled, "session": coord.ErrSessionExpired} {
			ctx, cancel := context.WithCancel(w.Context())
			s := w.session()
			err := election.New(s, "boss").Run(ctx, func(ctx context.Context, term *election.Term) error {
				if what == "context" {
					cancel()
				} else {
					w.cluster.PauseSession(s.ID())
				}
				<-ctx.Done()
				return nil
			})
			if !errors.Is(err, want) {
				t.Errorf("%s: %v", what, err)
			}
			cancel()
		}
	})
}

// TestPriorities: of those who wait, the one with the highest priority follows.
func TestPriorities(t *testing.T) {
	bubble(t, 1, func(w *world) {
		first := must(election.New(w.session(), "boss").Campaign(w.Context()))
		order := make(chan int, 3)
		for _, p := range []int{1, 3, 2} {
			e := election.New(w.session(), "boss", election.Candidate(fmt.Sprint(p)), election.Priority(p))
			go func() {
				term := must(e.Campaign(w.Context()))
				order <- p
				term.Resign(w.Context())
			}()
			synctest.Wait()
		}
		first.Resign(w.Context())
		for want := 3; want > 0; want-- {
			if got := <-order; got != want {
				t.Errorf("%d led, not %d", got, want)
			}
		}
	})
}

// TestObserve: every change of the leader is seen, over a failover too.
func TestObserve(t *testing.T) {
	bubble(t, 3, func(w *world) {
		seen := make(chan election.Leader)
		ctx, cancel := context.WithCancel(w.Context())
		go func() {
			defer close(seen)
			for l, err := range election.Observe(ctx, w.client, "boss") {
				if err != nil {
					if !errors.Is(err, context.Canceled) {
						t.Error(err)
					}
					return
				}
				seen <- l
			}
		}()
		if l := <-seen; l != (election.Leader{}) {
			t.Errorf("%+v", l)
		}
		for i := range 3 {
			id := fmt.Sprint(i)
			term := must(election.New(w.session(), "boss", election.Candidate(id)).Campaign(w.Context()))
			if l := <-seen; l.Candidate != id || l.Token != term.Token().Zxid {
				t.Errorf("%+v", l)
			}
			if i == 1 {
				w.cluster.Kill(w.cluster.Leader())
				w.cluster.Leader()
			}
			term.Resign(w.Context())
			if l := <-seen; l != (election.Leader{}) {
				t.Errorf("%+v", l)
			}
		}
		cancel()
		<-seen
	})
}

// TestBadElections: names and options that can't be.
func TestBadElections(t *testing.T) {
	bubble(t, 1, func(w *world) {
		s := w.session()
		for what, e := range map[string]*election.Election{
			"no name": election.New(s, ""), "a slash": election.New(s, "a/b"),
			"a priority": election.New(s, "x", election.Priority(1e9)), "an id": election.New(s, "x", election.Candidate("\xff")),
		} {
			var bad *coord.Error
			if _, err := e.Campaign(w.Context()); !errors.As(err, &bad) || bad.Outcome != coord.Refused {
				t.Errorf("%s: %v", what, err)
			}
		}
		if _, err := election.Inspect(w.Context(), w.client, "never"); !errors.Is(err, election.ErrNoElection) {
			t.Errorf("%v", err)
		}
		for _, err := range election.Observe(w.Context(), w.client, "a/b") {
			if !errors.Is(err, coord.ErrBadPath) {
				t.Errorf("%v", err)
			}
		}
		for name, err := range election.Names(w.Context(), w.client) {
			t.Errorf("%s, %v", name, err)
		}
	})
}
