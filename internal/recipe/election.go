package recipe

import (
	"cmp"
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/coord-kv/coord/op"
	"github.com/coord-kv/coord/watch"
)

// Candidacy says in which election one stands, and as what.
type Candidacy struct {
	Name     string // of the election: one segment, under /elections; or the path of a directory, with a slash in front
	ID       string // of the candidate: who a transfer can name; "" for the session's id
	Value    string // what the leader tells everybody, such as its address; up to op.MaxMetadata bytes
	Priority int    // whoever has the highest succeeds, first come first served among equals; no leader is deposed for it
	Waiting  func(ahead int)
	Rand     io.Reader // nil for crypto/rand.Reader
}

// Election is one candidate's part in an election.
type Election struct {
	line
	c    Candidacy
	rand io.Reader
}

const maxPriority = 1_000_000

// NewElection returns an election. It does nothing yet. The error is a bad_path, bad_request or too_large.
func NewElection(conn Conn, c Candidacy) (*Election, error) {
	dir, err := Dir(ElectionsDir, c.Name)
	if err == nil {
		err = errors.Join(checkLabel("the id", c.ID, op.MaxLabel), checkLabel("the value", c.Value, op.MaxMetadata))
	}
	if err == nil && (c.Priority < -maxPriority || c.Priority > maxPriority) {
		err = op.Errorf(op.BadRequest, "a priority of %d; it is from -%d to %[2]d", c.Priority, maxPriority)
	}
	if err != nil {
		return nil, err
	}
	c.ID = cmp.Or(c.ID, conn.Session().String())
	e := &Election{c: c, rand: c.Rand}
	if e.rand == nil {
		e.rand = crand.Reader
	}
	e.line = line{conn: conn, dir: dir, data: encode(contender{Owner: c.ID, Metadata: c.Value, Priority: c.Priority})}
	return e, nil
}

// Term is the time for which a candidate leads, until it resigns or loses it.
type Term struct {
	Name  string
	Token op.Zxid // the fencing token: the zxid at which the term began
	Path  string  // of the leader's node
	ID    string

	line   line
	czxid  op.Zxid // of the node
	record string
}

// leading is the data of an election's directory.
type leading struct {
	ID      string       `json:"id"`
	Value   string       `json:"value,omitempty"`
	Node    string       `json:"node"`
	Session op.SessionID `json:"session"`
}

// Campaign stands for election and returns once the candidate leads. ctx ends the waiting: then the candidate is
// withdrawn before Campaign returns, and the error is an *Occupied. A candidate that somebody takes out of the line, as
// a transfer to another one does, comes back at its end.
//
// Other errors are *op.Error: lock_held if this session leads as this candidate already; mixed_dialect if candidates of
// another recipe stand there, or if a priority is asked for among candidates that know none; session_expired.
func (e *Election) Campaign(ctx context.Context) (*Term, error) {
	t, err := e.campaign(ctx)
	if e.conn.Context().Err() != nil {
		return nil, e.lost(cmp.Or(err, context.Canceled))
	}
	return t, err
}

func (e *Election) campaign(ctx context.Context) (*Term, error) {
	if err := ctx.Err(); errors.Is(err, context.Canceled) {
		return nil, e.occupied(err)
	}
	p, err := e.stand(nil)
	if err != nil {
		return nil, err
	}
	var t *Term
	if t, err = e.win(ctx, &p); err == nil {
		return t, nil
	}
	stuck := e.leave(p)
	if ctx.Err() != nil {
		err = e.occupied(ctx.Err())
	}
	if stuck != nil {
		err = fmt.Errorf("%w; and the candidate couldn't be withdrawn: %w", err, stuck)
	}
	return nil, err
}

// stand enters the line; with leave, it leaves its old place in the same transaction.
func (e *Election) stand(leave *place) (*place, error) {
	id, err := newID(e.rand)
	if err != nil {
		return nil, err
	}
	var before []op.Op
	if leave != nil {
		before = e.leaving(leave)
	}
	p, err := e.enter(curatorName(id, "latch-"), nil, before...)
	if err != nil {
		return nil, err
	}
	if other := stranger(p, "curator-latch"); other != "" {
		return nil, errors.Join(mixed(e.dir, other), e.leave(p))
	}
	return p, nil
}

// win waits for the candidate's turn and takes it. The place is another one whenever the candidate has entered anew.
func (e *Election) win(ctx context.Context, p **place) (*Term, error) {
	if err := e.refuseReentrance(ctx, *p); err != nil {
		return nil, err
	}
	ctx, end := e.during(ctx)
	defer end()
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		var t *Term
		var err error
		if (*p).rank.Position == 0 {
			t, err = e.lead(ctx, p)
		} else {
			err = e.turn(ctx, *p)
		}
		if errors.Is(err, &op.Error{Code: op.NotHolder}) {
			*p, err = e.back(*p)
		}
		if t != nil || err != nil {
			return t, err
		}
	}
}

// back enters the line again for a candidate that was taken out of it.
func (e *Election) back(p *place) (*place, error) {
	q, err := e.stand(nil)
	if err != nil {
		return p, err
	}
	return q, nil
}

func (e *Election) refuseReentrance(ctx context.Context, p *place) error {
	if p.rank.Position == 0 {
		return nil
	}
	mine, err := e.mine(ctx, p.rank.First)
	if err == nil && mine {
		err = &op.Error{
			Code: op.LockHeld, Outcome: op.Decided, Path: e.dir,
			Detail: fmt.Sprintf("this session stands first already as %q", e.c.ID),
		}
	}
	return err
}

// turn waits until the one before has gone.
func (e *Election) turn(ctx context.Context, p *place) error {
	if e.c.Waiting != nil {
		e.c.Waiting(int(p.rank.Position))
	}
	return e.await(ctx, p, watch.Filter{Path: op.Join(e.dir, p.rank.Predecessor), Types: watch.TypesOf(op.Deleted)})
}

// lead takes the term, or makes way for one with a higher priority and returns nil.
func (e *Election) lead(ctx context.Context, p **place) (*Term, error) {
	yield, err := e.outranked(ctx, *p)
	if err != nil {
		return nil, err
	}
	if yield {
		q, err := e.stand(*p)
		if err == nil {
			*p = q
		}
		return nil, err
	}
	return e.takeTerm(ctx, *p)
}

// takeTerm begins a term in one transaction that checks that the candidate stands first, and records it.
func (e *Election) takeTerm(ctx context.Context, p *place) (*Term, error) {
	session := e.conn.Session()
	res, err := e.do(&op.Txn{Then: []op.Op{
		&op.Lead{Dir: e.dir, Node: p.name(), Data: encode(leading{e.c.ID, e.c.Value, p.name(), session})},
		e.recording(encode(tenure{Owner: e.c.ID, Session: session})),
	}})
	if errors.Is(err, &op.Error{Code: op.NotHolder}) {
		return nil, e.line.stand(ctx, p) // which says so if the node is gone
	}
	if err != nil {
		return nil, err
	}
	return &Term{
		Name: e.c.Name, Token: res.Zxid, Path: p.path, ID: e.c.ID, line: e.line, czxid: p.token, record: res.Results[1].Path,
	}, nil
}

// outranked reports whether one who stands behind p has a higher priority. It is asked by the first, so it is the first
// who goes to the end, and one after the other does until the one with the highest stands first.
func (e *Election) outranked(ctx context.Context, p *place) (bool, error) {
	if p.rank.Len == 1 {
		return false, nil
	}
	i, err := inspect(ctx, e.conn, e.c.Name, e.dir)
	if err != nil {
		return false, err
	}
	if other := i.foreign(); other != "" {
		if e.c.Priority != 0 {
			return false, unranked(e.dir, other)
		}
		return false, nil
	}
	return slices.ContainsFunc(i.Waiters, func(c Contender) bool { return c.Priority > e.c.Priority }), nil
}

// foreign returns the name of a candidate that is none of coord's, and so knows no priorities; "" if there is none.
func (i *Info) foreign() string {
	for _, c := range i.Waiters {
		if c.foreign || family(op.Base(c.Path)) != "curator-latch" {
			return op.Base(c.Path)
		}
	}
	return ""
}

// unranked is the error where the order of candidates would have to be another one than that in which they came.
func unranked(dir, other string) error {
	return &op.Error{
		Code: op.MixedDialect, Outcome: op.Decided, Path: dir,
		Detail: fmt.Sprintf("%s is in use by a client that knows no priorities and no transfer: %q stands there", dir, other),
	}
}

func (e *Election) occupied(cause error) error {
	err := &Occupied{Err: &op.Error{Code: op.LockHeld, Outcome: op.Decided, Path: e.dir}, Cause: cause}
	i, _ := InspectElection(e.conn.Context(), e.conn, e.c.Name)
	if i != nil {
		err.Info = &i.Info
		for n := range i.Holders {
			i.Holders[n].Token = i.Leader.Token // it is the term that counts
		}
	}
	err.Err.Detail = err.Info.heldBy(e.dir) + "; gave up waiting: " + waitEnded(cause)
	return err
}

// waitEnded says what the end of a context stands for.
func waitEnded(cause error) string {
	switch {
	case errors.Is(cause, context.DeadlineExceeded):
		return "the time to wait was over"
	case errors.Is(cause, context.Canceled):
		return "the wait was cancelled"
	}
	return cause.Error()
}

// Resign ends the term and withdraws the candidate. If the term was lost before, the error is not_holder, or
// session_expired.
func (t *Term) Resign(context.Context) error {
	end := ending(t.line.dir, t.Path, t.czxid, t.record, tenure{
		Token: t.Token, Owner: t.ID, Session: t.line.conn.Session(), Ended: Released,
	})
	_, err := t.line.do(end)
	if errors.Is(err, &op.Error{Code: op.NoNode}) {
		err = t.line.notHeld(t.line.conn.Context(), t.Token, t.record)
	}
	return t.line.lost(err)
}

// Lost waits until the term is over and says why, as Grant.Lost does.
func (t *Term) Lost(ctx context.Context) error {
	return t.line.vanished(ctx, t.Path, t.czxid, t.Token, t.record)
}

// InTerm returns the term of an election that the session leads, as a program asks for it that has kept only the
// session. The error is a not_holder.
func InTerm(ctx context.Context, c Conn, name string) (*Term, error) {
	i, err := InspectElection(ctx, c, name)
	if err != nil && !errors.Is(err, &op.Error{Code: op.NoLock}) {
		return nil, err
	}
	if err != nil || i.Leader.Token == 0 || len(i.Holders) == 0 || i.Holders[0].Session != c.Session() {
		return nil, &op.Error{
			Code: op.NotHolder, Outcome: op.Decided, Detail: fmt.Sprintf("%s doesn't lead %s", c.Session(), name),
		}
	}
	record, err := recordOf(ctx, c, i.Dir, i.Leader.Token)
	h := i.Holders[0]
	l := line{conn: c, dir: i.Dir}
	return &Term{
		Name: name, Token: i.Leader.Token, Path: h.Path, ID: h.Owner, line: l, czxid: h.Token, record: record,
	}, err
}

// ElectionInfo is an election as it stands: its leader is the only one of Holders, if it has one; Waiters are the other
// candidates, in order.
type ElectionInfo struct {
	Info
	Leader Leader
}

// InspectElection reads who leads, who stands for election and who led lately. The error is a no_lock if there is no
// trace of such an election.
func InspectElection(ctx context.Context, r Reader, name string) (*ElectionInfo, error) {
	l, err := LeaderOf(ctx, r, name)
	if err != nil {
		return nil, err
	}
	dir, _ := Dir(ElectionsDir, name)
	i, err := inspect(ctx, r, nameOf(ElectionsDir, dir), dir)
	if err != nil {
		return nil, err
	}
	i.closeTerm(l)
	if l.Token != 0 && len(i.Waiters) > 0 {
		i.Waiters[0].Since = l.Since
		i.Holders, i.Waiters = i.Waiters[:1:1], i.Waiters[1:]
	}
	return &ElectionInfo{*i, l}, nil
}

// closeTerm takes the present term out of the history: its token is no contender's, so it looks as if it had expired.
func (i *Info) closeTerm(l Leader) {
	i.History = slices.DeleteFunc(i.History, func(t Tenure) bool { return t.Token == l.Token && t.Until == 0 })
}

// Transfer makes the candidate of that id the leader: in one transaction all who stand before it are taken out of the
// line, the leader first, whose term ends with that; those who still campaign come back at its end. by says who did it.
// The error is a not_leader_candidate if there is no such candidate, and mixed_dialect if one of another recipe stands
// there.
func Transfer(ctx context.Context, c Conn, name, to, by string) error {
	i, err := InspectElection(ctx, c, name)
	if err != nil {
		return err
	}
	line := append(slices.Clone(i.Holders), i.Waiters...)
	if other := (&Info{Waiters: line}).foreign(); other != "" {
		return unranked(i.Dir, other)
	}
	at := slices.IndexFunc(line, func(c Contender) bool { return c.Owner == to })
	switch {
	case at < 0:
		return &op.Error{
			Code: op.NotLeaderCandidate, Outcome: op.Decided, Path: i.Dir, Detail: fmt.Sprintf("no candidate is called %q", to),
		}
	case at == 0:
		return nil
	}
	return makeWay(ctx, c, i, line[:at+1], by)
}

// makeWay deletes the nodes of all but the last, if that one still stands there.
func makeWay(ctx context.Context, c Conn, i *ElectionInfo, line []Contender, by string) error {
	to := line[len(line)-1]
	var then []op.Op
	if i.Leader.Token != 0 {
		record, err := recordOf(ctx, c, i.Dir, i.Leader.Token)
		if err != nil {
			return err
		}
		then = ended(i.Dir, line[0].Path, line[0].Token, record, tenure{
			Token: i.Leader.Token, Owner: i.Leader.ID, Session: i.Leader.Session, Ended: Broken, By: by,
		})
		line = line[1:]
	}
	for _, c := range line[:len(line)-1] {
		then = append(then, exactly(c.Path, c.Token))
	}
	_, err := c.Do(ctx, &op.Txn{If: []op.Op{&op.Check{Path: to.Path, If: op.Always}}, Then: then})
	if errors.Is(err, &op.Error{Code: op.NoNode}) {
		err = &op.Error{
			Code: op.NotLeaderCandidate, Outcome: op.Decided, Path: i.Dir,
			Detail: "the candidates changed meanwhile; look again",
		}
	}
	return err
}
