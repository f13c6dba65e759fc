package doctor

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// sound is a machine on which everything is as it should be.
func sound(t *testing.T) *Machine {
	t.Helper()
	root := t.TempDir()
	m := &Machine{
		Root: root, UID: 1000, Kernel: "6.18.4-arch", Files: 1024, MinPage: 4096, Synced: true,
		Now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), Self: filepath.Join(root, "usr/bin/anvilfs"),
	}
	for path, text := range map[string]string{
		"/proc/filesystems":                        "nodev\tproc\nnodev\tfuse\n\tfuseblk\n",
		"/proc/sys/fs/fuse/max_pages_limit":        "256\n",
		"/proc/meminfo":                            "MemTotal:        8000000 kB\nMemFree: 1 kB\n",
		"/sys/module/fuse/parameters/enable_uring": "N\n",
		"/dev/fuse":                                "",
		"/dev/log":                                 "",
		"/dev/loop-control":                        "",
		"/run/systemd/system/x":                    "",
		"/etc/fuse.conf":                           "# user_allow_other\nuser_allow_other\n",
	} {
		put(t, m, path, text, 0o666)
	}
	for _, name := range []string{"anvilfs", "fusermount3", "blkid"} {
		put(t, m, "/usr/bin/"+name, "", 0o755)
	}
	if err := os.Chmod(m.path("/usr/bin/fusermount3"), 0o755|os.ModeSetuid); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(m.path("/sbin"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"mount.fuse.anvilfs", "umount.fuse.anvilfs", "mkfs.anvilfs", "fsck.anvilfs", "fsck.fuse.anvilfs"} {
		if err := os.Symlink(m.Self, m.path("/sbin/"+name)); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

func put(t *testing.T, m *Machine, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(m.path(path)), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(m.path(path), []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, m *Machine, path string) {
	t.Helper()
	if err := os.RemoveAll(m.path(path)); err != nil {
		t.Fatal(err)
	}
}

func TestSoundMachine(t *testing.T) {
	m := sound(t)
	put(t, m, "/etc/fstab", "anvilfs#/dev/sdb,/dev/sdc@HOME /home fuse.anvilfs rw 0 0\n"+
		"/dev/sdd@B /b fuse.anvilfs noauto,rw 0 0\n/dev/sde,x /c ext4 rw 0 0\n/img/a,/img/b@C /d fuse.anvilfs rw 0 0\n", 0o600)
	r := m.Examine()
	if r.Worst != OK {
		t.Errorf("a sound machine: %+v", r.Findings[0])
	}
	if len(r.Findings) < 12 {
		t.Errorf("only %d things were looked at", len(r.Findings))
	}
}

// Each fault alone is the first thing said, with its remedy.
func TestFaults(t *testing.T) {
	for _, c := range []struct {
		fault  string
		damage func(*testing.T, *Machine)
		name   string
		level  Level
		remedy string
	}{
		{"no FUSE", func(t *testing.T, m *Machine) { put(t, m, "/proc/filesystems", "nodev\tproc\n\tfuseblk\n", 0o600) }, "kernel", Fatal, "modprobe fuse"},
		{"an old kernel", func(_ *testing.T, m *Machine) { m.Kernel = "4.19.0" }, "kernel", Warning, "newer kernel"},
		{"no device", func(t *testing.T, m *Machine) { remove(t, m, "/dev/fuse") }, "/dev/fuse", Fatal, "modprobe fuse"},
		{"small requests", func(t *testing.T, m *Machine) { put(t, m, "/proc/sys/fs/fuse/max_pages_limit", "32", 0o600) }, "requests", Warning, "max_pages_limit=256"},
		{"no fusermount3", func(t *testing.T, m *Machine) { remove(t, m, "/usr/bin/fusermount3") }, "fusermount3", Fatal, "fuse3"},
		{"the same for root", func(t *testing.T, m *Machine) { m.UID = 0; remove(t, m, "/usr/bin/fusermount3") }, "fusermount3", Note, "fuse3"},
		{"fusermount3 without rights", func(t *testing.T, m *Machine) {
			if err := os.Chmod(m.path("/usr/bin/fusermount3"), 0o755); err != nil {
				t.Fatal(err)
			}
		}, "fusermount3", Fatal, "chmod 4755"},
		{"only a comment allows it", func(t *testing.T, m *Machine) { put(t, m, "/etc/fuse.conf", "#user_allow_other\n", 0o600) }, "allow_other", Note, "/etc/fuse.conf"},
		{"no mount helper", func(t *testing.T, m *Machine) { remove(t, m, "/sbin/mount.fuse.anvilfs") }, "mount(8)", Warning, "make install"},
		{"another program's helper", func(t *testing.T, m *Machine) { m.Self = "/elsewhere/anvilfs" }, "mount(8)", Note, ""},
		{"no umount helper", func(t *testing.T, m *Machine) { remove(t, m, "/sbin/umount.fuse.anvilfs") }, "umount(8)", Warning, "anvilfs umount"},
		{"helpers that lead nowhere", func(t *testing.T, m *Machine) { remove(t, m, "/usr/bin/anvilfs") }, "mount(8)", Warning, "make install"},
		{"no mkfs helper", func(t *testing.T, m *Machine) { remove(t, m, "/sbin/mkfs.anvilfs") }, "mkfs, fsck", Note, "anvilfs newfs"},
		{"no loop devices", func(t *testing.T, m *Machine) { remove(t, m, "/dev/loop-control") }, "loop", Note, ""},
		{"no blkid", func(t *testing.T, m *Machine) { remove(t, m, "/usr/bin/blkid") }, "blkid", Note, "util-linux"},
		{"little memory", func(t *testing.T, m *Machine) { put(t, m, "/proc/meminfo", "MemTotal: 262144 kB\n", 0o600) }, "memory", Warning, "memory=64m"},
		{"little in the group", func(t *testing.T, m *Machine) { put(t, m, "/sys/fs/cgroup/memory.max", "134217728\n", 0o600) }, "memory", Warning, "memory=64m"},
		{"few files", func(_ *testing.T, m *Machine) { m.Files = 64 }, "open files", Warning, "ulimit"},
		{"no log", func(t *testing.T, m *Machine) { remove(t, m, "/dev/log") }, "log", Note, "log=FILE"},
		{"no systemd", func(t *testing.T, m *Machine) { remove(t, m, "/run/systemd") }, "systemd", Note, ""},
		{"a line of fstab that systemd misreads", func(t *testing.T, m *Machine) {
			put(t, m, "/etc/fstab", "/dev/sda / ext4 rw 0 0\n/dev/sdb,/dev/sdc@HOME /home fuse.anvilfs rw,nofail 0 0\n", 0o600)
		}, "fstab", Warning, "anvilfs#/dev/sdb,/dev/sdc@HOME /home fuse.anvilfs rw"},
		{"one that it mounts at the first use", func(t *testing.T, m *Machine) {
			put(t, m, "/etc/fstab", "/dev/sdb@HOME /home anvilfs noauto,x-systemd.automount 0 0\n", 0o600)
		}, "fstab", Warning, "anvilfs#/dev/sdb@HOME"},
		{"a clock never set", func(_ *testing.T, m *Machine) { m.Now = time.Unix(0, 0) }, "clock", Warning, "date -s"},
		{"a clock by itself", func(_ *testing.T, m *Machine) { m.Synced = false }, "clock", Note, "set-ntp"},
	} {
		t.Run(c.fault, func(t *testing.T) {
			m := sound(t)
			c.damage(t, m)
			r := m.Examine()
			f := r.Findings[0]
			if f.Name != c.name || f.Level != c.level || r.Worst != c.level || !strings.Contains(f.Remedy, c.remedy) {
				t.Errorf("got %+v, want %s of %s with remedy %q", f, c.level, c.name, c.remedy)
			}
			if f.What == "" || !strings.HasSuffix(f.What, ".") {
				t.Errorf("no sentence: %q", f.What)
			}
		})
	}
}
