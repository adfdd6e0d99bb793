package fsm

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/coord-kv/coord/op"
)

// The model's nodes.

func (m *model) write(r *op.Request, o op.Op) op.Result {
	switch x := o.(type) {
	case *op.Create:
		return m.create(r, x)
	case *op.Set:
		return m.set(r, x)
	case *op.Delete:
		return m.delete(r, x)
	case *op.SetACL:
		return m.setACL(r, x)
	case *op.SetQuota:
		return m.setQuota(r, x)
	case *op.Lead:
		return m.lead(r, x)
	}
	return no(op.BadRequest, "")
}

// below returns the paths of a subtree, by path.
func (m *model) below(dir string) (paths []string) {
	for p := range m.nodes {
		if op.Within(p, dir) {
			paths = append(paths, p)
		}
	}
	slices.Sort(paths)
	return paths
}

func (m *model) names(dir string) (names []string) {
	for p := range m.nodes {
		if p != "/" && op.Parent(p) == dir {
			names = append(names, op.Base(p))
		}
	}
	slices.Sort(names)
	return names
}

func (m *model) stat(path string) *op.Stat {
	n := m.nodes[path]
	kids := int32(len(m.names(path)))
	return &op.Stat{
		Czxid: n.czxid, Mzxid: n.mzxid, Pzxid: n.pzxid, Ctime: n.ctime, Mtime: n.mtime, Version: n.version,
		Cversion: int32(2*n.creates) - kids, Aversion: n.aversion, EphemeralOwner: n.owner, DataLength: int32(len(n.data)),
		NumChildren: kids, Kind: n.kind, TTL: n.ttl,
	}
}

func (m *model) may(path string, auth []op.Identity, perm op.Perm) bool {
	return op.Permits(m.nodes[path].acl, auth, perm)
}

func (m *model) affordable(paths ...string) *op.Error {
	if n := int64(m.nEvent + len(paths)); n > m.limits.ChangedNodes {
		return &op.Error{Code: op.TooLarge, Limit: m.limits.ChangedNodes, Have: n}
	}
	n := m.bytes
	for _, p := range paths {
		n += int64(len(p)) + 32
	}
	if n > m.limits.EventBytes {
		return &op.Error{Code: op.TooLarge, Limit: m.limits.EventBytes, Have: n}
	}
	return nil
}

func (m *model) event(t op.EventType, path string, n modelNode) {
	m.nEvent++
	m.bytes += int64(len(path)) + 32
	m.events = append(m.events, op.Event{
		Zxid: m.zxid, Type: t, Kind: n.kind, Path: path, Version: n.version, ACL: &op.ACLRef{List: n.acl},
	})
}

func (m *model) overQuota(path string, nodes, bytes int64) *op.Error {
	for ; path != ""; path = op.Parent(path) {
		q, ok := m.quotas[path]
		if !ok {
			continue
		}
		haveNodes, haveBytes := nodes, bytes
		for _, p := range m.below(path) {
			haveNodes++
			haveBytes += int64(len(m.nodes[p].data))
		}
		if nodes > 0 && q.HardCount > 0 && haveNodes > q.HardCount {
			return &op.Error{Code: op.QuotaExceeded, Path: path, Limit: q.HardCount, Have: haveNodes}
		}
		if bytes > 0 && q.HardBytes > 0 && haveBytes > q.HardBytes {
			return &op.Error{Code: op.QuotaExceeded, Path: path, Limit: q.HardBytes, Have: haveBytes}
		}
	}
	return nil
}

// about fills in what an error is about, if it doesn't say so.
func about(err *op.Error, path string) op.Result {
	err.Path = cmp.Or(err.Path, path)
	return op.Result{Err: err}
}

func (m *model) condition(path string, c op.Cond, auth []op.Identity) *op.Error {
	n, code := m.nodes[path], op.OK
	if c.Version != -1 && c.Version != n.version || c.Mzxid != 0 && n.mzxid > c.Mzxid {
		code = op.BadVersion
	}
	if c.Absent {
		code = op.NodeExists
	}
	if code == op.OK {
		return nil
	}
	err := &op.Error{Code: code, Path: path}
	if m.may(path, auth, op.Read) {
		err.Stat = m.stat(path)
	}
	return err
}

func (m *model) create(r *op.Request, x *op.Create) op.Result {
	ms := int64(x.TTL / time.Millisecond)
	lives := x.Kind == op.TTL || x.Kind == op.Ephemeral && x.TTL != 0
	if lives && (ms < 1 || ms >= 1<<40) || !lives && x.TTL != 0 || x.Kind == op.Ephemeral && r.Session == 0 || x.Replace && x.Sequence {
		return no(op.BadRequest, x.Path)
	}
	whole := x.Path
	if x.Sequence {
		whole += "0"
	}
	slash := strings.LastIndex(x.Path, "/")
	if x.Parents && op.CheckPath(whole) != nil || slash < 0 || strings.Contains(x.Path, "\x00") {
		return no(op.BadPath, x.Path)
	}
	if n := int64(len(x.Data)); n > m.limits.DataBytes {
		return tooMuch(op.TooLarge, x.Path, m.limits.DataBytes, n)
	}
	acl, bad := m.resolve(x.Path, x.ACL, r.Auth)
	if bad.Err != nil {
		return bad
	}
	if n, ok := m.nodes[x.Path]; ok && x.Replace {
		if !m.may(x.Path, r.Auth, op.Write) {
			return no(op.Denied, x.Path)
		}
		if err := m.put(x.Path, n, x.Data); err != nil {
			return about(err, x.Path)
		}
		return op.Result{Path: x.Path, Stat: m.stat(x.Path)}
	}
	dir := cmp.Or(x.Path[:slash], "/")
	parent := dir
	var missing []string
	for {
		if _, ok := m.nodes[parent]; ok {
			break
		}
		if !x.Parents {
			return no(op.NoNode, dir)
		}
		missing = append([]string{parent}, missing...)
		parent = op.Parent(parent)
	}
	if !m.may(parent, r.Auth, op.Make) {
		return no(op.Denied, parent)
	}
	path := x.Path
	if x.Sequence {
		number := m.nodes[dir].creates
		if number > op.MaxSequence {
			return no(op.SequenceExhausted, path)
		}
		digits := strconv.FormatInt(number, 10)
		path += strings.Repeat("0", 10-len(digits)) + digits
	}
	if op.CheckPath(path) != nil {
		return no(op.BadPath, path)
	}
	if _, ok := m.nodes[path]; ok {
		return no(op.NodeExists, path)
	}
	if m.nodes[parent].kind == op.Ephemeral {
		return no(op.ChildrenOfEphemeral, path)
	}
	if err := m.overQuota(parent, int64(len(missing)+1), int64(len(x.Data))); err != nil {
		return op.Result{Err: err}
	}
	if x.Kind == op.Ephemeral {
		if err := m.oneMore(r.Session, path); err != nil {
			return about(err, path)
		}
	}
	if err := m.affordable(append(missing, path)...); err != nil {
		return about(err, path)
	}
	for _, p := range missing {
		m.add(p, modelNode{acl: op.OpenACL})
	}
	n := modelNode{acl: acl, data: slices.Clone(x.Data), kind: x.Kind, ttl: x.TTL, numbered: x.Sequence}
	if x.Kind == op.Ephemeral {
		n.owner = r.Session
	}
	m.add(path, n)
	return op.Result{Path: path, Stat: m.stat(path)}
}

func (m *model) add(path string, n modelNode) {
	n.czxid, n.mzxid, n.pzxid, n.ctime, n.mtime, n.touched = m.zxid, m.zxid, m.zxid, m.wall, m.wall, m.age
	m.nodes[path] = n
	p := m.nodes[op.Parent(path)]
	p.creates++
	p.pzxid = m.zxid
	m.nodes[op.Parent(path)] = p
	m.event(op.Created, path, n)
}

func (m *model) ephemerals(id op.SessionID) (paths []string) {
	for p, n := range m.nodes {
		if n.kind == op.Ephemeral && n.owner == id {
			paths = append(paths, p)
		}
	}
	slices.Sort(paths)
	return paths
}

func (m *model) oneMore(id op.SessionID, path string) *op.Error {
	all := append(m.ephemerals(id), path)
	if limit := min(m.limits.Ephemerals, m.limits.ChangedNodes); int64(len(all)) > limit {
		return &op.Error{Code: op.QuotaExceeded, Limit: limit, Have: int64(len(all))}
	}
	if n := int64(len(strings.Join(all, "")) + 32*len(all)); n > m.limits.EventBytes {
		return &op.Error{Code: op.QuotaExceeded, Limit: m.limits.EventBytes, Have: n}
	}
	return nil
}

// put replaces data, if quota and limits allow.
func (m *model) put(path string, n modelNode, data []byte) *op.Error {
	if err := m.overQuota(path, 0, int64(len(data)-len(n.data))); err != nil {
		return err
	}
	if err := m.affordable(path); err != nil {
		return err
	}
	n.data, n.mzxid, n.mtime, n.version = slices.Clone(data), m.zxid, m.wall, n.version+1
	if n.kind == op.TTL {
		n.touched = m.age
	}
	if data != nil && n.data == nil {
		n.data = []byte{}
	}
	if n.version == -1 {
		n.version = 0
	}
	m.nodes[path] = n
	m.event(op.Changed, path, n)
	return nil
}

// lookup is the beginning of whatever checks a path and then needs a node.
func (m *model) lookup(path string, auth []op.Identity, perm op.Perm) (modelNode, *op.Error) {
	if op.CheckPath(path) != nil {
		return modelNode{}, &op.Error{Code: op.BadPath, Path: path}
	}
	n, ok := m.nodes[path]
	if !ok {
		return n, &op.Error{Code: op.NoNode, Path: path}
	}
	if !m.may(path, auth, perm) {
		return n, &op.Error{Code: op.Denied, Path: path}
	}
	return n, nil
}

func (m *model) set(r *op.Request, x *op.Set) op.Result {
	n, err := m.lookup(x.Path, r.Auth, op.Write)
	if err != nil {
		return op.Result{Err: err}
	}
	if n := int64(len(x.Data)); n > m.limits.DataBytes {
		return tooMuch(op.TooLarge, x.Path, m.limits.DataBytes, n)
	}
	if err := m.overQuota(x.Path, 0, int64(len(x.Data)-len(n.data))); err != nil {
		return op.Result{Err: err}
	}
	if err := m.condition(x.Path, x.If, r.Auth); err != nil {
		return op.Result{Err: err}
	}
	if err := m.put(x.Path, n, x.Data); err != nil {
		return about(err, x.Path)
	}
	return op.Result{Stat: m.stat(x.Path)}
}

func (m *model) resolve(path string, list []op.ACL, auth []op.Identity) ([]op.ACL, op.Result) {
	if n := int64(len(list)); n > m.limits.ACLEntries {
		return nil, tooMuch(op.TooLarge, path, m.limits.ACLEntries, n)
	}
	acl, ok := op.ResolveACL(list, auth)
	if !ok {
		return nil, no(op.InvalidACL, path)
	}
	if n := int64(len(acl)); n > m.limits.ACLEntries {
		return nil, tooMuch(op.TooLarge, path, m.limits.ACLEntries, n)
	}
	return acl, op.Result{}
}

func (m *model) setACL(r *op.Request, x *op.SetACL) op.Result {
	if op.CheckPath(x.Path) != nil {
		return no(op.BadPath, x.Path)
	}
	acl, bad := m.resolve(x.Path, x.ACL, r.Auth)
	if bad.Err != nil {
		return bad
	}
	n, err := m.lookup(x.Path, r.Auth, op.Admin)
	if err != nil {
		return op.Result{Err: err}
	}
	if x.Version != -1 && x.Version != n.aversion {
		err := &op.Error{Code: op.BadVersion, Path: x.Path}
		if m.may(x.Path, r.Auth, op.Read) {
			err.Stat = m.stat(x.Path)
		}
		return op.Result{Err: err}
	}
	if err := m.affordable(x.Path); err != nil {
		return about(err, x.Path)
	}
	n.acl, n.aversion = acl, n.aversion+1
	if n.aversion == -1 {
		n.aversion = 0
	}
	m.nodes[x.Path] = n
	m.event(op.ACLChanged, x.Path, n)
	return op.Result{Stat: m.stat(x.Path)}
}

func (m *model) setQuota(r *op.Request, x *op.SetQuota) op.Result {
	_, err := m.lookup(x.Path, r.Auth, op.Admin)
	switch q := x.Quota; {
	case err != nil:
		return op.Result{Err: err}
	case q.HardCount < 0 || q.SoftCount < 0 || q.HardBytes < 0 || q.SoftBytes < 0:
		return no(op.BadRequest, x.Path)
	case q == op.Quota{}:
		delete(m.quotas, x.Path)
	default:
		m.quotas[x.Path] = q
	}
	return op.Result{Stat: m.stat(x.Path)}
}

func (m *model) setLimits(r *op.Request, x *op.SetLimits) op.Result {
	if _, err := m.lookup("/", r.Auth, op.Admin); err != nil {
		return op.Result{Err: err}
	}
	limits := m.limits.Merge(x.Limits)
	if limits.Check() != nil {
		return no(op.InvalidConfig, "")
	}
	m.limits = limits
	return op.Result{}
}

func (m *model) delete(r *op.Request, x *op.Delete) op.Result {
	slash := strings.LastIndex(x.Path, "/")
	if slash < 0 || strings.Contains(x.Path, "\x00") ||
		slices.Contains([]string{"/", "/zookeeper", "/zookeeper/quota", "/zookeeper/config"}, x.Path) {
		return no(op.BadPath, x.Path)
	}
	dir := cmp.Or(x.Path[:slash], "/")
	if _, ok := m.nodes[dir]; !ok {
		return no(op.NoNode, dir)
	}
	if !m.may(dir, r.Auth, op.Remove) {
		return no(op.Denied, dir)
	}
	if _, ok := m.nodes[x.Path]; !ok {
		return no(op.NoNode, x.Path)
	}
	if err := m.condition(x.Path, x.If, r.Auth); err != nil {
		return op.Result{Err: err}
	}
	if len(m.names(x.Path)) > 0 && !x.Recursive {
		return no(op.NotEmpty, x.Path)
	}
	doomed := m.below(x.Path)
	// Children before parents, and siblings in order.
	slices.SortFunc(doomed, func(a, b string) int {
		switch {
		case op.Within(a, b):
			return -1
		case op.Within(b, a):
			return 1
		}
		return slices.Compare(strings.Split(a, "/"), strings.Split(b, "/"))
	})
	if n := int64(m.nEvent + len(doomed)); n > m.limits.ChangedNodes {
		return tooMuch(op.TooLarge, x.Path, m.limits.ChangedNodes, n)
	}
	// That many bytes there are at least: it is said before anything else is looked at.
	if n := m.bytes + int64(len(doomed)*(len(x.Path)+32)); n > m.limits.EventBytes {
		return tooMuch(op.TooLarge, x.Path, m.limits.EventBytes, n)
	}
	for _, p := range doomed {
		if len(m.names(p)) > 0 && !m.may(p, r.Auth, op.Remove) {
			return no(op.Denied, p)
		}
	}
	if err := m.affordable(doomed...); err != nil {
		return about(err, x.Path)
	}
	for _, p := range doomed {
		m.remove(p)
	}
	return op.Result{Count: int64(len(doomed))}
}

func (m *model) remove(path string) {
	n := m.nodes[path]
	delete(m.nodes, path)
	delete(m.quotas, path)
	delete(m.terms, path)
	p := m.nodes[op.Parent(path)]
	p.pzxid = m.zxid
	m.nodes[op.Parent(path)] = p
	m.event(op.Deleted, path, n)
}

func (m *model) isDue(path string) bool {
	n, ok := m.nodes[path]
	switch {
	case !ok || len(m.names(path)) > 0:
		return false
	case n.kind == op.TTL:
		return m.age-n.touched > uint64(n.ttl/time.Millisecond)
	case n.kind == op.Container && n.creates > 0:
		return true
	}
	return n.kind == op.Container && m.age-n.touched >= uint64(m.limits.ContainerUnused/time.Millisecond)
}

func (m *model) reap(x *op.Reap) op.Result {
	var res op.Result
	for _, p := range x.Paths {
		if !m.isDue(p) {
			continue
		}
		if m.affordable(p) != nil {
			break
		}
		if res.Count == 0 {
			m.zxid++
		}
		m.remove(p)
		res.Count++
	}
	return res
}
