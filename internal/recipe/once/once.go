// Package once runs something once in a period, by whoever comes first.
//
// Guarantees: at each point of the history at most one runs it, in a session that was alive when it began. What has been
// finished in a period isn't begun again in it. A period lasts as long as asked by whoever began it, from when it was begun,
// by the cluster's own clock. The last run that was finished is recorded.
//
// What it can't: know how far a run came whose session ended. Unless asked to give up on it, the next one begins again,
// so that it is done at least once; else, not before the period is over, so that it is done at most once.
package once

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/coord-kv/coord/internal/recipe"
	"github.com/coord-kv/coord/internal/recipe/attempt"
	"github.com/coord-kv/coord/internal/recipe/group"
	"github.com/coord-kv/coord/op"
)

// Dir is where the records are. What is run once has a directory there with up to three nodes: run, of whoever runs it;
// period, for as long as the period lasts; and last, the record of the last run that was finished. A run and its period
// are made in one transaction, so that the zxid of it, the token, ties them and the record together.
const Dir = "/once"

// MaxStatus is how many bytes of a status are kept.
const MaxStatus = 512

// Record is what is kept of a run.
type Record struct {
	Token  op.Zxid `json:"token"`
	Owner  string  `json:"owner"`
	Status string  `json:"status"`
	Failed bool    `json:"failed"` // the period doesn't count as done
	Began  op.Time `json:"began"`
	Ended  op.Time `json:"-"`
}

// Begun is a run that was begun.
type Begun struct {
	Owner   string
	Token   op.Zxid
	Session op.SessionID // that it ends with; 0 of what is known from its period
	Since   op.Time
}

// State is what there is at one point; nil stands for what isn't there.
type State struct {
	Run    *Begun  // under way
	Period *Begun  // with which the period began that lasts
	Last   *Record // the last that was finished
}

// Taken is the error when it isn't to be run now.
type Taken struct {
	Running bool    // somebody runs it
	Owner   string  // who does, or began the run that was not finished
	Since   op.Time // when that began
	Last    *Record // of the run that was finished in this period; else nil
}

// Error says why.
func (t *Taken) Error() string {
	switch {
	case t.Running:
		return "it is run by " + t.Owner
	case t.Last != nil:
		return fmt.Sprintf("it was run by %s in this period: %s", t.Last.Owner, t.Last.Status)
	}
	return fmt.Sprintf("%s began it in this period and did not finish", t.Owner)
}

// Once is one thing that is run once in a period, as one session sees it.
type Once struct {
	conn recipe.Conn
	dir  string
}

// New returns what goes by that name, one segment of a path. The error is a bad_path.
func New(c recipe.Conn, name string) (*Once, error) {
	if err := group.CheckName(name); err != nil {
		return nil, err
	}
	return &Once{c, op.Join(Dir, name)}, nil
}

// Run is a run that was begun.
type Run struct {
	o     *Once
	Token op.Zxid
	owner string
	began op.Time
}

// Begin begins a run, and a period of that length (1 ms to 2^40-1 ms, in whole milliseconds). With atMostOnce, one that was
// begun in this period and not finished isn't begun again. The error is a *Taken if it isn't to be run now.
func (o *Once) Begin(ctx context.Context, owner string, every time.Duration, atMostOnce bool) (*Run, error) {
	res, err := attempt.Do(ctx, o.conn, func() ([]op.Op, error) {
		s, err := o.look(ctx, op.ReadOptions{Level: op.Linearizable})
		if err != nil {
			return nil, err
		}
		if t := s.state().Taken(atMostOnce); t != nil {
			return nil, attempt.Refuse(t)
		}
		return o.begin(s, owner, every), nil
	})
	if err != nil {
		return nil, err
	}
	made := res.Results[len(res.Results)-1].Stat
	return &Run{o, made.Czxid, owner, made.Ctime}, nil
}

// begin returns the transaction that begins a run if everything is still as it was seen.
func (o *Once) begin(s seen, owner string, every time.Duration) []op.Op {
	ops := []op.Op{&op.Check{Path: o.at("last"), If: s.last.same()}}
	if s.last == nil && s.period == nil && s.run == nil {
		ops = []op.Op{&op.Create{Path: o.dir, Parents: true, Replace: true}}
	}
	if s.period != nil {
		ops = append(ops, &op.Delete{Path: o.at("period"), If: s.period.same()})
	}
	return append(ops,
		&op.Create{Path: o.at("period"), Data: []byte(owner), Kind: op.TTL, TTL: every},
		&op.Create{Path: o.at("run"), Data: []byte(owner), Kind: op.Ephemeral})
}

func (o *Once) at(name string) string { return op.Join(o.dir, name) }

// End finishes the run. With failed, the period doesn't count as done. The error is not_holder if the run is not the
// present one any more: its session has ended, or somebody has removed it.
func (r *Run) End(ctx context.Context, status string, failed bool) error {
	if len(status) > MaxStatus {
		status = strings.ToValidUTF8(status[:MaxStatus], "")
	}
	data, err := json.Marshal(Record{Token: r.Token, Owner: r.owner, Status: status, Failed: failed, Began: r.began})
	if err != nil {
		return err
	}
	mine := op.Cond{Version: op.AnyVersion, Mzxid: r.Token}
	_, err = r.o.conn.Do(ctx, &op.Txn{Then: []op.Op{
		&op.Delete{Path: r.o.at("run"), If: mine},
		&op.Create{Path: r.o.at("last"), Data: data, Replace: true},
	}})
	if e, ok := errors.AsType[*op.Error](err); ok && (e.Code == op.NoNode || e.Code == op.BadVersion) {
		return r.o.notMine(e.Zxid, "the run is not the present one any more")
	}
	return err
}

func (o *Once) notMine(at op.Zxid, why string) error {
	return &op.Error{Code: op.NotHolder, Outcome: op.Decided, Path: o.dir, Zxid: at, Detail: why}
}

// Mine returns the run that the session has begun and not finished. With a token it must be that one. The error is
// not_holder if there is none.
func (o *Once) Mine(ctx context.Context, token op.Zxid) (*Run, error) {
	res, err := o.conn.Read(ctx, &op.Get{Path: o.at("run")}, op.ReadOptions{Level: op.Linearizable})
	if e, ok := errors.AsType[*op.Error](err); ok && e.Code == op.NoNode {
		return nil, o.notMine(e.Zxid, "nobody runs it")
	}
	if err != nil {
		return nil, err
	}
	b := begun(&op.Node{Data: res.Data, Stat: *res.Stat})
	if b.Session != o.conn.Session() || token != 0 && b.Token != token {
		return nil, o.notMine(res.Zxid, fmt.Sprintf("it is run by %s, with the token %d", b.Owner, b.Token))
	}
	return &Run{o, b.Token, b.Owner, b.Since}, nil
}

// State reads what there is.
func (o *Once) State(ctx context.Context, ro op.ReadOptions) (State, error) {
	s, err := o.look(ctx, ro)
	return s.state(), err
}

// Last reads the record of the last run that was finished. The error is no_node if none was.
func (o *Once) Last(ctx context.Context) (*Record, error) {
	res, err := o.conn.Read(ctx, &op.Get{Path: o.at("last")}, op.ReadOptions{Level: op.Linearizable})
	if err != nil {
		return nil, err
	}
	return o.record(&op.Node{Data: res.Data, Stat: *res.Stat})
}

// seen is what there is at one point; nil stands for what isn't there.
type seen struct {
	run, period, last *child
	record            *Record
}

type child struct{ *op.Node }

// same is the condition that a node, or its absence, is as it was seen.
func (c *child) same() op.Cond {
	if c == nil {
		return op.Cond{Absent: true}
	}
	return op.Cond{Version: c.Stat.Version, Mzxid: c.Stat.Mzxid}
}

func (s seen) state() State {
	st := State{Last: s.record}
	if s.run != nil {
		st.Run = begun(s.run.Node)
	}
	if s.period != nil {
		st.Period = begun(s.period.Node)
	}
	return st
}

func begun(n *op.Node) *Begun {
	return &Begun{string(n.Data), n.Stat.Czxid, n.Stat.EphemeralOwner, n.Stat.Ctime}
}

func (o *Once) look(ctx context.Context, ro op.ReadOptions) (s seen, err error) {
	res, err := o.conn.Read(ctx, &op.Children{Path: o.dir, WithData: true, WithStat: true}, ro)
	if e, ok := errors.AsType[*op.Error](err); ok && e.Code == op.NoNode {
		return s, nil
	}
	if err != nil {
		return s, err
	}
	for i := range res.Nodes {
		c := &child{&res.Nodes[i]}
		switch path.Base(c.Path) {
		case "run":
			s.run = c
		case "period":
			s.period = c
		case "last":
			s.last = c
			if s.record, err = o.record(c.Node); err != nil {
				return s, err
			}
		}
	}
	return s, nil
}

func (o *Once) record(n *op.Node) (*Record, error) {
	r := &Record{Ended: n.Stat.Mtime}
	if err := json.Unmarshal(n.Data, r); err != nil {
		return nil, op.Errorf(op.BadRequest, "%s holds %.32q, which is no record of a run; delete it", o.at("last"), n.Data)
	}
	return r, nil
}

// Taken returns why nothing is to be begun, nil if something is.
func (s State) Taken(atMostOnce bool) *Taken {
	switch {
	case s.Run != nil:
		return &Taken{Running: true, Owner: s.Run.Owner, Since: s.Run.Since}
	case s.Period == nil:
		return nil
	case s.Last != nil && s.Last.Token == s.Period.Token:
		if s.Last.Failed {
			return nil
		}
		return &Taken{Owner: s.Last.Owner, Since: s.Last.Began, Last: s.Last}
	case atMostOnce:
		return &Taken{Owner: s.Period.Owner, Since: s.Period.Since}
	}
	return nil
}
