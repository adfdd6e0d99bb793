package peer

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
)

func goodGreeting() greeting {
	return greeting{role: roleBulk, from: Identity{Cluster: 1, Member: 2, Boot: 3, Name: "n2"}, to: 4}
}

func TestGreetingComesBack(t *testing.T) {
	want := goodGreeting()
	got, err := decodeGreeting(want.encode())
	if err != nil || got != want {
		t.Fatalf("got %+v, %v", got, err)
	}
}

func TestGreetingWithAnythingAbsentIsRefused(t *testing.T) {
	for name, spoil := range map[string]func(*greeting){
		"role":    func(g *greeting) { g.role = 0 },
		"role 4":  func(g *greeting) { g.role = 4 },
		"cluster": func(g *greeting) { g.from.Cluster = 0 },
		"member":  func(g *greeting) { g.from.Member = 0 },
		"to":      func(g *greeting) { g.to = 0 },
		"boot":    func(g *greeting) { g.from.Boot = 0 },
		"utf-8":   func(g *greeting) { g.from.Name = "\xff" },
		"name":    func(g *greeting) { g.from.Name = strings.Repeat("x", maxName+1) },
	} {
		g := goodGreeting()
		spoil(&g)
		if _, err := decodeGreeting(g.encode()); err == nil {
			t.Errorf("without a good %s: accepted", name)
		}
	}
	whole := goodGreeting().encode()
	for n := range whole {
		if _, err := decodeGreeting(whole[:n]); err == nil {
			t.Errorf("cut after %d bytes: accepted", n)
		}
	}
	if _, err := decodeGreeting(append(whole, 0)); err == nil {
		t.Error("a byte too many: accepted")
	}
}

func TestOpeningIsReadAloneAndChecked(t *testing.T) {
	whole := opening{version: protocolVersion, kind: openGreeting, body: goodGreeting().encode()}.encode()
	r := bytes.NewReader(append(bytes.Clone(whole), "rest"...))
	if o, err := readOpening(r); err != nil || o.kind != openGreeting || r.Len() != len("rest") {
		t.Fatalf("got %+v, %v, %d bytes left", o, err, r.Len())
	}
	for n := range whole {
		if _, err := readOpening(bytes.NewReader(whole[:n])); err != io.EOF && err != io.ErrUnexpectedEOF {
			t.Errorf("cut after %d bytes: %v", n, err)
		}
	}
	for bit := range len(whole) * 8 {
		damaged := bytes.Clone(whole)
		damaged[bit/8] ^= 1 << (bit % 8)
		if o, err := readOpening(bytes.NewReader(damaged)); err == nil {
			t.Errorf("bit %d flipped: %+v", bit, o)
		}
	}
}

func TestOpeningLayoutIsFrozen(t *testing.T) {
	got := opening{version: 1, kind: openRefusal, body: []byte("no")}.encode()
	want := "\xC7coordP\x01\x03\x00\x02" + string(got[11:15]) + "no"
	if string(got) != want || string(got[11:15]) != "\xf4\xd4\xed\xa0" {
		t.Fatalf("got %q", got)
	}
}

func TestAnswerOtherThanExpected(t *testing.T) {
	welcome := opening{version: protocolVersion, kind: openWelcome, body: []byte("body")}
	for name, row := range map[string]struct {
		answer opening
		want   string
	}{
		"welcome":                      {welcome, ""},
		"refusal":                      {opening{version: protocolVersion, kind: openRefusal, body: []byte("because")}, "refused: because"},
		"refusal in another version":   {opening{version: 9, kind: openRefusal, body: []byte("because")}, "refused: because"},
		"refusal that is not text":     {opening{version: 9, kind: openRefusal, body: []byte("\xff\n")}, "refused: ?\n"},
		"refusal of many words":        {opening{version: 1, kind: openRefusal, body: bytes.Repeat([]byte("x"), 2*maxReason)}, "refused: " + strings.Repeat("x", maxReason)},
		"welcome in another version":   {opening{version: 9, kind: openWelcome}, "peer: answered in protocol version 9, this member speaks 1"},
		"greeting instead of welcome":  {opening{version: protocolVersion, kind: openGreeting}, "peer: answered with type 1, wanted 2"},
		"introduction where none fits": {opening{version: protocolVersion, kind: openMeet}, "peer: answered with type 4, wanted 2"},
	} {
		body, err := expect(bytes.NewReader(row.answer.encode()), openWelcome)
		if row.want == "" && (err != nil || string(body) != "body") || row.want != "" && (err == nil || err.Error() != row.want) {
			t.Errorf("%s: %q, %v", name, body, err)
		}
	}
	if _, err := expect(strings.NewReader("HTTP/1.1 400 Bad Request"), openWelcome); err == nil || errors.As(err, new(*RefusedError)) {
		t.Errorf("HTTP: %v", err)
	}
}

func FuzzGreeting(f *testing.F) {
	f.Add(opening{version: protocolVersion, kind: openGreeting, body: goodGreeting().encode()}.encode())
	f.Add(opening{version: protocolVersion, kind: openRefusal, body: []byte("no")}.encode())
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, wire []byte) {
		o, err := readOpening(bytes.NewReader(wire))
		if err != nil {
			return
		}
		if !bytes.HasPrefix(wire, o.encode()) {
			t.Fatalf("read an opening that was not there: %+v", o)
		}
		if g, err := decodeGreeting(o.body); err == nil && !bytes.Equal(g.encode(), o.body) {
			t.Fatalf("two encodings of one greeting: %+v", g)
		}
	})
}

// FuzzGreetingBody gets past the checksum.
func FuzzGreetingBody(f *testing.F) {
	f.Add(goodGreeting().encode())
	f.Fuzz(func(t *testing.T, body []byte) {
		g, err := decodeGreeting(body)
		if err == nil && (g.complete() != nil || !bytes.Equal(g.encode(), body)) {
			t.Fatalf("accepted %+v", g)
		}
	})
}
