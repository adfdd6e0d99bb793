package api

import (
	"io"

	"github.com/gorilla/websocket"

	"github.com/coord-kv/coord/internal/frame"
	"github.com/coord-kv/coord/op"
)

// wsCodec is one form of the messages. Both forms are of the same frames.
type wsCodec interface {
	messageType() int
	// next returns the next request of a message, and io.EOF behind the last: it is a frame.Frame or, in the JSON form
	// alone, a *contest. A *wsRefused is about one of them; any other error makes the rest of the message worthless.
	next(in *wsInput) (any, error)
	// append appends a frame that says all by itself.
	append(b []byte, f frame.Frame) []byte
	// appendReply appends what o was answered.
	appendReply(b []byte, o op.Op, r *frame.Reply) []byte
	// appendFailed appends that a request was refused.
	appendFailed(b []byte, id uint64, err error) []byte
	// message cuts the first message off what was appended.
	message(b []byte) (message, rest []byte)
}

// wsInput is a message that is being decoded.
type wsInput struct {
	message []byte
	begun   bool
	frames  frame.Decoder // of the message, once begun
}

// wsRefused is the error of a request that can be told from others by its id.
type wsRefused struct {
	id  uint64
	op  string // its name; "" if it has none that is known
	err error
}

func (e *wsRefused) Error() string { return e.err.Error() }

// binCodec is the form of internal/frame.
type binCodec struct{}

func (binCodec) messageType() int { return websocket.BinaryMessage }

func (binCodec) next(in *wsInput) (any, error) {
	if !in.begun {
		in.begun, in.frames = true, *frame.FromClient(in.message)
	}
	f, err := in.frames.Next()
	if err != nil && err != io.EOF {
		err = op.Errorf(op.BadRequest, "%s", err)
	}
	return f, err
}

func (binCodec) append(b []byte, f frame.Frame) []byte { return frame.Append(b, f) }

func (binCodec) appendReply(b []byte, _ op.Op, r *frame.Reply) []byte { return frame.Append(b, r) }

func (binCodec) appendFailed(b []byte, id uint64, err error) []byte {
	return frame.Append(b, &frame.Failed{ID: id, Err: unwrap(err).what})
}

func (binCodec) message(b []byte) (message, rest []byte) { return b, nil }
