package check

import (
	"testing"
	"time"

	"github.com/coord-kv/coord/op"
)

// recovered says that the history goes on without faults.
func (s *story) recovered() {
	s.h.Recovery = Recovery{Healed: s.now(), Equal: s.now(), Probed: s.now(), End: s.now(), Bound: time.Minute}
}

func (s *story) delete(path string) *Call { return s.write(1, &op.Delete{Path: path, If: op.Always}) }

// jobs is a story about a queue at /q with three items, of which a consumer has received the first and acknowledged it.
type jobs struct {
	*story
	session op.SessionID
	receipt *Receipt
}

func newJobs(t *testing.T) *jobs {
	q := &jobs{story: newStory(t)}
	for _, path := range []string{"/q", "/q/items", "/q/claims", "/q/items/99-0", "/q/items/99-1", "/q/items/98-2"} {
		q.create(path, "")
	}
	q.write(1, &op.SetQuota{Path: "/q/items", Quota: op.Quota{HardCount: 10}})
	q.session = q.open(1)
	q.h.Small.Pushed = []string{"/q/items/99-0", "/q/items/99-1", "/q/items/98-2"}
	q.receipt = q.receives("99-0")
	q.write(1, &op.Txn{Then: []op.Op{
		&op.Delete{Path: "/q/claims/99-0", If: op.Always}, &op.Delete{Path: "/q/items/99-0", If: op.Always},
	}})
	q.receipt.Acked = true
	q.accepts()
	return q
}

func (q *jobs) receives(id string) *Receipt {
	claim := q.ephemeral(q.session, "/q/claims/"+id).Result
	r := &Receipt{
		Client: 1, Session: q.session, Queue: "/q", Item: "/q/items/" + id, Claim: claim.Zxid, Told: q.now(), Over: true,
	}
	q.h.Small.Receipts = append(q.h.Small.Receipts, r)
	return r
}

func TestQueues(t *testing.T) {
	for why, doctor := range map[string]func(q *jobs){
		"which it hasn't":                   func(q *jobs) { q.receipt.Claim++ },
		"in s-63 was told":                  func(q *jobs) { q.receipt.Session = 0x63 },
		"after its session was lost at":     func(q *jobs) { q.receipt.Lost = Moment{q.receipt.Told.Order - 1, 0} },
		"and so was client 1":               func(q *jobs) { again := *q.receipt; q.h.Small.Receipts = append(q.h.Small.Receipts, &again) },
		"is neither there nor":              func(q *jobs) { q.h.Small.Pushed = append(q.h.Small.Pushed, "/q/items/99-7") },
		"and nobody had claimed it":         func(q *jobs) { q.delete("/q/items/99-1") },
		"and it is in the queue":            func(q *jobs) { q.receives("99-1").Acked = true },
		"/q/items/99-1 before it never was": func(q *jobs) { q.create("/q/items/99-3", ""); q.receives("99-3") },
		"waits, and 98-2 is free": func(q *jobs) {
			q.h.Small.Receipts = append(q.h.Small.Receipts, &Receipt{Client: 1, Session: q.session, Queue: "/q"})
			q.recovered()
		},
	} {
		q := newJobs(t)
		doctor(q)
		q.rejects(Queues, why)
	}

	// One that was returned may be passed over, and so may another priority.
	q := newJobs(t)
	q.receives("99-1")
	q.delete("/q/claims/99-1")
	q.create("/q/items/99-3", "")
	q.receives("99-3")
	q.accepts()
}

func TestCounters(t *testing.T) {
	s := newStory(t)
	s.create("/n", "2")
	s.set("/n", "5")
	first, second := &Addition{"/n", 2, 2, true}, &Addition{"/n", 3, 5, true}
	maybe := &Addition{"/n", 4, 0, false}
	s.h.Small.Additions = []*Addition{first, second, maybe}
	s.accepts()
	second.Result = 2
	s.rejects(Counters, "two additions have led /n to 2")
	second.Result, second.Delta = 5, 4
	s.rejects(Counters, "/n ends at 5, and from 6 to 10 was added")
	second.Delta = 3
	s.set("/n", "9")
	s.accepts() // the one whose answer was lost
	s.set("/n", "10")
	s.rejects(Counters, "/n ends at 10, and from 5 to 9 was added")
}

// newSteps is a story about a double barrier of two at /d: a round that has begun and is over.
func newSteps(t *testing.T) (s *story, a, b *Passage) {
	s = newStory(t)
	s.create("/d", "")
	s.create("/d/members", "")
	a, b = s.enters(), s.enters()
	ready := s.create("/d/ready", "").Result.Zxid
	s.delete(a.path())
	s.delete(b.path())
	a.Round, a.Through, a.Over = ready, s.ns.Zxid(), true
	b.Round, b.Through, b.Over = ready, s.ns.Zxid(), true
	s.accepts()
	return s, a, b
}

func (s *story) enters() *Passage {
	p := &Passage{Client: 1, Session: s.open(1), Barrier: "/d", Count: 2}
	s.ephemeral(p.Session, p.path())
	s.h.Small.Passages = append(s.h.Small.Passages, p)
	return p
}

func (p *Passage) path() string { return p.Barrier + "/members/" + p.Session.String() }

func TestBarriers(t *testing.T) {
	s, a, _ := newSteps(t)
	a.Count = 3
	s.rejects(Barriers, "and only 2 of 3 had come")

	s, a, _ = newSteps(t)
	a.Through--
	s.rejects(Barriers, "and somebody was still in")

	s, a, _ = newSteps(t)
	a.Round++
	s.rejects(Barriers, "which there never was")

	s, _, _ = newSteps(t)
	s.delete("/d/ready")
	one := s.enters()
	s.recovered()
	s.accepts() // one alone waits
	one.Over, one.Round = true, s.create("/d/ready", "").Result.Zxid
	s.rejects(Barriers, "and only 1 of 2 had come") // those of the round before don't count
	s.delete("/d/ready")
	one.Over, one.Round = false, 0
	s.enters()
	s.rejects(Barriers, "waits for /d, and 2 of 2 are in")
}

func TestGates(t *testing.T) {
	s := newStory(t)
	id := s.open(1)
	s.create("/b", "")
	s.delete("/b")
	through := &Gate{Client: 1, Session: id, Barrier: "/b", Zxid: s.ns.Zxid(), Over: true}
	waits := &Gate{Client: 2, Session: id, Barrier: "/b"}
	s.h.Small.Gates = []*Gate{through, waits}
	s.accepts()
	through.Zxid--
	s.rejects(Gates, "client 1 in s-1 was let through /b at zxid 2, where it was closed")
	through.Zxid++
	s.recovered()
	s.rejects(Gates, "client 2 in s-1 waits for /b, which isn't closed")
	s.create("/b", "")
	s.accepts()
}

func TestMembers(t *testing.T) {
	s := newStory(t)
	s.create("/g", "")
	s.ephemeral(s.open(1), "/g/a")
	s.h.Small.Listings = []*Listing{{Watcher: 1, Group: "/g", Zxid: 1}}
	replace := []op.Op{&op.Delete{Path: "/g/a", If: op.Always}, &op.Create{Path: "/g/a", Kind: op.Ephemeral}}
	id := s.open(1)
	s.do(1, &op.Request{Session: id, Op: &op.Txn{Then: replace}})
	s.do(1, &op.Request{Session: id, Op: &op.Delete{Path: "/g/a", If: op.Always}})
	s.ephemeral(id, "/g/a")
	s.accepts()
	s.delete("/g/a")
	s.rejects(Members, "/g/a went at zxid 8, and its session s-4 lives")
}

func TestLatches(t *testing.T) {
	s := newStory(t)
	s.create("/l", "2")
	s.create("/l/a", "")
	s.create("/l/b", "")
	s.h.Small.Openings = []Opening{{"/l", s.ns.Zxid()}}
	s.accepts()
	s.h.Small.Openings[0].Zxid--
	s.rejects(Latches, "/l was open at zxid 2, and had been counted down 1 times of 2")
	s.h.Small.Openings[0] = Opening{"/m", 3}
	s.rejects(Latches, "counted down 0 times of 0")
}

func TestGroups(t *testing.T) {
	story := func() (*story, *Listing, *Listing) {
		s := newStory(t)
		s.create("/g", "")
		id := s.open(1)
		s.ephemeral(id, "/g/a")
		first := &Listing{Watcher: 1, Group: "/g", Zxid: s.ns.Zxid(), Members: []string{"a " + id.String()}}
		s.do(1, &op.Request{Session: id, Op: &op.CloseSession{Session: id}})
		last := &Listing{Watcher: 1, Group: "/g", Zxid: s.ns.Zxid(), Open: true}
		s.h.Small.Listings = []*Listing{first, last}
		s.accepts()
		return s, first, last
	}
	s, first, _ := story()
	first.Members = nil
	s.rejects(Groups, "watcher 1 saw [] in /g at zxid 3, where [a s-2] were")

	s, first, last := story()
	last.Members = first.Members // of a session that has ended
	s.rejects(Groups, "saw [a s-2] in /g at zxid 4, where [] were")

	s, first, last = story()
	first.Zxid, first.Members, last.Zxid, last.Members = last.Zxid, nil, first.Zxid, first.Members
	s.rejects(Groups, "as of zxid 3 after 4")

	s, first, _ = story()
	s.h.Small.Listings, first.Open = []*Listing{first}, true
	s.recovered()
	s.rejects(Groups, "watcher 1 saw [a s-2] in /g last, and in the end [] are there")

	s, first, _ = story()
	first.Passing = true // its data says nothing of a status
	s.rejects(Groups, "watcher 1 saw [a s-2] in /g at zxid 3, where [] were")
}
