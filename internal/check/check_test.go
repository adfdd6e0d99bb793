package check

import (
	"testing"
	"time"

	"github.com/coord-kv/coord/op"
)

// TestAccepts lets every checker see a history with a bit of everything in it, and nothing wrong.
func TestAccepts(t *testing.T) {
	s := newStory(t)
	s.create("/r", "a")
	s.set("/r", "b")
	s.read(2, op.Linearizable, &op.Get{Path: "/r"})
	s.read(2, op.Eventual, &op.Children{Path: "/", WithData: true})
	id := s.open(1)
	s.ephemeral(id, "/e")
	seq := s.sequenced(1, id, 1, &op.Create{Path: "/s-", Sequence: true})
	c := s.begin(1, seq)
	s.attempt(c)
	s.end(c, s.attempt(c))
	lost := s.begin(3, &op.Request{Op: &op.Set{Path: "/r", Data: []byte("c"), If: op.Always}})
	s.attempt(lost)
	s.read(2, op.Linearizable, &op.Get{Path: "/r"})
	s.h.Watches = watchAll(s)
	s.decide(&op.Request{Op: &op.Expire{Sessions: []op.Expiry{{Session: id, Epoch: 1, Timeout: 10 * time.Second}}}})
	s.read(2, op.Linearizable, &op.Exists{Path: "/e"})
	s.finish()
	s.accepts()
}

// watchAll returns one watcher of the whole tree that has got all there is, in two streams.
func watchAll(s *story) []*Watch {
	all := newTruth(s.h)
	first := &Watch{Path: "/", Scope: Subtree, From: 0}
	second := &Watch{Path: "/", Scope: Subtree, From: 2}
	for _, e := range all.events {
		w := first
		if e.Zxid > 2 {
			w = second
		}
		if n := len(w.Batches); n > 0 && w.Batches[n-1].At == e.Zxid {
			w.Batches[n-1].Events = append(w.Batches[n-1].Events, e)
		} else {
			w.Batches = append(w.Batches, WatchBatch{[]op.Event{e}, e.Zxid})
		}
	}
	return []*Watch{first, second}
}

func TestZxids(t *testing.T) {
	for name, doctor := range map[string]func(a, b, r *Call){
		"has zxid 1, but began after": func(a, b, r *Call) { a.Result.Zxid, b.Result.Zxid = 2, 1 },
		"both have zxid 7":            func(a, b, r *Call) { a.Result.Zxid, b.Result.Zxid, b.Start.Order, r.Info.Zxid = 7, 7, 0, 9 },
		"has zxid 0, but began after": func(a, b, r *Call) { r.Info.Zxid = 0 },
	} {
		s := newStory(t)
		a, b := s.create("/a", ""), s.create("/b", "")
		r := s.read(2, op.Linearizable, &op.Get{Path: "/a"})
		doctor(a, b, r)
		s.rejects(Zxids, name)
	}
}

func TestAnswers(t *testing.T) {
	for why, doctor := range map[string]func(*Call){
		`path "/b", not "/a"`: func(c *Call) { c.Attempts[0].Result.Path = "/b" },
		"zxid 3, not 1":       func(c *Call) { c.Attempts[0].Result.Zxid = 3 },
		"node_exists, not ok": func(c *Call) {
			c.Attempts[0].Result = &op.Result{Zxid: 1, Err: &op.Error{Code: op.NodeExists, Outcome: op.Decided}}
		},
		"Version:5":                func(c *Call) { c.Attempts[0].Result.Stat.Version = 5 },
		"is not in the log":        func(c *Call) { c.Attempts[0].Tag.Boot = 2 },
		"was refused with no_lead": func(c *Call) { c.Attempts[0].Result = &op.Result{Err: &op.Error{Code: op.NoLeader}} },
	} {
		s := newStory(t)
		doctor(s.create("/a", "x"))
		s.rejects(Answers, why)
	}
}

// TestAnswersOfRepetitions takes an answer that the log gives to no attempt, but gave to the first.
func TestAnswersOfRepetitions(t *testing.T) {
	s := newStory(t)
	id := s.open(1)
	c := s.begin(1, s.sequenced(1, id, 1, &op.Create{Path: "/s-", Sequence: true}))
	first := s.attempt(c)
	c.Attempts = append(c.Attempts, Attempt{Tag: op.Tag{Member: 2, Boot: 1, Call: 1}})
	s.end(c, first)
	s.accepts()
	c.Attempts[1].Result = &op.Result{Zxid: first.Zxid, Path: "/s-0000000007", Stat: first.Stat}
	s.rejects(Answers, `path "/s-0000000007"`)
}

func TestDurable(t *testing.T) {
	s := newStory(t)
	s.create("/a", "x")
	s.create("/b", "y")
	s.h.Log = s.h.Log[:1]
	s.rejects(Durable, "which nothing in the log has")

	s = newStory(t)
	s.create("/a", "x").Request = &op.Request{Op: &op.Create{Path: "/b"}}
	s.rejects(Durable, "which is create(persistent /a")

	s = newStory(t)
	s.create("/a", "x")
	s.h.Log[0].Applied.Order = 9
	s.rejects(Durable, "before anybody had applied entry 1")
}

func TestOnce(t *testing.T) {
	s := newStory(t)
	s.create("/a", "x")
	c := s.set("/a", "y")
	s.h.Log = append(s.h.Log, s.h.Log[1])
	s.rejects(Once, "stands 2 times in the log")
	_ = c

	s = newStory(t)
	c = s.begin(1, &op.Request{Op: &op.Create{Path: "/s-", Sequence: true}})
	s.attempt(c)
	s.end(c, s.attempt(c))
	s.rejects(Once, "was done 2 times")

	s = newStory(t)
	c = s.create("/a", "x")
	c.Result = &op.Result{Err: &op.Error{Code: op.NoLeader}}
	s.rejects(Once, "was refused with no_leader, and was done")

	s = newStory(t)
	c = s.create("/a", "x")
	again := *c.Result
	again.Path = "/b"
	c.Attempts = append(c.Attempts, Attempt{Tag: op.Tag{Member: 2, Boot: 1, Call: 1}, Result: &again})
	s.rejects(Once, "got another answer when it was repeated")
}

func TestReads(t *testing.T) {
	for why, doctor := range map[string]func(*Call){
		`data "z", not "b"`:             func(c *Call) { c.Result.Data = []byte("z") },
		`data "b", not "a"`:             func(c *Call) { c.Info.Zxid, c.Result.Zxid, c.Result.Stat = 1, 1, nil },
		"no_node, not ok":               func(c *Call) { c.Result.Err = &op.Error{Code: op.NoNode, Outcome: op.Decided} },
		"from zxid 9, which there neve": func(c *Call) { c.Info.Zxid = 9 },
		"but asked for 3":               func(c *Call) { c.Read.MinZxid = 3 },
	} {
		s := newStory(t)
		s.create("/a", "a")
		s.set("/a", "b")
		c := s.read(2, op.Linearizable, &op.Get{Path: "/a"})
		s.h.Calls[1].Client = 3 // so that the reader has seen nothing
		doctor(c)
		s.rejects(Reads, why)
	}
}

// stale makes a history in which client 2 reads /a behind the last write, at that level.
func stale(t *testing.T, level op.Level) (*story, *Call) {
	s := newStory(t)
	s.create("/a", "a")
	old := *s.read(2, op.Linearizable, &op.Get{Path: "/a"})
	s.set("/a", "b")
	c := s.read(2, level, &op.Get{Path: "/a"})
	c.Result, c.Info.Zxid = old.Result, old.Info.Zxid
	return s, c
}

// TestLevels shows what each level lets through that the next stronger one doesn't.
func TestLevels(t *testing.T) {
	s, _ := stale(t, op.Eventual)
	s.accepts()

	s, c := stale(t, op.Bounded)
	c.Read.Max, c.Info.Staleness = time.Minute, time.Minute
	s.accepts()
	c.Read.Max = 100 * time.Millisecond
	s.rejects(Reads, "it was to be at most 100ms")
	c.Info.Staleness = -1
	s.rejects(Reads, "did not know how old")

	s, _ = stale(t, op.Sequential) // the writer was another client
	s.accepts()
	s.h.Calls[2].Client = 2
	s.rejects(Reads, "but its client had seen 2")

	s, _ = stale(t, op.Linearizable)
	s.rejects(Zxids, "has zxid 1, but began after")
	s.rejects(Linearizable, "no order of what was done to /a")
}

func TestLinearizable(t *testing.T) {
	for name, doctor := range map[string]func(s *story){
		"a value that was never written": func(s *story) { s.read(2, op.Linearizable, &op.Get{Path: "/a"}).Result.Data = []byte("z") },
		"a write that is lost": func(s *story) {
			s.read(2, op.Linearizable, &op.Get{Path: "/a"})
			s.set("/a", "c").Result.Stat.Version = 1
		},
		"a node that is made twice": func(s *story) { c := s.create("/a", "x"); c.Result = s.h.Calls[0].Result },
		"a condition that didn't hold": func(s *story) {
			c := s.write(2, &op.Set{Path: "/a", Data: []byte("x"), If: op.Cond{Version: 0}})
			c.Result = &op.Result{Stat: &op.Stat{Version: 2}}
		},
		"half a transaction": func(s *story) {
			s.write(1, &op.Txn{Then: []op.Op{
				&op.Set{Path: "/a", Data: []byte("t"), If: op.Always}, &op.Create{Path: "/b", Data: []byte("t")},
			}})
			s.read(2, op.Linearizable, &op.Exists{Path: "/b"}).Result = &op.Result{}
		},
		"an ephemeral node that is someone else's": func(s *story) {
			s.ephemeral(s.open(1), "/e")
			s.read(2, op.Linearizable, &op.Exists{Path: "/e"}).Result.Stat.EphemeralOwner = 77
		},
	} {
		s := newStory(t)
		s.create("/a", "a")
		s.set("/a", "b")
		if err := Linearizable(s.h); err != nil {
			t.Fatal(err)
		}
		doctor(s)
		t.Log(name)
		s.rejects(Linearizable, "no order of what was done to /")
	}
}

// TestLinearizableUnknown takes a write whose outcome is unknown wherever it fits, and only once.
func TestLinearizableUnknown(t *testing.T) {
	s := newStory(t)
	s.create("/a", "a")
	lost := s.begin(3, &op.Request{Op: &op.Set{Path: "/a", Data: []byte("b"), If: op.Always}})
	before := s.read(2, op.Linearizable, &op.Get{Path: "/a"})
	s.attempt(lost)
	s.read(2, op.Linearizable, &op.Get{Path: "/a"})
	s.accepts()
	late := s.read(2, op.Linearizable, &op.Get{Path: "/a"})
	late.Result = before.Result
	s.rejects(Linearizable, "/a")
}

func TestSequences(t *testing.T) {
	node := &op.Create{Path: "/s-", Sequence: true}
	s := newStory(t)
	a, b := s.write(1, node), s.write(1, node)
	b.Result.Path = a.Result.Path
	s.rejects(Sequences, "were both given /s-0000000000")

	s = newStory(t)
	a, b = s.write(1, node), s.write(1, &op.Txn{Then: []op.Op{node}})
	a.Result.Path, b.Result.Results[0].Path = b.Result.Results[0].Path, a.Result.Path
	s.rejects(Sequences, "which had come to number 1")
}

func TestFencing(t *testing.T) {
	s := newStory(t)
	s.create("/l", "")
	s.create("/r", "")
	id := s.open(1)
	contender := &op.Request{Session: id, Op: &op.Create{Path: "/l/x-lock-", Sequence: true, Kind: op.Ephemeral}}
	first := s.do(1, contender).Result.Stat.Czxid
	fenced := func(token op.Zxid) *Call {
		return s.write(1, &op.Txn{If: []op.Op{&op.Holder{Dir: "/l", Token: token}}, Then: []op.Op{&op.Set{Path: "/r", If: op.Always}}})
	}
	fenced(first)
	second := s.do(1, contender).Result.Stat.Czxid
	s.write(1, &op.Delete{Path: "/l/x-lock-0000000000", If: op.Always})
	fenced(second)
	stale := fenced(first)
	s.accepts()
	if stale.Result.Err == nil || stale.Result.Err.Code != op.StaleToken {
		t.Errorf("a stale token got %v", stale.Result.Err)
	}
	stale.Result = &op.Result{Zxid: stale.Result.Zxid, Results: make([]op.Result, 1)}
	s.rejects(Fencing, "was done with the token")
}

func TestWatches(t *testing.T) {
	for why, doctor := range map[string]func(w []*Watch){
		"created /b at 2 is missing": func(w []*Watch) { w[0].Batches[1].Events = nil },
		"created /b at 2 came where created /a": func(w []*Watch) {
			w[0].Batches[0], w[0].Batches[1] = w[0].Batches[1], w[0].Batches[0]
			w[0].Batches[0].At, w[0].Batches[1].At = 1, 2
		},
		"came and should not have":             func(w []*Watch) { w[0].Batches[1].Events = append(w[0].Batches[1].Events, w[0].Batches[0].Events...) },
		"had come to 2":                        func(w []*Watch) { w[1].From = 3 },
		"created /d at 3 is missing":           func(w []*Watch) { w[1].Batches[0].Events = w[1].Batches[0].Events[:1] },
		"it never got created /e at 4":         func(w []*Watch) { w[1].Batches, w[1].Open = w[1].Batches[:1], true },
		"created /c at 3 came where":           func(w []*Watch) { w[1].Path, w[1].Scope = "/d", Exact },
		"it says that it has reached 9":        func(w []*Watch) { w[1].Batches[1].At = 9 },
		"it says that it has reached 1, after": func(w []*Watch) { w[0].Batches = append(w[0].Batches, WatchBatch{At: 1}) },
	} {
		s := newStory(t)
		s.create("/a", "")
		s.create("/b", "")
		s.write(1, &op.Txn{Then: []op.Op{&op.Create{Path: "/c"}, &op.Create{Path: "/d"}}})
		s.create("/e", "")
		s.h.Watches = watchAll(s)
		s.accepts()
		doctor(s.h.Watches)
		s.rejects(Watches, why)
	}
}

// TestWatchOfATornTransaction rejects a transaction in two batches, whatever position the first one claims.
func TestWatchOfATornTransaction(t *testing.T) {
	s := newStory(t)
	s.write(1, &op.Txn{Then: []op.Op{&op.Create{Path: "/c"}, &op.Create{Path: "/d"}}})
	events := newTruth(s.h).events
	for _, at := range []op.Zxid{0, 1} {
		s.h.Watches = []*Watch{{Path: "/", Scope: Subtree, Batches: []WatchBatch{{events[:1], at}, {events[1:], 1}}}}
		s.rejects(Watches, "between 0 and")
	}
}

func TestSessions(t *testing.T) {
	s := newStory(t)
	id := s.open(1)
	s.h.Promises = append(s.h.Promises, Promise{Session: id, Sent: s.now(), Told: s.now(), Timeout: 10 * time.Second})
	s.order += 10
	s.decide(&op.Request{Op: &op.Expire{Sessions: []op.Expiry{{Session: id, Epoch: 1, Timeout: 10 * time.Second}}}})
	s.accepts()
	s.h.Promises[0].Sent.At += 4 * time.Second
	s.rejects(Sessions, "safe until")
}

// TestSessionsClosed lets owners end their sessions whenever they like.
func TestSessionsClosed(t *testing.T) {
	s := newStory(t)
	id := s.open(1)
	s.h.Promises = append(s.h.Promises, Promise{Session: id, Sent: s.now(), Told: s.now(), Timeout: time.Minute})
	s.do(1, &op.Request{Session: id, Op: &op.CloseSession{Session: id}})
	s.accepts()
}

func TestExpiry(t *testing.T) {
	s := newStory(t)
	id := s.open(1)
	s.h.Lives = []Life{{Session: id, Last: s.now(), Timeout: 10 * time.Second}}
	s.h.Recovery = Recovery{Healed: s.now(), Equal: s.now(), Probed: s.now(), Bound: time.Minute, Expiry: time.Second}
	s.order += 8
	s.h.Recovery.End = s.now()
	s.accepts()
	s.h.Recovery.End.At += 10 * time.Second
	s.rejects(Expiry, "is still alive")
}

func TestReplicas(t *testing.T) {
	s := newStory(t)
	s.h.Digests = []Digest{{1, 5, [16]byte{1}}, {2, 6, [16]byte{2}}, {2, 5, [16]byte{1}}}
	s.accepts()
	s.h.Digests[2].Value[7] = 1
	s.rejects(Replicas, "after entry 5")
}

func TestStates(t *testing.T) {
	for why, doctor := range map[string]func(*Final){
		"zxid 9, not 4":                func(f *Final) { f.Zxid = 9 },
		"/a holds \"z\"":               func(f *Final) { f.Nodes[1].Data = []byte("z") },
		"/a is missing":                func(f *Final) { f.Nodes = f.Nodes[:1] },
		"where /zookeeper should be":   func(f *Final) { f.Nodes[3].Path = "/q" },
		"/e is {Czxid:3":               func(f *Final) { f.Nodes[2].Stat.Pzxid = 77 },
		"are alive, not":               func(f *Final) { f.Sessions = append(f.Sessions, 99) },
		"member 1 after entry 2: zxid": func(f *Final) { f.Index = 2 },
	} {
		s := newStory(t)
		s.create("/a", "x")
		s.ephemeral(s.open(1), "/e")
		s.create("/zz", "x")
		s.finish()
		s.accepts()
		doctor(&s.h.Finals[0])
		s.rejects(States, why)
	}
}

func TestEphemerals(t *testing.T) {
	s := newStory(t)
	s.ephemeral(s.open(1), "/e")
	s.finish()
	s.h.Finals[0].Sessions = nil
	s.rejects(Ephemerals, "member 1 has /e of s-1, which has ended")
}

func TestRecovered(t *testing.T) {
	healthy := func(s *story) *Recovery {
		s.h.Recovery = Recovery{Healed: s.now(), Equal: s.now(), Probed: s.now(), End: s.now(), Bound: 2 * time.Second}
		return &s.h.Recovery
	}
	for why, doctor := range map[string]func(*Recovery){
		"not yet at the same index": func(r *Recovery) { r.Equal = Moment{} },
		"no write had been":         func(r *Recovery) { r.Probed = Moment{} },
		"the bound is 2s":           func(r *Recovery) { r.Probed.At += time.Second },
	} {
		s := newStory(t)
		r := healthy(s)
		s.accepts()
		doctor(r)
		s.rejects(Recovered, why)
	}
}
