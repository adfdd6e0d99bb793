package coord

import (
	"time"

	"github.com/coord-kv/coord/internal/frame"
	"github.com/coord-kv/coord/op"
	"github.com/coord-kv/coord/watch"
)

// ReadOption says how a node is read: how fresh it must be, and how much of it is wanted.
type ReadOption interface{ applyRead(*reading) }

// WriteOption says under which condition a node is set or deleted, and how.
type WriteOption interface{ applyWrite(*writing) }

// CreateOption says what kind of node is created, and how.
type CreateOption interface{ applyCreate(*writing) }

// AnyWriteOption is both a WriteOption and a CreateOption.
type AnyWriteOption interface {
	WriteOption
	CreateOption
}

// WatchOption says what is watched, and from where.
type WatchOption interface{ applyWatch(*watching) }

// SessionOption says how a session is opened.
type SessionOption interface{ applySession(*frame.Open) }

type reading struct {
	op.ReadOptions
	depth     int32
	namesOnly bool
	info      *ReadInfo
}

type writing struct {
	cond      op.Cond
	recursive bool
	create    op.Create // all but path and data
	fences    []op.Op
	key       string
}

type watching struct {
	want      frame.Watch
	bookmarks bool
}

type readOption func(*reading)

func (f readOption) applyRead(r *reading) { f(r) }

type writeOption func(*writing)

func (f writeOption) applyWrite(w *writing) { f(w) }

type createOption func(*writing)

func (f createOption) applyCreate(w *writing) { f(w) }

type anyWriteOption func(*writing)

func (f anyWriteOption) applyWrite(w *writing)  { f(w) }
func (f anyWriteOption) applyCreate(w *writing) { f(w) }

type watchOption func(*watching)

func (f watchOption) applyWatch(w *watching) { f(w) }

type sessionOption func(*frame.Open)

func (f sessionOption) applySession(o *frame.Open) { f(o) }

// readWatchOption is for reads, and for the state that a watch begins with.
type readWatchOption func(*op.ReadOptions)

func (f readWatchOption) applyRead(r *reading)   { f(&r.ReadOptions) }
func (f readWatchOption) applyWatch(w *watching) { f(&w.want.Options) }

// Linearizable reads what every write has left that was acknowledged, anywhere, before the read began. It is the
// default.
func Linearizable() interface {
	ReadOption
	WatchOption
} {
	return readWatchOption(func(o *op.ReadOptions) { o.Level = op.Linearizable })
}

// Sequential reads nothing older than what this Client or Session has read, written or watched.
func Sequential() ReadOption {
	return readOption(func(r *reading) { r.Level = op.Sequential })
}

// Bounded reads nothing that was out of date longer than d ago; in whole milliseconds.
func Bounded(d time.Duration) interface {
	ReadOption
	WatchOption
} {
	return readWatchOption(func(o *op.ReadOptions) { o.Level, o.Max = op.Bounded, d })
}

// Eventual reads the state of the member that is asked, as it stands. It works when there is no leader.
func Eventual() interface {
	ReadOption
	WatchOption
} {
	return readWatchOption(func(o *op.ReadOptions) { o.Level = op.Eventual })
}

// AtLeast reads nothing older than z, at any level: a position that another process has sent along with a message, say.
func AtLeast(z Zxid) interface {
	ReadOption
	WatchOption
} {
	return readWatchOption(func(o *op.ReadOptions) { o.MinZxid = z })
}

// Info has a read tell at which level and position it was served, and how stale that may be. For a listing it is
// about the last page.
func Info(info *ReadInfo) ReadOption { return readOption(func(r *reading) { r.info = info }) }

// NamesOnly lists children without data and stats.
func NamesOnly() ReadOption { return readOption(func(r *reading) { r.namesOnly = true }) }

// Depth bounds Subtree to so many levels below the node; 0, the default, is all.
func Depth(levels int) ReadOption { return readOption(func(r *reading) { r.depth = int32(levels) }) }

// IfMatch writes only if the node is as it was when n was read: it was neither changed nor deleted and created anew.
func IfMatch(n *Node) WriteOption {
	return writeOption(func(w *writing) { w.cond = op.Cond{Version: n.Stat.Version, Mzxid: n.Stat.Mzxid} })
}

// IfVersion writes only if the node's data version is v, as in ZooKeeper. Versions begin at 0 again when a node is
// deleted and created anew; IfMatch notices that.
func IfVersion(v int32) WriteOption {
	return writeOption(func(w *writing) { w.cond = op.Cond{Version: v} })
}

// Fenced writes only as long as the token is good: whoever had it still holds the lock, or still leads. Otherwise the
// write is refused by the state machine with ErrStaleToken. There is no moment between the check and the write.
func Fenced(t Token) AnyWriteOption {
	return anyWriteOption(func(w *writing) { w.fences = append(w.fences, t.check()) })
}

// IdempotencyKey names the request, so that it is done at most once however often it is sent, also by another
// process: a retry with the same key gets the first answer. Use a new key, such as a UUID, for each request; answers
// are kept for an hour by default. In a Session there is no need for keys.
func IdempotencyKey(key string) AnyWriteOption {
	return anyWriteOption(func(w *writing) { w.key = key })
}

// Ephemeral makes a node that goes when the session ends. It can only be created through a Session. With TTL it stays for
// so long when the session ends otherwise than by Close: because it expired, or because somebody else ended it or took it
// over. Of the sequence nodes of a directory only the first stays.
func Ephemeral() CreateOption { return createOption(func(w *writing) { w.create.Kind = op.Ephemeral }) }

// Sequence appends the next number of the parent to the path, in ten digits, so that the order of names is the order of
// creation. The Node returned has the whole path.
func Sequence() CreateOption { return createOption(func(w *writing) { w.create.Sequence = true }) }

// Container makes a node that goes when its last child has gone.
func Container() CreateOption { return createOption(func(w *writing) { w.create.Kind = op.Container }) }

// Parents creates the parents that are missing, without data.
func Parents() CreateOption { return createOption(func(w *writing) { w.create.Parents = true }) }

// OrSet sets the data of a node that exists already, instead of failing with ErrNodeExists. Not with Sequence.
func OrSet() CreateOption { return createOption(func(w *writing) { w.create.Replace = true }) }

// WithACL gives the node that access control list instead of one that permits everything to everybody.
func WithACL(acl ...ACL) CreateOption { return createOption(func(w *writing) { w.create.ACL = acl }) }

type ttlOption time.Duration

func (d ttlOption) applyCreate(w *writing) {
	if w.create.TTL = time.Duration(d); w.create.Kind != op.Ephemeral {
		w.create.Kind = op.TTL
	}
}
func (d ttlOption) applySession(o *frame.Open) { o.TTL = time.Duration(d) }

// TTL makes a node that goes when it has had no children and was not set for d; see also Ephemeral. Of a session it is the
// timeout: how long it lives when nothing is heard of it, by default 15 s; the cluster's limits are 4 s and 24 h unless
// they were changed.
func TTL(d time.Duration) interface {
	CreateOption
	SessionOption
} {
	return ttlOption(d)
}

type recursiveOption struct{}

func (recursiveOption) applyWrite(w *writing)  { w.recursive = true }
func (recursiveOption) applyWatch(w *watching) { w.want.Scope = watch.Subtree }

// Recursive deletes, or watches, a node together with everything below it.
func Recursive() interface {
	WriteOption
	WatchOption
} {
	return recursiveOption{}
}

// WithChildren watches a node and its direct children.
func WithChildren() WatchOption {
	return watchOption(func(w *watching) { w.want.Scope = watch.Children })
}

// Since begins a watch after the position z, at any time and at any member; it is an error if that is too long ago.
func Since(z Zxid) WatchOption {
	return watchOption(func(w *watching) { w.want.Start, w.want.Since = frame.FromSince, z })
}

// WithInitial begins a watch with the state as it is: an event Present for each node, then a Bookmark, then what
// changes in that state, with no gap. The whole state is held in memory for a moment.
func WithInitial() WatchOption {
	return watchOption(func(w *watching) { w.want.Start = frame.FromInitial })
}

// WithBookmarks has a watch tell its position now and then, if that has moved while nothing matched: a position to
// resume Since that doesn't grow old on a quiet watch.
func WithBookmarks() WatchOption { return watchOption(func(w *watching) { w.bookmarks = true }) }

// Name gives a session a name, for people who look at it.
func Name(name string) SessionOption { return sessionOption(func(o *frame.Open) { o.Name = name }) }

// Metadata stores up to 4 KiB with a session, for people and programs that look at it.
func Metadata(data []byte) SessionOption {
	return sessionOption(func(o *frame.Open) { o.Metadata = data })
}

// Identity names the instance that opens the session: one that is still alive with the same identity, from before a
// crash, is ended in the same decision, so that nobody waits for it to expire. It takes either previous, the Secret
// of that old session, or the same user as opened it; without either the session is denied.
func Identity(instance string, previous []byte) SessionOption {
	return sessionOption(func(o *frame.Open) { o.Identity, o.ProofSecret = instance, previous })
}
