package peer

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// Transfer is a snapshot on its way in, as its receiver reads it, until Handler.Snapshot returns. It is not safe for concurrent use.
type Transfer struct {
	Header []byte
	Size   int64 // bytes of the whole snapshot

	frames *frameReader
	asked  bool
	offset int64  // of the next byte
	rest   []byte // of the newest chunk
	err    error  // that ended the reading

	writing sync.Mutex
	out     *bufio.Writer
}

var errReplaced = errors.New("peer: given up for a newer transfer of the same member, or because this one ends")

// ResumeAt asks the sender to begin at an offset, of which the receiver has everything before. It comes before the first Read, at most
// once; without it the sender begins at 0.
func (t *Transfer) ResumeAt(offset int64) error {
	if t.asked || offset < 0 || offset > t.Size {
		return fmt.Errorf("peer: can't resume at %d a snapshot of %d bytes (begun: %v)", offset, t.Size, t.asked)
	}
	t.asked = true
	t.offset = offset
	return t.write(kindResume, binary.BigEndian.AppendUint64(nil, uint64(offset)))
}

// Read returns io.EOF at Size and not before. Each piece was checked against its checksum; whether the whole is what was offered is
// for its reader to check.
func (t *Transfer) Read(p []byte) (int, error) {
	if !t.asked {
		t.err = t.ResumeAt(0)
	}
	if t.err == nil && len(t.rest) == 0 {
		t.rest, t.err = t.chunk()
	}
	if t.err != nil {
		return 0, t.err
	}
	n := copy(p, t.rest)
	t.rest = t.rest[n:]
	t.offset += int64(n)
	return n, nil
}

func (t *Transfer) chunk() ([]byte, error) {
	if t.offset == t.Size {
		return nil, io.EOF
	}
	f, err := t.frames.next()
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, fmt.Errorf("couldn't read the snapshot at offset %d: %w", t.offset, err)
	}
	d := decoder{rest: f.Payload}
	at := int64(d.uint64())
	if f.Kind != kindChunk || d.err != nil || len(d.rest) == 0 || at != t.offset || int64(len(d.rest)) > t.Size-t.offset {
		return nil, fmt.Errorf("peer: frame of kind %#x with offset %d and %d bytes, at offset %d of a snapshot of %d", f.Kind, at, len(d.rest), t.offset, t.Size)
	}
	return d.rest, nil
}

func (t *Transfer) write(kind uint8, payload []byte) error {
	t.writing.Lock()
	defer t.writing.Unlock()
	if err := writeFrame(t.out, kind, payload); err != nil {
		return err
	}
	return t.out.Flush()
}

// receiveSnapshot takes a transfer from its offer to its verdict.
func (p *peer) receiveSnapshot(ctx context.Context, conn net.Conn) {
	w := p.wire(conn)
	t := &Transfer{frames: newFrameReader(w, 8+maxHeader), out: bufio.NewWriterSize(w, 2*maxReason)}
	err := t.offer(p.net.cfg.MaxSnapshot)
	if err == nil {
		stop := t.assure(p.net.cfg.PingInterval)
		err = p.handOver(ctx, conn, t)
		stop()
	}
	p.complain.Do(func() { p.log.Info("snapshot from peer ended", "size", t.Size, "offset", t.offset, "error", err) })
	if t.write(kindVerdict, encodeVerdict(err)) == nil {
		linger(conn, p.net.cfg.HandshakeTimeout)
	}
}

func (t *Transfer) offer(max int64) error {
	f, err := t.frames.next()
	if err != nil {
		return err
	}
	d := decoder{rest: f.Payload}
	t.Size = int64(d.uint64())
	switch {
	case f.Kind != kindOffer || d.err != nil:
		return fmt.Errorf("peer: frame of kind %#x with %d bytes as a snapshot's offer", f.Kind, len(f.Payload))
	case t.Size < 0 || t.Size > max:
		return fmt.Errorf("peer: a snapshot of %d bytes, at most %d are allowed", t.Size, max)
	}
	t.Header = d.rest
	return nil
}

// handOver gives the transfer to the Handler once it is the only one of this peer. An older one ends: its connection may be the half
// that is left of one that broke, and two must not write the same file.
func (p *peer) handOver(ctx context.Context, conn net.Conn, t *Transfer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	p.transfers.Lock()
	p.replace()
	p.replace = func() { cancel(); conn.Close() }
	p.transfers.Unlock()
	select {
	case p.transfer <- struct{}{}:
		defer func() { <-p.transfer }()
		return p.net.cfg.Handler.Snapshot(ctx, p.id, t)
	case <-ctx.Done():
		return errReplaced
	}
}

// assure tells the sender that this side lives, also while it is busy with what it has received.
func (t *Transfer) assure(every time.Duration) (stop func()) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
			}
			if t.write(kindPong, nil) != nil { // the reading finds out why
				return
			}
		}
	})
	return func() { close(done); wg.Wait() }
}

// linger waits until the other side has closed. To close with bytes unread would reset the connection, and with it the verdict.
func linger(conn net.Conn, d time.Duration) {
	if conn.SetReadDeadline(time.Now().Add(d)) == nil {
		_, _ = io.Copy(io.Discard, conn)
	}
}
