package api

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/coord-kv/coord/internal/recipe"
	"github.com/coord-kv/coord/internal/registry"
	"github.com/coord-kv/coord/op"
)

// readContest reads a request that a recipe carries out; nil if there is none of that name.
func readContest(id uint64, verb string, o *object) *contest {
	k := &contest{id: id, verb: verb, wait: asLongAsConnected}
	switch verb {
	case "lock":
		readLock(k, o)
	case "unlock":
		readGiveBack(k, o, "lock", recipe.LocksDir, unlock)
	case "campaign":
		readCampaign(k, o)
	case "resign":
		readGiveBack(k, o, "election", recipe.ElectionsDir, resign)
	case "register":
		readRegister(k, o)
	case "deregister":
		readDeregister(k, o)
	default:
		return nil
	}
	return k
}

// recipeName reads the name of a lock or an election.
func (o *object) recipeName(k *contest, kind, base string) {
	k.kind, k.name = kind, o.require("name")
	if k.name == "" && len(o.faults.fields) > 0 {
		return // it is missing, and that was said
	}
	var err error
	if k.dir, err = recipe.Dir(base, k.name); err != nil {
		o.fault("name", "%s", unwrap(err).what.Detail)
	}
}

// patience reads how long to wait: as long as the connection lives if nothing else is said, "0s" for not at all.
func (o *object) patience() time.Duration {
	if !o.has("wait") {
		o.take("wait")
		return asLongAsConnected
	}
	s := o.text("wait")
	if d, err := time.ParseDuration(s); err == nil && d == 0 {
		return 0
	}
	d, why := parseDuration(s)
	if why != "" {
		o.fault("wait", "%s; or \"0s\"", why)
	}
	return d
}

// lockedForm is the answer to whom a lock was granted.
type lockedForm struct {
	Lock  string  `json:"lock"`
	Token op.Zxid `json:"token"`
	Owner string  `json:"owner"`
}

func readLock(k *contest, o *object) {
	o.recipeName(k, "lock", recipe.LocksDir)
	s := recipe.Spec{
		Name: k.name, Owner: o.text("owner"), Metadata: o.text("metadata"), AtLeast: o.duration("at_least"), Delay: o.duration("delay"),
	}
	isRW, isSem := o.has("shared"), o.has("limit")
	shared, limit := o.flag("shared"), o.number("limit", 1, 1_000_000, 0)
	switch {
	case isRW && isSem:
		o.fault("limit", "is that of a semaphore, and shared is for locks of readers and writers")
	case isSem:
		s.Mode, s.Slots = recipe.Slot, int(limit)
	case shared:
		s.Mode = recipe.Read
	case isRW:
		s.Mode = recipe.Write
	}
	if s.AtLeast > 0 && (shared || isSem) {
		o.fault("at_least", "is for exclusive locks")
	}
	if s.Delay > 0 && (shared || isSem) {
		o.fault("delay", "is for exclusive locks")
	}
	k.owner, k.wait = s.Owner, o.patience()
	k.run = func(ctx context.Context, x *contestConn, k *contest) (any, holdable, error) {
		g, err := x.lock(ctx, k, s)
		if err != nil {
			return nil, nil, err
		}
		x.c.granted(k, g.Token)
		return lockedForm{k.name, g.Token, g.Owner}, g, nil
	}
}

func (x *contestConn) lock(ctx context.Context, k *contest, s recipe.Spec) (*recipe.Grant, error) {
	s.Waiting = func(ahead int) { x.c.moved(k, ahead) }
	l, err := recipe.NewLock(x, s)
	if err != nil {
		return nil, err
	}
	if x.resumed {
		token, err := x.takeUp(k)
		if err != nil {
			return nil, err
		}
		if token != 0 {
			return recipe.Held(x.ctx, x, s.Name, token)
		}
	}
	if k.wait == 0 {
		return l.Try(x.wait)
	}
	return l.Acquire(ctx)
}

// takeUp looks for what a resumed session has left of the same owner, on a connection that it had before: what it holds
// is taken up, and a place in the line that nobody waits in any more is given up.
func (x *contestConn) takeUp(k *contest) (held op.Zxid, err error) {
	i, err := recipe.Inspect(x.ctx, x, k.name)
	if errors.Is(err, &op.Error{Code: op.NoLock}) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	for _, h := range i.Holders {
		if x.left(k, &h) {
			return h.Token, nil
		}
	}
	return 0, x.withdraw(k, i.Waiters)
}

// left reports whether a contender is of this session and owner, and no request of this connection waits in its place.
func (x *contestConn) left(k *contest, h *recipe.Contender) bool {
	if h.Session != x.Session() || h.Owner != cmp.Or(k.owner, h.Session.String()) {
		return false
	}
	x.c.mu.Lock()
	defer x.c.mu.Unlock()
	for other := range x.c.contests.open {
		same := other != k && other.kind == k.kind && other.dir == k.dir && other.owner == k.owner
		if same && (other.held == nil || other.token == h.Token) {
			return false
		}
	}
	return true
}

func (x *contestConn) withdraw(k *contest, line []recipe.Contender) error {
	for _, h := range line {
		if !x.left(k, &h) {
			continue
		}
		_, err := x.Do(x.ctx, &op.Delete{Path: h.Path, If: op.Cond{Version: op.AnyVersion, Mzxid: h.Token}})
		if err != nil && !errors.Is(err, &op.Error{Code: op.NoNode}) {
			return err
		}
	}
	return nil
}

// electedForm is the answer to who was elected.
type electedForm struct {
	Election  string  `json:"election"`
	Term      op.Zxid `json:"term"`
	Candidate string  `json:"candidate"`
}

func readCampaign(k *contest, o *object) {
	o.recipeName(k, "election", recipe.ElectionsDir)
	who := recipe.Candidacy{
		Name: k.name, ID: o.text("candidate"), Value: o.text("value"), Priority: int(o.number("priority", -1_000_000, 1_000_000, 0)),
	}
	k.owner = who.ID
	if k.wait = o.patience(); k.wait == 0 {
		o.fault("wait", "must be longer than nothing: nobody is elected at once")
	}
	k.run = func(ctx context.Context, x *contestConn, k *contest) (any, holdable, error) {
		t, err := x.campaign(ctx, k, who)
		if err != nil {
			return nil, nil, err
		}
		x.c.granted(k, t.Token)
		return electedForm{k.name, t.Token, t.ID}, t, nil
	}
}

func (x *contestConn) campaign(ctx context.Context, k *contest, who recipe.Candidacy) (*recipe.Term, error) {
	who.Waiting = func(ahead int) { x.c.moved(k, ahead) }
	e, err := recipe.NewElection(x, who)
	if err != nil {
		return nil, err
	}
	if x.resumed {
		if t, err := x.takeUpTerm(k); t != nil || err != nil {
			return t, err
		}
	}
	return e.Campaign(ctx)
}

// takeUpTerm is takeUp for an election.
func (x *contestConn) takeUpTerm(k *contest) (*recipe.Term, error) {
	i, err := recipe.InspectElection(x.ctx, x, k.name)
	if errors.Is(err, &op.Error{Code: op.NoLock}) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for _, h := range i.Holders {
		if i.Leader.Token == 0 || !x.left(k, &h) {
			continue
		}
		t, err := recipe.InTerm(x.ctx, x, k.name)
		if !errors.Is(err, &op.Error{Code: op.NotHolder}) {
			return t, err
		}
	}
	return nil, x.withdraw(k, append(i.Holders, i.Waiters...))
}

// readGiveBack reads an unlock or a resign.
func readGiveBack(
	k *contest, o *object, kind, base string, end func(context.Context, *contestConn, string, op.Zxid) (op.Zxid, error),
) {
	o.recipeName(k, kind, base)
	token := o.zxid(map[string]string{"lock": "token", "election": "term"}[kind])
	k.kind = "" // it is no contender itself
	k.run = func(ctx context.Context, x *contestConn, k *contest) (any, holdable, error) {
		mine, err := x.c.contestOf(kind, k.dir, token)
		if err != nil {
			return nil, nil, err
		}
		if mine != nil {
			if mine.cancelWait(); !x.c.settle(mine) {
				return endedForm(kind, k.name, 0), nil, nil
			}
			token = mine.token
		}
		ended, err := end(ctx, x, k.name, token)
		return endedForm(kind, k.name, ended), nil, err
	}
}

// cancelWait ends the wait of a contest, and returns when it is over.
func (k *contest) cancelWait() {
	k.cancel()
	<-k.answered
}

// settle takes a contest out, so that nobody is told that it was lost, and reports whether it held something.
func (c *wsConn) settle(k *contest) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.contests.open, k)
	return k.held != nil
}

func unlock(ctx context.Context, x *contestConn, name string, token op.Zxid) (op.Zxid, error) {
	g, err := recipe.Held(ctx, x, name, token)
	if err != nil {
		return 0, err
	}
	return g.Token, g.Release(ctx)
}

func resign(ctx context.Context, x *contestConn, name string, term op.Zxid) (op.Zxid, error) {
	t, err := recipe.InTerm(ctx, x, name)
	switch {
	case err != nil:
		return 0, err
	case term != 0 && term != t.Token:
		return 0, &op.Error{Code: op.NotHolder, Outcome: op.Decided, Detail: "the session leads " + name + " in another term"}
	}
	return t.Token, t.Resign(ctx)
}

// endedForm says what an unlock or a resign has ended; what only waited had no token.
func endedForm(kind, name string, token op.Zxid) any {
	type withdrawn struct {
		Lock      string `json:"lock,omitempty"`
		Election  string `json:"election,omitempty"`
		Withdrawn bool   `json:"withdrawn"`
	}
	switch {
	case kind == "lock" && token != 0:
		return releasedForm{name, token, true}
	case kind == "lock":
		return withdrawn{Lock: name, Withdrawn: true}
	case token != 0:
		return resignedForm{name, token, true}
	}
	return withdrawn{Election: name, Withdrawn: true}
}

func readRegister(k *contest, o *object) {
	i := registry.Instance{
		Service: o.require("service"), ID: o.require("instance"), Address: o.require("address"),
		Port: uint16(o.number("port", 1, 65535, 0)), Tags: o.strings("tags"), Meta: o.texts("meta"),
		Status: registry.Status(o.text("status")), Reason: o.text("reason"),
	}
	replace := o.flag("replace")
	k.run = func(ctx context.Context, x *contestConn, _ *contest) (any, holdable, error) {
		if err := i.Check(); err != nil {
			return nil, nil, err
		}
		done, err := registry.New(x).Register(ctx, i, replace)
		if err != nil {
			return nil, nil, err
		}
		return newInstance(done), nil, nil
	}
}

func readDeregister(k *contest, o *object) {
	service, id := o.require("service"), o.require("instance")
	k.run = func(ctx context.Context, x *contestConn, _ *contest) (any, holdable, error) {
		if err := registry.CheckName(service); err != nil {
			return nil, nil, err
		}
		if err := registry.New(x).Deregister(ctx, service, id, true); err != nil {
			return nil, nil, noInstance(err, service, id)
		}
		return deregisteredForm{service, id, true}, nil, nil
	}
}

// What is said of contests.

// appendForm answers a request with what a recipe has done.
func appendForm(b []byte, id uint64, form any) []byte {
	b = append(appendRequestID(b, id), `,"ok":`...)
	return append(append(trimmed(b, form), '}'), '\n')
}

func appendProgress(b []byte, id uint64, ahead int) []byte {
	b = appendInt(append(appendRequestID(b, id), `,"progress":{`...), "position", int64(ahead))
	return append(b, "}}\n"...)
}

func appendLost(b []byte, k *contest, why, detail string) []byte {
	token := "token"
	if k.kind == "election" {
		token = "term"
	}
	b = append(append(append(b, `{"`...), k.kind...), `":{"name":`...)
	b = appendZxid(append(appendString(b, k.name), ','), token, k.token)
	b = appendString(append(b, `,"lost":`...), why)
	if detail != "" {
		b = appendString(append(b, `,"detail":`...), detail)
	}
	return append(b, "}}\n"...)
}
