package fsm

import (
	"cmp"
	"iter"
	"strconv"
	"strings"

	"github.com/coord-kv/coord/fsm/tree"
	"github.com/coord-kv/coord/op"
	"github.com/coord-kv/coord/op/wire"
)

// Class says how a contender wants to hold a lock directory.
type Class uint8

const (
	Exclusive Class = iota // alone
	Shared                 // together with other shared ones
)

// String returns "exclusive" or "shared".
func (c Class) String() string { return [...]string{"exclusive", "shared"}[c] }

// Dialect is a convention by which the contenders for a lock recognise each other: their names contain one of the marks, right
// before the sequence number. Clients of different dialects don't exclude each other.
type Dialect struct {
	Name      string
	Exclusive string
	Shared    string // "" if it knows no shared holders
}

// Dialects are those of ZooKeeper's clients. A writer of kazoo's read-write lock is named like a contender for its plain lock, and
// excludes it as well.
var Dialects = []Dialect{
	{Name: "curator-mutex", Exclusive: "lock-"},                     // _c_<uuid>-lock-0000000007
	{Name: "curator-rw", Exclusive: "__WRIT__", Shared: "__READ__"}, // _c_<uuid>-__READ__0000000007
	{Name: "curator-latch", Exclusive: "latch-"},                    // _c_<uuid>-latch-0000000007
	{Name: "kazoo-lock", Exclusive: "__lock__"},                     // <uuid>__lock__0000000007
	{Name: "kazoo-rw", Exclusive: "__lock__", Shared: "__rlock__"},  // <uuid>__rlock__0000000007
}

// digits is the length of the number at the end of a sequence node's name.
const digits = 10

// Classify returns the class and the first of Dialects that a contender's name speaks; "" if it speaks none, and is exclusive then.
func Classify(name string) (class Class, dialect string) {
	stem := name[:max(0, len(name)-digits)]
	for _, d := range Dialects {
		switch {
		case d.Shared != "" && strings.HasSuffix(stem, d.Shared):
			return Shared, d.Name
		case strings.HasSuffix(stem, d.Exclusive):
			return Exclusive, d.Name
		}
	}
	return Exclusive, ""
}

// Seat is the place of a sequence node among those of its directory: they stand in the order of their numbers. A node that got its
// name by hand has none, however it looks.
type Seat struct {
	Name  string
	Czxid op.Zxid
	Seq   uint64
	Class Class
}

// compareSeats orders by czxid and number. In one directory both grow together, so this is the order of the numbers too; with the
// czxid first, a token is found without its number.
func compareSeats(a, b Seat) int {
	if c := cmp.Compare(a.Czxid, b.Czxid); c != 0 {
		return c
	}
	return cmp.Compare(a.Seq, b.Seq)
}

// seatOf returns the seat of a numbered node.
func seatOf(path string, n *node) Seat {
	name := op.Base(path)
	seq, _ := strconv.ParseUint(name[len(name)-digits:], 10, 64)
	class, _ := Classify(name)
	return Seat{name, n.czxid, seq, class}
}

// seats are the numbered children of a node, and the exclusive ones once more. It is never changed.
type seats struct{ all, exclusive tree.Set[Seat] }

// with returns the seats and that of the node at path, if it is numbered.
func (s *seats) with(e *tree.Epoch, path string, n *node) *seats {
	if !n.numbered {
		return s
	}
	c := seats{tree.NewSet(compareSeats), tree.NewSet(compareSeats)}
	if s != nil {
		c = *s
	}
	seat := seatOf(path, n)
	c.all, _ = c.all.Insert(e, seat)
	if seat.Class == Exclusive {
		c.exclusive, _ = c.exclusive.Insert(e, seat)
	}
	return &c
}

// without returns the seats but that of the node at path; nil if none is left.
func (s *seats) without(e *tree.Epoch, path string, n *node) *seats {
	if !n.numbered {
		return s
	}
	c, seat := *s, seatOf(path, n)
	c.all, _ = c.all.Delete(e, seat)
	c.exclusive, _ = c.exclusive.Delete(e, seat)
	if c.all.Len() == 0 {
		return nil
	}
	return &c
}

// Order yields the sequence nodes of a directory, first to last.
func (s *state) Order(dir string) iter.Seq[Seat] {
	return func(yield func(Seat) bool) {
		n, ok := s.nodes.Get(dir)
		if !ok || n.seats() == nil {
			return
		}
		for seat := range n.seats().all.Ascend(Seat{}) {
			if !yield(seat) {
				return
			}
		}
	}
}

// rank tells where the node at path stands. The caller must be allowed to read the directory, which is what the answer is about.
func (s *state) rank(path string, auth []op.Identity) op.Result {
	if op.CheckPath(path) != nil || path == op.Root {
		return fail(op.BadPath, path)
	}
	dir, err := s.node(op.Parent(path), auth, op.Read)
	if err != nil {
		return failed(err, path)
	}
	n, ok := s.nodes.Get(path)
	switch {
	case !ok:
		return fail(op.NoNode, path)
	case !n.numbered:
		return fail(op.BadRequest, path)
	}
	return op.Result{Rank: dir.seats().rank(seatOf(path, n))}
}

func (s *seats) rank(seat Seat) *op.RankInfo {
	at, writers := s.all.Rank(seat), s.exclusive.Rank(seat)
	r := &op.RankInfo{
		Position: int32(at), Exclusive: int32(writers), Len: int32(s.all.Len()), Token: seat.Czxid, First: s.all.At(0).Name,
	}
	if at > 0 {
		r.Predecessor = s.all.At(at - 1).Name
	}
	if writers > 0 {
		r.Writer = s.exclusive.At(writers - 1).Name
	}
	return r
}

// holder checks that the node of x.Dir that was created by x.Token holds it.
func (s *state) holder(x *op.Holder, auth []op.Identity) op.Result {
	dir, err := s.fence(x.Dir, auth)
	if err != nil {
		return failed(err, x.Dir)
	}
	if !dir.seats().holds(x.Token, x.Rule) {
		return fail(op.StaleToken, x.Dir)
	}
	return op.Result{}
}

// fence returns the directory that a fence is about. That there is none says no more than that the token is stale.
func (s *state) fence(path string, auth []op.Identity) (*node, *op.Error) {
	n, err := s.node(path, auth, op.Read)
	if err != nil && err.Code == op.NoNode {
		err.Code = op.StaleToken
	}
	return n, err
}

// first returns the name of the first, "" if there is none.
func (s *seats) first() string {
	if s == nil {
		return ""
	}
	return s.all.At(0).Name
}

func (s *seats) holds(token op.Zxid, rule op.Rule) bool {
	if s == nil {
		return false
	}
	probe := Seat{Czxid: token}
	at := s.all.Rank(probe)
	switch {
	case at == s.all.Len() || s.all.At(at).Czxid != token:
		return false
	case rule.Shared:
		return s.exclusive.Rank(s.all.At(at)) == 0
	}
	return at < int(max(1, rule.Slots))
}

// term is what an election remembers of who won it last: the zxid of winning, which is the fencing token, and the winner's node.
type term struct {
	zxid  op.Zxid
	name  string
	czxid op.Zxid
}

// inTerm checks that x.Token is the present term of x.Dir.
func (s *state) inTerm(x *op.Term, auth []op.Identity) op.Result {
	dir, err := s.fence(x.Dir, auth)
	if err != nil {
		return failed(err, x.Dir)
	}
	t, ok := s.terms.Get(x.Dir)
	if !ok || t.zxid != x.Token || dir.mzxid != x.Token || !s.stands(x.Dir, t) {
		return fail(op.StaleToken, x.Dir)
	}
	return op.Result{}
}

// stands reports whether the winner's node is still there, and not another one of that name.
func (s *state) stands(dir string, t term) bool {
	n, ok := s.nodes.Get(op.Join(dir, t.name))
	return ok && n.czxid == t.czxid
}

// takeTerm begins a term. Order of checks: the directory's existence, permission, whether the caller's node stands first, data.
func (m *Machine) takeTerm(c *caller, x *op.Lead) op.Result {
	dir, err := m.valid(x.Dir, c.auth, op.Write)
	if err != nil {
		return failed(err, x.Dir)
	}
	path := op.Join(x.Dir, x.Node)
	n, ok := m.nodes.Get(path)
	if !ok || c.session == 0 || n.extra().owner != c.session || dir.seats().first() != x.Node {
		return fail(op.NotHolder, path)
	}
	if err = m.checkData(x.Data); err == nil {
		dir, err = m.setData(x.Dir, dir, x.Data)
	}
	if err != nil {
		return failed(err, x.Dir)
	}
	m.dropTerm(x.Dir)
	m.putTerm(x.Dir, term{m.zxid, x.Node, n.czxid})
	m.turn(TermBegan, x.Dir, seatOf(path, n), n)
	return op.Result{Stat: dir.stat()}
}

func (m *Machine) putTerm(dir string, t term) {
	m.terms.Set(dir, t)
	m.sum.add(hash(tagTerm, appendTerm(nil, dir, t)))
}

func (m *Machine) dropTerm(dir string) {
	if m.terms.Len() == 0 {
		return
	}
	if t, ok := m.terms.Delete(dir); ok {
		m.sum.sub(hash(tagTerm, appendTerm(nil, dir, t)))
	}
}

func appendTerm(b []byte, dir string, t term) []byte {
	b = wire.String(wire.Uint(wire.String(b, dir), uint64(t.zxid)), t.name)
	return wire.Uint(b, uint64(t.czxid))
}
