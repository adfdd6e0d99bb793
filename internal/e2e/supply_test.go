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
(trap '' TERM; sleep 1000) &
echo "$SHOP_LIMIT $COORD_CONFIG_VERSION $COORD_CONFIG_APP"
echo $!
trap 'exit 7' USR1
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
	r.says(143, "version 3 of shop: sh gets hangup")
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
		{0, "none -- true", ""},
		{127, "shop -- no-such-program", "couldn't run no-such-program"},
		{125, "shop", "-- and a program are missing"},
		{125, "a/b -- true", "can't be a name"},
		{125, "shop --restart --reload HUP -- true", "can't be given together"},
		{125, "shop --template " + bad + ":/tmp/never -- true", `there is no key "nope"`},
		{125, "shop --template /nowhere:/tmp/never -- true", "no such file"},
		{125, "shop --env-file /nowhere/x -- true", "couldn't write /nowhere/x"},
		{125, "-e 127.0.0.1:1 --timeout 100ms shop -- true", "is it running?"},
	} {
		t.Run(test.args, func(t *testing.T) {
			r := c.command(append([]string{"config", "run"}, strings.Fields(test.args)...)...)
			r.t = t
			r.says(test.code, test.says)
		})
	}
}
