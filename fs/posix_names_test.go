package fs

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

var nameCases = []posixCase{
	{"create and look up", func(t *testing.T, dir string) {
		p := filepath.Join(dir, "f")
		_, err := os.Stat(p)
		wantErr(t, err, syscall.ENOENT)
		write(t, p, "x")
		wantContent(t, p, "x")
		_, err = os.OpenFile(p, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o644)
		wantErr(t, err, syscall.EEXIST)
		must(t, os.Remove(p))
		_, err = os.Stat(p)
		wantErr(t, err, syscall.ENOENT)
		write(t, p, "new")
		wantContent(t, p, "new")
	}},
	{"names", func(t *testing.T, dir string) {
		for _, name := range []string{strings.Repeat("n", 255), strings.Repeat("m", 65), "日本語", "a b", "\xff\xfe", "..."} {
			p := filepath.Join(dir, name)
			write(t, p, name)
			wantContent(t, p, name)
		}
		_, err := os.Create(filepath.Join(dir, strings.Repeat("n", 256)))
		wantErr(t, err, syscall.ENAMETOOLONG)
		list, err := os.ReadDir(dir)
		must(t, err)
		wantEqual(t, "number of names", len(list), 6)
	}},
	{"hash collision", func(t *testing.T, dir string) {
		a, b := filepath.Join(dir, "cb.ce.cf.cg.cc.ca.cd.ch"), filepath.Join(dir, "ca.cb.cd.ce.cg.cf.ch.cc")
		write(t, a, "a")
		write(t, b, "b")
		wantContent(t, a, "a")
		must(t, os.Remove(a))
		wantContent(t, b, "b")
		_, err := os.Stat(a)
		wantErr(t, err, syscall.ENOENT)
	}},
	{"directories", func(t *testing.T, dir string) {
		a := filepath.Join(dir, "a")
		must(t, os.MkdirAll(filepath.Join(a, "b", "c"), 0o755))
		wantErr(t, syscall.Rmdir(a), syscall.ENOTEMPTY)
		wantErr(t, syscall.Mkdir(a, 0o755), syscall.EEXIST)
		wantErr(t, syscall.Unlink(a), syscall.EISDIR)
		f := filepath.Join(dir, "f")
		write(t, f, "")
		wantErr(t, syscall.Rmdir(f), syscall.ENOTDIR)
		_, err := os.Stat(filepath.Join(f, "x"))
		wantErr(t, err, syscall.ENOTDIR)
		wantEqual(t, "parent", stat(t, filepath.Join(a, "..")).Ino, stat(t, dir).Ino)
		must(t, os.RemoveAll(a))
	}},
	{"hard links", func(t *testing.T, dir string) {
		a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
		write(t, a, "one")
		must(t, os.Link(a, b))
		wantEqual(t, "links", stat(t, a).Nlink, 2)
		wantEqual(t, "inode", stat(t, a).Ino, stat(t, b).Ino)
		write(t, b, "two")
		wantContent(t, a, "two")
		wantErr(t, os.Link(a, b), syscall.EEXIST)
		wantErr(t, os.Link(dir, filepath.Join(dir, "d")), syscall.EPERM)
		must(t, os.Remove(a))
		wantEqual(t, "links", stat(t, b).Nlink, 1)
		wantContent(t, b, "two")
	}},
	{"symlinks", func(t *testing.T, dir string) {
		for i, n := range []int{1, 511, 512, 513, 4095} {
			p := filepath.Join(dir, fmt.Sprint(i))
			target := strings.Repeat("t", n)
			must(t, os.Symlink(target, p))
			got, err := os.Readlink(p)
			must(t, err)
			wantEqual(t, "target", got, target)
			wantEqual(t, "size", stat(t, p).Size, int64(n))
		}
		wantErr(t, syscall.Symlink(strings.Repeat("t", 4096), filepath.Join(dir, "long")), syscall.ENAMETOOLONG)
		wantErr(t, func() error { _, err := os.Readlink(dir); return err }(), syscall.EINVAL)
	}},
	{"special files", func(t *testing.T, dir string) {
		for name, mode := range map[string]uint32{"fifo": syscall.S_IFIFO, "sock": syscall.S_IFSOCK, "chr": syscall.S_IFCHR, "blk": syscall.S_IFBLK} {
			p := filepath.Join(dir, name)
			dev := 0
			if mode == syscall.S_IFCHR || mode == syscall.S_IFBLK {
				dev = int(unix.Mkdev(259, 70000))
			}
			must(t, syscall.Mknod(p, mode|0o640, dev))
			st := stat(t, p)
			wantEqual(t, name+" mode", st.Mode, mode|0o640)
			wantEqual(t, name+" device", st.Rdev, uint64(dev))
		}
	}},
	{"unlinked but open", func(t *testing.T, dir string) {
		p := filepath.Join(dir, "f")
		f, err := os.Create(p)
		must(t, err)
		defer f.Close()
		_, err = f.WriteString(strings.Repeat("before", 1000))
		must(t, err)
		must(t, os.Remove(p))
		write(t, p, "another")
		_, err = f.WriteAt([]byte("after"), 0)
		must(t, err)
		got := make([]byte, 11)
		_, err = f.ReadAt(got, 0)
		must(t, err)
		wantEqual(t, "content", string(got), "aftereb"[:5]+"ebefor")
		var st syscall.Stat_t
		must(t, syscall.Fstat(int(f.Fd()), &st))
		wantEqual(t, "links", st.Nlink, 0)
		wantEqual(t, "size", st.Size, 6000)
	}},
	{"removed directory", func(t *testing.T, dir string) {
		p := filepath.Join(dir, "d")
		must(t, os.Mkdir(p, 0o755))
		d, err := os.Open(p)
		must(t, err)
		defer d.Close()
		must(t, os.Remove(p))
		_, err = unix.Openat(int(d.Fd()), "x", unix.O_CREAT|unix.O_RDWR, 0o644)
		wantErr(t, err, syscall.ENOENT)
		names, err := d.Readdirnames(-1)
		wantEqual(t, "names", len(names), 0)
		_ = err // some filesystems say ENOENT here
	}},
	{"tmpfile", func(t *testing.T, dir string) {
		fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR, 0o600)
		must(t, err)
		f := os.NewFile(uintptr(fd), "tmp")
		defer f.Close()
		_, err = f.WriteString("secret")
		must(t, err)
		list, err := os.ReadDir(dir)
		must(t, err)
		wantEqual(t, "names", len(list), 0)
		p := filepath.Join(dir, "named")
		must(t, unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", fd), unix.AT_FDCWD, p, unix.AT_SYMLINK_FOLLOW))
		wantContent(t, p, "secret")
		wantEqual(t, "links", stat(t, p).Nlink, 1)
	}},
	{"readdir while the directory changes", func(t *testing.T, dir string) {
		const n = 2000
		for i := range n {
			write(t, filepath.Join(dir, fmt.Sprintf("stay%d", i)), "")
			write(t, filepath.Join(dir, fmt.Sprintf("go%d", i)), "")
		}
		d, err := os.Open(dir)
		must(t, err)
		defer d.Close()
		seen := map[string]int{}
		for i := 0; ; i++ {
			names, err := d.Readdirnames(100)
			for _, name := range names {
				seen[name]++
			}
			if err != nil {
				break
			}
			for j := i * 50; j < min(i*50+50, n); j++ {
				must(t, os.Remove(filepath.Join(dir, fmt.Sprintf("go%d", j))))
				write(t, filepath.Join(dir, fmt.Sprintf("come%d", j)), "")
			}
		}
		for i := range n {
			name := fmt.Sprintf("stay%d", i)
			if seen[name] != 1 {
				t.Fatalf("%s seen %d times", name, seen[name])
			}
		}
		for name, times := range seen {
			if times != 1 {
				t.Fatalf("%s seen %d times", name, times)
			}
		}
	}},
	{"file handles", func(t *testing.T, dir string) {
		p := filepath.Join(dir, "f")
		write(t, p, "by handle")
		h, _, err := unix.NameToHandleAt(unix.AT_FDCWD, p, 0)
		must(t, err)
		must(t, os.WriteFile("/proc/sys/vm/drop_caches", []byte("2"), 0))
		d, err := os.Open(dir)
		must(t, err)
		defer d.Close()
		fd, err := unix.OpenByHandleAt(int(d.Fd()), h, unix.O_RDONLY)
		must(t, err)
		got := make([]byte, 9)
		_, err = unix.Read(fd, got)
		must(t, err)
		must(t, unix.Close(fd))
		wantEqual(t, "content", string(got), "by handle")
		must(t, os.Remove(p))
		_, err = unix.OpenByHandleAt(int(d.Fd()), h, unix.O_RDONLY)
		wantErr(t, err, syscall.ESTALE)
	}},
}
