package fsm

import (
	"strconv"
	"strings"

	"github.com/coord-kv/coord/op"
)

// Mode is how a lock directory is held, as the name of its first contender says.
type Mode uint8

// The modes.
const (
	Mutex      Mode = iota // by one
	SharedLock             // by all up to the first exclusive one
	Semaphore              // by as many as its contenders' names say
)

// String returns "exclusive", "shared" or "semaphore".
func (m Mode) String() string { return [...]string{"exclusive", "shared", "semaphore"}[m] }

// TurnKind is what became of a contender.
type TurnKind uint8

// What becomes of contenders.
const (
	TurnCame  TurnKind = iota // it holds the directory now
	TurnEnded                 // it held it, and is gone
	TurnLost                  // it is gone before its turn came
	TermBegan                 // it has taken a term of the directory
)

// Turn tells what became of a contender: an ephemeral sequence node, as its place in the order of its directory and its name say.
// That is for counting, and nothing else may be decided by it: it knows no minimum holds, and only the contender itself knows
// whether it has noticed that its turn has come. Not more than maxTurns come with one request.
type Turn struct {
	Request int // which of the batch has brought it about
	Kind    TurnKind
	Path    string // of the contender; with TermBegan, of the directory
	Mode    Mode
	Came    op.Time // when the contender came into the line
	Why     Ending  // of one that is gone: ClosedByOwner if its own session did it, Killed if somebody else
}

const maxTurns = 10_000

// slotMark stands in the name of a contender for a semaphore, before its size, which stands before the number.
const slotMark = "-slot"

// SlotName returns what the name of a contender for a semaphore of n ends in, before its number.
func SlotName(n int) string { return slotMark + strconv.Itoa(n) + "-" }

// Slots returns the size of the semaphore that a name is a contender for; 0 if it is for none.
func Slots(name string) int {
	stem, ok := strings.CutSuffix(name[:max(0, len(name)-digits)], "-")
	at := strings.LastIndex(stem, slotMark)
	if !ok || at < 0 {
		return 0
	}
	number := stem[at+len(slotMark):]
	n, err := strconv.Atoi(number)
	if err != nil || n < 1 || strconv.Itoa(n) != number {
		return 0
	}
	return n
}

// mode returns how a directory is held in which that seat is the first.
func (s Seat) mode() Mode {
	switch {
	case s.Class == Shared:
		return SharedLock
	case Slots(s.Name) > 0:
		return Semaphore
	}
	return Mutex
}

// admits reports whether the seat, which is one of them, holds the directory.
func (s *seats) admits(seat Seat) bool {
	if seat.Class == Shared {
		return s.exclusive.Rank(seat) == 0
	}
	return s.all.Rank(seat) < max(1, Slots(seat.Name))
}

func (n *node) contends() bool { return n.numbered && n.kind == op.Ephemeral }

func (m *Machine) turn(kind TurnKind, path string, seat Seat, n *node) {
	if len(m.done.Turns)-m.turns < maxTurns {
		m.done.Turns = append(m.done.Turns, Turn{Kind: kind, Path: path, Mode: seat.mode(), Came: n.ctime, Why: m.leaving})
	}
}

// came notes that a contender has come into the line.
func (m *Machine) came(path string, n *node) {
	if !n.contends() {
		return
	}
	seat := seatOf(path, n)
	if dir, _ := m.nodes.Get(op.Parent(path)); dir.seats().admits(seat) {
		m.turn(TurnCame, path, seat, n)
	}
}

// goes notes that a contender goes; its seat is still there.
func (m *Machine) goes(path string, n *node) {
	if !n.contends() {
		return
	}
	kind, seat := TurnLost, seatOf(path, n)
	if dir, _ := m.nodes.Get(op.Parent(path)); dir.seats().admits(seat) {
		kind = TurnEnded
	}
	m.turn(kind, path, seat, n)
}

// passOn notes whose turn has come because the contender n has gone: its seat is taken out already.
func (m *Machine) passOn(path string, n *node) {
	dir := op.Parent(path)
	p, ok := m.nodes.Get(dir)
	if !ok || !n.numbered || p.seats() == nil { // one whose session has ended stands there and contends no more
		return
	}
	s, gone := p.seats(), seatOf(path, n)
	at := s.all.Rank(gone)
	switch size := Slots(gone.Name); {
	case size > 0:
		if at < size && s.all.Len() >= size {
			m.turnCame(dir, s.all.At(size-1))
		}
	case at == 0 && s.all.At(0).Class == Exclusive:
		m.turnCame(dir, s.all.At(0))
	case gone.Class == Exclusive && s.exclusive.Rank(gone) == 0:
		for seat := range s.all.Ascend(gone) {
			if seat.Class == Exclusive {
				break
			}
			m.turnCame(dir, seat)
		}
	}
}

func (m *Machine) turnCame(dir string, seat Seat) {
	path := op.Join(dir, seat.Name)
	if n, ok := m.nodes.Get(path); ok && n.contends() {
		m.turn(TurnCame, path, seat, n)
	}
}

// why returns why a node goes that somebody deletes.
func (c *caller) why(n *node) Ending {
	if n.contends() && n.rare.owner == c.session {
		return ClosedByOwner
	}
	return Killed
}

// Line is a lock directory as it stands. It takes constant time, or nearly.
type Line struct {
	Mode    Mode
	Held    int // contenders that hold it
	Waiting int
	Since   op.Time // when the first of those who wait came; 0 if nobody waits
}

// Line returns how the directory is held. It is zero if nobody stands there.
func (s *state) Line(dir string) Line {
	n, ok := s.nodes.Get(dir)
	if !ok || n.seats() == nil {
		return Line{}
	}
	all := n.seats().all
	first := all.At(0)
	l := Line{Mode: first.mode(), Held: 1}
	switch l.Mode {
	case Semaphore:
		l.Held = min(Slots(first.Name), all.Len())
	case SharedLock:
		l.Held = all.Len()
		if n.seats().exclusive.Len() > 0 {
			l.Held = all.Rank(n.seats().exclusive.At(0))
		}
	}
	if l.Waiting = all.Len() - l.Held; l.Waiting > 0 {
		waiter, _ := s.nodes.Get(op.Join(dir, all.At(l.Held).Name))
		l.Since = waiter.ctime
	}
	return l
}
