// Package frame is the binary protocol between a client and a member: WebSocket messages under the subprotocol
// coord.v1.bin, each of one or more frames. docs/websocket.md has the layout of each frame, and what is sent when.
//
// A frame is a kind, the length of its body as a varint, and the body in the canonical notation of op/wire. A writer
// puts what waits into one message. Equal frames have equal bytes, and a decoder accepts nothing that an encoder would
// not write.
//
// # Aliasing
//
// Strings of a decoded frame are copies. Everything that is a []byte (data of nodes, secrets, metadata) aliases the
// message: a receiver that reads the next message into the same buffer must be done with the frames of the last one.
//
// # What hurts
//
// Decoding allocates in proportion to the message's length and never more, but a node of fifteen bytes becomes a struct
// of a hundred and fifty: limit what is read from an untrusted peer.
package frame
