package e2e

import (
	"os/exec"
	"strings"
	"testing"
)

// TestStandardStreams: a standard stream that is closed, full or a device without an end is no reason to store what nobody
// meant, or to say that all is well. A closed standard output is one whose reader wants nothing.
func TestStandardStreams(t *testing.T) {
	if _, err := exec.LookPath("sh"); err != nil {
		t.Skip(err)
	}
	c := startCluster(t, 1)
	t.Setenv("COORD_ENDPOINTS", c.members[0].http)
	t.Setenv("COORD_TIMEOUT", "60s")
	for _, test := range []struct {
		script string
		code   int
		says   string // on standard error
		value  string // of /v afterwards
	}{
		{`"$0" set /v one -q`, 0, "", "one"},
		{`"$0" set /v - <&-`, 2, "standard input is closed", "one"},
		{`"$0" txn <&-`, 2, "standard input is not JSON", "one"},
		{`"$0" set /v - </`, 1, "couldn't read standard input", "one"},
		{`"$0" set /v - </dev/zero`, 1, "standard input is too large", "one"},
		{`"$0" set /v - </dev/null -q`, 0, "", ""},
		{`printf two | "$0" set /v - -q`, 0, "", "two"},
		{`"$0" get /v >/dev/full`, 1, "couldn't write to standard output", "two"},
		{`"$0" ls / -o json >/dev/full`, 1, "couldn't write to standard output", "two"},
		{`"$0" status >/dev/full`, 1, "couldn't write to standard output", "two"},
		{`"$0" set /v three >/dev/full`, 1, "couldn't write to standard output", "three"},
		{`"$0" get /v >&-`, 0, "", "three"},
		{`"$0" set /v four >&- 2>&- <&-`, 0, "", "four"},
		{`"$0" get /nope >&- 2>&-`, 3, "", "four"},
		{`"$0" ls / | true`, 0, "", "four"},
	} {
		var errs strings.Builder
		cmd := exec.CommandContext(t.Context(), "sh", "-c", test.script, binary)
		cmd.Stderr = &errs
		if err := cmd.Run(); cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != test.code ||
			!strings.Contains(errs.String(), test.says) || test.says == "" && errs.Len() > 0 {
			t.Errorf("%s: %v\n%s", test.script, err, errs.String())
		}
		if _, value, _ := c.members[0].do(t.Context(), "GET", "/v1/nodes/v?raw", "", nil); value != test.value {
			t.Errorf("%s: the value is %q", test.script, value)
		}
	}
}
