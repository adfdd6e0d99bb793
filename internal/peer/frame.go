package peer

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// A frame on the wire, integers big-endian:
//
//	+-----------+---------+-----------+---------...
//	| length 4  | kind 1  | CRC32C 4  | payload
//	+-----------+---------+-----------+---------...
//
// length counts the payload alone. The checksum covers length, kind and payload, so that a frame read at the wrong place, or with a
// damaged length, is never taken for another one.
const frameHeader = 9

// Kinds of the package's own frames, above MaxKind.
const (
	kindPing    = 0xF0 + iota // 8 bytes that the answer repeats
	kindPong                  // the ping's 8 bytes; or empty: bytes are arriving, though no ping has for a while
	kindOffer                 // a snapshot's size and header
	kindResume                // the offset from which the receiver wants it
	kindChunk                 // offset and bytes
	kindVerdict               // one byte, 1 for accepted, and words
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var errChecksum = errors.New("peer: frame with a wrong checksum")

// writeFrame buffers one frame; the parts, end to end, become its payload. They are not kept.
func writeFrame(w *bufio.Writer, kind uint8, parts ...[]byte) error {
	length := 0
	for _, p := range parts {
		length += len(p)
	}
	head := binary.BigEndian.AppendUint32(w.AvailableBuffer(), uint32(length))
	head = append(head, kind)
	sum := crc32.Update(0, castagnoli, head)
	for _, p := range parts {
		sum = crc32.Update(sum, castagnoli, p)
	}
	if _, err := w.Write(binary.BigEndian.AppendUint32(head, sum)); err != nil {
		return err
	}
	for _, p := range parts {
		if _, err := w.Write(p); err != nil {
			return err
		}
	}
	return nil
}

// frameReader reads frames of at most max payload bytes.
type frameReader struct {
	r    *bufio.Reader
	max  int
	head [frameHeader]byte
}

func newFrameReader(r io.Reader, max int) *frameReader {
	return &frameReader{r: bufio.NewReaderSize(r, bufferSize), max: max}
}

// next returns a frame whose payload the caller owns. It returns io.EOF only if the stream ends between two frames.
func (fr *frameReader) next() (Frame, error) {
	if _, err := io.ReadFull(fr.r, fr.head[:]); err != nil {
		return Frame{}, err
	}
	length := binary.BigEndian.Uint32(fr.head[:])
	if int64(length) > int64(fr.max) {
		return Frame{}, fmt.Errorf("peer: frame of %d bytes, at most %d are allowed here", length, fr.max)
	}
	payload, err := readGrowing(fr.r, int(length))
	if err != nil {
		return Frame{}, err
	}
	sum := crc32.Update(crc32.Update(0, castagnoli, fr.head[:5]), castagnoli, payload)
	if sum != binary.BigEndian.Uint32(fr.head[5:]) {
		return Frame{}, errChecksum
	}
	return Frame{Kind: fr.head[4], Payload: payload}, nil
}

// more reports whether the next frame has arrived whole.
func (fr *frameReader) more() bool {
	n := fr.r.Buffered() - len(fr.head)
	if n < 0 {
		return false
	}
	head, _ := fr.r.Peek(len(fr.head))
	return int64(binary.BigEndian.Uint32(head)) <= int64(n)
}

// readGrowing reads n bytes, never holding more than about twice what has arrived: a length costs its sender as many bytes as it
// costs us.
func readGrowing(r io.Reader, n int) ([]byte, error) {
	buf := make([]byte, min(n, firstAlloc))
	read := 0
	for {
		m, err := io.ReadFull(r, buf[read:])
		read += m
		switch {
		case err == io.EOF && n > 0:
			return nil, io.ErrUnexpectedEOF
		case err != nil:
			return nil, err
		case read == n:
			return buf, nil
		}
		grown := make([]byte, min(n, 2*len(buf)))
		copy(grown, buf)
		buf = grown
	}
}
