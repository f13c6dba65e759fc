package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/anvilfs/anvilfs/fs"
)

func umountCommand() *cobra.Command {
	var lazy bool
	c := &cobra.Command{
		Use:   "umount MNT",
		Short: "Unmount, and return when the media is complete",
		Long: `Umount detaches the filesystem and returns when the process that served it has
written everything, closed the devices and ended. If that failed, or the
filesystem is mounted at another place, too, it says so and ends with 32.`,
		Args: exactly(1, "a mount point"),
		RunE: func(c *cobra.Command, args []string) error {
			return umount(c.Context(), args[0], lazy)
		},
	}
	c.Flags().BoolVarP(&lazy, "lazy", "l", false, "detach now, complete when the last user is gone; do not wait")
	return c
}

// umount detaches a mount and waits for its server to end: only then is the
// media complete and are the devices closed.
func umount(ctx context.Context, dir string, lazy bool) error {
	m, err := findMount(dir)
	if err != nil {
		return exitWith(exitMount, "%w", err)
	}
	if !m.mountedBy(os.Geteuid()) {
		return exitWith(exitMount, "unmounting %w", mountError(dir, os.ErrPermission))
	}
	pid := 0
	if !lazy {
		pid = serverOf(ctx, m.target)
	}
	end, err := watchProcess(pid)
	if err != nil {
		return exitWith(exitMount, "watching process %d, which serves %s: %w", pid, m.target, err)
	}
	defer end.Close()
	switch err := onceFree(ctx, func() error { return detach(m.target, lazy) }); {
	case errors.Is(err, unix.EBUSY):
		return exitWith(exitMount, "%s is in use: end the programs that 'fuser -vm %s' lists, or detach it with -l", dir, dir)
	case err != nil:
		return exitWith(exitMount, "unmounting %s: %w", dir, err)
	}
	if err := removeUtab(m.target); err != nil {
		return exitWith(exitMount, "%s is unmounted, but still entered in %s: %w", dir, utabPath, err)
	}
	if lazy || pid == 0 { // 0: its server had died before
		return nil
	}
	began := time.Now()
	also := func() []string { return elsewhere(&m, time.Since(began) > 2*elsewhereWait) }
	switch err := end.wait(ctx, pid, also); {
	case errors.As(err, new(elsewhereError)):
		return exitWith(exitMount, "%s is unmounted, but %w", dir, err)
	case errors.Is(err, errHeld):
		return exitWith(exitMount, "%s is unmounted, and its process %d has done what it could, but %w: %s", dir, pid, err, takeFailure(pid))
	case err != nil:
		return exitWith(exitMount, "%s is unmounted; its process %d is still writing: %w", dir, pid, err)
	}
	if reason := takeFailure(pid); reason != "" && !strings.HasPrefix(reason, heldMark) {
		return exitWith(exitMount, "%s is unmounted, but not everything was written: %s", dir, reason)
	}
	return nil
}

// Who only looks - status, a monitor, a shell that completes a name - is gone at
// once, and is no reason to fail.
const (
	busyPause = 50 * time.Millisecond
	busyTries = 20
)

// onceFree tries for a second what fails because something is in use.
func onceFree(ctx context.Context, try func() error) error {
	for i := 1; ; i++ {
		err := try()
		if !errors.Is(err, unix.EBUSY) || i == busyTries {
			return err
		}
		select {
		case <-time.After(busyPause):
		case <-ctx.Done():
			return err
		}
	}
}

// detach is umount2(2), or the setuid helper for other users.
func detach(dir string, lazy bool) error {
	if os.Geteuid() == 0 {
		flags := unix.UMOUNT_NOFOLLOW
		if lazy {
			flags |= unix.MNT_DETACH
		}
		return unix.Unmount(dir, flags)
	}
	helper, err := fs.Fusermount()
	if err != nil {
		return err
	}
	words := []string{"-u", "--", dir}
	if lazy {
		words = append([]string{"-z"}, words...)
	}
	out, err := exec.Command(helper, words...).CombinedOutput()
	if strings.Contains(string(out), "busy") {
		return unix.EBUSY
	}
	if err != nil {
		return errors.New(strings.TrimSpace(string(out)))
	}
	return nil
}

// serverOf asks a mount for the process that serves it; 0 if nobody answers.
// It reads the status, since no command can be written where it is read-only.
func serverOf(ctx context.Context, dir string) int {
	st, err := statusOf(ctx, dir)
	if err != nil {
		return 0
	}
	return st.Server.PID
}

// A processEnd is a process whose end can be waited for, though it is nobody's
// child here. The descriptor stands for that process only, even if its number
// is used again.
type processEnd struct {
	fd    int
	since time.Time // what the process left before is not this one's
}

// watchProcess starts watching; pid 0 is a process that has ended.
func watchProcess(pid int) (processEnd, error) {
	if pid == 0 {
		return processEnd{fd: -1}, nil
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return processEnd{fd: -1}, nil
	}
	return processEnd{fd, time.Now()}, err
}

// heldWait is how long a process may take to end after it has said why it might not.
const heldWait = 5 * time.Second

// errHeld: the kernel does not let the process end while a request is out.
var errHeld = errors.New("it cannot end before a device answers")

// elsewhereWait is how long a process may take to end before it is asked whether
// it has to.
const elsewhereWait = 2 * time.Second

// wait returns when the process has ended, or has been held up for long, or has
// no reason to end, since what it serves is mounted elsewhere: at two looks in a
// row, since a program that is being started in a mount namespace of its own has
// all mounts for a moment.
func (p processEnd) wait(ctx context.Context, pid int, elsewhere func() []string) error {
	const step = 200    // milliseconds between looks at ctx
	var before []string // what the last look found
	for look := time.Now().Add(elsewhereWait); p.fd >= 0; {
		if time.Now().After(look) {
			list := elsewhere()
			if len(list) > 0 && len(before) > 0 {
				return elsewhereError(list)
			}
			before, look = list, time.Now().Add(elsewhereWait)
		}
		if st, err := os.Stat(failureFile(pid)); err == nil && st.ModTime().After(p.since) && time.Since(st.ModTime()) > heldWait {
			return errHeld
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}, step)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		if n > 0 {
			return nil
		}
		if ctx.Err() != nil {
			return errors.New("interrupted")
		}
	}
	return nil
}

// Close stops watching.
func (p processEnd) Close() {
	if p.fd >= 0 {
		_ = unix.Close(p.fd) // only a handle
	}
}

// failureFile is where a serving process leaves what went wrong at its end:
// its log may be anywhere, and umount must not report success.
func failureFile(pid int) string {
	dir := "/run/anvilfs"
	if uid := os.Geteuid(); uid != 0 {
		dir = filepath.Join(os.TempDir(), fmt.Sprintf("anvilfs-%d", uid))
	}
	return filepath.Join(dir, fmt.Sprintf("%d.failed", pid))
}

// heldMark begins a reason that is none if the process ends all the same.
const heldMark = "all members are complete; "

func leaveFailure(reason error) error {
	path := failureFile(os.Getpid())
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(oneLine(reason.Error())), 0o600)
}

// takeFailure returns what a process left, once. What is older than an hour
// was left by an earlier process with that number.
func takeFailure(pid int) string {
	path := failureFile(pid)
	st, err := os.Stat(path)
	if err != nil {
		return ""
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	_ = os.Remove(path) // told only once; the next process of that number would be blamed
	if time.Since(st.ModTime()) > time.Hour {
		return ""
	}
	return string(text)
}
