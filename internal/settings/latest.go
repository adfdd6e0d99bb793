package settings

import "maps"

// Latest keeps the newest of the configurations that it is shown, so that whoever reads at several members, or along two
// ways at once, never goes back. One goroutine uses it at a time; the zero value has seen nothing.
type Latest struct {
	Config
	seen bool
}

// Take takes in a configuration, and reports whether it is newer than what was seen, and another one.
func (l *Latest) Take(c Config) bool {
	if l.seen && c.Zxid <= l.Zxid {
		return false
	}
	same := l.seen && l.Version == c.Version && l.Node == c.Node && maps.Equal(l.Values, c.Values)
	l.Config, l.seen = c, true
	return !same
}
