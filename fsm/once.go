package fsm

import (
	"cmp"
	"encoding/binary"
	"math"

	"github.com/coord-kv/coord/op"
	"github.com/coord-kv/coord/op/wire"
)

// Exactly once: a sequenced request is admitted if its number is the session's next one, a keyed request if its key is new; both
// leave their answer behind for whoever asks again. Answers to sequence numbers are kept until the client says that it has them,
// those to keys for Limits.KeyWindow of the age clock.
//
// Whether an answer will have room is known before its request takes effect. If not, the decision is window_full.

// What a kept answer counts for.
const (
	overhead    = 32  // beyond its bytes
	keyOverhead = 192 // beyond its bytes and those of its key
	noBytes     = 96  // in all, if it is window_full
)

// allowance is how many bytes a request's answer may have, and the reads in it.
type allowance struct{ answer, reads int64 }

// plain is the room of a request whose answer isn't kept.
func (m *Machine) plain() allowance { return allowance{math.MaxInt64, m.limits.RequestBytes} }

// sequenced admits a request by its sequence number.
func (m *Machine) sequenced(r *op.Request) op.Result {
	s, ok := m.sessions.Get(r.Session)
	switch {
	case !ok:
		return m.no(op.SessionExpired)
	case r.Seq < s.low:
		// It was decided, and the client has said that it knows the answer.
		return m.refuse(op.OutOfOrder, op.Unknown)
	case r.Seq < s.next:
		return *decoded(s.results[r.Seq-s.low])
	case r.Epoch != s.epoch:
		return m.refuse(op.Superseded, op.Refused)
	case r.Seq > s.next:
		return m.refuse(op.OutOfOrder, op.Refused)
	}
	s = m.acknowledge(s.id, r.Ack)
	if int64(s.next-s.low) >= m.limits.SeqWindow || m.kept+noBytes > m.limits.AllResults {
		return m.refuse(op.WindowFull, op.Refused)
	}
	res, encoded := m.decideKept(r, min(m.limits.SessionResults-s.kept, m.limits.AllResults-m.kept)-overhead)
	if m.Alive(r.Session) {
		m.putResult(m.session(r.Session), encoded)
		m.rebind(r.Session, func(a *attachment) { a.next++ })
	}
	return res
}

// decideKept decides a request whose answer may have so many bytes, and encodes the answer.
func (m *Machine) decideKept(r *op.Request, bytes int64) (op.Result, string) {
	res := m.decide(r, allowance{bytes, m.limits.ReadBytes})
	m.scratch = res.Append(m.scratch[:0])
	if int64(len(m.scratch)) > bytes && (res.Err != nil || reads(r.Op)) {
		res = fail(op.WindowFull, "")
		m.stamp(&res)
		m.scratch = res.Append(m.scratch[:0])
	}
	return res, string(m.scratch)
}

// answerBound bounds the encoded answer to an operation that is neither a read nor a transaction.
func answerBound(o op.Op) int64 {
	const fields = 320 // a stat, the numbers of an error, ...
	switch x := o.(type) {
	case *op.Create:
		return fields + int64(len(x.Path)) + digits
	case *op.Set:
		return fields + int64(len(x.Path))
	case *op.Delete:
		if x.Recursive {
			return fields + op.MaxPathBytes // an error can be about any node below
		}
		return fields + int64(len(x.Path))
	case *op.SetACL:
		return fields + int64(len(x.Path))
	case *op.SetQuota:
		return fields + int64(len(x.Path))
	case *op.Lead:
		return fields + int64(len(x.Dir)+len(x.Node))
	}
	return fields
}

// acknowledge drops a session's answers below the sequence number ack, and returns the session as it is then.
func (m *Machine) acknowledge(id op.SessionID, ack uint64) *session {
	s := m.session(id)
	ack = min(ack, s.next)
	if ack <= s.low {
		return s
	}
	n := ack - s.low
	for i, encoded := range s.results[:n] {
		m.sum.sub(resultTerm(id, s.low+uint64(i), encoded))
		m.count(s, -answerBytes(encoded))
	}
	s.results = s.results[n:]
	return m.rebind(id, func(a *attachment) { a.low = ack })
}

// putResult puts an answer behind those that s, which must be the writer's own, has kept.
func (m *Machine) putResult(s *session, encoded string) {
	m.sum.add(resultTerm(s.id, s.low+uint64(len(s.results)), encoded))
	s.results = append(s.results, encoded)
	m.count(s, answerBytes(encoded))
}

// dropResults forgets the answers of a session that has ended.
func (m *Machine) dropResults(s *session) {
	for i, encoded := range s.results {
		m.sum.sub(resultTerm(s.id, s.low+uint64(i), encoded))
	}
	m.kept -= s.kept
}

func (m *Machine) count(s *session, bytes int64) {
	s.kept += bytes
	m.kept += bytes
}

func answerBytes(encoded string) int64 { return int64(len(encoded)) + overhead }

func resultTerm(id op.SessionID, seq uint64, encoded string) sum {
	var head [2 * binary.MaxVarintLen64]byte
	return begin(tagResult).absorb(appendNumber(head[:0], id, seq)).absorb(bytesOf(encoded)).end()
}

func appendNumber(b []byte, id op.SessionID, seq uint64) []byte {
	return wire.Uint(wire.Uint(b, uint64(id)), seq)
}

// decoded reads a kept answer.
func decoded(encoded string) *op.Result {
	res, err := op.DecodeResult(bytesOf(encoded))
	if err != nil {
		panic("fsm: a kept answer can't be read: " + err.Error())
	}
	return res
}

// keyed admits a request by its key.
func (m *Machine) keyed(r *op.Request) op.Result {
	id := keyID{r.Key.Principal, r.Key.Key}
	if a, ok := m.keys.Get(id); ok {
		switch {
		case m.outdated(a.born):
			m.forget(birth{a.born, id})
		case a.hash != r.Key.Hash:
			return m.no(op.KeyMismatch)
		default:
			return *decoded(a.encoded)
		}
	}
	bytes := m.limits.AllResults - m.kept - keyOverhead - int64(len(id.principal)+len(id.key))
	keys, _ := m.principals.Get(id.principal)
	switch {
	case max(len(id.principal), len(id.key)) > op.MaxLabel:
		return m.no(op.BadRequest)
	case keys >= m.limits.PrincipalKeys || bytes < noBytes:
		return m.no(op.WindowFull)
	}
	res, encoded := m.decideKept(r, bytes)
	m.putKey(id, &answer{hash: r.Key.Hash, born: m.age, encoded: encoded})
	return res
}

// keyID is an idempotency key.
type keyID struct{ principal, key string }

// answer is what a request with a key was answered.
type answer struct {
	hash    [16]byte // of the request
	born    uint64   // the age clock when it was decided
	encoded string
}

// birth is a key in the order in which keys are forgotten.
type birth struct {
	age uint64
	id  keyID
}

func compareBirths(a, b birth) int {
	return cmp.Or(
		cmp.Compare(a.age, b.age), cmp.Compare(a.id.principal, b.id.principal), cmp.Compare(a.id.key, b.id.key),
	)
}

func (m *Machine) putKey(id keyID, a *answer) {
	m.keys.Set(id, a)
	m.byBirth, _ = m.byBirth.Insert(&m.epoch, birth{a.born, id})
	n, _ := m.principals.Get(id.principal)
	m.principals.Set(id.principal, n+1)
	m.kept += keyBytes(id, a)
	m.sum.add(hash(tagKey, appendKey(nil, id, a)))
}

func (m *Machine) forget(b birth) {
	a, _ := m.keys.Delete(b.id)
	m.byBirth, _ = m.byBirth.Delete(&m.epoch, b)
	if n, _ := m.principals.Get(b.id.principal); n > 1 {
		m.principals.Set(b.id.principal, n-1)
	} else {
		m.principals.Delete(b.id.principal)
	}
	m.kept -= keyBytes(b.id, a)
	m.sum.sub(hash(tagKey, appendKey(nil, b.id, a)))
}

// forgetOld forgets some of the keys that are past their window. It is done before every request and for a few at a time, so that
// neither how requests were put into batches nor an hour's worth of keys at once can be noticed.
func (m *Machine) forgetOld() {
	for range 8 {
		b, ok := m.byBirth.Min()
		if !ok || !m.outdated(b.age) {
			return
		}
		m.forget(b)
	}
}

// outdated reports whether a key born at that age is past its window, forgotten already or not.
func (s *state) outdated(born uint64) bool {
	return s.age-born >= uint64(s.limits.KeyWindow.Milliseconds())
}

func keyBytes(id keyID, a *answer) int64 {
	return int64(len(id.principal)+len(id.key)+len(a.encoded)) + keyOverhead
}

func appendKey(b []byte, id keyID, a *answer) []byte {
	b = wire.Fixed(wire.String(wire.String(b, id.principal), id.key), a.hash[:])
	return wire.String(wire.Uint(b, a.born), a.encoded)
}

// Answer returns the answer to a sequenced or keyed request that has been decided, if it is still kept: for whoever waits for one
// and has lost track of the log.
func (s *state) Answer(r *op.Request) (*op.Result, bool) {
	if r.Seq != 0 {
		x, ok := s.sessions.Get(r.Session)
		if !ok || r.Seq < x.low || r.Seq >= x.next {
			return nil, false
		}
		return decoded(x.results[r.Seq-x.low]), true
	}
	if r.Key == nil {
		return nil, false
	}
	a, ok := s.keys.Get(keyID{r.Key.Principal, r.Key.Key})
	if !ok || a.hash != r.Key.Hash || s.outdated(a.born) {
		return nil, false
	}
	return decoded(a.encoded), true
}
