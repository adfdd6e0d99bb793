package fsm

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coord-kv/coord/op"
)

// lineMachine is a machine with directories in which all kinds of contenders come and go.
type lineMachine struct {
	t        *testing.T
	m        *Machine
	rand     *rand.Rand
	sessions []op.SessionID
}

var lineDirs = []string{"/mutex", "/rw", "/slots"}

var lineNames = map[string][]string{
	"/mutex": {"a-lock-"}, "/rw": {"a-__READ__", "a-__READ__", "a-__WRIT__"}, "/slots": {"a" + SlotName(3)},
}

// standing returns who stands in line, and whether each of them holds the directory, told from the whole order. Whose
// session has ended stands there for nobody, but the others behind it.
func (l *lineMachine) standing() map[string]bool {
	holds := map[string]bool{}
	defer maps.DeleteFunc(holds, func(path string, _ bool) bool {
		return l.m.View().Read(&op.Exists{Path: path}, nil).Stat.Kind == op.TTL
	})
	for _, dir := range lineDirs {
		at, writers := 0, 0
		for seat := range l.m.Order(dir) {
			switch {
			case dir == "/slots":
				holds[op.Join(dir, seat.Name)] = at < 3
			case seat.Class == Shared:
				holds[op.Join(dir, seat.Name)] = writers == 0
			default:
				holds[op.Join(dir, seat.Name)] = at == 0
				writers++
			}
			at++
		}
	}
	return holds
}

// apply applies one request and holds its turns against what has changed. It returns the reasons of those that went.
func (l *lineMachine) apply(o op.Op, session op.SessionID) (op.Result, []Ending) {
	l.t.Helper()
	before := l.standing()
	done := l.m.Apply(&op.Batch{Wall: 7, Requests: []*op.Request{{Op: &op.Exists{Path: "/"}}, {Op: o, Session: session}}})
	after := l.standing()
	var want, got []string
	for path, held := range before {
		if _, still := after[path]; !still {
			want = append(want, fmt.Sprint(path, " ", map[bool]TurnKind{true: TurnEnded, false: TurnLost}[held]))
		}
	}
	for path, holds := range after {
		if holds && !before[path] {
			want = append(want, fmt.Sprint(path, " ", TurnCame))
		}
	}
	var why []Ending
	for _, turn := range done.Turns {
		got = append(got, fmt.Sprint(turn.Path, " ", turn.Kind))
		if turn.Request != 1 || turn.Came != 7 {
			l.t.Fatalf("%+v", turn)
		}
		if turn.Kind != TurnCame {
			why = append(why, turn.Why)
		}
	}
	// Whose turn came and went in the same request was never seen to hold.
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		l.t.Fatalf("%+v of %v: turns\n%s\nnot\n%s", o, session, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	return done.Results[1], why
}

func (l *lineMachine) open() op.SessionID {
	res, _ := l.apply(&op.OpenSession{Timeout: time.Minute}, 0)
	l.sessions = append(l.sessions, res.Session.ID)
	return res.Session.ID
}

func (l *lineMachine) enter(dir string, session op.SessionID) string {
	names := lineNames[dir]
	res, _ := l.apply(&op.Create{
		Path: op.Join(dir, names[l.rand.IntN(len(names))]), Kind: op.Ephemeral, TTL: time.Duration(l.rand.IntN(2)) * time.Minute, Sequence: true,
	}, session)
	return res.Path
}

func newLineMachine(t *testing.T, seed uint64) *lineMachine {
	l := &lineMachine{t: t, m: New(), rand: rand.New(rand.NewPCG(seed, 0))}
	for _, dir := range lineDirs {
		l.apply(&op.Create{Path: dir}, 0)
	}
	return l
}

// TestTurns: whoever comes to hold a directory is told of once, and so is whoever goes, whatever order they come and go in.
func TestTurns(t *testing.T) {
	for seed := range uint64(20) {
		l := newLineMachine(t, seed)
		for range 300 {
			switch n := l.rand.IntN(20); {
			case n == 0 || len(l.sessions) == 0:
				l.open()
			case n == 1 && len(l.sessions) > 3: // one turn may come and go on the way: sessions of one contender only
				i := l.rand.IntN(len(l.sessions))
				if s, _ := l.m.Session(l.sessions[i]); s.EphemeralCount() <= 1 {
					l.apply(&op.CloseSession{Session: s.ID, Killed: l.rand.IntN(2) == 0}, s.ID)
					l.sessions = slices.Delete(l.sessions, i, i+1)
				}
			case n < 11:
				l.enter(lineDirs[l.rand.IntN(3)], l.sessions[l.rand.IntN(len(l.sessions))])
			default:
				l.leave()
			}
		}
	}
}

func (l *lineMachine) leave() {
	paths := []string{}
	for _, dir := range lineDirs {
		for seat := range l.m.Order(dir) {
			paths = append(paths, op.Join(dir, seat.Name))
		}
	}
	if len(paths) > 0 {
		l.apply(&op.Delete{Path: paths[l.rand.IntN(len(paths))], If: op.Always}, 0)
	}
}

// TestTurnReasons: a turn says who ended it; what a transaction takes back has not been.
func TestTurnReasons(t *testing.T) {
	l := newLineMachine(t, 1)
	a, b := l.open(), l.open()
	held := l.enter("/mutex", a)
	waiting := l.enter("/mutex", b)
	res, _ := l.apply(&op.Txn{Then: []op.Op{&op.Delete{Path: held, If: op.Always}, &op.Check{Path: "/nowhere", If: op.Always}}}, a)
	if res.Err == nil {
		t.Fatal("the transaction was done")
	}
	expect := func(want Ending, o op.Op, session op.SessionID) {
		t.Helper()
		if res, why := l.apply(o, session); res.Err != nil || !slices.Equal(why, []Ending{want}) {
			t.Errorf("%v, %v, not %v", res.Err, why, want)
		}
	}
	expect(ClosedByOwner, &op.Delete{Path: held, If: op.Always}, a)
	expect(Killed, &op.Delete{Path: waiting, If: op.Always}, a)
	l.enter("/mutex", b)
	s, _ := l.m.Session(b)
	expect(Expired, &op.Expire{Sessions: []op.Expiry{{Session: b, Epoch: s.Epoch, Timeout: s.Timeout}}}, 0)
	l.enter("/mutex", a)
	expect(ClosedByOwner, &op.CloseSession{Session: a}, a)
	l.enter("/mutex", l.open())
	expect(Killed, &op.Delete{Path: "/mutex", If: op.Always, Recursive: true}, 0)
}

// TestLine: a directory is counted as those who stand in it say, and the first who waits says since when.
func TestLine(t *testing.T) {
	l := newLineMachine(t, 2)
	s := l.open()
	for i, names := range [][]string{
		{"x-lock-", "y-lock-", "z-lock-"}, {"x-__READ__", "y-__READ__", "z-__WRIT__", "z-__READ__"}, {"x-slot3-", "x-slot3-"},
		{"x-__READ__"}, {},
	} {
		dir := fmt.Sprintf("/d%d", i)
		b := &op.Batch{Requests: []*op.Request{{Op: &op.Create{Path: dir}}}}
		l.m.Apply(b)
		for n, name := range names {
			create := &op.Create{Path: op.Join(dir, name), Kind: op.Ephemeral, Sequence: true}
			l.m.Apply(&op.Batch{Wall: op.Time(100 * n), Requests: []*op.Request{{Op: create, Session: s}}})
		}
		want := []Line{{Mutex, 1, 2, 100}, {SharedLock, 2, 2, 200}, {Semaphore, 2, 0, 0}, {SharedLock, 1, 0, 0}, {}}[i]
		if got := l.m.View().Line(dir); got != want {
			t.Errorf("%v: %+v, not %+v", names, got, want)
		}
	}
}

// TestSlots: a semaphore's size is read from names that SlotName makes, and from no others.
func TestSlots(t *testing.T) {
	for name, want := range map[string]int{
		"x" + SlotName(3) + "0000000001": 3, SlotName(1_000_000) + "0000000001": 1_000_000, "x-slot3-": 0, "x-slot03-0000000001": 0,
		"x-slot-1-0000000001": 0, "x-slot30000000001": 0, "x-slot0-0000000001": 0, "": 0, "-slot2-x-lock-0000000001": 0,
	} {
		if got := Slots(name); got != want {
			t.Errorf("%s: %d, not %d", name, got, want)
		}
	}
}
