package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// A mountEntry is one line of mountinfo that matters to us.
type mountEntry struct {
	id                   string // of the mount, while it is there
	target, source, kind string
	dev                  string // MAJOR:MINOR of what is mounted
	options              string // of the mount, then of the superblock
}

// anvilMounts lists the anvilfs mounts of this mount namespace, oldest first.
func anvilMounts() ([]mountEntry, error) {
	return anvilMountsOf("self")
}

// anvilMountsOf lists those that a process sees.
func anvilMountsOf(pid string) ([]mountEntry, error) {
	data, err := os.ReadFile("/proc/" + pid + "/mountinfo")
	if err != nil {
		return nil, err
	}
	var list []mountEntry
	for line := range strings.Lines(string(data)) {
		if m, ok := parseMountinfo(line); ok && isAnvil(m.kind) {
			list = append(list, m)
		}
	}
	return list, nil
}

// mountsOr returns dirs, or if there are none all mounts.
func mountsOr(dirs []string) ([]string, error) {
	if len(dirs) > 0 {
		return dirs, nil
	}
	list, err := anvilMounts()
	for _, m := range list {
		dirs = append(dirs, m.target)
	}
	if err == nil && len(dirs) == 0 {
		err = errors.New("no anvilfs filesystem is mounted here")
	}
	return dirs, err
}

func isAnvil(kind string) bool { return kind == "fuse.anvilfs" || kind == "fuseblk.anvilfs" }

// parseMountinfo reads "36 35 0:44 / /mnt rw,noatime shared:1 - fuse.anvilfs SRC rw,...".
func parseMountinfo(line string) (m mountEntry, ok bool) {
	before, after, found := strings.Cut(strings.TrimSpace(line), " - ")
	f, g := strings.Fields(before), strings.Fields(after)
	if !found || len(f) < 6 || len(g) < 3 {
		return m, false
	}
	return mountEntry{f[0], unmangle(f[4]), unmangle(g[1]), g[0], f[2], f[5] + "," + g[2]}, true
}

// mountedBy reports whether a user may unmount it: who mounted it, and root. Where
// that is not noted, the kernel decides.
func (m *mountEntry) mountedBy(uid int) bool {
	for _, o := range strings.Split(m.options, ",") {
		if by, ok := strings.CutPrefix(o, "user_id="); ok {
			return uid == 0 || by == strconv.Itoa(uid)
		}
	}
	return true
}

// findMount is the topmost anvilfs mount on dir itself.
func findMount(dir string) (mountEntry, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return mountEntry{}, err
	}
	// The directory may be reached through links; its parent is resolved, as
	// the mount point itself may belong to a dead daemon.
	if parent, err := filepath.EvalSymlinks(filepath.Dir(abs)); err == nil {
		abs = filepath.Join(parent, filepath.Base(abs))
	}
	if st, err := os.Lstat(abs); err == nil && st.Mode()&os.ModeSymlink != 0 {
		if abs, err = filepath.EvalSymlinks(abs); err != nil {
			return mountEntry{}, err
		}
	}
	list, err := anvilMounts()
	if err != nil {
		return mountEntry{}, err
	}
	for _, m := range slices.Backward(list) {
		if m.target == abs {
			return m, nil
		}
	}
	return mountEntry{}, fmt.Errorf("no anvilfs filesystem is mounted on %s: 'anvilfs status' lists those that are", dir)
}

// mangle and unmangle write blanks and the like as the kernel and libmount do.
var mangle = strings.NewReplacer(" ", `\040`, "\t", `\011`, "\n", `\012`, `\`, `\134`).Replace

// The kernel takes # for the begin of a comment, too.
var unmangle = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\043`, "#", `\134`, `\`).Replace

// mountError explains errors of files below a mount point.
func mountError(dir string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ENOTDIR): // a file is none, either
		if top := mountAbove(dir); top != "" {
			return fmt.Errorf("%s is no mount point: name the one that it is below, %s", dir, top)
		}
		return fmt.Errorf("%s is not on an anvilfs filesystem: 'anvilfs status' lists those that are mounted", dir)
	case errors.Is(err, syscall.ENOTCONN), errors.Is(err, syscall.ECONNABORTED):
		return daemonGone(dir)
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("%s: %w: run this as the user who mounted it", dir, syscall.EACCES)
	case errors.Is(err, syscall.EROFS):
		return readOnlyError(dir)
	}
	return err
}

// A readOnlyError names a mount that is read-only, of a command that changes
// something. It is an EROFS.
type readOnlyError string

func (e readOnlyError) Error() string {
	return fmt.Sprintf("%s is mounted read-only, and this would change it: 'mount -o remount,rw %s' first, or mount it anew if it was made with ro",
		string(e), string(e))
}

func (e readOnlyError) Is(target error) bool { return target == syscall.EROFS }

// mountAbove is the innermost mount that dir is below, if that is one of ours.
func mountAbove(dir string) string {
	abs, err := filepath.Abs(dir)
	if err == nil {
		abs, err = filepath.EvalSymlinks(abs)
	}
	if err != nil {
		return ""
	}
	list, err := anvilMounts()
	if err != nil {
		return ""
	}
	top := ""
	for _, m := range list {
		if strings.HasPrefix(abs, m.target+"/") && len(m.target) > len(top) {
			top = m.target
		}
	}
	var here, there syscall.Stat_t
	if top == "" || syscall.Stat(abs, &here) != nil || syscall.Stat(top, &there) != nil || here.Dev != there.Dev {
		return ""
	}
	return top
}
