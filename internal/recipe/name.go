package recipe

import (
	"encoding/hex"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/coord-kv/coord/fsm"
	"github.com/coord-kv/coord/op"
)

// Where recipes keep their directories, unless a name is a path.
const (
	LocksDir     = "/locks"
	ElectionsDir = "/elections"
	FencesDir    = "/fences"
	HistoryDir   = "/history" // of the tenures of /locks/a in /history/locks/a
)

// Dir returns the directory that a name stands for: "nightly" is base + "/nightly", and what begins with a slash is a
// path as it is. A name is one segment of a path; all characters that a node's name may have are allowed in it. The
// error is a bad_path.
func Dir(base, name string) (string, error) {
	dir := name
	switch {
	case name == "":
		return "", op.Errorf(op.BadPath, "the name is empty")
	case name[0] != '/':
		if strings.Contains(name, "/") {
			return "", op.Errorf(op.BadPath, "%.64q has a slash; a name is one segment, or a path with a slash in front", name)
		}
		dir = base + "/" + name
	}
	if dir == op.Root {
		return "", op.Errorf(op.BadPath, "the root can't be a lock or election")
	}
	if err := op.CheckPath(dir); err != nil {
		return "", err
	}
	// The longest path that a recipe makes of it must be possible too.
	if op.CheckPath(HistoryDir+dir+"/"+strings.Repeat("x", 64)) != nil {
		return "", &op.Error{Code: op.BadPath, Path: dir, Detail: "the name is too long, or its path too deep"}
	}
	return dir, nil
}

// nameOf is the inverse of Dir.
func nameOf(base, dir string) string {
	if op.Parent(dir) == base {
		return op.Base(dir)
	}
	return dir
}

func historyOf(dir string) string { return HistoryDir + dir }

// Names of contenders.

const digits = 10 // of the number at the end of a sequence node's name

// seqOf returns the number at the end of a sequence node's name, and whether there is one.
func seqOf(name string) (n uint64, ok bool) {
	if len(name) < digits {
		return 0, false
	}
	for _, c := range []byte(name[len(name)-digits:]) {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + uint64(c-'0')
	}
	return n, true
}

// family returns what kind of recipe a contender's name is of: those of one family understand each other. A writer of
// kazoo's read-write lock is named like a contender for its plain lock, so these are one family. A semaphore's name has
// its size, so that two who disagree about that are told. "" stands for a name that no recipe gives.
func family(name string) string {
	switch _, dialect := fsm.Classify(name); dialect {
	case "kazoo-lock", "kazoo-rw":
		return "kazoo"
	case "":
		return slotsOf(name)
	default:
		return dialect
	}
}

// use says, for people, what a directory is used as in which that name stands.
func use(name string) string {
	switch f := family(name); f {
	case "curator-mutex":
		return "an exclusive lock"
	case "curator-rw":
		return "a lock of readers and writers"
	case "curator-latch":
		return "an election"
	case "kazoo":
		return "a lock of kazoo's"
	case "":
		return "something that isn't a recipe's"
	default:
		return fmt.Sprintf("a semaphore of %d", fsm.Slots(name))
	}
}

// slotsOf returns "slotN" if that is what the name's mark says, else "".
func slotsOf(name string) string {
	if n := fsm.Slots(name); n > 0 {
		return fmt.Sprintf("slot%d", n)
	}
	return ""
}

// defaultFamily is that of the first contender in an empty directory.
func (m Mode) family(slots int) string {
	switch m {
	case Write, Read:
		return "curator-rw"
	case Slot:
		return fmt.Sprintf("slot%d", slots)
	}
	return "curator-mutex"
}

// prefix returns what the name of a contender of a family begins with, up to its number. It is false if the family
// has no name for the mode: a reader can't stand in line for a plain mutex, and nobody for a lock in an election.
func (m Mode) prefix(family, id string, slots int) (string, bool) {
	shared := m == Read
	switch family {
	case "curator-mutex":
		return curatorName(id, "lock-"), !shared && m != Slot
	case "curator-rw":
		if shared {
			return curatorName(id, "__READ__"), true
		}
		return curatorName(id, "__WRIT__"), m != Slot
	case "kazoo":
		if shared {
			return id + "__rlock__", true
		}
		return id + "__lock__", m != Slot
	}
	return "_c_" + uuid(id) + fsm.SlotName(slots), m == Slot && family == m.family(slots)
}

// curatorName returns the name that Curator gives under its protection mode: an id before the mark by which a client
// finds its own node again.
func curatorName(id, mark string) string { return "_c_" + uuid(id) + "-" + mark }

func uuid(hex string) string {
	return strings.Join([]string{hex[:8], hex[8:12], hex[12:16], hex[16:20], hex[20:]}, "-")
}

// newID draws the 32 hexadecimal digits of a random UUID (RFC 9562, version 4).
func newID(rand io.Reader) (string, error) {
	var b [16]byte
	if _, err := io.ReadFull(rand, b[:]); err != nil {
		return "", fmt.Errorf("couldn't draw a random name: %w", err)
	}
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return hex.EncodeToString(b[:]), nil
}

// checkLabel refuses what can't be shown to people.
func checkLabel(what, s string, limit int) error {
	switch {
	case len(s) > limit:
		return &op.Error{Code: op.TooLarge, Limit: int64(limit), Have: int64(len(s)), Detail: what + " is too long"}
	case !utf8.ValidString(s):
		return op.Errorf(op.BadRequest, "%s is not valid UTF-8", what)
	}
	return nil
}
