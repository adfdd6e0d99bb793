package op

import (
	"bytes"
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/coord-kv/coord/op/wire"
	"pgregory.net/rapid"
)

func TestBatchRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x := anyBatch.Draw(t, "batch")
		roundTrip(t, x, x.Append(nil), func(p []byte) (*Batch, []byte, error) {
			got, err := DecodeBatch(p)
			return got, got.Append(nil), err
		})
	})
}

// Neighbours that have the same callers, or almost, each keep their own.
func TestCallersOfABatch(t *testing.T) {
	one, two := Identity{"ip", "127.0.0.1"}, Identity{"digest", "ann:x"}
	lists := [][]Identity{
		{one}, {one}, {{"ip", "127.0.0.2"}}, {one}, nil, {one}, {one, two}, {one, two}, {one, {"digest", "bob:x"}}, {two, one}, {one, two}, {two},
	}
	x := &Batch{}
	for _, auth := range lists {
		x.Requests = append(x.Requests, &Request{Auth: auth, Op: &Delete{Path: "/a"}})
	}
	got, err := DecodeBatch(x.Append(nil))
	if err != nil || !reflect.DeepEqual(got, x) {
		t.Fatalf("got %+v, %v", got, err)
	}
}

func TestRequestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x := anyRequest.Draw(t, "request")
		roundTrip(t, x, x.Append(nil), func(p []byte) (*Request, []byte, error) {
			got, err := DecodeRequest(p)
			return got, got.Append(nil), err
		})
		if split := x.AppendBody(x.Tag.Append(nil)); !bytes.Equal(split, x.Append(nil)) {
			t.Fatalf("tag and body are %x", split)
		}
	})
}

func TestResultRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x := anyResult.Draw(t, "result")
		roundTrip(t, x, x.Append(nil), func(p []byte) (*Result, []byte, error) {
			got, err := DecodeResult(p)
			return got, got.Append(nil), err
		})
	})
}

// Chance may pass over a verb for long, so each has its turn.
func TestEveryVerbRoundTrips(t *testing.T) {
	for _, v := range Verbs() {
		t.Run(v.String(), rapid.MakeCheck(func(t *rapid.T) {
			x := &Request{Op: drawOp(t, []Verb{v})}
			got, err := DecodeRequest(x.Append(nil))
			if err != nil || !reflect.DeepEqual(got, x) {
				t.Fatalf("got %+v, %v", got.Op, err)
			}
		}))
	}
}

func TestPartsRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limits, quota, acl := value[Limits](t), value[Quota](t), value[[]ACL](t)
		r := wire.NewReader(AppendACL(AppendQuota(limits.Append(nil), quota), acl))
		gotLimits, gotQuota, gotACL := DecodeLimits(r), DecodeQuota(r), DecodeACL(r)
		if r.Done() != nil || gotLimits != limits || gotQuota != quota || !reflect.DeepEqual(gotACL, acl) {
			t.Fatalf("got %+v, %+v, %+v, %v", gotLimits, gotQuota, gotACL, r.Done())
		}
	})
}

// roundTrip checks that what was encoded is decoded to the same value and the same bytes, and that no part of it is
// taken for the whole.
func roundTrip[V any](t *rapid.T, x V, encoded []byte, decode func([]byte) (V, []byte, error)) {
	got, again, err := decode(bytes.Clone(encoded))
	if err != nil {
		t.Fatalf("%x: %v", encoded, err)
	}
	if !reflect.DeepEqual(got, x) {
		t.Fatalf("got  %+v\nwant %+v", got, x)
	}
	if !bytes.Equal(again, encoded) {
		t.Fatalf("equal values, but %x and %x", encoded, again)
	}
	cut := rapid.IntRange(0, len(encoded)-1).Draw(t, "cut")
	if _, _, err := decode(encoded[:cut:cut]); !errors.Is(err, wire.ErrMalformed) {
		t.Fatalf("the first %d bytes of %x: %v", cut, encoded, err)
	}
	if _, _, err := decode(append(encoded, 0)); !errors.Is(err, wire.ErrMalformed) {
		t.Fatalf("a byte more than %x: %v", encoded, err)
	}
}

func TestNullIsNotEmpty(t *testing.T) {
	null := (&Request{Op: &Set{Path: "/a", If: Always}}).Append(nil)
	empty := (&Request{Op: &Set{Path: "/a", Data: []byte{}, If: Always}}).Append(nil)
	if bytes.Equal(null, empty) {
		t.Error("null data and empty data look the same")
	}
	x, err := DecodeRequest(empty)
	if err != nil || x.Op.(*Set).Data == nil {
		t.Errorf("empty data have become null, %v", err)
	}
}

// Data alias the entry, which saves copying a megabyte; strings don't, because they are kept.
func TestDecodedDataAliasTheEntry(t *testing.T) {
	p := (&Request{Op: &Set{Path: "/a", Data: []byte("data"), If: Always}}).Append(nil)
	x, err := DecodeRequest(p)
	if err != nil {
		t.Fatal(err)
	}
	clear(p)
	if set := x.Op.(*Set); set.Path != "/a" || string(set.Data) != "\x00\x00\x00\x00" || cap(set.Data) != 4 {
		t.Errorf("got %q, %q", set.Path, set.Data)
	}
}

func TestEntryOfANewerFormat(t *testing.T) {
	p := (&Batch{}).Append(nil)
	p[0] = FormatVersion + 1
	_, err := DecodeBatch(p)
	var newer *FormatError
	if !errors.As(err, &newer) || newer.Version != FormatVersion+1 || errors.Is(err, wire.ErrMalformed) || err.Error() == "" {
		t.Errorf("got %v", err)
	}
	if _, err := DecodeBatch(nil); !errors.Is(err, wire.ErrMalformed) {
		t.Errorf("nothing at all: %v", err)
	}
}

func TestMalformedRequests(t *testing.T) {
	head := (&Request{Op: &Get{}}).Append(nil)
	head = head[:len(head)-2] // all before the verb
	request := func(op ...byte) []byte { return append(bytes.Clone(head), op...) }
	big := func(prefix []byte, n uint64, rest ...byte) []byte { return append(wire.Uint(prefix, n), rest...) }
	for name, p := range map[string][]byte{
		"verb 0":                  request(0, 0),
		"a verb too many":         request(byte(numVerbs), 0),
		"key neither yes nor no":  append(bytes.Clone(head[:len(head)-2]), 2, 0, byte(VerbGet), 0),
		"kind too many":           request(byte(VerbCreate), 0, 0, byte(numNodeKinds), 0, 0, 0, 0, 0),
		"huge string":             big(request(byte(VerbGet)), 1<<62),
		"huge data":               big(request(byte(VerbSet), 0), 1<<62),
		"huge ACL":                big(request(byte(VerbSetACL), 0), 1<<64-1),
		"huge transaction":        big(request(byte(VerbTxn)), 1<<62),
		"huge list of sessions":   big(request(byte(VerbExpire)), 1<<62),
		"transaction within one":  request(byte(VerbTxn), 0, 1, byte(VerbTxn), 0, 0, 0, 0),
		"session in a transction": request(byte(VerbTxn), 0, 1, byte(VerbAttach), 0, 0, 0, 0),
		"duration too long":       big(request(byte(VerbSetTimeout), 1), 1<<63),
		"level too high":          big(request(byte(VerbSetLevel)), 1<<32),
		"version too high":        big(request(byte(VerbCheck), 0), 1<<33, 0, 0),
		"varint not minimal":      request(byte(VerbGet), 0x80, 0),
	} {
		if x, err := DecodeRequest(p); !errors.Is(err, wire.ErrMalformed) {
			t.Errorf("%s: %+v, %v", name, x.Op, err)
		}
	}
	if _, err := DecodeRequest(request(byte(VerbTxn), 0, 1, byte(VerbGet), 0, 0)); err != nil {
		t.Errorf("a good one: %v", err)
	}
}

func TestMalformedResults(t *testing.T) {
	plain := (&Result{}).Append(nil)
	inner := (&Result{Results: []Result{{Results: []Result{}}}}).Append(nil)
	unknownPart := bytes.Clone(plain)
	unknownPart[0] = 1 << 7
	unknownCode := (&Result{Err: &Error{Code: numCodes}}).Append(nil)
	unknownOutcome := (&Result{Err: &Error{Outcome: Unknown + 1}}).Append(nil)
	for name, p := range map[string][]byte{
		"three levels": inner, "unknown part": unknownPart, "unknown code": unknownCode, "unknown outcome": unknownOutcome,
		"unknown part beside known ones": append([]byte{1<<7 | hasResults}, append(bytes.Clone(plain[1:]), 0)...),
	} {
		if x, err := DecodeResult(p); !errors.Is(err, wire.ErrMalformed) {
			t.Errorf("%s: %+v, %v", name, x, err)
		}
	}
}

// samples is a request for every verb, and some that say who asks.
func samples() []*Request {
	var all []*Request
	for _, f := range frozen {
		all = append(all, &Request{Op: f.op})
	}
	return append(all, frozenRequest)
}

func FuzzDecodeRequest(f *testing.F) {
	for _, x := range samples() {
		f.Add(x.Append(nil))
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		if x, err := DecodeRequest(p); err == nil && !bytes.Equal(x.Append(nil), p) {
			t.Errorf("%x is decoded to what is encoded as %x", p, x.Append(nil))
		}
	})
}

func FuzzDecodeBatch(f *testing.F) {
	f.Add((&Batch{}).Append(nil))
	f.Add((&Batch{Wall: 1_700_000_000_000, Age: 7, Requests: samples()}).Append(nil))
	f.Fuzz(func(t *testing.T, p []byte) {
		if x, err := DecodeBatch(p); err == nil && !bytes.Equal(x.Append(nil), p) {
			t.Errorf("%x is decoded to what is encoded as %x", p, x.Append(nil))
		}
	})
}

func FuzzDecodeResult(f *testing.F) {
	f.Add((&Result{}).Append(nil))
	f.Add(frozenResult.Append(nil))
	f.Fuzz(func(t *testing.T, p []byte) {
		if x, err := DecodeResult(p); err == nil && !bytes.Equal(x.Append(nil), p) {
			t.Errorf("%x is decoded to what is encoded as %x", p, x.Append(nil))
		}
	})
}

func TestLimitsCheck(t *testing.T) {
	good := DefaultLimits()
	if err := good.Check(); err != nil {
		t.Error(err)
	}
	counts, times := (&Limits{}).fields()
	if n := reflect.TypeFor[Limits]().NumField(); len(counts)+len(times) != n {
		t.Errorf("%d of %d fields are checked and encoded", len(counts)+len(times), n)
	}
	for i := range counts {
		bad := good
		c, _ := bad.fields()
		*c[i] = 0
		wantCode(t, bad.Check(), InvalidConfig)
	}
	for i := range times {
		bad := good
		_, d := bad.fields()
		*d[i] = time.Millisecond - 1
		wantCode(t, bad.Check(), InvalidConfig)
	}
	bad := good
	bad.SessionMin = bad.SessionMax + 1
	wantCode(t, bad.Check(), InvalidConfig)
}

func wantCode(t *testing.T, err error, code Code) {
	t.Helper()
	if !errors.Is(err, &Error{Code: code}) {
		t.Errorf("got %v, want %s", err, code)
	}
}
