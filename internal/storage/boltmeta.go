package storage

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"os"
	"syscall"
)

// bbolt keeps two meta pages, writes them in turn, and opens the newer one that is intact. So damage of the newer takes the file
// one commit back without a word: a checkpoint is missing then, or a boot number is given out twice. A commit that a power loss
// interrupts can't have that effect, for the meta lies within one sector. Hence both must be intact, and of consecutive commits.
const (
	boltPageHeader = 16
	boltMetaSize   = 64
	boltPageSizeAt = 8  // in the meta
	boltTxidAt     = 48 // in the meta
	boltSumAt      = 56 // in the meta; FNV-1a of what stands before it
)

// checkMetas reads both meta pages of a bbolt file.
func checkMetas(name string) error {
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	first, err := readMeta(f, 0)
	if err != nil {
		return err
	}
	second, err := readMeta(f, int64(binary.NativeEndian.Uint32(first[boltPageSizeAt:])))
	if err != nil {
		return err
	}
	a, b := binary.NativeEndian.Uint64(first[boltTxidAt:]), binary.NativeEndian.Uint64(second[boltTxidAt:])
	if a+1 != b && b+1 != a {
		return &CorruptError{name, boltPageHeader, fmt.Sprintf("its two states are of commits %d and %d: a write was lost", a, b)}
	}
	return nil
}

func readMeta(f *os.File, page int64) ([]byte, error) {
	meta := make([]byte, boltMetaSize)
	if _, err := f.ReadAt(meta, page+boltPageHeader); err != nil {
		return nil, &CorruptError{f.Name(), page, "a meta page can't be read: " + err.Error()}
	}
	h := fnv.New64a()
	h.Write(meta[:boltSumAt])
	if h.Sum64() != binary.NativeEndian.Uint64(meta[boltSumAt:]) {
		return nil, &CorruptError{f.Name(), page + boltPageHeader, "a meta page's checksum doesn't match"}
	}
	return meta, nil
}
