package api

import (
	"math"
	"net/http"

	"github.com/coord-kv/coord/op"
)

// quotaForm is a quota; 0 is no limit.
type quotaForm struct {
	SoftCount int64 `json:"soft_count"`
	HardCount int64 `json:"hard_count"`
	SoftBytes int64 `json:"soft_bytes"`
	HardBytes int64 `json:"hard_bytes"`
}

func (o *object) quota() op.Quota {
	n := func(name string) int64 { return o.number(name, 0, math.MaxInt64, 0) }
	return op.Quota{
		SoftCount: n("soft_count"), HardCount: n("hard_count"), SoftBytes: n("soft_bytes"), HardBytes: n("hard_bytes"),
	}
}

// usageForm is a subtree's quota and how much of it is used.
type usageForm struct {
	Path  string    `json:"path"`
	Quota quotaForm `json:"quota"`
	Nodes int64     `json:"nodes"`
	Bytes int64     `json:"bytes"`
}

// readQuota tells whoever may read the node how much hangs on it.
func (c *call) readQuota() error {
	c.q.choose("quota")
	v, err := c.view()
	if err != nil {
		return err
	}
	if _, err := c.readFrom(v, &op.Get{Path: c.arg}); err != nil {
		return err
	}
	u, _ := v.Usage(c.arg)
	c.respondJSON(http.StatusOK, usageForm{c.arg, quotaForm(u.Quota), u.Nodes, u.Bytes})
	return nil
}

func (c *call) putQuota() error {
	c.q.choose("quota")
	body, err := parseObject(c.body)
	if err != nil {
		return err
	}
	q := body.quota()
	if err := body.finish(); err != nil {
		return err
	}
	return c.setQuota(q)
}

func (c *call) deleteQuota() error {
	c.q.choose("quota")
	return c.setQuota(op.Quota{})
}

type quotaAnswer struct {
	Path  string    `json:"path"`
	Quota quotaForm `json:"quota"`
}

func (c *call) setQuota(q op.Quota) error {
	if _, err := c.do(&op.SetQuota{Path: c.arg, Quota: q}); err != nil {
		return err
	}
	c.respondJSON(http.StatusOK, quotaAnswer{c.arg, quotaForm(q)})
	return nil
}
