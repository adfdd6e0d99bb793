package fsm

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/coord-kv/coord/op"
)

// model is the state machine in the plainest form: maps and slices that are searched, counted and copied whole. It shares nothing
// with the real one but the vocabulary, and the room that an answer is given before it is known.
type model struct {
	zxid     op.Zxid
	age      uint64
	level    uint32
	limits   op.Limits
	nodes    map[string]modelNode
	quotas   map[string]op.Quota
	terms    map[string]modelTerm
	sessions map[op.SessionID]modelSession
	keys     map[[2]string]modelKey

	wall   op.Time
	events []op.Event
	nEvent int   // of the present request
	bytes  int64 // of its events
}

type modelNode struct {
	czxid, mzxid, pzxid op.Zxid
	ctime, mtime        op.Time
	version, aversion   int32
	creates             int64
	data                []byte
	acl                 []op.ACL
	kind                op.NodeKind
	owner               op.SessionID
	ttl                 time.Duration
	touched             uint64
	numbered            bool
}

type modelTerm struct {
	token, czxid op.Zxid
	name         string
}

type modelSession struct {
	id                        op.SessionID
	secret                    op.Hash
	epoch, nonce, next, low   uint64
	timeout                   time.Duration
	name, identity, principal string
	results                   map[uint64]op.Result
}

type modelKey struct {
	hash   [16]byte
	born   uint64
	result op.Result
}

func newModel() *model {
	m := &model{
		level: 1, limits: op.DefaultLimits(), nodes: map[string]modelNode{}, quotas: map[string]op.Quota{}, terms: map[string]modelTerm{},
		sessions: map[op.SessionID]modelSession{}, keys: map[[2]string]modelKey{},
	}
	for _, p := range []string{"/", "/zookeeper", "/zookeeper/quota"} {
		m.nodes[p] = modelNode{data: []byte{}, acl: op.OpenACL}
	}
	m.nodes["/zookeeper/config"] = modelNode{
		data: []byte{}, version: -1, aversion: -1, acl: []op.ACL{{Perms: op.Read, Scheme: "world", ID: "anyone"}},
	}
	return m
}

// copied is a copy to go back to.
func (m *model) copied() model {
	c := *m
	c.nodes, c.quotas, c.terms, c.sessions = maps.Clone(m.nodes), maps.Clone(m.quotas), maps.Clone(m.terms), maps.Clone(m.sessions)
	c.events = slices.Clone(m.events)
	return c
}

func (m *model) apply(b *op.Batch) (results []op.Result, events []op.Event) {
	m.wall, m.age, m.events = b.Wall, m.age+b.Age, nil
	for _, r := range b.Requests {
		m.sweep()
		m.nEvent, m.bytes = 0, 0
		results = append(results, m.request(r))
	}
	return results, m.events
}

func no(code op.Code, path string) op.Result {
	return op.Result{Err: &op.Error{Code: code, Path: path}}
}

func tooMuch(code op.Code, path string, limit, have int64) op.Result {
	return op.Result{Err: &op.Error{Code: code, Path: path, Limit: limit, Have: have}}
}

func (m *model) decided(r op.Result) op.Result {
	r.Zxid = m.zxid
	if r.Err != nil {
		r.Err.Zxid, r.Err.Outcome = m.zxid, op.Decided
	}
	for i := range r.Results {
		r.Results[i].Zxid = m.zxid
	}
	return r
}

func (m *model) refused(code op.Code, outcome op.Outcome) op.Result {
	return op.Result{Zxid: m.zxid, Err: &op.Error{Code: code, Outcome: outcome}}
}

// Exactly once.

func encodedSize(r op.Result) int64 { return int64(len(r.Append(nil))) }

func (m *model) keptBy(s modelSession) (n int64) {
	for _, r := range s.results {
		n += encodedSize(r) + 32
	}
	return n
}

func (m *model) kept() (n int64) {
	for _, s := range m.sessions {
		n += m.keptBy(s)
	}
	for id, k := range m.keys {
		n += encodedSize(k.result) + 192 + int64(len(id[0])+len(id[1]))
	}
	return n
}

func (m *model) old(k modelKey) bool {
	return m.age-k.born >= uint64(m.limits.KeyWindow/time.Millisecond)
}

// sweep drops up to eight keys that are past their window, the oldest first.
func (m *model) sweep() {
	ids := slices.SortedFunc(maps.Keys(m.keys), func(a, b [2]string) int {
		return cmp.Or(cmp.Compare(m.keys[a].born, m.keys[b].born), slices.Compare(a[:], b[:]))
	})
	for i, id := range ids {
		if i < 8 && m.old(m.keys[id]) {
			delete(m.keys, id)
		}
	}
}

func (m *model) request(r *op.Request) op.Result {
	switch {
	case r.Seq != 0:
		return m.sequenced(r)
	case r.Key != nil:
		return m.keyed(r)
	}
	return m.decide(r, 1<<62, m.limits.RequestBytes)
}

func (m *model) sequenced(r *op.Request) op.Result {
	s, ok := m.sessions[r.Session]
	if !ok {
		m.zxid++
		return m.decided(no(op.SessionExpired, ""))
	}
	if r.Seq < s.low {
		return m.refused(op.OutOfOrder, op.Unknown)
	}
	if r.Seq < s.next {
		return s.results[r.Seq]
	}
	if r.Epoch != s.epoch {
		return m.refused(op.Superseded, op.Refused)
	}
	if r.Seq > s.next {
		return m.refused(op.OutOfOrder, op.Refused)
	}
	s.results = maps.Clone(s.results)
	for ; s.low < r.Ack && s.low < s.next; s.low++ {
		delete(s.results, s.low)
	}
	m.sessions[s.id] = s
	if int64(s.next-s.low) >= m.limits.SeqWindow || m.kept()+96 > m.limits.AllResults {
		return m.refused(op.WindowFull, op.Refused)
	}
	res := m.decideKept(r, min(m.limits.SessionResults-m.keptBy(s), m.limits.AllResults-m.kept())-32)
	if s, ok := m.sessions[r.Session]; ok {
		s.results = maps.Clone(s.results)
		s.results[s.next] = res
		s.next++
		m.sessions[s.id] = s
	}
	return res
}

func (m *model) keyed(r *op.Request) op.Result {
	id := [2]string{r.Key.Principal, r.Key.Key}
	if k, ok := m.keys[id]; ok && !m.old(k) {
		if k.hash != r.Key.Hash {
			m.zxid++
			return m.decided(no(op.KeyMismatch, ""))
		}
		return k.result
	}
	delete(m.keys, id)
	var count int64
	for other := range m.keys {
		if other[0] == id[0] {
			count++
		}
	}
	room := m.limits.AllResults - m.kept() - 192 - int64(len(id[0])+len(id[1]))
	if len(id[0]) > op.MaxLabel || len(id[1]) > op.MaxLabel {
		m.zxid++
		return m.decided(no(op.BadRequest, ""))
	}
	if count >= m.limits.PrincipalKeys || room < 96 {
		m.zxid++
		return m.decided(no(op.WindowFull, ""))
	}
	res := m.decideKept(r, room)
	m.keys[id] = modelKey{r.Key.Hash, m.age, res}
	return res
}

func (m *model) decideKept(r *op.Request, room int64) op.Result {
	res := m.decide(r, room, m.limits.ReadBytes)
	if encodedSize(res) > room && (res.Err != nil || isRead(r.Op)) {
		res = m.decided(no(op.WindowFull, ""))
	}
	return res
}

func isRead(o op.Op) bool {
	switch o.(type) {
	case *op.Get, *op.Exists, *op.Children, *op.Subtree, *op.GetACL, *op.Rank, *op.Check, *op.Holder, *op.Term:
		return true
	}
	return false
}

func (m *model) decide(r *op.Request, room, reads int64) op.Result {
	if _, ok := m.sessions[r.Session]; r.Session != 0 && !ok {
		m.zxid++
		return m.decided(no(op.SessionExpired, ""))
	}
	if isRead(r.Op) {
		res := m.read(r.Op, r.Auth)
		if n := readSize(res); n > reads {
			res = tooMuch(op.TooLarge, "", reads, n)
		}
		return m.decided(res)
	}
	switch x := r.Op.(type) {
	case *op.Expire:
		return m.decided(m.expire(x))
	case *op.Reap:
		return m.decided(m.reap(x))
	case *op.SetLevel:
		if x.Level > m.level {
			m.zxid++
			m.level = x.Level
		}
		return m.decided(op.Result{})
	}
	m.zxid++
	if x, ok := r.Op.(*op.Txn); ok {
		return m.decided(m.txn(r, x, room, reads))
	}
	if answerBound(r.Op) > room {
		return m.decided(no(op.WindowFull, ""))
	}
	switch x := r.Op.(type) {
	case *op.OpenSession:
		return m.decided(m.open(r, x))
	case *op.Attach:
		return m.decided(m.attach(x))
	case *op.SetTimeout:
		return m.decided(m.setTimeout(r, x))
	case *op.CloseSession:
		return m.decided(m.close(r, x))
	case *op.SetLimits:
		return m.decided(m.setLimits(r, x))
	}
	return m.decided(m.write(r, r.Op))
}

// Transactions.

func readSize(r op.Result) int64 {
	n := 64 + len(r.Data)
	for _, x := range r.Nodes {
		n += 64 + len(x.Path) + len(x.Data)
	}
	for _, a := range r.ACL {
		n += 4 + len(a.Scheme) + len(a.ID)
	}
	return int64(n)
}

func (m *model) txn(r *op.Request, x *op.Txn, room, reads int64) op.Result {
	if n := int64(len(x.If) + len(x.Then) + len(x.Else)); n > m.limits.TxnOps {
		return tooMuch(op.TooLarge, "", m.limits.TxnOps, n)
	}
	for i, o := range x.If {
		switch o.(type) {
		case *op.Check, *op.Holder, *op.Term:
		default:
			return op.Result{Err: &op.Error{Code: op.BadRequest, Index: int32(i)}}
		}
	}
	list, other := x.Then, false
	for i, o := range x.If {
		if res := m.read(o, r.Auth); res.Err != nil {
			if len(x.Else) == 0 {
				res.Err.Index = int32(i)
				return op.Result{Err: res.Err}
			}
			list, other = x.Else, true
			break
		}
	}
	saved := m.copied()
	out := op.Result{Results: []op.Result{}, Else: other}
	var used int64
	for i, o := range list {
		var res op.Result
		rank, isRank := o.(*op.Rank)
		switch {
		case isRank && rank.Of != 0:
			at := int(rank.Of) - 1
			if at < 0 || at >= i || list[at].Verb() != op.VerbCreate {
				res = no(op.BadRequest, "")
			} else {
				res = m.rank(out.Results[at].Path, r.Auth)
			}
		case isRead(o):
			res = m.read(o, r.Auth)
		default:
			res = m.write(r, o)
		}
		if isRead(o) {
			used += readSize(res)
		}
		if res.Err == nil && used > reads {
			res = tooMuch(op.TooLarge, "", reads, used)
		}
		if res.Err != nil {
			*m = saved
			res.Err.Index = int32(len(x.If) + i)
			return op.Result{Err: res.Err, Else: other}
		}
		out.Results = append(out.Results, res)
	}
	if encodedSize(m.decided(out)) > room {
		*m = saved
		return op.Result{Err: &op.Error{Code: op.WindowFull}, Else: other}
	}
	return out
}
