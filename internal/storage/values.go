package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"hash/fnv"
	"path"
	"slices"
	"strings"
	"sync"
)

// values are a manifest's values with checksums: each value begins with the CRC32C of its key and of what follows, and one key
// more holds the number of all others and a sum over their checksums, so that one that got lost is noticed too.
// Its methods may be called from any goroutine; commits run one at a time.
type values struct {
	m    Manifest
	name string // the file, for errors
	*latch
	measure func() (done func()) // each commit

	mu   sync.Mutex
	sums map[string]uint32 // of all keys
}

const totalKey = "total"

// openValues reads every key with its checksum, and verifies the total; the values are verified when they are read.
func openValues(m Manifest, dir string, l *latch) (*values, error) {
	v := &values{m: m, name: path.Join(dir, manifestName), latch: l, sums: make(map[string]uint32), measure: func() func() { return func() {} }}
	var total []byte
	err := m.Scan("", func(key string, value []byte) error {
		if len(value) < crc32.Size {
			return v.corrupt(key, "is cut short")
		}
		if key == totalKey {
			total = append(total, value...)
		} else {
			v.sums[key] = binary.LittleEndian.Uint32(value)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if total == nil && len(v.sums) == 0 {
		return v, nil
	}
	if string(total) != string(frameValue(totalKey, v.total())) {
		return nil, v.corrupt(totalKey, fmt.Sprintf("doesn't fit the %d others", len(v.sums)))
	}
	return v, nil
}

func (v *values) corrupt(key, reason string) error {
	return &CorruptError{v.name, -1, fmt.Sprintf("the value %q %s", key, reason)}
}

// total counts the keys and adds up their hashes, which doesn't depend on the order.
func (v *values) total() []byte {
	var sum uint64
	for key, crc := range v.sums {
		h := fnv.New64a()
		h.Write(binary.LittleEndian.AppendUint32([]byte(key), crc))
		sum += h.Sum64()
	}
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(v.sums)))
	return binary.LittleEndian.AppendUint64(b, sum)
}

func frameValue(key string, value []byte) []byte {
	b := binary.LittleEndian.AppendUint32(make([]byte, 0, crc32.Size+len(value)), valueSum(key, value))
	return append(b, value...)
}

func valueSum(key string, value []byte) uint32 { return chain(chain(0, []byte(key)), value) }

// parseValue returns what a framed value holds.
func parseValue(key string, framed []byte) (value []byte, sum uint32, err error) {
	if len(framed) < crc32.Size {
		return nil, 0, errMalformed
	}
	sum, value = binary.LittleEndian.Uint32(framed), framed[crc32.Size:]
	if valueSum(key, value) != sum {
		return nil, 0, errors.New("its checksum doesn't match")
	}
	return value, sum, nil
}

// get returns a verified value, nil if there is none.
func (v *values) get(key string) ([]byte, error) {
	for {
		want, ok := v.sum(key)
		if !ok {
			return nil, nil
		}
		framed, err := v.m.Get(key)
		if err != nil {
			return nil, err
		}
		value, sum, err := parseValue(key, framed)
		if err == nil && sum == want {
			return value, nil
		}
		if now, ok := v.sum(key); !ok || now != want {
			continue // a commit came between
		}
		if err == nil {
			err = errors.New("it is another one than was written")
		}
		return nil, v.corrupt(key, "is damaged: "+err.Error())
	}
}

func (v *values) sum(key string) (uint32, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	sum, ok := v.sums[key]
	return sum, ok
}

// keys returns those that begin with prefix, in order.
func (v *values) keys(prefix string) []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	var keys []string
	for key := range v.sums {
		if strings.HasPrefix(key, prefix) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

// commit sets and drops values in one step. Any error is fatal: bbolt's may say that nothing happened when it did.
func (v *values) commit(set map[string][]byte, drop []string) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if err := v.check(); err != nil {
		return err
	}
	framed := make(map[string][]byte, len(set)+1)
	for _, key := range drop {
		delete(v.sums, key)
	}
	for key, value := range set {
		framed[key] = frameValue(key, value)
		v.sums[key] = valueSum(key, value)
	}
	framed[totalKey] = frameValue(totalKey, v.total())
	defer v.measure()()
	if err := v.m.Commit(framed, drop); err != nil {
		return v.fatal(fmt.Errorf("couldn't commit to %s: %w", v.name, err))
	}
	return nil
}
