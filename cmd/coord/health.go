package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coord-kv/coord/internal/httpapi"
)

// verdict is the state of a cluster as it is seen from here. Its value is the exit code of coord status.
type verdict int

const (
	healthy  verdict = 0
	unclear  verdict = 1
	degraded verdict = 2
	noQuorum verdict = 3
)

func (v verdict) String() string {
	return [...]string{"healthy", "could not tell", "degraded", "no quorum"}[v]
}

// MarshalText returns the verdict as JSON has it.
func (v verdict) MarshalText() ([]byte, error) {
	return []byte(strings.ReplaceAll(v.String(), " ", "_")), nil
}

// report is what all endpoints together know of a cluster. Its JSON is what coord status -o json prints.
type report struct {
	Status  verdict  `json:"status"`
	Cluster string   `json:"cluster,omitempty"`
	Leader  string   `json:"leader,omitempty"`
	Members []view   `json:"members"`
	Silent  []silent `json:"silent,omitempty"` // endpoints that don't answer, of which nobody knows whose they are
	Voters  int      `json:"voters"`           // 0 if nobody could say
	Up      int      `json:"up"`               // of them
	Needed  int      `json:"needed"`           // for a quorum
	Meaning []string `json:"meaning"`          // what is wrong and what it means, the worst first
	Next    string   `json:"next,omitempty"`
}

// view is one member, or an endpoint of which nobody knows which member it is.
type view struct {
	Name     string `json:"name,omitempty"`
	Endpoint string `json:"endpoint,omitempty"`
	Role     string `json:"role,omitempty"`
	Up       bool   `json:"up"`
	Ready    bool   `json:"ready"`
	State    string `json:"state"` // "ok", or what is wrong
	Zxid     string `json:"zxid,omitempty"`
	Lag      uint64 `json:"lag"`
	Version  string `json:"version,omitempty"`
	Learner  bool   `json:"learner,omitempty"`
	readOnly bool
}

// silent is an endpoint that doesn't answer while others do. It may be that of any member that none of the others is.
type silent struct {
	Endpoint string `json:"endpoint"`
	Reason   string `json:"reason"`
}

// examine asks every endpoint once, all at the same time, and makes a report. Members without an endpoint are known
// from those that have one.
// A third of the time is for the questions, so that a member that hangs leaves time for the rest.
func examine(ctx context.Context, cl *httpapi.Client, limit time.Duration) *report {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	asking, stop := context.WithTimeout(ctx, limit/3)
	answers := askAll(asking, cl)
	stop()
	r := &report{Members: []view{}}
	r.collect(answers)
	r.judge(answers, probe(ctx, cl, answers))
	return r
}

// answer is what one endpoint has said.
type answer struct {
	endpoint string
	cluster  *httpapi.Cluster
	version  string
	err      error
}

func askAll(ctx context.Context, cl *httpapi.Client) []answer {
	endpoints := cl.Endpoints()
	answers := make([]answer, len(endpoints))
	var wg sync.WaitGroup
	for i, e := range endpoints {
		wg.Go(func() {
			a := &answers[i]
			a.endpoint = e
			if a.cluster, a.err = cl.Cluster(ctx, e); a.err != nil {
				return
			}
			if v, err := cl.Version(ctx, e); err == nil {
				a.version = v.Version
			}
		})
	}
	wg.Wait()
	return answers
}

// probe reads the root linearizably: what a member believes of leader and quorum may be old, and this is not. A member
// that was asked answers only if it could prove that its leader leads.
func probe(ctx context.Context, cl *httpapi.Client, answers []answer) error {
	var endpoints []string
	for _, a := range answers {
		if a.err == nil {
			endpoints = append(endpoints, a.endpoint)
		}
	}
	if len(endpoints) == 0 {
		return &httpapi.UnreachableError{}
	}
	err := error(nil)
	for _, e := range endpoints {
		if err = cl.Probe(ctx, e); err == nil {
			return nil
		}
	}
	return err
}

// collect merges the answers into one list of members.
func (r *report) collect(answers []answer) {
	seen := map[string]*httpapi.Member{}
	for _, a := range answers {
		if a.err != nil {
			r.Members = append(r.Members, view{Endpoint: a.endpoint, State: silentState + shortReason(a.err)})
			continue
		}
		c := a.cluster
		r.Cluster, r.Leader = cmp.Or(r.Cluster, c.Cluster), cmp.Or(r.Leader, c.Leader)
		r.Members = append(r.Members, view{
			Name: c.Name, Endpoint: a.endpoint, Role: c.Role, Up: true, Ready: c.Ready, State: memberState(c),
			Zxid: fmt.Sprint(c.Zxid), Version: a.version, readOnly: c.ReadOnly,
		})
		for i := range c.Members {
			merged(seen, &c.Members[i], c.Leader == c.Name)
		}
	}
	r.addUnseen(seen)
	slices.SortStableFunc(r.Members, func(a, b view) int { return cmp.Compare(a.Name, b.Name) })
}

// merged keeps of several reports of one member that of the leader, which knows how far behind others are, else that
// it is up if anybody has a stream to it.
func merged(seen map[string]*httpapi.Member, m *httpapi.Member, byLeader bool) {
	old, ok := seen[m.Name]
	switch {
	case !ok, byLeader:
		seen[m.Name] = m
	case m.Up && !old.Up && old.Lag == 0:
		old.Up = true
	}
}

// addUnseen adds what members say of others: their lag, and those that have no endpoint here. If one endpoint doesn't
// answer and one member is left, these two belong together. With more of either, members and endpoints are told apart, so
// that no member is listed twice.
func (r *report) addUnseen(seen map[string]*httpapi.Member) {
	if len(seen) == 0 {
		return // nobody answers, so that all there is to list is endpoints
	}
	members, mute := r.Members[:0:0], r.Members[:0:0]
	for _, v := range r.Members {
		if !v.Up {
			mute = append(mute, v)
			continue
		}
		if m, ok := seen[v.Name]; ok {
			v.Lag, v.Learner = m.Lag, m.Learner
			delete(seen, v.Name)
		}
		members = append(members, v)
	}
	for _, m := range seen {
		v := view{State: "down, as others see it"}
		switch {
		case len(mute) == 1 && len(seen) == 1:
			v, mute = mute[0], nil
		case m.Up:
			v.State = "up, as others see it"
		}
		v.is(m)
		members = append(members, v)
	}
	for _, v := range mute {
		r.Silent = append(r.Silent, silent{v.Endpoint, strings.TrimPrefix(v.State, silentState)})
	}
	r.Members = members
}

// silentState begins the state of an endpoint that doesn't answer.
const silentState = "does not answer: "

// is takes in which member it is that doesn't answer. It may still take part: it hangs, or can't be reached from here.
func (v *view) is(m *httpapi.Member) {
	v.Name, v.Learner, v.Lag, v.Up, v.Ready = m.Name, m.Learner, m.Lag, m.Up, m.Up
	if m.Up && v.Endpoint != "" {
		v.State += ", but is up as others see it"
	}
}

func memberState(c *httpapi.Cluster) string {
	switch {
	case !c.Ready:
		return "not ready: " + cmp.Or(c.Reason, "not caught up yet")
	case c.ReadOnly:
		return "its disk is nearly full"
	case c.Reason != "":
		return c.Reason
	case c.Leader == "":
		return "knows no leader"
	}
	return "ok"
}

// shortReason says why one endpoint doesn't answer. It stands beside the endpoint.
func shortReason(err error) string {
	if u, ok := err.(*httpapi.UnreachableError); ok && len(u.Failures) > 0 {
		return u.Failures[0].Reason()
	}
	return reason(err)
}

// judge decides on the verdict and says what it means.
func (r *report) judge(answers []answer, probed error) {
	answering := 0
	for _, a := range answers {
		if a.err == nil {
			answering++
		}
	}
	for _, v := range r.Members {
		if v.Name == "" || v.Learner {
			continue
		}
		r.Voters++
		if v.Up {
			r.Up++
		}
	}
	r.Needed = r.Voters/2 + 1
	switch {
	case answering == 0:
		r.Status, r.Voters, r.Needed = unclear, 0, 0
		r.say("no endpoint answers: the service is down, or not at these addresses")
		r.Next = nobodyThere
	case differ(answers):
		r.Status = unclear
		r.say("the endpoints belong to different clusters")
		r.Next = "give --endpoints of one cluster alone"
	case probed != nil:
		r.withoutQuorum(probed)
	default:
		r.withQuorum()
	}
	for _, s := range r.Silent {
		r.say("nothing answers at %s: %s", s.Endpoint, s.Reason)
		r.Next = cmp.Or(r.Next, "if "+s.Endpoint+" is no member of this cluster any more, leave it out of --endpoints")
	}
}

func differ(answers []answer) bool {
	first := ""
	for _, a := range answers {
		if a.err != nil || a.cluster.Cluster == "" {
			continue
		}
		if first = cmp.Or(first, a.cluster.Cluster); first != a.cluster.Cluster {
			return true
		}
	}
	return false
}

func (r *report) say(format string, args ...any) {
	r.Meaning = append(r.Meaning, fmt.Sprintf(format, args...))
}

func (r *report) withoutQuorum(why error) {
	r.Status = noQuorum
	switch {
	case r.Cluster == "" && r.Up < r.Voters:
		r.say("a new cluster begins once all of its %s have started; missing: %s", plural(r.Voters, "member"), r.down())
		r.Next = "start " + r.down() + " with the same --cluster list"
	case r.Cluster == "":
		r.say("the members of this new cluster are finding each other")
		r.Next = "coord status --wait healthy waits for it"
	case r.Up < r.Needed:
		reads := "reads with --consistency eventual still work"
		if !slices.ContainsFunc(r.Members, func(v view) bool { return v.Ready }) {
			reads = "all other reads wait until a member has caught up with a leader"
		}
		r.say("%d of %s answer and %d are needed: writes and linearizable reads are refused; %s",
			r.Up, plural(r.Voters, "member"), r.Needed, reads)
		r.Next = "start " + r.down() + " again"
	default:
		r.say("there is no leader just now: %s", reason(why))
		r.Next = "an election takes about a second; coord status --wait healthy waits for it"
	}
}

func (r *report) withQuorum() {
	if r.Up < r.Voters {
		r.Status = degraded
		r.say("%d of %s answer; %s", r.Up, plural(r.Voters, "member"), r.margin())
		r.Next = "start " + r.down() + " again"
	}
	if len(r.Silent) > 0 {
		r.Status = degraded
	}
	for _, v := range r.Members {
		switch {
		case v.Up && (!v.Ready || v.readOnly || v.Endpoint != "" && v.State != "ok"):
			r.Status = degraded
			r.say("%s: %s", v.Name, v.State)
		}
		if v.readOnly {
			r.say("writes are refused when too few members have room; free space on the disk of %s", v.Name)
		}
	}
	switch {
	case r.Status != healthy:
	case r.Voters == 1:
		r.say("its only member answers; if it stops, so does the service")
	default:
		r.say("%d of %d members answer; %s", r.Up, r.Voters, r.margin())
	}
}

// margin says how many members may yet be lost.
func (r *report) margin() string {
	switch left := r.Up - r.Needed; left {
	case 0:
		return "one more loss stops writes"
	case 1:
		return "one more loss is survived"
	default:
		return fmt.Sprintf("%d more losses are survived", left)
	}
}

// down names the members that are not up.
func (r *report) down() string {
	var names []string
	for _, v := range r.Members {
		if v.Up {
			continue
		}
		switch {
		case v.Name != "" && v.Endpoint != "":
			names = append(names, v.Name+" ("+v.Endpoint+")")
		case v.Name != "":
			names = append(names, v.Name)
		}
	}
	if len(names) == 0 {
		return "the missing members"
	}
	return strings.Join(names, " and ")
}

// pollInterval is how often a command that waits looks again.
const pollInterval = 250 * time.Millisecond

// await examines the cluster until it is healthy or ctx ends, and returns the last report. Each examination may take so
// long as limit says, also beyond the end of ctx: a report that was cut short would say less than is known.
func await(ctx context.Context, cl *httpapi.Client, limit time.Duration) *report {
	for {
		r := examine(context.WithoutCancel(ctx), cl, limit)
		if r.Status == healthy {
			return r
		}
		t := time.NewTimer(pollInterval)
		select {
		case <-ctx.Done():
			t.Stop()
			return r
		case <-t.C:
		}
	}
}
