package api

import (
	"context"
	"net/http"

	"github.com/coord-kv/coord/internal/recipe"
	"github.com/coord-kv/coord/op"
)

func (s *Server) fenceRoutes() []route {
	const one = "/v1/fence/{id}"
	return []route{
		{method: "GET", pattern: one, name: "fence", serve: (*call).readFence},
		{method: "POST", pattern: one, name: "fence", serve: (*call).passFence},
	}
}

type fenceForm struct {
	Resource string   `json:"resource"`
	Token    op.Zxid  `json:"token"`
	Since    *op.Time `json:"since,omitempty"`
}

// readFence shows the highest token that a resource outside of coord was used with.
func (c *call) readFence() error {
	return c.as(c.nobody, func(ctx context.Context, x *sessionConn) error {
		f, err := recipe.ReadFence(ctx, x, c.arg)
		if err != nil {
			return explain(err, op.NoNode, "the register of %q has seen no token yet", c.arg)
		}
		c.respondJSON(http.StatusOK, fenceForm{f.Resource, f.Token, &f.Since})
		return nil
	})
}

// passFence shows a token to the register of a resource: 200 if the resource may be used with it, 412 if a newer one
// has been there. It is safe to repeat.
func (c *call) passFence() error {
	if !c.q.has("token") {
		c.q.faults.add("token", "is required: that of a lock or of a term")
	}
	token := c.q.zxid("token")
	return c.as(c.nobody, func(ctx context.Context, x *sessionConn) error {
		f, err := recipe.Pass(ctx, x, c.arg, token)
		if err != nil {
			if e := unwrap(err).what; e.Code == op.StaleToken {
				c.s.metrics.fenced.Inc()
			}
			return err
		}
		c.respondJSON(http.StatusOK, fenceForm{f.Resource, f.Token, nil})
		return nil
	})
}
