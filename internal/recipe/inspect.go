package recipe

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/coord-kv/coord/fsm"
	"github.com/coord-kv/coord/op"
)

// Reader is the part of a Conn that looking takes.
type Reader interface {
	Read(ctx context.Context, o op.Op, ro op.ReadOptions) (*op.Result, error)
}

// Contender is one who holds a lock or waits for it, or a candidate.
type Contender struct {
	Path     string
	Token    op.Zxid
	Session  op.SessionID
	Owner    string
	Metadata string
	Priority int
	Shared   bool
	Slots    int     // of the semaphore; 0 if it is none
	Since    op.Time // when it was granted, or came into the line

	foreign bool // it is not coord's
	kind    op.NodeKind
	ttl     time.Duration
	mzxid   op.Zxid
	mtime   op.Time
}

// Delayed is what keeps a lock closed whose holder's session has ended unwanted, as the holder had asked for.
type Delayed struct {
	Owner string  // of the holder: who says to be the same is let in
	Token op.Zxid // of the holder
	Since op.Time // when its session ended
	Until op.Time // about; the cluster's own clock decides

	node Contender
}

// Tenure is a grant that has ended.
type Tenure struct {
	Token   op.Zxid
	Owner   string
	Session op.SessionID
	Since   op.Time
	Until   op.Time // 0 if it expired: nobody has written down when
	Ended   string  // Released, Expired or Broken
	By      string  // who broke it
}

// end says how the tenure ended.
func (t *Tenure) end() string {
	switch {
	case t.Ended == Broken && t.By != "":
		return "broken by " + t.By
	case t.Ended == Broken || t.Ended == Released:
		return t.Ended
	}
	return "its session has ended, or its node was deleted"
}

// Info is a lock or an election as it stands. It is read page by page, so of a line of more than 10,000 the later part
// may be from a later state.
type Info struct {
	Name    string
	Dir     string
	Mode    string // "exclusive", "shared" or "semaphore": how it is held, or was asked for first; "" if nobody is there
	Slots   int
	Holders []Contender
	Waiters []Contender // in order
	Kept    op.Zxid     // token of the last holder, if the minimum hold that it asked for isn't over
	Delayed *Delayed    // nil if no delay keeps the lock closed
	History []Tenure    // newest first
}

// Modes of an Info.
const (
	exclusive = "exclusive"
	shared    = "shared"
	semaphore = "semaphore"
)

// Inspect reads who holds a lock, who waits for it and who held it lately. The error is a no_lock if there is no trace
// of such a lock.
func Inspect(ctx context.Context, r Reader, name string) (*Info, error) {
	dir, err := Dir(LocksDir, name)
	if err != nil {
		return nil, err
	}
	i, err := inspect(ctx, r, nameOf(LocksDir, dir), dir)
	if err != nil {
		return nil, err
	}
	i.split()
	return i, nil
}

// inspect reads a line; all who stand in it are Waiters yet.
func inspect(ctx context.Context, r Reader, name, dir string) (*Info, error) {
	i := &Info{Name: name, Dir: dir}
	found := false
	for n, err := range children(ctx, r, dir, true) {
		switch {
		case errors.Is(err, &op.Error{Code: op.NoNode}):
		case err != nil:
			return nil, err
		default:
			found = true
			i.add(n)
		}
	}
	slices.SortFunc(i.Waiters, func(a, b Contender) int {
		return cmp.Or(cmp.Compare(a.Token, b.Token), cmp.Compare(a.Path, b.Path))
	})
	past, err := i.readHistory(ctx, r)
	if err == nil && !found && !past {
		err = &op.Error{Code: op.NoLock, Outcome: op.Decided, Path: dir, Detail: "nobody has asked for " + dir + " lately"}
	}
	return i, err
}

func (i *Info) add(n op.Node) {
	name := op.Base(n.Path)
	if n.Path == (&line{dir: i.Dir}).keeper() {
		i.Kept = tenureOf(n).Token
	}
	if _, ok := seqOf(name); !ok {
		return
	}
	class, _ := fsm.Classify(name)
	c, ours := contenderOf(n.Data)
	i.Waiters = append(i.Waiters, Contender{
		Path: n.Path, Token: n.Stat.Czxid, Session: n.Stat.EphemeralOwner, Owner: c.Owner, Metadata: c.Metadata,
		Priority: c.Priority, Shared: class == fsm.Shared, Slots: fsm.Slots(name), Since: n.Stat.Ctime,
		foreign: !ours, kind: n.Stat.Kind, ttl: n.Stat.TTL, mzxid: n.Stat.Mzxid, mtime: n.Stat.Mtime,
	})
}

// split finds out who of those in line hold the lock.
func (i *Info) split() {
	if len(i.Waiters) == 0 {
		return
	}
	n := 1
	switch first := i.Waiters[0]; {
	case first.kind == op.TTL:
		i.Mode = exclusive
		i.Waiters = i.Waiters[1:]
		for _, t := range i.History {
			if t.Token == first.Token {
				first.Session = t.Session
			}
		}
		i.Delayed = &Delayed{first.Owner, first.Token, first.mtime, first.mtime + op.Time(first.ttl.Milliseconds()), first}
		return
	case first.Slots > 0:
		i.Mode, i.Slots = semaphore, first.Slots
		n = min(first.Slots, len(i.Waiters))
	case first.Shared:
		i.Mode = shared
		if n = slices.IndexFunc(i.Waiters, func(c Contender) bool { return !c.Shared }); n < 0 {
			n = len(i.Waiters)
		}
	default:
		i.Mode = exclusive
		if i.Kept != 0 && i.Kept != first.Token {
			n = 0
		}
	}
	i.Holders, i.Waiters = i.Waiters[:n:n], i.Waiters[n:]
}

// readHistory reads the tenures that have ended, and since when those are held that have not. It reports whether there
// is a record of any.
func (i *Info) readHistory(ctx context.Context, r Reader) (found bool, err error) {
	inLine := make(map[op.Zxid]int, len(i.Waiters))
	for at, c := range i.Waiters {
		if c.kind != op.TTL { // else its session has ended, and with it the tenure
			inLine[c.Token] = at
		}
	}
	for n, err := range children(ctx, r, historyOf(i.Dir), true) {
		if errors.Is(err, &op.Error{Code: op.NoNode}) {
			break
		}
		if err != nil {
			return found, err
		}
		found = true
		t := tenureOf(n)
		at, here := inLine[t.Token]
		switch {
		case t.Ended == "" && here:
			i.Waiters[at].Since = t.Since
			continue
		case t.Ended == "":
			t.Ended, t.Until = Expired, 0
		}
		i.History = append(i.History, t)
	}
	slices.SortFunc(i.History, func(a, b Tenure) int { return cmp.Compare(b.Token, a.Token) })
	return found, nil
}

func tenureOf(n op.Node) Tenure {
	var t tenure
	if json.Unmarshal(n.Data, &t) != nil {
		t.Owner = printable(n.Data)
	}
	return Tenure{
		Token: cmp.Or(t.Token, n.Stat.Czxid), Owner: t.Owner, Session: t.Session, Since: n.Stat.Ctime, Until: n.Stat.Mtime,
		Ended: t.Ended, By: t.By,
	}
}

// children yields the children of a node with their data and stat, page by page.
func children(ctx context.Context, r Reader, dir string, full bool) iter.Seq2[op.Node, error] {
	return childrenAfter(ctx, r, &op.Children{Path: dir, WithData: full, WithStat: full})
}

func childrenAfter(ctx context.Context, r Reader, o *op.Children) iter.Seq2[op.Node, error] {
	return func(yield func(op.Node, error) bool) {
		for {
			res, err := r.Read(ctx, o, op.ReadOptions{Level: op.Linearizable})
			if err != nil {
				yield(op.Node{}, err)
				return
			}
			for _, n := range res.Nodes {
				if !yield(n, nil) {
					return
				}
			}
			if !res.More {
				return
			}
			next := *o
			next.After = op.Base(res.Nodes[len(res.Nodes)-1].Path)
			o = &next
		}
	}
}

// Names yields the names after that one, in byte order, of the locks that have a directory under LocksDir, or with
// ElectionsDir of the elections. Somebody stands there, or stood a moment ago.
func Names(ctx context.Context, r Reader, base, after string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for n, err := range childrenAfter(ctx, r, &op.Children{Path: base, After: after}) {
			if errors.Is(err, &op.Error{Code: op.NoNode}) {
				return
			}
			if !yield(op.Base(n.Path), err) || err != nil {
				return
			}
		}
	}
}

// heldBy says in words who holds the lock at dir.
func (i *Info) heldBy(dir string) string {
	switch {
	case i == nil:
		return dir + " is held"
	case i.Delayed != nil:
		d := i.Delayed
		return fmt.Sprintf("%s was held by %s, token %d, whose session has ended; it is closed to others until %s, as that one asked for",
			dir, d.Owner, d.Token, d.Until.Std().UTC().Format(time.RFC3339Nano))
	case len(i.Holders) == 0 && i.Kept != 0:
		return fmt.Sprintf("%s is kept for a while after its last holder, token %d, as that one asked for", dir, i.Kept)
	case len(i.Holders) == 0:
		return dir + " was held; it is free now"
	}
	h := i.Holders[0]
	s := fmt.Sprintf("%s is held by %s, token %d", dir, h.Owner, h.Token)
	if n := len(i.Holders); n > 1 {
		s += fmt.Sprintf(", and %d more", n-1)
	}
	if n := len(i.Waiters); n > 0 {
		s += fmt.Sprintf("; %d wait", n)
	}
	return s
}

// Held returns the grant of a lock that the session holds, as a program that has kept only the token asks for it. The
// token 0 stands for the only one that the session holds. The error is a not_holder.
func Held(ctx context.Context, c Conn, name string, token op.Zxid) (*Grant, error) {
	i, err := Inspect(ctx, c, name)
	if err != nil && !errors.Is(err, &op.Error{Code: op.NoLock}) {
		return nil, err
	}
	for _, h := range i.holders() {
		if h.Session == c.Session() && (token == 0 || token == h.Token) {
			record, err := recordOf(ctx, c, i.Dir, h.Token)
			l := line{conn: c, dir: i.Dir}
			return &Grant{Name: name, Token: h.Token, Path: h.Path, Owner: h.Owner, line: l, record: record}, err
		}
	}
	detail := fmt.Sprintf("%s doesn't hold %s", c.Session(), name)
	if i != nil {
		for _, t := range i.History {
			if t.Session == c.Session() && (token == 0 || token == t.Token) {
				detail += " any more: " + t.end()
				break
			}
		}
	}
	return nil, &op.Error{Code: op.NotHolder, Outcome: op.Decided, Detail: detail}
}

func (i *Info) holders() []Contender {
	if i == nil {
		return nil
	}
	return i.Holders
}

// recordOf returns the path of the record of a tenure, "" if there is none.
func recordOf(ctx context.Context, r Reader, dir string, token op.Zxid) (string, error) {
	for n, err := range children(ctx, r, historyOf(dir), true) {
		switch {
		case errors.Is(err, &op.Error{Code: op.NoNode}):
			return "", nil
		case err != nil:
			return "", err
		case tenureOf(n).Token == token:
			return n.Path, nil
		}
	}
	return "", nil
}

// Break takes a lock from its holder: of that token, or with 0 whichever stands first. The holder's node is deleted and
// how the tenure ended recorded, as broken by whom by says; the lock passes on to the next in line, with a higher
// token, and without a delay: whoever uses force is taken to know what has become of the holder. A lock that a delay
// keeps closed is opened so too. It takes the permission to delete children of the lock's directory. The error is a
// not_holder if nobody holds it so.
func Break(ctx context.Context, c Conn, name string, token op.Zxid, by string) (*Contender, error) {
	for {
		i, err := Inspect(ctx, c, name)
		if err != nil {
			return nil, err
		}
		h, err := broken(ctx, c, i, token, by)
		if !errors.Is(err, &op.Error{Code: op.BadVersion}) { // else its session has ended since we looked
			return h, err
		}
	}
}

func broken(ctx context.Context, c Conn, i *Info, token op.Zxid, by string) (*Contender, error) {
	all := i.Holders
	if i.Delayed != nil {
		all = []Contender{i.Delayed.node}
	}
	at := slices.IndexFunc(all, func(h Contender) bool { return token == 0 || h.Token == token })
	if at < 0 {
		return nil, &op.Error{Code: op.NotHolder, Outcome: op.Decided, Path: i.Dir, Detail: notHeldBy(i, token)}
	}
	h := all[at]
	record, err := recordOf(ctx, c, i.Dir, h.Token)
	if err != nil {
		return nil, err
	}
	t := tenure{Token: h.Token, Owner: h.Owner, Session: h.Session, Ended: Broken, By: by}
	_, err = c.Do(ctx, ending(i.Dir, h.Path, h.mzxid, record, t))
	if errors.Is(err, &op.Error{Code: op.NoNode}) {
		err = (&line{conn: c, dir: i.Dir}).notHeld(ctx, h.Token, record)
	}
	return &h, err
}

// notHeldBy says that nobody holds a lock, or that nobody does with that token.
func notHeldBy(i *Info, token op.Zxid) string {
	if token == 0 || len(i.Holders) == 0 {
		return "nobody holds " + i.Dir
	}
	return fmt.Sprintf("nobody holds %s with token %d, but %s does with token %d", i.Dir, token, i.Holders[0].Owner, i.Holders[0].Token)
}
