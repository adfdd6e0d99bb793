package recipe

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/coord-kv/coord/op"
	"github.com/coord-kv/coord/watch"
)

// Leader is who leads. Its zero value, but for Zxid, stands for nobody.
type Leader struct {
	ID      string
	Value   string
	Token   op.Zxid // the term
	Session op.SessionID
	Since   op.Time
	Zxid    op.Zxid // as of which state
}

// LeaderOf reads who leads. A candidate of another recipe that leads is not seen here: it has no term.
func LeaderOf(ctx context.Context, r Reader, name string) (Leader, error) {
	dir, err := Dir(ElectionsDir, name)
	if err != nil {
		return Leader{}, err
	}
	// The data and whether its term stands are asked of two states. If it stands at the later one, it was in force at
	// both, and its data the same. If it doesn't, another term may have begun in between: that nobody leads is known
	// once the data is seen unchanged after the term was found to be over, since none begins again.
	for over := op.Zxid(0); ; {
		res, err := r.Read(ctx, &op.Get{Path: dir}, op.ReadOptions{Level: op.Linearizable})
		if errors.Is(err, &op.Error{Code: op.NoNode}) {
			e, _ := errors.AsType[*op.Error](err)
			return Leader{Zxid: e.Zxid}, nil
		}
		if err != nil {
			return Leader{}, err
		}
		token := res.Stat.Mzxid
		if token == over {
			return Leader{Zxid: res.Zxid}, nil
		}
		check, err := r.Read(ctx, &op.Term{Dir: dir, Token: token}, op.ReadOptions{Level: op.Linearizable})
		if err == nil {
			return leaderIn(res, check.Zxid), nil
		}
		if !errors.Is(err, &op.Error{Code: op.StaleToken}) {
			return Leader{}, err
		}
		over = token
	}
}

func leaderIn(res *op.Result, at op.Zxid) Leader {
	var l leading
	if json.Unmarshal(res.Data, &l) != nil {
		l.ID = printable(res.Data)
	}
	return Leader{l.ID, l.Value, res.Stat.Mzxid, l.Session, res.Stat.Mtime, max(res.Zxid, at)}
}

// Observer follows who leads. One goroutine uses it at a time.
type Observer struct {
	conn  Conn
	name  string
	dir   string
	begun bool
	last  Leader
}

// Observe returns an Observer of an election, which begins with the leader as it is.
func Observe(c Conn, name string) (*Observer, error) {
	dir, err := Dir(ElectionsDir, name)
	if err != nil {
		return nil, err
	}
	return &Observer{conn: c, name: name, dir: dir}, nil
}

// ObserveAfter returns an Observer of whoever leads after that term; 0 stands for a time when nobody led.
func ObserveAfter(c Conn, name string, term op.Zxid) (*Observer, error) {
	o, err := Observe(c, name)
	if err == nil {
		o.begun, o.last.Token = true, term
	}
	return o, err
}

// Next waits until the leader is another one than Next has returned last, and returns it. Leaders that were followed by
// another one in the meantime are left out: what counts is who leads.
func (o *Observer) Next(ctx context.Context) (Leader, error) {
	for {
		l, err := LeaderOf(ctx, o.conn, o.name)
		if err != nil {
			return Leader{}, err
		}
		changed := !o.begun || l.Token != o.last.Token
		o.begun, o.last = true, l
		if changed {
			return l, nil
		}
		if err := o.change(ctx); err != nil {
			return Leader{}, err
		}
	}
}

// change waits for something to happen in the directory after what Next has seen.
func (o *Observer) change(ctx context.Context) error {
	f := watch.Filter{Path: o.dir, Scope: watch.Children}
	events, err := o.conn.Watch(ctx, f, o.last.Zxid)
	if err != nil {
		return ignoreGap(err)
	}
	defer events.Close()
	_, _, err = events.Next(ctx)
	return ignoreGap(err)
}
