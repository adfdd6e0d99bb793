package check

import (
	"fmt"

	"github.com/coord-kv/coord/op"
)

// Once checks that nothing is done twice: a request without a sequence number or key stands at most once in the log,
// every attempt at one that has them gets the same decision, and one that was given up as refused is never decided.
func Once(h *History) error {
	inLog, done := map[op.Tag]int{}, map[op.Tag]int{}
	for d := range h.Replay(NewNamespace()) {
		inLog[d.Request.Tag]++
		if d.Fresh && d.Result.Err == nil {
			done[d.Request.Tag]++
		}
	}
	for _, c := range h.Calls {
		if err := sameAnswers(c); err != nil {
			return err
		}
		if err := onceAtMost(c, inLog, done); err != nil {
			return err
		}
	}
	return nil
}

func sameAnswers(c *Call) error {
	var first *op.Result
	for _, a := range c.Attempts {
		switch {
		case a.Result == nil || a.Result.Err != nil && a.Result.Err.Outcome != op.Decided:
		case first == nil:
			first = a.Result
		default:
			if diff := differ(a.Result, first); diff != "" {
				return fmt.Errorf("%v got another answer when it was repeated: %s", c, diff)
			}
		}
	}
	return nil
}

func onceAtMost(c *Call, inLog, done map[op.Tag]int) error {
	sum := 0
	for _, a := range c.Attempts {
		sum += done[a.Tag]
		if _, again := idOf(c.Request); !again && inLog[a.Tag] > 1 {
			return fmt.Errorf("%v, which nobody could recognise, stands %d times in the log", c, inLog[a.Tag])
		}
	}
	switch {
	case sum > 1:
		return fmt.Errorf("%v was done %d times", c, sum)
	case sum > 0 && c.Refused():
		return fmt.Errorf("%v was refused with %s, and was done", c, code(c.Result))
	}
	return nil
}
