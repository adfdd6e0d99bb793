package httpapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/coord-kv/coord/op"
)

// The forms of answers, as far as the command shows them. Each has the answer that it was read from.

// Stat is what is known of a node besides its data.
type Stat struct {
	ETag           string    `json:"etag"`
	Czxid          op.Zxid   `json:"czxid"`
	Mzxid          op.Zxid   `json:"mzxid"`
	Pzxid          op.Zxid   `json:"pzxid"`
	Ctime          time.Time `json:"ctime"`
	Mtime          time.Time `json:"mtime"`
	Version        int32     `json:"version"`
	Cversion       int32     `json:"cversion"`
	Aversion       int32     `json:"aversion"`
	EphemeralOwner string    `json:"ephemeral_owner"` // "" if null
	DataLength     int64     `json:"data_length"`
	NumChildren    int64     `json:"num_children"`
	Kind           string    `json:"kind"`
	TTL            string    `json:"ttl"`
}

// Value is a node's data: text, or bytes that are not.
type Value struct {
	Data   *string `json:"data"`
	Base64 []byte  `json:"data_base64"`
}

// Bytes returns the data; nil if it is null or was not sent.
func (v *Value) Bytes() []byte {
	if v.Data != nil {
		return []byte(*v.Data)
	}
	return v.Base64
}

// Node is a node as it was read.
type Node struct {
	Answer `json:"-"`
	Path   string `json:"path"`
	Name   string `json:"name"` // instead of the path, of a child in a listing
	Value
	Stat *Stat `json:"stat"`
}

// Listing is a page of children, or of a subtree.
type Listing struct {
	Answer   `json:"-"`
	Path     string `json:"path"`
	Children []Node `json:"children"`
	Nodes    []Node `json:"nodes"`
	Next     string `json:"next"` // where the next page begins; "" if this is the last one
}

// Written is a node after a write.
type Written struct {
	Answer `json:"-"`
	Path   string `json:"path"`
	Stat   Stat   `json:"stat"`
}

// Deleted says how many nodes a deletion took away.
type Deleted struct {
	Answer  `json:"-"`
	Path    string `json:"path"`
	Deleted int64  `json:"deleted"`
}

// TxnResult is the answer to a transaction that was done.
type TxnResult struct {
	Answer  `json:"-"`
	Zxid    op.Zxid    `json:"zxid"`
	Branch  string     `json:"branch"`
	Results []OpResult `json:"results"`
}

// OpResult is what came of one operation, as far as there is one form for all.
type OpResult struct {
	Op      string `json:"op"`
	Path    string `json:"path"`
	Exists  *bool  `json:"exists"`
	Rank    *int64 `json:"rank"`
	Deleted *int64 `json:"deleted"`
	Value
	Stat     *Stat  `json:"stat"`
	Children []Node `json:"children"`
	Nodes    []Node `json:"nodes"`
}

// Opened is a new session or lease, with its secret.
type Opened struct {
	Answer `json:"-"`
	ID     string `json:"id"`
	Secret string `json:"secret"`
	TTL    string `json:"ttl"`
}

// Session is a session or lease as others see it.
type Session struct {
	Answer     `json:"-"`
	ID         string    `json:"id"`
	Name       string    `json:"name"`
	Identity   string    `json:"identity"`
	Lease      bool      `json:"lease"`
	TTL        string    `json:"ttl"`
	Opened     time.Time `json:"opened"`
	Ephemerals int       `json:"ephemerals"`
	Metadata   *string   `json:"metadata"`
	TimeLeft   string    `json:"time_left"`
	Nodes      []string  `json:"nodes"`
	Hidden     int       `json:"hidden"`
}

// Sessions is a page of sessions or leases.
type Sessions struct {
	Answer   `json:"-"`
	Sessions []Session `json:"sessions"`
	Leases   []Session `json:"leases"`
	Next     string    `json:"next"`
}

// Alive confirms that a session lives at least TTL longer, counted from when the request was sent.
type Alive struct {
	Answer `json:"-"`
	ID     string `json:"id"`
	TTL    string `json:"ttl"`
}

// Cluster is what a member knows of itself and its cluster.
type Cluster struct {
	Answer   `json:"-"`
	Cluster  string   `json:"cluster"`
	Name     string   `json:"name"`
	Ready    bool     `json:"ready"`
	Reason   string   `json:"reason"`
	Role     string   `json:"role"`
	Leader   string   `json:"leader"`
	Term     uint64   `json:"term"`
	Members  []Member `json:"members"`
	Zxid     op.Zxid  `json:"zxid"`
	ReadOnly bool     `json:"read_only"`
	Sessions int      `json:"sessions"`
}

// Member is a member as another one sees it.
type Member struct {
	Name     string `json:"name"`
	PeerAddr string `json:"peer_addr"`
	Learner  bool   `json:"learner"`
	Self     bool   `json:"self"`
	Leader   bool   `json:"leader"`
	Up       bool   `json:"up"`
	Lag      uint64 `json:"lag"`
}

// Version is what runs at an endpoint.
type Version struct {
	Answer  `json:"-"`
	Version string `json:"version"`
}

// Limits are those of the state, by name.
type Limits struct {
	Answer
	Values map[string]json.RawMessage
}

// UnmarshalJSON reads the object that has them.
func (l *Limits) UnmarshalJSON(data []byte) error { return json.Unmarshal(data, &l.Values) }

func (a *Answer) set(from *Answer) { *a = *from }

// decode reads an answer into its form.
func decode[T any, P interface {
	*T
	set(*Answer)
}](a *Answer, err error) (P, error) {
	if err != nil {
		return nil, err
	}
	v := P(new(T))
	if err := json.Unmarshal(a.Body, v); err != nil {
		return nil, &Error{
			Status: http.StatusBadGateway, Endpoint: a.Endpoint, Outcome: op.Unknown.String(),
			Detail: fmt.Sprintf("%s answered something that is not coord's: %v", a.Endpoint, err),
		}
	}
	v.set(a)
	return v, nil
}
