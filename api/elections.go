package api

import (
	"context"
	"errors"
	"net/http"
	"net/url"

	"github.com/coord-kv/coord/internal/recipe"
	"github.com/coord-kv/coord/op"
)

const electionsURL = "/v1/elections"

func (s *Server) electionRoutes() []route {
	const one = electionsURL + "/{id}"
	return []route{
		{method: "GET", pattern: electionsURL, name: "election_read", serve: (*call).listElections},
		{method: "GET", pattern: one, name: "election_read", serve: (*call).readElection, uncounted: true},
		{method: "POST", pattern: one, name: "campaign", serve: (*call).campaign, uncounted: true},
		{method: "DELETE", pattern: one, name: "election_write", serve: (*call).resign},
		{method: "POST", pattern: one + "/renew", name: "election_write", serve: (*call).renewTerm},
		{method: "POST", pattern: one + "/transfer", name: "election_write", serve: (*call).transfer},
	}
}

// termForm is the answer to who was elected.
type termForm struct {
	Election  string       `json:"election"`
	Term      op.Zxid      `json:"term"`
	Session   op.SessionID `json:"session"`
	Secret    string       `json:"secret,omitempty"`
	Candidate string       `json:"candidate"`
	ExpiresIn duration     `json:"expires_in"`
	Renew     string       `json:"renew"`
}

// campaign stands for election until the candidate leads, or the wait is over.
func (c *call) campaign() error {
	dir, err := recipe.Dir(recipe.ElectionsDir, c.arg)
	if err != nil {
		return err
	}
	who := recipe.Candidacy{
		Name: c.arg, ID: c.q.text("candidate"), Value: c.q.text("value"),
		Priority: int(c.q.number("priority", -1_000_000, 1_000_000, 0)),
	}
	ttl, hold := c.q.duration("ttl"), c.q.flag("hold", false)
	wait := c.waitFor(hold, defaultWait)
	x, err := c.join(dir, ttl)
	if err != nil {
		return err
	}
	defer x.close()
	ctx, cancel := c.within(wait)
	defer cancel()
	w := &holding{c: c, x: x, dir: dir, hold: hold}
	who.Waiting = w.waiting
	return c.long(func() error {
		e, err := recipe.NewElection(x, who)
		if err != nil {
			return errors.Join(err, w.giveUp())
		}
		t, err := e.Campaign(ctx)
		if err != nil {
			return w.failed(err)
		}
		renew := electionsURL + "/" + url.PathEscape(c.arg) + "/renew"
		return w.got(termForm{c.arg, t.Token, x.id, x.secret, t.ID, duration(x.ttl), renew}, t.Lost, t.Resign)
	})
}

type resignedForm struct {
	Election string  `json:"election"`
	Term     op.Zxid `json:"term"`
	Resigned bool    `json:"resigned"`
}

// resign ends the term of the session that the request acts in.
func (c *call) resign() error {
	return c.as(c.owner, func(ctx context.Context, x *sessionConn) error {
		t, err := recipe.InTerm(ctx, x, c.arg)
		if err == nil {
			err = t.Resign(ctx)
		}
		if err != nil {
			return err
		}
		dir, _ := recipe.Dir(recipe.ElectionsDir, c.arg)
		x.drop(dir)
		c.respondJSON(http.StatusOK, resignedForm{c.arg, t.Token, true})
		return nil
	})
}

type renewedTermForm struct {
	Election  string   `json:"election"`
	Term      op.Zxid  `json:"term"`
	ExpiresIn duration `json:"expires_in"`
}

// renewTerm keeps the session of a leader alive, and says that it still leads.
func (c *call) renewTerm() error {
	return c.as(c.owner, func(ctx context.Context, x *sessionConn) error {
		if _, err := c.s.backend.KeepAlive(ctx, x.id); err != nil {
			return readError(err)
		}
		t, err := recipe.InTerm(ctx, x, c.arg)
		if err != nil {
			return err
		}
		c.respondJSON(http.StatusOK, renewedTermForm{c.arg, t.Token, duration(x.ttl)})
		return nil
	})
}

type transferredForm struct {
	Election string `json:"election"`
	To       string `json:"to"`
}

// transfer ends the leader's term in favour of a candidate.
func (c *call) transfer() error {
	to := c.q.text("to")
	if to == "" {
		c.q.faults.add("to", "is required: the candidate that shall lead")
	}
	by, err := c.doer()
	if err != nil {
		return err
	}
	return c.as(c.nobody, func(ctx context.Context, x *sessionConn) error {
		if err := recipe.Transfer(ctx, x, c.arg, to, by); err != nil {
			return err
		}
		c.respondJSON(http.StatusOK, transferredForm{c.arg, to})
		return nil
	})
}

type termHolderForm struct {
	Candidate string       `json:"candidate"`
	Value     string       `json:"value"`
	Term      op.Zxid      `json:"term"`
	Session   op.SessionID `json:"session"`
	Since     op.Time      `json:"since"`
	LedFor    *duration    `json:"led_for"`
	ExpiresIn *duration    `json:"expires_in,omitempty"`
}

type electionForm struct {
	Election   string          `json:"election"`
	Leader     *termHolderForm `json:"leader"`
	Candidates []contenderForm `json:"candidates"` // without the leader
	History    []tenureForm    `json:"history,omitempty"`
}

// readElection shows an election; with ?since=TERM once its leader is another one than that of this term, or the wait
// is over. The term 0 stands for nobody.
func (c *call) readElection() error {
	if c.q.has("since") {
		return c.observe(c.q.zxid("since"))
	}
	x, err := c.nobody()
	if err != nil {
		return err
	}
	defer x.close()
	return c.showElection(x)
}

// observe waits for another leader. Who is told of one asks again with its term: if that one has been followed already,
// the answer comes at once, so no last word is missed.
func (c *call) observe(since op.Zxid) error {
	length := c.waitFor(false, defaultWait)
	x, err := c.nobody()
	if err != nil {
		return err
	}
	defer x.close()
	wait, cancel := c.within(length)
	defer cancel()
	return c.long(func() error {
		o, err := recipe.ObserveAfter(x, c.arg, since)
		if err == nil {
			_, err = o.Next(wait)
		}
		if err != nil && wait.Err() == nil && !errors.Is(err, &op.Error{Code: op.Draining}) {
			return err
		}
		(&watching{c: c}).allowWrite()
		return c.showElection(x)
	})
}

func (c *call) showElection(x *sessionConn) error {
	ctx, cancel := c.withTimeout()
	defer cancel()
	i, err := recipe.InspectElection(ctx, x, c.arg)
	switch {
	case errors.Is(err, &op.Error{Code: op.NoLock}) && len(c.r.URL.RawQuery) > 0:
		i = &recipe.ElectionInfo{Info: recipe.Info{Name: c.arg}} // it may be that nobody stands yet
	case err != nil:
		return err
	}
	c.respondJSON(http.StatusOK, c.election(ctx, i))
	return nil
}

func (c *call) election(ctx context.Context, i *recipe.ElectionInfo) electionForm {
	f := electionForm{Election: i.Name}
	var leader []contenderForm
	leader, f.Candidates, f.History = c.line(ctx, &i.Info)
	if l := i.Leader; l.Token != 0 {
		f.Leader = &termHolderForm{l.ID, l.Value, l.Token, l.Session, l.Since, c.since(l.Since), nil}
		if len(leader) > 0 {
			f.Leader.ExpiresIn = leader[0].ExpiresIn
		}
	}
	return f
}

type electionsForm struct {
	Elections []electionForm `json:"elections"`
	Next      string         `json:"next,omitempty"`
}

// listElections lists the elections in which somebody stands.
func (c *call) listElections() error {
	form := electionsForm{Elections: []electionForm{}}
	next, err := c.eachName(recipe.ElectionsDir, func(ctx context.Context, x *sessionConn, name string) error {
		i, err := recipe.InspectElection(ctx, x, name)
		if err == nil && len(i.Holders)+len(i.Waiters) > 0 {
			i.History = nil
			form.Elections = append(form.Elections, c.election(ctx, i))
		}
		return err
	})
	if err != nil {
		return err
	}
	form.Next = next
	c.respondJSON(http.StatusOK, form)
	return nil
}
