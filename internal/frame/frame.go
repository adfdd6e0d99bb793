package frame

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/coord-kv/coord/op/wire"
)

// Subprotocol is what a client offers and a server confirms when they speak frames.
const Subprotocol = "coord.v1.bin"

// Kind says what a frame is. The list is closed and append-only; what clients send is below 64.
type Kind uint8

// The kinds of frames.
const (
	KindHello   Kind = 1
	KindWrite   Kind = 2
	KindRead    Kind = 3
	KindWatch   Kind = 4
	KindUnwatch Kind = 5
	KindPing    Kind = 6
	KindBye     Kind = 7
	KindAwait   Kind = 8

	KindWelcome      Kind = 64
	KindReply        Kind = 65
	KindWatching     Kind = 66
	KindInitial      Kind = 67
	KindEvents       Kind = 68
	KindBookmark     Kind = 69
	KindEnded        Kind = 70
	KindPong         Kind = 71
	KindFailed       Kind = 72
	KindSessionEnded Kind = 73
	KindGoaway       Kind = 74
)

// FromServer reports whether only servers send frames of this kind.
func (k Kind) FromServer() bool { return k >= 64 }

// String returns the kind's name, such as "hello".
func (k Kind) String() string {
	if int(k) < len(kindNames) && kindNames[k] != "" {
		return kindNames[k]
	}
	return fmt.Sprintf("kind_%d", uint8(k))
}

var kindNames = [...]string{
	KindHello: "hello", KindWrite: "write", KindRead: "read", KindWatch: "watch", KindUnwatch: "unwatch", KindPing: "ping",
	KindBye: "bye", KindAwait: "await", KindWelcome: "welcome", KindReply: "reply", KindWatching: "watching", KindInitial: "initial",
	KindEvents: "events", KindBookmark: "bookmark", KindEnded: "ended", KindPong: "pong", KindFailed: "failed",
	KindSessionEnded: "session_ended", KindGoaway: "goaway",
}

// Frame is one frame. Its concrete types are the pointers to the structs of this package.
type Frame interface {
	Kind() Kind
	append(b []byte) []byte
	decode(r *wire.Reader)
}

func newFrame(k Kind) Frame {
	switch k {
	case KindHello:
		return new(Hello)
	case KindWrite:
		return new(Write)
	case KindRead:
		return new(Read)
	case KindWatch:
		return new(Watch)
	case KindUnwatch:
		return new(Unwatch)
	case KindPing:
		return new(Ping)
	case KindBye:
		return new(Bye)
	case KindAwait:
		return new(Await)
	case KindWelcome:
		return new(Welcome)
	case KindReply:
		return new(Reply)
	case KindWatching:
		return new(Watching)
	case KindInitial:
		return new(Initial)
	case KindEvents:
		return new(Events)
	case KindBookmark:
		return new(Bookmark)
	case KindEnded:
		return new(Ended)
	case KindPong:
		return new(Pong)
	case KindFailed:
		return new(Failed)
	case KindSessionEnded:
		return new(SessionEnded)
	case KindGoaway:
		return new(Goaway)
	}
	return nil
}

// Append appends the frame to a message.
func Append(b []byte, f Frame) []byte {
	b = append(b, byte(f.Kind()), 0)
	body := len(b)
	b = f.append(b)
	n := uint64(len(b) - body)
	if n < 0x80 {
		b[body-1] = byte(n)
		return b
	}
	var length [binary.MaxVarintLen64]byte
	size := binary.PutUvarint(length[:], n)
	b = append(b, length[1:size]...) // makes room
	copy(b[body-1+size:], b[body:body+int(n)])
	copy(b[body-1:], length[:size])
	return b
}

// Decoder takes the frames of one message.
type Decoder struct {
	rest       []byte
	fromServer bool
	body       wire.Reader // of the frame that is being decoded
}

// FromClient returns a decoder of a message that a client has sent: a frame that only servers send is an error.
func FromClient(message []byte) *Decoder { return &Decoder{rest: message} }

// FromServer returns a decoder of a message that a server has sent.
func FromServer(message []byte) *Decoder { return &Decoder{rest: message, fromServer: true} }

// Next returns the next frame, or io.EOF behind the last one. Any other error wraps wire.ErrMalformed and means that
// the rest of the message, and whatever the peer sends after it, can't be trusted. The frame aliases the message.
func (d *Decoder) Next() (Frame, error) {
	if len(d.rest) == 0 {
		return nil, io.EOF
	}
	kind := Kind(d.rest[0])
	body, err := d.cut()
	if err != nil {
		return nil, fmt.Errorf("a frame of kind %s: %w", kind, err)
	}
	f := newFrame(kind)
	if f == nil || kind.FromServer() != d.fromServer {
		return nil, fmt.Errorf("%w: a frame of kind %s is not expected from this side", wire.ErrMalformed, kind)
	}
	d.body = *wire.NewReader(body)
	f.decode(&d.body)
	if err := d.body.Done(); err != nil {
		return nil, fmt.Errorf("a frame of kind %s: %w", kind, err)
	}
	return f, nil
}

// cut cuts the next frame off and returns what is in it.
func (d *Decoder) cut() ([]byte, error) {
	r := wire.NewReader(d.rest[1:])
	n := r.Uint()
	if n > uint64(r.Len()) {
		r.Fail("a body of %d bytes, of which %d came", n, r.Len())
	}
	if err := r.Err(); err != nil {
		return nil, err
	}
	start := len(d.rest) - r.Len()
	end := start + int(n)
	body := d.rest[start:end:end]
	d.rest = d.rest[end:]
	return body, nil
}
