// Package election has leader election: of several candidates one leads at a time.
//
//	e := election.New(session, "scheduler", election.Candidate("host-1"))
//	err := e.Run(ctx, func(ctx context.Context, term *election.Term) error {
//		return schedule(ctx, term.Token()) // ctx ends when the leadership is lost
//	})
//
// # Guarantees
//
//   - One leads at a time. Each term has a token that is higher than those before it, and a write that is coord.Fenced
//     with it is refused by the service once the term is over.
//   - Candidates follow in the order of their coming; among those who stand, one of a higher priority goes first. No
//     leader is deposed for a priority.
//   - Everybody can see who leads, with a value such as an address, who stands, and who led lately and why that ended.
//   - Run campaigns again only when its function has returned, so a process never leads twice at once.
//
// # What it can't
//
// Stop a process: see package lock. A leader that is suspended may wake up and write to other systems although another
// one leads; let these refuse old tokens, as package fence does.
package election

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/coord-kv/coord/coord"
	"github.com/coord-kv/coord/coord/internal/contest"
	"github.com/coord-kv/coord/internal/recipe"
	"github.com/coord-kv/coord/op"
)

// Sentinels for errors.Is.
var (
	// ErrNotLeader: the term is over: its leader has resigned, its session has ended, or somebody has transferred it.
	ErrNotLeader error = &coord.Error{Code: op.NotHolder}
	// ErrNoCandidate: nobody of that id stands.
	ErrNoCandidate error = &coord.Error{Code: op.NotLeaderCandidate}
	// ErrStands: this session stands first in the election already, as the same candidate.
	ErrStands error = &coord.Error{Code: op.LockHeld}
	// ErrMixed: candidates of a recipe stand there that doesn't go with this one, or that knows no priorities.
	ErrMixed error = &coord.Error{Code: op.MixedDialect}
	// ErrNoElection: nobody stands in the election, or did lately.
	ErrNoElection error = &coord.Error{Code: op.NoLock}
)

// Option sets something of a candidate.
type Option func(*recipe.Candidacy)

// Candidate names the candidate, for people and for Transfer. By default it is the id of the session. Up to 256 bytes.
func Candidate(id string) Option { return func(c *recipe.Candidacy) { c.ID = id } }

// Value is what a leader tells everybody, such as its address. Up to 4 KiB.
func Value(value string) Option { return func(c *recipe.Candidacy) { c.Value = value } }

// Priority has the candidate go before those of a lower one, from -1,000,000 to 1,000,000; by default it is 0.
func Priority(n int) Option { return func(c *recipe.Candidacy) { c.Priority = n } }

// OnWait has f called by the campaigning goroutine with the number of those who stand before, whenever that changes.
func OnWait(f func(ahead int)) Option { return func(c *recipe.Candidacy) { c.Waiting = f } }

// Election is an election as one session sees it. It is nothing by itself and needs no closing. It is safe for
// concurrent use.
type Election struct {
	s *coord.Session
	c recipe.Candidacy
}

// New returns an election. The name is one segment of a path, under /elections, or the path of a directory, with a
// slash in front. Whether it can be a name, and the options are good, is checked by its methods.
func New(s *coord.Session, name string, opts ...Option) *Election {
	e := &Election{s, recipe.Candidacy{Name: name}}
	for _, o := range opts {
		o(&e.c)
	}
	return e
}

// Campaign stands for election and returns once the candidate leads. When ctx ends it withdraws the candidate, and the
// error is ctx's. One whom a transfer to somebody else has taken out of the line comes back at its end.
func (e *Election) Campaign(ctx context.Context) (*Term, error) {
	r, err := recipe.NewElection(e.s.Conn(), e.c)
	if err != nil {
		return nil, err
	}
	won, err := r.Campaign(ctx)
	if err != nil {
		return nil, err
	}
	dir, err := recipe.Dir(recipe.ElectionsDir, e.c.Name)
	token := coord.Token{Dir: dir, Zxid: won.Token, Term: true}
	return &Term{id: won.ID, token: token, won: won, tenure: contest.Begin(e.s, won.Lost)}, err
}

// Run campaigns, and calls lead whenever the candidate leads. The context that lead is given ends with ctx, and when
// the term is lost or can't be proven to last any more; lead should return soon then, and when it has, Run campaigns
// again. What lead returned is dropped in that case: whatever it was about, another one does it now.
//
// Run ends, and resigns, when lead returns by itself, with its error; when ctx ends, with its cause; and when the
// session ends, with coord.ErrSessionExpired or coord.ErrClosed, since nobody can campaign in it any more.
func (e *Election) Run(ctx context.Context, lead func(ctx context.Context, term *Term) error) error {
	for {
		t, err := e.Campaign(ctx)
		if err != nil {
			return err
		}
		lost, err := t.lead(ctx, lead)
		switch {
		case e.s.Context().Err() != nil:
			return context.Cause(e.s.Context())
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case !lost:
			return err
		}
	}
}

// lead calls f for the term, and resigns. It reports whether the term was lost before.
func (t *Term) lead(ctx context.Context, f func(context.Context, *Term) error) (lost bool, err error) {
	within, cancel := t.tenure.Within(ctx)
	defer cancel()
	defer func() {
		resigned := t.Resign(context.WithoutCancel(ctx))
		lost = errors.Is(resigned, ErrNotLeader)
		if !lost && resigned != nil {
			err = errors.Join(err, fmt.Errorf("couldn't resign: %w", resigned))
		}
	}()
	return false, f(within, t)
}

// Term is the time for which a candidate leads, until it resigns or loses it.
type Term struct {
	id     string
	token  coord.Token
	won    *recipe.Term
	tenure *contest.Tenure
}

// Candidate returns the id of the candidate that leads.
func (t *Term) Candidate() string { return t.id }

// Token returns the fencing token: it is higher than that of every earlier term.
func (t *Term) Token() coord.Token { return t.token }

// Context returns a context that ends with the term, and when it can't be proven to last any more. Its cause is then
// context.Canceled if the leader has resigned, ErrNotLeader, or coord.ErrSessionExpired.
func (t *Term) Context() context.Context { return t.tenure.Context() }

// Resign ends the term and withdraws the candidate. Its context ends first. If the term was lost before, the error is
// ErrNotLeader or coord.ErrSessionExpired. If ctx ends before there is an answer, the error is ctx's, and the term
// ends as soon as a member can be asked, or with the session.
func (t *Term) Resign(ctx context.Context) error {
	lost := t.tenure.Lost()
	t.tenure.End()
	if lost != nil {
		return lost
	}
	return contest.Await(ctx, func() error { return t.won.Resign(ctx) })
}

// Via is a *coord.Client or a *coord.Session.
type Via interface{ Conn() recipe.Conn }

// Leader is who leads. Its zero value stands for nobody.
type Leader struct {
	Candidate string
	Value     string
	Token     coord.Zxid // of the term
	Session   string
	Since     time.Time // by the cluster's clock
}

func leaderOf(l recipe.Leader) Leader {
	if l.Token == 0 {
		return Leader{}
	}
	return Leader{l.ID, l.Value, l.Token, l.Session.String(), l.Since.Std()}
}

// Leader says who leads; the zero Leader if nobody does.
func (e *Election) Leader(ctx context.Context) (Leader, error) { return LeaderOf(ctx, e.s, e.c.Name) }

// LeaderOf says who leads; the zero Leader if nobody does.
func LeaderOf(ctx context.Context, via Via, name string) (Leader, error) {
	l, err := recipe.LeaderOf(ctx, via.Conn(), name)
	return leaderOf(l), err
}

// Observe is Observe in the election's session.
func (e *Election) Observe(ctx context.Context) iter.Seq2[Leader, error] {
	return Observe(ctx, e.s, e.c.Name)
}

// Observe yields who leads, and then each time when that has changed; the zero Leader while nobody does. A leader that
// was followed by another one meanwhile may be left out: what counts is who leads. It ends with the loop, or with an
// error: ctx's, or why the Client or the Session has ended.
func Observe(ctx context.Context, via Via, name string) iter.Seq2[Leader, error] {
	return func(yield func(Leader, error) bool) {
		o, err := recipe.Observe(via.Conn(), name)
		for err == nil {
			var l recipe.Leader
			if l, err = o.Next(ctx); err == nil && !yield(leaderOf(l), nil) {
				return
			}
		}
		yield(Leader{}, err)
	}
}

// Info is an election as it stands.
type Info struct {
	Name       string
	Leader     Leader
	Candidates []coord.Contender // without the leader, in order
	History    []coord.Tenure    // terms that have ended, newest first; up to 64, for up to a week
}

// Inspect is Inspect in the election's session.
func (e *Election) Inspect(ctx context.Context) (*Info, error) { return Inspect(ctx, e.s, e.c.Name) }

// Inspect says who leads and who stands. The error is ErrNoElection if there is no trace of such an election.
func Inspect(ctx context.Context, via Via, name string) (*Info, error) {
	i, err := recipe.InspectElection(ctx, via.Conn(), name)
	if err != nil {
		return nil, err
	}
	return &Info{i.Name, leaderOf(i.Leader), contest.Contenders(i.Waiters), contest.History(i.History)}, nil
}

// Names yields the names of the elections under /elections in which somebody stands, or did a moment ago, in byte
// order. An error is the last thing that it yields.
func Names(ctx context.Context, via Via) iter.Seq2[string, error] {
	return recipe.Names(ctx, via.Conn(), recipe.ElectionsDir, "")
}

// Transfer makes the candidate of that id the leader, and says in the history that by has done it. The leader's context
// ends as soon as it hears of it; if it runs in Run, it stands again, behind the others. The error is ErrNoCandidate if
// nobody of that id stands.
func Transfer(ctx context.Context, via Via, name, to, by string) error {
	return recipe.Transfer(ctx, via.Conn(), name, to, by)
}
