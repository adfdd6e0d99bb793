package check

import (
	"fmt"

	"github.com/coord-kv/coord/op"
)

// Durable checks that no acknowledged write is lost: the log holds the request that was answered, with its operation, and
// not before it was made or after it was answered.
func Durable(h *History) error {
	byZxid := map[op.Zxid]*Decision{}
	for d := range h.Replay(NewNamespace()) {
		if d.Fresh {
			byZxid[d.Result.Zxid] = d
		}
	}
	for _, c := range h.Calls {
		if c.Read != nil || !c.Decided() {
			continue
		}
		d := byZxid[c.Result.Zxid]
		switch {
		case d == nil:
			return fmt.Errorf("%v was acknowledged with zxid %d, which nothing in the log has", c, c.Result.Zxid)
		case string(op.AppendOp(nil, d.Request.Op)) != string(op.AppendOp(nil, c.Request.Op)):
			return fmt.Errorf("%v was acknowledged with zxid %d, which is %s", c, c.Result.Zxid, Describe(d.Request.Op))
		case d.Entry.Applied.Order < c.Start.Order:
			return fmt.Errorf("%v was acknowledged with zxid %d, which was decided before it was made", c, c.Result.Zxid)
		case d.Entry.Applied.Order > c.End.Order:
			return fmt.Errorf("%v was acknowledged before anybody had applied entry %d", c, d.Entry.Index)
		}
	}
	return nil
}
