package httpapi

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/coord-kv/coord/op"
)

const (
	nodesURL = "/v1/nodes"
	watchURL = "/v1/watch"
)

// nodeURL returns the URL path of a resource of the node at path.
func nodeURL(resource, path string) string {
	if path == op.Root {
		return resource + "/"
	}
	return resource + (&url.URL{Path: path}).EscapedPath()
}

// Read says how fresh a read must be; the zero value means linearizable.
type Read struct {
	Consistency string // as in the header Coord-Consistency
	MinZxid     op.Zxid
}

func (o Read) header() http.Header {
	h := http.Header{}
	if o.Consistency != "" {
		h.Set("Coord-Consistency", o.Consistency)
	}
	if o.MinZxid != 0 {
		h.Set("Coord-Min-Zxid", strconv.FormatUint(uint64(o.MinZxid), 10))
	}
	return h
}

func read(path string, query url.Values, o Read) *Request {
	return &Request{Method: "GET", Path: path, Query: query, Header: o.header()}
}

// Get reads a node.
func (c *Client) Get(ctx context.Context, path string, o Read) (*Node, error) {
	return decode[Node](c.Do(ctx, read(nodeURL(nodesURL, path), nil, o)))
}

// Page says which part of a listing is asked for; the zero value means the first page, as large as the server makes it.
type Page struct {
	After string
	Limit int
}

func (p Page) query(q url.Values) url.Values {
	if p.After != "" {
		q.Set("after", p.After)
	}
	if p.Limit > 0 {
		q.Set("limit", strconv.Itoa(p.Limit))
	}
	return q
}

// Children lists a node's children by name, with their stats if stat is set.
func (c *Client) Children(ctx context.Context, path string, stat bool, p Page, o Read) (*Listing, error) {
	q := p.query(url.Values{"children": {""}})
	if stat {
		q.Set("stat", "")
	}
	return decode[Listing](c.Do(ctx, read(nodeURL(nodesURL, path), q, o)))
}

// Subtree lists a node and everything below it, parents before children.
func (c *Client) Subtree(ctx context.Context, path string, p Page, o Read) (*Listing, error) {
	return decode[Listing](c.Do(ctx, read(nodeURL(nodesURL, path), p.query(url.Values{"depth": {"0"}}), o)))
}

// Write is what all writes may have.
type Write struct {
	Key     string // Idempotency-Key; "" for a new one
	Fence   string // Coord-Fencing-Token
	Session string // to act in
	Secret  string // of the session
	IfMatch string // an ETag, without quotes
	Version *int32 // the data version that the node must have
}

func (w Write) request(method, path string, q url.Values, body []byte) *Request {
	r := &Request{Method: method, Path: path, Query: q, Header: http.Header{}, Body: body, Key: w.Key}
	if r.Key == "" {
		r.Key = NewKey()
	}
	if w.Fence != "" {
		r.Header.Set("Coord-Fencing-Token", w.Fence)
	}
	if w.Session != "" {
		r.Header.Set("Coord-Session", w.Session)
	}
	if w.Secret != "" {
		r.Header.Set("Coord-Session-Secret", w.Secret)
	}
	if w.IfMatch != "" {
		r.Header.Set("If-Match", `"`+w.IfMatch+`"`)
	}
	if w.Version != nil {
		q.Set("version", strconv.Itoa(int(*w.Version)))
	}
	return r
}

// Create says what kind of node is made.
type Create struct {
	Parents   bool
	Ephemeral bool
	Container bool
	TTL       time.Duration
	ACL       []string // scheme:id:permissions
}

func (o Create) query() url.Values {
	q := url.Values{}
	for name, on := range map[string]bool{"parents": o.Parents, "ephemeral": o.Ephemeral, "container": o.Container} {
		if on {
			q.Set(name, "")
		}
	}
	if o.TTL != 0 {
		q.Set("ttl", o.TTL.String())
	}
	if len(o.ACL) > 0 {
		q["acl"] = o.ACL
	}
	return q
}

// Set sets a node's data. Without a condition it creates the node if there is none, as o says.
func (c *Client) Set(ctx context.Context, path string, data []byte, o Create, w Write) (*Written, error) {
	return decode[Written](c.Do(ctx, w.request("PUT", nodeURL(nodesURL, path), o.query(), data)))
}

// Create creates a node that must not exist.
func (c *Client) Create(ctx context.Context, path string, data []byte, o Create, w Write) (*Written, error) {
	r := w.request("PUT", nodeURL(nodesURL, path), o.query(), data)
	r.Header.Set("If-None-Match", "*")
	return decode[Written](c.Do(ctx, r))
}

// CreateSequence creates a child of dir whose name is the prefix and the next number.
func (c *Client) CreateSequence(
	ctx context.Context, dir, prefix string, data []byte, o Create, w Write,
) (*Written, error) {
	q := o.query()
	q.Set("sequence", prefix)
	return decode[Written](c.Do(ctx, w.request("POST", nodeURL(nodesURL, dir), q, data)))
}

// Delete deletes a node, with everything below it if recursive is set.
func (c *Client) Delete(ctx context.Context, path string, recursive bool, w Write) (*Deleted, error) {
	q := url.Values{}
	if recursive {
		q.Set("recursive", "")
	}
	return decode[Deleted](c.Do(ctx, w.request("DELETE", nodeURL(nodesURL, path), q, nil)))
}

// Txn does a transaction, in the JSON of /v1/txn.
func (c *Client) Txn(ctx context.Context, body []byte, w Write) (*TxnResult, error) {
	return decode[TxnResult](c.Do(ctx, w.request("POST", "/v1/txn", nil, body)))
}

// Txn is a transaction of checks and deletions, the only one that this package's callers put together themselves.
type Txn struct {
	Checks []Op `json:"checks,omitempty"`
	Ops    []Op `json:"ops"`
}

// Op is one operation of a transaction.
type Op struct {
	Op        string `json:"op"`
	Path      string `json:"path"`
	Recursive bool   `json:"recursive,omitempty"`
	Version   *int32 `json:"version,omitempty"`
	IfMatch   string `json:"if_match,omitempty"`
}

// JSON returns the transaction as /v1/txn takes it.
func (t Txn) JSON() []byte {
	b, err := json.Marshal(t)
	if err != nil {
		panic(err) // strings and numbers can't fail to encode
	}
	return b
}
