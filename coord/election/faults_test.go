package election_test

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coord-kv/coord/coord"
	"github.com/coord-kv/coord/coord/coordtest"
	"github.com/coord-kv/coord/coord/election"
	"github.com/coord-kv/coord/coord/internal/bubble"
)

// arena is what programs and observers have found out about an election.
type arena struct {
	*bubble.World
	ctx   context.Context // of all programs and observers
	tasks sync.WaitGroup

	mu     sync.Mutex
	now    map[*election.Term]context.Context // functions that run, with their contexts
	newest coord.Zxid
	seen   []*coord.Zxid // by each observer, last
}

// enter runs a test in an arena, with everybody gone at its end.
func enter(w *bubble.World, test func(a *arena)) {
	ctx, cancel := context.WithCancel(w.Context())
	a := &arena{World: w, ctx: ctx, now: map[*election.Term]context.Context{}}
	defer a.tasks.Wait()
	defer cancel()
	test(a)
}

// program is one that leads again and again, in one session after the other.
type program struct {
	*arena
	name   string
	client *coord.Client
	led    chan *election.Term // each of its terms, when that begins; received by the test, or nil
	resign chan bool
	term   func(ctx context.Context) // what it does in a term, if not to wait for either
}

// start starts a program that reaches these members, or all.
func (a *arena) start(name string, term func(ctx context.Context), members ...int) *program {
	p := &program{arena: a, name: name, client: a.at(members...), led: make(chan *election.Term), resign: make(chan bool), term: term}
	a.tasks.Go(p.run)
	return p
}

// at returns a client that reaches these members, or all.
func (a *arena) at(members ...int) *coord.Client {
	if len(members) == 0 {
		return a.Cluster.Client(a)
	}
	dial, reached := a.Cluster.Dialer(), map[string]bool{}
	for _, i := range members {
		reached[strings.TrimPrefix(a.Cluster.Endpoints()[i], "http://")] = true
	}
	return a.Cluster.Client(a, coord.WithDialer(func(ctx context.Context, network, addr string) (net.Conn, error) {
		if !reached[addr] {
			return nil, errors.New("it is not reached from here")
		}
		return dial(ctx, network, addr)
	}))
}

func (p *program) run() {
	for p.ctx.Err() == nil {
		s, err := p.client.Session(p.ctx, coord.TTL(bubble.TTL))
		if err != nil {
			time.Sleep(time.Second)
			continue
		}
		err = election.New(s, "boss", election.Candidate(p.name)).Run(p.ctx, func(ctx context.Context, term *election.Term) error {
			return p.lead(ctx, s, term)
		})
		if err != nil && p.ctx.Err() == nil && !errors.Is(err, coord.ErrSessionExpired) {
			p.Errorf("%s: Run ended with %v", p.name, err)
		}
		soon, cancel := context.WithTimeout(context.Background(), time.Second)
		s.Close(soon)
		cancel()
	}
}

// lead holds that nobody else leads, and that the context ends before the session may be over.
func (p *program) lead(ctx context.Context, s *coord.Session, term *election.Term) error {
	p.begins(ctx, term)
	defer p.ends(term)
	if p.term != nil {
		p.term(ctx)
	} else {
		p.waits(ctx, term)
	}
	if ctx.Err() != nil && time.Now().After(s.ValidUntil()) {
		p.Errorf("%s: it was told at %v that it doesn't lead any more, and its session was safe until %v", p.name, time.Now(), s.ValidUntil())
	}
	return nil
}

func (p *program) waits(ctx context.Context, term *election.Term) {
	select {
	case p.led <- term:
	case <-ctx.Done():
	}
	select {
	case <-p.resign:
	case <-ctx.Done():
	}
}

func (a *arena) begins(ctx context.Context, term *election.Term) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for other, still := range a.now {
		if still.Err() == nil {
			a.Errorf("%s leads in %v, and %s does in %v", term.Candidate(), term.Token(), other.Candidate(), other.Token())
		}
	}
	if term.Token().Zxid <= a.newest {
		a.Errorf("%v is no higher than an earlier term's %v", term.Token(), a.newest)
	}
	a.now[term], a.newest = ctx, term.Token().Zxid
}

func (a *arena) ends(term *election.Term) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.now, term)
}

// observe observes the election at these members, or all: no term is seen after a later one, nor twice in a row.
func (a *arena) observe(members ...int) {
	last := new(coord.Zxid)
	a.mu.Lock()
	a.seen = append(a.seen, last)
	a.mu.Unlock()
	client := a.at(members...)
	a.tasks.Go(func() {
		var highest coord.Zxid
		for l, err := range election.Observe(a.ctx, client, "boss") {
			if err != nil {
				if a.ctx.Err() == nil {
					a.Errorf("an observer: %v", err)
				}
				return
			}
			a.mu.Lock()
			*last = l.Token
			a.mu.Unlock()
			if l.Token != 0 && l.Token <= highest {
				a.Errorf("an observer saw the term %v after %v", l.Token, highest)
			}
			highest = max(highest, l.Token)
		}
	})
}

// eventually waits until something is so. How long that takes is no promise, but for ever is too long.
func (a *arena) eventually(what string, done func() bool) {
	a.Helper()
	for end := time.Now().Add(time.Hour); !done(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			a.Fatalf("never: %s", what)
		}
	}
}

// settles waits until all observers see the leader of the newest term.
func (a *arena) settles() {
	a.Helper()
	a.eventually("all observers see the last term", func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return !slices.ContainsFunc(a.seen, func(last *coord.Zxid) bool { return *last != a.newest })
	})
}

// stands reports whether a candidate waits.
func (a *arena) stands(name string) bool {
	i, err := election.Inspect(a.ctx, a.Client, "boss")
	return err == nil && len(i.Candidates) == 1 && i.Candidates[0].Owner == name
}

// troubles are what befalls a member, and what ends that.
var troubles = map[string]struct{ begin, end func(*coordtest.Cluster, int) }{
	"killed":  {(*coordtest.Cluster).Kill, (*coordtest.Cluster).Restart},
	"paused":  {(*coordtest.Cluster).Pause, (*coordtest.Cluster).Resume},
	"cut off": {(*coordtest.Cluster).Partition, func(c *coordtest.Cluster, _ int) { c.Heal() }},
}

// TestLeaderCutOff: a leader that reaches one member only, which leads the cluster and is killed, paused, or cut off from the
// others. Somebody else leads, after the leader has been told that it doesn't; when the member is back the old leader stands
// behind the new one, and leads again after it. Observers see that, in this order, also the one at that member.
func TestLeaderCutOff(t *testing.T) {
	for name, trouble := range troubles {
		t.Run(name, func(t *testing.T) {
			bubble.Run(t, 3, func(w *bubble.World) {
				enter(w, func(a *arena) {
					at := w.Cluster.Leader()
					a.observe(at)
					a.observe((at + 1) % 3)
					a.observe()
					old := a.start("old", nil, at)
					first := <-old.led
					young := a.start("young", nil, (at+1)%3, (at+2)%3)
					a.eventually("the second one stands", func() bool { return a.stands("young") })
					trouble.begin(w.Cluster, at)
					<-young.led
					if cause := context.Cause(first.Context()); !errors.Is(cause, coord.ErrSessionExpired) {
						t.Errorf("the old term ended with %v", cause)
					}
					trouble.end(w.Cluster, at)
					a.eventually("the old leader stands again", func() bool { return a.stands("old") })
					a.settles()
					young.resign <- true
					<-old.led
					a.settles()
				})
			})
		})
	}
}

// TestNobodyWithoutMajority: with two of three members gone nobody leads once the leader's session can't be proven alive,
// and when they are back somebody does.
func TestNobodyWithoutMajority(t *testing.T) {
	for name, trouble := range troubles {
		t.Run(name, func(t *testing.T) {
			bubble.Run(t, 3, func(w *bubble.World) {
				enter(w, func(a *arena) {
					a.observe()
					led := make(chan context.Context)
					for _, name := range []string{"a", "b"} {
						a.start(name, func(ctx context.Context) {
							select {
							case led <- ctx:
								<-ctx.Done()
							case <-ctx.Done():
							}
						})
					}
					ctx := <-led
					trouble.begin(w.Cluster, 0)
					trouble.begin(w.Cluster, 1)
					<-ctx.Done()
					select {
					case <-led:
						t.Error("somebody leads without a majority")
					case <-time.After(time.Minute):
					}
					trouble.end(w.Cluster, 0)
					trouble.end(w.Cluster, 1)
					<-led
					a.settles()
				})
			})
		})
	}
}

// TestCampaignOverFaults: a candidate whose member goes away while it waits gets its turn all the same; one whose machine
// stands still is told that its session has ended, and has no turn.
func TestCampaignOverFaults(t *testing.T) {
	for name, trouble := range troubles {
		t.Run(name, func(t *testing.T) {
			bubble.Run(t, 3, func(w *bubble.World) {
				first := bubble.Must(election.New(w.Session(), "boss", election.Candidate("a")).Campaign(w.Context()))
				asleep := w.Session()
				gone, got := make(chan error, 1), make(chan *election.Term, 1)
				go func() {
					_, err := election.New(asleep, "boss", election.Candidate("b")).Campaign(w.Context())
					gone <- err
				}()
				waits := func(n int) {
					for len(bubble.Must(election.Inspect(w.Context(), w.Client, "boss")).Candidates) != n {
						time.Sleep(time.Millisecond)
					}
				}
				waits(1)
				go func() {
					got <- bubble.Must(election.New(w.Session(), "boss", election.Candidate("c")).Campaign(w.Context()))
				}()
				waits(2)
				w.Cluster.PauseSession(asleep.ID())
				at := w.Cluster.Leader()
				trouble.begin(w.Cluster, at)
				if err := first.Resign(w.Context()); err != nil {
					t.Error(err)
				}
				term := <-got
				if err := <-gone; !errors.Is(err, coord.ErrSessionExpired) {
					t.Errorf("the one that stood still: %v", err)
				}
				if term.Candidate() != "c" || term.Token().Zxid <= first.Token().Zxid {
					t.Errorf("%s, in %v", term.Candidate(), term.Token())
				}
				trouble.end(w.Cluster, at)
			})
		})
	}
}

// TestRandomFaults: programs lead for a while, give up, lose their members and their sessions, and hold all that above.
func TestRandomFaults(t *testing.T) {
	for seed := range bubble.Seeds(3) {
		bubble.Run(t, 3, func(w *bubble.World) {
			enter(w, func(a *arena) { playFaults(a, rand.New(rand.NewPCG(seed, 0))) })
		})
	}
}

func playFaults(a *arena, r *rand.Rand) {
	for i := range 3 {
		a.observe(i)
		long := time.Duration(1+r.IntN(20)) * time.Second
		a.start(string(rune('a'+i)), func(ctx context.Context) {
			select {
			case <-ctx.Done():
			case <-time.After(long):
			}
		}, i)
	}
	kinds := slices.Sorted(maps.Keys(troubles))
	for range 20 {
		time.Sleep(time.Duration(r.IntN(10)) * time.Second)
		trouble, i := troubles[kinds[r.IntN(len(kinds))]], r.IntN(3)
		trouble.begin(a.Cluster, i)
		time.Sleep(time.Duration(r.IntN(25)) * time.Second)
		trouble.end(a.Cluster, i)
	}
	a.mu.Lock()
	newest := a.newest
	a.mu.Unlock()
	a.eventually("somebody leads after all", func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return a.newest > newest
	})
}
