package check

import (
	"fmt"

	"github.com/coord-kv/coord/op"
)

// Fencing checks that writes that were fenced by the token of an exclusive lock were done in the order of the tokens: once
// a holder has written, none before it does.
func Fencing(h *History) error {
	type token struct {
		zxid op.Zxid
		call *Call
	}
	highest := map[string]token{}
	for _, c := range byZxid(h.Calls) {
		dir, fence := fenceOf(c)
		if dir == "" {
			continue
		}
		if last := highest[dir]; fence < last.zxid {
			return fmt.Errorf("%v was done with the token %d after %v with %d", c, fence, last.call, last.zxid)
		}
		highest[dir] = token{fence, c}
	}
	return nil
}

// fenceOf returns the lock and the token that a write which was done had to show.
func fenceOf(c *Call) (dir string, token op.Zxid) {
	x, ok := c.Request.Op.(*op.Txn)
	if !ok || c.Read != nil || !c.Decided() || c.Result.Err != nil || c.Result.Else {
		return "", 0
	}
	for _, o := range x.If {
		if f, ok := o.(*op.Holder); ok && !f.Rule.Shared && f.Rule.Slots <= 1 {
			return f.Dir, f.Token
		}
	}
	return "", 0
}
