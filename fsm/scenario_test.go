package fsm

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/coord-kv/coord/op"
)

// TestScenarios runs testdata/*.txt. Each line under "do" is one request in a batch of its own, under "batch" all lines are one
// batch; the arguments wall and age are the batch's. Below stands what came of it: each answer in full, then the events.
//
//	[session=ID] [seq=N epoch=N ack=N] [key=PRINCIPAL/KEY] [hash=N] [as=SCHEME:ID,...] VERB ARGUMENTS
//
// A read that is to see the state, not to go through the log, begins with "view". After every request the state is checked from
// scratch, taken through a checkpoint, and continued from there.
func TestScenarios(t *testing.T) {
	datadriven.Walk(t, "testdata/scenarios", func(t *testing.T, file string) {
		s := &scenario{t: t, m: New(), wall: 1000, zxids: map[string]uint64{}}
		datadriven.RunTest(t, file, s.run)
	})
}

type scenario struct {
	t     *testing.T
	m     *Machine
	wall  op.Time
	age   uint64            // of the next batch
	zxids map[string]uint64 // what @name stands for
}

// remember lets later lines say @NAME for the id of a session of that name, @PATH for the token of a node, @term for the last one.
func (s *scenario) remember(o op.Op, res *op.Result) {
	switch x := o.(type) {
	case *op.OpenSession:
		if res.Err == nil {
			s.zxids[x.Name] = uint64(res.Zxid)
		}
	case *op.Lead:
		if res.Err == nil {
			s.zxids["term"] = uint64(res.Zxid)
		}
	case *op.Txn:
		for i := range res.Results {
			s.remember(x.Then[i], &res.Results[i])
		}
	case *op.Create:
		if res.Err == nil {
			s.zxids[res.Path] = uint64(res.Zxid)
		}
	}
}

func (s *scenario) run(t *testing.T, d *datadriven.TestData) string {
	s.t = t
	var age, wall uint64
	d.MaybeScanArgs(t, "age", &age)
	d.MaybeScanArgs(t, "wall", &wall)
	if wall != 0 {
		s.wall = op.Time(wall)
	}
	var out strings.Builder
	switch d.Cmd {
	case "do":
		s.age = age
		for line := range strings.Lines(d.Input) {
			s.do(&out, strings.TrimSpace(line))
		}
	case "batch":
		s.age = age
		s.apply(&out, strings.Split(strings.TrimSpace(d.Input), "\n"))
	case "tree":
		s.tree(&out)
	case "sessions":
		s.sessions(&out)
	case "order":
		for seat := range s.m.View().Order(d.CmdArgs[0].Key) {
			fmt.Fprintf(&out, "%s czxid=%d seq=%d %s\n", seat.Name, seat.Czxid, seat.Seq, seat.Class)
		}
	case "due":
		var extra uint64
		d.MaybeScanArgs(t, "extra", &extra)
		fmt.Fprintf(&out, "%q\n", s.m.Due(extra, 100))
	case "counts":
		fmt.Fprintf(&out, "%+v\n", s.m.View().Counts())
	default:
		d.Fatalf(t, "unknown command %q", d.Cmd)
	}
	return out.String()
}

func (s *scenario) do(out *strings.Builder, line string) {
	if rest, ok := strings.CutPrefix(line, "view "); ok {
		r := s.parse(rest)
		fmt.Fprintf(out, "%s\n", describe(s.m.View().Read(r.Op, r.Auth)))
		return
	}
	if rest, ok := strings.CutPrefix(line, "answer "); ok {
		res, ok := s.m.View().Answer(s.parse(rest))
		if !ok {
			out.WriteString("not known\n")
			return
		}
		fmt.Fprintf(out, "%s\n", describe(*res))
		return
	}
	s.apply(out, []string{line})
}

func (s *scenario) apply(out *strings.Builder, lines []string) {
	b := &op.Batch{Wall: s.wall, Age: s.age}
	s.age = 0
	for _, line := range lines {
		b.Requests = append(b.Requests, s.parse(line))
	}
	// Through the log's encoding and back, as in life; and its buffer is used for something else afterwards.
	buf := b.Append(nil)
	decoded, err := op.DecodeBatch(buf)
	if err != nil {
		s.t.Fatal(err)
	}
	done := s.m.Apply(decoded)
	clear(buf)
	for i, res := range done.Results {
		s.remember(b.Requests[i].Op, &res)
		fmt.Fprintf(out, "%s\n", describe(res))
	}
	for _, e := range done.Events {
		fmt.Fprintf(out, "  event %d %s %s %s version=%d acl=%d\n", e.Zxid, e.Type, e.Kind, e.Path, e.Version, e.ACL.ID)
	}
	for _, c := range done.Sessions {
		fmt.Fprintf(out, "  session %s epoch=%d timeout=%s lease=%t ended=%t\n", c.ID, c.Epoch, c.Timeout, c.Lease, c.Ended)
	}
	audit(s.t, s.m)
	s.m = revive(s.t, s.m)
}

func (s *scenario) tree(out *strings.Builder) {
	res := s.m.View().Read(&op.Subtree{Path: "/"}, []op.Identity{{Scheme: "super"}})
	for _, n := range res.Nodes {
		if !strings.HasPrefix(n.Path, "/zookeeper") {
			fmt.Fprintf(out, "%s %s %s\n", n.Path, quoted(n.Data), describeStat(&n.Stat))
		}
	}
}

func (s *scenario) sessions(out *strings.Builder) {
	for x := range s.m.View().Sessions(0) {
		fmt.Fprintf(out, "%s epoch=%d next=%d timeout=%s name=%q identity=%q principal=%q lease=%t metadata=%q opened=%d results=%d",
			x.ID, x.Epoch, x.NextSeq, x.Timeout, x.Name, x.Identity, x.Principal, x.Lease, x.Metadata, x.Opened, x.Results)
		for path := range x.Ephemerals() {
			fmt.Fprintf(out, " %s", path)
		}
		out.WriteString("\n")
	}
}

// revive takes a machine through a checkpoint.
func revive(t *testing.T, m *Machine) *Machine {
	t.Helper()
	back, err := restore(checkpoint(t, m))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := dump(&back.state), dump(&m.state); got != want {
		t.Fatalf("restored:\n%s\nwritten:\n%s", got, want)
	}
	return back
}

func checkpoint(tb testing.TB, m *Machine) []byte {
	tb.Helper()
	var buf bytes.Buffer
	if n, err := m.View().WriteTo(&buf); err != nil || n != int64(buf.Len()) {
		tb.Fatalf("%d bytes of %d: %v", n, buf.Len(), err)
	}
	return buf.Bytes()
}

func restore(data []byte) (*Machine, error) { return Restore(bytes.NewReader(data)) }

func describe(r op.Result) string {
	var b strings.Builder
	if e := r.Err; e != nil {
		fmt.Fprintf(&b, "%s %s zxid=%d", e.Outcome, e.Code, e.Zxid)
		for _, f := range []struct {
			name  string
			value int64
		}{{"index", int64(e.Index)}, {"limit", e.Limit}, {"have", e.Have}} {
			if f.value != 0 {
				fmt.Fprintf(&b, " %s=%d", f.name, f.value)
			}
		}
		if e.Path != "" {
			fmt.Fprintf(&b, " %s", strings.ReplaceAll(e.Path, "\x00", `\0`))
		}
		if e.Stat != nil {
			fmt.Fprintf(&b, " is %s", describeStat(e.Stat))
		}
		if r.Else {
			b.WriteString(" else")
		}
		return b.String()
	}
	fmt.Fprintf(&b, "ok zxid=%d", r.Zxid)
	if r.Path != "" {
		fmt.Fprintf(&b, " %s", r.Path)
	}
	if r.Data != nil {
		fmt.Fprintf(&b, " data=%s", quoted(r.Data))
	}
	if r.Stat != nil {
		fmt.Fprintf(&b, " %s", describeStat(r.Stat))
	}
	if r.ACL != nil {
		fmt.Fprintf(&b, " acl=%v", r.ACL)
	}
	if r.Count != 0 {
		fmt.Fprintf(&b, " count=%d", r.Count)
	}
	if r.Rank != nil {
		fmt.Fprintf(&b, " rank%+v", *r.Rank)
	}
	if r.Session != nil {
		fmt.Fprintf(&b, " session%+v", *r.Session)
	}
	for _, n := range r.Nodes {
		fmt.Fprintf(&b, "\n  %s", n.Path)
		if n.Data != nil {
			fmt.Fprintf(&b, " %s", quoted(n.Data))
		}
		if n.Stat != (op.Stat{}) {
			fmt.Fprintf(&b, " %s", describeStat(&n.Stat))
		}
	}
	if r.More {
		b.WriteString("\n  ...")
	}
	if r.Else {
		b.WriteString(" else")
	}
	for i := range r.Results {
		fmt.Fprintf(&b, "\n  %d: %s", i, describe(r.Results[i]))
	}
	return b.String()
}

func quoted(data []byte) string {
	if data == nil {
		return "null"
	}
	return strconv.Quote(string(data))
}

func describeStat(s *op.Stat) string {
	var b strings.Builder
	fmt.Fprintf(&b, "c%d m%d p%d at %d/%d v%d/%d/%d len=%d kids=%d", s.Czxid, s.Mzxid, s.Pzxid, s.Ctime, s.Mtime, s.Version,
		s.Cversion, s.Aversion, s.DataLength, s.NumChildren)
	if s.Kind != op.Persistent {
		fmt.Fprintf(&b, " %s", s.Kind)
	}
	if s.EphemeralOwner != 0 {
		fmt.Fprintf(&b, " of %s", s.EphemeralOwner)
	}
	if s.TTL != 0 {
		fmt.Fprintf(&b, " ttl=%s", s.TTL)
	}
	return b.String()
}

// words is a request as it is written in a scenario.
type words struct {
	t     *testing.T
	zxids map[string]uint64
	named map[string]string
	plain []string
}

func (s *scenario) parse(line string) *op.Request {
	line, txn, isTxn := strings.Cut(line+" ", "txn ")
	w := s.words(line)
	r := &op.Request{
		Session: w.session("session"), Seq: w.uint("seq"), Epoch: w.uint("epoch"), Ack: w.uint("ack"), Auth: w.auth("as"),
	}
	if principal, key, ok := strings.Cut(w.named["key"], "/"); ok {
		r.Key = &op.Key{Principal: principal, Key: key, Hash: [16]byte{byte(w.uint("hash"))}}
	}
	if isTxn {
		r.Op = s.txn(txn)
	} else {
		r.Op = w.op()
	}
	return r
}

// txn reads "if OP; OP then OP; OP else OP; OP".
func (s *scenario) txn(text string) *op.Txn {
	x := &op.Txn{}
	list := &x.Then
	var rest []string
	flush := func() {
		for part := range strings.SplitSeq(strings.Join(rest, " "), ";") {
			if part = strings.TrimSpace(part); part != "" {
				*list = append(*list, s.words(part).op())
			}
		}
		rest = nil
	}
	for word := range strings.FieldsSeq(text) {
		switch word {
		case "if", "then", "else":
			flush()
			list = map[string]*[]op.Op{"if": &x.If, "then": &x.Then, "else": &x.Else}[word]
		default:
			rest = append(rest, word)
		}
	}
	flush()
	return x
}

func (s *scenario) words(line string) *words {
	w := &words{t: s.t, zxids: s.zxids, named: map[string]string{}}
	for word := range strings.FieldsSeq(line) {
		if name, value, ok := strings.Cut(word, "="); ok && !strings.HasPrefix(word, "/") {
			w.named[name] = value
		} else {
			w.plain = append(w.plain, word)
		}
	}
	return w
}

func (w *words) arg(i int) string {
	if i >= len(w.plain) {
		return ""
	}
	if w.plain[i] == `""` {
		return ""
	}
	return strings.ReplaceAll(w.plain[i], `\0`, "\x00")
}

func (w *words) has(flag string) bool {
	for _, p := range w.plain[1:] {
		if p == flag {
			return true
		}
	}
	return false
}

func (w *words) int(name string) int64 {
	if w.named[name] == "" {
		return 0
	}
	if at, ok := strings.CutPrefix(w.named[name], "@"); ok {
		return int64(w.known(at))
	}
	v, err := strconv.ParseInt(w.named[name], 10, 64)
	if err != nil {
		w.t.Fatal(err)
	}
	return v
}

func (w *words) uint(name string) uint64 { return uint64(w.int(name)) }

func (w *words) known(name string) uint64 {
	z, ok := w.zxids[name]
	if !ok {
		w.t.Fatalf("nothing is called @%s", name)
	}
	return z
}

func (w *words) session(name string) (id op.SessionID) { return w.sessionID(w.named[name]) }

func (w *words) sessionID(text string) (id op.SessionID) {
	if at, ok := strings.CutPrefix(text, "@"); ok {
		return op.SessionID(w.known(at))
	}
	if err := id.UnmarshalText([]byte(text)); err != nil {
		w.t.Fatal(err)
	}
	return id
}

func (w *words) duration(name string) time.Duration {
	if w.named[name] == "" {
		return 0
	}
	v, err := time.ParseDuration(w.named[name])
	if err != nil {
		w.t.Fatal(err)
	}
	return v
}

func (w *words) auth(name string) (list []op.Identity) {
	if w.named[name] == "" {
		return nil
	}
	for one := range strings.SplitSeq(w.named[name], ",") {
		scheme, id, _ := strings.Cut(one, ":")
		list = append(list, op.Identity{Scheme: scheme, ID: id})
	}
	return list
}

// acl reads "rw+digest:ann:h,r+world:anyone"; "none" is the empty list.
func (w *words) acl() []op.ACL {
	text, ok := w.named["acl"]
	if !ok {
		return nil
	}
	list := []op.ACL{}
	for one := range strings.SplitSeq(text, ",") {
		perms, who, ok := strings.Cut(one, "+")
		if !ok {
			continue
		}
		a := op.ACL{}
		for _, p := range perms {
			a.Perms |= map[rune]op.Perm{'r': op.Read, 'w': op.Write, 'c': op.Make, 'd': op.Remove, 'a': op.Admin}[p]
		}
		a.Scheme, a.ID, _ = strings.Cut(who, ":")
		list = append(list, a)
	}
	return list
}

func (w *words) cond() op.Cond {
	c := op.Cond{Version: op.AnyVersion, Mzxid: op.Zxid(w.int("mzxid")), Absent: w.has("absent")}
	if w.named["version"] != "" {
		c.Version = int32(w.int("version"))
	}
	return c
}

// data is the second word; null if there is none. big=N is N bytes.
func (w *words) data(i int) []byte {
	switch {
	case w.named["big"] != "":
		return bytes.Repeat([]byte("x"), int(w.int("big")))
	case i >= len(w.plain):
		return nil
	}
	return []byte(w.arg(i))
}

func hashOf(s string) (h op.Hash) {
	copy(h[:], s)
	return h
}

func (w *words) kind() op.NodeKind {
	if w.named["kind"] == "" {
		return op.Persistent
	}
	var k op.NodeKind
	if err := k.UnmarshalText([]byte(w.named["kind"])); err != nil {
		w.t.Fatal(err)
	}
	return k
}

func (w *words) op() op.Op {
	path := w.arg(1)
	switch w.arg(0) {
	case "create":
		return &op.Create{
			Path: path, Data: w.data(2), Kind: w.kind(), TTL: w.duration("ttl"), ACL: w.acl(),
			Sequence: w.named["sequence"] != "", Parents: w.named["parents"] != "", Replace: w.named["replace"] != "",
		}
	case "set":
		return &op.Set{Path: path, Data: w.data(2), If: w.cond()}
	case "delete":
		return &op.Delete{Path: path, If: w.cond(), Recursive: w.has("recursive")}
	case "check":
		return &op.Check{Path: path, If: w.cond()}
	case "set_acl":
		v := op.AnyVersion
		if w.named["version"] != "" {
			v = int32(w.int("version"))
		}
		return &op.SetACL{Path: path, ACL: w.acl(), Version: v}
	case "set_quota":
		return &op.SetQuota{Path: path, Quota: op.Quota{
			SoftCount: w.int("soft_count"), HardCount: w.int("count"), SoftBytes: w.int("soft_bytes"), HardBytes: w.int("bytes"),
		}}
	case "get":
		return &op.Get{Path: path}
	case "exists":
		return &op.Exists{Path: path}
	case "get_acl":
		return &op.GetACL{Path: path}
	case "children":
		return &op.Children{
			Path: path, After: w.named["after"], Limit: int32(w.int("limit")), WithData: w.has("data"), WithStat: w.has("stat"),
		}
	case "subtree":
		return &op.Subtree{Path: path, After: w.named["after"], Limit: int32(w.int("limit")), Depth: int32(w.int("depth"))}
	case "rank":
		return &op.Rank{Path: path, Of: int32(w.int("of"))}
	case "holder":
		return &op.Holder{Dir: path, Token: op.Zxid(w.int("token")), Rule: op.Rule{Shared: w.has("shared"), Slots: int32(w.int("slots"))}}
	case "term":
		return &op.Term{Dir: path, Token: op.Zxid(w.int("token"))}
	case "lead":
		return &op.Lead{Dir: path, Node: w.arg(2), Data: w.data(3)}
	case "open_session":
		return &op.OpenSession{
			Secret: hashOf(w.named["secret"]), Timeout: w.duration("timeout"), Name: w.named["name"], Identity: w.named["identity"],
			Proof: hashOf(w.named["proof"]), Lease: w.has("lease"), Metadata: []byte(w.named["metadata"]),
		}
	case "attach":
		return &op.Attach{Session: w.session("of"), Secret: hashOf(w.named["secret"]), Nonce: w.uint("nonce")}
	case "set_timeout":
		return &op.SetTimeout{Session: w.session("of"), Timeout: w.duration("timeout")}
	case "close_session":
		return &op.CloseSession{Session: w.session("of"), Killed: w.has("killed")}
	case "expire":
		x := &op.Expire{}
		for _, p := range w.plain[1:] { // ID/EPOCH/TIMEOUT
			f := strings.Split(p, "/")
			e := op.Expiry{Session: w.sessionID(f[0])}
			e.Epoch, _ = strconv.ParseUint(f[1], 10, 64)
			e.Timeout, _ = time.ParseDuration(f[2])
			x.Sessions = append(x.Sessions, e)
		}
		return x
	case "reap":
		return &op.Reap{Paths: w.plain[1:]}
	case "set_level":
		return &op.SetLevel{Level: uint32(w.int("level"))}
	case "set_limits":
		return &op.SetLimits{Limits: w.limits()}
	}
	w.t.Fatalf("unknown verb %q", w.arg(0))
	return nil
}

// limits are the default ones, with those named replaced.
func (w *words) limits() op.Limits {
	l := op.DefaultLimits()
	for name, field := range map[string]*int64{
		"data_bytes": &l.DataBytes, "txn_ops": &l.TxnOps, "changed_nodes": &l.ChangedNodes, "event_bytes": &l.EventBytes,
		"read_bytes": &l.ReadBytes, "ephemerals": &l.Ephemerals, "max_sessions": &l.Sessions, "seq_window": &l.SeqWindow,
		"session_results": &l.SessionResults, "all_results": &l.AllResults, "principal_keys": &l.PrincipalKeys,
		"acl_entries": &l.ACLEntries, "request_bytes": &l.RequestBytes,
	} {
		if w.named[name] != "" {
			*field = w.int(name)
		}
	}
	for name, field := range map[string]*time.Duration{
		"key_window": &l.KeyWindow, "session_min": &l.SessionMin, "session_max": &l.SessionMax, "container_unused": &l.ContainerUnused,
	} {
		if w.named[name] != "" {
			*field = w.duration(name)
		}
	}
	return l
}
