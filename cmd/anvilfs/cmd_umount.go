package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

func umountCommand() *cobra.Command {
	var lazy bool
	c := &cobra.Command{
		Use:   "umount MNT",
		Short: "Unmount, and return when the media is complete",
		Args:  exactly(1, "a mount point"),
		RunE: func(_ *cobra.Command, args []string) error {
			return umount(args[0], lazy)
		},
	}
	c.Flags().BoolVarP(&lazy, "lazy", "l", false, "detach now, complete when the last user is gone; do not wait")
	return c
}

// umount detaches a mount and waits for its server to end: only then is the
// media complete and are the devices closed.
func umount(dir string, lazy bool) error {
	pid := serverOf(dir)
	if lazy {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			return exitWith(exitMount, "umount %s: %w", dir, err)
		}
		return removeUtab(dir)
	}
	switch err := syscall.Unmount(dir, 0); {
	case errors.Is(err, syscall.EBUSY):
		return exitWith(exitMount, "%s is in use: end the programs that fuser -vm %s names, then unmount again", dir, dir)
	case errors.Is(err, syscall.EINVAL):
		return exitWith(exitMount, "nothing is mounted on %s", dir)
	case err != nil:
		return exitWith(exitMount, "umount %s: %w", dir, err)
	}
	if err := removeUtab(dir); err != nil {
		fmt.Fprintf(os.Stderr, "anvilfs: cleaning up after the mount: %v\n", err)
	}
	if pid == 0 {
		return nil // its server had died before
	}
	return waitGone(pid)
}

// serverOf asks a mount for the process that serves it; 0 if nobody answers.
func serverOf(dir string) int {
	reply, err := tell(dir, "pid")
	if err != nil {
		return 0
	}
	pid, _ := strconv.Atoi(strings.TrimSpace(reply)) // 0 if it is no number
	return pid
}

// waitGone returns when a process has ended. It was not started by us, so
// there is nothing to wait(2) for.
func waitGone(pid int) error {
	start := processStart(pid)
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		if err := syscall.Kill(pid, 0); errors.Is(err, syscall.ESRCH) || processStart(pid) != start {
			return nil
		}
		time.Sleep(pause)
	}
}

// processStart is the start time of a process, which tells it from a later
// one with its number; "" if it is gone or only a zombie.
func processStart(pid int) string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	_, rest, _ := strings.Cut(string(b), ") ") // behind the name, which may hold blanks
	f := strings.Fields(rest)
	if len(f) < 20 || f[0] == "Z" || f[0] == "X" {
		return ""
	}
	return f[19]
}
