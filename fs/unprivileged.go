package fs

import (
	"errors"
	"fmt"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// userFlags are the flags that fusermount3 sets for users; nosuid and nodev
// it always sets.
var userFlags = []struct {
	flag uintptr
	word string
}{
	{syscall.MS_NOSUID, ""}, {syscall.MS_NODEV, ""}, {syscall.MS_RELATIME, ""},
	{syscall.MS_NOEXEC, "noexec"}, {syscall.MS_SYNCHRONOUS, "sync"}, {syscall.MS_DIRSYNC, "dirsync"},
	{syscall.MS_NOATIME, "noatime"}, {syscall.MS_NODIRATIME, "nodiratime"},
}

// flagNames name the others in messages.
var flagNames = []struct {
	flag uintptr
	word string
}{{syscall.MS_STRICTATIME, "strictatime"}, {unix.MS_LAZYTIME, "lazytime"}, {unix.MS_NOSYMFOLLOW, "nosymfollow"}}

// userWords are flags as words of fusermount3.
func userWords(flags uintptr) ([]string, error) {
	var words []string
	for _, f := range userFlags {
		if flags&f.flag != 0 && f.word != "" {
			words = append(words, f.word)
		}
		flags &^= f.flag
	}
	if flags == 0 {
		return words, nil
	}
	for _, f := range flagNames {
		if flags&f.flag != 0 {
			return nil, fmt.Errorf("only root can mount with %s: leave it out", f.word)
		}
	}
	return nil, fmt.Errorf("only root can mount with flags %#x: leave them out", flags)
}

// A userError says why the helper did not mount, and what can be done. The
// helper has no codes, only words.
func userError(helper, said string, err error) error {
	for _, known := range []struct{ said, text string }{
		{"user_allow_other", "option allow_other is not for users here: leave it out, or have root put a line user_allow_other into /etc/fuse.conf"},
		{"no write access to mountpoint", "the mount point must be a directory that you may write to: choose one of your own"},
		{"not owned by user", "the mount point must be your own directory: choose another"},
		{"failed to open /dev/fuse", "/dev/fuse is not open to users: have root run 'chmod 666 /dev/fuse'; 'anvilfs doctor' says what else is missing"},
		{"fuse device not found", "the kernel has no FUSE: have root run 'modprobe fuse'"},
		{"too many FUSE filesystems mounted", "there are as many mounts of users as /etc/fuse.conf allows: unmount one, or have root raise mount_max"},
		{"Operation not permitted", helper + " is not set-user-id root: have root run 'chmod 4755 " + helper + "', or mount as root"},
	} {
		if strings.Contains(said, known.said) {
			return errors.New(known.text)
		}
	}
	return fmt.Errorf("%s: %w: %s", helper, err, said)
}
