package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// The oldest kernel whose FUSE has all that a mount relies on.
const oldestMajor, oldestMinor = 5, 11

// requestBytes is what one read or write carries at most.
const requestBytes = 1 << 20

func (m *Machine) fuse() []Finding {
	if !slices.Contains(strings.Fields(m.word("/proc/filesystems")), "fuse") {
		return []Finding{found("kernel", Fatal, fmt.Sprintf("Linux %s has no FUSE.", m.Kernel),
			"modprobe fuse; if there is no such module, a kernel with CONFIG_FUSE_FS is needed")}
	}
	if !m.atLeast(oldestMajor, oldestMinor) {
		return []Finding{found("kernel", Warning,
			fmt.Sprintf("Linux %s is older than %d.%d: set-user-id bits are cleared by a request for each write.", m.Kernel, oldestMajor, oldestMinor),
			"use a newer kernel where speed matters")}
	}
	list := []Finding{ok("kernel", fmt.Sprintf("Linux %s has FUSE.", m.Kernel))}
	switch m.word("/sys/module/fuse/parameters/enable_uring") {
	case "Y", "1":
		list = append(list, ok("io_uring", "The kernel offers FUSE over io_uring; this version does not use it yet."))
	case "N", "0":
		list = append(list, ok("io_uring", "FUSE over io_uring is switched off; this version does not use it yet."))
	}
	return list
}

func (m *Machine) device() []Finding {
	path := m.path("/dev/fuse")
	err := unix.Access(path, unix.R_OK|unix.W_OK)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return []Finding{found("/dev/fuse", Fatal, "There is no /dev/fuse.",
			"modprobe fuse; a container needs the device handed in (--device /dev/fuse --cap-add SYS_ADMIN)")}
	case err != nil:
		return []Finding{found("/dev/fuse", Fatal, fmt.Sprintf("/dev/fuse cannot be used: %v.", err),
			"as root: chmod 666 /dev/fuse")}
	}
	return []Finding{ok("/dev/fuse", "It can be opened.")}
}

// requests looks at how large a request the kernel allows.
func (m *Machine) requests() []Finding {
	pages, known := m.number("/proc/sys/fs/fuse/max_pages_limit")
	if !known {
		return []Finding{ok("requests", "Reads and writes of 1 MiB.")}
	}
	if size := pages * m.MinPage; size < requestBytes {
		return []Finding{found("requests", Warning, fmt.Sprintf("A request carries at most %d KiB: streaming is slower.", size>>10),
			fmt.Sprintf("sysctl fs.fuse.max_pages_limit=%d", requestBytes/m.MinPage))}
	}
	return []Finding{ok("requests", "Reads and writes of 1 MiB.")}
}

func (m *Machine) loops() []Finding {
	if !m.exists("/dev/loop-control") {
		return []Finding{found("loop", Note, "There are no loop devices; image files are used directly and need none.", "")}
	}
	return []Finding{ok("loop", "Loop devices are there; image files do not need them.")}
}

// user looks at what someone other than root needs.
func (m *Machine) user() []Finding {
	if m.UID == 0 {
		list := []Finding{ok("privilege", "Root mounts by itself.")}
		if !m.setuid("fusermount3") {
			list = append(list, found("fusermount3", Note, "Other users cannot mount: fusermount3 is not installed.", "apt install fuse3"))
		}
		return list
	}
	if m.program("fusermount3") == "" {
		return []Finding{found("fusermount3", Fatal, "Only root can mount here: fusermount3 is not installed.", "apt install fuse3")}
	}
	if !m.setuid("fusermount3") {
		return []Finding{found("fusermount3", Fatal, "fusermount3 is not set-user-id root, and cannot mount.",
			fmt.Sprintf("as root: chown root %s && chmod 4755 %[1]s", m.program("fusermount3")))}
	}
	list := []Finding{ok("fusermount3", "It mounts for you.")}
	if !confSays(m.word("/etc/fuse.conf"), "user_allow_other") {
		list = append(list, found("allow_other", Note, "Only you will see what you mount: option allow_other is not allowed here.",
			"as root: echo user_allow_other >>/etc/fuse.conf"))
	}
	return list
}

func (m *Machine) setuid(name string) bool {
	st, err := os.Stat(m.program(name))
	return err == nil && st.Mode()&os.ModeSetuid != 0
}

// confSays reports whether a line of fuse.conf is that word.
func confSays(conf, word string) bool {
	for line := range strings.Lines(conf) {
		if strings.TrimSpace(line) == word {
			return true
		}
	}
	return false
}
