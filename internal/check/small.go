package check

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/coord-kv/coord/op"
)

// What clients of the small recipes were told. Each is told in a state that its Zxid names: what it says must be so there.

// Receipt is an item that a consumer has received.
type Receipt struct {
	Client  int
	Session op.SessionID
	Queue   string // its directory
	Item    string // "" as long as it waits
	Claim   op.Zxid
	Told    Moment
	Lost    Moment // when the client stopped to believe in its session
	Acked   bool   // it was told that the item is done
	Over    bool   // it doesn't wait any more
}

// Addition is what somebody has added to a counter.
type Addition struct {
	Counter string // its path
	Delta   int64  // 1 or more
	Result  int64
	Known   bool // it was told the result; else it may have been done or not
}

// Passage is somebody's way through a double barrier.
type Passage struct {
	Client  int
	Session op.SessionID
	Barrier string // its directory
	Count   int
	Round   op.Zxid // that it has begun; 0 as long as it waits
	Through op.Zxid // the state in which it was told that all have left; 0 if it wasn't
	Over    bool    // it doesn't wait any more
}

// Gate is a wait for a barrier that somebody lifts.
type Gate struct {
	Client  int
	Session op.SessionID
	Barrier string
	Zxid    op.Zxid // the state in which it was told that the barrier is lifted; 0 if it wasn't
	Over    bool    // it doesn't wait any more
}

// Opening is a latch that was told to be open.
type Opening struct {
	Latch string
	Zxid  op.Zxid
}

// Listing is what a watcher of a group or a service has seen; a watcher's stand in their order.
type Listing struct {
	Watcher int
	Group   string // its directory
	Passing bool   // only those instances of a service whose status is passing
	Zxid    op.Zxid
	Members []string // id, a space and the session
	Open    bool     // the watcher watched until the end
}

// Small is the record of the small recipes.
type Small struct {
	Receipts  []*Receipt
	Pushed    []string // paths of items, as those were told who have pushed them
	Additions []*Addition
	Passages  []*Passage
	Gates     []*Gate
	Openings  []Opening
	Listings  []*Listing
	Schedules []*Schedule
	Runs      []*Run
	Skips     []*Skip
}

// claimed is one claim in the log.
type claimed struct {
	item    string
	session op.SessionID
	at      op.Zxid
}

// Queues checks that an item is claimed in its turn, that of those before it with its priority each was claimed before; that
// it goes only together with a claim, once; that nobody was told of a receipt that there never was, or after its session was
// lost; that what was pushed is in the queue or was acknowledged; and that nobody waits in the end while an item is free.
func Queues(h *History) error {
	ns := NewNamespace()
	ever, claims, done := map[string]bool{}, map[op.Zxid]claimed{}, map[string]bool{}
	for d := range h.Replay(ns) {
		for _, e := range d.Events {
			dir, kind := op.Parent(op.Parent(e.Path)), op.Base(op.Parent(e.Path))
			item := dir + "/items/" + op.Base(e.Path)
			switch {
			case kind == "claims" && e.Type == op.Created:
				if before := ns.passedOver(item, ever); before != "" {
					return fmt.Errorf("%s was claimed at zxid %d, and %s before it never was", item, e.Zxid, before)
				}
				ever[item] = true
				claims[e.Zxid] = claimed{item, ns.nodes[e.Path].owner, e.Zxid}
			case kind == "items" && e.Type == op.Deleted:
				claim := dir + "/claims/" + op.Base(e.Path)
				if !slices.ContainsFunc(d.Events, func(o op.Event) bool { return o.Path == claim && o.Type == op.Deleted }) {
					return fmt.Errorf("%s went at zxid %d, and nobody had claimed it", e.Path, e.Zxid)
				}
				done[e.Path] = true
			}
		}
	}
	for _, path := range h.Small.Pushed {
		if !done[path] && ns.missing(path) {
			return fmt.Errorf("%s was pushed, and is neither there nor acknowledged", path)
		}
	}
	return cmp.Or(h.receipts(claims, done), ns.forgotten(h))
}

// passedOver returns an item of the same priority that came before and is free, and was never claimed; "" if there is none.
func (n *Namespace) passedOver(item string, ever map[string]bool) string {
	dir, id := op.Parent(item), op.Base(item)
	for _, other := range n.nodes[dir].children {
		path := op.Join(dir, other)
		if other < id && other[:2] == id[:2] && !ever[path] {
			return path
		}
	}
	return ""
}

func (h *History) receipts(claims map[op.Zxid]claimed, done map[string]bool) error {
	acked := map[string]*Receipt{}
	for _, r := range h.Small.Receipts {
		if r.Item == "" {
			continue
		}
		what := fmt.Sprintf("client %d in %v was told that it has received %s at zxid %d", r.Client, r.Session, r.Item, r.Claim)
		c, ok := claims[r.Claim]
		switch {
		case !ok || c.item != r.Item || c.session != r.Session:
			return fmt.Errorf("%s, which it hasn't", what)
		case !r.Lost.Never() && r.Lost.Order < r.Told.Order:
			return fmt.Errorf("%s, at %v, after its session was lost at %v", what, r.Told.At, r.Lost.At)
		case r.Acked && !done[r.Item]:
			return fmt.Errorf("%s, and that it is done, and it is in the queue", what)
		case r.Acked && acked[r.Item] != nil:
			return fmt.Errorf("%s, and that it is done, and so was client %d", what, acked[r.Item].Client)
		case r.Acked:
			acked[r.Item] = r
		}
	}
	return nil
}

// forgotten says who waits in the end of a history that has recovered while an item is free.
func (n *Namespace) forgotten(h *History) error {
	if h.Recovery.Equal.Never() {
		return nil
	}
	for _, r := range h.Small.Receipts {
		if r.Over || n.sessions[r.Session] == nil {
			continue
		}
		for _, id := range n.nodes[r.Queue+"/items"].children {
			if n.missing(r.Queue + "/claims/" + id) {
				return fmt.Errorf("client %d in %v waits, and %s is free in %s", r.Client, r.Session, id, r.Queue)
			}
		}
	}
	return nil
}

// Counters checks that a counter to which only has been added ends at the sum of what was known to be added, and of some of
// what may have been; and that no two additions have led to the same.
func Counters(h *History) error {
	ns := NewNamespace()
	for range h.Replay(ns) {
	}
	least, most := map[string]int64{}, map[string]int64{}
	led := map[string]bool{}
	for _, a := range h.Small.Additions {
		most[a.Counter] += a.Delta
		if !a.Known {
			continue
		}
		least[a.Counter] += a.Delta
		to := fmt.Sprintf("%s to %d", a.Counter, a.Result)
		if led[to] {
			return fmt.Errorf("two additions have led %s", to)
		}
		led[to] = true
	}
	for path := range most {
		if n := ns.number(path); n < least[path] || n > most[path] {
			return fmt.Errorf("%s ends at %d, and from %d to %d was added", path, n, least[path], most[path])
		}
	}
	return nil
}

// number returns the number that a node holds; 0 if there is none.
func (n *Namespace) number(path string) int64 {
	v, _ := strconv.ParseInt(string(n.nodes[path].data), 10, 64)
	return v
}

// round is one round of a double barrier, as the log has it.
type round struct {
	crowd int // the most who were in at once before it began
	in    []string
	over  op.Zxid // when the last of those had left who were in when it began
}

// Barriers checks that a round of a double barrier has begun after so many were in at once as those say who were told so,
// each of whom was in; that nobody was told that it is over before all had left; and that nobody waits in the end while
// enough are in.
func Barriers(h *History) error {
	ns := NewNamespace()
	rounds, crowd := map[op.Zxid]*round{}, map[string]int{}
	for d := range h.Replay(ns) {
		for _, e := range d.Events {
			switch dir := op.Parent(e.Path); {
			case op.Base(dir) == "members" && e.Type == op.Created:
				crowd[op.Parent(dir)] = max(crowd[op.Parent(dir)], len(ns.nodes[dir].children))
			case op.Base(dir) == "members" && e.Type == op.Deleted:
				for _, r := range rounds {
					r.leaves(e)
				}
			case op.Base(e.Path) == "ready" && e.Type == op.Created:
				r := &round{crowd: crowd[dir]}
				for _, id := range ns.nodes[dir+"/members"].children {
					r.in = append(r.in, dir+"/members/"+id)
				}
				rounds[e.Zxid] = r
			case op.Base(e.Path) == "ready" && e.Type == op.Deleted:
				crowd[dir] = 0
			}
		}
	}
	for _, p := range h.Small.Passages {
		if err := p.check(rounds); err != nil {
			return err
		}
		in := len(ns.nodes[p.Barrier+"/members"].children)
		if !p.Over && !h.Recovery.Equal.Never() && ns.sessions[p.Session] != nil && p.Round == 0 && in >= p.Count {
			return fmt.Errorf("client %d in %v waits for %s, and %d of %d are in", p.Client, p.Session, p.Barrier, in, p.Count)
		}
	}
	return nil
}

func (r *round) leaves(e op.Event) {
	if i := slices.Index(r.in, e.Path); i >= 0 {
		if r.in[i] = ""; !slices.ContainsFunc(r.in, func(p string) bool { return p != "" }) {
			r.over = e.Zxid
		}
	}
}

func (p *Passage) check(rounds map[op.Zxid]*round) error {
	what := fmt.Sprintf("client %d in %v was told that the round %d of %s", p.Client, p.Session, p.Round, p.Barrier)
	r := rounds[p.Round]
	switch {
	case p.Round == 0:
		return nil
	case r == nil:
		return fmt.Errorf("%s has begun, which there never was", what)
	case r.crowd < p.Count:
		return fmt.Errorf("%s has begun, and only %d of %d had come", what, r.crowd, p.Count)
	case p.Through != 0 && (r.over == 0 || r.over > p.Through):
		return fmt.Errorf("%s is over, in the state %d, and somebody was still in", what, p.Through)
	}
	return nil
}

// Gates checks that nobody was let through a barrier in a state in which it was closed, and that nobody waits in the end for
// one that isn't.
func Gates(h *History) error {
	at := map[op.Zxid][]*Gate{}
	for _, g := range h.Small.Gates {
		at[g.Zxid] = append(at[g.Zxid], g)
	}
	ns := NewNamespace()
	for d := range h.Replay(ns) {
		for _, g := range at[ns.Zxid()] {
			if d.Fresh && !ns.missing(g.Barrier) {
				return fmt.Errorf("client %d in %v was let through %s at zxid %d, where it was closed", g.Client, g.Session, g.Barrier, g.Zxid)
			}
		}
	}
	for _, g := range h.Small.Gates {
		if !g.Over && !h.Recovery.Equal.Never() && ns.sessions[g.Session] != nil && ns.missing(g.Barrier) {
			return fmt.Errorf("client %d in %v waits for %s, which isn't closed", g.Client, g.Session, g.Barrier)
		}
	}
	return nil
}

// Latches checks that a latch that was told to be open had been counted down so often as it was set to.
func Latches(h *History) error {
	open := slices.Clone(h.Small.Openings)
	slices.SortStableFunc(open, func(a, b Opening) int { return cmp.Compare(a.Zxid, b.Zxid) })
	ns := NewNamespace()
	for d := range h.Replay(ns) {
		for ; d.Fresh && len(open) > 0 && open[0].Zxid <= ns.Zxid(); open = open[1:] {
			l := open[0]
			if of, n := ns.number(l.Latch), len(ns.nodes[l.Latch].children); of == 0 || int64(n) < of {
				return fmt.Errorf("%s was open at zxid %d, and had been counted down %d times of %d", l.Latch, l.Zxid, n, of)
			}
		}
	}
	return nil
}

// Members checks that nobody was out of a group that somebody watched while its session lived, unless it left or was replaced
// in the same transaction.
func Members(h *History) error {
	watched := map[string]bool{}
	for _, l := range h.Small.Listings {
		watched[l.Group] = true
	}
	ns := NewNamespace()
	owners := map[string]op.SessionID{}
	for d := range h.Replay(ns) {
		for _, e := range d.Events {
			owner := owners[e.Path]
			switch {
			case !watched[op.Parent(e.Path)]:
			case e.Type == op.Created:
				owners[e.Path] = ns.nodes[e.Path].owner
			case e.Type == op.Deleted && owner != d.Request.Session && ns.sessions[owner] != nil && ns.missing(e.Path):
				return fmt.Errorf("%s went at zxid %d, and its session %v lives and hasn't asked for that", e.Path, e.Zxid, owner)
			}
		}
	}
	return nil
}

// Groups checks that what a watcher has seen of a group or a service was so in that very state, and never older than what it had seen
// before; and that it has seen the last of it, if the history has recovered.
func Groups(h *History) error {
	at := map[op.Zxid][]*Listing{}
	last := map[int]*Listing{}
	for _, l := range h.Small.Listings {
		if before := last[l.Watcher]; before != nil && l.Zxid < before.Zxid {
			return fmt.Errorf("watcher %d saw %s as of zxid %d after %d", l.Watcher, l.Group, l.Zxid, before.Zxid)
		}
		at[l.Zxid] = append(at[l.Zxid], l)
		last[l.Watcher] = l
	}
	ns := NewNamespace()
	for d := range h.Replay(ns) {
		if !d.Fresh {
			continue
		}
		for _, l := range at[ns.Zxid()] {
			if now := ns.group(l); !slices.Equal(l.Members, now) {
				return fmt.Errorf("watcher %d saw [%s] in %s at zxid %d, where [%s] were", l.Watcher, strings.Join(l.Members, ", "), l.Group, l.Zxid, strings.Join(now, ", "))
			}
		}
	}
	for _, l := range last {
		if now := ns.group(l); l.Open && !h.Recovery.Equal.Never() && !slices.Equal(l.Members, now) {
			return fmt.Errorf("watcher %d saw [%s] in %s last, and in the end [%s] are there", l.Watcher, strings.Join(l.Members, ", "), l.Group, strings.Join(now, ", "))
		}
	}
	return nil
}

// group returns what a watcher should see.
func (n *Namespace) group(l *Listing) (members []string) {
	for _, id := range n.nodes[l.Group].children {
		at := n.nodes[op.Join(l.Group, id)]
		if l.Passing && !strings.Contains(string(at.data), `"status":"passing"`) {
			continue
		}
		members = append(members, id+" "+at.owner.String())
	}
	return members
}
