package main

import (
	"errors"
	"fmt"
	"syscall"
	"testing"

	"github.com/coord-kv/coord/api"
	"github.com/coord-kv/coord/internal/config"
	"github.com/coord-kv/coord/internal/storage"
)

// TestExplain: what can be wrong with a machine when a member starts has something to do about it, and an exit code.
func TestExplain(t *testing.T) {
	if explain(nil) != nil {
		t.Error("nothing is an error")
	}
	for err, code := range map[error]int{
		syscall.EADDRINUSE: exitOther, syscall.EADDRNOTAVAIL: exitOther, syscall.EACCES: exitOther, syscall.ENOENT: exitOther,
		syscall.ENOTDIR: exitOther, syscall.EROFS: exitOther, storage.ErrDisk: exitDisk,
	} {
		got, ok := errors.AsType[*exitError](explain(fmt.Errorf("couldn't do it: %w", err)))
		if !ok || got.code != code || got.why == "" || !errors.Is(got, err) {
			t.Errorf("%v becomes %+v", err, got)
		}
	}
}

// TestDevSettings: the members of coord dev say who has configured them.
func TestDevSettings(t *testing.T) {
	o := &devOptions{members: 3, dataDir: t.TempDir(), port: 20_070, logLevel: "warn"}
	specs, err := o.specs()
	if err != nil {
		t.Fatal(err)
	}
	for _, spec := range specs {
		defer spec.peers.Close()
	}
	from := map[string]api.Setting{}
	for _, s := range (&server{cfg: config.New(), members: specs}).settings(specs[1]) {
		from[s.Name] = s
	}
	if got := from["name"]; got.Value != "n2" || got.From != "coord dev" {
		t.Errorf("the name: %+v", got)
	}
	if got := from["tick"]; got.Value != "50ms" || got.From != "default" {
		t.Errorf("the tick: %+v", got)
	}
}
