package peer

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// list builds a member list n1, n2, ... with these ids.
func list(ids ...uint64) []Member {
	var members []Member
	for i, id := range ids {
		name := fmt.Sprintf("n%d", i+1)
		members = append(members, Member{Name: name, ID: id, Addr: name + ":7071"})
	}
	return members
}

func freshMember(i int, ids ...uint64) Introduction {
	return Introduction{Name: fmt.Sprintf("n%d", i), Member: ids[i-1], Fresh: true, Members: list(ids...)}
}

func startedMember(i int, cluster uint64, ids ...uint64) Introduction {
	in := freshMember(i, ids...)
	in.Fresh, in.Cluster, in.Voters = false, cluster, slices.Clone(ids)
	slices.Reverse(in.Voters) // their order says nothing
	return in
}

func answersOf(ins ...Introduction) map[string]Introduction {
	answers := make(map[string]Introduction)
	for _, in := range ins {
		answers[in.Name] = in
	}
	return answers
}

func TestDecide(t *testing.T) {
	named := func(in Introduction, name string) Introduction { in.Name = name; return in }
	listing := func(in Introduction, members []Member) Introduction { in.Members = members; return in }
	all := []uint64{10, 20, 30}
	four := append(list(all...), Member{Name: "n4", Addr: "n4:7071"})
	founded := ClusterID(list(all...))
	for name, row := range map[string]struct {
		self    Introduction
		answers map[string]Introduction
		cluster uint64   // of the roster, 0 if there is none
		failure []string // words of the failure
		waiting []string // words of each line
	}{
		"alone": {
			self: freshMember(1, 10), cluster: ClusterID(list(10)),
		},
		"nobody has answered": {
			self:    freshMember(1, 10, 0, 0),
			waiting: []string{"n2 (n2:7071) has not answered", "n3 (n3:7071) has not answered"},
		},
		"one of two has answered": {
			self: freshMember(1, 10, 20, 0), answers: answersOf(freshMember(2, 10, 20, 0)),
			waiting: []string{"n3 (n3:7071) has not answered"},
		},
		"all are fresh, one does not know": {
			self: freshMember(1, all...), answers: answersOf(freshMember(2, all...), freshMember(3, 10, 0, 30)),
			waiting: []string{"n3 has not reached n2"},
		},
		"all are fresh, one knows nobody": {
			self: freshMember(1, all...), answers: answersOf(freshMember(2, 0, 20, 0), freshMember(3, all...)),
			waiting: []string{"n2 has not reached n1", "n2 has not reached n3"},
		},
		"all are fresh, one knows another": {
			self: freshMember(1, all...), answers: answersOf(freshMember(2, all...), freshMember(3, 10, 21, 30)),
			waiting: []string{"n3 knows n2 by id 15, not 14"},
		},
		"all are fresh and agree": {
			self: freshMember(1, all...), answers: answersOf(freshMember(2, all...), freshMember(3, all...)),
			cluster: founded,
		},
		"the others began without this one's answer": {
			self: freshMember(1, all...), answers: answersOf(startedMember(2, founded, all...), freshMember(3, all...)),
			cluster: founded,
		},
		"one of the others is gone, one has begun": {
			self: freshMember(1, 10, 20, 0), answers: answersOf(startedMember(2, founded, all...)),
			cluster: founded,
		},
		"all others have begun": {
			self: freshMember(1, all...), answers: answersOf(startedMember(2, founded, all...), startedMember(3, founded, all...)),
			cluster: founded,
		},
		"wiped voter": {
			self: freshMember(1, 11, 20, 30), answers: answersOf(startedMember(2, founded, all...), startedMember(3, founded, all...)),
			failure: []string{"n2 (n2:7071) belongs to cluster", "n1, id b", "wiped", "Restore this member's data directory", "start a new cluster"},
		},
		"wiped voter meets one that began, another is missing": {
			self: freshMember(1, 11, 20, 0), answers: answersOf(startedMember(2, founded, all...)),
			failure: []string{"n2 (n2:7071) belongs to cluster"},
		},
		"wiped voter meets one that began and one that waits": {
			self: freshMember(1, 11, 20, 30), answers: answersOf(startedMember(2, founded, all...), freshMember(3, all...)),
			failure: []string{"n2 (n2:7071) belongs to cluster"},
		},
		"one lists this member and one does not": {
			self: freshMember(1, all...), answers: answersOf(startedMember(2, founded, all...), startedMember(3, 77, 11, 20, 30)),
			failure: []string{"n3 (n3:7071) belongs to cluster 4d"},
		},
		"two clusters": {
			self: freshMember(1, all...), answers: answersOf(startedMember(2, 66, all...), startedMember(3, 77, all...)),
			failure: []string{"n2 belongs to cluster 42", "n3 to cluster 4d", "not founded together"},
		},
		"one cluster, other voters": {
			self: freshMember(1, all...), answers: answersOf(startedMember(2, 66, all...), startedMember(3, 66, 10, 20, 31)),
			failure: []string{"not founded together"},
		},
		"started, but its list and voters differ": {
			self: freshMember(1, all...), answers: answersOf(listing(startedMember(2, 66, all...), list(10, 20, 0))),
			failure: []string{"n2, a member of cluster 42, names the voters"},
		},
		"another list": {
			self: freshMember(1, all...), answers: answersOf(listing(freshMember(2, all...), four)),
			failure: []string{"n1 and n2 differ", "only the second has n4"},
		},
		"a shorter list": {
			self: freshMember(1, all...), answers: answersOf(listing(freshMember(2, all...), list(10, 20))),
			failure: []string{"only the first has n3"},
		},
		"another list of one that began": {
			self: freshMember(1, all...), answers: answersOf(listing(startedMember(2, 66, all...), four)),
			failure: []string{"only the second has n4"},
		},
		"other addresses are no difference": {
			self:    freshMember(1, 10, 20),
			answers: answersOf(listing(freshMember(2, 10, 20), []Member{{"n2", 20, "elsewhere:1"}, {"n1", 10, ""}})),
			cluster: ClusterID(list(10, 20)),
		},
		"another name": {
			self: freshMember(1, all...), answers: map[string]Introduction{"n2": named(freshMember(2, all...), "x")},
			failure: []string{`gives n2 the address n2:7071, but the member there is named "x"`},
		},
		"own address under another name": {
			self: freshMember(1, all...), answers: map[string]Introduction{"n2": freshMember(1, all...)},
			failure: []string{`the member there is named "n1"`},
		},
		"copied directory, of this member": {
			self: freshMember(1, 10, 10, 0), answers: answersOf(freshMember(2, 10, 10, 0)),
			failure: []string{"n1 and n2 have the same member id a", "copied"},
		},
		"copied directory, of others": {
			self: freshMember(1, 10, 20, 20), answers: answersOf(freshMember(2, 10, 20, 20), freshMember(3, 10, 20, 20)),
			failure: []string{"n2 and n3 have the same member id 14"},
		},
	} {
		v := decide(row.self, row.answers)
		failure := ""
		if v.failure != nil {
			failure = v.failure.Error()
		}
		outcomes := 0
		for _, is := range []bool{v.roster != nil, v.failure != nil, len(v.waiting) > 0} {
			if is {
				outcomes++
			}
		}
		switch {
		case outcomes != 1:
			t.Errorf("%s: %d conclusions: %+v", name, outcomes, v)
		case (v.roster != nil) != (row.cluster != 0) || v.roster != nil && v.roster.Cluster != row.cluster:
			t.Errorf("%s: %+v, %v", name, v.roster, v)
		case (failure != "") != (len(row.failure) > 0) || slices.ContainsFunc(row.failure, func(w string) bool { return !strings.Contains(failure, w) }):
			t.Errorf("%s: failure %q", name, failure)
		case !slices.Equal(v.waiting, row.waiting):
			t.Errorf("%s: waiting for %q", name, v.waiting)
		}
	}
}

func TestRosterOfAFoundation(t *testing.T) {
	self := freshMember(1, 30, 10, 20)
	slices.Reverse(self.Members)
	founded := decide(self, answersOf(freshMember(2, 30, 10, 20), freshMember(3, 30, 10, 20))).roster
	want := &Roster{Cluster: 0xe3bd989ae3bb029e, Voters: []uint64{10, 20, 30}, Members: list(30, 10, 20)}
	if !reflect.DeepEqual(founded, want) {
		t.Errorf("founded %+v", founded)
	}
	if addrs := founded.Addrs(); !maps.Equal(addrs, map[uint64]string{30: "n1:7071", 10: "n2:7071", 20: "n3:7071"}) {
		t.Errorf("addresses %v", addrs)
	}
	// Who joins takes ids from the cluster and addresses from its own list.
	late := freshMember(2, 0, 10, 0)
	late.Members[0].Addr = "other:1"
	joined := decide(late, answersOf(startedMember(3, founded.Cluster, 30, 10, 20))).roster
	want.Members = list(30, 10, 20)
	want.Members[0].Addr = "other:1"
	if !reflect.DeepEqual(joined, want) {
		t.Errorf("joined %+v", joined)
	}
}

func TestClusterIDTellsListsApart(t *testing.T) {
	seen := map[uint64]string{}
	for _, members := range [][]Member{
		list(1), list(2), list(1, 2), list(2, 1), list(1, 2, 3),
		{{Name: "n1", ID: 1}, {Name: "m2", ID: 2}},
		{{Name: "n1\x00\x00\x00\x00\x00\x00\x00\x01\x00\x02n2", ID: 2}},
	} {
		id := ClusterID(members)
		if other, taken := seen[id]; taken || id == 0 {
			t.Errorf("%v and %s have the cluster id %x", members, other, id)
		}
		seen[id] = fmt.Sprint(members)
	}
}

// world is a set of members at their first start, under every schedule that rapid thinks of: questions answered late, processes that
// end and come back, directories that are wiped.
type world struct {
	members []*founder
	lastID  uint64
	flying  map[[2]int]Introduction // the answer to the question of one to another, as it was when it was given
}

type founder struct {
	in      Introduction            // what it answers
	answers map[string]Introduction // while it waits
	decided *Roster                 // and not durable yet
	durable *Roster
	failed  bool
}

func newWorld(n int) *world {
	w := &world{flying: make(map[[2]int]Introduction)}
	for i := range n {
		w.members = append(w.members, &founder{})
		w.wipe(i, n)
	}
	return w
}

// wipe gives a member an empty directory, and starts it.
func (w *world) wipe(i, n int) {
	w.lastID++
	w.members[i].in.Member = w.lastID
	w.members[i].durable = nil
	w.restart(i, n)
}

// restart makes a member forget what is not durable.
func (w *world) restart(i, n int) {
	f := w.members[i]
	known := make([]uint64, n)
	known[i] = f.in.Member
	*f = founder{in: freshMember(i+1, known...), durable: f.durable, answers: make(map[string]Introduction)}
	for pair := range w.flying {
		if pair[0] == i {
			delete(w.flying, pair)
		}
	}
	f.start()
	f.conclude()
}

func (f *founder) start() {
	if f.durable != nil {
		f.in = Introduction{Name: f.in.Name, Member: f.in.Member, Cluster: f.durable.Cluster, Voters: f.durable.Voters, Members: f.durable.Members}
	}
}

func (f *founder) waits() bool { return f.durable == nil && f.decided == nil && !f.failed }

func (f *founder) conclude() {
	if !f.waits() {
		return
	}
	v := decide(f.in, f.answers)
	f.decided, f.failed = v.roster, v.failure != nil
}

// hear is what the loop around decide does with an answer.
func (f *founder) hear(from int, answer Introduction) {
	f.answers[answer.Name] = answer
	f.in.Members = slices.Clone(f.in.Members)
	f.in.Members[from].ID = answer.Member
	f.conclude()
}

func (w *world) check(t *rapid.T) {
	var first *Roster
	for i, f := range w.members {
		if f.durable == nil {
			continue
		}
		if !slices.Contains(f.durable.Voters, f.in.Member) {
			t.Fatalf("member %d started in a cluster in which it is no voter", i+1)
		}
		if first == nil {
			first = f.durable
		}
		if !reflect.DeepEqual(f.durable, first) {
			t.Fatalf("two clusters: %+v and %+v", first, f.durable)
		}
	}
}

func (w *world) step(t *rapid.T, n int, wipes bool) {
	i := rapid.IntRange(0, n-1).Draw(t, "member")
	j := (i + rapid.IntRange(1, n-1).Draw(t, "other")) % n
	f, pair := w.members[i], [2]int{i, j}
	switch action := rapid.IntRange(0, 19).Draw(t, "action"); {
	case action < 7: // ask
		if _, asked := w.flying[pair]; !asked && f.waits() {
			w.flying[pair] = w.members[j].in
		}
	case action < 14: // hear
		answer, asked := w.flying[pair]
		delete(w.flying, pair)
		if asked && f.waits() {
			f.hear(j, answer)
		}
	case action < 17: // sync
		if f.decided != nil {
			f.durable, f.decided = f.decided, nil
			f.start()
		}
	case action < 19:
		w.restart(i, n)
	case wipes:
		w.wipe(i, n)
	}
}

// settle lets everyone ask everyone, without faults, until nothing changes any more.
func (w *world) settle() {
	for range 4 * len(w.members) {
		for i, f := range w.members {
			for j, other := range w.members {
				if i != j && f.waits() {
					f.hear(j, other.in)
				}
				if f.decided != nil {
					f.durable, f.decided = f.decided, nil
					f.start()
				}
			}
		}
	}
}

// Whatever happens, those that start are in one cluster; and if no directory is lost, all start.
func TestEveryScheduleFoundsOneCluster(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(2, 4).Draw(t, "members")
		wipes := rapid.Bool().Draw(t, "wipes")
		w := newWorld(n)
		for range rapid.IntRange(0, 150).Draw(t, "steps") {
			w.step(t, n, wipes)
			w.check(t)
		}
		w.settle()
		w.check(t)
		for i, f := range w.members {
			if !wipes && f.durable == nil {
				t.Fatalf("member %d has not started: %+v", i+1, decide(f.in, f.answers))
			}
		}
	})
}
