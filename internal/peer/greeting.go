package peer

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strings"
	"unicode/utf8"
)

// An opening is what the two sides say before any frame. The dialler sends a greeting, the acceptor a welcome, the dialler a
// confirmation: the stream stands for each once the other has said that it believes it. Either may send a refusal instead.
//
//	+----------+------------+---------+-----------+-----------+------...
//	| magic 7  | version 1  | type 1  | length 2  | CRC32C 4  | body
//	+----------+------------+---------+-----------+-----------+------...
//
// The checksum covers version, type, length and body. The shape of an opening and of a refusal is the same in every version, so that
// members of different versions can tell each other why they don't talk.
const (
	magic           = "\xC7coordP"
	protocolVersion = 1
	openingHeader   = len(magic) + 1 + 1 + 2 + 4
)

// Types of openings.
const (
	openGreeting = 1 + iota // a dialler's: who I am, whom I want, what for
	openWelcome             // its answer: the same, seen from the other side
	openRefusal             // its answer: words
	openMeet                // a first-start question, and its answer
	openConfirm             // a dialler's, to a welcome that it believes, without a body: frames follow
)

// role is what a connection is for.
type role uint8

const (
	roleUrgent   = role(Urgent)
	roleBulk     = role(Bulk)
	roleSnapshot = role(3)
)

func (r role) String() string {
	if r == roleSnapshot {
		return "snapshot"
	}
	return Class(r).String()
}

// RefusedError says that the other side was reached and said no: to the connection, or to a snapshot.
type RefusedError struct {
	Reason string // its words
}

func (e *RefusedError) Error() string { return "refused: " + e.Reason }

type opening struct {
	version uint8
	kind    uint8
	body    []byte
}

func (o opening) encode() []byte {
	b := append(make([]byte, 0, openingHeader+len(o.body)), magic...)
	b = append(b, o.version, o.kind)
	b = binary.BigEndian.AppendUint16(b, uint16(len(o.body)))
	sum := crc32.Update(crc32.Checksum(b[len(magic):], castagnoli), castagnoli, o.body)
	b = binary.BigEndian.AppendUint32(b, sum)
	return append(b, o.body...)
}

// readOpening reads exactly one opening: what follows it stays in r.
func readOpening(r io.Reader) (opening, error) {
	var head [openingHeader]byte
	if _, err := io.ReadFull(r, head[:len(magic)]); err != nil {
		return opening{}, err
	}
	if !bytes.Equal(head[:len(magic)], []byte(magic)) {
		return opening{}, fmt.Errorf("peer: not the protocol between members: it begins with %q", head[:len(magic)])
	}
	if _, err := io.ReadFull(r, head[len(magic):]); err != nil {
		return opening{}, err
	}
	rest := head[len(magic):]
	body, err := readGrowing(r, int(binary.BigEndian.Uint16(rest[2:])))
	if err != nil {
		return opening{}, err
	}
	sum := crc32.Update(crc32.Checksum(rest[:4], castagnoli), castagnoli, body)
	if sum != binary.BigEndian.Uint32(rest[4:]) {
		return opening{}, errChecksum
	}
	return opening{version: rest[0], kind: rest[1], body: body}, nil
}

// expect reads the answer to an opening: one of the type wanted, or why not.
func expect(r io.Reader, kind uint8) ([]byte, error) {
	o, err := readOpening(r)
	switch {
	case err != nil:
		return nil, err
	case o.kind == openRefusal:
		return nil, &RefusedError{Reason: clip(string(o.body))}
	case o.version != protocolVersion:
		return nil, fmt.Errorf("peer: answered in protocol version %d, this member speaks %d", o.version, protocolVersion)
	case o.kind != kind:
		return nil, fmt.Errorf("peer: answered with type %d, wanted %d", o.kind, kind)
	}
	return o.body, nil
}

func send(w io.Writer, kind uint8, body []byte) error {
	_, err := w.Write(opening{version: protocolVersion, kind: kind, body: body}.encode())
	return err
}

func refuse(w io.Writer, reason string) error {
	return send(w, openRefusal, []byte(clip(reason)))
}

// clip makes words from elsewhere fit to be sent and logged.
func clip(reason string) string {
	return strings.ToValidUTF8(reason[:min(len(reason), maxReason)], "?")
}

// greeting is the body of openGreeting and of openWelcome.
type greeting struct {
	role role
	from Identity
	to   uint64
	last uint64 // index of the last entry of the speaker's log
	torn bool   // whose end was cut, as the speaker knows
}

func (g greeting) encode() []byte {
	b := []byte{byte(g.role)}
	for _, v := range []uint64{g.from.Cluster, g.from.Member, g.to, g.from.Boot, g.last} {
		b = binary.BigEndian.AppendUint64(b, v)
	}
	b = append(b, 0)
	if g.torn {
		b[len(b)-1] = 1
	}
	return appendString(b, g.from.Name)
}

func decodeGreeting(b []byte) (greeting, error) {
	d := decoder{rest: b}
	g := greeting{role: role(d.uint8())}
	g.from.Cluster, g.from.Member, g.to, g.from.Boot = d.uint64(), d.uint64(), d.uint64(), d.uint64()
	g.last, g.torn = d.uint64(), d.bool()
	g.from.Name = d.string(maxName)
	if err := d.end(); err != nil {
		return greeting{}, fmt.Errorf("peer: malformed greeting: %w", err)
	}
	return g, g.complete()
}

// complete refuses what is absent: a check that passes because there is nothing to check is the oldest hole of peer ports.
func (g greeting) complete() error {
	switch {
	case g.role < roleUrgent || g.role > roleSnapshot:
		return fmt.Errorf("peer: greeting for an unknown purpose %d", g.role)
	case g.from.Cluster == 0 || g.from.Member == 0 || g.to == 0 || g.from.Boot == 0:
		return errors.New("peer: greeting without a cluster, a member, a recipient or a boot number")
	}
	return nil
}

// decoder takes fields off the front of a body; the first that isn't there makes all later ones zero and end say so.
type decoder struct {
	rest []byte
	err  error
}

func (d *decoder) take(n int) []byte {
	if d.err == nil && len(d.rest) < n {
		d.err = io.ErrUnexpectedEOF
	}
	if d.err != nil {
		return nil
	}
	taken := d.rest[:n]
	d.rest = d.rest[n:]
	return taken
}

func (d *decoder) uint8() uint8 {
	if b := d.take(1); b != nil {
		return b[0]
	}
	return 0
}

// bool accepts 0 and 1 alone: equal values have equal bytes.
func (d *decoder) bool() bool {
	b := d.uint8()
	if d.err == nil && b > 1 {
		d.err = fmt.Errorf("a truth value of %d", b)
	}
	return b == 1
}

func (d *decoder) uint16() uint16 {
	if b := d.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (d *decoder) uint64() uint64 {
	if b := d.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func (d *decoder) string(max int) string {
	n := int(d.uint16())
	if d.err == nil && n > max {
		d.err = fmt.Errorf("a text of %d bytes, at most %d are allowed", n, max)
	}
	s := string(d.take(n))
	if d.err == nil && !utf8.ValidString(s) {
		d.err = errors.New("a text that isn't UTF-8")
	}
	return s
}

// count reads a number of items of at least size bytes each.
func (d *decoder) count(max, size int) int {
	n := int(d.uint8())
	if d.err == nil && n > max {
		d.err = fmt.Errorf("a list of %d, at most %d are allowed", n, max)
	}
	if d.err == nil && n*size > len(d.rest) {
		d.err = io.ErrUnexpectedEOF
	}
	if d.err != nil {
		return 0
	}
	return n
}

func (d *decoder) end() error {
	if d.err == nil && len(d.rest) > 0 {
		return fmt.Errorf("%d bytes too many", len(d.rest))
	}
	return d.err
}

func appendString(b []byte, s string) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(len(s)))
	return append(b, s...)
}
