package storage

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"regexp"
	"strings"

	"github.com/coord-kv/coord/internal/vfs"
)

// Names in a data directory.
const (
	lockName     = "LOCK"
	markName     = "watermark"
	manifestName = "manifest.db"
	reserveName  = "reserve"
	tempSuffix   = ".tmp"
	receiveName  = "incoming.ckp" // never without the suffix
)

var (
	segmentName    = regexp.MustCompile(`^wal-([0-9]{16})\.log$`)
	checkpointName = regexp.MustCompile(`^checkpoint-[0-9]{20}-[0-9a-f]{8}\.ckp$`)
)

func segmentFile(seq uint64) string { return fmt.Sprintf("wal-%016d.log", seq) }

func checkpointFile(index uint64, sum [32]byte) string {
	return fmt.Sprintf("checkpoint-%020d-%x.ckp", index, sum[:4])
}

// ours reports whether a store makes files of this name. What mkfs and bbolt's lock leave behind counts as such.
func ours(name string) bool {
	name = strings.TrimSuffix(name, tempSuffix)
	switch name {
	case lockName, markName, manifestName, reserveName, receiveName, "lost+found":
		return true
	}
	return segmentName.MatchString(name) || checkpointName.MatchString(name)
}

// prepareDir makes the directory if there is none, and refuses one that can't be a member's alone.
func prepareDir(fsys vfs.FS, dir string) error {
	if err := fsys.MkdirAll(dir); err != nil {
		return refuseAccess(dir, err)
	}
	info, err := fsys.Stat(strings.TrimRight(dir, "/") + "/")
	if err != nil {
		return refuseAccess(dir, err)
	}
	if wide := info.Mode.Perm() &^ 0o700; wide != 0 {
		return &RefusedError{dir, fmt.Sprintf("other users may enter the data directory (its mode is %04o)", info.Mode.Perm()),
			"chmod 700 " + dir}
	}
	infos, err := fsys.List(dir)
	if err != nil {
		return refuseAccess(dir, err)
	}
	for _, i := range infos {
		if err := checkFile(dir, i); err != nil {
			return err
		}
	}
	return nil
}

func checkFile(dir string, i vfs.Info) error {
	name := path.Join(dir, i.Name)
	switch {
	case !ours(i.Name):
		return &RefusedError{name, "this file is none of coord's", "give coord a directory of its own, or move the file away"}
	case i.Name == "lost+found":
		return nil
	case !i.Mode.IsRegular():
		return &RefusedError{name, "this is not a regular file", "put the file itself here, or use the directory that holds it"}
	case i.Mode.Perm()&^0o600 != 0:
		return &RefusedError{name, fmt.Sprintf("other users may read it (its mode is %04o)", i.Mode.Perm()), "chmod 600 " + name}
	}
	return nil
}

func refuseAccess(dir string, err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return &RefusedError{dir, err.Error(), "the data directory must belong to the user that runs coord: chown it"}
	}
	return fmt.Errorf("couldn't use the data directory %s: %w", dir, err)
}

func lockDir(fsys vfs.FS, dir string) (io.Closer, error) {
	lock, err := fsys.Lock(path.Join(dir, lockName))
	if errors.Is(err, vfs.ErrLocked) {
		return nil, &RefusedError{dir, "another process uses this data directory", "stop it first, or give this one a directory of its own"}
	}
	if err != nil {
		return nil, refuseAccess(dir, err)
	}
	return lock, nil
}

// createFile makes a file with the content that fill gives it, under a name that shows only once it is complete. fill syncs.
// The name is not durable yet.
func createFile(fsys vfs.FS, name string, fill func(vfs.File) error) error {
	temp := name + tempSuffix
	f, err := fsys.Create(temp)
	if err != nil {
		return err
	}
	err = fill(f)
	f.Close()
	if err == nil {
		err = fsys.Rename(temp, name)
	}
	if err != nil {
		_ = fsys.Remove(temp)
	}
	return err
}

// openWhole opens a file and reads it, into buf if that is large enough.
func openWhole(fsys vfs.FS, name string, buf []byte) (vfs.File, []byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, nil, err
	}
	size, err := f.Size()
	if err == nil {
		if size > int64(cap(buf)) {
			buf = make([]byte, size)
		}
		buf = buf[:size]
		_, err = f.ReadAt(buf, 0)
	}
	if err != nil {
		f.Close()
		return nil, nil, fmt.Errorf("couldn't read %s: %w", name, err)
	}
	return f, buf, nil
}
