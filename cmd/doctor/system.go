package doctor

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

const (
	leastFiles  = 512       // members, log, and readers of control files
	leastMemory = 256 << 20 // the default of memory=
	oldestYear  = 2024      // a clock before it was never set
	helpersFrom = "install the package, or run make install in the source"
)

// mountHelpers looks for what mount(8) and umount(8) call.
func (m *Machine) mountHelpers() []Finding {
	var list []Finding
	switch target := m.helper("mount.fuse.anvilfs"); {
	case target == "":
		list = append(list, found("mount(8)", Warning, "mount -t fuse.anvilfs and fstab do not work: /sbin/mount.fuse.anvilfs is missing.", helpersFrom))
	case target != m.Self:
		list = append(list, found("mount(8)", Note, fmt.Sprintf("mount -t fuse.anvilfs runs %s, not this program.", target), ""))
	default:
		list = append(list, ok("mount(8)", "mount -t fuse.anvilfs and fstab work."))
	}
	if m.helper("umount.fuse.anvilfs") == "" {
		list = append(list, found("umount(8)", Warning,
			"umount(8) returns before the media is complete: /sbin/umount.fuse.anvilfs is missing.",
			helpersFrom+"; anvilfs umount MNT waits without it"))
	} else {
		list = append(list, ok("umount(8)", "It waits until the media is complete."))
	}
	return list
}

func (m *Machine) otherHelpers() []Finding {
	var missing []string
	for _, name := range []string{"mkfs.anvilfs", "fsck.anvilfs", "fsck.fuse.anvilfs"} {
		if m.helper(name) == "" {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return []Finding{found("mkfs, fsck", Note, "Not installed for mkfs(8) and fsck(8): "+strings.Join(missing, ", ")+".",
			helpersFrom+"; anvilfs newfs and anvilfs fsck do the same")}
	}
	return []Finding{ok("mkfs, fsck", "mkfs -t anvilfs and fsck -t anvilfs work.")}
}

// helper is the program behind a helper's name, "" if there is none.
func (m *Machine) helper(name string) string {
	target, err := filepath.EvalSymlinks(m.path("/sbin/" + name))
	if err != nil {
		return ""
	}
	if st, err := os.Stat(target); err != nil || st.Mode()&0o111 == 0 {
		return ""
	}
	return target
}

func (m *Machine) probe() []Finding {
	if m.program("blkid") == "" {
		return []Finding{found("blkid", Note, "newfs recognises only a few foreign formats without blkid.", "apt install util-linux")}
	}
	return []Finding{ok("blkid", "newfs sees what a device carries.")}
}

// Memory is how many bytes the machine has, or the control group of this process if
// that is less, and which of them: 0 if neither is known.
func (m *Machine) Memory() (bytes int64, where string) {
	for line := range strings.Lines(m.word("/proc/meminfo")) {
		_, _ = fmt.Sscanf(line, "MemTotal: %d kB", &bytes) // other lines do not match
	}
	bytes <<= 10
	if limit, isSet := m.number("/sys/fs/cgroup/memory.max"); isSet && (bytes == 0 || limit < bytes) {
		return limit, "the control group"
	}
	return bytes, "the machine"
}

// memory looks at what a mount may use.
func (m *Machine) memory() []Finding {
	total, where := m.Memory()
	where = strings.ToUpper(where[:1]) + where[1:]
	if total > 0 && total < 2*leastMemory {
		return []Finding{found("memory", Warning, fmt.Sprintf("%s has %d MiB; a mount takes up to 256 MiB.", where, total>>20),
			"mount with memory=64m")}
	}
	return []Finding{ok("memory", fmt.Sprintf("%s has %d MiB; a mount takes up to 256 MiB (memory=).", where, total>>20))}
}

func (m *Machine) limits() []Finding {
	if m.Files < leastFiles {
		return []Finding{found("open files", Warning, fmt.Sprintf("A process may have only %d files open.", m.Files),
			fmt.Sprintf("ulimit -n %d", 2*leastFiles))}
	}
	return []Finding{ok("open files", fmt.Sprintf("A process may have %d.", m.Files))}
}

func (m *Machine) syslog() []Finding {
	if !m.exists("/dev/log") {
		return []Finding{found("log", Note, "There is no system log here: what a mount has to say is lost.", "mount with log=FILE")}
	}
	return []Finding{ok("log", "Mounts write to the system log (log=FILE: elsewhere).")}
}

func (m *Machine) systemd() []Finding {
	if !m.exists("/run/systemd/system") {
		return []Finding{found("systemd", Note, "systemd does not run this machine: mounts come from fstab by mount -a, timers do not exist.", "")}
	}
	if list := m.fstab(); len(list) > 0 {
		return list
	}
	return []Finding{ok("systemd", "It mounts what fstab has, with anvilfs# before the members.")}
}

// fstab looks for sources that systemd takes for one device, which it waits for
// in vain: all that begin with /dev/ and are more than a path.
func (m *Machine) fstab() []Finding {
	var list []Finding
	for line := range strings.Lines(m.word("/etc/fstab")) {
		f := strings.Fields(line)
		if len(f) < 4 || f[2] != "fuse.anvilfs" && f[2] != "anvilfs" || onlyByHand(f[3]) {
			continue
		}
		if strings.HasPrefix(f[0], "/dev/") && strings.ContainsAny(f[0], ",@") {
			list = append(list, found("fstab", Warning,
				fmt.Sprintf("%s is not mounted at boot: systemd takes its source for one device, and waits for it in vain.", f[1]),
				fmt.Sprintf("in /etc/fstab: anvilfs#%s %s %s rw,nofail,wait=30 0 0; then systemctl daemon-reload", f[0], f[1], f[2])))
		}
	}
	return list
}

// onlyByHand reports whether mount(8) alone makes the mount: it takes the source
// as it is.
func onlyByHand(options string) bool {
	words := strings.Split(options, ",")
	return slices.Contains(words, "noauto") && !slices.Contains(words, "x-systemd.automount")
}

func (m *Machine) clock() []Finding {
	switch {
	case m.Now.Year() < oldestYear:
		return []Finding{found("clock", Warning, fmt.Sprintf("It shows %s: files get wrong times.", m.Now.Format("2006-01-02")),
			"set it: date -s TIME, or enable time synchronisation")}
	case !m.Synced:
		return []Finding{found("clock", Note, "It follows no reference; only the times of files depend on it.", "timedatectl set-ntp true")}
	}
	return []Finding{ok("clock", "It follows a reference.")}
}
