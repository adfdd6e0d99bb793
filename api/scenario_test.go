package api

import (
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/coord-kv/coord/op"
)

// TestScenarios runs conversations: requests as they go over the wire, and the answers. Commands besides "http":
//
//	http [whole]        one request; whole shows stats too
//	pass 5s             time passes
//	refuse no_leader    writes and linearizable reads are refused; "refuse ok" ends that
//	lagging on|off      this member shows an old state
//	silent on|off       writes take effect and are never answered
//	unproven on|off     keep-alives are never confirmed
func TestScenarios(t *testing.T) {
	datadriven.Walk(t, "testdata/scenarios", func(t *testing.T, path string) {
		f := newFixture(t, func(c *Config) {
			c.Super = digestOf("root", "toor")
		})
		f.m.tell(func() { f.m.hurried = true })
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			return f.command(t, d)
		})
	})
}

func (f *fixture) command(t *testing.T, d *datadriven.TestData) string {
	switch d.Cmd {
	case "http":
		return withNewline(f.exchange(d.Input).show(d.HasArg("whole")))
	case "pass":
		dur, err := time.ParseDuration(d.CmdArgs[0].Key)
		if err != nil {
			t.Fatal(err)
		}
		f.m.pass(dur)
	case "refuse":
		code, _ := op.CodeOf(d.CmdArgs[0].Key)
		f.m.tell(func() {
			f.m.refuse = nil
			if code != op.OK {
				f.m.refuse = &op.Error{Code: code}
			}
		})
	case "lagging", "silent", "unproven":
		on := d.CmdArgs[0].Key == "on"
		f.m.tell(func() {
			*map[string]*bool{"lagging": &f.m.lagging, "silent": &f.m.silent, "unproven": &f.m.unproven}[d.Cmd] = on
		})
	default:
		t.Fatalf("%s: unknown command %s", d.Pos, d.Cmd)
	}
	return ""
}

func withNewline(s string) string {
	if !strings.HasSuffix(s, "\n") {
		return s + "\n"
	}
	return s
}
