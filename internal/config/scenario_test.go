package config

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/spf13/pflag"
)

// TestScenarios plays testdata/scenarios. Commands:
//
//	file    the text of a file, or with the argument "quoted" that of a Go string: prints what it gives, or what is wrong
//	load    lines of flags and variables: prints what a member that is started with them, and with the last file, was
//	        given and where, or what is wrong
func TestScenarios(t *testing.T) {
	datadriven.Walk(t, "testdata/scenarios", func(t *testing.T, path string) {
		p := &player{t: t, file: filepath.Join(t.TempDir(), "coord.yaml")}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			play := map[string]func(*datadriven.TestData) string{"file": p.playFile, "load": p.playLoad}[d.Cmd]
			if play == nil {
				t.Fatalf("%s: no such command %q", d.Pos, d.Cmd)
			}
			return strings.ReplaceAll(play(d), p.file, "coord.yaml")
		})
	})
}

type player struct {
	t    *testing.T
	file string
}

func (p *player) playFile(d *datadriven.TestData) string {
	text := d.Input
	if d.HasArg("quoted") {
		var err error
		if text, err = strconv.Unquote(text); err != nil {
			p.t.Fatal(err)
		}
	}
	if err := os.WriteFile(p.file, []byte(text), 0o600); err != nil {
		p.t.Fatal(err)
	}
	missing, err := CheckFile(p.file)
	if err != nil {
		return err.Error()
	}
	c := New()
	f, _ := readFile(p.file)
	c.apply(f)
	return c.show() + fmt.Sprintln("missing", missing)
}

func (p *player) playLoad(d *datadriven.TestData) string {
	var args []string
	env := map[string]string{}
	for line := range strings.Lines(d.Input) {
		line = strings.Replace(strings.TrimSpace(line), "FILE", p.file, 1)
		if name, v, _ := strings.Cut(line, "="); strings.HasPrefix(name, "COORD_") {
			env[name] = v
		} else {
			args = append(args, line)
		}
	}
	c, flags := New(), pflag.NewFlagSet("serve", pflag.ContinueOnError)
	c.Register(flags)
	if err := flags.Parse(args); err != nil {
		return err.Error()
	}
	lookup := func(name string) (string, bool) { v, ok := env[name]; return v, ok }
	if err := c.Load(flags, lookup); err != nil {
		return err.Error()
	}
	return c.show()
}

// show lists the options that were given, with their values.
func (c *Config) show() string {
	var b strings.Builder
	for _, o := range c.Options() {
		if where := c.origins[o.Name]; where != "" && !o.FlagOnly {
			fmt.Fprintf(&b, "%s = %s (%s)\n", o.Name, o.Value, where)
		}
	}
	return b.String()
}

func TestUnreadableFiles(t *testing.T) {
	dir := t.TempDir()
	huge := filepath.Join(dir, "huge")
	if err := os.WriteFile(huge, make([]byte, maxFile+1), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		filepath.Join(dir, "none"): "no such file", dir: "not a regular file", "/dev/zero": "not a regular file", huge: "more than 1MiB",
	} {
		if _, err := CheckFile(name); err == nil || !strings.Contains(err.Error(), name+": ") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want %q", name, err, want)
		}
	}
}

// TestTable: every option has words, a group but for --config, a default that it accepts itself, and a name of its own.
func TestTable(t *testing.T) {
	var names []string
	for _, o := range New().Options() {
		if o.Help == "" || (o.Group == "") != o.FlagOnly {
			t.Errorf("%s: help %q, group %q", o.Name, o.Help, o.Group)
		}
		if v := o.Value.String(); v != "" {
			if err := o.Value.Set(v); err != nil || o.Value.String() != v {
				t.Errorf("%s: the default %q: %v, %q", o.Name, v, err, o.Value)
			}
		}
		names = append(names, o.Name)
	}
	slices.Sort(names)
	if len(slices.Compact(names)) != len(New().Options()) {
		t.Error("two options have one name")
	}
	if err := New().check(); err != nil {
		t.Error(err)
	}
}

// TestEffective: what is in effect is told of every option, with what has said so, and without what is secret.
func TestEffective(t *testing.T) {
	c, flags := New(), pflag.NewFlagSet("serve", pflag.ContinueOnError)
	c.Register(flags)
	file := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(file, []byte("name: n1\ndata-dir: d\ntick: 100ms\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"--config", file, "--election-timeout", "1s", "--super", "ann:SAEdK8CfyBKmtXOPXS0bJdKRlaU="}
	err := flags.Parse(args)
	if err == nil {
		err = c.Load(flags, func(name string) (string, bool) { return map[string]string{"COORD_TICK": "20ms"}[name], true })
	}
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range c.Effective() {
		if s.From != "default" {
			got = append(got, s.Name+"="+s.Value+" "+strings.TrimPrefix(s.From, file))
		}
	}
	want := []string{
		"config=" + file + " --config", "name=n1 :1", "data-dir=d :2", "super=ann:… --super", "tick=20ms COORD_TICK",
		"election-timeout=1s --election-timeout",
	}
	if !slices.Equal(got, want) || len(c.Effective()) != len(c.Options()) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestWarnings(t *testing.T) {
	c := New()
	if w := c.Warnings(4_000_000_000); len(w) > 0 {
		t.Errorf("the defaults: %q", w)
	}
	c.Listen, c.PeerListen, c.ElectionTimeout = ":7070", "10.0.0.1:7071", 2*second
	if err := (members{&c.Cluster}).Set("a=h:1,b=h:2"); err != nil {
		t.Fatal(err)
	}
	got := strings.Join(c.Warnings(4*second), "\n")
	for _, want := range []string{"served on :7070", "10.0.0.1:7071 takes members", "below 16s", "2 members survive the loss of 0, which 1 do too"} {
		if !strings.Contains(got, want) {
			t.Errorf("there is no %q in\n%s", want, got)
		}
	}
}
