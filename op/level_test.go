package op

import "testing"

func TestCutLevel(t *testing.T) {
	for s, want := range map[string]struct {
		level Level
		age   string
	}{
		"linearizable": {Linearizable, ""}, "sequential": {Sequential, ""}, " eventual ": {Eventual, ""},
		"bounded; max=500ms": {Bounded, "500ms"}, "bounded;max=x": {Bounded, "x"}, "bounded&max=1s": {Bounded, "1s"}, "bounded:1s": {Bounded, "1s"},
	} {
		if level, age, ok := CutLevel(s); !ok || level != want.level || age != want.age {
			t.Errorf("%q: %v, %q, %t", s, level, age, ok)
		}
	}
	for _, s := range []string{"", "maybe", "bounded", "bounded;", "bounded:", "bounded;max=", "bounded;500ms", "bounded:1s; max=1s", "bounded; max=1s; max=2s",
		"eventual;", "eventual:", "eventual; max=1s", "linearizable:1s", "bounded; age=1s", "bounded max=1s"} {
		if level, age, ok := CutLevel(s); ok {
			t.Errorf("%q is %v, %q", s, level, age)
		}
	}
}
