package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// configured writes a configuration.
func (c *cluster) configured(values string) {
	c.t.Helper()
	if code, text, _ := c.members[0].do(c.t.Context(), "PUT", "/v1/config/shop", `{"values":`+values+`}`, nil); code != 200 {
		c.t.Fatal(code, text)
	}
}

// TestConfigRunRestarts: without --reload a change starts the program anew, with nothing of the old one left, and one
// that can't be used changes nothing.
func TestConfigRunRestarts(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1)
	c.configured(`{"limit":"1"}`)
	r := c.command("config", "run", "shop", "--grace", "50ms", "--prefix", "SHOP_", "--", "sh", "-c", `
trap 'exit 7' USR1
(trap '' TERM; sleep 1000) &
echo "$SHOP_LIMIT $COORD_CONFIG_VERSION $COORD_CONFIG_APP"
echo $!
while :; do sleep 0.05; done`)
	expect := func(want string) (left int) {
		t.Helper()
		if got := r.line(); got != want {
			t.Fatalf("the program says %q, want %q", got, want)
		}
		return r.pid()
	}
	old := expect("1 1 shop")
	c.configured(`{"a.b":"1","a-b":"2"}`) // these are one variable
	c.configured(`{"limit":"2"}`)
	now := expect("2 3 shop")
	if alive(old) {
		t.Error("something of the old program runs")
	}
	r.cmd.Process.Signal(syscall.SIGUSR1)
	r.says(7, "version 3 of shop: starting sh anew")
	if alive(now) {
		t.Error("something of the program runs after the command")
	}
}

// TestConfigRunReloads: files are replaced before the program gets its signal; a version of which a template can't be
// made leaves files and program alone.
func TestConfigRunReloads(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1)
	dir := t.TempDir()
	tmpl, conf, env := filepath.Join(dir, "x.tmpl"), filepath.Join(dir, "x.conf"), filepath.Join(dir, "x.env")
	os.WriteFile(tmpl, []byte("max={{value \"limit\"}} by {{valueOr \"by\" \"nobody\"}} at {{.Version}}\n"), 0o600)
	os.WriteFile(conf, nil, 0o640)
	c.configured(`{"limit":"1"}`)
	r := c.command("config", "run", "shop", "--reload", "HUP", "--template", tmpl+":"+conf, "--env-file", env, "--",
		"sh", "-c", `trap 'cat "$0"' HUP; cat "$0"; while :; do sleep 0.05; done`, conf)
	expect := func(want string) {
		t.Helper()
		if got := r.line(); got != want {
			t.Fatalf("the program says %q, want %q", got, want)
		}
	}
	expect("max=1 by nobody at 1")
	c.configured(`{"limt":"2"}`)
	c.configured(`{"limit":"3","by":"ann"}`)
	expect("max=3 by ann at 3")
	if info, err := os.Stat(conf); err != nil || info.Mode().Perm() != 0o640 {
		t.Error("the file's mode is another one:", info.Mode(), err)
	}
	if text, err := os.ReadFile(env); err != nil || string(text) != "BY='ann'\nLIMIT='3'\n" {
		t.Errorf("%q %v", text, err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) > 0 {
		t.Error("files are left:", left)
	}
	r.cmd.Process.Signal(syscall.SIGTERM)
	r.says(143, "version 3 of shop: sh gets SIGHUP")
}

// TestConfigRunSays: a version that can't be used is told at once, with the reason, and which one stays in force; so is that
// the configuration was deleted.
func TestConfigRunSays(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1)
	tmpl, conf := filepath.Join(t.TempDir(), "x.tmpl"), filepath.Join(t.TempDir(), "x.conf")
	os.WriteFile(tmpl, []byte("max={{value \"limit\"}}\n"), 0o600)
	c.configured(`{"limit":"1"}`)
	r := c.talking("config", "run", "shop", "--reload", "HUP", "--template", tmpl+":"+conf, "--",
		"sh", "-c", `exec 2>/dev/null # what a shell says of signals
trap 'cat "$0"' HUP; trap 'exit 6' USR1; cat "$0"; while :; do sleep 0.05; done`, conf)
	expect := func(words ...string) {
		t.Helper()
		line := r.line()
		for _, w := range words {
			if !strings.Contains(line, w) {
				t.Fatalf("it says %q, not %q", line, w)
			}
		}
	}
	expect("max=1")
	c.configured(`{"limt":"2"}`)
	expect("version 2 of shop can't be used, and version 1 stays in force", `there is no key "limit"`)
	c.configured(`{"a.b":"1","a-b":"2","limit":"3"}`)
	expect("version 3 of shop can't be used, and version 1 stays in force", `"a-b" and "a.b" are the same variable A_B`)
	if code, text, _ := c.members[0].do(t.Context(), "DELETE", "/v1/nodes/config/shop?recursive", "", nil); code != 200 {
		t.Fatal(code, text)
	}
	expect("the configuration of shop was deleted; what is in force stays")
	c.configured(`{"limit":"4"}`)
	expect("version 1 of shop: sh gets SIGHUP")
	expect("max=4")
	r.cmd.Process.Signal(syscall.SIGUSR1)
	r.says(6)
}

// TestConfigWatch: each change is printed with its version, and what is deleted.
func TestConfigWatch(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1)
	all, one := c.command("config", "watch", "shop"), c.command("config", "watch", "shop", "limit", "-o", "json")
	expect := func(r *command, lines ...string) {
		t.Helper()
		for _, want := range lines {
			if got := r.line(); !strings.Contains(got, want) {
				t.Fatalf("%v says %q, not %q", r.cmd.Args[1:], got, want)
			}
		}
	}
	expect(all, "no version")
	expect(one, `{"app":"shop","changes":[],"version":0}`)
	c.configured(`{"limit":"1","motd":"hi"}`)
	expect(all, "version 1 of ", `+ limit  "1"`, `+ motd  "hi"`)
	expect(one, `"changes":[{"from":null,"key":"limit","to":"1"}]`)
	c.configured(`{"limit":"1"}`)
	expect(all, "version 2 of ", "- motd")
	c.configured(`{"limit":"2"}`)
	expect(all, "version 3 of ", `~ limit  "1" -> "2"`)
	expect(one, `"changes":[{"from":"1","key":"limit","to":"2"}],"comment":"","time":`)
	c.command("set", "/config/shop/limit", "3", "-q").says(0)
	expect(all, "version 3, changed since without a version", `~ limit  "2" -> "3"`)
	expect(one, `{"app":"shop","changes":[{"from":"2","key":"limit","to":"3"}],"version":3}`)
	c.command("rm", "-R", "/config/shop", "-q").says(0)
	expect(all, "no version", "- limit")
	all.cmd.Process.Signal(syscall.SIGINT)
	all.says(0)
}

func TestConfigRunExitCodes(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1)
	c.configured(`{"limit":"1"}`)
	bad := filepath.Join(t.TempDir(), "bad.tmpl")
	os.WriteFile(bad, []byte(`{{value "nope"}}`), 0o600)
	for _, test := range []struct {
		code int
		args string
		says string
	}{
		{0, "shop -- true", ""},
		{1, "shop -- false", ""},
		{0, "shpo -- true", "there is no configuration of shpo: nobody has written one; did you mean shop?; true has no values from it"},
		{125, "none --require -- true", "nobody has written one"},
		{0, "shop --require -- true", ""},
		{127, "shop -- no-such-program", "couldn't run no-such-program"},
		{125, "shop", "-- and a program are missing"},
		{125, "a/b -- true", "can't be a name"},
		{125, "shop --restart --reload HUP -- true", "can't be given together"},
		{125, "shop --template " + bad + ":/tmp/never -- true", `there is no key "nope"`},
		{125, "shop --template /nowhere:/tmp/never -- true", "no such file"},
		{125, "shop --env-file /nowhere/x -- true", "couldn't write /nowhere/x"},
		{125, "-e 127.0.0.1:1 shop -- true", "is it running?"},
	} {
		t.Run(test.args, func(t *testing.T) {
			r := c.command(append([]string{"config", "run"}, strings.Fields(test.args)...)...)
			r.t = t
			r.says(test.code, test.says)
		})
	}
}
