package httpapi

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/coord-kv/coord/op"
)

const (
	locksURL     = "/v1/locks"
	electionsURL = "/v1/elections"
)

// Contender is one who holds a lock or waits for it, or a candidate.
type Contender struct {
	Owner     string    `json:"owner"`
	Token     op.Zxid   `json:"token"`
	Session   string    `json:"session"`
	Metadata  string    `json:"metadata"`
	Priority  int       `json:"priority"`
	Shared    bool      `json:"shared"`
	Since     time.Time `json:"since"`
	HeldFor   string    `json:"held_for"`
	ExpiresIn string    `json:"expires_in"` // of a holder; "" if it isn't known
	Waiting   string    `json:"waiting"`    // of those who wait
}

// Tenure is the time that a lock was held or somebody led, and why it ended.
type Tenure struct {
	Owner   string     `json:"owner"`
	Token   op.Zxid    `json:"token"`
	Session string     `json:"session"`
	Since   time.Time  `json:"since"`
	Until   *time.Time `json:"until"` // nil if nobody has written it down
	Ended   string     `json:"released"`
	By      string     `json:"by"`
}

// Delayed says for whom alone a lock is open, and until when about.
type Delayed struct {
	Owner string    `json:"owner"`
	Token op.Zxid   `json:"token"`
	Since time.Time `json:"since"`
	Until time.Time `json:"until"`
}

// Lock is a lock as it stands.
type Lock struct {
	Answer    `json:"-"`
	Name      string      `json:"lock"`
	Mode      string      `json:"mode"`
	Limit     int         `json:"limit"`
	Holders   []Contender `json:"holders"`
	Waiters   []Contender `json:"waiters"`
	KeptAfter op.Zxid     `json:"kept_after"`
	Delayed   *Delayed    `json:"delayed"`
	History   []Tenure    `json:"history"`
}

// Wait is one who waits for another one, within a circle.
type Wait struct {
	Session string `json:"session"`
	Owner   string `json:"owner"`
	For     string `json:"for"`
	Lock    string `json:"lock"`
}

// Locks is a page of locks that are held or wanted, and those among their contenders who wait in circles.
type Locks struct {
	Answer    `json:"-"`
	Locks     []Lock   `json:"locks"`
	Next      string   `json:"next"`
	Deadlocks [][]Wait `json:"deadlocks"`
}

// Grant is a lock that was acquired, or one that was released.
type Grant struct {
	Answer    `json:"-"`
	Lock      string  `json:"lock"`
	Token     op.Zxid `json:"token"`
	Session   string  `json:"session"`
	Secret    string  `json:"secret"` // if the session was made for the lock
	Owner     string  `json:"owner"`
	ExpiresIn string  `json:"expires_in"`
}

// Broken says from whom a lock was taken.
type Broken struct {
	Answer `json:"-"`
	Lock   string    `json:"lock"`
	Broken Contender `json:"broken"`
}

// Leader is who leads.
type Leader struct {
	Candidate string    `json:"candidate"`
	Value     string    `json:"value"`
	Term      op.Zxid   `json:"term"`
	Session   string    `json:"session"`
	Since     time.Time `json:"since"`
	LedFor    string    `json:"led_for"`
	ExpiresIn string    `json:"expires_in"`
}

// Election is an election as it stands.
type Election struct {
	Answer     `json:"-"`
	Name       string      `json:"election"`
	Leader     *Leader     `json:"leader"`
	Candidates []Contender `json:"candidates"`
	History    []Tenure    `json:"history"`
}

// Term returns the term of the leader; 0 if nobody leads.
func (e *Election) Term() op.Zxid {
	if e.Leader == nil {
		return 0
	}
	return e.Leader.Term
}

// Elections is a page of elections.
type Elections struct {
	Answer    `json:"-"`
	Elections []Election `json:"elections"`
	Next      string     `json:"next"`
}

func namedIn(base, name, rest string) string { return base + "/" + url.PathEscape(name) + rest }

// once is a write that is sent again only if it surely was not done.
func (w Write) once(method, path string, q url.Values) *Request {
	r := w.request(method, path, q, nil)
	r.Key = ""
	return r
}

func tokenQuery(token op.Zxid) url.Values {
	q := url.Values{}
	if token != 0 {
		q.Set("token", strconv.FormatUint(uint64(token), 10))
	}
	return q
}

// Locks lists locks by name.
func (c *Client) Locks(ctx context.Context, p Page, o Read) (*Locks, error) {
	return decode[Locks](c.Do(ctx, read(locksURL, p.query(url.Values{}), o)))
}

// Lock shows one lock.
func (c *Client) Lock(ctx context.Context, name string, o Read) (*Lock, error) {
	return decode[Lock](c.Do(ctx, read(namedIn(locksURL, name, ""), nil, o)))
}

// Acquire acquires a lock, with the parameters of the API: in the session of w, else in one that is made for it.
func (c *Client) Acquire(ctx context.Context, name string, q url.Values, w Write) (*Grant, error) {
	return decode[Grant](c.Do(ctx, w.once(http.MethodPost, namedIn(locksURL, name, ""), q)))
}

// Release releases a lock that the session of w holds: with that token, or 0.
func (c *Client) Release(ctx context.Context, name string, token op.Zxid, w Write) (*Grant, error) {
	return decode[Grant](c.Do(ctx, w.once(http.MethodDelete, namedIn(locksURL, name, ""), tokenQuery(token))))
}

// Break takes a lock from its holder: of that token, or with 0 from whoever that is. The history says that by has done
// it, or with "" whoever the credentials say.
func (c *Client) Break(ctx context.Context, name string, token op.Zxid, by string) (*Broken, error) {
	q := tokenQuery(token)
	q.Set("force", "")
	if by != "" {
		q.Set("by", by)
	}
	return decode[Broken](c.Do(ctx, Write{}.once(http.MethodDelete, namedIn(locksURL, name, ""), q)))
}

// Elections lists elections by name.
func (c *Client) Elections(ctx context.Context, p Page, o Read) (*Elections, error) {
	return decode[Elections](c.Do(ctx, read(electionsURL, p.query(url.Values{}), o)))
}

// Election shows one election.
func (c *Client) Election(ctx context.Context, name string, o Read) (*Election, error) {
	return decode[Election](c.Do(ctx, read(namedIn(electionsURL, name, ""), nil, o)))
}

// ElectionAfter shows an election once another one leads than in that term, or wait is over.
func (c *Client) ElectionAfter(ctx context.Context, name string, term op.Zxid, wait time.Duration) (*Election, error) {
	q := url.Values{"since": {strconv.FormatUint(uint64(term), 10)}, "wait": {wait.String()}}
	return decode[Election](c.Do(ctx, read(namedIn(electionsURL, name, ""), q, Read{})))
}

// Resign ends the term of the session of w.
func (c *Client) Resign(ctx context.Context, name string, w Write) (*Answer, error) {
	return c.Do(ctx, w.once(http.MethodDelete, namedIn(electionsURL, name, ""), url.Values{}))
}

// Transfer makes another candidate the leader. The history says who has done it as with Break.
func (c *Client) Transfer(ctx context.Context, name, to, by string) (*Answer, error) {
	q := url.Values{"to": {to}}
	if by != "" {
		q.Set("by", by)
	}
	return c.Do(ctx, Write{}.once(http.MethodPost, namedIn(electionsURL, name, "/transfer"), q))
}
