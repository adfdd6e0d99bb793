package peer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// BootstrapConfig describes a member's first start. Name, ID, Members and Announce are required.
type BootstrapConfig struct {
	Name    string
	ID      uint64   // drawn, and durable before Bootstrap is called
	Members []Member // the static list, this member included; their IDs are not looked at

	// Announce is called, by one goroutine, with what Handler.Meet has to answer from now on: once before the first member is asked,
	// and whenever another's id was learned. The others wait for that.
	Announce func(Introduction)

	// Waiting is called, by one goroutine, with what Bootstrap waits for, after each answer that it got or missed. It must not block.
	Waiting func(Wait)

	Logger *slog.Logger
	Dial   Dial
	Every  time.Duration // between two questions to the same member, default 200 ms; after 25 times that the log says who is missing
}

// Wait is what a first start waits for.
type Wait struct {
	Why      []string // in words for people: whose answer is missing, or not yet the one that is needed
	Answered []string // the names of the others that answered when they were asked last
}

func (c BootstrapConfig) validate() error {
	switch self := indexOf(c.Members, c.Name); {
	case c.ID == 0 || c.Announce == nil:
		return errors.New("peer: Bootstrap needs a member id and Announce")
	case len(c.Members) > maxMembers:
		return fmt.Errorf("peer: a member list of %d, at most %d are allowed", len(c.Members), maxMembers)
	case self < 0:
		return fmt.Errorf("this member's name %q is not in the member list", c.Name)
	}
	if i := slices.IndexFunc(c.Members, func(m Member) bool { return m.Addr == "" && m.Name != c.Name }); i >= 0 {
		return fmt.Errorf("the member list has no address for %q", c.Members[i].Name)
	}
	return validateMembers(c.Members)
}

// Bootstrap asks every listed member who it is until it is certain that this member may start, and as part of which cluster: one that
// all found together now, or one that the others founded while this member was waiting. The caller makes the Roster durable before its
// first vote. An error other than ctx's is for the operator: it names the situation and the way out.
//
// It is for a member whose directory holds an id and no configuration. Its Network has to be serving meanwhile, and to go on answering
// afterwards: others may still wait for it.
func Bootstrap(ctx context.Context, cfg BootstrapConfig) (Roster, error) {
	setDefault(&cfg.Logger, slog.New(slog.DiscardHandler))
	setDefault(&cfg.Every, 200*time.Millisecond)
	if cfg.Dial == nil {
		cfg.Dial = dialTCP
	}
	if err := cfg.validate(); err != nil {
		return Roster{}, err
	}
	b := newBootstrap(cfg)
	ctx, cancel := context.WithCancel(ctx)
	defer b.asking.Wait()
	defer cancel()
	b.announce()
	for _, m := range cfg.Members {
		if m.Name != cfg.Name {
			b.asking.Go(func() { b.ask(ctx, m) })
		}
	}
	return b.conclude(ctx)
}

type bootstrap struct {
	cfg    BootstrapConfig
	asking sync.WaitGroup
	heard  chan hearing

	// Of the goroutine in conclude, other than mine's reading under lock.
	answers  map[string]Introduction
	failures map[string]error

	lock sync.Mutex
	mine Introduction
}

// hearing is the outcome of one question.
type hearing struct {
	name   string
	answer Introduction
	err    error
}

func newBootstrap(cfg BootstrapConfig) *bootstrap {
	mine := Introduction{Name: cfg.Name, Member: cfg.ID, Fresh: true, Members: slices.Clone(cfg.Members)}
	for i := range mine.Members {
		mine.Members[i].ID = 0
	}
	mine.Members[indexOf(mine.Members, cfg.Name)].ID = cfg.ID
	return &bootstrap{
		cfg:      cfg,
		heard:    make(chan hearing),
		answers:  make(map[string]Introduction),
		failures: make(map[string]error),
		mine:     mine,
	}
}

// ask puts the question to one member again and again: until all have decided, its answer may change. The first few follow each other
// quickly, because members that start together need two rounds: to learn the ids, and to hear that all have learned them.
func (b *bootstrap) ask(ctx context.Context, m Member) {
	for every := b.cfg.Every / 16; ctx.Err() == nil; every = min(2*every, b.cfg.Every) {
		answer, err := Meet(ctx, b.cfg.Dial, m.Addr, b.introduction())
		select {
		case b.heard <- hearing{name: m.Name, answer: answer, err: err}:
		case <-ctx.Done():
		}
		pause(ctx, every)
	}
}

func (b *bootstrap) conclude(ctx context.Context) (Roster, error) {
	report := time.NewTicker(25 * b.cfg.Every)
	defer report.Stop()
	for {
		v := decide(b.mine, b.answers)
		switch {
		case v.failure != nil:
			return Roster{}, fmt.Errorf("couldn't start for the first time: %w", v.failure)
		case v.roster != nil:
			return *v.roster, nil
		}
		b.tell(v.waiting)
		select {
		case h := <-b.heard:
			b.learn(h)
		case <-report.C:
			b.report(v.waiting)
		case <-ctx.Done():
			return Roster{}, fmt.Errorf("couldn't start for the first time: %s: %w", strings.Join(v.waiting, "; "), ctx.Err())
		}
	}
}

// learn takes a member that has gone silent at its last word. If it has decided since, it did so by the ids that it and this member
// agreed on, which gives the same roster; if this member has learned another id meanwhile, they don't agree, and it waits.
func (b *bootstrap) learn(h hearing) {
	if h.err != nil {
		b.failures[h.name] = h.err
		return
	}
	delete(b.failures, h.name)
	b.answers[h.name] = h.answer
	i := indexOf(b.mine.Members, h.name)
	if b.mine.Members[i].ID == h.answer.Member {
		return
	}
	b.lock.Lock()
	b.mine.Members = slices.Clone(b.mine.Members)
	b.mine.Members[i].ID = h.answer.Member
	b.lock.Unlock()
	b.announce()
}

func (b *bootstrap) announce() { b.cfg.Announce(b.introduction()) }

func (b *bootstrap) introduction() Introduction {
	b.lock.Lock()
	defer b.lock.Unlock()
	return b.mine
}

func (b *bootstrap) tell(why []string) {
	if b.cfg.Waiting == nil {
		return
	}
	w := Wait{Why: why}
	for _, m := range others(b.mine, b.answers) {
		if b.failures[m.Name] == nil {
			w.Answered = append(w.Answered, m.Name)
		}
	}
	b.cfg.Waiting(w)
}

func (b *bootstrap) report(waiting []string) {
	failures := make([]string, 0, len(b.failures))
	for _, name := range slices.Sorted(maps.Keys(b.failures)) {
		failures = append(failures, b.failures[name].Error())
	}
	b.cfg.Logger.Warn("waiting for every member of the list before the first start",
		"waiting", strings.Join(waiting, "; "), "failures", strings.Join(failures, "; "))
}
