package httpapi

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"time"
)

// Kind is what a session is called: a lease is a session that no connection keeps alive.
type Kind string

// The kinds, by their resources.
const (
	SessionKind Kind = "sessions"
	LeaseKind   Kind = "leases"
)

func (k Kind) url(rest string) string { return "/v1/" + string(k) + rest }

func (k Kind) of(id string) string { return k.url("/" + url.PathEscape(id)) }

// OpenOptions are what a new session may have; the zero value is good.
type OpenOptions struct {
	TTL      time.Duration // 0 means the server's default, 15 s
	Name     string        // for people
	Metadata string
	Identity string // ends the live session of the same identity
	Previous string // that session's secret
}

// Open opens a session or a lease. The secret is made here, so that the request can be sent again if its answer is
// lost.
func (c *Client) Open(ctx context.Context, k Kind, o OpenOptions) (*Opened, error) {
	var raw [16]byte
	rand.Read(raw[:])
	fields := map[string]string{"secret": base64.RawURLEncoding.EncodeToString(raw[:])}
	for name, v := range map[string]string{
		"name": o.Name, "metadata": o.Metadata, "identity": o.Identity, "previous_secret": o.Previous,
	} {
		if v != "" {
			fields[name] = v
		}
	}
	if o.TTL != 0 {
		fields["ttl"] = o.TTL.String()
	}
	body, err := json.Marshal(fields)
	if err != nil {
		return nil, err
	}
	return decode[Opened](c.Do(ctx, Write{}.request("POST", k.url(""), nil, body)))
}

// Session shows one session.
func (c *Client) Session(ctx context.Context, k Kind, id string, o Read) (*Session, error) {
	return decode[Session](c.Do(ctx, read(k.of(id), nil, o)))
}

// Sessions lists sessions and leases, or leases alone.
func (c *Client) Sessions(ctx context.Context, k Kind, p Page, o Read) (*Sessions, error) {
	return decode[Sessions](c.Do(ctx, read(k.url(""), p.query(url.Values{}), o)))
}

// KeepAlive keeps a session alive.
func (c *Client) KeepAlive(ctx context.Context, k Kind, id, secret string) (*Alive, error) {
	h := http.Header{"Coord-Session-Secret": {secret}}
	r := &Request{Method: "PUT", Path: k.of(id) + "/keepalive", Header: h, Harmless: true}
	return decode[Alive](c.Do(ctx, r))
}

// SetTTL changes a session's timeout.
func (c *Client) SetTTL(ctx context.Context, k Kind, id, secret string, ttl time.Duration) (*Alive, error) {
	body, err := json.Marshal(map[string]string{"ttl": ttl.String()})
	if err != nil {
		return nil, err
	}
	return decode[Alive](c.Do(ctx, Write{Secret: secret}.request("PATCH", k.of(id), nil, body)))
}

// Close ends a session. Without the secret it is killed, which takes the permission to administer the root.
func (c *Client) Close(ctx context.Context, k Kind, id, secret string) (*Answer, error) {
	return c.Do(ctx, Write{Secret: secret}.request("DELETE", k.of(id), nil, nil))
}
