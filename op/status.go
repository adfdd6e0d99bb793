package op

import "time"

// Status is what a member knows of itself and its cluster at one moment.
type Status struct {
	Cluster uint64 // id of the cluster; 0 until it is known
	Member  uint64 // id of this member
	Name    string
	Boot    uint64 // how often this member has started

	Ready  bool   // it has caught up with a leader once and serves
	Reason string // why not, or what is wrong although it serves; "" if nothing is

	Leader  uint64 // member id, 0 if none is known
	Term    uint64
	Role    string // "leader", "follower", "candidate", "learner"
	Members []MemberStatus

	Committed uint64 // raft index known to be decided
	Applied   uint64 // raft index that the state has reached
	Last      uint64 // raft index of the end of the log
	Zxid      Zxid
	Oldest    Zxid // watches can resume from here on
	Level     uint32
	Digest    string // of the state, hexadecimal

	LogBytes        int64 // of write-ahead log on disk
	CheckpointBytes int64
	CheckpointIndex uint64
	FreeBytes       int64  // on the data directory's file system
	ReadOnly        bool   // writes are refused because a disk is nearly full
	Differs         bool   // its state is not that of a majority
	Differed        uint64 // how often it was found not to be, since this member started
	LogWritten      uint64 // bytes appended to the log since this member started

	Pending       int    // requests admitted here and not answered yet
	PendingBytes  int64  //
	LeaderChanges uint64 // seen since start
	Sessions      int    //
	// Sessions and leases that were opened and ended through this member since it started: an expiry is the leader's that
	// has asked for it. Over all members, each is counted once.
	SessionsOpened, SessionsClosed, SessionsExpired, SessionsKilled, SessionsTakenOver uint64

	HighSequences uint64 // sequence nodes from HighSequence on, created since it started

	History HistoryStatus // of what watches can resume from

	Staleness time.Duration // upper bound of the state's age; negative if unknown
	Uptime    time.Duration
}

// HistoryStatus is what a member keeps for watches.
type HistoryStatus struct {
	Events int // kept
	Bytes  int // of them, packed
	Behind int // watches that have not been sent everything yet
}

// MemberStatus is one member as this one sees it.
type MemberStatus struct {
	ID       uint64
	Name     string
	PeerAddr string
	Learner  bool
	Self     bool
	Leader   bool
	Up       bool          // a stream to it stands; true for itself
	Lag      uint64        // log entries that it is behind; only a leader knows, else 0
	RTT      time.Duration // to it; 0 if not measured
	Sent     uint64        // bytes sent to it
	Received uint64        // bytes received from it
	Dropped  uint64        // frames that were dropped on the way out
}
