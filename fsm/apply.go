package fsm

import (
	"slices"

	"github.com/coord-kv/coord/op"
)

// maxAge keeps sums of ages from overflowing: it is 73 million years.
const maxAge = 1 << 61

// Apply decides the requests of a batch, in order. The batch, its buffer and the Applied belong to the caller afterwards: the state
// keeps copies of what it needs.
func (m *Machine) Apply(b *op.Batch) Applied {
	m.view = nil
	m.wall = b.Wall
	m.age = min(m.age+min(b.Age, maxAge), maxAge)
	m.done = Applied{Results: make([]op.Result, len(b.Requests)), Events: make([]op.Event, 0, len(b.Requests))}
	for i, r := range b.Requests {
		m.forgetOld()
		sessions := len(m.done.Sessions)
		m.turns = len(m.done.Turns)
		m.done.Results[i] = m.request(r)
		m.done.stamp(i, sessions, m.turns)
	}
	done := m.done
	m.done = Applied{}
	return done
}

// stamp says of the changes from there on which request has brought them about.
func (a *Applied) stamp(request, sessions, turns int) {
	for i := range a.Sessions[sessions:] {
		a.Sessions[sessions+i].Request = request
	}
	for i := range a.Turns[turns:] {
		a.Turns[turns+i].Request = request
	}
}

// caller is on whose behalf an operation runs.
type caller struct {
	session op.SessionID
	auth    []op.Identity
}

// request admits r and answers it. What is to take effect once goes the way of once.go.
func (m *Machine) request(r *op.Request) op.Result {
	switch {
	case r.Seq != 0:
		return m.sequenced(r)
	case r.Key != nil:
		return m.keyed(r)
	}
	return m.decide(r, m.plain())
}

// decide runs the operation of r, whose answer has that much room.
func (m *Machine) decide(r *op.Request, room allowance) op.Result {
	m.spent = budget{}
	var res op.Result
	switch {
	case r.Op == nil:
		return m.no(op.BadRequest)
	case r.Session != 0 && !m.Alive(r.Session):
		return m.no(op.SessionExpired)
	case r.Op.Verb().Internal():
		res = m.internal(r.Op)
	case reads(r.Op):
		if res = m.read(r.Op, r.Auth); size(&res) > room.reads {
			res = op.Result{Err: &op.Error{Code: op.TooLarge, Limit: room.reads, Have: size(&res)}}
		}
	default:
		m.zxid++
		res = m.write(&caller{r.Session, r.Auth}, r.Op, room)
	}
	m.stamp(&res)
	return res
}

// no decides against a request for what it is, whatever it would find.
func (m *Machine) no(code op.Code) op.Result {
	m.zxid++
	res := fail(code, "")
	m.stamp(&res)
	return res
}

// write runs an operation that takes a zxid.
func (m *Machine) write(c *caller, o op.Op, room allowance) op.Result {
	x, ok := o.(*op.Txn)
	switch {
	case ok:
		return m.txn(c, x, room)
	case answerBound(o) > room.answer:
		return fail(op.WindowFull, "")
	}
	switch x := o.(type) {
	case *op.OpenSession:
		return m.open(c, x)
	case *op.Attach:
		return m.attach(x)
	case *op.SetTimeout:
		return m.setTimeout(c, x)
	case *op.CloseSession:
		return m.close(c, x)
	case *op.SetLimits:
		return m.setLimits(c, x)
	}
	return m.change(c, o)
}

// change runs an operation that changes nodes, alone or in a transaction.
func (m *Machine) change(c *caller, o op.Op) op.Result {
	switch x := o.(type) {
	case *op.Create:
		return m.create(c, x)
	case *op.Set:
		return m.set(c, x)
	case *op.Delete:
		return m.delete(c, x)
	case *op.SetACL:
		return m.setACL(c, x)
	case *op.SetQuota:
		return m.setQuota(c, x)
	case *op.Lead:
		return m.takeTerm(c, x)
	}
	return fail(op.BadRequest, "")
}

// internal runs what only a leader proposes. These take a zxid when they change something, and none otherwise.
func (m *Machine) internal(o op.Op) op.Result {
	switch x := o.(type) {
	case *op.Expire:
		return m.expire(x)
	case *op.Reap:
		return m.reap(x)
	case *op.SetLevel:
		return m.setLevel(x)
	}
	return fail(op.BadRequest, "")
}

// setLevel raises the level; one that isn't above the present one changes nothing.
func (m *Machine) setLevel(x *op.SetLevel) op.Result {
	if x.Level > m.level {
		m.zxid++
		m.level = x.Level
	}
	return op.Result{}
}

// setLimits takes the right to administer the root, because it concerns everybody.
func (m *Machine) setLimits(c *caller, x *op.SetLimits) op.Result {
	if _, err := m.valid("/", c.auth, op.Admin); err != nil {
		return failed(err, "/")
	}
	limits := m.limits.Merge(x.Limits)
	if limits.Check() != nil {
		return fail(op.InvalidConfig, "")
	}
	m.limits = limits
	return op.Result{}
}

// stamp says which decision a result is of.
func (s *state) stamp(res *op.Result) {
	res.Zxid = s.zxid
	if res.Err != nil {
		res.Err.Zxid, res.Err.Outcome = s.zxid, op.Decided
	}
	for i := range res.Results {
		res.Results[i].Zxid = s.zxid
	}
}

// fail returns the answer that it can't be done.
func fail(code op.Code, path string) op.Result {
	return op.Result{Err: &op.Error{Code: code, Path: path}}
}

// failed returns the answer with that error about the node at path.
func failed(err *op.Error, path string) op.Result {
	if err.Path == "" {
		err.Path = path
	}
	return op.Result{Err: err}
}

// refuse returns the answer to a request that wasn't decided: it has taken no zxid and left nothing behind.
func (m *Machine) refuse(code op.Code, outcome op.Outcome) op.Result {
	return op.Result{Zxid: m.zxid, Err: &op.Error{Code: code, Outcome: outcome}}
}

var readVerbs = []op.Verb{
	op.VerbGet, op.VerbExists, op.VerbChildren, op.VerbSubtree, op.VerbGetACL, op.VerbRank, op.VerbCheck, op.VerbHolder, op.VerbTerm,
}

// reads reports whether an operation changes nothing.
func reads(o op.Op) bool { return slices.Contains(readVerbs, o.Verb()) }
