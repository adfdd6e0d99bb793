// Package group is membership: who is there, each with some data, until the session that brought it ends.
//
// Each member is an ephemeral node of the group's directory, named by the member's id. The directory is a container, so
// that a group without members leaves nothing behind.
//
// Guarantees: an id is in the group once. A member goes with its session, in the same transaction, and not before. Members
// returns one state of the group, if it fits into one answer (10,000 members, 1 MiB); more are read in pages, none
// older than the position returned.
//
// What it can't: know that a member is of use, or reachable from where you are. It knows that its session lives.
package group

import (
	"context"
	"errors"

	"github.com/coord-kv/coord/internal/recipe"
	"github.com/coord-kv/coord/internal/recipe/follow"
	"github.com/coord-kv/coord/op"
	"github.com/coord-kv/coord/watch"
)

// Dir is where groups are.
const Dir = "/groups"

// Group is a group as one session sees it. It may be used concurrently.
type Group struct {
	conn recipe.Conn
	dir  string
}

// Member is one member.
type Member struct {
	ID   string
	Data []byte
	Stat op.Stat // Ctime says since when, EphemeralOwner whose session it is
}

// New returns the group of that name, which is one segment of a path. The error is a bad_path.
func New(c recipe.Conn, name string) (*Group, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	return At(c, op.Join(Dir, name)), nil
}

// At returns the group whose directory is dir, which must be a valid path.
func At(c recipe.Conn, dir string) *Group { return &Group{conn: c, dir: dir} }

// maxName is the most bytes in the name of something below a directory of recipes.
const maxName = 255

// CheckName returns a bad_path error unless name is one segment of a path, of at most 255 bytes.
func CheckName(name string) error {
	if len(name) > maxName {
		return op.Errorf(op.BadPath, "the name has %d bytes, the limit is %d", len(name), maxName)
	}
	path, why := op.Join(op.Root, name), "it must be one segment of a path"
	err := op.CheckPath(path)
	if e, ok := errors.AsType[*op.Error](err); ok && op.Depth(path) == 1 && e.Detail != "" {
		why = e.Detail
	}
	if err != nil || op.Depth(path) != 1 {
		return op.Errorf(op.BadPath, "%.64q can't be a name: %s", name, why)
	}
	return nil
}

// Join makes id a member, with data, or changes the data of one that this session has made. If another session has a
// member of that id: with replace that one is out of the group in the same transaction, else the error is node_exists.
// Two that keep replacing each other show that an id isn't one's own.
func (g *Group) Join(ctx context.Context, id string, data []byte, replace bool) (Member, error) {
	if err := CheckName(id); err != nil {
		return Member{}, err
	}
	for {
		m, err := g.create(ctx, id, data)
		if !is(err, op.NodeExists) {
			return m, err
		}
		if m, err = g.update(ctx, id, data, replace); !moved(err) {
			return m, err
		}
	}
}

// create makes the member, and the directory if it is missing: a container goes when it is empty, so it may be missing
// again at any time.
func (g *Group) create(ctx context.Context, id string, data []byte) (Member, error) {
	member := &op.Create{Path: op.Join(g.dir, id), Data: data, Kind: op.Ephemeral}
	dir := &op.Create{Path: g.dir, Kind: op.Container, Parents: true}
	for {
		res, err := g.conn.Do(ctx, member)
		if err == nil {
			return Member{id, data, *res.Stat}, nil
		}
		if !is(err, op.NoNode) {
			return Member{}, err
		}
		if res, err = g.conn.Do(ctx, &op.Txn{Then: []op.Op{dir, member}}); err == nil {
			return Member{id, data, *res.Results[1].Stat}, nil
		}
		if !is(err, op.NodeExists) {
			return Member{}, err
		}
	}
}

// update changes a member that is there.
func (g *Group) update(ctx context.Context, id string, data []byte, replace bool) (Member, error) {
	m, err := g.Member(ctx, id, op.ReadOptions{Level: op.Linearizable})
	if err != nil {
		return m, err
	}
	path, unchanged := op.Join(g.dir, id), op.Cond{Version: m.Stat.Version, Mzxid: m.Stat.Mzxid}
	if m.Stat.EphemeralOwner == g.conn.Session() {
		return g.set(ctx, id, data, unchanged)
	}
	if !replace {
		return m, &op.Error{
			Code: op.NodeExists, Outcome: op.Decided, Path: path, Stat: &m.Stat,
			Detail: id + " belongs to " + m.Stat.EphemeralOwner.String() + "; use another id, or replace it",
		}
	}
	res, err := g.conn.Do(ctx, &op.Txn{Then: []op.Op{
		&op.Delete{Path: path, If: unchanged, Recursive: true},
		&op.Create{Path: path, Data: data, Kind: op.Ephemeral},
	}})
	if err != nil {
		return m, err
	}
	return Member{id, data, *res.Results[1].Stat}, nil
}

func (g *Group) set(ctx context.Context, id string, data []byte, cond op.Cond) (Member, error) {
	res, err := g.conn.Do(ctx, &op.Set{Path: op.Join(g.dir, id), Data: data, If: cond})
	if err != nil {
		return Member{}, err
	}
	return Member{id, data, *res.Stat}, nil
}

// Update replaces the data of a member with what f makes of it; f may be called again if the member changes meanwhile.
// The error is no_node if there is no such member, or f's.
func (g *Group) Update(ctx context.Context, id string, f func(Member) ([]byte, error)) (Member, error) {
	for {
		m, err := g.Member(ctx, id, op.ReadOptions{Level: op.Linearizable})
		if err != nil {
			return m, err
		}
		data, err := f(m)
		if err != nil {
			return m, err
		}
		m, err = g.set(ctx, id, data, op.Cond{Version: m.Stat.Version, Mzxid: m.Stat.Mzxid})
		if !is(err, op.BadVersion) {
			return m, err
		}
	}
}

// SetData changes the data of m, as the one that it was when it came. The error is not_holder if it isn't in the group any
// more.
func (g *Group) SetData(ctx context.Context, m Member, data []byte) error {
	_, err := g.Update(ctx, m.ID, func(now Member) ([]byte, error) {
		if now.Stat.Czxid != m.Stat.Czxid {
			return nil, g.gone(m)
		}
		return data, nil
	})
	if is(err, op.NoNode) {
		return g.gone(m)
	}
	return err
}

// Quit takes m out of the group, as the one that it was when it came. The error is not_holder if it isn't in any more.
func (g *Group) Quit(ctx context.Context, m Member) error {
	for {
		now, err := g.Member(ctx, m.ID, op.ReadOptions{Level: op.Linearizable})
		if is(err, op.NoNode) || err == nil && now.Stat.Czxid != m.Stat.Czxid {
			return g.gone(m)
		}
		if err != nil {
			return err
		}
		if err = g.remove(ctx, now); !moved(err) {
			return err
		}
	}
}

func (g *Group) remove(ctx context.Context, m Member) error {
	cond := op.Cond{Version: op.AnyVersion, Mzxid: m.Stat.Mzxid}
	_, err := g.conn.Do(ctx, &op.Delete{Path: op.Join(g.dir, m.ID), If: cond})
	return err
}

func (g *Group) gone(m Member) error {
	return &op.Error{
		Code: op.NotHolder, Outcome: op.Decided, Path: op.Join(g.dir, m.ID),
		Detail: m.ID + " was removed, or replaced by another one of that id",
	}
}

// Leave takes id out of the group, whoever has brought it, unless mine says that only a member of this session may go;
// then the error is not_holder for another's. A member that is not there is no_node.
func (g *Group) Leave(ctx context.Context, id string, mine bool) error {
	for {
		m, err := g.Member(ctx, id, op.ReadOptions{Level: op.Linearizable})
		if err != nil {
			return err
		}
		if mine && m.Stat.EphemeralOwner != g.conn.Session() {
			return &op.Error{
				Code: op.NotHolder, Outcome: op.Refused, Path: op.Join(g.dir, id),
				Detail: id + " belongs to " + m.Stat.EphemeralOwner.String(),
			}
		}
		if err = g.remove(ctx, m); !is(err, op.BadVersion) {
			return err
		}
	}
}

// Member reads one member. The error is no_node if it isn't there.
func (g *Group) Member(ctx context.Context, id string, o op.ReadOptions) (Member, error) {
	if err := CheckName(id); err != nil {
		return Member{}, err
	}
	res, err := g.conn.Read(ctx, &op.Get{Path: op.Join(g.dir, id)}, o)
	if err != nil {
		return Member{}, err
	}
	return Member{id, res.Data, *res.Stat}, nil
}

// Lost waits until m is not in the group any more, as the one that it was when it came, and says why: not_holder, or
// session_expired. Else the error is ctx's.
func (g *Group) Lost(ctx context.Context, m Member) error {
	path := op.Join(g.dir, m.ID)
	read := func(ctx context.Context, o op.ReadOptions) (gone bool, at op.Zxid, err error) {
		res, err := g.conn.Read(ctx, &op.Exists{Path: path}, o)
		if err != nil {
			return false, 0, err
		}
		return res.Stat == nil || res.Stat.Czxid != m.Stat.Czxid, res.Zxid, nil
	}
	_, err := follow.Until(ctx, g.conn, watch.Filter{Path: path}, read, func(gone bool) bool { return gone })
	if err == nil {
		return g.gone(m)
	}
	return err
}

// Members returns the members in the order of their ids, and the position of the state that was read. A group that nobody
// is in has none; that is no error.
func (g *Group) Members(ctx context.Context, o op.ReadOptions) ([]Member, op.Zxid, error) {
	var all []Member
	var at op.Zxid
	for after := ""; ; {
		res, err := g.conn.Read(ctx, &op.Children{Path: g.dir, After: after, WithData: true, WithStat: true}, o)
		if e, ok := errors.AsType[*op.Error](err); ok && e.Code == op.NoNode {
			return nil, e.Zxid, nil
		}
		if err != nil {
			return nil, 0, err
		}
		if at == 0 {
			at = res.Zxid
		}
		all = append(all, members(res.Nodes)...)
		if !res.More {
			return all, at, nil
		}
		after = op.Base(res.Nodes[len(res.Nodes)-1].Path)
		o = op.ReadOptions{Level: op.Eventual, MinZxid: res.Zxid}
	}
}

// members leaves out what the caller may not read.
func members(nodes []op.Node) []Member {
	list := make([]Member, 0, len(nodes))
	for _, n := range nodes {
		if n.Stat != (op.Stat{}) {
			list = append(list, Member{op.Base(n.Path), n.Data, n.Stat})
		}
	}
	return list
}

// Watch returns the members, and again whenever one has come, gone or changed.
func (g *Group) Watch() *follow.Follower[[]Member] {
	return follow.New(g.conn, g.Filter(), g.Members)
}

// Filter matches every change of the group.
func (g *Group) Filter() watch.Filter { return watch.Filter{Path: g.dir, Scope: watch.Children} }

// moved reports whether a write failed because what it was based on is not so any more.
func moved(err error) bool { return is(err, op.NoNode) || is(err, op.BadVersion) }

func is(err error, code op.Code) bool { return errors.Is(err, &op.Error{Code: code}) }
