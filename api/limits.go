package api

import (
	"math"
	"net/http"

	"github.com/coord-kv/coord/op"
)

// stateLimitsForm has the limits of the state, those that decide whether a request is done.
type stateLimitsForm struct {
	DataBytes       int64    `json:"data_bytes"`
	RequestBytes    int64    `json:"request_bytes"`
	TxnOps          int64    `json:"txn_ops"`
	ChangedNodes    int64    `json:"changed_nodes"`
	EventBytes      int64    `json:"event_bytes"`
	ReadBytes       int64    `json:"read_bytes"`
	Ephemerals      int64    `json:"ephemerals"`
	Sessions        int64    `json:"sessions"`
	SeqWindow       int64    `json:"seq_window"`
	SessionResults  int64    `json:"session_results"`
	AllResults      int64    `json:"all_results"`
	PrincipalKeys   int64    `json:"principal_keys"`
	KeyWindow       duration `json:"key_window"`
	SessionMin      duration `json:"session_min"`
	SessionMax      duration `json:"session_max"`
	ContainerUnused duration `json:"container_unused"`
	ACLEntries      int64    `json:"acl_entries"`
}

func formOfStateLimits(x op.Limits) stateLimitsForm {
	return stateLimitsForm{
		x.DataBytes, x.RequestBytes, x.TxnOps, x.ChangedNodes, x.EventBytes, x.ReadBytes, x.Ephemerals, x.Sessions,
		x.SeqWindow, x.SessionResults, x.AllResults, x.PrincipalKeys, duration(x.KeyWindow), duration(x.SessionMin),
		duration(x.SessionMax), duration(x.ContainerUnused), x.ACLEntries,
	}
}

// limits reads those that are named; the others are 0.
func (o *object) limits() op.Limits {
	n := func(name string) int64 { return o.number(name, 1, math.MaxInt64, 0) }
	return op.Limits{
		DataBytes: n("data_bytes"), RequestBytes: n("request_bytes"), TxnOps: n("txn_ops"), ChangedNodes: n("changed_nodes"),
		EventBytes: n("event_bytes"), ReadBytes: n("read_bytes"), Ephemerals: n("ephemerals"), Sessions: n("sessions"),
		SeqWindow: n("seq_window"), SessionResults: n("session_results"), AllResults: n("all_results"),
		PrincipalKeys: n("principal_keys"), ACLEntries: n("acl_entries"),
		KeyWindow: o.duration("key_window"), SessionMin: o.duration("session_min"), SessionMax: o.duration("session_max"),
		ContainerUnused: o.duration("container_unused"),
	}
}

func (c *call) showLimits() error {
	v, err := c.view()
	if err != nil {
		return err
	}
	c.respondJSON(http.StatusOK, formOfStateLimits(v.Limits()))
	return nil
}

// setLimits sets those limits that are named. What they would be together is checked here for the sake of the message; what
// they are is decided by the state machine.
func (c *call) setLimits() error {
	body, err := parseObject(c.body)
	if err != nil {
		return err
	}
	x := body.limits()
	if err := body.finish(); err != nil {
		return err
	}
	if x == (op.Limits{}) {
		return op.Errorf(op.BadRequest, "name the limits to set, such as %s", `{"data_bytes": 2097152}`)
	}
	limits := c.s.stateLimits(c.r.Context()).Merge(x)
	if err := limits.Check(); err != nil {
		return err
	}
	if _, err := c.do(&op.SetLimits{Limits: x}); err != nil {
		return err
	}
	// What is answered has been applied here.
	c.respondJSON(http.StatusOK, formOfStateLimits(c.s.stateLimits(c.r.Context())))
	return nil
}
