package check

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/coord-kv/coord/op"
)

// shop is a story about the configuration of one application: a version, another one, and a rollback to the first, which
// somebody has followed.
type shop struct {
	*story
	number int64
	now    map[string]string
	shown  *Shown
}

func newShop(t *testing.T) *shop {
	s := &shop{story: newStory(t), now: map[string]string{}}
	s.create("/config", "")
	s.commit(0, map[string]string{"a": "1"})
	s.sees(1, map[string]string{"a": "1"})
	s.commit(0, map[string]string{"a": "2", "b": "2"})
	s.commit(1, map[string]string{"a": "1"})
	s.sees(3, map[string]string{"a": "1"})
	s.h.Configs.Commits = append(s.h.Configs.Commits, Commit{1, "/config/shop", 2, "c2"})
	s.finish()
	s.recovered()
	s.accepts()
	return s
}

// commit makes a version with these values, which are those of an earlier version if back is not 0. tampered are further
// operations of the same transaction.
func (s *shop) commit(back int64, values map[string]string, tampered ...op.Op) {
	s.number++
	record, _ := json.Marshal(map[string]any{"version": s.number, "comment": fmt.Sprint("c", s.number), "rolled_back_to": back})
	kept, _ := json.Marshal(values)
	at := fmt.Sprintf("/config/shop/.history/%010d", s.number)
	ops := []op.Op{&op.Create{Path: "/config/shop", Data: record, Replace: true}}
	if s.number == 1 {
		ops = append(ops, &op.Create{Path: "/config/shop/.history"})
	}
	for _, key := range slices.Sorted(maps.Keys(s.now)) {
		ops = append(ops, &op.Delete{Path: "/config/shop/" + key, If: op.Always})
	}
	for _, key := range slices.Sorted(maps.Keys(values)) {
		ops = append(ops, &op.Create{Path: "/config/shop/" + key, Data: []byte(values[key])})
	}
	ops = append(ops, &op.Create{Path: at, Data: record}, &op.Create{Path: at + "/values", Data: kept})
	if c := s.write(1, &op.Txn{Then: append(ops, tampered...)}); c.Result.Err != nil {
		s.t.Fatal(c.Result.Err)
	}
	s.now = values
}

func (s *shop) sees(number int64, values map[string]string) {
	s.shown = &Shown{Follower: 1, Dir: "/config/shop", Version: number, Values: values, Open: true}
	s.h.Configs.Shown = append(s.h.Configs.Shown, s.shown)
}

func TestConfigurations(t *testing.T) {
	three := map[string]string{"a": "3"}
	for why, doctor := range map[string]func(s *shop){
		"values changed, and the version is 3 after 3": func(s *shop) { s.set("/config/shop/a", "by hand") },
		"values changed, and the version is 5 after 3": func(s *shop) { s.number++; s.commit(0, three) },
		"its node is no version":                       func(s *shop) { s.set("/config/shop", "by hand") },
		"other values than version 1":                  func(s *shop) { s.commit(1, three) },
		"other values than version 9":                  func(s *shop) { s.commit(9, three) },
		"the history has a gap": func(s *shop) {
			s.commit(0, three, &op.Delete{Path: "/config/shop/.history/0000000002", If: op.Always, Recursive: true})
		},
		"version 4 is kept as map[a:3], and the values are map[a:4]": func(s *shop) {
			s.commit(0, three, &op.Set{Path: "/config/shop/a", Data: []byte("4"), If: op.Always})
		},
		`was told that "c2" has become version 3`:                       func(s *shop) { s.h.Configs.Commits[0].Version = 3 },
		`was told that "lost" has become`:                               func(s *shop) { s.h.Configs.Commits[0].Comment = "lost" },
		"saw map[a:2] as version 3":                                     func(s *shop) { s.shown.Values = map[string]string{"a": "2"} },
		"as version 7 of":                                               func(s *shop) { s.shown.Version = 7 },
		"went back from version 3":                                      func(s *shop) { s.sees(1, map[string]string{"a": "1"}) },
		"has version 3 of /config/shop in the end, and 4 is the newest": func(s *shop) { s.commit(0, three) },
	} {
		s := newShop(t)
		doctor(s)
		s.rejects(Configurations, why)
	}
}

// TestConfigurationsForgotten: the oldest versions may go, and who doesn't follow any more may be behind.
func TestConfigurationsForgotten(t *testing.T) {
	s := newShop(t)
	s.commit(0, map[string]string{"a": "4"}, &op.Delete{Path: "/config/shop/.history/0000000001", If: op.Always, Recursive: true})
	s.shown.Open = false
	if err := Configurations(s.h); err != nil {
		t.Error(err)
	}
}
