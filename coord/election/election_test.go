package election_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coord-kv/coord/coord"
	"github.com/coord-kv/coord/coord/election"
	"github.com/coord-kv/coord/coord/internal/bubble"
)

// TestCampaign: candidates lead one after the other, with growing tokens that fence, and everybody sees who.
func TestCampaign(t *testing.T) {
	bubble.Run(t, 1, func(w *bubble.World) {
		if l := bubble.Must(election.LeaderOf(w.Context(), w.Client, "boss")); l != (election.Leader{}) {
			t.Errorf("before anybody stands, %+v leads", l)
		}
		a := election.New(w.Session(), "boss", election.Candidate("a"), election.Value("10.0.0.1:80"))
		b := election.New(w.Session(), "boss", election.Candidate("b"))
		first := bubble.Must(a.Campaign(w.Context()))
		got := make(chan *election.Term, 1)
		go func() { got <- bubble.Must(b.Campaign(w.Context())) }()
		synctest.Wait()
		i := bubble.Must(b.Inspect(w.Context()))
		if i.Leader.Candidate != "a" || i.Leader.Value != "10.0.0.1:80" || i.Leader.Token != first.Token().Zxid ||
			len(i.Candidates) != 1 || i.Candidates[0].Owner != "b" {
			t.Errorf("%+v", i)
		}
		if _, err := w.Client.Create(w.Context(), "/a", nil, coord.Fenced(first.Token())); err != nil {
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
		if _, err := w.Client.Set(w.Context(), "/a", nil, coord.Fenced(first.Token())); !errors.Is(err, coord.ErrStaleToken) {
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
		if i := bubble.Must(b.Inspect(w.Context())); len(i.Candidates) != 0 || len(i.History) != 1 || i.History[0].Owner != "a" {
			t.Errorf("%+v", i)
		}
		second.Resign(w.Context())
	})
}

// TestRun: after a loss Run waits for its function, and then campaigns again; nobody leads twice at once.
func TestRun(t *testing.T) {
	bubble.Run(t, 1, func(w *bubble.World) {
		s := w.Session()
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
		other := election.New(w.Session(), "boss", election.Candidate("b"))
		got := make(chan *election.Term, 1)
		go func() { got <- bubble.Must(other.Campaign(w.Context())) }()
		synctest.Wait()
		if err := election.Transfer(w.Context(), w.Client, "boss", "c", "an admin"); !errors.Is(err, election.ErrNoCandidate) {
			t.Errorf("%v", err)
		}
		if err := election.Transfer(w.Context(), w.Client, "boss", "b", "an admin"); err != nil {
			t.Fatal(err)
		}
		b := <-got
		time.Sleep(time.Minute)
		if i := bubble.Must(other.Inspect(w.Context())); len(i.Candidates) != 0 || i.Leader.Candidate != "b" {
			t.Errorf("while its function runs: %+v", i)
		}
		release <- true
		synctest.Wait()
		if i := bubble.Must(other.Inspect(w.Context())); len(i.Candidates) != 1 || i.History[0].By != "an admin" {
			t.Errorf("when its function has ended: %+v", i)
		}
		b.Resign(w.Context())
		if second := <-terms; second.Zxid <= first.Zxid {
			t.Errorf("%v, then %v", first, second)
		}
		if err := <-ended; err != mine {
			t.Errorf("Run returned %v", err)
		}
		if l := bubble.Must(other.Leader(w.Context())); l != (election.Leader{}) {
			t.Errorf("when Run has ended, %+v leads", l)
		}
	})
}

// TestRunEnds with its context, and with its session.
func TestRunEnds(t *testing.T) {
	bubble.Run(t, 1, func(w *bubble.World) {
		for what, want := range map[string]error{"context": context.Canceled, "session": coord.ErrSessionExpired} {
			ctx, cancel := context.WithCancel(w.Context())
			s := w.Session()
			err := election.New(s, "boss").Run(ctx, func(ctx context.Context, term *election.Term) error {
				if what == "context" {
					cancel()
				} else {
					w.Cluster.PauseSession(s.ID())
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
	bubble.Run(t, 1, func(w *bubble.World) {
		first := bubble.Must(election.New(w.Session(), "boss").Campaign(w.Context()))
		order := make(chan int, 3)
		for _, p := range []int{1, 3, 2} {
			e := election.New(w.Session(), "boss", election.Candidate(fmt.Sprint(p)), election.Priority(p))
			go func() {
				term := bubble.Must(e.Campaign(w.Context()))
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
	bubble.Run(t, 3, func(w *bubble.World) {
		seen := make(chan election.Leader)
		ctx, cancel := context.WithCancel(w.Context())
		go func() {
			defer close(seen)
			for l, err := range election.Observe(ctx, w.Client, "boss") {
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
			term := bubble.Must(election.New(w.Session(), "boss", election.Candidate(id)).Campaign(w.Context()))
			if l := <-seen; l.Candidate != id || l.Token != term.Token().Zxid {
				t.Errorf("%+v", l)
			}
			if i == 1 {
				w.Cluster.Kill(w.Cluster.Leader())
				w.Cluster.Leader()
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
	bubble.Run(t, 1, func(w *bubble.World) {
		s := w.Session()
		for what, e := range map[string]*election.Election{
			"no name": election.New(s, ""), "a slash": election.New(s, "a/b"),
			"a priority": election.New(s, "x", election.Priority(1e9)), "an id": election.New(s, "x", election.Candidate("\xff")),
		} {
			var bad *coord.Error
			if _, err := e.Campaign(w.Context()); !errors.As(err, &bad) || bad.Outcome != coord.Refused {
				t.Errorf("%s: %v", what, err)
			}
		}
		if _, err := election.Inspect(w.Context(), w.Client, "never"); !errors.Is(err, election.ErrNoElection) {
			t.Errorf("%v", err)
		}
		for _, err := range election.Observe(w.Context(), w.Client, "a/b") {
			if !errors.Is(err, coord.ErrBadPath) {
				t.Errorf("%v", err)
			}
		}
		for name, err := range election.Names(w.Context(), w.Client) {
			t.Errorf("%s, %v", name, err)
		}
	})
}
