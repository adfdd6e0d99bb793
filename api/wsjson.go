package api

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"io"
	"time"

	"github.com/gorilla/websocket"

	"github.com/coord-kv/coord/internal/frame"
	"github.com/coord-kv/coord/op"
	"github.com/coord-kv/coord/watch"
)

// jsonCodec is the form of one JSON object a message. It belongs to a connection: it makes a session's secret for a client
// that doesn't bring one, and shows it in the welcome.
type jsonCodec struct {
	secret string
}

func (*jsonCodec) messageType() int { return websocket.TextMessage }

func (*jsonCodec) message(b []byte) (message, rest []byte) {
	message, rest, _ = bytes.Cut(b, []byte{'\n'})
	return message, rest
}

func (c *jsonCodec) next(in *wsInput) (any, error) {
	if in.begun {
		return nil, io.EOF
	}
	in.begun = true
	return c.request(in.message)
}

// request reads one request. What is wrong with a field is told to whoever has sent the request; a message that has no id
// to answer to ends the connection.
func (c *jsonCodec) request(message []byte) (any, error) {
	if err := checkJSON(message); err != nil {
		return nil, err
	}
	o := &object{faults: new(faults)}
	if !o.open(message) {
		return nil, op.Errorf(op.BadRequest, "a message must be a JSON object")
	}
	if err := o.faults.err(); err != nil { // a field is given twice, perhaps the id
		return nil, err
	}
	id := uint64(o.number("id", 1, 1<<53-1, 0))
	if id == 0 {
		return nil, op.Errorf(op.BadRequest, "a message must have an id, a whole number from 1 to 2^53-1")
	}
	verb := o.require("op")
	var f any
	if k := readContest(id, verb, o); k != nil {
		f = k
	} else if f = c.frame(id, verb, o); f == nil {
		return nil, &wsRefused{id, "", op.Errorf(op.Unsupported, "there is no operation %.64q; see docs/websocket.md", verb)}
	}
	if err := o.finish(); err != nil {
		return nil, &wsRefused{id, verb, err}
	}
	return f, nil
}

// frame reads a request of that name, nil if there is no such request.
func (c *jsonCodec) frame(id uint64, verb string, o *object) any {
	switch verb {
	case "hello":
		return c.readHello(id, o)
	case "ping":
		return &frame.Ping{ID: id}
	case "bye":
		return &frame.Bye{ID: id}
	case "watch":
		return readWatch(id, o)
	case "await":
		return readAwait(id, o)
	case "unwatch":
		return &frame.Unwatch{ID: id, Watch: uint64(o.number("watch", 1, 1<<53-1, 0))}
	}
	x := readOp(verb, o)
	switch {
	case x == nil:
		return nil
	case isRead(x.Verb()):
		return &frame.Read{ID: id, Options: o.readOptions(), Op: x}
	}
	return &frame.Write{
		ID: id, Seq: uint64(o.number("seq", 1, 1<<53-1, 0)), Ack: uint64(o.number("ack", 0, 1<<53-1, 0)), Key: o.text("key"),
		Op: x,
	}
}

func readOp(verb string, o *object) op.Op {
	switch verb {
	case "list":
		verb = "children"
	case "txn":
		return o.txn()
	case "set_timeout":
		ttl := o.duration("ttl")
		if ttl == 0 {
			o.fault("ttl", "is required")
		}
		return &op.SetTimeout{Timeout: ttl}
	}
	if read := opReaders[verb]; read != nil {
		return read(o)
	}
	return nil
}

func (o *object) readOptions() (ro op.ReadOptions) {
	ro.MinZxid = o.zxid("min_zxid")
	if s := o.text("consistency"); s != "" {
		var why string
		if ro.Level, ro.Max, why = parseConsistency(s); why != "" {
			o.fault("consistency", "%s", why)
		}
	}
	return ro
}

func (c *jsonCodec) readHello(id uint64, o *object) frame.Frame {
	f := &frame.Hello{ID: id, Client: o.text("client"), Credentials: o.text("credentials")}
	nonce := uint64(o.number("nonce", 1, 1<<53-1, 0))
	raw := o.take("session")
	if raw == nil {
		return f
	}
	o.nested("session", raw, func(s *object) {
		if s.has("resume") {
			f.Resume = &frame.Resume{Session: s.session("resume"), Secret: s.secretBytes("secret"), Nonce: cmp.Or(nonce, newNonce())}
			return
		}
		f.Open = &frame.Open{
			Secret: s.secretBytes("secret"), TTL: s.duration("ttl"), Name: s.text("name"), Identity: s.text("identity"),
			ProofSecret: s.secretBytes("previous_secret"), Metadata: s.value("metadata"),
		}
		if f.Open.Secret == nil {
			f.Open.Secret = make([]byte, secretBytes)
			rand.Read(f.Open.Secret)
			c.secret = base64.RawURLEncoding.EncodeToString(f.Open.Secret)
		}
	})
	return f
}

// newNonce makes each hello of a JSON client that doesn't bring a nonce an attachment of its own.
func newNonce() uint64 {
	var b [8]byte
	rand.Read(b[:])
	return max(binary.LittleEndian.Uint64(b[:]), 1)
}

func (o *object) session(name string) (id op.SessionID) {
	if err := id.UnmarshalText([]byte(o.text(name))); err != nil || id == 0 {
		o.fault(name, "must be a session id, such as s-10000002a")
	}
	return id
}

// secretBytes reads a secret, nil if there is none.
func (o *object) secretBytes(name string) []byte {
	var hash op.Hash
	s := o.secret(name, &hash)
	if s == "" {
		return nil
	}
	secret, _ := base64.RawURLEncoding.DecodeString(s)
	return secret
}

func readWatch(id uint64, o *object) frame.Frame {
	f := &frame.Watch{ID: id, Path: o.path("path"), Scope: o.scope(), Types: o.types("types")}
	hasSince, initial := o.has("since"), o.flag("initial")
	f.Since, f.Options = o.zxid("since"), o.readOptions()
	f.Data = !o.has("data")
	f.Data = o.flag("data") || f.Data
	switch {
	case hasSince && initial:
		o.fault("initial", "begins with the state as it is, and since with a position; only one can be given")
	case hasSince:
		f.Start = frame.FromSince
	case initial:
		f.Start = frame.FromInitial
	}
	return f
}

func readAwait(id uint64, o *object) frame.Frame {
	f := &frame.Await{ID: id, Path: o.path("path"), Scope: o.scope(), Types: o.types("types")}
	if !o.has("since") {
		o.fault("since", "is required: the position, or the zxid of an answer, behind which something is to happen")
	}
	f.Since = o.zxid("since")
	raw := o.take("read")
	if raw == nil {
		o.fault("read", "is required: what to answer then, such as {\"op\":\"get\",\"path\":\"/a\"}")
		return f
	}
	o.nested("read", raw, func(in *object) {
		if f.Op = readOp(in.require("op"), in); f.Op == nil || !isRead(f.Op.Verb()) {
			in.fault("op", "must be a read, such as get, exists, list, subtree or rank")
			clear(in.fields)
		}
	})
	return f
}

// scope reads which nodes are watched, as the parameters of GET /v1/watch say it.
func (o *object) scope() watch.Scope {
	given := o.has("recursive")
	recursive := o.flag("recursive") || !given
	if o.flag("children") {
		if given {
			o.fault("recursive", "can't be given together with children")
		}
		return watch.Children
	}
	if recursive {
		return watch.Subtree
	}
	return watch.Exact
}

// types reads an array of names of event types; all of them if it is absent.
func (o *object) types(name string) (set watch.Types) {
	raw := o.take(name)
	if raw == nil {
		return 0
	}
	var names []string
	if len(raw) > 1<<10 || json.Unmarshal(raw, &names) != nil || len(names) == 0 {
		o.fault(name, "must be an array of created, changed, deleted and acl_changed, or of some of them")
		return 0
	}
	for _, n := range names {
		t, ok := eventTypes[n]
		if !ok {
			o.fault(name, "%.64q is none of created, changed, deleted and acl_changed", n)
		}
		set |= watch.TypesOf(t)
	}
	return set
}

var eventTypes = func() map[string]op.EventType {
	m := make(map[string]op.EventType)
	for t := op.Created; t <= op.ACLChanged; t++ {
		m[t.String()] = t
	}
	return m
}()

// What the server says.

func appendRequestID(b []byte, id uint64) []byte { return appendInt(append(b, '{'), "id", int64(id)) }

func (*jsonCodec) appendFailed(b []byte, id uint64, err error) []byte {
	b = append(b, '{')
	if id != 0 {
		b = append(appendInt(b, "id", int64(id)), ',')
	}
	return append(appendProblem(b, "error", err), '}', '\n')
}

// trimmed appends a form as JSON.
func trimmed(b []byte, form any) []byte { return append(b, bytes.TrimRight(marshal(form), "\n")...) }

// appendProblem appends the member called name with the problem document of err.
func appendProblem(b []byte, name string, err error) []byte {
	b = append(append(append(b, '"'), name...), `":`...)
	return append(b, bytes.TrimRight(marshal(newProblem(err, false)), "\n")...)
}

func (c *jsonCodec) appendReply(b []byte, o op.Op, r *frame.Reply) []byte {
	if r.Result.Err != nil {
		return c.appendFailed(b, r.ID, located(r.Result, o, 0))
	}
	b = appendRequestID(b, r.ID)
	if r.Info.Zxid != 0 {
		b = appendZxid(append(b, ','), "zxid", r.Info.Zxid)
	}
	if o != nil && isRead(o.Verb()) {
		b = appendString(append(b, `,"consistency":`...), r.Info.Level.String())
		if r.Info.Staleness >= 0 {
			b = append(append(b, `,"staleness":`...), seconds(r.Info.Staleness)...)
		}
	}
	b = appendOK(append(b, `,"ok":{`...), o, r.Result)
	return append(b, '}', '}', '\n')
}

// appendOK appends what there is to say of what was done.
func appendOK(b []byte, o op.Op, r *op.Result) []byte {
	switch x := o.(type) {
	case nil:
		return b
	case *op.Txn:
		ops, branch := x.Then, "ops"
		if r.Else {
			ops, branch = x.Else, "else"
		}
		b = appendString(append(b, `"branch":`...), branch)
		return appendResults(append(b, `,"results":`...), ops, r.Results)
	case *op.SetTimeout:
		b = appendString(append(b, `"ttl":`...), millis(r.Session.Timeout).String())
		return b
	}
	b = appendString(append(b, `"op":`...), o.Verb().String())
	return appendMembers(b, o, r)
}

func (d duration) String() string { return time.Duration(d).String() }

func (c *jsonCodec) append(b []byte, f frame.Frame) []byte {
	switch f := f.(type) {
	case *frame.Welcome:
		b = c.appendWelcome(b, f)
	case *frame.Watching:
		b = appendRequestID(b, f.Watch)
		b = appendInt(append(b, `,"ok":{`...), "watch", int64(f.Watch))
		b = append(appendZxid(append(b, ','), "pos", f.Pos), '}', '}')
	case *frame.Initial:
		b = appendZxid(append(appendWatch(b, f.Watch), ','), "pos", f.Pos)
		b = appendNodes(append(b, `,"initial":`...), f.Nodes)
		b = append(appendBool(append(b, ','), "more", f.More), '}')
	case *frame.Events:
		b = appendChanges(b, f)
	case *frame.Bookmark:
		b = append(appendZxid(append(appendWatch(b, f.Watch), ','), "bookmark", f.Pos), '}')
	case *frame.Ended:
		b = appendProblem(append(appendWatch(b, f.Watch), ','), "ended", f.Err)
		b = append(appendZxid(append(b, ','), "pos", f.Pos), '}')
	case *frame.Pong:
		b = append(appendRequestID(b, f.ID), `,"ok":{`...)
		if f.TTL != 0 {
			b = appendString(append(b, `"ttl":`...), f.TTL.String())
		}
		b = append(b, '}', '}')
	case *frame.SessionEnded:
		b = appendString(append(b, `{"session":{"id":`...), f.Session.String())
		b = appendString(append(b, `,"state":`...), sessionState(f.Err.Code))
		b = append(b, '}', '}')
	case *frame.Goaway:
		b = append(b, `{"goaway":`...)
		b = append(bytes.TrimRight(append(b, marshal(goawayForm{f.Reason, f.Endpoints})...), "\n"), '}')
	}
	return append(b, '\n')
}

// sessionState says what a session that this connection has no more has become.
func sessionState(why op.Code) string {
	if why == op.SessionExpired {
		return "expired"
	}
	return why.String()
}

func appendWatch(b []byte, id uint64) []byte { return appendInt(append(b, '{'), "watch", int64(id)) }

func appendChanges(b []byte, f *frame.Events) []byte {
	b = appendZxid(append(appendWatch(b, f.Watch), ','), "pos", f.Pos)
	b = append(b, `,"events":[`...)
	for i := range f.Events {
		if i > 0 {
			b = append(b, ',')
		}
		e := &f.Events[i]
		b = appendEvent(b, &e.Event, e.Data, e.HasData)
	}
	return append(b, ']', '}')
}

type goawayForm struct {
	Reason    string   `json:"reason"`
	Endpoints []string `json:"endpoints,omitempty"`
}

type welcomeForm struct {
	Session   op.SessionID `json:"session,omitempty"`
	Secret    string       `json:"secret,omitempty"`
	Epoch     uint64       `json:"epoch,omitempty"`
	NextSeq   uint64       `json:"next_seq,omitempty"`
	TTL       *duration    `json:"ttl,omitempty"`
	Member    string       `json:"member"`
	Cluster   string       `json:"cluster"`
	Oldest    op.Zxid      `json:"oldest"`
	KeyWindow duration     `json:"key_window"`
	Limits    limitsForm   `json:"limits"`
	Endpoints []string     `json:"endpoints,omitempty"`
}

type limitsForm struct {
	MessageBytes uint64 `json:"message_bytes"`
	Requests     uint64 `json:"requests"`
	Watches      uint64 `json:"watches"`
	Contests     uint64 `json:"contests"`
}

func (c *jsonCodec) appendWelcome(b []byte, f *frame.Welcome) []byte {
	w := welcomeForm{
		Session: f.Session, Secret: c.secret, Epoch: f.Epoch, NextSeq: f.NextSeq, Member: f.Member, Cluster: hexID("c", f.Cluster),
		Oldest: f.Oldest, KeyWindow: duration(f.KeyWindow), Limits: limitsForm{f.Message, f.Requests, f.Watches, wsContests},
		Endpoints: f.Endpoints,
	}
	if f.Session != 0 {
		w.TTL = (*duration)(&f.TTL)
	}
	b = appendZxid(append(appendRequestID(b, f.ID), ','), "zxid", f.Zxid)
	return append(bytes.TrimRight(append(append(b, `,"ok":`...), marshal(w)...), "\n"), '}')
}
