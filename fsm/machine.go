package fsm

import (
	"time"

	"github.com/coord-kv/coord/fsm/tree"
	"github.com/coord-kv/coord/op"
)

// MaxLevel is the highest level of the state that this code speaks. A SetLevel raises the level whatever this code speaks, so that
// all members decide alike; a member whose View then shows a Level above MaxLevel must stop before the next batch.
const MaxLevel uint32 = 1

// Machine is the replicated state machine: a state and its only writer. It is not safe for concurrent use; what View returns is.
type Machine struct {
	state
	epoch   tree.Epoch
	version uint64 // counts with epoch: records stamped with this number have been shown to nobody and may be changed in place
	view    *View  // of the state as it stands; nil if it has changed since the last one

	// Of the batch and the request being applied.
	wall    op.Time
	done    Applied
	turns   int    // of done.Turns, how many are of requests before
	leaving Ending // why what is deleted now goes
	spent   budget
	scratch []byte // for an encoded answer
}

// state is everything that Apply reads and writes. It consists of values and of the roots of persistent containers, so that a copy
// of it, made when the epoch ends, is a version of the state: to publish, or to go back to. (A Map in a copy is only read, or put
// back together with all the others; the writer's own is the only one that is written to.)
type state struct {
	zxid    op.Zxid
	floor   op.Zxid // positions below are of another history
	age     uint64  // milliseconds, the sum of all batches' Age
	level   uint32
	limits  op.Limits
	lastACL uint64 // the highest number given to an ACL

	nodes    tree.Map[string, *node]
	acls     tree.Map[uint64, acl]
	quotas   tree.Map[string, op.Quota]
	terms    tree.Map[string, term]
	sessions tree.Map[op.SessionID, *session]
	keys     tree.Map[keyID, *answer]

	derived
}

// derived is what follows from the rest of the state: it is neither in the digest nor in the checkpoint.
type derived struct {
	sum        sum      // of the hashes of all records but the first, which holds the plain values
	kept       int64    // what the kept answers count for
	kinds      [4]int64 // nodes
	dataBytes  int64
	leases     int64
	aclNumbers tree.Map[string, uint64] // by encoded list
	identities tree.Map[string, op.SessionID]
	principals tree.Map[string, int64] // keys of each
	byID       tree.Set[op.SessionID]
	byBirth    tree.Set[birth]
	due        tree.Set[due] // empty nodes that can be reaped from a moment on
	unused     tree.Set[due] // containers that never had a child, by when they were created
}

// Applied is what a batch has done.
type Applied struct {
	Results  []op.Result     // one for each request, in their order
	Events   []op.Event      // in the order in which they happened; those of one request are neighbours and have its zxid
	Sessions []SessionChange // in order
	Turns    []Turn          // in order
	High     []string        // the paths of those sequence nodes whose number is op.HighSequence or above
}

// SessionChange tells the leader's tracker what has become of a session: it was opened, attached, given another timeout, or ended.
type SessionChange struct {
	Request int // which of the batch has brought it about
	ID      op.SessionID
	Epoch   uint64
	Timeout time.Duration
	Lease   bool
	Opened  bool
	Ended   bool
	Why     Ending // of one that has ended
}

// Ending says why a session has ended.
type Ending uint8

// The endings.
const (
	ClosedByOwner Ending = iota
	Killed               // by somebody else
	Expired              // nothing was heard of its owner for its timeout
	TakenOver            // by a new session of the same instance
)

// New returns the state that every cluster begins with: the nodes that ZooKeeper has from the start, the default limits, level 1.
func New() *Machine {
	m := empty()
	m.level, m.limits = 1, op.DefaultLimits()
	m.insert(op.Root, &node{})
	m.plant("/zookeeper", &node{})
	m.plant("/zookeeper/config", &node{version: -1, rare: &rare{aversion: -1, acl: m.intern(readOnly)}})
	m.plant("/zookeeper/quota", &node{})
	return m
}

// plant puts a node there that nobody has created.
func (m *Machine) plant(path string, n *node) {
	m.insert(path, n)
	m.hang(path, n, 0)
}

var readOnly = []op.ACL{{Perms: op.Read, Scheme: "world", ID: "anyone"}}

// empty returns a machine without even a root.
func empty() *Machine {
	m := &Machine{version: 1}
	m.nodes = *tree.NewMap[string, *node](&m.epoch)
	m.acls = *tree.NewMap[uint64, acl](&m.epoch)
	m.quotas = *tree.NewMap[string, op.Quota](&m.epoch)
	m.terms = *tree.NewMap[string, term](&m.epoch)
	m.sessions = *tree.NewMap[op.SessionID, *session](&m.epoch)
	m.keys = *tree.NewMap[keyID, *answer](&m.epoch)
	m.aclNumbers = *tree.NewMap[string, uint64](&m.epoch)
	m.identities = *tree.NewMap[string, op.SessionID](&m.epoch)
	m.principals = *tree.NewMap[string, int64](&m.epoch)
	m.byID = tree.NewSet(compareIDs)
	m.byBirth = tree.NewSet(compareBirths)
	m.due, m.unused = tree.NewSet(compareDues), tree.NewSet(compareDues)
	return m
}

// View publishes the state as it stands. It takes constant time, and none if nothing was applied since the last time.
func (m *Machine) View() *View {
	if m.view == nil {
		m.seal()
		m.view = &View{m.state}
	}
	return m.view
}

// seal ends the epoch: nothing that the state holds now will change in place.
func (m *Machine) seal() {
	m.epoch.Bump()
	m.version++
}

// atomically does f, and undoes all of it if f fails.
func (m *Machine) atomically(f func() *op.Error) *op.Error {
	m.seal()
	saved, events, turns, high := m.state, len(m.done.Events), len(m.done.Turns), len(m.done.High)
	err := f()
	if err != nil {
		m.state, m.done.Events, m.done.Turns, m.done.High = saved, m.done.Events[:events], m.done.Turns[:turns], m.done.High[:high]
	}
	return err
}

// Rebase makes the state the beginning of another history, as restoring a backup does: sessions are killed, idempotency keys go,
// and zxids continue from floor. Positions below the floor belong to the old history. It panics if floor isn't above the present
// zxid, since zxids would be used twice.
func (m *Machine) Rebase(floor op.Zxid) {
	if floor <= m.zxid {
		panic("fsm: a floor that isn't above the zxid")
	}
	m.view = nil
	m.zxid++
	for id, ok := m.byID.Min(); ok; id, ok = m.byID.Min() {
		m.end(id, Killed)
	}
	for b, ok := m.byBirth.Min(); ok; b, ok = m.byBirth.Min() {
		m.forget(b)
	}
	m.zxid, m.floor = floor, floor
	m.done = Applied{}
}

// budget is what a request has used of the limits of one request.
type budget struct{ nodes, bytes int64 }

// eventBytes bounds the encoded size of an event.
func eventBytes(path string) int64 { return int64(len(path)) + 32 }

// afford reports whether the request may change that many more nodes, with events of so many bytes.
func (m *Machine) afford(nodes, bytes int64) *op.Error {
	if have := m.spent.nodes + nodes; have > m.limits.ChangedNodes {
		return &op.Error{Code: op.TooLarge, Limit: m.limits.ChangedNodes, Have: have}
	}
	if have := m.spent.bytes + bytes; have > m.limits.EventBytes {
		return &op.Error{Code: op.TooLarge, Limit: m.limits.EventBytes, Have: have}
	}
	return nil
}

// emit records the event of a change that is done; n is the node after it, or as it was last.
func (m *Machine) emit(t op.EventType, path string, n *node) {
	m.spent.nodes++
	m.spent.bytes += eventBytes(path)
	m.done.Events = append(m.done.Events, op.Event{
		Zxid: m.zxid, Type: t, Kind: n.kind, Path: path, Version: n.version, ACL: n.acl(),
	})
}
