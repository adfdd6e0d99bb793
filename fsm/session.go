package fsm

import (
	"cmp"
	"crypto/subtle"
	"iter"
	"time"
	"unicode/utf8"

	"github.com/coord-kv/coord/fsm/tree"
	"github.com/coord-kv/coord/op"
	"github.com/coord-kv/coord/op/wire"
)

// Session is a session or a lease as it stands in a state.
type Session struct {
	ID        op.SessionID
	Secret    op.Hash
	Epoch     uint64 // of the latest attachment, from 1: opening is the first
	NextSeq   uint64 // the only sequence number that will be admitted
	Timeout   time.Duration
	Name      string
	Identity  string // "" if it can't be taken over by one
	Principal string // who opened it, as scheme:id; "" if nobody was proven
	Lease     bool
	Metadata  []byte
	Opened    op.Time
	Results   int // kept until the client says that it has them

	ephemerals tree.Names
}

// EphemeralCount returns how many ephemeral nodes the session has.
func (s Session) EphemeralCount() int { return s.ephemerals.Len() }

// Ephemerals yields the paths of the session's ephemeral nodes in byte order.
func (s Session) Ephemerals() iter.Seq[string] { return s.ephemerals.After("") }

// session is a session in the state. Like a dir it may be changed in place by the version of the state that made it.
type session struct {
	stamp uint64
	*profile
	attachment
	results    []string // encoded answers to the sequence numbers from low to next-1
	kept       int64    // bytes that they count for
	ephemerals tree.Names
	endBytes   int64 // of the events of its end
}

// profile is what never changes of a session.
type profile struct {
	id        op.SessionID
	secret    op.Hash
	name      string
	identity  string
	principal string
	lease     bool
	metadata  []byte
	opened    op.Time
}

// attachment is what does.
type attachment struct {
	epoch   uint64
	nonce   uint64
	next    uint64
	low     uint64 // the lowest sequence number whose answer is kept
	timeout int64  // milliseconds
}

func compareIDs(a, b op.SessionID) int { return cmp.Compare(a, b) }

func (x *profile) append(b []byte) []byte {
	b = wire.Fixed(wire.Uint(b, uint64(x.id)), x.secret[:])
	b = wire.String(wire.String(wire.String(b, x.name), x.identity), x.principal)
	return wire.Int(wire.Bytes(wire.Bool(b, x.lease), x.metadata), int64(x.opened))
}

func (x *attachment) append(b []byte, id op.SessionID) []byte {
	for _, v := range [...]uint64{uint64(id), x.epoch, x.nonce, x.next, x.low} {
		b = wire.Uint(b, v)
	}
	return wire.Int(b, x.timeout)
}

func (s *session) profileTerm() sum { return hash(tagSession, s.profile.append(nil)) }

func (s *session) attachmentTerm() sum {
	var buf [64]byte
	return hash(tagAttachment, s.attachment.append(buf[:0], s.id))
}

func (s *session) export() Session {
	return Session{
		ID: s.id, Secret: s.secret, Epoch: s.epoch, NextSeq: s.next, Timeout: time.Duration(s.timeout) * time.Millisecond,
		Name: s.name, Identity: s.identity, Principal: s.principal, Lease: s.lease, Metadata: s.metadata, Opened: s.opened,
		Results: len(s.results), ephemerals: s.ephemerals,
	}
}

func (s *session) info() *op.SessionInfo {
	return &op.SessionInfo{ID: s.id, Epoch: s.epoch, NextSeq: s.next, Timeout: s.timeout}
}

// proves reports whether h is the hash of the session's secret. A session without a secret can be proven by nothing.
func (s *session) proves(h op.Hash) bool {
	return s.secret != op.Hash{} && subtle.ConstantTimeCompare(s.secret[:], h[:]) == 1
}

// Session returns the session of that id, if it is alive.
func (s *state) Session(id op.SessionID) (Session, bool) {
	x, ok := s.sessions.Get(id)
	if !ok {
		return Session{}, false
	}
	return x.export(), true
}

// Sessions yields the sessions and leases that are alive and have an id above after, by id.
func (s *state) Sessions(after op.SessionID) iter.Seq[Session] {
	return func(yield func(Session) bool) {
		for id := range s.byID.Ascend(after + 1) {
			if x, _ := s.sessions.Get(id); !yield(x.export()) {
				return
			}
		}
	}
}

// Alive reports whether the session of that id is.
func (s *state) Alive(id op.SessionID) bool {
	_, ok := s.sessions.Get(id)
	return ok
}

// session returns a session, which exists, for changing in place.
func (m *Machine) session(id op.SessionID) *session {
	s, _ := m.sessions.Get(id)
	if s.stamp != m.version {
		c := *s
		c.stamp = m.version
		s = &c
		m.sessions.Set(id, s)
	}
	return s
}

// rebind changes the attachment of a session.
func (m *Machine) rebind(id op.SessionID, change func(*attachment)) *session {
	s := m.session(id)
	m.sum.sub(s.attachmentTerm())
	change(&s.attachment)
	m.sum.add(s.attachmentTerm())
	return s
}

// open begins a session. Its id is the zxid of the request.
func (m *Machine) open(c *caller, x *op.OpenSession) op.Result {
	if err := checkOpen(x); err != nil {
		return op.Result{Err: err}
	}
	ghost, haunted := m.identities.Get(x.Identity)
	switch {
	case haunted && !m.mayTakeOver(ghost, x, c.auth):
		return fail(op.Denied, "")
	case !haunted && int64(m.sessions.Len()) >= m.limits.Sessions:
		return op.Result{Err: &op.Error{Code: op.QuotaExceeded, Limit: m.limits.Sessions, Have: int64(m.sessions.Len()) + 1}}
	}
	res := op.Result{}
	if haunted {
		m.end(ghost, TakenOver)
		res.Count = 1
	}
	s := &session{
		profile: &profile{
			id: op.SessionID(m.zxid), secret: x.Secret, name: x.Name, identity: x.Identity, principal: principal(c.auth),
			lease: x.Lease, metadata: append([]byte(nil), x.Metadata...), opened: m.wall,
		},
		attachment: attachment{epoch: 1, next: 1, low: 1, timeout: m.granted(x.Timeout)},
	}
	m.putSession(s)
	m.tell(s, SessionChange{Opened: true})
	res.Session = s.info()
	return res
}

func checkOpen(x *op.OpenSession) *op.Error {
	switch {
	case len(x.Metadata) > op.MaxMetadata:
		return &op.Error{Code: op.TooLarge, Limit: op.MaxMetadata, Have: int64(len(x.Metadata))}
	case max(len(x.Name), len(x.Identity)) > op.MaxLabel:
		return &op.Error{Code: op.TooLarge, Limit: op.MaxLabel, Have: int64(max(len(x.Name), len(x.Identity)))}
	case !utf8.ValidString(x.Name) || !utf8.ValidString(x.Identity):
		return &op.Error{Code: op.BadRequest}
	}
	return nil
}

// mayTakeOver reports whether the caller may end the session that has the identity: by proof of its secret, or by being the
// principal that opened it. That nobody was proven on both sides is no proof.
func (m *Machine) mayTakeOver(id op.SessionID, x *op.OpenSession, auth []op.Identity) bool {
	s, _ := m.sessions.Get(id)
	who := principal(auth)
	return s.proves(x.Proof) || who != "" && who == s.principal
}

// principal returns the first identity that was proven, not just observed like an address; "" if there is none, or none short enough
// to be kept.
func principal(auth []op.Identity) string {
	for _, id := range auth {
		if id.Scheme != "ip" && len(id.Scheme)+1+len(id.ID) <= op.MaxLabel {
			return id.Scheme + ":" + id.ID
		}
	}
	return ""
}

// granted brings a timeout into its bounds, in milliseconds.
func (m *Machine) granted(timeout time.Duration) int64 {
	return min(max(timeout, m.limits.SessionMin), m.limits.SessionMax).Milliseconds()
}

func (m *Machine) putSession(s *session) {
	s.stamp = m.version
	m.sessions.Set(s.id, s)
	m.byID, _ = m.byID.Insert(&m.epoch, s.id)
	if s.identity != "" {
		m.identities.Set(s.identity, s.id)
	}
	if s.lease {
		m.leases++
	}
	m.sum.add(s.profileTerm())
	m.sum.add(s.attachmentTerm())
}

// tell reports a change of a session, as c says.
func (m *Machine) tell(s *session, c SessionChange) {
	c.ID, c.Epoch, c.Timeout, c.Lease = s.id, s.epoch, time.Duration(s.timeout)*time.Millisecond, s.lease
	m.done.Sessions = append(m.done.Sessions, c)
}

// attach gives a session a new epoch; or the one that it has, if the nonce says that this has been done. The nonce 0 never does.
func (m *Machine) attach(x *op.Attach) op.Result {
	s, ok := m.sessions.Get(x.Session)
	switch {
	case !ok:
		return fail(op.SessionExpired, "")
	case !s.proves(x.Secret):
		return fail(op.Denied, "")
	case x.Nonce == 0 || x.Nonce != s.nonce:
		s = m.rebind(x.Session, func(a *attachment) { a.epoch, a.nonce = a.epoch+1, x.Nonce })
		m.tell(s, SessionChange{})
	}
	return op.Result{Session: s.info()}
}

func (m *Machine) setTimeout(c *caller, x *op.SetTimeout) op.Result {
	if err := m.mayManage(c, x.Session, false); err != nil {
		return op.Result{Err: err}
	}
	s := m.rebind(x.Session, func(a *attachment) { a.timeout = m.granted(x.Timeout) })
	m.tell(s, SessionChange{})
	return op.Result{Session: s.info()}
}

func (m *Machine) close(c *caller, x *op.CloseSession) op.Result {
	if err := m.mayManage(c, x.Session, x.Killed); err != nil {
		return op.Result{Err: err}
	}
	why := ClosedByOwner
	if x.Killed {
		why = Killed
	}
	m.end(x.Session, why)
	return op.Result{Count: 1}
}

// mayManage checks whether the caller may end a session or change it: its owner may, and to kill it whoever has Admin on the root,
// which is everybody until an ACL is set there.
func (m *Machine) mayManage(c *caller, id op.SessionID, kill bool) *op.Error {
	root, _ := m.nodes.Get(op.Root)
	switch {
	case !m.Alive(id):
		return &op.Error{Code: op.NoSession}
	case c.session == id, kill && root.permits(c.auth, op.Admin):
		return nil
	}
	return &op.Error{Code: op.Denied}
}

// expire ends the sessions that are still as named, as far as the limits of a request allow, the first of them in any case.
func (m *Machine) expire(x *op.Expire) op.Result {
	var res op.Result
	for _, e := range x.Sessions {
		s, ok := m.sessions.Get(e.Session)
		if !ok || s.epoch != e.Epoch || s.timeout != e.Timeout.Milliseconds() {
			continue
		}
		if res.Count > 0 && m.afford(int64(s.ephemerals.Len()), s.endBytes) != nil {
			break
		}
		if res.Count == 0 {
			m.zxid++
		}
		m.end(e.Session, Expired)
		res.Count++
	}
	return res
}

// end ends a session, and deletes its ephemeral nodes in the order of their paths, but for those that outlive it.
func (m *Machine) end(id op.SessionID, why Ending) {
	s, _ := m.sessions.Delete(id)
	m.byID, _ = m.byID.Delete(&m.epoch, id)
	if s.identity != "" {
		m.identities.Delete(s.identity)
	}
	if s.lease {
		m.leases--
	}
	m.sum.sub(s.profileTerm())
	m.sum.sub(s.attachmentTerm())
	m.dropResults(s)
	m.tell(s, SessionChange{Ended: true, Why: why})
	m.leaving = why
	var stay []string
	if why != ClosedByOwner {
		stay = m.lingering(s)
	}
	for path := range s.ephemerals.After("") {
		n, _ := m.nodes.Get(path)
		if len(stay) > 0 && stay[0] == path {
			m.linger(path, n)
			stay = stay[1:]
			continue
		}
		m.uproot([]place{{path, n}})
	}
}

// lingering returns which nodes of a session outlive it: those with a TTL, of sequence nodes only who stands first. That
// is found out before any of them goes, since that changes who does.
func (m *Machine) lingering(s *session) (stay []string) {
	for path := range s.ephemerals.After("") {
		n, _ := m.nodes.Get(path)
		if n.rare.ttl == 0 {
			continue
		}
		if dir, _ := m.nodes.Get(op.Parent(path)); !n.numbered || dir.seats().first() == op.Base(path) {
			stay = append(stay, path)
		}
	}
	return stay
}

// linger makes an ephemeral node one that goes when its time is over. It counts as a change of its data, so that whoever
// has seen it before hears of it.
func (m *Machine) linger(path string, old *node) {
	m.goes(path, old)
	n := old.edited()
	n.kind, n.rare.owner, n.rare.touched = op.TTL, 0, m.age
	n.mzxid, n.mtime, n.version = m.zxid, m.wall, successor(n.version)
	m.swap(path, old, n)
	m.kinds[old.kind]--
	m.kinds[n.kind]++
	m.emit(op.Changed, path, n)
}

// checkEphemerals checks whether a session may have an ephemeral node more. Its end must stay within the limits of one request.
func (m *Machine) checkEphemerals(id op.SessionID, path string) *op.Error {
	s, _ := m.sessions.Get(id)
	if have, limit := int64(s.ephemerals.Len())+1, min(m.limits.Ephemerals, m.limits.ChangedNodes); have > limit {
		return &op.Error{Code: op.QuotaExceeded, Limit: limit, Have: have}
	}
	if have := s.endBytes + eventBytes(path); have > m.limits.EventBytes {
		return &op.Error{Code: op.QuotaExceeded, Limit: m.limits.EventBytes, Have: have}
	}
	return nil
}

// own enters an ephemeral node into its session. disown takes it out, if the session isn't gone already.
func (m *Machine) own(id op.SessionID, path string) {
	s := m.session(id)
	s.ephemerals, _ = s.ephemerals.Insert(&m.epoch, path)
	s.endBytes += eventBytes(path)
}

func (m *Machine) disown(id op.SessionID, path string) {
	if !m.Alive(id) {
		return
	}
	s := m.session(id)
	s.ephemerals, _ = s.ephemerals.Delete(&m.epoch, path)
	s.endBytes -= eventBytes(path)
}
