package check

import (
	"testing"
	"time"

	"github.com/coord-kv/coord/op"
)

// queue is a story about one lock at /l and one election at /v.
type queue struct{ *story }

func newQueue(t *testing.T) *queue {
	s := newStory(t)
	s.create("/l", "")
	s.create("/v", "")
	return &queue{story: s}
}

// joins makes a contender in a session of its own.
func (q *queue) joins(dir, mark string, rule op.Rule) *Turn {
	id := q.open(1)
	turn := &Turn{Client: 1, Dir: dir, Rule: rule, Session: id, Asked: q.now()}
	made := q.do(1, &op.Request{Session: id, Op: &op.Create{Path: dir + "/" + mark, Sequence: true, Kind: op.Ephemeral}})
	turn.Path, turn.Token = made.Result.Path, made.Result.Zxid
	q.h.Turns = append(q.h.Turns, turn)
	return turn
}

func (q *queue) granted(t *Turn) *Turn {
	t.Granted, t.Told = q.ns.Zxid(), q.now()
	t.Ended = t.Told
	return t
}

func (q *queue) leaves(t *Turn) {
	q.do(1, &op.Request{Session: t.Session, Op: &op.Delete{Path: t.Path, If: op.Always}})
}

// leads takes the term for the first in line.
func (q *queue) leads(t *Turn) *Turn {
	lead := q.do(1, &op.Request{Session: t.Session, Op: &op.Lead{Dir: t.Dir, Node: op.Base(t.Path)}})
	t.Leads, t.Token = true, lead.Result.Zxid
	return q.granted(t)
}

const (
	plain  = "x-lock-"
	reader = "x-__READ__"
	writer = "x-__WRIT__"
	latch  = "x-latch-"
)

// handOver is a lock that passes from one to the next.
func handOver(t *testing.T) (q *queue, first, second *Turn) {
	q = newQueue(t)
	first = q.granted(q.joins("/l", plain, op.Rule{}))
	second = q.joins("/l", plain, op.Rule{})
	q.leaves(first)
	q.granted(second)
	q.accepts()
	return q, first, second
}

func TestGrants(t *testing.T) {
	for why, doctor := range map[string]func(q *queue, first, second *Turn){
		"1 stood before it, 1 of them to be alone": func(_ *queue, _, second *Turn) { second.Granted-- },
		"its node didn't stand there":              func(q *queue, first, _ *Turn) { first.Granted = q.ns.Zxid() },
		"or its node was another's":                func(_ *queue, first, second *Turn) { second.Session = first.Session },
		"its node was made by":                     func(_ *queue, _, second *Turn) { second.Token++ },
		"which there never was":                    func(_ *queue, _, second *Turn) { second.Granted = 99 },
	} {
		q, first, second := handOver(t)
		doctor(q, first, second)
		q.rejects(Grants, why)
	}
}

// TestGrantsOfModes lets readers hold together, and so many as a semaphore has slots, and no more.
func TestGrantsOfModes(t *testing.T) {
	q := newQueue(t)
	q.granted(q.joins("/l", reader, op.Rule{Shared: true}))
	q.granted(q.joins("/l", reader, op.Rule{Shared: true}))
	w := q.joins("/l", writer, op.Rule{})
	behind := q.joins("/l", reader, op.Rule{Shared: true})
	q.accepts()
	q.granted(w)
	q.rejects(Grants, "2 stood before it, 0 of them to be alone")
	q.rejects(Exclusion, "while it was held by")
	w.Told = Moment{}
	q.granted(behind)
	q.rejects(Grants, "1 of them to be alone")

	q = newQueue(t)
	for range 2 {
		q.granted(q.joins("/l", "x-slot2-", op.Rule{Slots: 2}))
	}
	third := q.joins("/l", "x-slot2-", op.Rule{Slots: 2})
	q.accepts()
	q.granted(third)
	q.rejects(Grants, "2 stood before it")
	q.rejects(Exclusion, "while 2 held its 2 slots")
}

// TestGrantsOfSessions rejects a grant as of a state in which the session had ended.
func TestGrantsOfSessions(t *testing.T) {
	q := newQueue(t)
	turn := q.joins("/l", plain, op.Rule{})
	q.decide(&op.Request{Op: &op.Expire{Sessions: []op.Expiry{{Session: turn.Session, Epoch: 1, Timeout: 10 * time.Second}}}})
	q.granted(turn)
	q.rejects(Grants, "its node didn't stand there")
}

func TestTerms(t *testing.T) {
	story := func() (*queue, *Turn, *Turn) {
		q := newQueue(t)
		first := q.leads(q.joins("/v", latch, op.Rule{}))
		second := q.joins("/v", latch, op.Rule{})
		q.leaves(first)
		q.leads(second)
		q.accepts()
		return q, first, second
	}
	q, _, second := story()
	second.Token--
	q.rejects(Grants, "the term was another's")

	q, first, second := story()
	second.Token = first.Token
	q.rejects(Tokens, "after client 1 in s-3, granted the election /v at zxid 5")

	q, _, second = story()
	second.Granted-- // it believed to lead before the other had resigned
	second.Granted--
	q.rejects(Exclusion, "while it was held by")
}

func TestExclusion(t *testing.T) {
	q, _, second := handOver(t)
	second.Granted--
	q.rejects(Exclusion, "while it was held by client 1")
}

func TestTokens(t *testing.T) {
	q, first, second := handOver(t)
	first.Token = second.Token
	q.rejects(Tokens, "with token 6 after client 1")
}

func TestFair(t *testing.T) {
	q := newQueue(t)
	first, second := q.joins("/l", plain, op.Rule{}), q.joins("/l", plain, op.Rule{})
	q.granted(second)
	q.leaves(second)
	q.granted(first)
	q.rejects(Fair, "who had come at 4, after client 1")

	// One who goes to the end of the line comes anew, and one who gives up is no concern of those behind.
	q = newQueue(t)
	first, second = q.joins("/l", plain, op.Rule{}), q.joins("/l", plain, op.Rule{})
	q.leaves(first)
	q.granted(second)
	q.leaves(second)
	q.granted(q.joins("/l", plain, op.Rule{}))
	q.accepts()
}

func TestKept(t *testing.T) {
	q := newQueue(t)
	first := q.joins("/l", plain, op.Rule{})
	first.AtLeast = 5 * time.Second // each decision is a second of age
	q.granted(first)
	second := q.joins("/l", plain, op.Rule{})
	q.leaves(first)
	q.granted(second)
	q.rejects(Kept, "which was to be kept for its last holder for 2000 ms more")
	first.AtLeast = 3 * time.Second
	q.accepts()
}

// TestDelayed plants what a delay is to prevent: a node that goes with its session, and one that somebody takes away.
func TestDelayed(t *testing.T) {
	lost := func(ttl time.Duration) (q *queue, first *Turn) {
		q = newQueue(t)
		id := q.open(1)
		made := q.do(1, &op.Request{Session: id, Op: &op.Create{Path: "/l/" + plain, Sequence: true, Kind: op.Ephemeral, TTL: ttl}})
		first = &Turn{
			Client: 1, Dir: "/l", Session: id, Asked: q.now(), Path: made.Result.Path, Token: made.Result.Zxid,
			Owner: "a", Delay: 8 * time.Second, // each decision is a second of age
		}
		q.h.Turns = append(q.h.Turns, q.granted(first))
		return q, first
	}
	expire := func(q *queue, t *Turn) {
		q.decide(&op.Request{Op: &op.Expire{Sessions: []op.Expiry{{Session: t.Session, Epoch: 1, Timeout: 10 * time.Second}}}})
	}
	const why = "which was to be closed to all but a for 6000 ms more"
	second := func(q *queue, owner string) *Turn {
		s := q.joins("/l", plain, op.Rule{})
		s.Owner = owner
		return s
	}

	q, first := lost(0)
	expire(q, first)
	q.granted(second(q, "b"))
	q.rejects(Delayed, why)
	q.h.Turns[1].Owner = "a"
	q.accepts()

	// One waits, and takes the place of what the first has left. The owner may do that, and whoever uses force.
	for record, ok := range map[string]bool{"": false, `{"ended":"released"}`: false, `{"ended":"broken"}`: true} {
		q, first = lost(8 * time.Second)
		expire(q, first)
		s := second(q, "b")
		q.do(1, &op.Request{Session: s.Session, Op: &op.Txn{Then: []op.Op{
			&op.Delete{Path: first.Path, If: op.Always}, &op.Create{Path: "/r-", Data: []byte(record), Sequence: true},
		}}})
		q.granted(s)
		if ok {
			q.accepts()
			continue
		}
		q.rejects(Delayed, "which was to be closed to all but a for 5000 ms more")
		q.h.Turns[1].Owner = "a"
		q.accepts()
	}

	// The owner comes, is told nothing, and dies.
	q, first = lost(8 * time.Second)
	expire(q, first)
	again := second(q, "a")
	q.h.Turns = append(q.h.Turns, &Turn{Client: 1, Dir: "/v", Leads: true, Session: again.Session, Asked: q.now(), Ended: q.now()})
	q.do(1, &op.Request{Session: again.Session, Op: &op.Delete{Path: first.Path, If: op.Always}})
	expire(q, again)
	q.granted(second(q, "b"))
	q.accepts()

	// A session that its owner closes delays nobody; one that is killed does; and any delay is over some time.
	for killed := range 2 {
		q, first = lost(0)
		q.do(1, &op.Request{Session: first.Session, Op: &op.CloseSession{Session: first.Session, Killed: killed == 1}})
		q.granted(second(q, "b"))
		if killed == 1 {
			q.rejects(Delayed, why)
			first.Delay = 2 * time.Second
		}
		q.accepts()
	}
}

func TestLate(t *testing.T) {
	q, _, second := handOver(t)
	second.Lost = q.now()
	q.accepts()
	second.Lost.Order = second.Told.Order - 1
	q.rejects(Late, "after its session was lost at")
}

func TestRemembered(t *testing.T) {
	q, _, second := handOver(t)
	waits := q.joins("/l", plain, op.Rule{})
	q.accepts() // the history ends with faults
	q.leaves(second)
	q.h.Recovery = Recovery{Healed: q.now(), Equal: q.now(), Probed: q.now(), End: q.now(), Bound: time.Minute}
	q.rejects(Remembered, "still waits for /l")
	waits.Ended = q.now()
	q.accepts()
}

func TestSightings(t *testing.T) {
	q := newQueue(t)
	first := q.leads(q.joins("/v", latch, op.Rule{}))
	q.leaves(first)
	second := q.leads(q.joins("/v", latch, op.Rule{}))
	see := func(tokens ...op.Zxid) {
		q.h.Sightings = nil
		for _, token := range tokens {
			q.h.Sightings = append(q.h.Sightings, Sighting{Observer: 1, Dir: "/v", Token: token})
		}
	}
	see(0, first.Token, 0, second.Token)
	q.accepts()
	see(second.Token, 0, first.Token)
	q.rejects(Sightings, "saw the term 5 of /v after 9")
	see(first.Token + 1)
	q.rejects(Sightings, "which there never was")
}

// TestFencingByGrants rejects a write under a token of somebody after whom another was granted the lock, even if that one
// has not written.
func TestFencingByGrants(t *testing.T) {
	q, first, second := handOver(t)
	c := q.create("/r", "")
	c.Request = &op.Request{Op: &op.Txn{If: []op.Op{&op.Holder{Dir: "/l", Token: second.Token}}}}
	if err := Fencing(q.h); err != nil {
		t.Error(err)
	}
	c.Request = &op.Request{Op: &op.Txn{If: []op.Op{&op.Holder{Dir: "/l", Token: first.Token}}}}
	q.rejects(Fencing, "was done with the token 4 after client 1")
	c.Request = &op.Request{Op: &op.Txn{If: []op.Op{&op.Term{Dir: "/l", Token: first.Token}}}}
	q.rejects(Fencing, "was done with the token 4 after client 1")
}

func TestRegisters(t *testing.T) {
	s := newStory(t)
	s.create("/fences", "")
	s.create("/fences/db", "41")
	s.set("/fences/db", "57")
	s.accepts()
	s.set("/fences/db", "56")
	s.rejects(Registers, `/fences/db was set to "56" at zxid 4, after 57`)
}

// TestSequencesOfALaterDirectory lets numbers begin anew in a directory that was deleted and made again.
func TestSequencesOfALaterDirectory(t *testing.T) {
	s := newStory(t)
	for range 2 {
		s.create("/d", "")
		s.write(1, &op.Create{Path: "/d/s-", Sequence: true})
		s.write(1, &op.Delete{Path: "/d", If: op.Always, Recursive: true})
	}
	s.accepts()
}
