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

// Resources of the small recipes.
const (
	BarriersURL = "/v1/barriers"
	LatchesURL  = "/v1/latches"
	CountersURL = "/v1/counters"
	QueuesURL   = "/v1/queues"
	GroupsURL   = "/v1/groups"
)

// Barrier is one that somebody closes and lifts.
type Barrier struct {
	Answer `json:"-"`
	Closed bool `json:"closed"`
}

// Latch is how far a latch has been counted down.
type Latch struct {
	Answer  `json:"-"`
	Count   int      `json:"count"`
	Left    int      `json:"left"`
	Open    bool     `json:"open"`
	Counted []string `json:"counted"`
}

// Counter is the value of a counter.
type Counter struct {
	Answer `json:"-"`
	Value  int64 `json:"value"`
}

// Pushed is an item that was put into a queue.
type Pushed struct {
	Answer `json:"-"`
	ID     string `json:"id"`
}

// Items are some of a queue, in the order in which they are received.
type Items struct {
	Answer `json:"-"`
	Items  []struct {
		ID       string    `json:"id"`
		Priority int       `json:"priority"`
		Pushed   time.Time `json:"pushed"`
		Value
		Token   op.Zxid   `json:"token"`
		Session string    `json:"session"`
		Since   time.Time `json:"since"`
	} `json:"items"`
	Next string `json:"next"`
}

// Names are those of the things of a recipe.
type Names struct {
	Answer
	Names []string
	Next  string // to go on behind it; empty if there are no more
}

// UnmarshalJSON reads names, which an answer has under what they are names of.
func (n *Names) UnmarshalJSON(b []byte) error {
	form := map[string]json.RawMessage{}
	if err := json.Unmarshal(b, &form); err != nil {
		return err
	}
	for key, v := range form {
		to := any(&n.Names)
		if key == "next" {
			to = &n.Next
		}
		if err := json.Unmarshal(v, to); err != nil {
			return err
		}
	}
	return nil
}

// Queue is how much is in a queue.
type Queue struct {
	Answer   `json:"-"`
	Length   int `json:"length"`
	Received int `json:"received"`
}

// Group is who is in a group.
type Group struct {
	Answer  `json:"-"`
	Members []struct {
		ID string `json:"id"`
		Value
		Session string    `json:"session"`
		Since   time.Time `json:"since"`
	} `json:"members"`
}

func named(resource, name string) string { return resource + "/" + url.PathEscape(name) }

// Barrier reads a barrier.
func (c *Client) Barrier(ctx context.Context, name string) (*Barrier, error) {
	return decode[Barrier](c.Do(ctx, read(named(BarriersURL, name), nil, Read{})))
}

// MoveBarrier closes a barrier, or lifts it. It may be repeated.
func (c *Client) MoveBarrier(ctx context.Context, name string, closed bool) (*Barrier, error) {
	method := http.MethodDelete
	if closed {
		method = http.MethodPut
	}
	return decode[Barrier](c.Do(ctx, &Request{Method: method, Path: named(BarriersURL, name), Harmless: true}))
}

// Latch reads a latch.
func (c *Client) Latch(ctx context.Context, name string) (*Latch, error) {
	return decode[Latch](c.Do(ctx, read(named(LatchesURL, name), nil, Read{})))
}

// SetLatch sets a latch. It may be repeated.
func (c *Client) SetLatch(ctx context.Context, name string, count int) (*Latch, error) {
	q := url.Values{"count": {strconv.Itoa(count)}}
	return decode[Latch](c.Do(ctx, &Request{Method: "PUT", Path: named(LatchesURL, name), Query: q, Harmless: true}))
}

// CountDown counts a latch down in the name of id, "" for nobody's.
func (c *Client) CountDown(ctx context.Context, name, id string) (*Latch, error) {
	q := url.Values{}
	if id != "" {
		q.Set("id", id)
	}
	return decode[Latch](c.Do(ctx, &Request{Method: "POST", Path: named(LatchesURL, name), Query: q, Key: NewKey()}))
}

// Counter reads a counter.
func (c *Client) Counter(ctx context.Context, name string, o Read) (*Counter, error) {
	return decode[Counter](c.Do(ctx, read(named(CountersURL, name), nil, o)))
}

// Add adds to a counter; low and high may bound what that may lead to.
func (c *Client) Add(ctx context.Context, name string, n int64, low, high *int64) (*Counter, error) {
	q := url.Values{"add": {strconv.FormatInt(n, 10)}}
	for name, bound := range map[string]*int64{"min": low, "max": high} {
		if bound != nil {
			q.Set(name, strconv.FormatInt(*bound, 10))
		}
	}
	return decode[Counter](c.Do(ctx, &Request{Method: "POST", Path: named(CountersURL, name), Query: q, Key: NewKey()}))
}

// SetCounter sets a counter.
func (c *Client) SetCounter(ctx context.Context, name string, n int64) (*Counter, error) {
	q := url.Values{"value": {strconv.FormatInt(n, 10)}}
	return decode[Counter](c.Do(ctx, &Request{Method: "PUT", Path: named(CountersURL, name), Query: q, Key: NewKey()}))
}

// Push puts an item into a queue, once for each key.
func (c *Client) Push(ctx context.Context, name string, data []byte, priority int, key string) (*Pushed, error) {
	q := url.Values{"priority": {strconv.Itoa(priority)}}
	return decode[Pushed](c.Do(ctx, &Request{Method: "POST", Path: named(QueuesURL, name) + "/items", Query: q, Body: data, Key: key}))
}

// Names lists a page of the things of a recipe, all of which are below resource.
func (c *Client) Names(ctx context.Context, resource string, p Page, o Read) (*Names, error) {
	return decode[Names](c.Do(ctx, read(resource, p.query(url.Values{}), o)))
}

// Queue says how much is in a queue.
func (c *Client) Queue(ctx context.Context, name string, o Read) (*Queue, error) {
	return decode[Queue](c.Do(ctx, read(named(QueuesURL, name), nil, o)))
}

// Items lists a page of a queue.
func (c *Client) Items(ctx context.Context, name string, p Page, o Read) (*Items, error) {
	return decode[Items](c.Do(ctx, read(named(QueuesURL, name)+"/items", p.query(url.Values{}), o)))
}

// Remove removes a latch, a counter or a queue.
func (c *Client) Remove(ctx context.Context, resource, name string) (*Answer, error) {
	return c.Do(ctx, &Request{Method: "DELETE", Path: named(resource, name), Key: NewKey()})
}

// Group reads who is in a group.
func (c *Client) Group(ctx context.Context, name string, o Read) (*Group, error) {
	return decode[Group](c.Do(ctx, read(named(GroupsURL, name), nil, o)))
}
