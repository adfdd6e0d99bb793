package storage

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"

	pb "go.etcd.io/raft/v3/raftpb"
)

// A checkpoint is a stream: a header, blocks of an opaque content, and a trailer.
//
//	header   magic [8] | version u32 | length u32 | Header | crc u32
//	block    length u32 (1 to blockSize) | crc u32 | content
//	trailer  0 u32 | crc u32 | length of the content u64 | SHA-256 of all bytes before it [32]
//
// Each crc is the CRC32C of the crc before it and of what it stands for: so blocks can't be lost, doubled or exchanged.
// Nothing is read twice or needed in advance: the same bytes are a file, a snapshot on its way to another member, and a backup.
const (
	checkpointVersion = 1
	blockSize         = 64 << 10
	maxHeader         = 1 << 20
	trailerSize       = 4 + 4 + 8 + sha256.Size
)

var checkpointMagic = [8]byte{'c', 'o', 'o', 'r', 'd', 'c', 'k', 'p'}

// Header says of which state a checkpoint's content is.
type Header struct {
	ClusterID uint64
	Position           // the last entry applied
	Zxid      uint64   // of the last request decided
	Digest    [16]byte // of the state
	ConfState *pb.ConfState
	Meta      []byte // the caller's
}

func (h *Header) appendTo(b []byte) []byte {
	b = binary.LittleEndian.AppendUint64(b, h.ClusterID)
	b = h.Position.appendTo(b)
	b = binary.LittleEndian.AppendUint64(b, h.Zxid)
	b = append(b, h.Digest[:]...)
	return appendBytes(appendConf(b, h.ConfState), h.Meta)
}

func (d *decoder) header() Header {
	return Header{
		ClusterID: d.u64(),
		Position:  d.position(),
		Zxid:      d.u64(),
		Digest:    [16]byte(d.take(16)),
		ConfState: d.conf(),
		Meta:      bytes.Clone(d.bytes()),
	}
}

// Info names a checkpoint file and everything that must be true of it.
type Info struct {
	Header
	File string   // name in the data directory; empty in another's
	Size int64    // bytes
	Sum  [32]byte // the SHA-256 in its trailer
}

// Append appends the info without the file's name, as a member tells another what it is about to send.
func (i *Info) Append(b []byte) []byte {
	b = binary.LittleEndian.AppendUint64(b, uint64(i.Size))
	b = append(b, i.Sum[:]...)
	return i.Header.appendTo(b)
}

// ParseInfo reads what Append wrote. Any input gives an info or an error.
func ParseInfo(b []byte) (*Info, error) {
	d := decoder{b: b}
	i := d.info()
	if err := d.done(); err != nil {
		return nil, fmt.Errorf("couldn't read the description of a checkpoint: %w", err)
	}
	return i, nil
}

func (d *decoder) info() *Info {
	i := &Info{Size: int64(d.u64()), Sum: [32]byte(d.take(32))}
	i.Header = d.header()
	if i.Size < 0 {
		d.fail()
	}
	return i
}

// CheckpointWriter writes a checkpoint. Close completes it.
type CheckpointWriter struct {
	w     io.Writer
	hash  hash.Hash
	crc   uint32
	block []byte // the block being filled, behind room for its frame
	size  int64
	data  uint64
	sum   [32]byte
	err   error
}

const blockFrame = 4 + 4

// NewCheckpointWriter writes the header. Each block reaches w in one write.
func NewCheckpointWriter(w io.Writer, h *Header) (*CheckpointWriter, error) {
	payload := h.appendTo(nil)
	if len(payload) > maxHeader {
		return nil, fmt.Errorf("couldn't write a checkpoint whose header has %d bytes: %d is the limit", len(payload), maxHeader)
	}
	b := binary.LittleEndian.AppendUint32(checkpointMagic[:], checkpointVersion)
	b = append(binary.LittleEndian.AppendUint32(b, uint32(len(payload))), payload...)
	c := &CheckpointWriter{w: w, hash: sha256.New(), crc: chain(0, b), block: make([]byte, blockFrame, blockFrame+blockSize)}
	if err := c.write(binary.LittleEndian.AppendUint32(b, c.crc)); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *CheckpointWriter) write(b []byte) error {
	if c.err == nil {
		c.hash.Write(b)
		c.size += int64(len(b))
		_, c.err = c.w.Write(b)
	}
	return c.err
}

// Write adds to the content. After an error every later call returns it.
func (c *CheckpointWriter) Write(p []byte) (int, error) {
	written := 0
	for len(p) > 0 && c.err == nil {
		n := min(len(p), cap(c.block)-len(c.block))
		c.block = append(c.block, p[:n]...)
		p, written = p[n:], written+n
		if len(c.block) == cap(c.block) {
			c.flush()
		}
	}
	return written, c.err
}

func (c *CheckpointWriter) flush() {
	n := len(c.block) - blockFrame
	if n == 0 {
		return
	}
	binary.LittleEndian.PutUint32(c.block, uint32(n))
	c.crc = blockSum(c.crc, c.block)
	binary.LittleEndian.PutUint32(c.block[4:], c.crc)
	c.data += uint64(n)
	_ = c.write(c.block)
	c.block = c.block[:blockFrame]
}

// blockSum is the checksum of a frame, leaving out the place of the checksum itself.
func blockSum(prev uint32, frame []byte) uint32 {
	return chain(chain(prev, frame[:4]), frame[blockFrame:])
}

// Close writes what is buffered and the trailer. It doesn't close the writer below.
func (c *CheckpointWriter) Close() error {
	c.flush()
	b := make([]byte, blockFrame, trailerSize)
	b = binary.LittleEndian.AppendUint64(b, c.data)
	binary.LittleEndian.PutUint32(b[4:], blockSum(c.crc, b))
	if c.write(b) != nil {
		return c.err
	}
	c.hash.Sum(c.sum[:0])
	if c.write(c.sum[:]) == nil {
		c.err = errors.New("the checkpoint is complete")
		return nil
	}
	return c.err
}

// Size returns the length of the stream in bytes once Close returned nil.
func (c *CheckpointWriter) Size() int64 { return c.size }

// Sum returns the SHA-256 in the trailer once Close returned nil.
func (c *CheckpointWriter) Sum() [32]byte { return c.sum }

// CheckpointReader reads the content of a checkpoint. It hands out no byte of a block that it has not verified, and io.EOF only
// after a trailer that fits all that came before. It takes from the stream below no more than the checkpoint.
type CheckpointReader struct {
	r      io.Reader
	name   string
	header Header
	hash   hash.Hash
	crc    uint32
	frame  []byte // the current block
	unread []byte // of it
	off    int64  // of what is read next
	data   uint64
	sum    [32]byte
	want   *Info // what size and sum must be, when known
	err    error
}

// NewCheckpointReader reads and verifies the header. The name stands in errors. What is wrong with the stream is a CorruptError
// with the offset, or a RefusedError when a newer version wrote it; what is wrong below it is passed on.
func NewCheckpointReader(r io.Reader, name string) (*CheckpointReader, error) {
	c := &CheckpointReader{r: r, name: name, hash: sha256.New(), frame: make([]byte, blockFrame+blockSize)}
	if err := c.readHeader(); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *CheckpointReader) readHeader() error {
	start := make([]byte, 16)
	if err := c.fill(start); err != nil {
		return err
	}
	if [8]byte(start) != checkpointMagic {
		return c.corrupt(0, "it doesn't begin as a checkpoint does")
	}
	if v := binary.LittleEndian.Uint32(start[8:]); v != checkpointVersion {
		return &RefusedError{c.name, fmt.Sprintf("its format is %d, and this program knows only %d", v, checkpointVersion),
			"use the version of coord that wrote it, or a newer one; if that is this one, the file is damaged at byte 8"}
	}
	n := binary.LittleEndian.Uint32(start[12:])
	if n > maxHeader {
		return c.corrupt(12, fmt.Sprintf("a header of %d bytes is too long", n))
	}
	rest := make([]byte, n+4)
	if err := c.fill(rest); err != nil {
		return err
	}
	c.crc = chain(chain(0, start), rest[:n])
	if c.crc != binary.LittleEndian.Uint32(rest[n:]) {
		return c.corrupt(0, "the header's checksum doesn't match")
	}
	d := decoder{b: rest[:n]}
	c.header = d.header()
	if d.done() != nil {
		return c.corrupt(16, "the header is malformed")
	}
	return nil
}

// fill reads exactly len(p) bytes.
func (c *CheckpointReader) fill(p []byte) error {
	n, err := io.ReadFull(c.r, p)
	c.off += int64(n)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return c.corrupt(c.off, "it ends too early")
	}
	if err != nil {
		return fmt.Errorf("couldn't read %s: %w", c.name, err)
	}
	c.hash.Write(p)
	return nil
}

func (c *CheckpointReader) corrupt(off int64, reason string) error {
	return &CorruptError{c.name, off, reason}
}

// Header returns what the checkpoint says of itself. It is verified.
func (c *CheckpointReader) Header() Header { return c.header }

// Info describes the checkpoint. It is valid once Read returned io.EOF.
func (c *CheckpointReader) Info() *Info {
	return &Info{Header: c.header, Size: c.off, Sum: c.sum}
}

// Read implements io.Reader over the content.
func (c *CheckpointReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for len(c.unread) == 0 && c.err == nil {
		c.err = c.next()
	}
	if len(c.unread) == 0 {
		return 0, c.err
	}
	n := copy(p, c.unread)
	c.unread = c.unread[n:]
	return n, nil
}

// next reads and verifies a block, or the trailer.
func (c *CheckpointReader) next() error {
	at := c.off
	if err := c.fill(c.frame[:blockFrame]); err != nil {
		return err
	}
	n := binary.LittleEndian.Uint32(c.frame)
	if n > blockSize {
		return c.corrupt(at, fmt.Sprintf("a block of %d bytes is too long", n))
	}
	size := int(n)
	if n == 0 {
		size = 8
	}
	frame := c.frame[:blockFrame+size]
	if err := c.fill(frame[blockFrame:]); err != nil {
		return err
	}
	c.crc = blockSum(c.crc, frame)
	if c.crc != binary.LittleEndian.Uint32(frame[4:]) {
		return c.corrupt(at, "a block's checksum doesn't match")
	}
	if n == 0 {
		return c.finish(at, binary.LittleEndian.Uint64(frame[blockFrame:]))
	}
	c.data += uint64(n)
	c.unread = frame[blockFrame:]
	return nil
}

// finish verifies the trailer at the offset and returns io.EOF.
func (c *CheckpointReader) finish(at int64, data uint64) error {
	if data != c.data {
		return c.corrupt(at, fmt.Sprintf("its content has %d bytes, and the trailer says %d", c.data, data))
	}
	c.hash.Sum(c.sum[:0])
	stored := make([]byte, sha256.Size)
	if err := c.fill(stored); err != nil {
		return err
	}
	if !bytes.Equal(stored, c.sum[:]) {
		return c.corrupt(at, "the SHA-256 of the whole doesn't match")
	}
	if c.want != nil && (c.want.Size != c.off || c.want.Sum != c.sum) {
		return c.corrupt(at, "it is whole, but another one than was announced")
	}
	return io.EOF
}
