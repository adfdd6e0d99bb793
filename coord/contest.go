package coord

import "time"

// Contender is one who holds a lock or waits for it, or a candidate of an election.
type Contender struct {
	Owner    string // of a candidate its id
	Metadata string // of a candidate its value
	Session  string
	Token    Zxid // of a holder its fencing token; of others the czxid of their node
	Priority int
	Shared   bool      // a reader
	Since    time.Time // when it was granted, or came into the line; the cluster's clock
}

// Tenure is a grant of a lock, or a term of leadership, that has ended.
type Tenure struct {
	Token   Zxid
	Owner   string
	Session string
	Since   time.Time
	Until   time.Time // zero if it expired: nobody has written down when
	Ended   string    // "released", "expired" or "broken"
	By      string    // who broke it
}
