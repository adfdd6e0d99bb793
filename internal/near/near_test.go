package near

import (
	"strings"
	"testing"
)

func TestNearest(t *testing.T) {
	names := []string{"wait", "parents", "recursive", "rate", "max", "min"}
	for s, want := range map[string]string{
		"wiat": "wait", "mni": "min", "parent": "parents", "paretns": "parents", "recurse": "recursive", "wate": "rate", "watt": "wait",
		"timeout": "", "": "", "x": "", "rw": "", strings.Repeat("wait", 20): "",
	} {
		if got := Nearest(s, names); got != want {
			t.Errorf("Nearest(%q) is %q, not %q", s, got, want)
		}
	}
}
