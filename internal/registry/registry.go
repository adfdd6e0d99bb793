// Package registry is service discovery: which instances of a service there are, where, and in what health.
//
// An instance is an ephemeral node, /services/NAME/ID, whose data is JSON: address, port, tags, meta, status. Whoever
// registers it says how it is; nobody else looks. It is gone when the session that registered it ends.
//
// Guarantees: an id is registered once. Resolve returns one state of the service, if it fits into one answer (10,000
// instances, 1 MiB); more are read in pages, none older than the position returned. A Watch begins with the service as it
// is and never ends up showing something else than what is there: no change is missed, though several may come as one.
//
// What it can't: tell a dead instance from one whose session has not timed out yet, or know that an instance can be
// reached from where you are. Callers must be ready to try another one.
package registry

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/coord-kv/coord/internal/recipe"
	"github.com/coord-kv/coord/internal/recipe/follow"
	"github.com/coord-kv/coord/internal/recipe/group"
	"github.com/coord-kv/coord/op"
	"github.com/coord-kv/coord/watch"
)

// Dir is where services are.
const Dir = "/services"

// Registry is the services as one session sees them. It may be used concurrently.
type Registry struct{ conn recipe.Conn }

// New returns the registry. To register takes a connection with a session.
func New(c recipe.Conn) *Registry { return &Registry{c} }

func (r *Registry) group(service string) *group.Group { return group.At(r.conn, op.Join(Dir, service)) }

// Register registers an instance in the name of the session, or changes the one of that id that the session has
// registered. If another session has that id: with replace its instance goes in the same transaction, else the error
// is node_exists. Which of the fields can't be used is a bad_request. It returns the instance as it stands.
func (r *Registry) Register(ctx context.Context, x Instance, replace bool) (Instance, error) {
	x.Status = cmp.Or(x.Status, Passing)
	if err := x.Check(); err != nil {
		return x, err
	}
	g := r.group(x.Service)
	m, err := g.Update(ctx, x.ID, func(old group.Member) ([]byte, error) {
		if old.Stat.EphemeralOwner != r.conn.Session() {
			return nil, errNotMine
		}
		return x.data(x.sinceIn(old)), nil
	})
	if errors.Is(err, errNotMine) || errors.Is(err, &op.Error{Code: op.NoNode}) {
		m, err = g.Join(ctx, x.ID, x.data(0), replace)
	}
	if err != nil {
		return x, err
	}
	return instance(x.Service, m)
}

var errNotMine = errors.New("the instance belongs to another session")

// SetStatus changes the health of an instance and the reason for it, whoever has registered it; with mine only if it was
// this session, else the error is not_holder. It is no_node if the instance isn't there.
func (r *Registry) SetStatus(ctx context.Context, service, id string, s Status, reason string, mine bool) (Instance, error) {
	if err := cmp.Or(CheckName(service), checkHealth(s, reason)); err != nil {
		return Instance{}, err
	}
	m, err := r.group(service).Update(ctx, id, func(old group.Member) ([]byte, error) {
		if owner := old.Stat.EphemeralOwner; mine && owner != r.conn.Session() {
			return nil, &op.Error{Code: op.NotHolder, Outcome: op.Decided, Detail: id + " belongs to " + owner.String()}
		}
		x, err := instance(service, old)
		if err != nil {
			return nil, err
		}
		x.Status, x.Reason = s, reason
		return x.data(x.sinceIn(old)), nil
	})
	if err != nil {
		return Instance{}, err
	}
	return instance(service, m)
}

// Instance reads one instance. The error is no_node if it isn't there.
func (r *Registry) Instance(ctx context.Context, service, id string, o op.ReadOptions) (Instance, error) {
	if err := CheckName(service); err != nil {
		return Instance{}, err
	}
	m, err := r.group(service).Member(ctx, id, o)
	if err != nil {
		return Instance{}, err
	}
	return instance(service, m)
}

// Deregister removes an instance, whoever has registered it; with mine only if it was this session, else the error is
// not_holder. One that isn't there is no_node.
func (r *Registry) Deregister(ctx context.Context, service, id string, mine bool) error {
	if err := CheckName(service); err != nil {
		return err
	}
	return r.group(service).Leave(ctx, id, mine)
}

// Quit removes an instance that Register has returned: that very one. If it isn't there any more the error is not_holder.
func (r *Registry) Quit(ctx context.Context, x Instance) error {
	return r.group(x.Service).Quit(ctx, x.member())
}

// Lost waits until an instance that Register has returned isn't there any more, and says why: not_holder, or
// session_expired. Else the error is ctx's.
func (r *Registry) Lost(ctx context.Context, x Instance) error {
	return r.group(x.Service).Lost(ctx, x.member())
}

// Query says which instances of a service are meant.
type Query struct {
	Passing bool     // only those whose status is passing
	Tags    []string // only those that have all of these
}

func (q Query) matches(x *Instance) bool {
	if q.Passing && x.Status != Passing {
		return false
	}
	return !slices.ContainsFunc(q.Tags, func(tag string) bool { return !slices.Contains(x.Tags, tag) })
}

// Resolve returns the instances of a service that match, by id, and the position to watch from. A service that nobody
// has registered has none; that is no error.
func (r *Registry) Resolve(ctx context.Context, service string, q Query, o op.ReadOptions) ([]Instance, op.Zxid, error) {
	if err := CheckName(service); err != nil {
		return nil, 0, err
	}
	members, at, err := r.group(service).Members(ctx, o)
	list := make([]Instance, 0, len(members))
	for _, m := range members {
		if x, err := instance(service, m); err == nil && q.matches(&x) {
			list = append(list, x)
		}
	}
	return list, at, err
}

// Watch is a service that is watched. One goroutine uses it at a time.
type Watch struct {
	*follow.Follower[[]Instance]
	last []Instance
	any  bool // last is what was returned last
}

// Watch returns the instances that match as they are, and again whenever that has changed.
func (r *Registry) Watch(service string, q Query) *Watch {
	read := func(ctx context.Context, o op.ReadOptions) ([]Instance, op.Zxid, error) {
		return r.Resolve(ctx, service, q, o)
	}
	return &Watch{Follower: follow.New(r.conn, Filter(service), read)}
}

// Filter matches every change of a service.
func Filter(service string) watch.Filter {
	return watch.Filter{Path: op.Join(Dir, service), Scope: watch.Children}
}

// Next waits until the instances that match are others than those returned before, the first time not at all. See
// follow.Follower.
func (w *Watch) Next(ctx context.Context) ([]Instance, op.Zxid, error) {
	for {
		list, at, err := w.Follower.Next(ctx)
		if err == nil && w.any && slices.EqualFunc(list, w.last, sameInstance) {
			continue
		}
		if err == nil {
			w.last, w.any = list, true
		}
		return list, at, err
	}
}

func sameInstance(a, b Instance) bool { return a.revision == b.revision && a.ID == b.ID }

// Service is what Services says of one.
type Service struct {
	Name     string
	Tags     []string // of any of its instances, sorted
	Passing  int
	Warning  int
	Critical int
}

// Services lists the services that have instances, by name, and the position of the state that was read.
func (r *Registry) Services(ctx context.Context, o op.ReadOptions) ([]Service, op.Zxid, error) {
	var all []Service
	var at op.Zxid
	for after := ""; ; {
		res, err := r.conn.Read(ctx, &op.Subtree{Path: Dir, Depth: 2, After: after}, o)
		if e, ok := errors.AsType[*op.Error](err); ok && e.Code == op.NoNode {
			return nil, e.Zxid, nil
		}
		if err != nil {
			return nil, 0, err
		}
		if at == 0 {
			at = res.Zxid
		}
		for i := range res.Nodes {
			all = count(all, &res.Nodes[i])
		}
		if !res.More {
			return all, at, nil
		}
		after = res.Nodes[len(res.Nodes)-1].Path
		o = op.ReadOptions{Level: op.Eventual, MinZxid: res.Zxid}
	}
}

// count adds a node below Dir to the services. Instances of one service are neighbours.
func count(all []Service, n *op.Node) []Service {
	dir := op.Parent(n.Path)
	if op.Parent(dir) != Dir {
		return all
	}
	x, err := instance(op.Base(dir), group.Member{ID: op.Base(n.Path), Data: n.Data, Stat: n.Stat})
	if err != nil {
		return all
	}
	if len(all) == 0 || all[len(all)-1].Name != x.Service {
		all = append(all, Service{Name: x.Service})
	}
	all[len(all)-1].add(&x)
	return all
}

func (s *Service) add(x *Instance) {
	switch x.Status {
	case Passing:
		s.Passing++
	case Warning:
		s.Warning++
	default:
		s.Critical++
	}
	for _, tag := range x.Tags {
		if at, found := slices.BinarySearch(s.Tags, tag); !found {
			s.Tags = slices.Insert(s.Tags, at, tag)
		}
	}
}
