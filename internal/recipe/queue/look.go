package queue

import (
	"context"
	"encoding/json"

	"github.com/coord-kv/coord/op"
)

// Info is what is in a queue.
type Info struct {
	Limits
	Len     int64 // items, claimed ones too
	Claimed int64
	Zxid    op.Zxid
}

// Info returns how much is in the queue. The error is no_node if it isn't there.
func (q *Queue) Info(ctx context.Context, o op.ReadOptions) (Info, error) {
	res, err := q.conn.Read(ctx, &op.Subtree{Path: q.dir, Depth: 1}, o)
	if err != nil {
		return Info{}, err
	}
	x := Info{Zxid: res.Zxid}
	for _, n := range res.Nodes {
		switch n.Path {
		case q.dir:
			if json.Unmarshal(n.Data, &x.Limits) != nil {
				return x, op.Errorf(op.BadRequest, "%s is not a queue", q.dir)
			}
		case q.items():
			x.Len = int64(n.Stat.NumChildren)
		case q.claims():
			x.Claimed = int64(n.Stat.NumChildren)
		}
	}
	return x, nil
}

// Item is one item as it stands in the queue.
type Item struct {
	ID       string
	Data     []byte
	Priority int
	Pushed   op.Time
	Claim    op.Zxid      // names the receipt of who works on it; 0 if nobody does
	Session  op.SessionID // who that is
	Claimed  op.Time
}

// Page is which part of a queue is listed.
type Page struct {
	After string // the id before the first
	Limit int32  // 0 for as many as one answer can have
}

// Items lists items in the order in which they are received, and reports whether there are more. Who has claimed them is
// from a state that is no older.
func (q *Queue) Items(ctx context.Context, p Page, o op.ReadOptions) (list []Item, more bool, at op.Zxid, err error) {
	res, err := q.conn.Read(ctx, &op.Children{
		Path: q.items(), After: p.After, Limit: p.Limit, WithData: true, WithStat: true,
	}, o)
	if err != nil {
		return nil, false, 0, err
	}
	at = res.Zxid
	place := map[string]int{}
	for _, n := range res.Nodes {
		id := op.Base(n.Path)
		place[id] = len(list)
		list = append(list, Item{ID: id, Data: n.Data, Priority: priorityOf(id), Pushed: n.Stat.Ctime})
	}
	if len(list) == 0 {
		return nil, res.More, at, nil
	}
	last := list[len(list)-1].ID
	for after, further := p.After, true; further && after < last; {
		o = op.ReadOptions{Level: op.Eventual, MinZxid: at}
		claims, err := q.conn.Read(ctx, &op.Children{Path: q.claims(), After: after, WithStat: true}, o)
		if err != nil {
			return nil, false, 0, err
		}
		for _, n := range claims.Nodes {
			after = op.Base(n.Path)
			if i, ok := place[after]; ok {
				list[i].Claim, list[i].Session, list[i].Claimed = n.Stat.Czxid, n.Stat.EphemeralOwner, n.Stat.Ctime
			}
		}
		further = claims.More
	}
	return list, res.More, at, nil
}

// Claimant returns the session that has received the item under that claim. The error is not_holder if the claim has
// ended.
func (q *Queue) Claimant(ctx context.Context, id string, claim op.Zxid, o op.ReadOptions) (op.SessionID, error) {
	res, err := q.conn.Read(ctx, &op.Exists{Path: q.claim(id)}, o)
	switch {
	case err != nil:
		return 0, err
	case res.Stat == nil || res.Stat.Czxid != claim:
		return 0, lostClaim(q.item(id))
	}
	return res.Stat.EphemeralOwner, nil
}
