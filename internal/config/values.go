package config

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/coord-kv/coord/internal/peer"
)

// The types of options. Each is a pflag.Value over a field of a Config; Set leaves the field as it was when it fails. An
// error says what a value must be, and not which option it is of: whoever calls knows.

type text struct{ p *string }

func (v text) String() string { return *v.p }
func (v text) Type() string   { return "string" }
func (v text) bounds() string { return "" }
func (v text) Set(s string) error {
	if err := printable(s); err != nil {
		return err
	}
	*v.p = s
	return nil
}

// yes is a flag that needs no value.
type yes struct{ p *bool }

func (v yes) String() string { return strconv.FormatBool(*v.p) }
func (v yes) Type() string   { return "bool" }
func (v yes) Set(s string) error {
	b, err := strconv.ParseBool(s)
	if err != nil {
		return errors.New("is true or false")
	}
	*v.p = b
	return nil
}

// maxText is the longest value that an option can have, in bytes.
const maxText = 16 << 10

func printable(s string) error {
	switch {
	case s == "":
		return errors.New("is empty")
	case len(s) > maxText:
		return fmt.Errorf("has %d bytes; at most %d are allowed", len(s), maxText)
	case !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl):
		return errors.New("has control characters, or is not UTF-8")
	case strings.Contains(s, "${"):
		return errors.New("has ${…}, which is not expanded here: give the option as an environment variable instead")
	}
	return nil
}

// name is the name of a member.
type name struct{ p *string }

func (v name) String() string { return *v.p }
func (v name) Type() string   { return "name" }
func (v name) bounds() string { return "1 to 63 letters, digits, '.', '-' and '_'" }
func (v name) Set(s string) error {
	if err := checkName(s); err != nil {
		return err
	}
	*v.p = s
	return nil
}

func checkName(s string) error {
	ok := func(r rune) bool {
		return r < utf8.RuneSelf && (unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune(".-_", r))
	}
	if err := printable(s); err != nil {
		return err
	}
	if len(s) > 63 || strings.ContainsFunc(s, func(r rune) bool { return !ok(r) }) {
		return fmt.Errorf("%q is no name for a member: it must have %s", short(s), name{}.bounds())
	}
	return nil
}

// address is a host, or nothing for all interfaces, and a port.
type address struct{ p *string }

func (v address) String() string { return *v.p }
func (v address) Type() string   { return "host:port" }
func (v address) bounds() string { return "" }
func (v address) Set(s string) error {
	if err := checkAddress(s); err != nil {
		return err
	}
	*v.p = s
	return nil
}

func checkAddress(s string) error {
	if err := printable(s); err != nil {
		return err
	}
	_, port, err := net.SplitHostPort(s)
	if err != nil {
		return fmt.Errorf("%q must be host:port, such as 127.0.0.1:7070", short(s))
	}
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > math.MaxUint16 {
		return fmt.Errorf("%q must have a port from 1 to 65535", short(s))
	}
	return nil
}

// members is a list of name=host:port.
type members struct{ p *[]peer.Member }

func (v members) Type() string   { return "members" }
func (v members) bounds() string { return "" }
func (v members) String() string {
	var parts []string
	for _, m := range *v.p {
		parts = append(parts, m.Name+"="+m.Addr)
	}
	return strings.Join(parts, ",")
}

// maxMembers is how long a list of members may be.
const maxMembers = 63

func (v members) Set(s string) error {
	var all []peer.Member
	for part := range strings.SplitSeq(s, ",") {
		m, err := parseMember(strings.TrimSpace(part))
		if err != nil {
			return err
		}
		for _, other := range all {
			if other.Name == m.Name || other.Addr == m.Addr {
				return fmt.Errorf("has %s=%s and %s=%s: each member has a name and an address of its own",
					other.Name, other.Addr, m.Name, m.Addr)
			}
		}
		if all = append(all, m); len(all) > maxMembers {
			return fmt.Errorf("has more than %d members", maxMembers)
		}
	}
	*v.p = all
	return nil
}

func parseMember(s string) (m peer.Member, err error) {
	var ok bool
	m.Name, m.Addr, ok = strings.Cut(s, "=")
	if !ok {
		return m, fmt.Errorf("has %q, which is not name=host:port", s)
	}
	if err := checkName(m.Name); err != nil {
		return m, fmt.Errorf("has %q: the name %w", s, err)
	}
	if err := checkAddress(m.Addr); err != nil {
		return m, fmt.Errorf("has %q: the address %w", s, err)
	}
	if host, _, _ := net.SplitHostPort(m.Addr); host == "" {
		return m, fmt.Errorf("has %q: the others need a host to reach it at", s)
	}
	return m, nil
}

type choice struct {
	p   *string
	all []string
}

func (v choice) String() string { return *v.p }
func (v choice) Type() string   { return "word" }
func (v choice) bounds() string { return strings.Join(v.all, ", ") }
func (v choice) Set(s string) error {
	if !slices.Contains(v.all, s) {
		return fmt.Errorf("%q must be one of %s", short(s), v.bounds())
	}
	*v.p = s
	return nil
}

// list is texts separated by commas. Given twice as a flag, the second one counts, as everywhere.
type list struct {
	p     *[]string
	check func(string) error
}

func (v list) String() string { return strings.Join(*v.p, ",") }
func (v list) Type() string   { return "list" }
func (v list) bounds() string { return "" }
func (v list) Set(s string) error {
	var all []string
	for part := range strings.SplitSeq(s, ",") {
		part = strings.TrimSpace(part)
		if err := printable(part); err != nil {
			return err
		}
		if err := v.check(part); err != nil {
			return err
		}
		all = append(all, part)
	}
	*v.p = all
	return nil
}

func checkHost(s string) error {
	if s != "*" && strings.ContainsAny(s, " /:*@") {
		return fmt.Errorf("has %q: a host name stands alone, without scheme, port or wildcard", s)
	}
	return nil
}

func checkOrigin(s string) error {
	if err := http.NewCrossOriginProtection().AddTrustedOrigin(s); err != nil {
		return fmt.Errorf("has %q: an origin is https://host or https://host:port", s)
	}
	return nil
}

// digest is an identity of ZooKeeper's digest scheme. Its String is for people, and doesn't show the hash.
type digest struct{ p *string }

func (v digest) Type() string   { return "digest" }
func (v digest) bounds() string { return "" }
func (v digest) String() string {
	if user, _, ok := strings.Cut(*v.p, ":"); ok {
		return user + ":…"
	}
	return ""
}

func (v digest) Set(s string) error {
	user, hash, _ := strings.Cut(s, ":")
	sum, err := base64.StdEncoding.Strict().DecodeString(hash)
	if user == "" || err != nil || len(sum) != 20 || printable(user) != nil {
		return errors.New("must be user:base64(sha1(user:password)); this prints one: " +
			"printf 'ann:%s' \"$(printf ann:password | openssl sha1 -binary | base64)\"")
	}
	*v.p = s
	return nil
}

// duration is a time in whole milliseconds, from lo to hi.
type duration struct {
	p      *time.Duration
	lo, hi time.Duration
}

func (v duration) String() string { return showDuration(*v.p) }
func (v duration) Type() string   { return "duration" }
func (v duration) bounds() string { return showDuration(v.lo) + " to " + showDuration(v.hi) }
func (v duration) Set(s string) error {
	d, err := time.ParseDuration(s)
	switch {
	case err != nil && isNumber(s):
		return fmt.Errorf("%s needs a unit, such as %ss or %sms", s, s, s)
	case err != nil:
		return fmt.Errorf("%q must be a duration such as 500ms, 15s or 1h30m", short(s))
	case d < v.lo || d > v.hi:
		return fmt.Errorf("%s must be %s", s, v.bounds())
	case d%time.Millisecond != 0:
		return fmt.Errorf("%s must be whole milliseconds", s)
	}
	*v.p = d
	return nil
}

// showDuration writes a duration without the zeros that Go adds: 2m, not 2m0s.
func showDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// size is a number of bytes from lo to hi.
type size[T int | int64] struct {
	p      *T
	lo, hi int64
}

func (v size[T]) String() string { return showSize(int64(*v.p)) }
func (v size[T]) Type() string   { return "size" }
func (v size[T]) bounds() string { return showSize(v.lo) + " to " + showSize(v.hi) }
func (v size[T]) Set(s string) error {
	n, err := parseSize(s)
	if err != nil {
		return err
	}
	if n < v.lo || n > v.hi {
		return fmt.Errorf("%s must be %s", s, v.bounds())
	}
	*v.p = T(n)
	return nil
}

var units = [...]string{"B", "KiB", "MiB", "GiB", "TiB"}

func parseSize(s string) (int64, error) {
	digits := strings.TrimRight(s, "BKMGTi")
	at := slices.Index(units[:], s[len(digits):])
	n, err := strconv.ParseInt(digits, 10, 64)
	switch {
	case isNumber(s):
		return 0, fmt.Errorf("%s needs a unit, such as %sMiB or %sB", s, s, s)
	case at < 0 || !isNumber(digits) || digits[0] == '-':
		return 0, fmt.Errorf("%q must be a size such as 512KiB, 64MiB or 1GiB, of whole units", short(s))
	case err != nil || n > math.MaxInt64>>(10*at):
		return 0, fmt.Errorf("%s is too large", s)
	}
	return n << (10 * at), nil
}

func showSize(n int64) string {
	at := 0
	for at < len(units)-1 && n != 0 && n%1024 == 0 {
		n, at = n/1024, at+1
	}
	return strconv.FormatInt(n, 10) + units[at]
}

// number is a count from lo to hi.
type number struct {
	p      *int
	lo, hi int
}

func (v number) String() string { return strconv.Itoa(*v.p) }
func (v number) Type() string   { return "int" }
func (v number) bounds() string { return fmt.Sprintf("%d to %d", v.lo, v.hi) }
func (v number) Set(s string) error {
	n, err := strconv.Atoi(s)
	if err != nil || !isNumber(s) || n < v.lo || n > v.hi {
		return fmt.Errorf("%q must be a whole number from %d to %d", short(s), v.lo, v.hi)
	}
	*v.p = n
	return nil
}

// isNumber reports whether s is decimal digits, perhaps behind a minus.
func isNumber(s string) bool {
	s = strings.TrimPrefix(s, "-")
	return s != "" && strings.Trim(s, "0123456789") == ""
}
