package api

import (
	"errors"
	"net/url"
	"strings"
	"testing"

	"github.com/coord-kv/coord/op"
)

var paths = []struct {
	escaped string
	want    string // "" if it is refused
}{
	{"", "/"},
	{"/", "/"},
	{"/a", "/a"},
	{"/a/b.c/d-e_f~g", "/a/b.c/d-e_f~g"},
	{"/a%20b", "/a b"},
	{"/a+b", "/a+b"},
	{"/%61", "/a"},
	{"/a;x=y", "/a;x=y"},
	{"/a%3Fb%23c", "/a?b#c"},
	{"/%25", "/%"},
	{"/%252F", "/%2F"},
	{"/A", "/A"},
	{"/caf%C3%A9", "/café"},
	{"/cafe%CC%81", "/cafe\u0301"}, // another name than the one before: nothing is normalised
	{`/a\b`, `/a\b`},
	{"/...", "/..."},
	{"/zookeeper", "/zookeeper"},
	{"//", ""},
	{"/a/", ""},
	{"//a", ""},
	{"/a//b", ""},
	{"/.", ""},
	{"/./a", ""},
	{"/a/..", ""},
	{"/../a", ""},
	{"/%2e%2e/a", ""},
	{"/%2E/a", ""},
	{"/a%2Fb", ""},
	{"/a%2fb", ""},
	{"/%00", ""},
	{"/a%0Ab", ""},
	{"/%7F", ""},
	{"/%C2%80", ""},       // a control character
	{"/%C0%AF", ""},       // an overlong slash
	{"/%FF", ""},          // not UTF-8
	{"/%ED%A0%80", ""},    // half a surrogate pair
	{"/%EF%BF%BE", ""},    // U+FFFE
	{"/%EE%80%80", ""},    // private use
	{"/%F0%9F%98%80", ""}, // beyond U+FFFF, which ZooKeeper's clients can't name
	{"/%", ""},
	{"/%4", ""},
	{"/%zz", ""},
	{"/" + strings.Repeat("a", op.MaxPathBytes), ""},
	{strings.Repeat("/a", op.MaxDepth+1), ""},
	{strings.Repeat("/a", op.MaxDepth), strings.Repeat("/a", op.MaxDepth)},
	{"/" + strings.Repeat("%61", 4000), "/" + strings.Repeat("a", 4000)},
	{strings.Repeat("/%61", 500_000), ""},
}

func TestNodePath(t *testing.T) {
	for _, test := range paths {
		got, err := nodePath(test.escaped)
		switch {
		case test.want == "" && !errors.Is(err, &op.Error{Code: op.BadPath}):
			t.Errorf("nodePath(%.80q) = %.80q, %v; want bad_path", test.escaped, got, err)
		case test.want != "" && (err != nil || got != test.want):
			t.Errorf("nodePath(%.80q) = %.80q, %v; want %.80q", test.escaped, got, err, test.want)
		}
	}
}

// TestSentPath: what was sent is what is parsed, also where net/url would write it in another way.
func TestSentPath(t *testing.T) {
	for _, sent := range []string{"/v1/nodes/a%2Fb^", "/v1/nodes/a%2fb", "/v1/nodes/a b", "/v1/nodes/[a]|b", "/v1/nodes/a%5Eb^"} {
		u, err := url.ParseRequestURI(sent)
		if err != nil {
			continue
		}
		if got := sentPath(u); got != sent {
			t.Errorf("%q was sent, %q is parsed", sent, got)
		}
	}
}

func TestRecipeDir(t *testing.T) {
	for _, test := range []struct{ name, want string }{
		{"nightly", "/locks/nightly"}, {"/app/lock", "/app/lock"}, {"a/b", "/locks/a/b"}, {"", ""}, {"..", ""}, {"/", "/"},
	} {
		got, err := recipeDir(locksDir, test.name)
		if (err == nil) != (test.want != "") || err == nil && got != test.want {
			t.Errorf("recipeDir(%q) = %q, %v", test.name, got, err)
		}
	}
}

// FuzzNodePath: what is accepted is a path that a node may have, and its own URL leads back to it, in one canonical way.
func FuzzNodePath(f *testing.F) {
	for _, test := range paths {
		if len(test.escaped) < 100 {
			f.Add(test.escaped)
		}
	}
	f.Fuzz(func(t *testing.T, escaped string) {
		if escaped != "" && escaped[0] != '/' {
			return
		}
		path, err := nodePath(escaped)
		if err != nil {
			return
		}
		if err := op.CheckPath(path); err != nil {
			t.Fatalf("%q was accepted as %q: %v", escaped, path, err)
		}
		again, err := nodePath(strings.TrimPrefix(nodeURL(nodesURL, path), nodesURL))
		if err != nil || again != path {
			t.Fatalf("%q became %q, whose URL leads to %q, %v", escaped, path, again, err)
		}
		if strings.Count(escaped, "/") != strings.Count(path, "/") && path != op.Root {
			t.Fatalf("%q became %q, which has other segments", escaped, path)
		}
	})
}
