package barrier

import (
	"context"
	"errors"

	"github.com/coord-kv/coord/internal/recipe"
	"github.com/coord-kv/coord/internal/recipe/follow"
	"github.com/coord-kv/coord/internal/recipe/group"
	"github.com/coord-kv/coord/op"
	"github.com/coord-kv/coord/watch"
)

// Double is a barrier for n members: Enter returns when n have entered, Leave when all have left. Then it is as new.
//
//	/double-barriers/NAME/members/SESSION    ephemeral: who has entered and not left
//	/double-barriers/NAME/ready              n have been there: all may begin
//
// A member whose session ends counts as one that has left. If that happens before n were there, the others wait for
// another one; if afterwards, they don't wait for it at the end. More than n may enter before anybody has begun; who comes
// when a round is under way waits for the next one.
//
// One goroutine uses it at a time.
type Double struct {
	conn  recipe.Conn
	dir   string
	n     int
	round op.Zxid // that this member has begun; 0 if it doesn't know
}

// NewDouble returns the double barrier of that name for n members, at least 1, each with a session of its own. All must
// say the same n. The error is a bad_path or bad_request.
func NewDouble(c recipe.Conn, name string, n int) (*Double, error) {
	if err := group.CheckName(name); err != nil {
		return nil, err
	}
	if n < 1 {
		return nil, op.Errorf(op.BadRequest, "a double barrier is for at least one member, not %d", n)
	}
	return &Double{conn: c, dir: op.Join(DoublesDir, name), n: n}, nil
}

func (d *Double) members() string { return d.dir + "/members" }
func (d *Double) ready() string   { return d.dir + "/ready" }
func (d *Double) me() string      { return op.Join(d.members(), d.conn.Session().String()) }

// Round is what a member sees of the barrier.
type Round struct {
	Members int
	ID      op.Zxid // of the round that is under way: no two have the same; 0 if none has begun
}

// Read reads how the barrier is, and the position of the state that says so.
func (d *Double) Read(ctx context.Context, o op.ReadOptions) (r Round, at op.Zxid, err error) {
	res, err := d.conn.Read(ctx, &op.Subtree{Path: d.dir, Depth: 1}, o)
	if e, ok := errors.AsType[*op.Error](err); ok && e.Code == op.NoNode {
		return r, e.Zxid, nil
	}
	if err != nil {
		return r, 0, err
	}
	for _, n := range res.Nodes {
		switch n.Path {
		case d.members():
			r.Members = int(n.Stat.NumChildren)
		case d.ready():
			r.ID = n.Stat.Czxid
		}
	}
	return r, res.Zxid, nil
}

// Round returns the id of the round that this member has begun; 0 if it has begun none.
func (d *Double) Round() op.Zxid { return d.round }

// Filter matches every change of the barrier; members come and go two levels below.
func (d *Double) Filter() watch.Filter { return watch.Filter{Path: d.dir, Scope: watch.Subtree} }

func (d *Double) follow() *follow.Follower[Round] { return follow.New(d.conn, d.Filter(), d.Read) }

// Enter waits until n members are there. If ctx ends before, the member leaves again, at worst with its session. A session
// that is in already is node_exists.
func (d *Double) Enter(ctx context.Context) error {
	err := d.come(ctx)
	if e, ok := errors.AsType[*op.Error](err); err != nil && (!ok || e.Outcome != op.Unknown) {
		return err
	}
	if err == nil {
		err = d.begin(ctx)
	}
	if err != nil {
		// Whatever comes of it: a node that stays goes with the session.
		d.leave(d.conn.Context())
	}
	return err
}

// come makes the member's node in a round that has not begun.
func (d *Double) come(ctx context.Context) error {
	res, err := d.conn.Read(ctx, &op.Exists{Path: d.me()}, op.ReadOptions{Level: op.Linearizable})
	if err != nil {
		return err
	}
	if res.Stat != nil { // and would wait for itself
		return &op.Error{
			Code: op.NodeExists, Outcome: op.Decided, Path: d.me(), Detail: "this session is in already; each member needs its own",
		}
	}
	f := d.follow()
	defer f.Close()
	me := &op.Create{Path: d.me(), Kind: op.Ephemeral, Parents: true}
	for {
		r, _, err := f.Next(ctx)
		if err != nil {
			return err
		}
		if r.ID != 0 && r.Members > 0 {
			continue // a round is under way
		}
		if r.ID != 0 {
			if err := d.end(ctx); err != nil {
				return err
			}
		}
		enter := []op.Op{&op.Check{Path: d.ready(), If: op.Cond{Absent: true}}, me}
		_, err = d.conn.Do(context.WithoutCancel(ctx), &op.Txn{Then: enter})
		if e, ok := errors.AsType[*op.Error](err); ok && e.Code == op.NodeExists && e.Path == d.ready() {
			continue // it has begun meanwhile, and that is a change
		}
		return err
	}
}

// begin waits until n are there, and says so to all.
func (d *Double) begin(ctx context.Context) error {
	f := d.follow()
	defer f.Close()
	for {
		r, _, err := f.Next(ctx)
		if err != nil {
			return err
		}
		if d.round = r.ID; d.round != 0 {
			return nil
		}
		if r.Members < d.n {
			continue
		}
		if _, err := d.conn.Do(ctx, &op.Create{Path: d.ready()}); unless(op.NodeExists, err) != nil {
			return err
		} // it is ready in a later state, which tells its id
	}
}

// Leave waits until all members of the round have left, or ended. It must follow an Enter that has returned nil; if that
// was another Double's of the same session, this one sees for itself which round it is, and a session that isn't in is
// not_holder.
func (d *Double) Leave(ctx context.Context) error {
	if d.round == 0 {
		r, at, err := d.Read(ctx, op.ReadOptions{Level: op.Linearizable})
		if err == nil {
			err = d.isIn(ctx, op.ReadOptions{Level: op.Eventual, MinZxid: at})
		}
		if err != nil {
			return err
		}
		d.round = r.ID
	}
	if err := d.leave(ctx); err != nil {
		return err
	}
	f := d.follow()
	defer f.Close()
	for {
		r, _, err := f.Next(ctx)
		if err != nil || r.ID == 0 || r.ID != d.round {
			return err
		}
		if r.Members == 0 {
			return d.end(ctx)
		}
	}
}

// isIn is not_holder unless this session is a member.
func (d *Double) isIn(ctx context.Context, o op.ReadOptions) error {
	res, err := d.conn.Read(ctx, &op.Exists{Path: d.me()}, o)
	if err != nil || res.Stat != nil {
		return err
	}
	return &op.Error{Code: op.NotHolder, Outcome: op.Decided, Path: d.dir, Zxid: res.Zxid, Detail: "this session isn't in, or not any more"}
}

func (d *Double) leave(ctx context.Context) error {
	_, err := d.conn.Do(ctx, &op.Delete{Path: d.me(), If: op.Always})
	return unless(op.NoNode, err)
}

// Quit takes this member out of the round, or of the line for one, and waits for nobody.
func (d *Double) Quit(ctx context.Context) error { return d.leave(ctx) }

// Lost waits until this session isn't in any more, and says why: not_holder, or session_expired. Else the error is ctx's.
func (d *Double) Lost(ctx context.Context) error {
	g := group.At(d.conn, d.members())
	m, err := g.Member(ctx, d.conn.Session().String(), op.ReadOptions{Level: op.Linearizable})
	if err != nil {
		return err
	}
	return g.Lost(ctx, m)
}

// end ends a round that nobody is in any more: the directory of members can be deleted only when it is empty.
func (d *Double) end(ctx context.Context) error {
	_, err := d.conn.Do(ctx, &op.Txn{Then: []op.Op{
		&op.Delete{Path: d.members(), If: op.Always}, &op.Delete{Path: d.ready(), If: op.Always},
	}})
	return unless(op.NotEmpty, unless(op.NoNode, err))
}
