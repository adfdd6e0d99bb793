package coord

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/coord-kv/coord/internal/frame"
	"github.com/coord-kv/coord/op"
)

// tree is what a Client and a Session have in common: reading, writing and watching nodes.
type tree struct{ e *engine }

// Get reads a node. The error is ErrNoNode if there is none.
func (t tree) Get(ctx context.Context, path string, opts ...ReadOption) (*Node, error) {
	res, err := t.read(ctx, &op.Get{Path: path}, readingOf(opts))
	if err != nil {
		return nil, err
	}
	return &Node{Path: path, Data: res.Data, Stat: *res.Stat}, nil
}

// Exists returns a node's stat, or nil if there is no such node.
func (t tree) Exists(ctx context.Context, path string, opts ...ReadOption) (*Stat, error) {
	res, err := t.read(ctx, &op.Exists{Path: path}, readingOf(opts))
	if err != nil {
		return nil, err
	}
	return res.Stat, nil
}

// Sync waits until a member has applied everything that was decided before the call, by anybody anywhere, and returns the
// position that it has reached. Whoever reads AtLeast that position sees all of it, at any member and at any level: it is what
// ZooKeeper calls sync, for others as well.
func (t tree) Sync(ctx context.Context) (Zxid, error) {
	var info ReadInfo
	_, err := t.Exists(ctx, op.Root, Linearizable(), Info(&info))
	return info.Zxid, err
}

// pageNodes is how many nodes one page of a listing has at most.
const pageNodes = 1000

// Children lists the children of a node in byte order of their names, with data and stats unless NamesOnly is given.
// Pages are fetched as they are needed; each is read from one state, and later ones perhaps from a later one. An
// error is the last thing that it yields.
func (t tree) Children(ctx context.Context, path string, opts ...ReadOption) iter.Seq2[*Node, error] {
	r := readingOf(opts)
	return t.pages(ctx, r, func(after string) op.Op {
		if after != "" {
			after = op.Base(after)
		}
		return &op.Children{Path: path, After: after, Limit: pageNodes, WithData: !r.namesOnly, WithStat: !r.namesOnly}
	})
}

// Subtree lists a node and what is below it, parents before children, as far as Depth says. What holds for Children
// holds for it too.
func (t tree) Subtree(ctx context.Context, path string, opts ...ReadOption) iter.Seq2[*Node, error] {
	r := readingOf(opts)
	return t.pages(ctx, r, func(after string) op.Op {
		return &op.Subtree{Path: path, After: after, Depth: r.depth, Limit: pageNodes}
	})
}

// pages yields the nodes of one page after the other; none is older than the one before.
func (t tree) pages(ctx context.Context, r *reading, page func(string) op.Op) iter.Seq2[*Node, error] {
	return func(yield func(*Node, error) bool) {
		at := *r
		for after, more := "", true; more; {
			res, err := t.read(ctx, page(after), &at)
			if err != nil {
				yield(nil, err)
				return
			}
			for i := range res.Nodes {
				n := &res.Nodes[i]
				if after = n.Path; !yield(n, nil) {
					return
				}
			}
			more = res.More && len(res.Nodes) > 0
			at.MinZxid = max(at.MinZxid, res.Zxid)
		}
	}
}

func readingOf(opts []ReadOption) *reading {
	r := new(reading)
	for _, o := range opts {
		o.applyRead(r)
	}
	return r
}

func (t tree) read(ctx context.Context, o op.Op, r *reading) (*op.Result, error) {
	if err := op.CheckPath(pathOf(o)); err != nil {
		return nil, err
	}
	ro := r.ReadOptions
	a := t.e.do(ctx, &call{o: o, read: &ro})
	if a.err != nil {
		return nil, a.err
	}
	if r.info != nil {
		*r.info = a.info
	}
	return a.result, nil
}

// Create makes a node and returns it. The error is ErrNodeExists if there is one already, ErrNoNode if its parent is
// missing.
func (t tree) Create(ctx context.Context, path string, data []byte, opts ...CreateOption) (*Node, error) {
	w := writing{cond: op.Always}
	for _, o := range opts {
		o.applyCreate(&w)
	}
	create := w.create
	create.Path, create.Data = path, data
	if create.Kind == op.Ephemeral && t.e.open == nil {
		return nil, &Error{Code: op.BadRequest, Path: path, Detail: needsSession}
	}
	return t.written(ctx, &create, &w, data)
}

const needsSession = "an ephemeral node belongs to a session: create it through a Session"

// Set replaces the data of a node and returns the node. The error is ErrNoNode if there is none, ErrBadVersion if a
// condition does not hold; then its Stat says how the node is.
func (t tree) Set(ctx context.Context, path string, data []byte, opts ...WriteOption) (*Node, error) {
	w := writingOf(opts)
	return t.written(ctx, &op.Set{Path: path, Data: data, If: w.cond}, w, data)
}

// written does a write and returns the node as it has left it.
func (t tree) written(ctx context.Context, o op.Op, w *writing, data []byte) (*Node, error) {
	res, err := t.write(ctx, o, w)
	if err != nil {
		return nil, err
	}
	n := &Node{Path: res.Path, Data: data, Stat: *res.Stat}
	if n.Path == "" {
		n.Path = pathOf(o)
	}
	return n, nil
}

// Delete removes a node, with Recursive everything below it too. The error is ErrNoNode if there is none, ErrNotEmpty
// if it has children.
func (t tree) Delete(ctx context.Context, path string, opts ...WriteOption) error {
	w := writingOf(opts)
	_, err := t.write(ctx, &op.Delete{Path: path, If: w.cond, Recursive: w.recursive}, w)
	return err
}

// Update reads a node, has f make new data of it, and sets them if the node is still as it was; otherwise it begins
// again, until ctx ends. f may be called several times and should do nothing else. Its error ends the update and is
// returned. When the outcome of a write is unknown, which in a Session it never is while the session lives, that is
// returned: to begin again could apply f twice.
func (t tree) Update(
	ctx context.Context, path string, f func(*Node) ([]byte, error), opts ...AnyWriteOption,
) (*Node, error) {
	for failures := 1; ; failures++ {
		n, err := t.Get(ctx, path)
		if err != nil {
			return nil, err
		}
		data, err := f(n)
		if err != nil {
			return nil, err
		}
		w := writing{}
		for _, o := range opts {
			o.applyWrite(&w)
		}
		w.cond = op.Cond{Version: n.Stat.Version, Mzxid: n.Stat.Mzxid}
		n, err = t.written(ctx, &op.Set{Path: path, Data: data, If: w.cond}, &w, data)
		if !errors.Is(err, ErrBadVersion) {
			return n, err
		}
		if err := pauseFor(ctx, backoff(failures, backoffCap, t.e.cfg.float)); err != nil {
			return nil, interrupt(path, false, err, nil)
		}
	}
}

func pauseFor(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func writingOf(opts []WriteOption) *writing {
	w := &writing{cond: op.Always}
	for _, o := range opts {
		o.applyWrite(w)
	}
	return w
}

// write does one operation, inside a transaction if tokens guard it.
func (t tree) write(ctx context.Context, o op.Op, w *writing) (*op.Result, error) {
	if len(w.fences) == 0 {
		a := t.e.do(ctx, &call{o: o, key: w.key})
		return a.result, a.err
	}
	a := t.e.do(ctx, &call{o: &op.Txn{If: w.fences, Then: []op.Op{o}}, key: w.key})
	if a.err != nil {
		return nil, a.err
	}
	if len(a.result.Results) != 1 {
		const what = "a member answered one operation by several results"
		return nil, &Error{Code: op.Internal, Outcome: Unknown, Path: pathOf(o), Detail: what}
	}
	return &a.result.Results[0], nil
}

// Zxid returns the newest position that an answer or an event has shown: hand it to another process, which reads
// AtLeast it, and what that one sees is not older than what this one has seen.
func (t tree) Zxid() Zxid { return t.e.position() }

// Watch yields the changes of a node after the watch began: each once, in order, none left out, over as many
// connections and members as it takes. WithChildren and Recursive watch more than the node itself, which need not
// exist. It ends when the loop ends, or with an error: the context's; ErrHistoryGone if changes may have been missed,
// whose Oldest is the oldest position that a watch can begin at; or why the Client or the session has ended. Data in
// events is the receiver's.
//
// A loop that is slow holds up nothing else: what it has not taken is fetched again later.
func (t tree) Watch(ctx context.Context, path string, opts ...WatchOption) iter.Seq2[Event, error] {
	w := watching{want: frame.Watch{Path: path, Data: true}}
	for _, o := range opts {
		o.applyWatch(&w)
	}
	return func(yield func(Event, error) bool) {
		if err := op.CheckPath(path); err != nil {
			yield(Event{}, err)
			return
		}
		s := t.e.subscribe(w.want)
		defer t.e.unsubscribe(s)
		for {
			it, err := s.next(ctx)
			if err != nil {
				yield(Event{}, err)
				return
			}
			if !deliver(it, w.bookmarks, yield) {
				return
			}
		}
	}
}

// deliver yields the events of one item, and returns whether more are wanted.
func deliver(it item, bookmarks bool, yield func(Event, error) bool) bool {
	for i := range it.nodes {
		n := &it.nodes[i]
		ev := Event{
			Type: Present, Path: n.Path, Zxid: it.pos, Kind: n.Stat.Kind, Version: n.Stat.Version, Data: n.Data, HasData: true,
			More: true,
		}
		if !yield(ev, nil) {
			return false
		}
	}
	for i := range it.events {
		f := &it.events[i]
		ev := Event{
			Type: EventType(f.Type), Path: f.Path, Zxid: f.Zxid, Kind: f.Event.Kind, Version: f.Version, Data: f.Data,
			HasData: f.HasData, More: i+1 < len(it.events) && it.events[i+1].Zxid == f.Zxid,
		}
		if !yield(ev, nil) {
			return false
		}
	}
	if it.state || bookmarks && len(it.events) == 0 {
		return yield(Event{Type: Bookmark, Zxid: it.pos}, nil)
	}
	return true
}
