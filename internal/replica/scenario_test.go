package replica

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/coord-kv/coord/fsm"
	"github.com/coord-kv/coord/op"
	"github.com/coord-kv/coord/watch"
)

// TestScenarios runs testdata/scenarios/*.txt. A block is some commands, one on each line, and below stands what came of
// them, in the order in which it came: answers when they are given, and warnings. Time passes only by "ticks" and where a
// command says that it waits; raft draws election timeouts at random, so what depends on one is waited for, never timed.
//
//	cluster N [max-level=L]          N members; the first leads, all serve
//	ticks N                           let N ticks pass for everybody
//	stall DURATION                    time without ticks: everybody's loop stood still
//	elect nX                          wait until nX leads
//	leaves nX                         wait until nX doesn't lead and another one does
//	handover nX
//	kill nX..., restart nX [max-level=L] [lose=ENTRIES] [accept]    a kill loses nothing that was synced
//	cut nX [nY]                       nothing passes between nX and nY, or all others, either way
//	drop [from=nX] [to=nY] [kind=K]   frames of that kind are lost
//	hold [from=nX] [to=nY] [kind=K]   the next such frame is kept
//	release                           what was kept is delivered
//	heal                              ends cut, drop and hold
//	broken nX nY                      nX hears that its bulk stream to nY broke
//	open nX as=S [timeout=D] [identity=I] [proof=S]
//	attach nX S nonce=N               and SESSION in what follows: session=S [epoch=E]
//	timeout nX S D, close nX S, keepalive nX S, left nX S
//	create|set|delete nX PATH [DATA] [ephemeral] [sequence] [session=S] [seq=N] [ack=N] [key=K]
//	abandon                           the clients of all requests that wait stop waiting
//	read nX PATH [LEVEL] [min=ZXID]
//	fill nX [keep]                    writes until a checkpoint is cut; the log before it goes, or is kept
//	spoil nX PATH                     puts a node into one member's state alone
//	space nX BYTES [mark=BYTES]
//	tree nX, sessions nX, status nX, events nX [since=ZXID], level nX
//	agree                             all that live have the same state
func TestScenarios(t *testing.T) {
	datadriven.Walk(t, "testdata/scenarios", func(t *testing.T, file string) {
		s := &scenario{sessions: map[string]*op.SessionInfo{}, names: map[op.SessionID]string{}}
		datadriven.RunTest(t, file, func(t *testing.T, d *datadriven.TestData) string {
			s.out.Reset()
			s.t = t
			if s.c != nil {
				s.c.t = t
			}
			s.run(d.Cmd, d.CmdArgs)
			for line := range strings.Lines(d.Input) {
				cmd, args, err := datadriven.ParseLine(line)
				if err != nil {
					t.Fatal(err)
				}
				s.run(cmd, args)
			}
			return s.out.String()
		})
	})
}

type scenario struct {
	t        *testing.T
	c        *cluster
	out      strings.Builder
	sessions map[string]*op.SessionInfo
	names    map[op.SessionID]string
	rules    []rule
	held     []envelope
	calls    []*Call
	fills    int
}

// rule says which frames don't pass.
type rule struct {
	from, to uint64 // 0 for any
	kind     string // "" for any
	hold     bool   // keeps one frame, and is over
	over     bool
}

// words are the arguments of a command.
type words struct {
	t     *testing.T
	plain []string
	named map[string]string
}

func (s *scenario) run(cmd string, args []datadriven.CmdArg) {
	w := &words{t: s.t, named: map[string]string{}}
	for _, a := range args {
		if len(a.Vals) == 0 {
			w.plain = append(w.plain, a.Key)
		} else {
			w.named[a.Key] = a.Vals[0]
		}
	}
	if cmd == "cluster" {
		s.found(w)
		return
	}
	f := map[string]func(*words){
		"ticks":   func(w *words) { s.c.ticks(w.number(0)) },
		"stall":   func(w *words) { s.c.now.Mono += uint64(w.duration(w.word(0)).Milliseconds()) },
		"elect":   s.elect,
		"leaves":  func(w *words) { s.c.another(w.member(0)) },
		"kill":    s.kill,
		"restart": s.restart,
		"handover": func(w *words) {
			s.c.cores[w.member(0)].HandOver()
			s.c.run()
		},
		"cut": s.cut, "drop": s.drop, "hold": s.hold, "release": s.release, "heal": s.heal,
		"broken": func(w *words) { s.c.cores[w.member(0)].StreamBroken(w.member(1)) },
		"open":   s.open, "attach": s.attach, "timeout": s.timeout, "close": s.close,
		"keepalive": s.keepAlive, "left": s.left,
		"create": s.create, "set": s.set, "delete": s.delete, "abandon": s.abandon,
		"read": s.read, "fill": s.fill, "spoil": s.spoil, "space": s.space,
		"tree": s.tree, "sessions": s.alive, "status": s.status, "events": s.events, "level": s.level,
		"agree": s.agree,
	}[cmd]
	if f == nil {
		s.t.Fatalf("unknown command %q", cmd)
	}
	f(w)
}

func (s *scenario) say(format string, args ...any) { fmt.Fprintf(&s.out, format+"\n", args...) }

func (w *words) word(i int) string {
	if i >= len(w.plain) {
		w.t.Fatalf("argument %d is missing in %v", i+1, w.plain)
	}
	return w.plain[i]
}

func (w *words) number(i int) int {
	n, err := strconv.Atoi(w.word(i))
	if err != nil {
		w.t.Fatal(err)
	}
	return n
}

func (w *words) uint(name string) uint64 {
	if w.named[name] == "" {
		return 0
	}
	n, err := strconv.ParseUint(w.named[name], 10, 64)
	if err != nil {
		w.t.Fatal(err)
	}
	return n
}

func (w *words) duration(text string) time.Duration {
	d, err := time.ParseDuration(text)
	if err != nil {
		w.t.Fatal(err)
	}
	return d
}

func (w *words) has(flag string) bool { return slices.Contains(w.plain, flag) }

func (w *words) member(i int) uint64 { return memberID(w.t, w.word(i)) }

func memberID(t *testing.T, text string) uint64 {
	id, err := strconv.ParseUint(strings.TrimPrefix(text, "n"), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func (s *scenario) found(w *words) {
	s.c = &cluster{t: s.t, drop: s.lost, fact: s.warn}
	s.rules, s.held, s.calls = nil, nil, nil
	s.c.found(w.number(0), Config{MaxLevel: uint32(w.uint("max-level"))})
}

// warn shows what operators should see. Raft's own warnings come when its random timeouts end.
func (s *scenario) warn(id uint64, l Level, what string) {
	if l >= Warn && !strings.HasPrefix(what, "raft: ") {
		s.say("n%d warns: %s", id, what)
	}
}

// elect waits until a member leads.
func (s *scenario) elect(w *words) {
	id := w.member(0)
	for range 1000 {
		switch lead := s.c.cores[id].Leader(); {
		case s.c.cores[id].leading:
			return
		case lead == 0:
			s.c.cores[id].Campaign()
		case lead != id && !s.c.dead[lead]:
			s.c.cores[lead].raft.TransferLeader(id)
		}
		s.c.ticks(1)
	}
	s.t.Fatalf("n%d doesn't become leader", id)
}

func (s *scenario) kill(w *words) {
	for i := range w.plain {
		s.c.kill(w.member(i))
	}
	s.c.run()
}

func (s *scenario) restart(w *words) {
	id := w.member(0)
	if l := w.uint("max-level"); l != 0 {
		s.c.disks[id].cfg.MaxLevel = uint32(l)
	}
	d := s.c.disks[id]
	if n := w.uint("lose"); n != 0 {
		d.entries, d.cfg.Torn = d.entries[:uint64(len(d.entries))-n], true
		d.hard.Commit = new(min(d.hard.GetCommit(), d.base.index+uint64(len(d.entries))))
	}
	d.cfg.Torn = d.cfg.Torn && !w.has("accept")
	s.c.start(id)
	delete(s.c.dead, id)
	s.c.run()
}

func (s *scenario) cut(w *words) {
	a := w.member(0)
	if len(w.plain) > 1 {
		b := w.member(1)
		s.rules = append(s.rules, rule{from: a, to: b}, rule{from: b, to: a})
		return
	}
	s.rules = append(s.rules, rule{from: a}, rule{to: a})
}

func (s *scenario) rule(w *words) rule {
	r := rule{kind: w.named["kind"]}
	if from := w.named["from"]; from != "" {
		r.from = memberID(s.t, from)
	}
	if to := w.named["to"]; to != "" {
		r.to = memberID(s.t, to)
	}
	return r
}

func (s *scenario) drop(w *words) { s.rules = append(s.rules, s.rule(w)) }

func (s *scenario) hold(w *words) {
	r := s.rule(w)
	r.hold = true
	s.rules = append(s.rules, r)
}

func (s *scenario) release(*words) {
	held := s.held
	s.held = nil
	for _, e := range held {
		s.c.arrive(e)
	}
	s.c.run()
}

func (s *scenario) heal(*words) { s.rules = nil }

// lost reports whether a frame doesn't pass.
func (s *scenario) lost(e envelope) bool {
	for i := range s.rules {
		r := &s.rules[i]
		if r.over || r.from != 0 && r.from != e.from || r.to != 0 && r.to != e.m.To || r.kind != "" && r.kind != kindOf(s.t, e.m) {
			continue
		}
		if r.hold {
			r.over = true
			s.held = append(s.held, e)
		}
		return true
	}
	return false
}

var frameNames = map[uint8]string{
	FrameForward: "forward", FrameProbe: "probe", FrameTaken: "taken", FrameReport: "report", FrameConfirm: "confirm",
	FrameAsk: "ask", FrameTold: "told", FrameBeacon: "beacon", FrameSnapshot: "snapshot",
	FrameRecall: "recall", FrameDigest: "digest", FrameFetch: "fetch",
}

// kindOf names a frame: that of raft by the type of its message, such as "App" or "Heartbeat".
func kindOf(t *testing.T, m Message) string {
	if m.Kind != FrameRaft {
		return frameNames[m.Kind]
	}
	var msg raftpb.Message
	if err := proto.Unmarshal(m.Payload, &msg); err != nil {
		t.Fatal(err)
	}
	return strings.TrimPrefix(msg.GetType().String(), "Msg")
}

// submit sends a request and shows its answer when it comes.
func (s *scenario) submit(id uint64, what string, r *op.Request, then func(*op.Result)) {
	done := false
	k := &Call{Request: r, Body: r.AppendBody(nil), Done: func(res *op.Result) {
		if done {
			s.t.Errorf("n%d %s: answered twice", id, what)
		}
		done = true
		s.say("n%d %s: %s", id, what, answer(res))
		if res.Err == nil && then != nil {
			then(res)
		}
	}}
	s.calls = append(s.calls, k)
	s.c.cores[id].Begin(s.c.now)
	s.c.cores[id].Submit(k)
	s.c.run()
	if !done {
		s.say("n%d %s: waits", id, what)
	}
}

func answer(r *op.Result) string {
	if r.Err != nil {
		return fmt.Sprintf("%s %s", r.Err.Outcome, r.Err.Code)
	}
	if r.Path != "" {
		return "done, " + r.Path
	}
	return "done"
}

func (s *scenario) abandon(*words) {
	for _, k := range s.calls {
		if state := k.state.Load(); k.Abandon() {
			s.say("%s: surely not done", k.Request.Op.Verb())
		} else if state == callSent && s.waits(k) {
			s.say("%s: unknown", k.Request.Op.Verb())
		}
	}
	s.calls = nil
}

func (s *scenario) waits(k *Call) bool {
	for _, id := range s.c.ids() {
		if s.c.cores[id].requests.pending[k.id] == k {
			return true
		}
	}
	return false
}

func secret(name string) op.Hash {
	if name == "" {
		return op.Hash{}
	}
	return sha256.Sum256([]byte(name))
}

func (s *scenario) open(w *words) {
	name := w.named["as"]
	timeout := 4 * time.Second
	if text := w.named["timeout"]; text != "" {
		timeout = w.duration(text)
	}
	o := &op.OpenSession{
		Secret: secret(name), Timeout: timeout, Name: name, Identity: w.named["identity"], Proof: secret(w.named["proof"]),
	}
	s.submit(w.member(0), "open "+name, &op.Request{Op: o}, func(r *op.Result) {
		s.sessions[name] = r.Session
		s.names[r.Session.ID] = name
	})
}

func (s *scenario) session(name string) *op.SessionInfo {
	if s.sessions[name] == nil {
		s.t.Fatalf("no session %q", name)
	}
	return s.sessions[name]
}

func (s *scenario) attach(w *words) {
	name := w.word(1)
	o := &op.Attach{Session: s.session(name).ID, Secret: secret(name), Nonce: w.uint("nonce")}
	s.submit(w.member(0), "attach "+name, &op.Request{Op: o}, func(r *op.Result) {
		s.sessions[name] = r.Session
		s.say("  epoch %d, next seq %d", r.Session.Epoch, r.Session.NextSeq)
	})
}

func (s *scenario) timeout(w *words) {
	id := s.session(w.word(1)).ID
	o := &op.SetTimeout{Session: id, Timeout: w.duration(w.word(2))}
	s.submit(w.member(0), "timeout "+w.word(1), &op.Request{Session: id, Op: o}, nil)
}

func (s *scenario) close(w *words) {
	id := s.session(w.word(1)).ID
	s.submit(w.member(0), "close "+w.word(1), &op.Request{Session: id, Op: &op.CloseSession{Session: id}}, nil)
}

func (s *scenario) keepAlive(w *words) {
	id, name := w.member(0), w.word(1)
	s.c.cores[id].Begin(s.c.now)
	k := &KeepAlive{Session: s.session(name).ID, Done: func(err error) {
		if err != nil {
			s.say("n%d keepalive %s: %s", id, name, code(err))
			return
		}
		s.say("n%d keepalive %s: confirmed", id, name)
	}}
	if w.has("timeout") {
		k.Timeout = func(timeout time.Duration, err error) {
			if err != nil {
				s.say("n%d keepalive %s: timeout: %s", id, name, code(err))
				return
			}
			s.say("n%d keepalive %s: timeout %s", id, name, timeout)
		}
	}
	s.c.cores[id].KeepAlive(k)
	s.c.run()
}

func code(err error) string {
	if e, ok := err.(*op.Error); ok {
		return fmt.Sprintf("%s %s", e.Outcome, e.Code)
	}
	return err.Error()
}

func (s *scenario) left(w *words) {
	id, name := w.member(0), w.word(1)
	s.c.cores[id].TimeLeft(&TimeLeft{Session: s.session(name).ID, Done: func(d time.Duration, err error) {
		if err != nil {
			s.say("n%d %s has: %s", id, name, code(err))
			return
		}
		s.say("n%d %s has %s left", id, name, d)
	}})
	s.c.run()
}

func (s *scenario) create(w *words) {
	o := &op.Create{Path: w.word(1), Sequence: w.has("sequence")}
	if w.has("ephemeral") {
		o.Kind = op.Ephemeral
	}
	s.change(w, "create", o)
}

func (s *scenario) set(w *words) {
	s.change(w, "set", &op.Set{Path: w.word(1), Data: []byte(w.word(2)), If: op.Always})
}

func (s *scenario) delete(w *words) {
	s.change(w, "delete", &op.Delete{Path: w.word(1), If: op.Always})
}

func (s *scenario) change(w *words, verb string, o op.Op) {
	r := &op.Request{Op: o, Seq: w.uint("seq"), Ack: w.uint("ack")}
	what := verb + " " + w.word(1)
	if name := w.named["session"]; name != "" {
		info := s.session(name)
		r.Session, r.Epoch = info.ID, info.Epoch
		if e := w.uint("epoch"); e != 0 {
			r.Epoch = e
		}
	}
	if r.Seq != 0 {
		what += fmt.Sprintf(" #%d", r.Seq)
	}
	if key := w.named["key"]; key != "" {
		r.Key = &op.Key{Principal: "world", Key: key}
		what += " key " + key
	}
	s.submit(w.member(0), what, r, nil)
}

func (s *scenario) read(w *words) {
	id, path := w.member(0), w.word(1)
	level := op.Linearizable
	for _, l := range []op.Level{op.Sequential, op.Bounded, op.Eventual} {
		if w.has(l.String()) {
			level = l
		}
	}
	core := s.c.cores[id]
	core.Begin(s.c.now)
	show := func(v *fsm.View, info op.ReadInfo, err error) {
		if err != nil {
			s.say("n%d read %s: %s", id, path, code(err))
			return
		}
		res := v.Read(&op.Get{Path: path}, nil)
		if res.Err != nil {
			s.say("n%d read %s: %s", id, path, res.Err.Code)
			return
		}
		s.say("n%d read %s: %q", id, path, res.Data)
	}
	o := op.ReadOptions{Level: level, MinZxid: op.Zxid(w.uint("min")), Max: time.Second}
	if v, info, err, ok := core.pub.Serve(o, s.c.now.Mono); ok {
		show(v, info, err)
		return
	}
	done := false
	core.Read(&Read{Options: o, Done: func(v *fsm.View, info op.ReadInfo, err error) {
		done = true
		show(v, info, err)
	}})
	s.c.run()
	if !done {
		s.say("n%d read %s: waits", id, path)
	}
}

// fill makes checkpoints due at once, and writes until one is cut.
func (s *scenario) fill(w *words) {
	id := w.member(0)
	for _, each := range s.c.ids() {
		s.c.cores[each].SetCutBytes(1)
		if w.has("keep") {
			s.c.cores[each].cuts.tailMax = maxTailBytes
		}
	}
	for next := s.c.cores[id].applied/CutEvery*CutEvery + CutEvery; s.c.cores[id].applied < next; {
		s.fills++
		done := s.c.submit(id, &op.Request{Op: &op.Create{Path: fmt.Sprintf("/fill/%d", s.fills), Parents: true}})
		s.c.run()
		for range 1000 {
			if *done != nil {
				break
			}
			s.c.ticks(1)
		}
		if *done == nil || (*done).Err != nil {
			s.t.Fatalf("couldn't fill the log: %+v", *done)
		}
	}
}

func (s *scenario) spoil(w *words) {
	core := s.c.cores[w.member(0)]
	core.machine.Apply(&op.Batch{Requests: []*op.Request{{Op: &op.Create{Path: w.word(1)}}}})
}

func (s *scenario) space(w *words) {
	core := s.c.cores[w.member(0)]
	if mark := w.uint("mark"); mark != 0 {
		core.cfg.SpaceMark = int64(mark)
	}
	core.Free(int64(w.number(1)))
}

func (s *scenario) tree(w *words) {
	m := s.c.cores[w.member(0)].machine
	res := m.View().Read(&op.Subtree{Path: "/"}, []op.Identity{{Scheme: "super"}})
	for _, n := range res.Nodes {
		if n.Path == "/" || strings.HasPrefix(n.Path, "/zookeeper") || strings.HasPrefix(n.Path, "/fill") {
			continue
		}
		line := fmt.Sprintf("%s zxid %d", n.Path, n.Stat.Mzxid)
		if len(n.Data) > 0 {
			line += fmt.Sprintf(" %q", n.Data)
		}
		if n.Stat.EphemeralOwner != 0 {
			line += " of " + s.names[n.Stat.EphemeralOwner]
		}
		s.say("%s", line)
	}
}

func (s *scenario) alive(w *words) {
	var names []string
	for x := range s.c.cores[w.member(0)].machine.Sessions(0) {
		names = append(names, s.names[x.ID])
	}
	s.say("%v", names)
}

func (s *scenario) status(w *words) {
	for i := range w.plain {
		core := s.c.cores[w.member(i)]
		line := w.word(i) + ": "
		anyEntry := regexp.MustCompile(`entry \d+`)
		switch ok, why := core.serves(); {
		case !ok:
			line += "doesn't serve: " + anyEntry.ReplaceAllString(why, "entry N")
		case why != "":
			line += "serves: " + why
		default:
			line += "serves"
		}
		if core.isLeader() {
			line += " (leader)"
		}
		s.say("%s", line)
	}
}

func (s *scenario) events(w *words) {
	h := s.c.cores[w.member(0)].history
	stream, err := h.Subscribe(watch.Filter{Path: "/", Scope: watch.Subtree}, op.Zxid(w.uint("since")))
	if err != nil {
		s.say("%s", code(err))
		return
	}
	defer stream.Close()
	events, _, err := stream.Take(1000)
	if err != nil {
		s.say("%s", code(err))
		return
	}
	for _, e := range events {
		if !strings.HasPrefix(e.Path, "/fill") {
			s.say("%d %s %s", e.Zxid, e.Type, e.Path)
		}
	}
}

func (s *scenario) level(w *words) {
	for i := range w.plain {
		s.say("%s: level %d", w.word(i), s.c.cores[w.member(i)].machine.Level())
	}
}

func (s *scenario) agree(*words) {
	ids := s.c.ids()
	same := map[fsm.Digest][]uint64{}
	for _, id := range ids {
		d := s.c.cores[id].machine.Digest()
		same[d] = append(same[d], id)
	}
	if len(same) == 1 {
		s.say("%d members agree", len(ids))
		return
	}
	for _, group := range slices.SortedFunc(maps.Values(same), slices.Compare) {
		s.say("apart: %d", group)
	}
}
