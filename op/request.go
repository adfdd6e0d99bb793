package op

// Tag names the member and the call that wait for a request's result. Boot is the member's boot number: without it a
// restarted member would answer one client with another's result.
type Tag struct{ Member, Boot, Call uint64 }

// Key identifies a request by a client-chosen key, so that a retry gets the first answer. Hash covers the request, so
// that the same key with another request is noticed (key_mismatch).
type Key struct {
	Principal, Key string
	Hash           [16]byte
}

// Request is one operation, on whose behalf, and how a retry of it is recognised: by Seq within its session, or by Key,
// or not at all.
type Request struct {
	Tag     Tag
	Session SessionID // in whose name; 0 for none
	Epoch   uint64    // of the attachment that sent it; only with Seq
	Seq     uint64    // from 1; 0 for unsequenced
	Ack     uint64    // the lowest sequence number not answered yet; results below it are dropped
	Key     *Key
	Auth    []Identity // who the caller has proven to be; "world" is understood
	Op      Op
}

// Batch is the content of one log entry.
type Batch struct {
	Wall     Time   // the leader's wall clock, for ctime and mtime
	Age      uint64 // milliseconds of the leader's monotonic clock since its previous batch; 0 in its first
	Requests []*Request
}

// SessionInfo is what opening and attaching answer.
type SessionInfo struct {
	ID      SessionID
	Epoch   uint64
	NextSeq uint64
	Timeout int64 // milliseconds, as granted
}

// RankInfo is where a sequence node stands among the sequence nodes of its directory.
type RankInfo struct {
	Position    int32  // how many stand before it
	Exclusive   int32  // how many of those are exclusive
	Len         int32  // how many there are
	Token       Zxid   // its czxid
	Predecessor string // the name of the one right before it, "" for the first
	Writer      string // the name of the nearest exclusive one before it, "" if none
	First       string // the name of the first
}

// Result is the answer to one request or to one operation of a transaction.
type Result struct {
	Zxid    Zxid   // of the decision
	Err     *Error // nil if done
	Path    string // of the node created
	Stat    *Stat  // of the node created, changed or read
	Data    []byte
	Nodes   []Node // children or subtree
	More    bool   // there are more nodes after the last of Nodes
	ACL     []ACL
	Count   int64 // nodes deleted, sessions ended
	Rank    *RankInfo
	Session *SessionInfo
	Results []Result // of the operations of a transaction
	Else    bool     // they are those of the else branch
}
