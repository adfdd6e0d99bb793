package fsm

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/coord-kv/coord/op"
)

// TestAgainstModel gives the same random requests to the state machine and to the model, until every verb has been done and has
// been refused many times, and compares all that they answer, all events, and the states.
func TestAgainstModel(t *testing.T) {
	const enough, atMost = 5, 300
	done, refused, codes := map[op.Verb]int{}, map[op.Verb]int{}, map[op.Code]int{}
	covered := func() bool {
		for _, v := range op.Verbs() {
			if done[v] < enough || refused[v] < enough && v != op.VerbSetLevel {
				return false
			}
		}
		return true
	}
	seed, outlived := uint64(0), 0
	for ; seed < 25 || !covered(); seed++ {
		if seed == atMost {
			t.Fatalf("still not covered: done %v, refused %v", done, refused)
		}
		d := differ{t: t, seed: seed, m: New(), model: newModel(), g: newGenerator(seed)}
		for range 150 {
			d.step()
			if t.Failed() {
				return
			}
		}
		outlived += d.stayed
		for _, c := range d.counted {
			if c.yes {
				done[c.verb]++
			} else {
				refused[c.verb]++
			}
			codes[c.code]++
		}
	}
	t.Logf("%d histories: done %v, refused %v, codes %v; %d nodes outlived their session", seed, done, refused, codes, outlived)
	if outlived < enough {
		t.Errorf("%d nodes outlived their session", outlived)
	}
	for _, c := range []op.Code{
		op.BadRequest, op.BadPath, op.Denied, op.NoNode, op.NoSession, op.NodeExists, op.NotEmpty, op.ChildrenOfEphemeral, op.NotHolder,
		op.SessionExpired, op.BadVersion, op.StaleToken, op.TooLarge, op.InvalidACL, op.InvalidConfig, op.QuotaExceeded, op.KeyMismatch,
		op.WindowFull, op.OutOfOrder, op.Superseded,
	} {
		if codes[c] == 0 {
			t.Errorf("%s was never answered", c)
		}
	}
}

type outcome struct {
	verb op.Verb
	code op.Code
	yes  bool
}

// stayed counts the nodes that outlived their session in a batch.
func stayed(b *op.Batch, results []op.Result, events []op.Event) (n int) {
	ends := map[op.Zxid]bool{}
	for i, r := range b.Requests {
		switch r.Op.Verb() {
		case op.VerbExpire, op.VerbCloseSession, op.VerbOpenSession:
			ends[results[i].Zxid] = true
		}
	}
	for _, e := range events {
		if e.Type == op.Changed && e.Kind == op.TTL && ends[e.Zxid] {
			n++
		}
	}
	return n
}

type differ struct {
	t       *testing.T
	seed    uint64
	m       *Machine
	model   *model
	g       *generator
	counted []outcome
	stayed  int // nodes that outlived their session
}

func (d *differ) step() {
	d.g.look(d.m)
	b := d.g.batch(1 + d.g.IntN(4))
	before := d.m.Digest()
	got := d.m.Apply(b)
	want, wantEvents := d.model.apply(b)
	d.stayed += stayed(b, got.Results, got.Events)
	for i, r := range b.Requests {
		d.same(r, "answer", describe(got.Results[i]), describe(want[i]))
		d.count(r.Op, &got.Results[i])
	}
	last := b.Requests[len(b.Requests)-1]
	d.same(last, "events", eventLines(got.Events), eventLines(wantEvents))
	d.same(last, "zxid", fmt.Sprint(d.m.Zxid(), d.m.Level(), d.m.Age()), fmt.Sprint(d.model.zxid, d.model.level, d.model.age))
	v := d.m.View()
	super := []op.Identity{{Scheme: "super"}}
	d.same(last, "tree", describe(v.Read(&op.Subtree{Path: "/"}, super)), describe(d.model.decided(d.model.subtree(&op.Subtree{Path: "/"}, super))))
	d.same(last, "sessions", sessionLines(v), d.model.sessionLines())
	for _, r := range b.Requests {
		d.reads(v, r)
	}
	d.dues()
	audit(d.t, d.m)
	if b.Age > 0 && d.m.Digest() == before {
		d.t.Error("the digest has not changed")
	}
}

// reads asks a View what the log was asked.
func (d *differ) reads(v *View, r *op.Request) {
	if isRead(r.Op) {
		d.same(r, "read", describe(v.Read(r.Op, r.Auth)), describe(d.model.decided(d.model.read(r.Op, r.Auth))))
	}
}

// dues compares what is due with what the model would reap.
func (d *differ) dues() {
	var want []string
	for p := range d.model.nodes {
		if d.model.isDue(p) {
			want = append(want, p)
		}
	}
	slices.Sort(want)
	got := d.m.Due(0, 1000)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		d.t.Errorf("seed %d: due %q, should be %q", d.seed, got, want)
	}
}

func (d *differ) count(o op.Op, res *op.Result) {
	c := outcome{verb: o.Verb(), yes: res.Err == nil}
	if o.Verb() == op.VerbExpire || o.Verb() == op.VerbReap {
		c.yes = res.Count > 0
	}
	if res.Err != nil {
		c.code = res.Err.Code
	}
	d.counted = append(d.counted, c)
	if x, ok := o.(*op.Txn); ok && res.Err == nil {
		list := x.Then
		if res.Else {
			list = x.Else
		}
		if len(list) != len(res.Results) {
			return // the answer to another request with the same number
		}
		for i := range res.Results {
			d.count(list[i], &res.Results[i])
		}
	}
}

func (d *differ) same(r *op.Request, what, got, want string) {
	d.t.Helper()
	if got != want {
		d.t.Errorf("seed %d: %s of %s %+v (session %s seq %d key %v, as %v)\nis        %s\nshould be %s",
			d.seed, what, r.Op.Verb(), r.Op, r.Session, r.Seq, r.Key, r.Auth, got, want)
	}
}

func eventLines(events []op.Event) string {
	var b strings.Builder
	for _, e := range events {
		fmt.Fprintf(&b, "%d %s %s %s %d %v\n", e.Zxid, e.Type, e.Kind, e.Path, e.Version, e.ACL.List)
	}
	return b.String()
}

func sessionLines(v *View) string {
	var b strings.Builder
	for s := range v.Sessions(0) {
		fmt.Fprintf(&b, "%s %d %d %s %q %q %q %d %q\n",
			s.ID, s.Epoch, s.NextSeq, s.Timeout, s.Name, s.Identity, s.Principal, s.Results, slices.Collect(s.Ephemerals()))
	}
	return b.String()
}
