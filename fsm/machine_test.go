package fsm

import (
	"bytes"
	"testing"

	"github.com/coord-kv/coord/op"
)

func TestGenesis(t *testing.T) {
	m := New()
	for path, want := range map[string]int32{"/": -1, "/zookeeper": -2, "/zookeeper/quota": 0, "/zookeeper/config": 0} {
		res := m.View().Read(&op.Get{Path: path}, nil)
		if res.Err != nil || res.Stat.Cversion != want {
			t.Errorf("%s: %v, %+v; want cversion %d", path, res.Err, res.Stat, want)
		}
	}
	for range 2 {
		var buf bytes.Buffer
		if _, err := m.View().WriteTo(&buf); err != nil {
			t.Fatal(err)
		}
		back, err := Restore(&buf)
		if err != nil {
			t.Fatal(err)
		}
		if back.Digest() != m.Digest() {
			t.Fatal("the digest changed on the way through a checkpoint")
		}
		m = back
		m.Apply(&op.Batch{Wall: 5, Age: 7, Requests: []*op.Request{{Op: &op.Create{Path: "/a", Data: []byte("x")}}}})
	}
}

// Apply is total: what no decoder lets through is answered too.
func TestWhatCannotBeDecoded(t *testing.T) {
	m := New()
	for _, c := range []struct {
		op   op.Op
		code op.Code
	}{
		{nil, op.BadRequest},
		{&op.Txn{Then: []op.Op{nil}}, op.BadRequest},
		{&op.Txn{If: []op.Op{nil}}, op.BadRequest},
		{&op.Txn{Then: []op.Op{&op.Txn{}}}, op.BadRequest},
		{&op.Txn{Else: []op.Op{&op.OpenSession{}}}, op.BadRequest},
		{&op.Txn{Then: []op.Op{&op.Reap{}}}, op.BadRequest},
		{&op.Create{Path: "/x", Kind: 9}, op.BadRequest},
	} {
		for _, r := range []*op.Request{{Op: c.op}, {Op: c.op, Key: &op.Key{Key: "k"}}} {
			res := m.Apply(&op.Batch{Requests: []*op.Request{r}}).Results[0]
			if res.Err == nil || res.Err.Code != c.code {
				t.Errorf("%+v: %v", c.op, res.Err)
			}
			m.Apply(&op.Batch{Age: 3_600_000})
		}
	}
	audit(t, m)
}

// Numbers end where ten digits do, and the client's cversion has wrapped around long before.
func TestSequenceEnds(t *testing.T) {
	m := New()
	create := &op.Request{Op: &op.Create{Path: "/s/n-", Sequence: true}}
	m.Apply(&op.Batch{Requests: []*op.Request{{Op: &op.Create{Path: "/s/x", Parents: true}}}})
	for _, c := range []struct {
		creates uint64
		path    string
	}{
		{1<<30 - 1, "/s/n-1073741823"},
		{op.HighSequence - 1, "/s/n-1932735275"},
		{op.HighSequence, "/s/n-1932735276"},
		{1<<31 - 1, "/s/n-2147483647"},
		{1 << 31, "/s/n-2147483648"},
		{op.MaxSequence, "/s/n-9999999999"},
		{op.MaxSequence + 1, ""},
	} {
		n, d := m.reach("/s")
		m.lift("/s", n)
		d.creates = c.creates
		m.rest("/s", n)
		undone := &op.Request{Op: &op.Txn{Then: []op.Op{create.Op, &op.Delete{Path: "/none", If: op.Always}}}}
		done := m.Apply(&op.Batch{Requests: []*op.Request{undone, create}})
		res, high := done.Results[1], c.path != "" && c.creates >= op.HighSequence
		if high != (len(done.High) == 1 && done.High[0] == c.path) || !high && len(done.High) > 0 {
			t.Errorf("after %d: said to be high are %v", c.creates, done.High)
		}
		if c.path == "" {
			if res.Err == nil || res.Err.Code != op.SequenceExhausted {
				t.Errorf("after %d: %+v", c.creates, res)
			}
			continue
		}
		if res.Err != nil || res.Path != c.path {
			t.Errorf("after %d: %s, %v", c.creates, res.Path, res.Err)
		}
		stat := m.View().Read(&op.Exists{Path: "/s"}, nil).Stat
		if want := int32(uint32(2*(c.creates+1)) - uint32(stat.NumChildren)); stat.Cversion != want {
			t.Errorf("after %d: cversion %d, not %d", c.creates, stat.Cversion, want)
		}
		audit(t, m)
		m = revive(t, m)
	}
}

// A version that comes to -1 is passed over.
func TestVersionsPassOverAny(t *testing.T) {
	for v, want := range map[int32]int32{0: 1, 1<<31 - 1: -1 << 31, -3: -2, -2: 0} {
		if got := successor(v); got != want {
			t.Errorf("after %d comes %d, not %d", v, got, want)
		}
	}
}

// An answer whose room was found before it was known never takes more: the bound is a bound, whatever the fields hold.
func TestAnswersKeepTheirBound(t *testing.T) {
	path := "/" + string(bytes.Repeat([]byte("p"), 300))
	stat := &op.Stat{
		Czxid: 1 << 63, Mzxid: 1 << 63, Pzxid: 1 << 63, Ctime: -1 << 63, Mtime: -1 << 63, Version: -1 << 31, Cversion: -1 << 31,
		Aversion: -1 << 31, EphemeralOwner: 1 << 63, DataLength: -1 << 31, NumChildren: -1 << 31, Kind: op.TTL, TTL: 1<<63 - 1,
	}
	done := op.Result{Zxid: 1 << 63, Path: path + "0123456789", Stat: stat, Count: -1 << 63}
	no := op.Result{Zxid: 1 << 63, Err: &op.Error{Path: path + "0123456789", Zxid: 1 << 63, Index: -1 << 31, Stat: stat, Limit: -1 << 63, Have: -1 << 63}}
	session := op.Result{Zxid: 1 << 63, Count: 1, Session: &op.SessionInfo{ID: 1 << 63, Epoch: 1 << 63, NextSeq: 1 << 63, Timeout: -1 << 63}}
	for _, o := range []op.Op{&op.Create{Path: path}, &op.Delete{Path: path, Recursive: true}} {
		if bound := answerBound(o); encodedSize(done) > bound || encodedSize(no) > bound {
			t.Errorf("%s: %d and %d, the bound is %d", o.Verb(), encodedSize(done), encodedSize(no), bound)
		}
	}
	done.Path, no.Err.Path = "", path
	for _, o := range []op.Op{&op.Set{Path: path}, &op.SetACL{Path: path}, &op.SetQuota{Path: path}, &op.Delete{Path: path}, &op.Lead{Dir: path}} {
		if bound := answerBound(o); encodedSize(done) > bound || encodedSize(no) > bound {
			t.Errorf("%s: %d and %d, the bound is %d", o.Verb(), encodedSize(done), encodedSize(no), bound)
		}
	}
	no.Err.Path = ""
	if bound := answerBound(&op.OpenSession{}); encodedSize(session) > bound || encodedSize(no) > bound {
		t.Errorf("sessions: %d and %d, the bound is %d", encodedSize(session), encodedSize(no), bound)
	}
	full := op.Result{Zxid: 1 << 63, Err: &op.Error{Code: op.WindowFull, Outcome: op.Decided, Zxid: 1 << 63}}
	if n := encodedSize(full); n+overhead > noBytes {
		t.Errorf("window_full takes %d, with overhead more than %d", n, noBytes)
	}
}
