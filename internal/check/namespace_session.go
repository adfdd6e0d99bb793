package check

import (
	"maps"
	"slices"

	"github.com/coord-kv/coord/op"
)

// session is one that is alive.
type session struct {
	secret    op.Hash
	identity  string
	principal string
	timeout   int64 // milliseconds
	epoch     uint64
	nonce     uint64
	next, low uint64 // sequence numbers: the only one admitted, and the lowest whose answer is kept
	answers   map[uint64]op.Result
}

type keyID struct{ principal, key string }

// kept is the answer to a request with a key.
type kept struct {
	hash   [16]byte
	born   uint64
	answer op.Result
}

// admit sorts out repetitions: sequenced requests by their number, keyed ones by their key.
func (n *Namespace) admit(r *op.Request) op.Result {
	switch {
	case r.Seq != 0:
		return n.sequenced(r)
	case r.Key != nil:
		return n.keyed(r)
	}
	return n.decide(r)
}

func (n *Namespace) sequenced(r *op.Request) op.Result {
	s := n.sessions[r.Session]
	switch {
	case s == nil:
		return n.stamp(n.no(op.SessionExpired))
	case r.Seq < s.low:
		return n.refuse(op.OutOfOrder, op.Unknown)
	case r.Seq < s.next:
		return s.answers[r.Seq]
	case r.Epoch != s.epoch:
		return n.refuse(op.Superseded, op.Refused)
	case r.Seq > s.next:
		return n.refuse(op.OutOfOrder, op.Refused)
	}
	for ; s.low < min(r.Ack, s.next); s.low++ {
		delete(s.answers, s.low)
	}
	if int64(s.next-s.low) >= n.limits.SeqWindow {
		return n.refuse(op.WindowFull, op.Refused)
	}
	res := n.decide(r)
	s.answers[s.next] = res
	s.next++
	return res
}

func (n *Namespace) refuse(code op.Code, outcome op.Outcome) op.Result {
	return op.Result{Zxid: n.zxid, Err: &op.Error{Code: code, Outcome: outcome}}
}

func (n *Namespace) keyed(r *op.Request) op.Result {
	id := keyID{r.Key.Principal, r.Key.Key}
	k := n.keys[id]
	switch {
	case k == nil || n.age-k.born >= uint64(n.limits.KeyWindow.Milliseconds()):
	case k.hash != r.Key.Hash:
		return n.stamp(n.no(op.KeyMismatch))
	default:
		return k.answer
	}
	res := n.decide(r)
	n.keys[id] = &kept{r.Key.Hash, n.age, res}
	return res
}

func (n *Namespace) open(r *op.Request, x *op.OpenSession) op.Result {
	var res op.Result
	if old, s := n.byIdentity(x.Identity); s != nil {
		who := principal(r.Auth)
		if (s.secret == op.Hash{} || s.secret != x.Proof) && (who == "" || who != s.principal) {
			return no(op.Denied)
		}
		n.end(old, false)
		res.Count = 1
	}
	id := op.SessionID(n.zxid)
	n.sessions[id] = &session{
		secret: x.Secret, identity: x.Identity, principal: principal(r.Auth), epoch: 1, next: 1, low: 1,
		timeout: min(max(x.Timeout, n.limits.SessionMin), n.limits.SessionMax).Milliseconds(), answers: map[uint64]op.Result{},
	}
	res.Session = n.info(id)
	return res
}

func (n *Namespace) byIdentity(identity string) (op.SessionID, *session) {
	for id, s := range n.sessions {
		if identity != "" && s.identity == identity {
			return id, s
		}
	}
	return 0, nil
}

func principal(auth []op.Identity) string {
	for _, id := range auth {
		if id.Scheme != "ip" {
			return id.Scheme + ":" + id.ID
		}
	}
	return ""
}

func (n *Namespace) info(id op.SessionID) *op.SessionInfo {
	s := n.sessions[id]
	return &op.SessionInfo{ID: id, Epoch: s.epoch, NextSeq: s.next, Timeout: s.timeout}
}

func (n *Namespace) attach(x *op.Attach) op.Result {
	s := n.sessions[x.Session]
	switch {
	case s == nil:
		return no(op.SessionExpired)
	case s.secret == op.Hash{} || s.secret != x.Secret:
		return no(op.Denied)
	case x.Nonce == 0 || s.nonce != x.Nonce:
		s.epoch++
		s.nonce = x.Nonce
	}
	return op.Result{Session: n.info(x.Session)}
}

func (n *Namespace) setTimeout(r *op.Request, x *op.SetTimeout) op.Result {
	s := n.sessions[x.Session]
	switch {
	case s == nil:
		return no(op.NoSession)
	case r.Session != x.Session:
		return no(op.Denied)
	}
	s.timeout = min(max(x.Timeout, n.limits.SessionMin), n.limits.SessionMax).Milliseconds()
	return op.Result{Session: n.info(x.Session)}
}

func (n *Namespace) close(r *op.Request, x *op.CloseSession) op.Result {
	switch {
	case n.sessions[x.Session] == nil:
		return no(op.NoSession)
	case r.Session != x.Session && !x.Killed:
		return no(op.Denied)
	}
	n.end(x.Session, !x.Killed)
	return op.Result{Count: 1}
}

// end ends a session; its ephemeral nodes go in the order of their paths. Those with a time to live stay for it, unless
// the session was closed by its owner; of numbered ones only who was the first of its directory until now.
func (n *Namespace) end(id op.SessionID, own bool) {
	delete(n.sessions, id)
	var all []string
	goes := map[string]bool{}
	for _, path := range slices.Sorted(maps.Keys(n.nodes)) {
		if at := n.nodes[path]; at.owner == id {
			all = append(all, path)
			goes[path] = own || at.ttl == 0 || at.numbered && n.seats(op.Parent(path))[0].name != op.Base(path)
		}
	}
	for _, path := range all {
		if goes[path] {
			n.remove(path)
			continue
		}
		at := n.nodes[path]
		at.kind, at.owner, at.touched = op.TTL, 0, n.age
		n.changed(path, at)
	}
}

// Alive returns the sessions that have not ended, in order.
func (n *Namespace) Alive() []op.SessionID { return slices.Sorted(maps.Keys(n.sessions)) }

// lead does what only a leader asks for, which takes a zxid only if it changes something.
func (n *Namespace) lead(o op.Op) op.Result {
	var res op.Result
	first := func() {
		if res.Count == 0 {
			n.zxid++
		}
		res.Count++
	}
	switch x := o.(type) {
	case *op.Expire:
		for _, e := range x.Sessions {
			if s := n.sessions[e.Session]; s != nil && s.epoch == e.Epoch && s.timeout == e.Timeout.Milliseconds() {
				first()
				n.end(e.Session, false)
			}
		}
	case *op.Reap:
		for _, path := range x.Paths {
			if n.due(path) {
				first()
				n.remove(path)
			}
		}
	case *op.SetLevel:
		if x.Level > n.level {
			n.zxid++
			n.level = x.Level
		}
	}
	return res
}

func (n *Namespace) setLimits(x *op.SetLimits) op.Result {
	limits := n.limits.Merge(x.Limits)
	if limits.Check() != nil {
		return no(op.InvalidConfig)
	}
	n.limits = limits
	return op.Result{}
}

// due reports whether a node can be reaped: an empty container that has had a child, or has had none for too long; an
// empty node that was not written for longer than its time to live.
func (n *Namespace) due(path string) bool {
	at, ok := n.nodes[path]
	idle := n.age - at.touched
	switch {
	case !ok || len(at.children) > 0:
		return false
	case at.kind == op.TTL:
		return idle > uint64(at.ttl.Milliseconds())
	case at.kind == op.Container:
		return at.creates > 0 || idle >= uint64(n.limits.ContainerUnused.Milliseconds())
	}
	return false
}
