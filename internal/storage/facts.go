package storage

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	pb "go.etcd.io/raft/v3/raftpb"
)

// The keys of a manifest. Of a chunk of history the description stands apart, so that a start doesn't read the data.
const (
	identityKey     = "identity"
	bootKey         = "boot"
	confKey         = "conf"
	peersKey        = "peers"
	checkpointKey   = "checkpoint"
	tornKey         = "torn"
	chunkPrefix     = "chunk/"
	chunkInfoPrefix = "history/"
)

// manifestVersion is the format of the manifest's values that this code writes, and the newest that it reads.
const manifestVersion = 1

// Identity says whose directory it is.
type Identity struct {
	MemberID  uint64 // 0: nobody's yet
	Name      string
	ClusterID uint64        // 0: the member has no cluster yet, and no log
	ConfState *pb.ConfState // from which the log begins
}

func (i *Identity) encode() []byte {
	b := binary.LittleEndian.AppendUint32(nil, manifestVersion)
	b = binary.LittleEndian.AppendUint64(b, i.MemberID)
	b = binary.LittleEndian.AppendUint64(b, i.ClusterID)
	b = appendBytes(b, []byte(i.Name))
	return appendConf(b, i.ConfState)
}

// parseIdentity returns the version too, and nothing else of a newer one.
func parseIdentity(b []byte) (i Identity, version uint32, err error) {
	d := decoder{b: b}
	if version = d.u32(); version > manifestVersion {
		return i, version, nil
	}
	i = Identity{MemberID: d.u64(), ClusterID: d.u64(), Name: string(d.bytes()), ConfState: d.conf()}
	return i, version, d.done()
}

// Peer is what a member remembers of another: its name, and what makes it refuse one that comes back with an older disk.
type Peer struct {
	Name  string // as the members found the cluster
	Boot  uint64 // the highest boot number seen
	Acked uint64 // the highest index that it acknowledged
}

func encodePeers(peers map[uint64]Peer) []byte {
	b := binary.AppendUvarint(nil, uint64(len(peers)))
	for _, id := range slices.Sorted(maps.Keys(peers)) {
		b = binary.LittleEndian.AppendUint64(b, id)
		b = binary.AppendUvarint(b, peers[id].Boot)
		b = binary.AppendUvarint(b, peers[id].Acked)
		b = appendBytes(b, []byte(peers[id].Name))
	}
	return b
}

func parsePeers(b []byte) (map[uint64]Peer, error) {
	d := decoder{b: b}
	peers := make(map[uint64]Peer)
	for n := d.uvarint(); n > 0 && !d.bad; n-- {
		id := d.u64()
		peers[id] = Peer{Boot: d.uvarint(), Acked: d.uvarint(), Name: string(d.bytes())}
	}
	return peers, d.done()
}

func encodeBoot(n uint64) []byte { return binary.LittleEndian.AppendUint64(nil, n) }

func parseBoot(b []byte) (uint64, error) {
	d := decoder{b: b}
	n := d.u64()
	return n, d.done()
}

// Conf is a configuration and the index of the entry that made it so.
type Conf struct {
	Index     uint64
	ConfState *pb.ConfState
}

func (c Conf) encode() []byte {
	return appendConf(binary.LittleEndian.AppendUint64(nil, c.Index), c.ConfState)
}

func parseConf(b []byte) (Conf, error) {
	d := decoder{b: b}
	c := Conf{Index: d.u64(), ConfState: d.conf()}
	return c, d.done()
}

func encodeCheckpoint(i *Info) []byte { return i.Append(appendBytes(nil, []byte(i.File))) }

func parseCheckpoint(b []byte) (*Info, error) {
	d := decoder{b: b}
	file := string(d.bytes())
	i := d.info()
	i.File = file
	if !checkpointName.MatchString(file) {
		d.fail()
	}
	return i, d.done()
}

// Chunk is a piece of the event history.
type Chunk struct {
	ChunkInfo
	Data []byte // the caller's
}

// ChunkInfo describes a chunk without its data.
type ChunkInfo struct {
	Seq         uint64 // its number
	First, Last uint64 // the zxids of its first and last event
	Size        int    // of the data in bytes
	Events      int    // how many it holds
}

// ChunkChange adds and drops chunks in one step.
type ChunkChange struct {
	Add    []Chunk
	Staged []ChunkInfo // whose data is here: from now on they count
	Drop   []uint64    // by number
}

func chunkKey(seq uint64) string     { return fmt.Sprintf("%s%016x", chunkPrefix, seq) }
func chunkInfoKey(seq uint64) string { return fmt.Sprintf("%s%016x", chunkInfoPrefix, seq) }

// chunkNumber is the inverse of chunkKey and chunkInfoKey; 0 if the key is neither.
func chunkNumber(key, prefix string) (seq uint64) {
	if _, err := fmt.Sscanf(key[len(prefix):], "%016x", &seq); err != nil {
		return 0
	}
	return seq
}

func (c ChunkInfo) encode() []byte {
	var b []byte
	for _, v := range []uint64{c.Seq, c.First, c.Last, uint64(c.Size), uint64(c.Events)} {
		b = binary.AppendUvarint(b, v)
	}
	return b
}

func parseChunkInfo(b []byte) (ChunkInfo, error) {
	d := decoder{b: b}
	c := ChunkInfo{Seq: d.uvarint(), First: d.uvarint(), Last: d.uvarint(), Size: int(d.uvarint()), Events: int(d.uvarint())}
	return c, d.done()
}

// put writes the change as changes of the manifest's values.
func (c ChunkChange) put(set map[string][]byte) (drop []string) {
	for _, chunk := range c.Add {
		chunk.Size = len(chunk.Data)
		set[chunkInfoKey(chunk.Seq)] = chunk.ChunkInfo.encode()
		set[chunkKey(chunk.Seq)] = bytes.Clone(chunk.Data)
	}
	for _, info := range c.Staged {
		set[chunkInfoKey(info.Seq)] = info.encode()
	}
	for _, seq := range c.Drop {
		drop = append(drop, chunkInfoKey(seq), chunkKey(seq))
	}
	return drop
}

func (c ChunkChange) bytes() (n int64) {
	for _, chunk := range c.Add {
		n += int64(len(chunk.Data))
	}
	return n
}
