package watch

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash/crc32"
	"testing"

	"github.com/coord-kv/coord/op"
	"github.com/coord-kv/coord/op/wire"
)

var secret = &op.ACLRef{ID: 7, List: []op.ACL{{Perms: op.AllPerm, Scheme: "digest", ID: "ann:x"}}}

func sample() []op.Event {
	return []op.Event{
		{Zxid: 101, Type: op.Created, Kind: op.Ephemeral, Path: "/a", ACL: openToAll},
		{Zxid: 101, Type: op.Changed, Path: "/b", Version: 3, ACL: secret},
		{Zxid: 103, Type: op.Deleted, Kind: op.TTL, Path: "/ä/c", Version: -2, ACL: openToAll},
		{Zxid: 500, Type: op.ACLChanged, Kind: op.Container, Path: "/", Version: 1, ACL: &op.ACLRef{ID: 1 << 40}},
	}
}

func pack(first op.Zxid, events []op.Event, last op.Zxid) Chunk {
	var p packer
	p.reset(first)
	for i := range events {
		p.add(&events[i])
	}
	return p.seal(9, last)
}

func TestChunkRoundTrip(t *testing.T) {
	packed := pack(100, sample(), 510)
	c, events, err := unpack(packed.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if !sameEvents(events, sample()) {
		t.Errorf("got %+v", events)
	}
	if c.First != 100 || c.Last != 510 || c.Events != 4 || c.Size != len(packed.Bytes) {
		t.Errorf("got %+v", c)
	}
	if events[0].ACL != events[2].ACL {
		t.Error("one list has become two")
	}
}

func TestEmptyChunk(t *testing.T) {
	c, events, err := unpack(pack(5, nil, 8).Bytes)
	if err != nil || len(events) != 0 || c.First != 5 || c.Last != 8 {
		t.Errorf("got %+v, %v, %v", c, events, err)
	}
}

// The form is stored: a change of it needs a new format number.
func TestChunkBytesAreFrozen(t *testing.T) {
	const frozen = "0164" + // format, first
		"9a0304" + // span, count
		"01" + "11" + "022f61" + "00" + // step, what, path, version
		"00" + "01" + "021f05776f726c6406616e796f6e65" + // acl, its id and list
		"00" + "02" + "022f62" + "06" + "01" + "07" + "021f0664696765737405616e6e3a78" +
		"02" + "33" + "052fc3a42f63" + "03" + "00" +
		"8d03" + "24" + "012f" + "02" + "02" + "808080808020" + "00"
	packed := pack(100, sample(), 510).Bytes
	if got := hex.EncodeToString(packed[:len(packed)-checksumBytes]); got != frozen {
		t.Errorf("got  %s\nwant %s", got, frozen)
	}
}

func TestEveryDamagedByteIsNoticed(t *testing.T) {
	packed := pack(100, sample(), 510).Bytes
	for i := range packed {
		bad := bytes.Clone(packed)
		bad[i] ^= 0x20
		if _, err := ParseChunk(1, bad); !errors.Is(err, wire.ErrMalformed) {
			t.Errorf("byte %d: %v", i, err)
		}
		if _, err := ParseChunk(1, packed[:i]); err == nil {
			t.Errorf("cut to %d bytes: no error", i)
		}
	}
}

// withChecksum returns the body as a chunk whose checksum is right.
func withChecksum(body []byte) []byte {
	return binary.BigEndian.AppendUint32(bytes.Clone(body), crc32.Checksum(body, castagnoli))
}

func TestMalformedChunksWithRightChecksum(t *testing.T) {
	acl := []byte{0, 1, 0} // list 0 with id 1, nil
	event := append([]byte{0, 0x11, 1, '/', 0}, acl...)
	for name, body := range map[string][]byte{
		"empty":               {},
		"unknown format":      {2, 1, 0, 0},
		"no header":           {1, 1},
		"span overflows":      append(wire.Uint(wire.Uint([]byte{1}, 1), 1<<64-1), 0),
		"more events":         append([]byte{1, 1, 0, 2}, event...),
		"huge count":          {1, 1, 0, 0xff, 0xff, 0xff, 0x7f},
		"bytes left over":     append(append([]byte{1, 1, 0, 1}, event...), 0),
		"event beyond last":   append([]byte{1, 1, 0, 1, 1, 0x11, 1, '/', 0}, acl...),
		"type 0":              append([]byte{1, 1, 0, 1, 0, 0x10, 1, '/', 0}, acl...),
		"type 5":              append([]byte{1, 1, 0, 1, 0, 0x15, 1, '/', 0}, acl...),
		"kind 4":              append([]byte{1, 1, 0, 1, 0, 0x41, 1, '/', 0}, acl...),
		"list from nowhere":   {1, 1, 0, 1, 0, 0x11, 1, '/', 0, 1, 1, 0},
		"list twice":          append(append([]byte{1, 1, 0, 2}, event...), 0, 0x11, 1, '/', 0, 1, 1, 0),
		"version too long":    append([]byte{1, 1, 0, 1, 0, 0x11, 1, '/', 0xff, 0xff, 0xff, 0xff, 0x7f}, acl...),
		"version not minimal": append([]byte{1, 1, 0, 1, 0, 0x11, 1, '/', 0x80, 0}, acl...),
	} {
		if _, _, err := unpack(withChecksum(body)); !errors.Is(err, wire.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := unpack(withChecksum(append([]byte{1, 1, 0, 1}, event...))); err != nil {
		t.Errorf("a good one: %v", err)
	}
}

func FuzzUnpack(f *testing.F) {
	for _, c := range []Chunk{pack(100, sample(), 510), pack(5, nil, 8), pack(1, sample()[:1], 101)} {
		f.Add(c.Bytes[:c.Size-checksumBytes])
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		packed := withChecksum(body)
		c, events, err := unpack(packed)
		if err != nil {
			return
		}
		if again := pack(c.First, events, c.Last); !bytes.Equal(again.Bytes, packed) {
			t.Errorf("not canonical: %x\nreads as %+v\nwhich is %x", packed, events, again.Bytes)
		}
	})
}
