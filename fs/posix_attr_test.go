package fs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// as runs fn with the file system identity of another user, on a thread that
// ends with it.
func as(t *testing.T, uid, gid int, fn func() error) error {
	t.Helper()
	result := make(chan error)
	go func() {
		// The thread's identity is spoilt: it is locked and never unlocked.
		lockThread()
		if _, _, no := syscall.RawSyscall(syscall.SYS_SETGROUPS, 0, 0, 0); no != 0 {
			result <- no
			return
		}
		if _, _, no := syscall.RawSyscall(syscall.SYS_SETRESGID, uintptr(gid), uintptr(gid), uintptr(gid)); no != 0 {
			result <- no
			return
		}
		if _, _, no := syscall.RawSyscall(syscall.SYS_SETRESUID, uintptr(uid), uintptr(uid), uintptr(uid)); no != 0 {
			result <- no
			return
		}
		result <- fn()
	}()
	return <-result
}

// aclBytes builds an ACL: tag, permissions, id.
func aclBytes(entries ...[3]uint32) []byte {
	b := binary.LittleEndian.AppendUint32(nil, 2)
	for _, e := range entries {
		b = binary.LittleEndian.AppendUint16(b, uint16(e[0]))
		b = binary.LittleEndian.AppendUint16(b, uint16(e[1]))
		b = binary.LittleEndian.AppendUint32(b, e[2])
	}
	return b
}

const noID = 0xffffffff

var attrCases = []posixCase{
	{"mode and owner", func(t *testing.T, dir string) {
		p := filepath.Join(dir, "f")
		write(t, p, "")
		must(t, os.Chmod(p, 0o640))
		must(t, os.Chown(p, 1000, 1001))
		st := stat(t, p)
		wantEqual(t, "mode", st.Mode, syscall.S_IFREG|0o640)
		wantEqual(t, "uid", st.Uid, 1000)
		wantEqual(t, "gid", st.Gid, 1001)
	}},
	{"umask", func(t *testing.T, dir string) {
		old := syscall.Umask(0o027)
		defer syscall.Umask(old)
		must(t, os.WriteFile(filepath.Join(dir, "f"), nil, 0o666))
		must(t, os.Mkdir(filepath.Join(dir, "d"), 0o777))
		wantEqual(t, "file", stat(t, filepath.Join(dir, "f")).Mode, syscall.S_IFREG|0o640)
		wantEqual(t, "directory", stat(t, filepath.Join(dir, "d")).Mode, syscall.S_IFDIR|0o750)
	}},
	{"setgid directory", func(t *testing.T, dir string) {
		must(t, os.Chown(dir, 0, 1234))
		must(t, syscall.Chmod(dir, 0o2777))
		write(t, filepath.Join(dir, "f"), "")
		must(t, os.Mkdir(filepath.Join(dir, "d"), 0o755))
		wantEqual(t, "file's group", stat(t, filepath.Join(dir, "f")).Gid, 1234)
		wantEqual(t, "directory's group", stat(t, filepath.Join(dir, "d")).Gid, 1234)
		wantEqual(t, "directory's mode", stat(t, filepath.Join(dir, "d")).Mode, syscall.S_IFDIR|0o2755)
	}},
	{"nanoseconds", func(t *testing.T, dir string) {
		p := filepath.Join(dir, "f")
		write(t, p, "")
		at, mt := unix.Timespec{Sec: 1234567890, Nsec: 123456789}, unix.Timespec{Sec: 987654321, Nsec: 987654321}
		must(t, unix.UtimesNanoAt(unix.AT_FDCWD, p, []unix.Timespec{at, mt}, 0))
		st := stat(t, p)
		wantEqual(t, "atime", st.Atim, syscall.Timespec{Sec: at.Sec, Nsec: at.Nsec})
		wantEqual(t, "mtime", st.Mtim, syscall.Timespec{Sec: mt.Sec, Nsec: mt.Nsec})
	}},
	{"times of changes", func(t *testing.T, dir string) {
		p := filepath.Join(dir, "f")
		old := []unix.Timespec{{Sec: 1000}, {Sec: 1000}}
		write(t, p, "x")
		for _, c := range []struct {
			name  string
			do    func() error
			mtime bool
		}{
			{"write", func() error { return os.WriteFile(p, []byte("yy"), 0) }, true},
			{"truncate", func() error { return os.Truncate(p, 1) }, true},
			{"chmod", func() error { return os.Chmod(p, 0o600) }, false},
			{"link", func() error { return os.Link(p, p+"2") }, false},
			{"rename", func() error { return os.Rename(p+"2", p+"3") }, false},
		} {
			must(t, unix.UtimesNanoAt(unix.AT_FDCWD, p, old, 0))
			before := stat(t, p).Ctim
			must(t, c.do())
			st := stat(t, p)
			if st.Ctim.Nano() <= before.Nano()-1e7 || st.Ctim.Sec < 1e9 {
				t.Errorf("%s: ctime is %v", c.name, st.Ctim)
			}
			wantEqual(t, c.name+" changes mtime", st.Mtim.Sec != 1000, c.mtime)
		}
		must(t, unix.UtimesNanoAt(unix.AT_FDCWD, dir, old, 0))
		write(t, filepath.Join(dir, "g"), "")
		if stat(t, dir).Mtim.Sec == 1000 {
			t.Error("creating a file leaves the directory's mtime")
		}
	}},
	{"reading sets atime, but not with O_NOATIME", func(t *testing.T, dir string) {
		p := filepath.Join(dir, "f")
		write(t, p, strings.Repeat("x", 10000))
		old := []unix.Timespec{{Sec: 1000}, {Sec: 2000}}
		must(t, unix.UtimesNanoAt(unix.AT_FDCWD, p, old, 0))
		for _, quiet := range []int{unix.O_NOATIME, 0} {
			f, err := os.OpenFile(p, os.O_RDONLY|quiet, 0)
			must(t, err)
			defer f.Close()
			must(t, unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED))
			_, err = f.Read(make([]byte, 10))
			must(t, err)
			if at := stat(t, p).Atim.Sec; (at == 1000) != (quiet != 0) {
				t.Errorf("flags %#x: atime is %d", quiet, at)
			}
		}
		wantEqual(t, "mtime", stat(t, p).Mtim.Sec, 2000)
	}},
	{"born at one instant", func(t *testing.T, dir string) {
		p := filepath.Join(dir, "fifo")
		must(t, syscall.Mkfifo(p, 0o600))
		var st unix.Statx_t
		must(t, unix.Statx(unix.AT_FDCWD, p, 0, unix.STATX_BASIC_STATS|unix.STATX_BTIME, &st))
		if st.Mask&unix.STATX_BTIME != 0 { // not every plain disk has it
			wantEqual(t, "btime and mtime", st.Btime, st.Mtime)
		}
		wantEqual(t, "ctime and mtime", st.Ctime, st.Mtime)
	}},
	{"suid falls on write", func(t *testing.T, dir string) {
		p := filepath.Join(dir, "f")
		must(t, os.Chmod(dir, 0o777))
		doers := map[string]func() error{
			"write": func() error {
				f, err := os.OpenFile(p, os.O_WRONLY, 0)
				if err != nil {
					return err
				}
				_, err = f.WriteString("new")
				return errors.Join(err, f.Close())
			},
			"truncate": func() error { return os.Truncate(p, 1) },
			"fallocate": func() error {
				f, err := os.OpenFile(p, os.O_WRONLY, 0)
				if err != nil {
					return err
				}
				return errors.Join(unix.Fallocate(int(f.Fd()), 0, 0, 5000), f.Close())
			},
			"fallocate within": func() error {
				f, err := os.OpenFile(p, os.O_WRONLY, 0)
				if err != nil {
					return err
				}
				return errors.Join(unix.Fallocate(int(f.Fd()), 0, 0, 3), f.Close())
			},
		}
		for name, do := range doers {
			write(t, p, "old content")
			must(t, syscall.Chmod(p, 0o6777))
			must(t, as(t, 1000, 1000, do))
			var only unix.Statx_t // a call that a cached mode may answer
			must(t, unix.Statx(unix.AT_FDCWD, p, 0, unix.STATX_MODE, &only))
			wantEqual(t, "mode known after "+name, uint32(only.Mode)&0o7777, 0o777)
			wantEqual(t, "mode after "+name, stat(t, p).Mode&0o7777, 0o777)
			must(t, os.Remove(p))
		}
		write(t, p, "")
		must(t, syscall.Chmod(p, 0o6777))
		must(t, doers["fallocate"]())
		wantEqual(t, "mode after root's fallocate", stat(t, p).Mode&0o7777, 0o6777)
		must(t, os.Chown(p, 1000, 1000))
		wantEqual(t, "mode after chown", stat(t, p).Mode&0o7777, 0o777)
	}},
	{"set-group-id without execution", func(t *testing.T, dir string) {
		p := filepath.Join(dir, "f")
		must(t, os.Chmod(dir, 0o777))
		open := func(do func(f *os.File) error) func() error {
			return func() error {
				f, err := os.OpenFile(p, os.O_RDWR, 0)
				if err != nil {
					return err
				}
				return errors.Join(do(f), f.Close())
			}
		}
		for name, do := range map[string]func() error{
			"write":     open(func(f *os.File) error { _, err := f.WriteString("new"); return err }),
			"truncate":  func() error { return os.Truncate(p, 1) },
			"fallocate": open(func(f *os.File) error { return unix.Fallocate(int(f.Fd()), 0, 0, 3) }),
			"punch": open(func(f *os.File) error {
				return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, 1)
			}),
		} {
			for _, c := range []struct{ uid, want int }{{1000, 0o666}, {0, 0o2666}} {
				write(t, p, "old content")
				must(t, syscall.Chmod(p, 0o2666))
				must(t, as(t, c.uid, c.uid, do))
				wantEqual(t, fmt.Sprintf("mode after %s by %d", name, c.uid), int(stat(t, p).Mode&0o7777), c.want)
				must(t, os.Remove(p))
			}
			write(t, p, "old content")
			must(t, os.Chown(p, -1, 1000))
			must(t, syscall.Chmod(p, 0o2666))
			must(t, as(t, 1000, 1000, do))
			wantEqual(t, "mode after "+name+" by one of the group", stat(t, p).Mode&0o7777, 0o2666)
			must(t, os.Remove(p))
		}
	}},
	{"a new directory's time of access", func(t *testing.T, dir string) {
		d := filepath.Join(dir, "d")
		must(t, os.Mkdir(d, 0o755))
		made := stat(t, d)
		must(t, os.Mkdir(filepath.Join(d, "x"), 0o755))
		must(t, os.Chtimes(d, time.Time{}, time.Unix(2e9, 0)))
		now := stat(t, d)
		wantEqual(t, "its time of access", now.Atim, made.Atim)
		wantEqual(t, "its time of change", now.Mtim.Sec, 2e9)
		must(t, os.Remove(filepath.Join(d, "x")))
	}},
	{"times of an append-only file", func(t *testing.T, dir string) {
		p := filepath.Join(dir, "f")
		write(t, p, "x")
		f, err := os.Open(p)
		must(t, err)
		defer f.Close()
		was, err := unix.IoctlGetInt(int(f.Fd()), unix.FS_IOC_GETFLAGS)
		must(t, err)
		must(t, unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, was|fsAppend))
		wantErr(t, os.Chtimes(p, time.Unix(1, 0), time.Unix(1, 0)), syscall.EPERM)
		must(t, unix.UtimesNanoAt(unix.AT_FDCWD, p, nil, 0))
		must(t, unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, was))
		must(t, os.Remove(p))
	}},
	{"permissions", func(t *testing.T, dir string) {
		p := filepath.Join(dir, "f")
		write(t, p, "secret")
		must(t, os.Chmod(p, 0o600))
		wantErr(t, as(t, 1000, 1000, func() error { _, err := os.ReadFile(p); return err }), syscall.EACCES)
		wantErr(t, as(t, 1000, 1000, func() error { return os.Remove(p) }), syscall.EACCES)
		must(t, syscall.Chmod(dir, 0o1777))
		wantErr(t, as(t, 1000, 1000, func() error { return os.Remove(p) }), syscall.EPERM)
		must(t, as(t, 1000, 1000, func() error { return os.WriteFile(filepath.Join(dir, "mine"), nil, 0o644) }))
		wantEqual(t, "owner", stat(t, filepath.Join(dir, "mine")).Uid, 1000)
	}},
	{"statfs", func(t *testing.T, dir string) {
		var st syscall.Statfs_t
		must(t, syscall.Statfs(dir, &st))
		if st.Blocks == 0 || st.Bfree > st.Blocks || st.Bavail > st.Bfree || st.Namelen != 255 {
			t.Errorf("%+v", st)
		}
	}},
	{"birth time and flags", func(t *testing.T, dir string) {
		p := filepath.Join(dir, "f")
		write(t, p, "x")
		f, err := os.Open(p)
		must(t, err)
		defer f.Close()
		var st unix.Statx_t
		must(t, unix.Statx(unix.AT_FDCWD, p, 0, unix.STATX_ALL, &st))
		if st.Mask&unix.STATX_BTIME == 0 || st.Btime.Sec == 0 {
			t.Error("no birth time")
		}
		must(t, unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, 0x10))
		wantErr(t, os.Remove(p), syscall.EPERM)
		wantErr(t, os.WriteFile(p, []byte("y"), 0), syscall.EPERM)
		flags, err := unix.IoctlGetInt(int(f.Fd()), unix.FS_IOC_GETFLAGS)
		must(t, err)
		wantEqual(t, "immutable", flags&0x10, 0x10)
		must(t, unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, 0))
		must(t, os.Remove(p))
	}},
}

var xattrCases = []posixCase{
	{"xattr", func(t *testing.T, dir string) {
		p := filepath.Join(dir, "f")
		write(t, p, "x")
		buf := make([]byte, 70000)
		_, err := unix.Getxattr(p, "user.a", buf)
		wantErr(t, err, syscall.ENODATA)
		for _, n := range []int{0, 5, 400, 600, 3000} {
			value := bytes.Repeat([]byte{byte(n), 7}, n)[:n]
			must(t, unix.Setxattr(p, "user.a", value, 0))
			got, err := unix.Getxattr(p, "user.a", buf)
			must(t, err)
			if !bytes.Equal(buf[:got], value) {
				t.Errorf("value of %d bytes came back as %d others", n, got)
			}
		}
		wantErr(t, unix.Setxattr(p, "user.a", nil, unix.XATTR_CREATE), syscall.EEXIST)
		wantErr(t, unix.Setxattr(p, "user.b", nil, unix.XATTR_REPLACE), syscall.ENODATA)
		must(t, unix.Setxattr(p, "user.b", []byte("bee"), unix.XATTR_CREATE))
		n, err := unix.Getxattr(p, "user.b", nil)
		must(t, err)
		wantEqual(t, "size", n, 3)
		_, err = unix.Getxattr(p, "user.b", buf[:2])
		wantErr(t, err, syscall.ERANGE)
		n, err = unix.Listxattr(p, buf)
		must(t, err)
		names := strings.Split(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00")
		slices.Sort(names)
		wantEqual(t, "names", strings.Join(names, " "), "user.a user.b")
		must(t, unix.Removexattr(p, "user.a"))
		must(t, unix.Removexattr(p, "user.b"))
		wantErr(t, unix.Removexattr(p, "user.b"), syscall.ENODATA)
		wantErr(t, unix.Setxattr(p, "nonsense.x", nil, 0), syscall.EOPNOTSUPP)
		must(t, unix.Setxattr(dir, "trusted.x", []byte("t"), 0))
		must(t, os.Chmod(dir, 0o755))
		shown := func() error {
			n, err := unix.Listxattr(dir, buf)
			if err == nil && !strings.Contains(string(buf[:n]), "trusted.x\x00") {
				err = syscall.ENODATA
			}
			return err
		}
		must(t, shown())
		wantErr(t, as(t, 1000, 1000, shown), syscall.ENODATA)
	}},
	{"access ACL", func(t *testing.T, dir string) {
		p := filepath.Join(dir, "f")
		write(t, p, "for user 1000")
		must(t, os.Chmod(p, 0o600))
		acl := aclBytes([3]uint32{1, 6, noID}, [3]uint32{2, 4, 1000}, [3]uint32{4, 0, noID}, [3]uint32{16, 4, noID}, [3]uint32{32, 0, noID})
		must(t, unix.Setxattr(p, "system.posix_acl_access", acl, 0))
		wantEqual(t, "mode", stat(t, p).Mode&0o777, 0o640)
		read := func() error { _, err := os.ReadFile(p); return err }
		must(t, as(t, 1000, 1000, read))
		wantErr(t, as(t, 1001, 1001, read), syscall.EACCES)
		must(t, os.Chmod(p, 0o600)) // closes the mask
		wantErr(t, as(t, 1000, 1000, read), syscall.EACCES)
		must(t, os.Chmod(p, 0o640))
		must(t, as(t, 1000, 1000, read))
		must(t, unix.Setxattr(p, "system.posix_acl_access", aclBytes([3]uint32{1, 7, noID}, [3]uint32{4, 5, noID}, [3]uint32{32, 1, noID}), 0))
		wantEqual(t, "mode", stat(t, p).Mode&0o777, 0o751)
		_, err := unix.Getxattr(p, "system.posix_acl_access", nil)
		wantErr(t, err, syscall.ENODATA)
	}},
	{"default ACL", func(t *testing.T, dir string) {
		old := syscall.Umask(0o077)
		defer syscall.Umask(old)
		acl := aclBytes([3]uint32{1, 7, noID}, [3]uint32{2, 6, 1000}, [3]uint32{4, 5, noID}, [3]uint32{16, 7, noID}, [3]uint32{32, 0, noID})
		must(t, unix.Setxattr(dir, "system.posix_acl_default", acl, 0))
		f, d := filepath.Join(dir, "f"), filepath.Join(dir, "d")
		must(t, os.WriteFile(f, nil, 0o664))
		must(t, os.Mkdir(d, 0o777))
		wantEqual(t, "file's mode", stat(t, f).Mode&0o777, 0o660)
		wantEqual(t, "directory's mode", stat(t, d).Mode&0o777, 0o770)
		buf := make([]byte, 100)
		n, err := unix.Getxattr(d, "system.posix_acl_default", buf)
		must(t, err)
		if !bytes.Equal(buf[:n], acl) {
			t.Error("default ACL not inherited")
		}
		n, err = unix.Getxattr(f, "system.posix_acl_access", buf)
		must(t, err)
		want := aclBytes([3]uint32{1, 6, noID}, [3]uint32{2, 6, 1000}, [3]uint32{4, 5, noID}, [3]uint32{16, 6, noID}, [3]uint32{32, 0, noID})
		if !bytes.Equal(buf[:n], want) {
			t.Errorf("access ACL %x, want %x", buf[:n], want)
		}
	}},
	{"capabilities fall on write", func(t *testing.T, dir string) {
		p := filepath.Join(dir, "f")
		write(t, p, "x")
		value := []byte{1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
		must(t, unix.Setxattr(p, "security.capability", value, 0))
		write(t, p, "changed")
		_, err := unix.Getxattr(p, "security.capability", nil)
		wantErr(t, err, syscall.ENODATA)
		must(t, unix.Setxattr(p, "security.capability", value, 0))
		f, err := os.OpenFile(p, os.O_WRONLY, 0)
		must(t, err)
		must(t, errors.Join(unix.Fallocate(int(f.Fd()), 0, 0, 3), f.Close()))
		_, err = unix.Getxattr(p, "security.capability", nil)
		wantErr(t, err, syscall.ENODATA)
	}},
}
