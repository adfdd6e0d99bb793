package check

import (
	"fmt"
	"maps"
	"strconv"

	"github.com/coord-kv/coord/op"
)

// Sequences checks that the names of sequence nodes that clients were given are unique, and that their numbers grow with
// the zxid in every directory, until that is deleted: another of that name begins anew.
func Sequences(h *History) error {
	deleted := deletions(h)
	given := map[string]*Call{}
	highest := map[string]numbering{}
	for _, c := range byZxid(h.Calls) {
		for _, path := range sequenceNodes(c) {
			dir, number := op.Parent(path), numberOf(path)
			for ; len(deleted[dir]) > 0 && deleted[dir][0] <= c.Result.Zxid; deleted[dir] = deleted[dir][1:] {
				delete(highest, dir)
				maps.DeleteFunc(given, func(old string, _ *Call) bool { return op.Parent(old) == dir })
			}
			if other := given[path]; other != nil {
				return fmt.Errorf("%v and %v were both given %s", other, c, path)
			}
			given[path] = c
			if last, ok := highest[dir]; ok && number <= last.number {
				return fmt.Errorf("%v was given %s after %d, which had come to number %d", c, path, last.zxid, last.number)
			}
			highest[dir] = numbering{number, c.Result.Zxid}
		}
	}
	return nil
}

// deletions returns at which zxids each path was deleted.
func deletions(h *History) map[string][]op.Zxid {
	all := map[string][]op.Zxid{}
	for d := range h.Replay(NewNamespace()) {
		for _, e := range d.Events {
			if e.Type == op.Deleted {
				all[e.Path] = append(all[e.Path], e.Zxid)
			}
		}
	}
	return all
}

type numbering struct {
	number uint64
	zxid   op.Zxid
}

func numberOf(path string) uint64 {
	number, err := strconv.ParseUint(path[len(path)-10:], 10, 64)
	if err != nil {
		panic("check: a sequence node without a number: " + path)
	}
	return number
}

// sequenceNodes returns the paths of the numbered nodes that a call has made, as it was told.
func sequenceNodes(c *Call) (paths []string) {
	ops, results := made(c.Request.Op, c.Result)
	for i, o := range ops {
		if x, ok := o.(*op.Create); ok && x.Sequence && results[i].Err == nil {
			paths = append(paths, results[i].Path)
		}
	}
	return paths
}

// made returns the operations that an operation consists of, as far as they were done or answered, and their results.
func made(o op.Op, res *op.Result) ([]op.Op, []op.Result) {
	x, ok := o.(*op.Txn)
	switch {
	case !ok:
		return []op.Op{o}, []op.Result{*res}
	case res.Err != nil:
		return nil, nil
	case res.Else:
		return x.Else, res.Results
	}
	return x.Then, res.Results
}
