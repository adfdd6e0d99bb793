package coord_test

import (
	"errors"
	"testing"

	"github.com/coord-kv/coord/coord"
)

// TestParseToken: what String writes, ParseToken reads; nothing else is a token.
func TestParseToken(t *testing.T) {
	for text, token := range map[string]coord.Token{
		"nightly=41":         {Dir: "/locks/nightly", Zxid: 41},
		"term:boss=57":       {Dir: "/elections/boss", Zxid: 57, Term: true},
		"%2Fa%2Fb=1":         {Dir: "/a/b", Zxid: 1},
		"a%20%C3%A4%3D1=2":   {Dir: "/locks/a ä=1", Zxid: 2},
		"term:%2Fa%2Fboss=3": {Dir: "/a/boss", Zxid: 3, Term: true},
		"term:term%3Ax=3":    {Dir: "/elections/term:x", Zxid: 3, Term: true},
	} {
		got, err := coord.ParseToken(text)
		if err != nil || got != token {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
		if again, err := coord.ParseToken(token.String()); err != nil || again != token {
			t.Errorf("%s: %+v, %v", token, again, err)
		}
	}
	for _, text := range []string{"", "nightly", "nightly=", "nightly=x", "nightly=0", "nightly=-1", "=1", "a//b=1", "%zz=1", "term:=1"} {
		var e *coord.Error
		if token, err := coord.ParseToken(text); !errors.As(err, &e) || e.Outcome != coord.Refused {
			t.Errorf("%q: %+v, %v", text, token, err)
		}
	}
}
