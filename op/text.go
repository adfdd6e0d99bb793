package op

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// The text forms are those of JSON, headers and the command line.

// MarshalText returns the decimal digits.
func (z Zxid) MarshalText() ([]byte, error) { return strconv.AppendUint(nil, uint64(z), 10), nil }

// UnmarshalText reads decimal digits of a 63-bit number.
func (z *Zxid) UnmarshalText(p []byte) error {
	v, err := strconv.ParseUint(string(p), 10, 63)
	if err != nil {
		return Errorf(BadRequest, "%q is not a zxid: a decimal number from 0 to 2^63-1", p)
	}
	*z = Zxid(v)
	return nil
}

// String returns "s-" and the id in hexadecimal.
func (id SessionID) String() string { return fmt.Sprintf("s-%x", uint64(id)) }

// MarshalText returns String's form; "" for 0, which is no session.
func (id SessionID) MarshalText() ([]byte, error) {
	if id == 0 {
		return nil, nil
	}
	return []byte(id.String()), nil
}

// UnmarshalText reads MarshalText's form.
func (id *SessionID) UnmarshalText(p []byte) error {
	if len(p) == 0 {
		*id = 0
		return nil
	}
	hex, ok := strings.CutPrefix(string(p), "s-")
	v, err := strconv.ParseUint(hex, 16, 63)
	if !ok || err != nil || v == 0 {
		return Errorf(BadRequest, "%q is not a session id: s- and hexadecimal digits", p)
	}
	*id = SessionID(v)
	return nil
}

// Std returns the moment as a time.Time in UTC.
func (t Time) Std() time.Time { return time.UnixMilli(int64(t)).UTC() }

// MarshalText returns RFC 3339 with milliseconds.
func (t Time) MarshalText() ([]byte, error) { return t.Append(nil), nil }

// Append appends what MarshalText returns. RFC 3339 itself is formatted much faster than it with fractions of its own.
func (t Time) Append(b []byte) []byte {
	std := t.Std()
	b = std.AppendFormat(b, time.RFC3339)
	ms := std.Nanosecond() / int(time.Millisecond)
	return append(b[:len(b)-len("Z")], '.', '0'+byte(ms/100), '0'+byte(ms/10%10), '0'+byte(ms%10), 'Z')
}

// UnmarshalText reads RFC 3339.
func (t *Time) UnmarshalText(p []byte) error {
	v, err := time.Parse(time.RFC3339, string(p))
	if err != nil {
		return Errorf(BadRequest, "%q is not an RFC 3339 time", p)
	}
	*t = Time(v.UnixMilli())
	return nil
}

// MarshalText returns the kind's name.
func (k NodeKind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText reads a kind's name.
func (k *NodeKind) UnmarshalText(p []byte) error {
	for v := range numNodeKinds {
		if v.String() == string(p) {
			*k = v
			return nil
		}
	}
	return Errorf(BadRequest, "%q is not a kind of node: persistent, ephemeral, container or ttl", p)
}
