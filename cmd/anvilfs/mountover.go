package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/anvilfs/anvilfs/cmd/advice"
)

// overLimit is how long a mount that is there already is waited for to answer.
const overLimit = 2 * time.Second

// mountable refuses to mount on a mount of ours whose daemon is gone: that
// would lie below for ever, and who unmounts would find it again. Mounts of
// others, and those that answer, may be mounted upon, as everywhere.
func mountable(dir string) error {
	m, err := findMount(dir)
	if err != nil {
		return nil // nothing of ours is there
	}
	answer := make(chan error, 1)
	go func() {
		var st unix.Statfs_t // not answered from the kernel's caches
		answer <- unix.Statfs(m.target, &st)
	}()
	limit := time.NewTimer(overLimit)
	defer limit.Stop()
	select {
	case err := <-answer:
		if errors.Is(err, syscall.ENOTCONN) || errors.Is(err, syscall.ECONNABORTED) {
			return daemonGone(dir)
		}
	case <-limit.C: // it lives, and waits for something
	}
	return nil
}

// inUse says which mount has the member's devices, if it is one of ours; else
// it is err.
func (m member) inUse(ctx context.Context, err error) error {
	if on := m.mounted(ctx); on != nil {
		return fmt.Errorf("%s belongs to %s, which is mounted on %s already: use that, or anvilfs umount %s first", m.name, on.source, on.target, advice.Quote(on.target))
	}
	return err
}

// mounted is the mount of ours that has the member's devices, nil if none is
// known to.
func (m member) mounted(ctx context.Context) *mountEntry {
	var files []os.FileInfo
	for _, p := range m.paths {
		if st, err := os.Stat(p); err == nil {
			files = append(files, st)
		}
	}
	mounts, err := anvilMounts()
	if err != nil {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	found := make(chan *mountEntry, len(mounts))
	for _, on := range mounts { // all at once: one that hangs is not to hide the others
		go func() {
			if !opened(serverOf(ctx, on.target), files) {
				found <- nil
				return
			}
			found <- &on
		}()
	}
	for range mounts {
		if on := <-found; on != nil {
			return on
		}
	}
	return nil
}

// opened reports whether a process has one of the files open. It may not be for
// us to know.
func opened(pid int, files []os.FileInfo) bool {
	if pid == 0 {
		return false
	}
	fds, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil {
		return false
	}
	for _, fd := range fds {
		target, err := os.Readlink(fd)
		if err != nil || !filepath.IsAbs(target) {
			continue
		}
		if st, err := os.Stat(target); err == nil && slices.ContainsFunc(files, func(f os.FileInfo) bool { return same(f, st) }) {
			return true
		}
	}
	return false
}

// same reports whether two names are of one file, or of one block device.
func same(a, b os.FileInfo) bool {
	x, y := a.Sys().(*syscall.Stat_t), b.Sys().(*syscall.Stat_t)
	if a.Mode()&os.ModeDevice != 0 && b.Mode()&os.ModeDevice != 0 {
		return x.Rdev == y.Rdev
	}
	return os.SameFile(a, b)
}

// daemonGone says of a mount that nobody serves it any more.
func daemonGone(dir string) error {
	return fmt.Errorf("the daemon of a mount that is on %s is gone: anvilfs umount %s takes it away, with -l if programs are in it; then mount again. Nothing that was synced is lost", dir, advice.Quote(dir))
}
