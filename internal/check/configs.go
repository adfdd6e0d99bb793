package check

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/coord-kv/coord/op"
)

// Shown is a configuration that somebody who follows it has taken up; those of one follower stand in their order.
type Shown struct {
	Follower int
	Dir      string // of the application
	Version  int64
	Values   map[string]string
	Open     bool // it follows on until the end
}

// Commit is a version that somebody was told to have made, under a comment that nobody else has used.
type Commit struct {
	Client  int
	Dir     string
	Version int64
	Comment string
}

// Configs is the record of configurations.
type Configs struct {
	Shown   []*Shown
	Commits []Commit
}

// revision is a version as the log has it.
type revision struct {
	Version      int64  `json:"version"`
	Comment      string `json:"comment"`
	RolledBackTo int64  `json:"rolled_back_to"`
	values       map[string]string
}

// Configurations checks that values change only together with their application's node, which counts versions without a
// gap; that each version is kept as it is written, all of it in one transaction, and the versions that are kept are the
// newest, without one missing; that a rollback has exactly the values that it went back to; that a commit which was
// acknowledged has become the version that its writer was told; and that who follows takes up versions that there were,
// none of them older than the one before, and after all faults has the newest.
func Configurations(h *History) error {
	all := map[string]map[int64]*revision{}
	ns := NewNamespace()
	for d := range h.Replay(ns) {
		for dir := range ns.touched(d.Events) {
			if all[dir] == nil {
				all[dir] = map[int64]*revision{}
			}
			if err := ns.revise(dir, all[dir]); err != nil {
				return fmt.Errorf("zxid %d, %s: %w", ns.zxid, dir, err)
			}
		}
	}
	for _, c := range h.Configs.Commits {
		if r := all[c.Dir][c.Version]; r == nil || r.Comment != c.Comment {
			return fmt.Errorf("client %d was told that %q has become version %d of %s, which it hasn't", c.Client, c.Comment, c.Version, c.Dir)
		}
	}
	return h.followed(all)
}

// touched returns the applications whose values or node some of the events are about.
func (n *Namespace) touched(events []op.Event) map[string]bool {
	dirs := map[string]bool{}
	for _, e := range events {
		switch parent := op.Parent(e.Path); {
		case parent == "/config":
			dirs[e.Path] = true
		case op.Parent(parent) == "/config" && op.Base(e.Path) != ".history":
			dirs[parent] = true
		}
	}
	return dirs
}

// revise takes in the version that a transaction has made.
func (n *Namespace) revise(dir string, known map[int64]*revision) error {
	r := &revision{values: map[string]string{}}
	if err := json.Unmarshal(n.nodes[dir].data, r); err != nil {
		return fmt.Errorf("its node is no version: %w", err)
	}
	if r.Version != int64(len(known))+1 {
		return fmt.Errorf("values changed, and the version is %d after %d", r.Version, len(known))
	}
	for _, key := range n.nodes[dir].children {
		if key != ".history" {
			r.values[key] = string(n.nodes[op.Join(dir, key)].data)
		}
	}
	known[r.Version] = r
	if old := known[r.RolledBackTo]; r.RolledBackTo != 0 && (old == nil || !maps.Equal(old.values, r.values)) {
		return fmt.Errorf("version %d has other values than version %d, to which it went back", r.Version, r.RolledBackTo)
	}
	return n.keeps(dir+"/.history", r)
}

// keeps checks what is kept right after a version was made.
func (n *Namespace) keeps(history string, r *revision) error {
	kept := n.nodes[history].children
	oldest := r.Version - int64(len(kept)) + 1
	for i, name := range kept {
		if name != fmt.Sprintf("%010d", oldest+int64(i)) {
			return fmt.Errorf("the history has a gap: %v", kept)
		}
	}
	var values map[string]string
	path := fmt.Sprintf("%s/%010d", history, r.Version)
	if err := json.Unmarshal(n.nodes[path+"/values"].data, &values); err != nil || !maps.Equal(values, r.values) {
		return fmt.Errorf("version %d is kept as %v, and the values are %v", r.Version, values, r.values)
	}
	return nil
}

// followed checks what followers have taken up.
func (h *History) followed(all map[string]map[int64]*revision) error {
	last := map[int]*Shown{}
	for _, s := range h.Configs.Shown {
		r := all[s.Dir][s.Version]
		switch before := last[s.Follower]; {
		case s.Version != 0 && r == nil, r != nil && !maps.Equal(r.values, s.Values), s.Version == 0 && len(s.Values) > 0:
			return fmt.Errorf("follower %d saw %v as version %d of %s, which it never was", s.Follower, s.Values, s.Version, s.Dir)
		case before != nil && s.Version < before.Version:
			return fmt.Errorf("follower %d went back from version %d of %s to %d", s.Follower, before.Version, s.Dir, s.Version)
		}
		last[s.Follower] = s
	}
	if h.Recovery.Equal.Never() {
		return nil
	}
	for _, id := range slices.Sorted(maps.Keys(last)) {
		s := last[id]
		if newest := int64(len(all[s.Dir])); s.Open && s.Version != newest {
			return fmt.Errorf("follower %d has version %d of %s in the end, and %d is the newest", id, s.Version, s.Dir, newest)
		}
	}
	return nil
}
