package recipe

import (
	"context"
	"errors"

	"github.com/coord-kv/coord/fsm"
	"github.com/coord-kv/coord/op"
	"github.com/coord-kv/coord/watch"
)

// Delays.
//
// A lock with a delay is held by a node that outlives its session, if that ends otherwise than by its own close. The node
// stays first in line for the delay, so nobody passes it, whatever client that is; what it has become is called a legacy
// here. It is spared one who says that it is the same owner: it deletes the legacy in the transaction of its own grant,
// from the place behind it. To let it come there whoever waits behind a legacy goes to the end of the line when one of
// its owner has come, one after the other, so that they keep their order. Tokens grow all the same, since those who made
// way have new nodes.

// legacy is what a holder has left: the first node of a line whose session has ended. Its mzxid is 0 if that node, of
// which the name is known, is none; and the name is "" if nobody has looked.
type legacy struct {
	name  string
	owner string
	mzxid op.Zxid
}

// legacyOf returns what is known of the first in line, who is of that name.
func legacyOf(name string, n *op.Result) legacy {
	if n.Stat.Kind != op.TTL {
		return legacy{name: name}
	}
	return legacy{name: name, owner: ownerOf(n.Data), mzxid: n.Stat.Mzxid}
}

// look finds out whether the first in line is a legacy, if that is who p waits for.
func (l *Lock) look(ctx context.Context, p *place) error {
	first := p.rank.First
	if l.first(p) || l.behind(p) != first || p.legacy.name == first {
		return nil
	}
	n, err := l.contender(ctx, first, p.zxid)
	switch {
	case err != nil:
		return err
	case n == nil:
		if err := l.stand(ctx, p); err != nil {
			return err
		}
		return l.look(ctx, p)
	}
	p.legacy = legacyOf(first, n)
	return nil
}

// waitsForLegacy reports whether p waits for a legacy, and for nobody else first.
func (l *Lock) waitsForLegacy(p *place) bool {
	return p.legacy.mzxid != 0 && p.legacy.name == p.rank.First && l.behind(p) == p.rank.First
}

// inherits reports whether p may take the lock from the legacy before it: it is alone in wanting that, and of its owner.
func (l *Lock) inherits(p *place) bool {
	return l.waitsForLegacy(p) && p.rank.Position == 1 && l.alone() && p.legacy.owner == l.spec.Owner
}

// alone reports whether nobody else may hold the lock together with this one.
func (l *Lock) alone() bool { return l.spec.Mode == Exclusive || l.spec.Mode == Write }

// changed reports whether an error says that the node to be deleted is another one by now, or none.
func changed(err error) bool {
	return errors.Is(err, &op.Error{Code: op.NoNode}) || errors.Is(err, &op.Error{Code: op.BadVersion})
}

// afterLegacy waits until the legacy goes, or until one stands behind p who inherits it: then p makes way.
func (l *Lock) afterLegacy(ctx context.Context, p *place) error {
	for heir, err := l.heirBehind(ctx, p); ; {
		switch {
		case err != nil:
			return err
		case heir:
			return l.makeWay(p)
		}
		var came []string
		var gone bool
		if came, gone, err = l.watchLegacy(ctx, p); err == nil && (gone || len(came) == 0) {
			if gone {
				return l.stand(ctx, p)
			}
			p.legacy = legacy{}
			return nil
		}
		for _, name := range came {
			if err == nil && !heir {
				heir, err = l.isHeir(ctx, p, name)
			}
		}
	}
}

// watchLegacy waits until somebody comes, and returns who, or until the legacy has gone. If it returns neither, it was
// changed, or changes may have been missed.
func (l *Lock) watchLegacy(ctx context.Context, p *place) (came []string, gone bool, err error) {
	f := watch.Filter{
		Path: l.dir, Scope: watch.Children, Types: watch.TypesOf(op.Created, op.Changed, op.Deleted),
	}
	first := op.Join(l.dir, p.rank.First)
	err = l.until(ctx, p, f, func(list []op.Event) bool {
		again := false
		for _, ev := range list {
			switch {
			case ev.Path == first:
				gone, again = gone || deleted(ev), true
			case ev.Type == op.Created:
				came = append(came, op.Base(ev.Path))
			}
		}
		if again {
			came = nil
		}
		return again || len(came) > 0
	})
	return came, gone, err
}

// heirBehind reports whether one stands behind p who inherits the legacy.
func (l *Lock) heirBehind(ctx context.Context, p *place) (bool, error) {
	for n, err := range children(ctx, l.conn, l.dir, true) {
		if err != nil || l.heir(p, op.Base(n.Path), n.Data, &n.Stat) {
			return err == nil, err
		}
	}
	return false, nil
}

// isHeir reports whether the contender of that name inherits the legacy.
func (l *Lock) isHeir(ctx context.Context, p *place, name string) (bool, error) {
	n, err := l.contender(ctx, name, p.zxid)
	return err == nil && n != nil && l.heir(p, name, n.Data, n.Stat), err
}

func (l *Lock) heir(p *place, name string, data []byte, stat *op.Stat) bool {
	_, numbered := seqOf(name)
	class, _ := fsm.Classify(name)
	c, ours := contenderOf(data)
	return numbered && ours && c.Owner == p.legacy.owner && class == fsm.Exclusive && stat.EphemeralOwner != 0 && stat.Czxid > p.token
}

// makeWay goes to the end of the line.
func (l *Lock) makeWay(p *place) error {
	id, err := newID(l.rand)
	if err != nil {
		return err
	}
	prefix, _ := l.spec.Mode.prefix(family(p.name()), id, l.spec.Slots)
	q, err := l.enter(prefix, nil, l.leaving(p)...)
	if err == nil {
		*p = *q
	}
	return err
}
