package op

import (
	"encoding/hex"
	"reflect"
	"testing"
	"time"
)

// The encodings of this file are in logs and checkpoints. If one of them changes, either the change is a mistake or it
// needs a new format version, under which the old form is still read.

var frozen = []struct {
	op  Op
	hex string
}{
	{&Create{Path: "/a", Data: []byte("x"), Kind: TTL, Sequence: true, TTL: time.Second, ACL: []ACL{{Read | Admin, "ip", "::1"}}, Parents: true},
		"01022f6102780301d00f0211026970033a3a310100"},
	{&Set{Path: "/a", Data: []byte{}, If: Cond{Version: 3, Mzxid: 300}},
		"02022f610106ac0200"},
	{&Delete{Path: "/a", If: Always, Recursive: true},
		"03022f6101000001"},
	{&Check{Path: "/a", If: Cond{Version: -1, Absent: true}},
		"04022f61010001"},
	{&SetACL{Path: "/a", ACL: OpenACL, Version: 2},
		"05022f61021f05776f726c6406616e796f6e6504"},
	{&SetQuota{Path: "/a", Quota: Quota{1, 2, 300, 400}},
		"06022f610204d804a006"},
	{&Txn{If: []Op{&Check{"/a", Always}}, Then: []Op{&Get{"/b"}, &Delete{"/c", Always, false}}, Else: []Op{&Exists{"/d"}}},
		"070104022f610100000208022f6203022f63010000000109022f64"},
	{&Get{"/a"},
		"08022f61"},
	{&Exists{"/a"},
		"09022f61"},
	{&Children{Path: "/a", After: "m", Limit: 100, WithData: true},
		"0a022f61016dc8010100"},
	{&Subtree{Path: "/a", After: "/a/m", Depth: 2, Limit: 100},
		"0b022f61042f612f6d04c801"},
	{&GetACL{"/a"},
		"0c022f61"},
	{&Rank{Path: "/a/n", Of: 1},
		"0d042f612f6e02"},
	{&Holder{Dir: "/a", Token: 300, Rule: Rule{Shared: true, Slots: 2}},
		"0e022f61ac020104"},
	{&Term{Dir: "/a", Token: 300},
		"0f022f61ac02"},
	{&Lead{Dir: "/a", Node: "n", Data: []byte("x")},
		"10022f61016e0278"},
	{&OpenSession{Secret: Hash{1, 2}, Timeout: 10 * time.Second, Name: "n", Identity: "i", Proof: Hash{3}, Lease: true, Metadata: []byte("m")},
		"110102000000000000000000000000000000000000000000000000000000000000a09c01016e0169030000000000000000000000000000000000000000000000000000000000000001026d"},
	{&Attach{Session: 300, Secret: Hash{1, 2}, Nonce: 5},
		"12ac02010200000000000000000000000000000000000000000000000000000000000005"},
	{&SetTimeout{Session: 300, Timeout: 10 * time.Second},
		"13ac02a09c01"},
	{&CloseSession{Session: 300, Killed: true},
		"14ac0201"},
	{&Expire{Sessions: []Expiry{{300, 2, 10 * time.Second}}},
		"1501ac0202a09c01"},
	{&Reap{Paths: []string{"/a", "/b"}},
		"1602022f61022f62"},
	{&SetLevel{Level: 2},
		"1702"},
	{&SetLimits{Limits: DefaultLimits()},
		"1880808001808080048040a09c0180808001808008a09c0180897a80108080208080808002c09a0c800280bab703c03e80f0b252c0cf24"},
}

var frozenRequest = &Request{
	Tag: Tag{300, 2, 3}, Session: 301, Epoch: 4, Seq: 5, Ack: 6, Key: &Key{"ann", "k", [16]byte{7}},
	Auth: []Identity{{"digest", "ann:x"}, {"ip", "::1"}}, Op: &Get{"/a"},
}

var frozenStat = Stat{
	Czxid: 1, Mzxid: 2, Pzxid: 3, Ctime: 4, Mtime: 5, Version: -6, Cversion: 7, Aversion: 8, EphemeralOwner: 9, DataLength: 10,
	NumChildren: 11, Kind: Ephemeral, TTL: time.Second,
}

var frozenResult = &Result{
	Zxid: 300, Path: "/a", Stat: &frozenStat, Data: []byte("x"), Nodes: []Node{{"/b", nil, frozenStat}}, More: true, ACL: OpenACL,
	Count: 2, Rank: &RankInfo{1, 2, 3, 4, "p", "w", "f"}, Session: &SessionInfo{300, 2, 3, 10_000}, Else: true,
	Err:     &Error{BadVersion, Decided, "/a", 300, 1, &frozenStat, 2, 3, 4, "why"},
	Results: []Result{{Path: "/c"}, {Err: &Error{Code: NoNode, Outcome: Decided}}},
}

func TestFrozenOps(t *testing.T) {
	covered := make(map[Verb]bool)
	for _, f := range frozen {
		name := f.op.Verb().String()
		covered[f.op.Verb()] = true
		compare(t, name, AppendOp(nil, f.op), f.hex)
		bytes, _ := hex.DecodeString(f.hex)
		x, err := DecodeRequest(append((&Request{Op: &Get{}}).Append(nil)[:7], bytes...))
		if err != nil || !reflect.DeepEqual(x.Op, f.op) {
			t.Errorf("%s is read as %+v, %v", name, x.Op, err)
		}
	}
	for _, v := range Verbs() {
		if !covered[v] {
			t.Errorf("no frozen form of %s", v)
		}
	}
}

func TestFrozenRequestBatchResult(t *testing.T) {
	compare(t, "request", frozenRequest.Append(nil), frozenRequestHex)
	compare(t, "batch", (&Batch{Wall: 1_700_000_000_000, Age: 300, Requests: []*Request{frozenRequest}}).Append(nil), frozenBatchHex)
	compare(t, "result", frozenResult.Append(nil), frozenResultHex)
}

func compare(t *testing.T, name string, got []byte, frozen string) {
	t.Helper()
	if hex.EncodeToString(got) != frozen {
		t.Errorf("%s\ngot  %x\nwant %s", name, got, frozen)
	}
}

const (
	frozenRequestHex = "ac020203ad020504060103616e6e016b07000000000000000000000000000000020664696765737405616e6e3a7802697003" +
		"3a3a3108022f61"
	frozenBatchHex = "0180a0abfef962ac0201ac020203ad020504060103616e6e016b070000000000000000000000000000000206646967657374" +
		"05616e6e3a78026970033a3a3108022f61"
	frozenResultHex = "7fac02022f61027801022f6200010203080a0b0e1009141601d00f021f05776f726c6406616e796f6e65041301022f61ac02" +
		"0201010203080a0b0e1009141601d00f04060403776879010203080a0b0e1009141601d00f02040604017001770166ac0202" +
		"03a09c01020000022f63000000000100000000000006010000000000000000"
)
