package api

import (
	"net/url"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// A query has the parameters that net/url finds in it, and is refused if net/url refuses it.
func TestParseParams(t *testing.T) {
	piece := rapid.SampledFrom([]string{"&", "=", ";", "+", "%20", "%", "%zz", "%3B", "a", "b", "é", "&&", "a=1"})
	rapid.Check(t, func(t *rapid.T) {
		raw := ""
		for _, s := range rapid.SliceOfN(piece, 0, 12).Draw(t, "pieces") {
			raw += s
		}
		want, wantErr := url.ParseQuery(raw)
		got, err := parseParams(raw, nil)
		if (err != nil) != (wantErr != nil) {
			t.Fatalf("%q: %v, want %v", raw, err, wantErr)
		}
		if err != nil {
			return
		}
		q := query{params: got}
		for name, values := range want {
			if all := q.all(name); !slices.Equal(all, values) {
				t.Fatalf("%q: %q is %q, want %q", raw, name, all, values)
			}
		}
		if err := q.done(); err != nil {
			t.Fatalf("%q: too much was found: %v", raw, err)
		}
	})
}

func TestParamsBounded(t *testing.T) {
	if _, err := parseParams(strings.Repeat("a&", maxParams-1), nil); err != nil {
		t.Error(err)
	}
	if _, err := parseParams(strings.Repeat("a&", maxParams), nil); err != errParams {
		t.Errorf("%v", err)
	}
}
