package fs

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func rename(dir, from, to string, flags uint) error {
	return unix.Renameat2(unix.AT_FDCWD, filepath.Join(dir, from), unix.AT_FDCWD, filepath.Join(dir, to), flags)
}

// makeThing makes what the rename matrix names.
func makeThing(t *testing.T, path, kind string) {
	t.Helper()
	switch kind {
	case "file":
		write(t, path, kind)
	case "symlink":
		must(t, os.Symlink("nowhere", path))
	case "dir":
		must(t, os.Mkdir(path, 0o755))
	case "full":
		must(t, os.MkdirAll(filepath.Join(path, "inside"), 0o755))
	case "none":
	}
}

var renameCases = []posixCase{
	{"rename matrix", func(t *testing.T, dir string) {
		for _, c := range []struct {
			src, dst string
			flags    uint
			want     syscall.Errno
		}{
			{"file", "none", 0, 0},
			{"file", "file", 0, 0},
			{"file", "symlink", 0, 0},
			{"file", "dir", 0, syscall.EISDIR},
			{"dir", "none", 0, 0},
			{"dir", "dir", 0, 0},
			{"full", "dir", 0, 0},
			{"dir", "full", 0, syscall.ENOTEMPTY},
			{"dir", "file", 0, syscall.ENOTDIR},
			{"symlink", "file", 0, 0},
			{"none", "file", 0, syscall.ENOENT},
			{"file", "none", unix.RENAME_NOREPLACE, 0},
			{"file", "file", unix.RENAME_NOREPLACE, syscall.EEXIST},
			{"dir", "dir", unix.RENAME_NOREPLACE, syscall.EEXIST},
			{"file", "none", unix.RENAME_EXCHANGE, syscall.ENOENT},
			{"file", "full", unix.RENAME_EXCHANGE, 0},
			{"full", "symlink", unix.RENAME_EXCHANGE, 0},
			{"dir", "dir", unix.RENAME_EXCHANGE, 0},
		} {
			for _, at := range [][2]string{{"s", "d"}, {"a/s", "b/d"}, {"b/s", "d"}} {
				must(t, os.MkdirAll(filepath.Join(dir, "a"), 0o755))
				must(t, os.MkdirAll(filepath.Join(dir, "b"), 0o755))
				src, dst := filepath.Join(dir, at[0]), filepath.Join(dir, at[1])
				makeThing(t, src, c.src)
				makeThing(t, dst, c.dst)
				before, _ := os.Lstat(src)
				other, _ := os.Lstat(dst)
				err := rename(dir, at[0], at[1], c.flags)
				if c.want != 0 {
					wantErr(t, err, c.want)
				} else {
					must(t, err)
					after, err := os.Lstat(dst)
					must(t, err)
					if !os.SameFile(before, after) {
						t.Errorf("%+v: another file arrived", c)
					}
					left, err := os.Lstat(src)
					if c.flags == unix.RENAME_EXCHANGE {
						must(t, err)
						if !os.SameFile(other, left) {
							t.Errorf("%+v: another file came back", c)
						}
					} else {
						wantErr(t, err, syscall.ENOENT)
					}
				}
				for _, p := range []string{"s", "d", "a", "b"} {
					must(t, os.RemoveAll(filepath.Join(dir, p)))
				}
			}
		}
	}},
	{"rename onto a link of the same file", func(t *testing.T, dir string) {
		write(t, filepath.Join(dir, "a"), "x")
		must(t, os.Link(filepath.Join(dir, "a"), filepath.Join(dir, "b")))
		must(t, rename(dir, "a", "b", 0))
		wantContent(t, filepath.Join(dir, "a"), "x")
		wantContent(t, filepath.Join(dir, "b"), "x")
	}},
	{"rename below itself", func(t *testing.T, dir string) {
		must(t, os.MkdirAll(filepath.Join(dir, "a/b/c"), 0o755))
		wantErr(t, rename(dir, "a", "a/b/d", 0), syscall.EINVAL)
		wantErr(t, rename(dir, "a/b/c", "a", 0), syscall.ENOTEMPTY)
		must(t, os.Mkdir(filepath.Join(dir, "x"), 0o755))
		must(t, rename(dir, "a/b", "x/b", 0))
		wantEqual(t, "parent", stat(t, filepath.Join(dir, "x/b/..")).Ino, stat(t, filepath.Join(dir, "x")).Ino)
	}},
	{"rename over an open file", func(t *testing.T, dir string) {
		write(t, filepath.Join(dir, "old"), "old content")
		write(t, filepath.Join(dir, "new"), "new")
		f, err := os.Open(filepath.Join(dir, "old"))
		must(t, err)
		defer f.Close()
		must(t, rename(dir, "new", "old", 0))
		got := make([]byte, 11)
		_, err = f.Read(got)
		must(t, err)
		wantEqual(t, "open file", string(got), "old content")
		wantContent(t, filepath.Join(dir, "old"), "new")
	}},
	{"rename with whiteout", func(t *testing.T, dir string) {
		write(t, filepath.Join(dir, "a"), "x")
		must(t, rename(dir, "a", "b", unix.RENAME_WHITEOUT))
		wantContent(t, filepath.Join(dir, "b"), "x")
		st := stat(t, filepath.Join(dir, "a"))
		wantEqual(t, "whiteout type", st.Mode&syscall.S_IFMT, syscall.S_IFCHR)
		wantEqual(t, "whiteout device", st.Rdev, 0)
	}},
}
