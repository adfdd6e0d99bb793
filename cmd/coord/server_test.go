package main

import (
	"errors"
	"fmt"
	"syscall"
	"testing"

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
