package main

import (
	"fmt"
	"os"
	"strings"
	"syscall"
)

// umount(8) finds a FUSE mount's helper only through libmount's private
// table: an entry whose options say uhelper=NAME makes it call umount.NAME
// instead of umount(2), and our helper waits until the media is complete.
const (
	utabPath = "/run/mount/utab"
	utabLock = "/run/mount/utab.lock"
	uhelper  = "fuse.anvilfs"
)

// addUtab enters a mount. Without the helper installed, or without the right
// to write the table, umount(8) simply does not wait: that is not worth
// failing a mount.
func addUtab(source, dir string) error {
	if os.Geteuid() != 0 || !helperInstalled() {
		return nil
	}
	line := fmt.Sprintf("SRC=%s TARGET=%s ROOT=/ OPTS=uhelper=%s\n", mangle(source), mangle(dir), uhelper)
	return editUtab(func(lines []string) []string { return append(lines, line) })
}

// helperInstalled reports whether umount(8) would find us.
func helperInstalled() bool {
	for _, dir := range []string{"/sbin", "/sbin/fs.d", "/sbin/fs"} {
		if _, err := os.Stat(dir + "/umount." + uhelper); err == nil {
			return true
		}
	}
	return false
}

// removeUtab takes the entries of a mount point out.
func removeUtab(dir string) error {
	if _, err := os.Stat(utabPath); err != nil || os.Geteuid() != 0 {
		return nil
	}
	return editUtab(func(lines []string) []string { return lines }, dir)
}

// editUtab rewrites the table under its lock: drops what is named, then edits.
func editUtab(edit func([]string) []string, drop ...string) error {
	if err := os.MkdirAll("/run/mount", 0o755); err != nil {
		return err
	}
	lock, err := os.OpenFile(utabLock, os.O_RDWR|os.O_CREATE|syscall.O_CLOEXEC, 0o644)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return err
	}
	old, err := os.ReadFile(utabPath)
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	var kept []string
	for _, line := range strings.SplitAfter(string(old), "\n") {
		if line != "" && !namesTarget(line, drop) {
			kept = append(kept, line)
		}
	}
	tmp := utabPath + ".anvilfs"
	if err := os.WriteFile(tmp, []byte(strings.Join(edit(kept), "")), 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, utabPath)
}

func namesTarget(line string, dirs []string) bool {
	for _, dir := range dirs {
		if strings.Contains(" "+line, " TARGET="+mangle(dir)+" ") {
			return true
		}
	}
	return false
}
