package coord

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/coord-kv/coord/op"
)

// Node is a node as it was read: its path, its data, and its Stat. Nil data is null, which is not the same as empty.
type Node = op.Node

// Stat is what there is to know of a node besides its data: ZooKeeper's eleven fields, and the kind.
type Stat = op.Stat

// Zxid numbers the decisions of the cluster: every write request that is decided takes the next one. A position from
// one member means the same at every other.
type Zxid = op.Zxid

// NodeKind says what ends a node's life besides deletion.
type NodeKind = op.NodeKind

// The kinds of nodes.
const (
	PersistentNode = op.Persistent
	EphemeralNode  = op.Ephemeral
	ContainerNode  = op.Container
	TTLNode        = op.TTL
)

// ACL grants permissions to an identity.
type ACL = op.ACL

// ReadInfo says how fresh a read was.
type ReadInfo = op.ReadInfo

// EventType says how a node changed.
type EventType uint8

// The types of events.
const (
	Created    EventType = EventType(op.Created)
	Changed    EventType = EventType(op.Changed)
	Deleted    EventType = EventType(op.Deleted)
	ACLChanged EventType = EventType(op.ACLChanged)
	// Present: the node was there when the watch began. Only with WithInitial.
	Present EventType = 16
	// Bookmark: everything up to Zxid has come. It is not about a node. With WithInitial one stands behind the last
	// Present, with WithBookmarks they come now and then while nothing matches.
	Bookmark EventType = 17
)

// String returns the type's name, such as "created".
func (t EventType) String() string {
	switch t {
	case Present:
		return "present"
	case Bookmark:
		return "bookmark"
	case Created, Changed, Deleted, ACLChanged:
		return op.EventType(t).String()
	}
	return "type_" + strconv.Itoa(int(t))
}

// Event is one change of one node, as a watch sees it.
type Event struct {
	Type    EventType
	Path    string
	Zxid    Zxid     // of the transaction that made the change
	Kind    NodeKind // of the node
	Version int32    // the data version after the change; of a deleted node its last
	Data    []byte   // of a node created, changed or present, if HasData
	HasData bool     // if not, the node has changed again meanwhile, which is an event of its own, or it is large: read it
	// More says that further events of the same transaction follow. A watch resumes after whole transactions, so a
	// position to resume Since is the Zxid of an event without More.
	More bool
}

// String returns the event in words, for logs.
func (e Event) String() string {
	if e.Type == Bookmark {
		return fmt.Sprintf("%d bookmark", e.Zxid)
	}
	return fmt.Sprintf("%d %s %s", e.Zxid, e.Type, e.Path)
}

// Token proves that a lock is held or that somebody leads: a number that only grows with each new holder. A write
// that is Fenced with it is refused by the state machine once it is stale.
type Token struct {
	Dir  string // of the lock or the election, such as /locks/nightly
	Zxid Zxid   // the czxid of the holder's node, or the zxid at which the term began
	Term bool   // of an election

	// How the lock is held, if not alone: such a token is good for Fenced, and for nothing else, since it doesn't grow with
	// each new holder.
	Shared bool // by readers
	Slots  int  // by so many, of a semaphore
}

// The directories that a name stands for.
const (
	locksDir     = "/locks/"
	electionsDir = "/elections/"
)

// String returns the form that Coord-Fencing-Token has in HTTP: "nightly=41", or "term:boss=57" for an election.
func (t Token) String() string {
	prefix, dir := "", locksDir
	if t.Term {
		prefix, dir = "term:", electionsDir
	}
	name := t.Dir
	if rest, ok := strings.CutPrefix(t.Dir, dir); ok && !strings.Contains(rest, "/") {
		name = rest
	}
	return prefix + url.PathEscape(name) + "=" + strconv.FormatUint(uint64(t.Zxid), 10)
}

// ParseToken reads the form that String writes. How the lock is held can't be seen from that: it is taken to be held
// alone.
func ParseToken(text string) (Token, error) {
	at := strings.LastIndexByte(text, '=')
	if at < 0 {
		return Token{}, op.Errorf(op.BadRequest, "%.64q is no token: that is like nightly=41, or term:boss=57", text)
	}
	t := Token{Dir: locksDir}
	name, isTerm := strings.CutPrefix(text[:at], "term:")
	if isTerm {
		t.Dir, t.Term = electionsDir, true
	}
	name, err := url.PathUnescape(name)
	if err != nil || t.Zxid.UnmarshalText([]byte(text[at+1:])) != nil || t.Zxid == 0 {
		return Token{}, op.Errorf(op.BadRequest, "%.64q is no token: its name or its number is not valid", text)
	}
	if t.Dir += name; strings.HasPrefix(name, "/") {
		t.Dir = name
	}
	if err := op.CheckPath(t.Dir); err != nil {
		return Token{}, err
	}
	return t, nil
}

// check returns the operation that fails a transaction once the token is stale.
func (t Token) check() op.Op {
	if t.Term {
		return &op.Term{Dir: t.Dir, Token: t.Zxid}
	}
	return &op.Holder{Dir: t.Dir, Token: t.Zxid, Rule: op.Rule{Shared: t.Shared, Slots: int32(t.Slots)}}
}

// State is what a session knows of itself.
type State struct {
	Phase Phase
	// Until is the time, by the local monotonic clock, up to which the session is known to live.
	Until time.Time
	// Err says why, if the session is Suspended or Lost.
	Err error
}

// Phase is one of Connected, Suspended and Lost.
type Phase uint8

// The phases of a session. It goes from Connected to Suspended and back, and to Lost once.
const (
	// Connected: a member serves the session, and its life is confirmed now and then.
	Connected Phase = iota
	// Suspended: nothing was confirmed for a while, or there is no connection. The session lives until State.Until at
	// least.
	Suspended
	// Lost: the session has ended, or can't be proven alive any more. It never comes back.
	Lost
)

// String returns "connected", "suspended" or "lost".
func (p Phase) String() string { return [...]string{"connected", "suspended", "lost"}[p] }
