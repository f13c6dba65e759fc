package fs

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/anvilfs/anvilfs/ondisk"
)

// countingStore counts how often all was made durable.
type countingStore struct {
	*memStore
	syncs atomic.Int64
	fails atomic.Bool
	lost  atomic.Bool // a write to any file, which who asks is told once
}

func (s *countingStore) Lost(inum uint64) error {
	if inum >= ondisk.InumFirst && s.lost.Swap(false) {
		return syscall.EIO
	}
	return nil
}

func (s *countingStore) LostAny() error { return s.Lost(ondisk.InumFirst) }

// An accepted write that could not be made durable is told by fsync, once.
func TestLostWriteIsTold(t *testing.T) {
	dir, store := mountCounting(t, 0)
	f, err := os.Create(filepath.Join(dir, "f"))
	must(t, err)
	defer f.Close()
	for name, sync := range map[string]func() error{"fsync": f.Sync, "fdatasync": func() error { return unix.Fdatasync(int(f.Fd())) }} {
		if _, err := f.WriteString("x"); err != nil {
			t.Fatal(err)
		}
		store.lost.Store(true)
		if err := sync(); !errors.Is(err, syscall.EIO) {
			t.Errorf("%s: %v", name, err)
		}
		if err := sync(); err != nil {
			t.Errorf("%s again: %v", name, err)
		}
	}
}

func (s *countingStore) Sync(context.Context) error {
	s.syncs.Add(1)
	if s.fails.Load() {
		return syscall.EIO
	}
	return nil
}

// Symptom: what a mount with sync or dirsync had acknowledged was lost with the
// process: the kernel asks for written data only.
func TestSyncedCalls(t *testing.T) {
	for _, m := range []struct {
		name        string
		flags       uintptr
		names, rest bool
	}{
		{"neither", 0, false, false},
		{"dirsync", syscall.MS_DIRSYNC, true, false},
		{"sync", syscall.MS_SYNCHRONOUS, true, true},
	} {
		t.Run(m.name, func(t *testing.T) {
			dir, store := mountCounting(t, m.flags)
			f, d := filepath.Join(dir, "f"), filepath.Join(dir, "d")
			for _, c := range []struct {
				call string
				do   func() error
				want bool
			}{
				{"mknod", func() error { return unix.Mknod(f, unix.S_IFREG|0o600, 0) }, m.names},
				{"mkdir", func() error { return os.Mkdir(d, 0o700) }, m.names},
				{"symlink", func() error { return os.Symlink("x", filepath.Join(d, "s")) }, m.names},
				{"link", func() error { return os.Link(f, filepath.Join(d, "l")) }, m.names},
				{"rename", func() error { return os.Rename(filepath.Join(d, "l"), filepath.Join(d, "m")) }, m.names},
				{"chmod", func() error { return os.Chmod(f, 0o640) }, m.rest},
				{"setxattr", func() error { return unix.Setxattr(f, "user.a", []byte("b"), 0) }, m.rest},
				{"removexattr", func() error { return unix.Removexattr(f, "user.a") }, m.rest},
				{"chattr", func() error {
					fd, err := unix.Open(f, unix.O_RDONLY, 0)
					must(t, err)
					defer unix.Close(fd)
					return unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, fsNodump)
				}, m.rest},
				{"fallocate", func() error {
					fd, err := unix.Open(f, unix.O_WRONLY, 0)
					must(t, err)
					defer unix.Close(fd)
					return unix.Fallocate(fd, 0, 0, 9000)
				}, m.rest},
				{"unlink", func() error { return os.Remove(filepath.Join(d, "m")) }, m.names},
				{"rmdir", func() error { must(t, os.Remove(filepath.Join(d, "s"))); return os.Remove(d) }, m.names},
			} {
				before := store.syncs.Load()
				must(t, c.do())
				wantEqual(t, c.call+" is made durable", store.syncs.Load() > before, c.want)
			}
		})
	}
}

// What cannot be made durable is told, and the kernel keeps nothing of it.
func TestSyncedFails(t *testing.T) {
	dir, store := mountCounting(t, syscall.MS_DIRSYNC)
	store.fails.Store(true)
	wantErr(t, os.Mkdir(filepath.Join(dir, "d"), 0o700), syscall.EIO)
	store.fails.Store(false)
	var err error
	for range 1000 {
		if err = os.Remove(filepath.Join(dir, "d")); err == nil {
			break
		}
		syscall.Nanosleep(&syscall.Timespec{Nsec: 1e7}, nil) // the news comes by itself
	}
	must(t, err)
	mustBeEmpty(t, store.memStore)
}

func mountCounting(t *testing.T, flags uintptr) (string, *countingStore) {
	t.Helper()
	if _, err := os.Stat("/dev/fuse"); err != nil || os.Geteuid() != 0 {
		t.Skip("mounting needs root and /dev/fuse")
	}
	store := &countingStore{memStore: newMemStore()}
	dir := tempDir(t)
	s, err := Mount(t.Context(), store, dir, MountOptions{Flags: flags})
	must(t, err)
	t.Cleanup(func() { must(t, s.Unmount()) })
	return dir, store
}
