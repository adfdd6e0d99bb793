package vfs

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// each runs a test on both file systems, in an empty directory.
func each(t *testing.T, test func(t *testing.T, fsys FS, dir string)) {
	t.Run("os", func(t *testing.T) { test(t, OS(), t.TempDir()) })
	t.Run("mem", func(t *testing.T) {
		m := NewMem()
		must(t, m.MkdirAll("/d"))
		test(t, m, "/d")
	})
	t.Run("hooked", func(t *testing.T) {
		m := NewMem()
		must(t, m.MkdirAll("/d"))
		test(t, Hooked(m, func(Op) Fault { return Fault{} }), "/d")
	})
}

func TestFilesHoldWhatIsWritten(t *testing.T) {
	each(t, func(t *testing.T, fsys FS, dir string) {
		name := dir + "/a"
		f := create(t, fsys, name)
		write(t, f, 0, "hello")
		write(t, f, 8, "there")
		if got := read(t, f); got != "hello\x00\x00\x00there" {
			t.Errorf("after two writes the file holds %q", got)
		}
		must(t, f.Truncate(3))
		must(t, f.Truncate(5))
		if got := read(t, f); got != "hel\x00\x00" {
			t.Errorf("cut to 3 and grown to 5 it holds %q", got)
		}
		must(t, f.Preallocate(9000))
		must(t, f.Preallocate(10))
		if n, err := f.Size(); n != 9000 || err != nil {
			t.Errorf("preallocated to 9000, then 10, the size is %d, %v", n, err)
		}
		must(t, f.Sync())
		must(t, f.Close())
		if _, err := f.ReadAt(make([]byte, 1), 0); !errors.Is(err, fs.ErrClosed) {
			t.Errorf("reading a closed file: %v", err)
		}
	})
}

func TestReadEndsWithEOF(t *testing.T) {
	each(t, func(t *testing.T, fsys FS, dir string) {
		f := create(t, fsys, dir+"/a")
		write(t, f, 0, "abc")
		n, err := f.ReadAt(make([]byte, 5), 1)
		if n != 2 || err != io.EOF {
			t.Errorf("reading 5 bytes where 2 are: %d, %v", n, err)
		}
		if n, err = f.ReadAt(make([]byte, 5), 99); n != 0 || err != io.EOF {
			t.Errorf("reading past the end: %d, %v", n, err)
		}
	})
}

func TestNames(t *testing.T) {
	each(t, func(t *testing.T, fsys FS, dir string) {
		if _, err := fsys.Open(dir + "/a"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("opening what is not there: %v", err)
		}
		f := create(t, fsys, dir+"/a")
		write(t, f, 0, "old")
		if _, err := fsys.Create(dir + "/a"); !errors.Is(err, fs.ErrExist) {
			t.Errorf("creating what is there: %v", err)
		}
		write(t, create(t, fsys, dir+"/b"), 0, "new")
		must(t, fsys.MkdirAll(dir+"/sub/deep"))
		if got := list(t, fsys, dir); got != "a:3 b:3 sub/" {
			t.Errorf("the directory lists %s", got)
		}
		must(t, fsys.Rename(dir+"/b", dir+"/a"))
		must(t, fsys.SyncDir(dir))
		if got := list(t, fsys, dir); got != "a:3 sub/" {
			t.Errorf("after the rename it lists %s", got)
		}
		if got := read(t, f); got != "old" {
			t.Errorf("the replaced file reads %q through its handle", got)
		}
		must(t, fsys.Remove(dir+"/a"))
		if err := fsys.Remove(dir + "/a"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("removing twice: %v", err)
		}
		info, err := fsys.Stat(dir + "/sub")
		if err != nil || !info.Mode.IsDir() || info.Mode.Perm() != 0o700 {
			t.Errorf("a made directory is %v, %v", info.Mode, err)
		}
	})
}

func TestCreatedFilesArePrivate(t *testing.T) {
	each(t, func(t *testing.T, fsys FS, dir string) {
		create(t, fsys, dir+"/a")
		if info, err := fsys.Stat(dir + "/a"); err != nil || info.Mode != 0o600 {
			t.Errorf("mode %v, %v; want 0600", info.Mode, err)
		}
	})
}

func TestMkdirAllRefusesAFile(t *testing.T) {
	each(t, func(t *testing.T, fsys FS, dir string) {
		create(t, fsys, dir+"/a")
		if err := fsys.MkdirAll(dir + "/a"); err == nil {
			t.Error("a file was taken for a directory")
		}
	})
}

func TestLockIsHeldOnce(t *testing.T) {
	each(t, func(t *testing.T, fsys FS, dir string) {
		l, err := fsys.Lock(dir + "/LOCK")
		must(t, err)
		if _, err := fsys.Lock(dir + "/LOCK"); !errors.Is(err, ErrLocked) {
			t.Errorf("a second holder got %v", err)
		}
		must(t, l.Close())
		l, err = fsys.Lock(dir + "/LOCK")
		must(t, err)
		must(t, l.Close())
	})
}

func TestFree(t *testing.T) {
	each(t, func(t *testing.T, fsys FS, dir string) {
		if n, err := fsys.Free(dir); n <= 0 || err != nil {
			t.Errorf("free: %d, %v", n, err)
		}
		if _, err := fsys.Free(dir + "/none"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("free of no directory: %v", err)
		}
	})
}

func TestOSDoesNotFollowSymlinks(t *testing.T) {
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "target"), []byte("x"), 0o600))
	link := filepath.Join(dir, "link")
	must(t, os.Symlink(filepath.Join(dir, "target"), link))
	if f, err := OS().Open(link); err == nil {
		f.Close()
		t.Error("a symbolic link was opened")
	}
	if info, err := OS().Stat(link); err != nil || info.Mode.IsRegular() {
		t.Errorf("a symbolic link is shown as %v, %v", info.Mode, err)
	}
}

func TestOSFillsWhereSpaceCannotBeReserved(t *testing.T) {
	f := create(t, OS(), filepath.Join(t.TempDir(), "a"))
	write(t, f, 0, "abc")
	must(t, f.(osFile).fill(3, 3<<20))
	if got := read(t, f); len(got) != 3<<20 || strings.Trim(got, "\x00") != "abc" {
		t.Errorf("filled to %d bytes, want 3 MiB that begin with abc", len(got))
	}
}

func create(t *testing.T, fsys FS, name string) File {
	t.Helper()
	f, err := fsys.Create(name)
	must(t, err)
	t.Cleanup(func() { f.Close() })
	return f
}

func write(t *testing.T, f File, off int64, s string) {
	t.Helper()
	n, err := f.WriteAt([]byte(s), off)
	must(t, err)
	if n != len(s) {
		t.Fatalf("wrote %d of %d bytes", n, len(s))
	}
}

func read(t *testing.T, f File) string {
	t.Helper()
	size, err := f.Size()
	must(t, err)
	b, err := io.ReadAll(io.NewSectionReader(f, 0, size))
	must(t, err)
	return string(b)
}

func list(t *testing.T, fsys FS, dir string) string {
	t.Helper()
	infos, err := fsys.List(dir)
	must(t, err)
	var b bytes.Buffer
	for _, i := range infos {
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(i.Name)
		if i.Mode.IsDir() {
			b.WriteByte('/')
		} else {
			b.WriteString(":" + string(rune('0'+i.Size)))
		}
	}
	return b.String()
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
