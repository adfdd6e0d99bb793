package op

import "time"

// Verb is the kind of an operation. The list is closed and append-only: numbers are stored in the log.
type Verb uint8

const (
	VerbCreate Verb = 1 + iota
	VerbSet
	VerbDelete
	VerbCheck
	VerbSetACL
	VerbSetQuota
	VerbTxn
	VerbGet
	VerbExists
	VerbChildren
	VerbSubtree
	VerbGetACL
	VerbRank
	VerbHolder
	VerbTerm
	VerbLead
	VerbOpenSession
	VerbAttach
	VerbSetTimeout
	VerbCloseSession
	VerbExpire
	VerbReap
	VerbSetLevel
	VerbSetLimits
	numVerbs
)

var verbNames = [numVerbs]string{
	VerbCreate: "create", VerbSet: "set", VerbDelete: "delete", VerbCheck: "check", VerbSetACL: "set_acl",
	VerbSetQuota: "set_quota", VerbTxn: "txn", VerbGet: "get", VerbExists: "exists", VerbChildren: "children",
	VerbSubtree: "subtree", VerbGetACL: "get_acl", VerbRank: "rank", VerbHolder: "holder", VerbTerm: "term",
	VerbLead: "lead", VerbOpenSession: "open_session", VerbAttach: "attach", VerbSetTimeout: "set_timeout",
	VerbCloseSession: "close_session", VerbExpire: "expire", VerbReap: "reap", VerbSetLevel: "set_level",
	VerbSetLimits: "set_limits",
}

// String returns the verb's stable name, such as "create".
func (v Verb) String() string {
	if v > 0 && v < numVerbs {
		return verbNames[v]
	}
	return "unknown"
}

// Verbs returns every verb in order.
func Verbs() []Verb {
	all := make([]Verb, 0, numVerbs-1)
	for v := Verb(1); v < numVerbs; v++ {
		all = append(all, v)
	}
	return all
}

// Internal reports whether only a leader's own core may propose the verb.
func (v Verb) Internal() bool { return v >= VerbExpire && v <= VerbSetLevel }

// InTxn reports whether the verb may stand in a transaction.
func (v Verb) InTxn() bool { return v <= VerbLead && v != VerbTxn }

// Op is one operation. Its concrete types are the pointers to the structs of this file.
type Op interface {
	Verb() Verb
	append(b []byte) []byte
	decode(d *decoder)
}

// AnyVersion in a condition or a SetACL matches every version.
const AnyVersion int32 = -1

// Cond is a condition on one node. Its zero value is not the empty condition: that is Always.
type Cond struct {
	Version int32 // the data version that the node must have, or AnyVersion
	Mzxid   Zxid  // with it, the node must not have been changed or made anew since; 0 asks nothing
	Absent  bool  // the node must not exist; only in Check
}

// Always is the condition that any existing node meets.
var Always = Cond{Version: AnyVersion}

// Create makes a node. Errors in ZooKeeper's order: bad_path, invalid_acl, no_node (the parent), denied (Make on the
// parent), bad_path (after the sequence suffix), node_exists, children_of_ephemeral, quota_exceeded.
type Create struct {
	Path     string // with Sequence, a prefix that may end in "/"
	Data     []byte
	Kind     NodeKind      // Ephemeral needs a request with a session
	Sequence bool          // append the parent's next ten-digit sequence number to the path
	TTL      time.Duration // with kind TTL, or Ephemeral: see Lingering; 1 ms to 2^40-1 ms, in whole milliseconds
	ACL      []ACL         // nil means OpenACL
	Parents  bool          // make missing parents, as persistent nodes with OpenACL, without data
	Replace  bool          // an existing node is not an error, it gets the data as by Set; not with Sequence
}

// Lingering reports whether an ephemeral node is made that outlives its session. If that ends otherwise than by its own
// close (it expires, is killed or taken over), the node stays, as one of kind TTL that is changed at that moment, and so
// goes when it was not changed for its TTL. A sequence node does so only if it stands first among those of its directory
// when the session ends: whoever waits in a line holds nobody up. The age clock counts, as for all nodes with a TTL.
func (x *Create) Lingering() bool { return x.Kind == Ephemeral && x.TTL != 0 }

// Set replaces a node's data.
type Set struct {
	Path string
	Data []byte
	If   Cond
}

// Delete removes a node; with Recursive everything below it too, as far as Limits.ChangedNodes allows in one request.
type Delete struct {
	Path      string
	If        Cond
	Recursive bool
}

// Check fails the transaction unless the condition holds.
type Check struct {
	Path string
	If   Cond
}

// SetACL replaces a node's ACL if Version is its Aversion or AnyVersion.
type SetACL struct {
	Path    string
	ACL     []ACL
	Version int32
}

// SetQuota limits the subtree at Path; a zero Quota ends the limit. It needs Admin on the node.
type SetQuota struct {
	Path  string
	Quota Quota
}

// Txn does all of Then or nothing, at one zxid. Each operation sees the effects of those before it and none after. If
// one of the checks If fails, Else is done instead; with no Else the transaction fails with the check's error.
type Txn struct{ If, Then, Else []Op }

// Get reads a node's data and stat.
type Get struct{ Path string }

// Exists reads a node's stat; a missing node is an answer (no Stat), not an error.
type Exists struct{ Path string }

// Children lists up to Limit (0: as many as may be) children after the name After in byte order.
type Children struct {
	Path     string
	After    string
	Limit    int32
	WithData bool
	WithStat bool
}

// Subtree reads a node and what is below it, at most Depth levels (0: all), in path order, up to Limit nodes, after
// the path After.
type Subtree struct {
	Path  string
	After string
	Depth int32
	Limit int32
}

// GetACL reads a node's ACL and stat. Without Admin the secrets of digest identities are masked.
type GetACL struct{ Path string }

// Rank reads where a sequence node stands among its siblings. Inside a transaction Of, counted from 1, names the create
// of the same list whose node is meant instead of Path.
type Rank struct {
	Path string
	Of   int32
}

// Rule says how many may hold a lock directory at once.
type Rule struct {
	Shared bool  // a shared holder may stand behind other shared ones
	Slots  int32 // how many may hold it, for a semaphore; 0 means 1
}

// Holder fails the transaction with stale_token unless the node of Dir that was created by Token holds it under Rule.
type Holder struct {
	Dir   string
	Token Zxid
	Rule  Rule
}

// Term fails the transaction with stale_token unless Token is Dir's current term: nobody has won it since, and the
// winner's node still exists.
type Term struct {
	Dir   string
	Token Zxid
}

// Lead writes Data to Dir and makes the zxid its term if Node, a child of Dir that belongs to the caller's session,
// stands first; else not_holder.
type Lead struct {
	Dir  string
	Node string // name of the child
	Data []byte
}

// Hash is the SHA-256 of a secret. Log and state hold hashes only; doors hash what callers present.
type Hash [32]byte

// OpenSession begins a session. If Identity is not empty and a live session has it, that one is ended in the same
// request, provided that Proof is the hash of its secret or that it was opened by the same principal; else denied.
type OpenSession struct {
	Secret   Hash
	Timeout  time.Duration // brought into Limits.SessionMin to SessionMax
	Name     string        // for people
	Identity string        // of the instance, for takeover; "" for none
	Proof    Hash          // of the secret of the session to take over; zero for none
	Lease    bool          // kept alive by request only, never by a connection
	Metadata []byte        // opaque, at most 4 KiB
}

// Attach binds a session to a connection: it gets a new epoch, which shuts out requests sent under older ones, and the
// next sequence number. The same Nonce again gets the same epoch.
type Attach struct {
	Session SessionID
	Secret  Hash
	Nonce   uint64
}

// SetTimeout changes the timeout of a session in place.
type SetTimeout struct {
	Session SessionID
	Timeout time.Duration
}

// CloseSession ends a session and deletes its ephemeral nodes, with Killed those that are Lingering excepted.
type CloseSession struct {
	Session SessionID
	Killed  bool // by somebody else than its owner, or by whoever serves an owner that has gone
}

// Expiry names a session as its expirer saw it; an attach or a change of timeout decided since then voids it.
type Expiry struct {
	Session SessionID
	Epoch   uint64
	Timeout time.Duration
}

// Expire ends the sessions that are still as named. Only a leader proposes it, after confirming that it leads.
type Expire struct{ Sessions []Expiry }

// Reap deletes the container and TTL nodes that are still due. Only a leader proposes it.
type Reap struct{ Paths []string }

// SetLevel raises the state's level. Only a leader proposes it, when every member has announced the level.
type SetLevel struct{ Level uint32 }

// SetLimits sets those limits that aren't 0. It takes the Admin permission on the root.
type SetLimits struct{ Limits Limits }

func (*Create) Verb() Verb       { return VerbCreate }
func (*Set) Verb() Verb          { return VerbSet }
func (*Delete) Verb() Verb       { return VerbDelete }
func (*Check) Verb() Verb        { return VerbCheck }
func (*SetACL) Verb() Verb       { return VerbSetACL }
func (*SetQuota) Verb() Verb     { return VerbSetQuota }
func (*Txn) Verb() Verb          { return VerbTxn }
func (*Get) Verb() Verb          { return VerbGet }
func (*Exists) Verb() Verb       { return VerbExists }
func (*Children) Verb() Verb     { return VerbChildren }
func (*Subtree) Verb() Verb      { return VerbSubtree }
func (*GetACL) Verb() Verb       { return VerbGetACL }
func (*Rank) Verb() Verb         { return VerbRank }
func (*Holder) Verb() Verb       { return VerbHolder }
func (*Term) Verb() Verb         { return VerbTerm }
func (*Lead) Verb() Verb         { return VerbLead }
func (*OpenSession) Verb() Verb  { return VerbOpenSession }
func (*Attach) Verb() Verb       { return VerbAttach }
func (*SetTimeout) Verb() Verb   { return VerbSetTimeout }
func (*CloseSession) Verb() Verb { return VerbCloseSession }
func (*Expire) Verb() Verb       { return VerbExpire }
func (*Reap) Verb() Verb         { return VerbReap }
func (*SetLevel) Verb() Verb     { return VerbSetLevel }
func (*SetLimits) Verb() Verb    { return VerbSetLimits }

func newOp(v Verb) Op {
	switch v {
	case VerbCreate:
		return new(Create)
	case VerbSet:
		return new(Set)
	case VerbDelete:
		return new(Delete)
	case VerbCheck:
		return new(Check)
	case VerbSetACL:
		return new(SetACL)
	case VerbSetQuota:
		return new(SetQuota)
	case VerbTxn:
		return new(Txn)
	case VerbGet:
		return new(Get)
	case VerbExists:
		return new(Exists)
	case VerbChildren:
		return new(Children)
	case VerbSubtree:
		return new(Subtree)
	case VerbGetACL:
		return new(GetACL)
	case VerbRank:
		return new(Rank)
	case VerbHolder:
		return new(Holder)
	case VerbTerm:
		return new(Term)
	case VerbLead:
		return new(Lead)
	case VerbOpenSession:
		return new(OpenSession)
	case VerbAttach:
		return new(Attach)
	case VerbSetTimeout:
		return new(SetTimeout)
	case VerbCloseSession:
		return new(CloseSession)
	case VerbExpire:
		return new(Expire)
	case VerbReap:
		return new(Reap)
	case VerbSetLevel:
		return new(SetLevel)
	case VerbSetLimits:
		return new(SetLimits)
	}
	return nil
}
