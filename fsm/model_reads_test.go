package fsm

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/coord-kv/coord/op"
)

// The model's locks, sessions and reads.

// seats returns the names of the numbered children of dir by their numbers, and which of them are shared.
func (m *model) seats(dir string) (names []string, shared map[string]bool) {
	shared = map[string]bool{}
	for _, name := range m.names(dir) {
		if m.nodes[op.Join(dir, name)].numbered {
			names = append(names, name)
			stem := name[:len(name)-10]
			shared[name] = strings.HasSuffix(stem, "__READ__") || strings.HasSuffix(stem, "__rlock__")
		}
	}
	slices.SortFunc(names, func(a, b string) int { return strings.Compare(a[len(a)-10:], b[len(b)-10:]) })
	return names, shared
}

func (m *model) rank(path string, auth []op.Identity) op.Result {
	if op.CheckPath(path) != nil || path == "/" {
		return no(op.BadPath, path)
	}
	dir := op.Parent(path)
	if _, ok := m.nodes[dir]; !ok {
		return no(op.NoNode, dir)
	}
	if !m.may(dir, auth, op.Read) {
		return no(op.Denied, dir)
	}
	n, ok := m.nodes[path]
	if !ok {
		return no(op.NoNode, path)
	}
	if !n.numbered {
		return no(op.BadRequest, path)
	}
	names, shared := m.seats(dir)
	r := &op.RankInfo{Len: int32(len(names)), Token: n.czxid, First: names[0]}
	for _, name := range names {
		if name == op.Base(path) {
			break
		}
		r.Position++
		r.Predecessor = name
		if !shared[name] {
			r.Exclusive++
			r.Writer = name
		}
	}
	return op.Result{Rank: r}
}

func (m *model) fenced(dir string, auth []op.Identity) (op.Result, bool) {
	dir = cmp.Or(dir, "/")
	if _, ok := m.nodes[dir]; !ok {
		return no(op.StaleToken, dir), false
	}
	if !m.may(dir, auth, op.Read) {
		return no(op.Denied, dir), false
	}
	return op.Result{}, true
}

func (m *model) holder(x *op.Holder, auth []op.Identity) op.Result {
	if res, ok := m.fenced(x.Dir, auth); !ok {
		return res
	}
	names, shared := m.seats(cmp.Or(x.Dir, "/"))
	writers := 0
	for i, name := range names {
		if m.nodes[op.Join(cmp.Or(x.Dir, "/"), name)].czxid == x.Token {
			if x.Rule.Shared && writers == 0 || !x.Rule.Shared && i < max(1, int(x.Rule.Slots)) {
				return op.Result{}
			}
			return no(op.StaleToken, x.Dir)
		}
		if !shared[name] {
			writers++
		}
	}
	return no(op.StaleToken, x.Dir)
}

func (m *model) term(x *op.Term, auth []op.Identity) op.Result {
	if res, ok := m.fenced(x.Dir, auth); !ok {
		return res
	}
	t, ok := m.terms[x.Dir]
	winner, ok2 := m.nodes[op.Join(x.Dir, t.name)]
	if !ok || !ok2 || t.token != x.Token || m.nodes[x.Dir].mzxid != x.Token || winner.czxid != t.czxid {
		return no(op.StaleToken, x.Dir)
	}
	return op.Result{}
}

func (m *model) lead(r *op.Request, x *op.Lead) op.Result {
	n, err := m.lookup(x.Dir, r.Auth, op.Write)
	if err != nil {
		return op.Result{Err: err}
	}
	names, _ := m.seats(x.Dir)
	path := op.Join(x.Dir, x.Node)
	if len(names) == 0 || names[0] != x.Node || r.Session == 0 || m.nodes[path].owner != r.Session {
		return no(op.NotHolder, path)
	}
	if n := int64(len(x.Data)); n > m.limits.DataBytes {
		return tooMuch(op.TooLarge, x.Dir, m.limits.DataBytes, n)
	}
	if err := m.put(x.Dir, n, x.Data); err != nil {
		return about(err, x.Dir)
	}
	m.terms[x.Dir] = modelTerm{m.zxid, m.nodes[path].czxid, x.Node}
	return op.Result{Stat: m.stat(x.Dir)}
}

func modelPrincipal(auth []op.Identity) string {
	for _, id := range auth {
		if id.Scheme != "ip" {
			return id.Scheme + ":" + id.ID
		}
	}
	return ""
}

func (m *model) clamp(t time.Duration) time.Duration {
	return min(max(t, m.limits.SessionMin), m.limits.SessionMax).Truncate(time.Millisecond)
}

func (m *model) info(id op.SessionID) *op.SessionInfo {
	s := m.sessions[id]
	return &op.SessionInfo{ID: id, Epoch: s.epoch, NextSeq: s.next, Timeout: s.timeout.Milliseconds()}
}

func (m *model) open(r *op.Request, x *op.OpenSession) op.Result {
	if len(x.Metadata) > 4096 {
		return tooMuch(op.TooLarge, "", 4096, int64(len(x.Metadata)))
	}
	if n := max(len(x.Name), len(x.Identity)); n > 512 {
		return tooMuch(op.TooLarge, "", 512, int64(n))
	}
	var res op.Result
	for id, s := range m.sessions {
		if x.Identity == "" || s.identity != x.Identity {
			continue
		}
		who := modelPrincipal(r.Auth)
		if !(s.secret != op.Hash{} && s.secret == x.Proof || who != "" && who == s.principal) {
			return no(op.Denied, "")
		}
		m.end(id, false)
		res.Count = 1
		break
	}
	if n := int64(len(m.sessions)); res.Count == 0 && n >= m.limits.Sessions {
		return tooMuch(op.QuotaExceeded, "", m.limits.Sessions, n+1)
	}
	id := op.SessionID(m.zxid)
	m.sessions[id] = modelSession{
		id: id, secret: x.Secret, epoch: 1, next: 1, low: 1, timeout: m.clamp(x.Timeout), name: x.Name, identity: x.Identity,
		principal: modelPrincipal(r.Auth), results: map[uint64]op.Result{},
	}
	res.Session = m.info(id)
	return res
}

// end ends a session: by its own wish, or otherwise, when what has a time to live stays for that long.
func (m *model) end(id op.SessionID, own bool) {
	paths := m.ephemerals(id)
	delete(m.sessions, id)
	stays := map[string]bool{}
	for _, p := range paths {
		n := m.nodes[p]
		stays[p] = !own && n.ttl > 0 && (!n.numbered || m.foremost(p))
	}
	for _, p := range paths {
		if !stays[p] {
			m.remove(p)
			continue
		}
		n := m.nodes[p]
		n.kind, n.owner, n.touched, n.mzxid, n.mtime = op.TTL, 0, m.age, m.zxid, m.wall
		if n.version++; n.version == -1 {
			n.version = 0
		}
		m.nodes[p] = n
		m.event(op.Changed, p, n)
	}
}

// foremost reports whether no other sequence node stands before that one in its directory.
func (m *model) foremost(path string) bool {
	for p, n := range m.nodes {
		if p != path && p != "/" && n.numbered && op.Parent(p) == op.Parent(path) && m.before(p, path) {
			return false
		}
	}
	return true
}

// before compares two sequence nodes of a directory.
func (m *model) before(a, b string) bool {
	x, y := m.nodes[a], m.nodes[b]
	return x.czxid < y.czxid || x.czxid == y.czxid && a[len(a)-10:] < b[len(b)-10:]
}

func (m *model) attach(x *op.Attach) op.Result {
	s, ok := m.sessions[x.Session]
	switch {
	case !ok:
		return no(op.SessionExpired, "")
	case s.secret == op.Hash{} || s.secret != x.Secret:
		return no(op.Denied, "")
	case x.Nonce == 0 || x.Nonce != s.nonce:
		s.epoch, s.nonce = s.epoch+1, x.Nonce
		m.sessions[x.Session] = s
	}
	return op.Result{Session: m.info(x.Session)}
}

func (m *model) managed(r *op.Request, id op.SessionID, kill bool) *op.Error {
	if _, ok := m.sessions[id]; !ok {
		return &op.Error{Code: op.NoSession}
	}
	if r.Session == id || kill && m.may("/", r.Auth, op.Admin) {
		return nil
	}
	return &op.Error{Code: op.Denied}
}

func (m *model) setTimeout(r *op.Request, x *op.SetTimeout) op.Result {
	if err := m.managed(r, x.Session, false); err != nil {
		return op.Result{Err: err}
	}
	s := m.sessions[x.Session]
	s.timeout = m.clamp(x.Timeout)
	m.sessions[x.Session] = s
	return op.Result{Session: m.info(x.Session)}
}

func (m *model) close(r *op.Request, x *op.CloseSession) op.Result {
	if err := m.managed(r, x.Session, x.Killed); err != nil {
		return op.Result{Err: err}
	}
	m.end(x.Session, !x.Killed)
	return op.Result{Count: 1}
}

func (m *model) expire(x *op.Expire) op.Result {
	var res op.Result
	for _, e := range x.Sessions {
		s, ok := m.sessions[e.Session]
		if !ok || s.epoch != e.Epoch || s.timeout != e.Timeout {
			continue
		}
		if res.Count > 0 && m.affordable(m.ephemerals(e.Session)...) != nil {
			break
		}
		if res.Count == 0 {
			m.zxid++
		}
		m.end(e.Session, false)
		res.Count++
	}
	return res
}

func (m *model) readable(path string, auth []op.Identity, perm op.Perm) (modelNode, *op.Error) {
	n, ok := m.nodes[path]
	if !ok {
		return n, &op.Error{Code: op.NoNode, Path: path}
	}
	if !m.may(path, auth, perm) {
		return n, &op.Error{Code: op.Denied, Path: path}
	}
	return n, nil
}

func (m *model) read(o op.Op, auth []op.Identity) op.Result {
	switch x := o.(type) {
	case *op.Get:
		path := cmp.Or(x.Path, "/")
		n, err := m.readable(path, auth, op.Read)
		if err != nil {
			return op.Result{Err: err}
		}
		return op.Result{Data: n.data, Stat: m.stat(path)}
	case *op.Exists:
		path := cmp.Or(x.Path, "/")
		if _, err := m.readable(path, auth, op.Read); err != nil {
			if err.Code == op.NoNode {
				return op.Result{}
			}
			return op.Result{Err: err}
		}
		return op.Result{Stat: m.stat(path)}
	case *op.GetACL:
		return m.getACL(cmp.Or(x.Path, "/"), auth)
	case *op.Children:
		return m.children(x, auth)
	case *op.Subtree:
		return m.subtree(x, auth)
	case *op.Rank:
		return m.rank(x.Path, auth)
	case *op.Holder:
		return m.holder(x, auth)
	case *op.Term:
		return m.term(x, auth)
	case *op.Check:
		_, err := m.lookup(x.Path, auth, op.Read)
		if err != nil && err.Code == op.NoNode && x.If.Absent {
			return op.Result{}
		}
		if err == nil {
			err = m.condition(x.Path, x.If, auth)
		}
		return op.Result{Err: err}
	}
	return no(op.BadRequest, "")
}

func (m *model) getACL(path string, auth []op.Identity) op.Result {
	n, err := m.readable(path, auth, op.Read|op.Admin)
	if err != nil {
		return op.Result{Err: err}
	}
	acl := slices.Clone(n.acl)
	for i, a := range acl {
		if user, _, _ := strings.Cut(a.ID, ":"); a.Scheme == "digest" && !m.may(path, auth, op.Admin) {
			acl[i].ID = user + ":x"
		}
	}
	return op.Result{ACL: acl, Stat: m.stat(path)}
}

func (m *model) children(x *op.Children, auth []op.Identity) op.Result {
	dir := cmp.Or(x.Path, "/")
	if _, err := m.readable(dir, auth, op.Read); err != nil {
		return op.Result{Err: err}
	}
	res := op.Result{Stat: m.stat(dir)}
	for _, name := range m.names(dir) {
		if name <= x.After {
			continue
		}
		if x.Limit > 0 && len(res.Nodes) == int(x.Limit) {
			res.More = true
			break
		}
		n := op.Node{Path: op.Join(dir, name)}
		if (x.WithData || x.WithStat) && m.may(n.Path, auth, op.Read) {
			n.Stat = *m.stat(n.Path)
			if x.WithData {
				n.Data = m.nodes[n.Path].data
			}
		}
		res.Nodes = append(res.Nodes, n)
	}
	return res
}

func (m *model) subtree(x *op.Subtree, auth []op.Identity) op.Result {
	top := cmp.Or(x.Path, "/")
	if _, err := m.readable(top, auth, op.Read); err != nil {
		return op.Result{Err: err}
	}
	if x.After != "" && x.After != top && (op.CheckPath(x.After) != nil || !op.Within(x.After, top)) {
		return no(op.BadPath, x.After)
	}
	segments := func(p string) []string { return strings.Split(strings.TrimSuffix(p, "/"), "/") }
	paths := m.below(top)
	slices.SortFunc(paths, func(a, b string) int { return slices.Compare(segments(a), segments(b)) })
	var res op.Result
	for _, p := range paths {
		hidden := x.Depth > 0 && op.Depth(p)-op.Depth(top) > int(x.Depth) || x.After != "" && slices.Compare(segments(p), segments(x.After)) <= 0
		for q := p; q != top && !hidden; q = op.Parent(q) {
			hidden = q != p && !m.may(q, auth, op.Read)
		}
		if hidden {
			continue
		}
		if x.Limit > 0 && len(res.Nodes) == int(x.Limit) {
			res.More = true
			break
		}
		n := op.Node{Path: p}
		if m.may(p, auth, op.Read) {
			n.Data, n.Stat = m.nodes[p].data, *m.stat(p)
		}
		res.Nodes = append(res.Nodes, n)
	}
	return res
}

// sessionLines describes the sessions as they should be.
func (m *model) sessionLines() string {
	var b strings.Builder
	for _, id := range slices.Sorted(maps.Keys(m.sessions)) {
		s := m.sessions[id]
		fmt.Fprintf(&b, "%s %d %d %s %q %q %q %d %q\n", id, s.epoch, s.next, s.timeout, s.name, s.identity, s.principal, len(s.results), m.ephemerals(id))
	}
	return b.String()
}
