package op

// EventType says how a node changed.
type EventType uint8

const (
	Created EventType = 1 + iota
	Changed
	Deleted
	ACLChanged
)

// String returns "created", "changed", "deleted" or "acl_changed".
func (t EventType) String() string {
	return [...]string{"", "created", "changed", "deleted", "acl_changed"}[t]
}

// Event is one change of one node. The events of one request share its zxid, stand in the order in which they happened,
// and are delivered together or not at all. An event carries no data: whoever shows it adds the data while the node is
// still as the event left it.
type Event struct {
	Zxid    Zxid
	Type    EventType
	Kind    NodeKind
	Path    string
	Version int32 // data version after the change; of a deleted node its last
	ACL     *ACLRef
}

// ACLRef is an access control list together with the number under which the state keeps it. Numbers are never reused.
// It is immutable and shared by all nodes and events that have the same list.
type ACLRef struct {
	ID   uint64
	List []ACL
}
