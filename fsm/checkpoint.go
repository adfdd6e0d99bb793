package fsm

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/coord-kv/coord/op"
	"github.com/coord-kv/coord/op/wire"
)

// A checkpoint is the magic, then records, each as
//
//	tag (1 byte) | length (varint) | that many bytes
//
// part by part in the order of parts, and last a record tagEnd that holds the digest. Equal states have equal checkpoints, and each
// state has one.
const magic = "coord state 1\n"

// WriteTo writes the state, and returns how many bytes that took. It may take its time: the writer of the state goes on meanwhile.
func (v *View) WriteTo(w io.Writer) (int64, error) {
	out := &writer{w: bufio.NewWriterSize(w, 64<<10)}
	out.write([]byte(magic))
	for _, p := range parts {
		for record := range p.records(&v.state) {
			if out.record(p.tag, record); out.err != nil {
				return out.n, out.err
			}
		}
	}
	d := v.Digest()
	out.record(tagEnd, d[:])
	if out.err == nil {
		out.err = out.w.Flush()
	}
	return out.n, out.err
}

// writer counts what it writes, and keeps the first error.
type writer struct {
	w   *bufio.Writer
	n   int64
	err error
}

func (w *writer) write(p []byte) {
	if w.err == nil {
		var n int
		n, w.err = w.w.Write(p)
		w.n += int64(n)
	}
}

func (w *writer) record(tag byte, p []byte) {
	var head [1 + binary.MaxVarintLen64]byte
	head[0] = tag
	w.write(head[:1+binary.PutUvarint(head[1:], uint64(len(p)))])
	w.write(p)
}

// Restore reads what WriteTo has written, up to the end of r. It accepts nothing else: what is damaged, incomplete, or written by a
// newer version is an error. It takes memory in proportion to what it has read.
func Restore(r io.Reader) (*Machine, error) {
	l := newLoader(r)
	if err := l.run(); err != nil {
		return nil, fmt.Errorf("couldn't restore the state: %w", err)
	}
	return l.m, nil
}

// loader builds a state from records.
type loader struct {
	m      *Machine
	in     *bufio.Reader
	buf    bytes.Buffer
	tag    byte // of the last record
	way    []step
	last   string // the key of the last record, where keys ascend as strings
	lastID uint64 // where they ascend as numbers
}

var errDigest = errors.New("the digest of what it holds is not the one that was written")

// step is a node on the way from the root to the one that was loaded last.
type step struct {
	place
	last string // name of its last child so far
}

func newLoader(r io.Reader) *loader {
	return &loader{m: empty(), in: bufio.NewReaderSize(r, 64<<10)}
}

func (l *loader) run() error {
	head := make([]byte, len(magic))
	if _, err := io.ReadFull(l.in, head); err != nil {
		return cut(err)
	}
	if string(head) != magic {
		return errors.New("it doesn't begin like one that this version can read")
	}
	for {
		tag, err := l.next()
		switch {
		case err != nil:
			return err
		case tag == tagEnd:
			return l.end()
		}
		if err := l.load(tag); err != nil {
			return err
		}
	}
}

// next reads a record into l.buf.
func (l *loader) next() (tag byte, err error) {
	if tag, err = l.in.ReadByte(); err != nil {
		return 0, cut(err)
	}
	size, err := l.size()
	if err != nil {
		return 0, err
	}
	l.buf.Reset()
	// The length may be damaged too: memory grows with what really comes.
	if _, err := io.CopyN(&l.buf, l.in, int64(min(size, 1<<40))); err != nil {
		return 0, cut(err)
	}
	return tag, nil
}

// size reads the length of a record.
func (l *loader) size() (uint64, error) {
	var b []byte
	for len(b) == 0 || b[len(b)-1] >= 0x80 && len(b) < binary.MaxVarintLen64 {
		c, err := l.in.ReadByte()
		if err != nil {
			return 0, cut(err)
		}
		b = append(b, c)
	}
	r := wire.NewReader(b)
	size := r.Uint()
	return size, r.Done()
}

// cut returns err, or if it is that the input has ended, an error that can't be taken for a good end.
func cut(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

func (l *loader) load(tag byte) error {
	i := slices.IndexFunc(parts[:], func(p part) bool { return p.tag == tag })
	switch {
	case i < 0:
		return fmt.Errorf("it has a record of an unknown kind, %d", tag)
	case tag < l.tag || l.tag == 0 && tag != tagValues || l.tag == tagValues && tag == tagValues:
		return fmt.Errorf("%s: the record is out of place", parts[i].name)
	case tag != l.tag:
		l.last, l.lastID = "", 0
	}
	l.tag = tag
	r := wire.NewReader(l.buf.Bytes())
	parts[i].load(l, r)
	if err := r.Done(); err != nil {
		return fmt.Errorf("%s: %w", parts[i].name, err)
	}
	return nil
}

// end checks that the state is whole, and that it is the one that was written.
func (l *loader) end() error {
	if _, err := l.in.ReadByte(); err != io.EOF {
		return errors.New("it goes on after its end")
	}
	if _, ok := l.m.nodes.Get(op.Root); !ok {
		return errors.New("it has no root")
	}
	for _, a := range l.m.acls.Snapshot().All() {
		if a.nodes == 0 {
			return fmt.Errorf("no node has ACL %d", a.ref.ID)
		}
	}
	for id, s := range l.m.sessions.Snapshot().All() {
		if s.next-s.low != uint64(len(s.results)) {
			return fmt.Errorf("%s lacks results", id)
		}
	}
	if d := l.m.Digest(); !bytes.Equal(d[:], l.buf.Bytes()) {
		return fmt.Errorf("%w: %s, not %x", errDigest, d, l.buf.Bytes())
	}
	return nil
}

// ascends fails unless key is above that of the record before.
func (l *loader) ascends(r *wire.Reader, key string) bool {
	if key <= l.last {
		r.Fail("%q out of order", key)
	}
	l.last = key
	return r.Err() == nil
}

func (l *loader) ascendsID(r *wire.Reader, id uint64) bool {
	if id <= l.lastID {
		r.Fail("%d out of order", id)
	}
	l.lastID = id
	return r.Err() == nil
}

func (l *loader) values(r *wire.Reader) {
	m := l.m
	m.zxid, m.floor, m.age = op.Zxid(r.Uint()), op.Zxid(r.Uint()), r.Uint()
	level := r.Uint()
	m.lastACL, m.limits = r.Uint(), op.DecodeLimits(r)
	m.level = uint32(level)
	switch {
	case level > uint64(MaxLevel):
		r.Fail("level %d was written by a newer version", level)
	case m.age > maxAge || m.zxid < m.floor || m.limits.Check() != nil:
		r.Fail("impossible values")
	}
}

func (l *loader) acl(r *wire.Reader) {
	ref := &op.ACLRef{ID: r.Uint(), List: op.DecodeACL(r)}
	if !l.ascendsID(r, ref.ID) {
		return
	}
	_, known := l.m.aclNumbers.Get(string(op.AppendACL(nil, ref.List)))
	if known || ref.ID > l.m.lastACL || len(ref.List) == 0 || slices.Equal(ref.List, op.OpenACL) {
		r.Fail("impossible ACL %d", ref.ID)
		return
	}
	l.m.putACLRef(ref)
}

func (l *loader) session(r *wire.Reader) {
	p := &profile{id: op.SessionID(r.Uint())}
	r.Fixed(p.secret[:])
	p.name, p.identity, p.principal, p.lease = r.String(), r.String(), r.String(), r.Bool()
	p.metadata, p.opened = bytes.Clone(r.Bytes()), op.Time(r.Int())
	id := op.SessionID(r.Uint())
	a := attachment{epoch: r.Uint(), nonce: r.Uint(), next: r.Uint(), low: r.Uint(), timeout: r.Int()}
	if !l.ascendsID(r, uint64(p.id)) {
		return
	}
	_, taken := l.m.identities.Get(p.identity)
	if taken || id != p.id || uint64(id) > uint64(l.m.zxid) || a.low < 1 || a.next < a.low || a.timeout < 0 {
		r.Fail("impossible session %s", p.id)
		return
	}
	l.m.putSession(&session{profile: p, attachment: a})
}

func (l *loader) result(r *wire.Reader) {
	id, seq, encoded := op.SessionID(r.Uint()), r.Uint(), r.String()
	s, ok := l.m.sessions.Get(id)
	_, err := op.DecodeResult([]byte(encoded))
	if !ok || seq != s.low+uint64(len(s.results)) || seq >= s.next || err != nil || uint64(id) < l.lastID {
		r.Fail("impossible result %d of %s", seq, id)
		return
	}
	l.lastID = uint64(id)
	l.m.putResult(s, encoded)
}

func (l *loader) key(r *wire.Reader) {
	id, a := keyID{r.String(), r.String()}, &answer{}
	r.Fixed(a.hash[:])
	a.born, a.encoded = r.Uint(), r.String()
	_, err := op.DecodeResult([]byte(a.encoded))
	_, known := l.m.keys.Get(id)
	last, _ := l.m.byBirth.Max()
	if r.Err() != nil || err != nil || known || a.born > l.m.age || l.m.keys.Len() > 0 && compareBirths(birth{a.born, id}, last) < 0 {
		r.Fail("impossible key %q", id.key)
		return
	}
	l.m.putKey(id, a)
}

func (l *loader) node(r *wire.Reader) {
	path, n := l.readNode(r)
	data := r.Bytes()
	if r.Err() != nil {
		return
	}
	n.data, n.null = string(data), data == nil
	if d := n.dir(); d != nil {
		d.bytes = int64(len(data))
	}
	if why := l.misplaced(path, n); why != "" {
		r.Fail("%q %s", path, why)
		return
	}
	m := l.m
	m.insert(path, n)
	if n.kind == op.Ephemeral {
		m.own(n.rare.owner, path)
	}
	if len(l.way) > 0 {
		l.adopt(path, n)
	}
	l.way = append(l.way, step{place: place{path, n}})
}

// adopt hangs a node under the last step of the way.
func (l *loader) adopt(path string, n *node) {
	parent := &l.way[len(l.way)-1]
	parent.last = op.Base(path)
	l.m.unschedule(parent.path, parent.node)
	if parent.node.dir() == nil {
		parent.node.ownDir(l.m.version)
	}
	parent.node.dir().adopt(l.m, path, n)
	l.m.schedule(parent.path, parent.node)
	for _, s := range l.way {
		s.node.dir().nodes++
		s.node.dir().bytes += int64(len(n.data))
	}
}

// misplaced says why a node can't be what comes next in the tree. It cuts the way back to the parent.
func (l *loader) misplaced(path string, n *node) string {
	if op.CheckPath(path) != nil {
		return "is not a path"
	}
	if path == op.Root {
		if l.m.nodes.Len() > 0 || n.kind != op.Persistent {
			return "is out of order"
		}
		return ""
	}
	for dir := op.Parent(path); len(l.way) > 0 && l.way[len(l.way)-1].path != dir; {
		l.way = l.way[:len(l.way)-1]
	}
	switch {
	case len(l.way) == 0:
		return "has no parent"
	case l.way[len(l.way)-1].node.kind == op.Ephemeral:
		return "is the child of an ephemeral node"
	case op.Base(path) <= l.way[len(l.way)-1].last:
		return "is out of order"
	case n.numbered && !endsInNumber(path):
		return "has no number"
	case n.kind == op.Ephemeral && !l.m.Alive(n.extra().owner):
		return "belongs to no session"
	}
	return ""
}

// endsInNumber reports whether a name has the digits of a sequence number.
func endsInNumber(path string) bool {
	name := op.Base(path)
	return len(name) >= digits && strings.Trim(name[len(name)-digits:], "0123456789") == ""
}

func (l *loader) quota(r *wire.Reader) {
	path, q := r.String(), op.DecodeQuota(r)
	if !l.ascends(r, path) {
		return
	}
	if _, ok := l.m.nodes.Get(path); !ok || q == (op.Quota{}) || min(q.SoftCount, q.HardCount, q.SoftBytes, q.HardBytes) < 0 {
		r.Fail("impossible quota of %q", path)
		return
	}
	l.m.putQuota(path, q)
}

func (l *loader) term(r *wire.Reader) {
	dir := r.String()
	t := term{op.Zxid(r.Uint()), r.String(), op.Zxid(r.Uint())}
	if !l.ascends(r, dir) {
		return
	}
	if _, ok := l.m.nodes.Get(dir); !ok {
		r.Fail("a term of %q, which doesn't exist", dir)
		return
	}
	l.m.putTerm(dir, t)
}
