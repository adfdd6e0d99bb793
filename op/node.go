package op

import (
	"strconv"
	"time"
)

// Zxid numbers the decisions of the state machine: one positive 63-bit count, advanced by one for every write request
// that is decided, a "no" included, as ZooKeeper does. It is written as a decimal string in JSON, because JavaScript
// loses precision above 2^53.
type Zxid uint64

// SessionID names a session or lease: the zxid that opened it, so it is never reused. Its text form is "s-" and
// lower-case hexadecimal.
type SessionID uint64

// Time is a moment in milliseconds since 1970 UTC by the leader's wall clock. It is for showing; nothing is decided by it.
type Time int64

// NodeKind says what ends a node's life besides deletion.
type NodeKind uint8

const (
	Persistent NodeKind = iota // nothing
	Ephemeral                  // the end of the session that created it; cannot have children; see also Create.Lingering
	Container                  // being empty, once it has had a child
	TTL                        // being empty and unmodified for its time to live
	numNodeKinds
)

// String returns "persistent", "ephemeral", "container" or "ttl".
func (k NodeKind) String() string {
	if k < numNodeKinds {
		return [...]string{"persistent", "ephemeral", "container", "ttl"}[k]
	}
	return "kind_" + strconv.Itoa(int(k))
}

// Stat is ZooKeeper's eleven fields and the kind. Versions start at 0 and wrap around as 32 bits; -1 is skipped because
// it means "any" in conditions.
type Stat struct {
	Czxid          Zxid      // created by
	Mzxid          Zxid      // data last changed by
	Pzxid          Zxid      // children last created or deleted by; Czxid before that
	Ctime          Time      // when created
	Mtime          Time      // when data last changed
	Version        int32     // changes of data
	Cversion       int32     // creations and deletions of children
	Aversion       int32     // changes of the ACL
	EphemeralOwner SessionID // 0 unless ephemeral
	DataLength     int32     // bytes; 0 for null data too
	NumChildren    int32
	Kind           NodeKind
	TTL            time.Duration // of a TTL node, or of an ephemeral one that would become one; whole milliseconds
}

// ETag returns "mzxid.version", which no other state of any node at this path ever has: unlike the version alone, it
// survives deletion and recreation.
func (s *Stat) ETag() string {
	return string(s.AppendETag(make([]byte, 0, 32)))
}

// AppendETag appends the ETag to b.
func (s *Stat) AppendETag(b []byte) []byte {
	b = append(strconv.AppendUint(b, uint64(s.Mzxid), 10), '.')
	return strconv.AppendInt(b, int64(s.Version), 10)
}

// Perm is a set of permissions.
type Perm uint8

// The permissions, with ZooKeeper's numbers.
const (
	Read    Perm = 1 << iota // data, children, existence
	Write                    // data
	Make                     // create children (ZooKeeper's CREATE)
	Remove                   // delete children (ZooKeeper's DELETE)
	Admin                    // the ACL
	AllPerm = Read | Write | Make | Remove | Admin
)

// String returns the letters of ZooKeeper's shell in its order, "cdrwa" for all.
func (p Perm) String() string {
	s := ""
	for i, perm := range [...]Perm{Make, Remove, Read, Write, Admin} {
		if p&perm != 0 {
			s += "cdrwa"[i : i+1]
		}
	}
	return s
}

// Identity is who somebody is by one scheme: ("digest", "ann:hash"), ("ip", "10.0.0.5"), ("super", ""), ...
type Identity struct{ Scheme, ID string }

// ACL grants permissions to an identity: world:anyone, auth (whoever creates it), digest:user:hash, ip:addr[/bits].
type ACL struct {
	Perms      Perm
	Scheme, ID string
}

// OpenACL grants everything to everybody: what a node gets whose creator says nothing else.
var OpenACL = []ACL{{Perms: AllPerm, Scheme: "world", ID: "anyone"}}

// Node is a node as a read returns it.
type Node struct {
	Path string
	Data []byte // nil is null, which is not the same as empty
	Stat Stat
}

// Quota limits the subtree of a node, itself included. A limit of 0 is none. Soft limits warn, hard limits refuse.
type Quota struct {
	SoftCount, HardCount int64 // nodes
	SoftBytes, HardBytes int64 // bytes of data
}
