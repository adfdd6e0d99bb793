package httpapi

import (
	"context"
	"errors"
	"net/url"

	"github.com/coord-kv/coord/op"
)

// What one endpoint says of itself is asked for once, there alone: that it doesn't answer is what one wants to know.

// Cluster asks one endpoint what it knows.
func (c *Client) Cluster(ctx context.Context, endpoint string) (*Cluster, error) {
	return decode[Cluster](c.ask(ctx, endpoint, "/v1/cluster"))
}

// Version asks one endpoint what runs there.
func (c *Client) Version(ctx context.Context, endpoint string) (*Version, error) {
	return decode[Version](c.ask(ctx, endpoint, "/version"))
}

// Ready asks one endpoint whether requests should be sent there.
func (c *Client) Ready(ctx context.Context, endpoint string) error {
	_, err := c.ask(ctx, endpoint, "/readyz")
	return err
}

// Limits reads the limits of the state.
func (c *Client) Limits(ctx context.Context, o Read) (*Limits, error) {
	return decode[Limits](c.Do(ctx, read("/v1/cluster/limits", nil, o)))
}

// SetLimits sets those limits that the JSON object names, and returns all.
func (c *Client) SetLimits(ctx context.Context, body []byte, w Write) (*Limits, error) {
	return decode[Limits](c.Do(ctx, w.request("PUT", "/v1/cluster/limits", url.Values{}, body)))
}

func (c *Client) ask(ctx context.Context, endpoint, path string) (*Answer, error) {
	a, err := c.exchange(ctx, endpoint, &Request{Method: "GET", Path: path})
	if err != nil {
		if _, ok := err.(*Error); !ok {
			return nil, &UnreachableError{[]Failure{{endpoint, err}}}
		}
		return nil, err
	}
	return a, nil
}

// Probe reads linearizably at one endpoint, which takes a leader that a quorum has just confirmed. That the read is
// denied proves it as well.
func (c *Client) Probe(ctx context.Context, endpoint string) error {
	_, err := c.ask(ctx, endpoint, nodesURL+"/")
	if e, ok := errors.AsType[*Error](err); ok && e.Code == op.Denied.String() {
		return nil
	}
	return err
}
