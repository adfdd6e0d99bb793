//go:build unix && !linux

package vfs

import (
	"os"

	"golang.org/x/sys/unix"
)

func datasync(f *os.File) error { return f.Sync() }

func allocate(*os.File, int64, int64) error { return unix.EOPNOTSUPP }
