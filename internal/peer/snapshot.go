package peer

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// SendSnapshot offers size bytes of r to another member on a connection of its own, sends them from the offset that it asks for, and
// waits for its verdict. It returns nil if the Handler there returned nil; a *RefusedError with its words if it said no, which it may
// do at any time; or what broke the connection, and then another attempt can continue where this one ended. header goes first, at most
// 1 MiB. progress, if not nil, is called with the offset up to which bytes were handed to the connection. The receiver may install what
// it has received for as long as it likes: only ctx bounds that.
func (n *Network) SendSnapshot(ctx context.Context, to uint64, header []byte, size int64, r io.ReaderAt, progress func(offset int64)) error {
	p := n.peer(to)
	if p == nil {
		return fmt.Errorf("peer: no member %x to send a snapshot to", to)
	}
	if len(header) > maxHeader || size < 0 {
		return fmt.Errorf("peer: a snapshot of %d bytes with a header of %d", size, len(header))
	}
	conn, _, stop, err := p.connect(ctx, roleSnapshot)
	if err != nil {
		return err
	}
	defer stop()
	if err := newSending(p.wire(conn), size, progress).run(header, r); err != nil {
		return fmt.Errorf("couldn't send a snapshot to member %x: %w", to, errors.Join(err, ctx.Err()))
	}
	return nil
}

// sending is a transfer seen from its sender: one goroutine writes, another listens.
type sending struct {
	conn     *wire
	out      *bufio.Writer
	size     int64
	progress func(int64)
	resume   chan int64    // receives the offset that the receiver asks for, at most once
	ended    chan struct{} // closed when the listener has ended, and with it the connection

	// Of the listener, until ended.
	frames  *frameReader
	decided bool
	verdict error // what the receiver decided; or, if it has not, why nothing is heard of it any more
}

func newSending(conn *wire, size int64, progress func(int64)) *sending {
	conn.stall = 0 // a receiver may be busy with its disk for long: whether it lives is what the listener hears
	if progress == nil {
		progress = func(int64) {}
	}
	return &sending{
		conn:     conn,
		out:      bufio.NewWriterSize(conn, bufferSize),
		size:     size,
		progress: progress,
		resume:   make(chan int64, 1),
		ended:    make(chan struct{}),
		frames:   newFrameReader(conn, 1+maxReason),
	}
}

// run leaves the connection closed.
func (s *sending) run(header []byte, r io.ReaderAt) error {
	go s.listen()
	err := s.send(header, r)
	if err != nil {
		s.conn.Close()
	}
	<-s.ended
	if err == nil || s.decided || closedHere(err) {
		return s.verdict
	}
	return err
}

func (s *sending) send(header []byte, r io.ReaderAt) error {
	size := binary.BigEndian.AppendUint64(nil, uint64(s.size))
	if err := s.write(kindOffer, size, header); err != nil {
		return err
	}
	select {
	case offset := <-s.resume:
		return s.copy(r, offset)
	case <-s.ended:
		return nil
	}
}

func (s *sending) copy(r io.ReaderAt, offset int64) error {
	buf := make([]byte, chunkSize)
	for offset < s.size {
		chunk := buf[:min(chunkSize, s.size-offset)]
		if n, err := r.ReadAt(chunk, offset); n < len(chunk) {
			return fmt.Errorf("couldn't read the snapshot at offset %d: %w", offset+int64(n), err)
		}
		if err := s.write(kindChunk, binary.BigEndian.AppendUint64(nil, uint64(offset)), chunk); err != nil {
			return err
		}
		offset += int64(len(chunk))
		s.progress(offset)
	}
	return nil
}

func (s *sending) write(kind uint8, parts ...[]byte) error {
	if err := writeFrame(s.out, kind, parts...); err != nil {
		return err
	}
	return s.out.Flush()
}

func (s *sending) listen() {
	defer close(s.ended)
	s.verdict = s.hear()
	s.conn.Close() // ends a write that nobody wants any more
}

func (s *sending) hear() error {
	resumed := false
	for {
		f, err := s.frames.next()
		d := decoder{rest: f.Payload}
		switch {
		case err != nil:
			return fmt.Errorf("lost the receiver: %w", err)
		case f.Kind == kindPong:
		case f.Kind == kindResume && !resumed:
			offset := int64(d.uint64())
			if d.end() != nil || offset < 0 || offset > s.size {
				return fmt.Errorf("peer: asked to resume a snapshot of %d bytes at %d", s.size, offset)
			}
			resumed = true
			s.resume <- offset
		case f.Kind == kindVerdict && len(f.Payload) > 0:
			s.decided = true
			return decodeVerdict(f.Payload)
		default:
			return fmt.Errorf("peer: frame of kind %#x from the receiver of a snapshot", f.Kind)
		}
	}
}

// A verdict is one byte, 1 for accepted and 0 for refused, and words in the latter case.
func encodeVerdict(err error) []byte {
	if err == nil {
		return []byte{1}
	}
	return append([]byte{0}, clip(err.Error())...)
}

func decodeVerdict(b []byte) error {
	if b[0] == 1 {
		return nil
	}
	return &RefusedError{Reason: clip(string(b[1:]))}
}
