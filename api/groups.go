package api

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"github.com/coord-kv/coord/internal/recipe/group"
	"github.com/coord-kv/coord/op"
)

const groupsURL = "/v1/groups"

func (s *Server) groupRoutes() []route {
	const one = groupsURL + "/{id}"
	return []route{
		{method: "GET", pattern: groupsURL, name: "group_read", serve: (*call).listGroups},
		{method: "GET", pattern: one, name: "group_read", serve: (*call).readGroup, uncounted: true},
		{method: "PUT", pattern: one + "/members/{member}", name: "group_write", body: rawBody, serve: (*call).joinGroup, uncounted: true},
		{method: "DELETE", pattern: one + "/members/{member}", name: "group_write", serve: (*call).leaveGroup},
	}
}

type groupForm struct {
	Group   string        `json:"group"`
	Members []groupMember `json:"members"`
	Next    op.Zxid       `json:"next"`
}

type groupMember struct {
	ID string `json:"id"`
	valueForm
	Session op.SessionID `json:"session"`
	Since   op.Time      `json:"since"`
}

// readGroup answers with the members; with ?since once one has come, gone or changed after that position, or the wait is
// over.
func (c *call) readGroup() error {
	x, g, err := poll(c, group.New)
	if err != nil {
		return err
	}
	list, _, err := g.Members(c.r.Context(), op.ReadOptions{})
	if err != nil {
		return err
	}
	form := groupForm{Group: c.arg, Members: []groupMember{}, Next: x.state.Zxid()}
	for _, m := range list {
		form.Members = append(form.Members, groupMember{m.ID, newValue(m.Data), m.Stat.EphemeralOwner, m.Stat.Ctime})
	}
	c.respondJSON(http.StatusOK, form)
	return nil
}

type joinedForm struct {
	Group string `json:"group"`
	ID    string `json:"id"`
	leaseOf
}

// joinGroup makes a member, with the body as its data. It is in the group as long as the session lives that the request acts
// in, or the lease that is made without one; with ?hold as long as the connection does.
func (c *call) joinGroup() error {
	name, id, _ := strings.Cut(c.arg, "/")
	if _, err := group.New(nil, name); err != nil {
		return err
	}
	ttl, hold, replace := c.q.duration("ttl"), c.q.flag("hold", false), c.q.flag("replace", false)
	dir := op.Join(group.Dir, name)
	x, err := c.join(dir, ttl)
	if err != nil {
		return err
	}
	defer x.close()
	ctx, cancel := c.withTimeout()
	defer cancel()
	w := &holding{c: c, x: x, dir: dir, hold: hold}
	return c.long(func() error {
		g, err := group.New(x, name)
		var m group.Member
		if err == nil {
			m, err = g.Join(ctx, id, c.body, replace)
		}
		if err != nil {
			return w.failed(err)
		}
		c.w.Header()["Location"] = []string{groupsURL + "/" + url.PathEscape(name) + "/members/" + url.PathEscape(id)}
		lost := func(ctx context.Context) error { return g.Lost(ctx, m) }
		return w.got(joinedForm{name, id, x.lease()}, lost, func(ctx context.Context) error { return g.Quit(ctx, m) })
	})
}

type quitForm struct {
	Group string `json:"group"`
	ID    string `json:"id"`
	Left  bool   `json:"left"`
}

// leaveGroup takes a member out: with a session one that it has brought, without any.
func (c *call) leaveGroup() error {
	name, id, _ := strings.Cut(c.arg, "/")
	x, err := c.writing()
	if err != nil {
		return err
	}
	g, err := group.New(x, name)
	if err != nil {
		return err
	}
	ctx, cancel := c.withTimeout()
	defer cancel()
	if err := g.Leave(ctx, id, x.session != 0); err != nil {
		return explain(err, op.NoNode, "the group %s has no member %s", name, id)
	}
	if x.session != 0 {
		of := c.connect(x.session, 0)
		of.drop(op.Join(group.Dir, name))
		of.close()
	}
	c.respondJSON(http.StatusOK, quitForm{name, id, true})
	return nil
}
