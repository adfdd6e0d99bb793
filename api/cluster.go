package api

import (
	"fmt"
	"net/http"

	"github.com/coord-kv/coord/op"
)

func (s *Server) clusterRoutes() []route {
	return []route{
		{method: "GET", pattern: "/v1/cluster", name: "cluster", serve: (*call).showCluster},
		{method: "GET", pattern: "/v1/cluster/members", name: "cluster", serve: (*call).showMembers},
		{method: "GET", pattern: "/v1/cluster/leader", name: "cluster", serve: (*call).showLeader},
		{method: "GET", pattern: "/v1/cluster/config", name: "cluster", serve: (*call).showConfig},
		{method: "GET", pattern: "/v1/cluster/limits", name: "limits", serve: (*call).showLimits},
		{method: "PUT", pattern: "/v1/cluster/limits", name: "set_limits", body: jsonBody, serve: (*call).setLimits},
	}
}

// statusForm is what the member that answers knows of itself and its cluster.
type statusForm struct {
	Cluster string `json:"cluster"`
	Member  string `json:"member"`
	Name    string `json:"name"`
	Boot    uint64 `json:"boot"`

	Ready  bool   `json:"ready"`
	Reason string `json:"reason,omitempty"`

	Role    string       `json:"role"`
	Leader  string       `json:"leader"` // name; "" if none is known
	Term    uint64       `json:"term"`
	Members []memberForm `json:"members"`

	Zxid       op.Zxid `json:"zxid"`
	Oldest     op.Zxid `json:"oldest"` // watches can go on from here
	Committed  uint64  `json:"committed"`
	Applied    uint64  `json:"applied"`
	Last       uint64  `json:"last"`
	StateLevel uint32  `json:"state_level"`
	Digest     string  `json:"digest"`

	LogBytes        int64  `json:"log_bytes"`
	CheckpointBytes int64  `json:"checkpoint_bytes"`
	CheckpointIndex uint64 `json:"checkpoint_index"`
	FreeBytes       int64  `json:"free_bytes"`
	ReadOnly        bool   `json:"read_only"`

	Pending       int       `json:"pending"`
	PendingBytes  int64     `json:"pending_bytes"`
	LeaderChanges uint64    `json:"leader_changes"`
	Sessions      int       `json:"sessions"`
	Staleness     *duration `json:"staleness"` // null if unknown
	Uptime        duration  `json:"uptime"`
}

type memberForm struct {
	ID       string   `json:"id"`
	Name     string   `json:"name"`
	PeerAddr string   `json:"peer_addr"`
	Learner  bool     `json:"learner"`
	Self     bool     `json:"self"`
	Leader   bool     `json:"leader"`
	Up       bool     `json:"up"`
	Lag      uint64   `json:"lag"`
	RTT      duration `json:"rtt"`
}

func hexID(prefix string, id uint64) string {
	if id == 0 {
		return ""
	}
	return fmt.Sprintf("%s-%016x", prefix, id)
}

func newStatusForm(st *op.Status) statusForm {
	f := statusForm{
		Cluster: hexID("c", st.Cluster), Member: hexID("m", st.Member), Name: st.Name, Boot: st.Boot,
		Ready: st.Ready, Reason: st.Reason,
		Role: st.Role, Leader: memberName(st, st.Leader), Term: st.Term, Members: newMemberForms(st),
		Zxid: st.Zxid, Oldest: st.Oldest, Committed: st.Committed, Applied: st.Applied, Last: st.Last,
		StateLevel: st.Level, Digest: st.Digest,
		LogBytes: st.LogBytes, CheckpointBytes: st.CheckpointBytes, CheckpointIndex: st.CheckpointIndex,
		FreeBytes: st.FreeBytes, ReadOnly: st.ReadOnly,
		Pending: st.Pending, PendingBytes: st.PendingBytes, LeaderChanges: st.LeaderChanges, Sessions: st.Sessions,
		Uptime: duration(st.Uptime),
	}
	if st.Staleness >= 0 {
		f.Staleness = (*duration)(&st.Staleness)
	}
	return f
}

func newMemberForms(st *op.Status) []memberForm {
	out := make([]memberForm, len(st.Members))
	for i := range st.Members {
		out[i] = newMemberForm(&st.Members[i])
	}
	return out
}

func newMemberForm(m *op.MemberStatus) memberForm {
	return memberForm{
		ID: hexID("m", m.ID), Name: m.Name, PeerAddr: m.PeerAddr, Learner: m.Learner, Self: m.Self, Leader: m.Leader,
		Up: m.Up, Lag: m.Lag, RTT: duration(m.RTT),
	}
}

// These answer from what the member knows, at any time: when something is wrong, they are what one looks at.

func (c *call) showCluster() error {
	if err := c.q.done(); err != nil {
		return err
	}
	st := c.s.backend.Status()
	c.respondJSON(http.StatusOK, newStatusForm(&st))
	return nil
}

type membersForm struct {
	Members []memberForm `json:"members"`
}

func (c *call) showMembers() error {
	if err := c.q.done(); err != nil {
		return err
	}
	st := c.s.backend.Status()
	c.respondJSON(http.StatusOK, membersForm{newMemberForms(&st)})
	return nil
}

// leaderForm is the leader with the term in which it leads.
type leaderForm struct {
	Term uint64 `json:"term"`
	memberForm
}

func (c *call) showLeader() error {
	if err := c.q.done(); err != nil {
		return err
	}
	st := c.s.backend.Status()
	for i := range st.Members {
		if st.Leader != 0 && st.Members[i].ID == st.Leader {
			c.respondJSON(http.StatusOK, leaderForm{st.Term, newMemberForm(&st.Members[i])})
			return nil
		}
	}
	return op.Errorf(op.NoLeader, "this member knows no leader")
}

// Setting is one option of the member as it is in effect.
type Setting struct {
	Name  string `json:"name"`
	Value string `json:"value"` // as it is written in a file; what is secret of it is left out
	From  string `json:"from"`  // what has said so: file:line, a flag, a variable of the environment, or default
}

type settingsForm struct {
	Member   string    `json:"member"`
	Settings []Setting `json:"settings"`
}

// showConfig tells how this member is configured. What holds for the cluster is in its limits.
func (c *call) showConfig() error {
	if err := c.q.done(); err != nil {
		return err
	}
	all := c.s.settings
	if all == nil {
		all = []Setting{}
	}
	c.respondJSON(http.StatusOK, settingsForm{c.s.name, all})
	return nil
}
