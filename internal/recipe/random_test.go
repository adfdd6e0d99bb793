package recipe

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/coord-kv/coord/op"
)

var (
	seeds     = flag.Int("seeds", 100, "how many random schedules to play")
	firstSeed = flag.Uint64("first-seed", 1, "the first of them")
)

// TestRandom plays clients in random interleavings, of single calls, in which sessions end at any moment, known or not
// known to their clients, contexts end, time passes and locks are broken. What it holds them to:
//
//   - excluded: at no moment do two hold the lock that exclude each other, where to hold it is to have been granted it
//     while one's node stands
//   - growing: exclusive tokens only grow, in the order of the grants
//   - fair: an exclusive lock is granted in the order of coming
//   - remembered: when nobody can go on, nobody waits
//   - alive: nobody is granted anything by an answer to what it asked after the end of its session
//   - clean: nothing of those who are done is left in the line
//   - delayed: what a holder's lost session leaves is gone only when the delay is over, by force, or by its own owner, and
//     until then nobody holds the lock
//   - spared: when nobody can go on, no owner who wants to be alone waits for what it has left itself
func TestRandom(t *testing.T) {
	total := tally{}
	for i := range *seeds {
		seed := *firstSeed + uint64(i)
		g := &game{world: newWorld(t), rng: rand.New(rand.NewPCG(seed, 0)), tally: &total, name: fmt.Sprintf("seed %d", seed)}
		g.play()
		if t.Failed() {
			return
		}
	}
	if min(total.grants, total.ended, total.gaveUp, total.broken, total.busy, total.delayed, total.spared, total.waited) == 0 {
		t.Errorf("something never happened: %+v", total)
	}
	t.Logf("%+v", total)
}

type tally struct{ grants, busy, gaveUp, ended, broken, other, delayed, spared, waited int }

// game is one schedule.
type game struct {
	*world
	*tally
	name    string
	rng     *rand.Rand
	mode    func() Spec
	live    []*conn
	over    map[op.SessionID]op.Zxid // when each session ended
	granted map[op.Zxid]Spec         // by token, while the client believes in it
	last    op.Zxid                  // token granted last
	owners  map[op.SessionID]string
	left    *left // what a holder has left whose session has ended
}

// left keeps the lock closed.
type left struct {
	token op.Zxid
	owner string
	until uint64 // by the age of the state
}

func (g *game) fail(format string, args ...any) {
	g.t.Errorf(g.name+": "+format, args...)
}

func (g *game) play() {
	g.over, g.granted, g.owners = map[op.SessionID]op.Zxid{}, map[op.Zxid]Spec{}, map[op.SessionID]string{}
	g.applied = func(r *op.Request, _ *op.Result) { g.checkLeft(r) }
	specs := [][]Spec{
		{{Mode: Exclusive}},
		{{Mode: Exclusive}, {Mode: Exclusive, AtLeast: 50 * time.Millisecond}},
		{{Mode: Read}, {Mode: Read}, {Mode: Write}},
		{{Mode: Slot, Slots: 2}},
		{{Mode: Exclusive, Delay: 50 * time.Millisecond}, {Mode: Exclusive}, {Mode: Exclusive, Delay: time.Second}},
		{{Mode: Read}, {Mode: Write, Delay: 50 * time.Millisecond}, {Mode: Write, AtLeast: 20 * time.Millisecond, Delay: time.Second}},
	}[g.rng.IntN(6)]
	g.mode = func() Spec { return specs[g.rng.IntN(len(specs))] }
	for i := range 2 + g.rng.IntN(5) {
		g.spawn(fmt.Sprint("client ", i), g.client)
	}
	trouble := 200 + g.rng.IntN(400)
	g.run(g.rng, func() {
		if trouble--; trouble > 0 {
			g.misfortune()
		}
		g.check()
	})
	g.checkSpared()
	g.settleDown()
}

// settleDown lets minimum holds run out and then looks whether anybody or anything is left.
func (g *game) settleDown() {
	for range 20 {
		g.pass(1000)
		g.run(g.rng, g.check)
		g.checkSpared()
	}
	for _, task := range g.tasks {
		if !task.done {
			g.fail("%s waits for ever", task.name)
		}
	}
	for n, err := range children(context.Background(), g.admin(), "/locks/x", true) {
		if err == nil {
			g.fail("%s is left", n.Path)
		}
	}
}

// client takes the lock and gives it back a few times, in sessions of its own.
func (g *game) client(ctx context.Context, t *task) {
	defer stopped()
	c := g.begin(t)
	for range 4 {
		if _, ended := g.over[c.id]; ended && g.rng.IntN(2) == 0 { // its last request may have told it
			c.learn()
		}
		if c.lost {
			c = g.begin(t)
		}
		spec := g.mode()
		spec.Name, spec.Owner, spec.Rand = "x", t.name, g
		inner, cancel := context.WithCancel(ctx)
		t.cancel = cancel
		l, err := NewLock(c, spec)
		if err != nil {
			g.fail("%v", err)
			return
		}
		take := l.Acquire
		if g.rng.IntN(4) == 0 {
			take = l.Try
		}
		if grant, err := take(inner); err == nil {
			g.hold(t, c, grant, spec)
		} else {
			g.count(err)
		}
		cancel()
	}
	g.expire(c.id)
	c.learn()
}

func (g *game) begin(t *task) *conn {
	c := g.open().as(t)
	g.live = append(g.live, c)
	g.owners[c.id] = t.name
	return c
}

func (g *game) hold(t *task, c *conn, grant *Grant, spec Spec) {
	g.grants++
	if at, ended := g.over[c.id]; ended && at <= c.last {
		g.fail("%s was granted %d by a request sent after its session ended at %d", t.name, grant.Token, at)
	}
	if spec.Mode == Exclusive {
		if grant.Token <= g.last {
			g.fail("token %d after %d", grant.Token, g.last)
		}
	}
	g.last = max(g.last, grant.Token)
	g.granted[grant.Token] = spec
	g.check()
	for range g.rng.IntN(4) {
		t.pause(nil)
	}
	err := grant.Release(context.Background())
	delete(g.granted, grant.Token)
	if err != nil {
		g.count(err)
	}
}

func (g *game) count(err error) {
	switch {
	case errors.Is(err, context.Canceled):
		g.gaveUp++
	case errors.Is(err, &op.Error{Code: op.LockHeld}):
		g.busy++
	case errors.Is(err, &op.Error{Code: op.SessionExpired}):
		g.ended++
	case errors.Is(err, &op.Error{Code: op.NotHolder}):
		g.broken++
	default:
		g.other++
		g.fail("%v", err)
	}
}

// misfortune is what can happen at any moment.
func (g *game) misfortune() {
	if len(g.live) == 0 {
		return
	}
	c := g.live[g.rng.IntN(len(g.live))]
	switch g.rng.IntN(60) {
	case 0:
		g.endSession(c)
	case 9, 10:
		if spec, ok := g.granted[g.last]; ok && spec.Owner == g.owners[c.id] { // a holder's
			g.endSession(c)
		}
	case 1:
		if _, ended := g.over[c.id]; ended {
			c.learn()
		}
	case 2, 3:
		c.task.cancel()
	case 4:
		g.pass(uint64(g.rng.IntN(60)))
	case 5:
		// Whatever it says: who holds the lock changes all the time.
		Break(context.Background(), g.admin(), "x", 0, "misfortune")
	case 6, 7, 8:
		if _, ended := g.over[c.id]; ended { // a client learns of it sooner or later
			c.learn()
		}
	}
}

func (g *game) endSession(c *conn) {
	if _, ended := g.over[c.id]; ended {
		return
	}
	for token, spec := range g.granted {
		if spec.Owner == g.owners[c.id] && spec.Delay > 0 && g.stands(token) {
			g.left = &left{token, spec.Owner, g.machine.Age() + uint64(spec.Delay.Milliseconds())}
			g.delayed++
		}
	}
	g.expire(c.id)
	g.over[c.id] = g.machine.Zxid()
}

// checkLeft looks, after each request, whether what a holder has left may be gone if it is.
func (g *game) checkLeft(r *op.Request) {
	if g.left == nil || g.stands(g.left.token) {
		return
	}
	switch reaped := r.Op.Verb() == op.VerbReap; {
	case reaped && g.machine.Age() <= g.left.until, !reaped && r.Session != 0 && g.owners[r.Session] != g.left.owner:
		g.fail("what %s has left was gone at %d, before %d, by %v of %q", g.left.owner, g.machine.Age(), g.left.until, r.Op.Verb(), g.owners[r.Session])
	case r.Session != 0:
		g.spared++
	}
	g.left = nil
}

// checkSpared looks, when nobody can go on before time passes, whether somebody waits for what its own lost session has left.
func (g *game) checkSpared() {
	i, err := Inspect(context.Background(), g.admin(), "x")
	if err != nil || i.Delayed == nil || i.Kept != 0 { // a minimum hold is for its owner too
		return
	}
	g.waited++
	for _, c := range i.Waiters {
		if c.Owner == i.Delayed.Owner && !c.Shared {
			g.fail("%s waits for what it has left", c.Owner)
		}
	}
}

// check holds all who believe that they hold the lock, and whose nodes stand, against each other.
func (g *game) check() {
	var exclusive, others, slots int
	for token, spec := range g.granted {
		switch {
		case !g.stands(token):
			continue
		case g.left != nil && token != g.left.token:
			g.fail("%d holds what %d has left closed", token, g.left.token)
		}
		switch spec.Mode {
		case Read:
			others++
		case Slot:
			slots++
		default:
			exclusive++
		}
	}
	if exclusive > 1 || exclusive == 1 && others > 0 || slots > 2 {
		g.fail("%d exclusive holders, %d readers, %d slots at once", exclusive, others, slots)
	}
}

func (g *game) stands(token op.Zxid) bool {
	res := g.machine.View().Read(&op.Children{Path: "/locks/x", WithStat: true}, nil)
	for _, n := range res.Nodes {
		if n.Stat.Czxid == token {
			return true
		}
	}
	return false
}
