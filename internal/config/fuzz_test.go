package config

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

// FuzzFile: whatever a file holds, it is read without a panic; what is accepted names options alone, each once, with a
// value that a flag would take too; what is refused says where.
func FuzzFile(f *testing.F) {
	for _, s := range []string{
		"", "name: n1\ndata-dir: /var/lib/coord\n", "\ufeffname: n1\r\ntick: 50ms\r\n", "name: n1\nname: n2", "nmae: n1",
		"cluster:\n  n1: 127.0.0.1:7071\n  n2: 127.0.0.1:7072\n", "cluster: n1=a:1,n2=b:2", "allow-host: [a, b]",
		"a: &a [x, x]\nb: [*a, *a, *a]", "<<: {name: n1}", "--- {}\n--- {}", "tick: 50", "space-mark: 9999999999999TiB",
		"max-watches: 0x10", "max-watches: 1_000", "name: !!binary bjE=", "? [a]\n: b", "name: |\n  n1\n", "config: x", "\t", "{", "name: \"\\x00\"",
		"%YAML 9.9\n---\nname: n1", strings.Repeat("[", 200), "name: ${HOME}", "\xff\xfen\x00", "super: a:b",
	} {
		f.Add([]byte(s))
	}
	options := New().Options()
	f.Fuzz(func(t *testing.T, text []byte) {
		file, err := parseFile("f", text)
		if err != nil {
			e, ok := errors.AsType[*Error](err)
			if !ok || len(e.Mistakes) == 0 || !strings.HasPrefix(err.Error(), "f:") {
				t.Fatalf("refused with %#v", err)
			}
			return
		}
		var seen []string
		for _, s := range file.settings {
			i := slices.IndexFunc(options, func(o Option) bool { return o.Name == s.key && !o.FlagOnly })
			if i < 0 || slices.Contains(seen, s.key) || s.line < 1 {
				t.Fatalf("accepted %+v after %q", s, seen)
			}
			if err := options[i].Value.Set(s.value); err != nil {
				t.Fatalf("accepted %+v, which a flag refuses: %v", s, err)
			}
			seen = append(seen, s.key)
		}
	})
}
