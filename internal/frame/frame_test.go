package frame

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"testing"
	"time"

	"github.com/coord-kv/coord/op"
	"github.com/coord-kv/coord/op/wire"
	"github.com/coord-kv/coord/watch"
)

// samples has a frame of every kind, with every field set, and the other forms of those that have several.
func samples() []Frame {
	secret := []byte("0123456789abcdef")
	fresh := op.ReadOptions{Level: op.Bounded, Max: time.Second, MinZxid: 9}
	stat := &op.Stat{Czxid: 4, Mzxid: 5, Version: 1, DataLength: 3, Kind: op.TTL, TTL: time.Minute}
	failed := &op.Error{Code: op.HistoryGone, Outcome: op.Decided, Path: "/a", Oldest: 7, Stat: stat, Detail: "why"}
	return []Frame{
		&Hello{ID: 1, Client: "test/1", Credentials: "ann:secret"},
		&Hello{ID: 2, Open: &Open{secret, 15 * time.Second, "web", "web-1", []byte("fedcba9876543210"), []byte{}}},
		&Hello{ID: 3, Resume: &Resume{0x10000002a, secret, 77}},
		&Write{ID: 4, Seq: 9, Ack: 3, Op: &op.Create{Path: "/a", Data: []byte("abc"), Kind: op.Ephemeral, Sequence: true}},
		&Write{ID: 5, Key: "k", Op: &op.Txn{
			If: []op.Op{&op.Check{Path: "/a", If: op.Always}}, Then: []op.Op{&op.Set{Path: "/a", If: op.Always}},
		}},
		&Read{ID: 6, Options: fresh, Op: &op.Children{Path: "/", After: "a", Limit: 5, WithStat: true}},
		&Watch{
			ID: 7, Path: "/a", Scope: watch.Subtree, Types: watch.TypesOf(op.Created), Start: FromSince, Since: 12,
			Options: fresh, Data: true,
		},
		&Await{ID: 11, Path: "/a", Scope: watch.Children, Types: watch.TypesOf(op.Deleted), Since: 12, Op: &op.Rank{Path: "/a/b-0000000001"}},
		&Unwatch{ID: 8, Watch: 7},
		&Ping{ID: 1 << 40},
		&Bye{ID: 10},
		&Welcome{
			ID: 1, Session: 0x2a, Epoch: 2, NextSeq: 8, TTL: time.Minute, Zxid: 99, Oldest: 5, Member: "n1", Cluster: 1 << 63,
			KeyWindow: time.Hour, Message: 1 << 20, Requests: 1024, Watches: 10, Endpoints: []string{"http://a", "http://b"},
		},
		&Reply{
			ID: 4, Info: op.ReadInfo{Level: op.Eventual, Zxid: 3, Staleness: -1},
			Result: &op.Result{Zxid: 3, Path: "/a", Stat: stat, Results: []op.Result{{Err: failed}}},
		},
		&Watching{Watch: 7, Pos: 12},
		&Initial{Watch: 7, Pos: 12, Nodes: []op.Node{{Path: "/a", Data: []byte("abc"), Stat: *stat}}, More: true},
		&Events{Watch: 7, Pos: 30, Events: []Event{
			{Event: op.Event{Zxid: 20, Type: op.Created, Kind: op.Ephemeral, Path: "/a"}, HasData: true, Data: []byte("abc")},
			{Event: op.Event{Zxid: 20, Type: op.Changed, Path: "/a", Version: -5}, HasData: true},
			{Event: op.Event{Zxid: 29, Type: op.ACLChanged, Path: "/b"}},
		}},
		&Bookmark{Watch: 7, Pos: 31},
		&Ended{Watch: 7, Pos: 31, Err: failed},
		&Pong{ID: 9, TTL: 15 * time.Second},
		&Failed{ID: 0, Err: failed},
		&SessionEnded{Session: 0x2a, Err: failed},
		&Goaway{Reason: "draining", Endpoints: []string{"http://c"}},
	}
}

func decoderFor(k Kind, message []byte) *Decoder {
	if k.FromServer() {
		return FromServer(message)
	}
	return FromClient(message)
}

func TestEveryFrameRoundTrips(t *testing.T) {
	seen := map[Kind]bool{}
	for _, f := range samples() {
		seen[f.Kind()] = true
		message := Append(nil, f)
		d := decoderFor(f.Kind(), message)
		got, err := d.Next()
		if err != nil || !reflect.DeepEqual(got, f) {
			t.Errorf("got  %+v, %v\nwant %+v", got, err, f)
		}
		if _, err := d.Next(); err != io.EOF {
			t.Errorf("%s: behind the last frame: %v", f.Kind(), err)
		}
		for cut := 1; cut < len(message); cut++ {
			if _, err := decoderFor(f.Kind(), message[:cut]).Next(); !errors.Is(err, wire.ErrMalformed) {
				t.Errorf("the first %d of %d bytes of a %s: %v", cut, len(message), f.Kind(), err)
			}
		}
	}
	for k := range Kind(255) {
		if newFrame(k) != nil && (!seen[k] || kindNames[k] == "") {
			t.Errorf("kind %d has no sample or no name", k)
		}
	}
}

func TestAMessageOfManyFrames(t *testing.T) {
	var message []byte
	var want []Frame
	for _, f := range samples() {
		if f.Kind().FromServer() {
			continue
		}
		message, want = Append(message, f), append(want, f)
	}
	d := FromClient(message)
	for i := range want {
		if got, err := d.Next(); err != nil || !reflect.DeepEqual(got, want[i]) {
			t.Fatalf("frame %d: %+v, %v", i, got, err)
		}
	}
}

// A body of any length has a length in front that is as short as can be.
func TestLengths(t *testing.T) {
	for n := range 20_000 {
		if n > 300 && n < 16_200 {
			continue
		}
		f := &Goaway{Reason: string(bytes.Repeat([]byte("x"), n))}
		got, err := FromServer(Append([]byte("front")[:5:5], f)[5:]).Next()
		if err != nil || got.(*Goaway).Reason != f.Reason {
			t.Fatalf("%d bytes: %v", n, err)
		}
	}
}

func TestMalformed(t *testing.T) {
	for name, p := range map[string][]byte{
		"kind 0":               {0, 0},
		"kind unknown":         {63, 0},
		"no length":            {byte(KindPing)},
		"length too long":      {byte(KindPing), 2, 1},
		"length not minimal":   {byte(KindPing), 0x81, 0, 1},
		"length huge":          append([]byte{byte(KindPing)}, wire.Uint(nil, 1<<63)...),
		"body too long":        {byte(KindPing), 2, 1, 1},
		"from the other side":  Append(nil, &Pong{ID: 1}),
		"hello of a kind":      {byte(KindHello), 4, 1, 0, 0, 3},
		"scope unknown":        {byte(KindWatch), 10, 1, 0, 3, 0, 0, 0, 0, 0, 0, 0},
		"start unknown":        {byte(KindWatch), 10, 1, 0, 0, 0, 3, 0, 0, 0, 0, 0},
		"level unknown":        {byte(KindWatch), 10, 1, 0, 0, 0, 0, 0, 4, 0, 0, 0},
		"verb unknown":         {byte(KindWrite), 5, 1, 0, 0, 0, 200},
		"txn within txn":       {byte(KindWrite), 10, 1, 0, 0, 0, byte(op.VerbTxn), 1, byte(op.VerbTxn), 0, 0, 0},
		"duration beyond 64 b": append([]byte{byte(KindRead), 11, 1, 2}, wire.Int(nil, 1<<62)...),
	} {
		if f, err := FromClient(p).Next(); !errors.Is(err, wire.ErrMalformed) {
			t.Errorf("%s: %+v, %v", name, f, err)
		}
	}
	event := func(zxid2 uint64, kind, of byte) []byte {
		b := []byte{7, 9, 2, 5, byte(op.Created), 0, 0, 0, 0}
		b = append(wire.Uint(b, zxid2), kind, of, 0, 0, 0)
		return append([]byte{byte(KindEvents), byte(len(b))}, b...)
	}
	if _, err := FromServer(event(1, byte(op.Deleted), 1)).Next(); err != nil {
		t.Errorf("a good one: %v", err)
	}
	for name, p := range map[string][]byte{
		"no type": event(1, 0, 0), "type unknown": event(1, 5, 0), "kind unknown": event(1, 1, 4),
		"zxid beyond 64 bits": event(1<<64-1, 1, 0), "from the other side": Append(nil, &Ping{ID: 1}),
		"huge list": append([]byte{byte(KindEvents), 12, 7, 9}, wire.Uint(nil, 1<<63)...),
	} {
		if f, err := FromServer(p).Next(); !errors.Is(err, wire.ErrMalformed) {
			t.Errorf("%s: %+v, %v", name, f, err)
		}
	}
}

// Bytes alias the message and can't be appended into what follows; strings are copies.
func TestAliasing(t *testing.T) {
	message := Append(nil, &Write{ID: 1, Key: "key", Op: &op.Set{Path: "/a", Data: []byte("data"), If: op.Always}})
	f, err := FromClient(message).Next()
	if err != nil {
		t.Fatal(err)
	}
	clear(message)
	w := f.(*Write)
	set := w.Op.(*op.Set)
	if w.Key != "key" || set.Path != "/a" || string(set.Data) != "\x00\x00\x00\x00" || cap(set.Data) != 4 {
		t.Errorf("got %q, %q, %q", w.Key, set.Path, set.Data)
	}
}

// Whatever is accepted is what would have been sent.
func FuzzDecode(f *testing.F) {
	for _, x := range samples() {
		f.Add(Append(nil, x), x.Kind().FromServer())
	}
	f.Fuzz(func(t *testing.T, p []byte, fromServer bool) {
		d := &Decoder{rest: p, fromServer: fromServer}
		var again []byte
		for {
			x, err := d.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				if !errors.Is(err, wire.ErrMalformed) {
					t.Fatalf("error %v", err)
				}
				return
			}
			again = Append(again, x)
		}
		if !bytes.Equal(again, p) {
			t.Errorf("%x is decoded to what is encoded as %x", p, again)
		}
	})
}
