package api

import (
	"fmt"
	"strings"

	"github.com/coord-kv/coord/op"
)

// lostQuorum says which members have to come back, "" if this member is connected to enough of them: then an election is
// what is missing.
func lostQuorum(st *op.Status) string {
	voters, down := 0, []string(nil)
	for i := range st.Members {
		m := &st.Members[i]
		if m.Learner {
			continue
		}
		voters++
		if !m.Up {
			down = append(down, m.Name)
		}
	}
	needed := voters/2 + 1
	if voters == 0 || voters-len(down) >= needed {
		return ""
	}
	return fmt.Sprintf("Start %s: this member can't reach them, and %d of %d are needed. Reads with ?consistency=eventual still work.",
		strings.Join(down, " and "), needed, voters)
}
