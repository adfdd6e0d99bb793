package settings

import (
	"testing"

	"github.com/coord-kv/coord/op"
)

// Latest takes what is newer and another one, in whatever order things are shown to it.
func TestLatest(t *testing.T) {
	var l Latest
	shown := func(zxid op.Zxid, number int64, value string) Config {
		return Config{Version: Version{Number: number}, Zxid: zxid, Values: map[string]string{"a": value}}
	}
	for i, x := range []struct {
		c     Config
		taken bool
	}{
		{Config{}, true}, // there is none
		{shown(5, 1, "1"), true},
		{shown(5, 1, "1"), false},
		{shown(9, 1, "1"), false}, // the same, known to be so for longer
		{shown(7, 2, "2"), false}, // older than what is known
		{shown(10, 2, "2"), true},
		{shown(11, 2, "by hand"), true},
		{Config{Zxid: 12}, true},
	} {
		if l.Take(x.c) != x.taken {
			t.Errorf("%d: %+v was taken: %t", i, x.c, !x.taken)
		}
	}
}
