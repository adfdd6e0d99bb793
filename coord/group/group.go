// Package group is membership: who is there, each with some data, until the session that brought it ends.
//
//	m, err := group.Join(ctx, session, "workers", "w1", group.Data([]byte("10.0.0.1:80")))
//	...
//	for members, err := range group.Watch(ctx, client, "workers") {
//
// # Guarantees
//
//   - An id is in a group once. A member goes with its session, in the same transaction, and not before, unless it leaves
//     or somebody takes it out.
//   - Members returns one state of the group, if it fits into one answer (10,000 members, 1 MiB). Larger groups are read
//     in pages, none of them older than the first.
//   - Watch begins with the members as they are and never ends up showing something else than what is there.
//
// # What it can't
//
// Know that a member is of use, or reachable from where you are. It knows that its session lives. A service whose health
// is checked is in package discovery.
//
// # What hurts
//
// A member whose machine has died stays until its session's timeout is over. Each change is sent to everybody who watches,
// and has each of them read the group again. Each membership has one goroutine.
//
// The same groups are there for curl under /v1/groups and for the shell as coord group.
package group

import (
	"context"
	"iter"
	"time"

	"github.com/coord-kv/coord/coord"
	"github.com/coord-kv/coord/coord/internal/contest"
	"github.com/coord-kv/coord/coord/internal/following"
	"github.com/coord-kv/coord/internal/recipe/group"
	"github.com/coord-kv/coord/op"
)

// ErrNotMember is why a Membership ended whose member was taken out of the group, or replaced.
var ErrNotMember error = &coord.Error{Code: op.NotHolder}

// Via is a *coord.Client or a *coord.Session.
type Via = following.Via

// Member is one member of a group.
type Member struct {
	ID      string
	Data    []byte
	Session string    // whose it is, such as "s-1c"
	Since   time.Time // when it came; the cluster's clock
}

func member(m group.Member) Member {
	return Member{m.ID, m.Data, m.Stat.EphemeralOwner.String(), m.Stat.Ctime.Std()}
}

func members(list []group.Member) []Member {
	all := make([]Member, len(list))
	for i, m := range list {
		all[i] = member(m)
	}
	return all
}

// JoinOption sets something of a Membership.
type JoinOption func(*joining)

type joining struct {
	data    []byte
	replace bool
}

// Data is what the others see of the member besides its id.
func Data(data []byte) JoinOption { return func(j *joining) { j.data = data } }

// Replace takes a member of the same id that another session has brought out of the group, in the same transaction: after
// a restart, one's own from before. Two that keep replacing each other have ids that are not their own.
func Replace() JoinOption { return func(j *joining) { j.replace = true } }

// Membership is being in a group. It is safe for concurrent use.
type Membership struct {
	g      *group.Group
	at     group.Member
	tenure *contest.Tenure
}

// Join makes id, one segment of a path, a member of the group of that name, until it leaves or the session ends. ctx
// bounds the call alone. The error is coord.ErrNodeExists if another session has brought a member of that id. A session that
// joins again under its id changes the data.
func Join(ctx context.Context, s *coord.Session, name, id string, opts ...JoinOption) (*Membership, error) {
	var j joining
	for _, o := range opts {
		o(&j)
	}
	g, err := group.New(s.Conn(), name)
	if err != nil {
		return nil, err
	}
	at, err := g.Join(ctx, id, j.data, j.replace)
	if err != nil {
		return nil, following.Why(s.Conn(), err)
	}
	lost := func(ctx context.Context) error { return g.Lost(ctx, at) }
	return &Membership{g, at, contest.Begin(s, lost)}, nil
}

// ID returns the member's id.
func (m *Membership) ID() string { return m.at.ID }

// Context returns a context that ends when the member has left, was taken out of the group or replaced, or when the
// session is lost. Its cause is then context.Canceled, ErrNotMember, or what ended the session.
func (m *Membership) Context() context.Context { return m.tenure.Context() }

// SetData changes what the others see. The error is ErrNotMember if the member isn't in the group any more.
func (m *Membership) SetData(ctx context.Context, data []byte) error {
	if err := context.Cause(m.Context()); err != nil {
		return err
	}
	return m.g.SetData(ctx, m.at, data)
}

// Leave takes the member out of the group. Its context ends first. If it was lost before, the error is ErrNotMember or
// coord.ErrSessionExpired; another's member of that id stays. If ctx ends before there is an answer, the member goes as
// soon as a member of the cluster can be asked, or with the session.
func (m *Membership) Leave(ctx context.Context) error {
	lost := m.tenure.Lost()
	m.tenure.End()
	if lost != nil {
		return lost
	}
	return contest.Await(ctx, func() error { return m.g.Quit(ctx, m.at) })
}

// Members returns the members, by id. A group that nobody is in has none; that is no error.
func Members(ctx context.Context, via Via, name string) ([]Member, error) {
	g, err := group.New(via.Conn(), name)
	if err != nil {
		return nil, err
	}
	list, _, err := g.Members(ctx, op.ReadOptions{Level: op.Linearizable})
	return members(list), err
}

// Watch yields the members as they are, and again whenever one has come, gone or changed. It ends when the loop ends, or
// with an error: the context's, or why the Client or the Session has ended. While no member of the cluster can be reached
// it waits.
func Watch(ctx context.Context, via Via, name string) iter.Seq2[[]Member, error] {
	g, err := group.New(via.Conn(), name)
	if err != nil {
		return following.None[[]Member](err)
	}
	return following.Seq(ctx, via.Conn(), g.Watch(), members)
}

// Remove takes a member out of the group, whoever has brought it. The error is coord.ErrNoNode if there is none of that
// id.
func Remove(ctx context.Context, via Via, name, id string) error {
	g, err := group.New(via.Conn(), name)
	if err != nil {
		return err
	}
	return g.Leave(ctx, id, false)
}
