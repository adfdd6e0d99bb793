package fsm

import (
	"strings"

	"github.com/coord-kv/coord/op"
)

// One answer holds at most so many nodes, and stops after so many bytes of paths and data; with More it says that there is more.
const (
	PageNodes = 10_000
	PageBytes = 1 << 20
)

// Read answers an operation that changes nothing: Get, Exists, Children, Subtree, GetACL, Rank, Check, Holder or Term; any other
// is a bad_request. The answer is of the state's zxid, and an error in it is decided. Data in it must not be changed.
//
// Reads don't validate paths, except Check and Rank; the empty path is the root, as in ZooKeeper.
func (s *state) Read(o op.Op, auth []op.Identity) op.Result {
	res := s.read(o, auth)
	s.stamp(&res)
	return res
}

// read is Read, for transactions as well.
func (s *state) read(o op.Op, auth []op.Identity) op.Result {
	switch x := o.(type) {
	case *op.Get:
		return s.get(x.Path, auth)
	case *op.Exists:
		return s.exists(x.Path, auth)
	case *op.Children:
		return s.children(x, auth)
	case *op.Subtree:
		return s.subtree(x, auth)
	case *op.GetACL:
		return s.getACL(x.Path, auth)
	case *op.Rank:
		return s.rank(x.Path, auth)
	case *op.Check:
		return s.check(x, auth)
	case *op.Holder:
		return s.holder(x, auth)
	case *op.Term:
		return s.inTerm(x, auth)
	}
	return fail(op.BadRequest, "")
}

// valid is node for what ZooKeeper checks the path of before it looks. A path that has a node needs no check.
func (s *state) valid(path string, auth []op.Identity, perm op.Perm) (*node, *op.Error) {
	n, err := s.node(path, auth, perm)
	if (path == "" || err != nil) && op.CheckPath(path) != nil {
		return nil, &op.Error{Code: op.BadPath}
	}
	return n, err
}

// node returns the node at path, the root if it is empty, if the caller may do perm to it.
func (s *state) node(path string, auth []op.Identity, perm op.Perm) (*node, *op.Error) {
	if path == "" {
		path = op.Root
	}
	n, ok := s.nodes.Get(path)
	switch {
	case !ok:
		return nil, &op.Error{Code: op.NoNode, Path: path}
	case !n.permits(auth, perm):
		return nil, &op.Error{Code: op.Denied, Path: path}
	}
	return n, nil
}

func (s *state) get(path string, auth []op.Identity) op.Result {
	n, err := s.node(path, auth, op.Read)
	if err != nil {
		return op.Result{Err: err}
	}
	return op.Result{Stat: n.stat(), Data: n.bytes()}
}

func (s *state) exists(path string, auth []op.Identity) op.Result {
	n, err := s.node(path, auth, op.Read)
	switch {
	case err == nil:
		return op.Result{Stat: n.stat()}
	case err.Code == op.NoNode:
		return op.Result{}
	}
	return op.Result{Err: err}
}

// getACL returns the ACL to whom may read or administer the node; the secrets in it only to the latter.
func (s *state) getACL(path string, auth []op.Identity) op.Result {
	n, err := s.node(path, auth, op.Read|op.Admin)
	if err != nil {
		return op.Result{Err: err}
	}
	list := n.acl().List
	if !n.permits(auth, op.Admin) {
		list = masked(list)
	}
	return op.Result{ACL: list, Stat: n.stat()}
}

// masked returns the list with the secrets of digest identities blotted out.
func masked(list []op.ACL) []op.ACL {
	out := make([]op.ACL, len(list))
	for i, a := range list {
		if user, _, ok := strings.Cut(a.ID, ":"); ok && a.Scheme == "digest" {
			a.ID = user + ":x"
		}
		out[i] = a
	}
	return out
}

// check checks a condition. Order: path, existence, permission, version.
func (s *state) check(x *op.Check, auth []op.Identity) op.Result {
	n, err := s.valid(x.Path, auth, op.Read)
	switch {
	case err == nil:
		err = n.meets(x.If, auth)
	case err.Code == op.NoNode && x.If.Absent:
		err = nil
	}
	if err != nil {
		return failed(err, x.Path)
	}
	return op.Result{}
}

// page collects nodes until it is full.
type page struct {
	nodes []op.Node
	limit int
	bytes int
	more  bool
}

func newPage(limit int32) *page {
	if limit <= 0 || limit > PageNodes {
		limit = PageNodes
	}
	return &page{limit: int(limit)}
}

// put adds a node, or notes that there is more, and returns false, if the page is full. A page holds one node at least.
func (p *page) put(n op.Node) bool {
	if len(p.nodes) == p.limit || p.bytes > PageBytes {
		p.more = true
		return false
	}
	p.bytes += len(n.Path) + len(n.Data)
	p.nodes = append(p.nodes, n)
	return true
}

// children lists the children of a node. A child that the caller may not read stands there without data and stat: its name is the
// parent's to tell, the rest is not.
func (s *state) children(x *op.Children, auth []op.Identity) op.Result {
	n, err := s.node(x.Path, auth, op.Read)
	if err != nil {
		return op.Result{Err: err}
	}
	p := newPage(x.Limit)
	if d := n.dir(); d != nil {
		for name := range d.names.After(x.After) {
			if !p.put(s.child(x, name, auth)) {
				break
			}
		}
	}
	return op.Result{Stat: n.stat(), Nodes: p.nodes, More: p.more}
}

func (s *state) child(x *op.Children, name string, auth []op.Identity) op.Node {
	dir := x.Path
	if dir == "" {
		dir = op.Root
	}
	entry := op.Node{Path: op.Join(dir, name)}
	if !x.WithData && !x.WithStat {
		return entry
	}
	if n, err := s.node(entry.Path, auth, op.Read); err == nil {
		n.describe(&entry.Stat)
		if x.WithData {
			entry.Data = n.bytes()
		}
	}
	return entry
}

// subtree lists a node and what is below it, parents before children and siblings in byte order. What the caller may not read
// stands there without data and stat, as among children, and what is below it doesn't. (Left out altogether, a million such nodes
// would be a walk without an answer.)
func (s *state) subtree(x *op.Subtree, auth []op.Identity) op.Result {
	path := x.Path
	if path == "" {
		path = op.Root
	}
	n, err := s.node(path, auth, op.Read)
	if err != nil {
		return op.Result{Err: err}
	}
	after, ok := cursor(path, x.After)
	if !ok {
		return fail(op.BadPath, x.After)
	}
	depth := int(x.Depth)
	if depth <= 0 {
		depth = op.MaxDepth
	}
	p := newPage(x.Limit)
	s.descend(p, place{path, n}, after, depth, auth)
	return op.Result{Nodes: p.nodes, More: p.more}
}

// cursor returns the names that lead from path to after: nil if the listing begins at path itself. It is false if after isn't there
// or below.
func cursor(path, after string) (names []string, ok bool) {
	switch {
	case after == "":
		return nil, true
	case after == path:
		return []string{}, true
	case op.CheckPath(after) != nil || !op.Within(after, path):
		return nil, false
	}
	return strings.Split(strings.TrimPrefix(after[len(path):], "/"), "/"), true
}

// descend lists at and what is below it as far as it comes behind the cursor: nil is before at, an empty one is at itself. It
// returns false when the page is full.
func (s *state) descend(p *page, at place, cursor []string, depth int, auth []op.Identity) bool {
	if cursor == nil {
		entry := op.Node{Path: at.path, Data: at.node.bytes()}
		at.node.describe(&entry.Stat)
		if !p.put(entry) {
			return false
		}
	}
	d := at.node.dir()
	if d == nil || depth == 0 {
		return true
	}
	after := ""
	if len(cursor) > 0 {
		after = cursor[0]
		if !s.visit(p, op.Join(at.path, after), cursor[1:], depth-1, auth) {
			return false
		}
	}
	for name := range d.names.After(after) {
		if !s.visit(p, op.Join(at.path, name), nil, depth-1, auth) {
			return false
		}
	}
	return true
}

func (s *state) visit(p *page, path string, cursor []string, depth int, auth []op.Identity) bool {
	n, err := s.node(path, auth, op.Read)
	switch {
	case err == nil:
		return s.descend(p, place{path, n}, cursor, depth, auth)
	case cursor == nil:
		return p.put(op.Node{Path: path})
	}
	return true
}
