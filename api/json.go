package api

import (
	"encoding/base64"
	"encoding/json"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/coord-kv/coord/op"
)

// The JSON forms of op's types. What is on the path of every read and event is appended by hand, as encoding/json takes
// several times as long; the rest are structs.
//
// Zxids are strings, because JavaScript loses precision above 2^53; durations are Go's ("15s"); times are RFC 3339; bytes
// are "data" if they are text and "data_base64" if not, never both, and null data is null.

const hexDigits = "0123456789abcdef"

// appendString appends s, which must be valid UTF-8, as a JSON string. U+2028 and U+2029 are escaped, since JSON is
// pasted into JavaScript.
func appendString[T string | []byte](b []byte, s T) []byte {
	b = append(b, '"')
	start := 0
	for i := 0; i < len(s); i++ {
		size := escapeSize(s, i)
		if size == 0 {
			continue
		}
		b = append(b, s[start:i]...)
		b = appendEscape(b, s[i], s[i+size-1])
		i += size - 1
		start = i + 1
	}
	b = append(b, s[start:]...)
	return append(b, '"')
}

// escapeSize returns how many bytes the character at i has if it must be escaped, else 0.
func escapeSize[T string | []byte](s T, i int) int {
	switch c := s[i]; {
	case c < ' ', c == '"', c == '\\':
		return 1
	case c == 0xe2 && i+2 < len(s) && s[i+1] == 0x80 && (s[i+2] == 0xa8 || s[i+2] == 0xa9):
		return 3
	}
	return 0
}

// appendEscape appends the escape of a character with that first and last byte.
func appendEscape(b []byte, first, last byte) []byte {
	switch first {
	case '"', '\\':
		return append(b, '\\', first)
	case '\n':
		return append(b, '\\', 'n')
	case '\r':
		return append(b, '\\', 'r')
	case '\t':
		return append(b, '\\', 't')
	case 0xe2:
		return append(b, '\\', 'u', '2', '0', '2', "89"[last&1])
	}
	return append(b, '\\', 'u', '0', '0', hexDigits[first>>4], hexDigits[first&15])
}

// appendValue appends the member called name, or name_base64, with the bytes v.
func appendValue(b []byte, name string, v []byte) []byte {
	b = append(append(b, '"'), name...)
	switch {
	case v == nil:
		return append(b, `":null`...)
	case utf8.Valid(v):
		return appendString(append(b, `":`...), v)
	}
	b = append(b, `_base64":"`...)
	return append(base64.StdEncoding.AppendEncode(b, v), '"')
}

func appendZxid(b []byte, name string, z op.Zxid) []byte {
	b = append(append(append(b, '"'), name...), `":"`...)
	return append(strconv.AppendUint(b, uint64(z), 10), '"')
}

func appendInt(b []byte, name string, v int64) []byte {
	b = append(append(append(b, '"'), name...), `":`...)
	return strconv.AppendInt(b, v, 10)
}

func appendTime(b []byte, name string, t op.Time) []byte {
	b = append(append(append(b, '"'), name...), `":"`...)
	return append(t.Append(b), '"')
}

// appendStat appends a stat: ZooKeeper's fields, the kind, and the ETag for a compare-and-set.
func appendStat(b []byte, s *op.Stat) []byte {
	b = append(b, `{"etag":"`...)
	b = append(s.AppendETag(b), `",`...)
	b = append(appendZxid(b, "czxid", s.Czxid), ',')
	b = append(appendZxid(b, "mzxid", s.Mzxid), ',')
	b = append(appendZxid(b, "pzxid", s.Pzxid), ',')
	b = append(appendTime(b, "ctime", s.Ctime), ',')
	b = append(appendTime(b, "mtime", s.Mtime), ',')
	b = append(appendInt(b, "version", int64(s.Version)), ',')
	b = append(appendInt(b, "cversion", int64(s.Cversion)), ',')
	b = append(appendInt(b, "aversion", int64(s.Aversion)), ',')
	b = appendOwner(b, s.EphemeralOwner)
	b = append(appendInt(b, "data_length", int64(s.DataLength)), ',')
	b = append(appendInt(b, "num_children", int64(s.NumChildren)), ',')
	b = append(append(append(b, `"kind":"`...), s.Kind.String()...), '"')
	if s.TTL != 0 {
		b = append(append(append(b, `,"ttl":"`...), s.TTL.String()...), '"')
	}
	return append(b, '}')
}

func appendOwner(b []byte, id op.SessionID) []byte {
	if id == 0 {
		return append(b, `"ephemeral_owner":null,`...)
	}
	return append(append(append(b, `"ephemeral_owner":"`...), id.String()...), `",`...)
}

// appendNode appends a node with its data and stat.
func appendNode(b []byte, n *op.Node) []byte {
	b = appendString(append(b, `{"path":`...), n.Path)
	b = appendValue(append(b, ','), "data", n.Data)
	return append(appendStat(append(b, `,"stat":`...), &n.Stat), '}')
}

// duration is a time.Duration as its Go string.
type duration time.Duration

func (d duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// metadataForm is a session's metadata: as "metadata" if it is text, else as "metadata_base64".
type metadataForm struct {
	Metadata       json.RawMessage `json:"metadata,omitempty"`
	MetadataBase64 []byte          `json:"metadata_base64,omitempty"`
}

func newMetadata(v []byte) metadataForm {
	switch {
	case v == nil:
		return metadataForm{Metadata: json.RawMessage("null")}
	case utf8.Valid(v):
		return metadataForm{Metadata: appendString(nil, v)}
	}
	return metadataForm{MetadataBase64: v}
}

// acl reads an array of entries from the field called name. It returns nil if it is absent.
func (o *object) acl(name string) []op.ACL {
	if !o.has(name) {
		o.take(name)
		return nil
	}
	list := []op.ACL{}
	o.list(name, func(e *object) {
		list = append(list, op.ACL{Scheme: e.require("scheme"), ID: e.text("id"), Perms: e.perms("perms")})
	})
	return list
}

func (o *object) perms(name string) op.Perm {
	p, ok := parsePerms(o.require(name))
	if !ok {
		o.fault(name, "must be letters of cdrwa: create, delete, read, write, admin")
	}
	return p
}

// parsePerms reads the letters of ZooKeeper's shell.
func parsePerms(s string) (p op.Perm, ok bool) {
	for _, c := range s {
		bit := permOf(c)
		if bit == 0 {
			return 0, false
		}
		p |= bit
	}
	return p, true
}

func permOf(c rune) op.Perm {
	switch c {
	case 'c':
		return op.Make
	case 'd':
		return op.Remove
	case 'r':
		return op.Read
	case 'w':
		return op.Write
	case 'a':
		return op.Admin
	}
	return 0
}

// cond reads the condition of an operation: version or if_match (an ETag); with neither, op.Always.
func (o *object) cond() op.Cond {
	c := op.Always
	if o.has("version") && o.has("if_match") {
		o.fault("version", "can't be given together with %sif_match, which has it", o.at)
	}
	if tag := o.text("if_match"); tag != "" {
		var ok bool
		if c, ok = parseETag(tag); !ok {
			o.fault("if_match", `must be an ETag without quotes, such as "4294967311.0"`)
		}
		o.take("version")
		return c
	}
	c.Version = o.int32("version", op.AnyVersion, op.AnyVersion)
	return c
}
