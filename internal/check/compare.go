package check

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"

	"github.com/coord-kv/coord/op"
)

// differ says in what two results differ, "" if in nothing that a client may rely on: why an error came about is a matter
// of wording, what it is about and what may have happened is not.
func differ(got, want *op.Result) string {
	switch {
	case got.Zxid != want.Zxid:
		return fmt.Sprintf("zxid %d, not %d", got.Zxid, want.Zxid)
	case code(got) != code(want):
		return fmt.Sprintf("%s, not %s", code(got), code(want))
	case got.Err != nil && (got.Err.Outcome != want.Err.Outcome || got.Err.Index != want.Err.Index):
		return fmt.Sprintf("%s of operation %d, not %s of %d", got.Err.Outcome, got.Err.Index, want.Err.Outcome, want.Err.Index)
	case got.Path != want.Path:
		return fmt.Sprintf("path %q, not %q", got.Path, want.Path)
	case !sameData(got.Data, want.Data):
		return fmt.Sprintf("data %q, not %q", got.Data, want.Data)
	case got.Count != want.Count || got.Else != want.Else || got.More != want.More:
		return fmt.Sprintf("count %d, else %t, more %t; not %d, %t, %t", got.Count, got.Else, got.More, want.Count, want.Else, want.More)
	}
	for _, part := range [][2]any{{got.Stat, want.Stat}, {got.Rank, want.Rank}, {got.Session, want.Session}} {
		if a, b := show(part[0]), show(part[1]); a != b {
			return fmt.Sprintf("%s, not %s", a, b)
		}
	}
	return differInParts(got, want)
}

func differInParts(got, want *op.Result) string {
	if d := differNodes(got.Nodes, want.Nodes); d != "" {
		return d
	}
	if len(got.Results) != len(want.Results) {
		return fmt.Sprintf("%d results, not %d", len(got.Results), len(want.Results))
	}
	for i := range got.Results {
		if d := differ(&got.Results[i], &want.Results[i]); d != "" {
			return fmt.Sprintf("operation %d: %s", i, d)
		}
	}
	return ""
}

func differNodes(got, want []op.Node) string {
	for i := range max(len(got), len(want)) {
		switch {
		case i >= len(got):
			return fmt.Sprintf("%s is missing", want[i].Path)
		case i >= len(want):
			return fmt.Sprintf("%s is too much", got[i].Path)
		case got[i].Path != want[i].Path:
			return fmt.Sprintf("%s where %s should be", got[i].Path, want[i].Path)
		case got[i].Stat != want[i].Stat:
			return fmt.Sprintf("%s is %+v, not %+v", got[i].Path, got[i].Stat, want[i].Stat)
		case !sameData(got[i].Data, want[i].Data):
			return fmt.Sprintf("%s holds %q, not %q", got[i].Path, got[i].Data, want[i].Data)
		}
	}
	return ""
}

// sameData tells null and empty data apart.
func sameData(a, b []byte) bool { return bytes.Equal(a, b) && (a == nil) == (b == nil) }

func code(r *op.Result) op.Code {
	if r.Err != nil {
		return r.Err.Code
	}
	return op.OK
}

// show prints what a pointer to a struct points to.
func show(p any) string {
	switch x := p.(type) {
	case *op.Stat:
		if x != nil {
			return fmt.Sprintf("stat%+v", *x)
		}
	case *op.RankInfo:
		if x != nil {
			return fmt.Sprintf("rank%+v", *x)
		}
	case *op.SessionInfo:
		if x != nil {
			return fmt.Sprintf("session%+v", *x)
		}
	}
	return "nothing"
}

func sameEvent(a, b op.Event) bool {
	return a.Zxid == b.Zxid && a.Type == b.Type && a.Kind == b.Kind && a.Path == b.Path && a.Version == b.Version
}

func showEvent(e op.Event) string { return fmt.Sprintf("%s %s at %d", e.Type, e.Path, e.Zxid) }

// byEnd returns the calls that ended, in the order in which they did; byStart all, in the order of their beginnings.
func byEnd(calls []*Call) []*Call {
	ended := slices.DeleteFunc(slices.Clone(calls), func(c *Call) bool { return c.End.Never() })
	slices.SortFunc(ended, func(a, b *Call) int { return cmp.Compare(a.End.Order, b.End.Order) })
	return ended
}

func byStart(calls []*Call) []*Call {
	sorted := slices.Clone(calls)
	slices.SortFunc(sorted, func(a, b *Call) int { return cmp.Compare(a.Start.Order, b.Start.Order) })
	return sorted
}

// byZxid returns the writes that were decided, in the order in which they say that they were.
func byZxid(calls []*Call) []*Call {
	writes := slices.DeleteFunc(slices.Clone(calls), func(c *Call) bool { return c.Read != nil || !c.Decided() })
	slices.SortFunc(writes, func(a, b *Call) int { return cmp.Compare(a.Result.Zxid, b.Result.Zxid) })
	return writes
}
