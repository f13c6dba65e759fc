package layout

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A machine is a tree of sysfs, and what stat(2) says.
type machine struct {
	t     *testing.T
	root  string
	stats map[string]Stat
}

func newMachine(t *testing.T) *machine {
	return &machine{t: t, root: t.TempDir(), stats: make(map[string]Stat)}
}

func (m *machine) system() *System {
	return &System{Root: m.root, Stat: func(path string) (Stat, error) {
		st, ok := m.stats[path]
		if !ok {
			return st, os.ErrNotExist
		}
		return st, nil
	}}
}

func (m *machine) write(path, text string) {
	m.t.Helper()
	path = filepath.Join(m.root, path)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) link(path, to string) {
	m.t.Helper()
	path = filepath.Join(m.root, path)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.Symlink(filepath.Join(m.root, to), path)); err != nil {
		m.t.Fatal(err)
	}
}

// disk adds a device: its directory of sysfs below devices, and /dev/NAME.
func (m *machine) disk(dir string, minor uint32) {
	m.write("sys/devices/"+dir+"/size", "100\n")
	m.link(fmt.Sprintf("sys/dev/block/8:%d", minor), "sys/devices/"+dir)
	m.stats["/dev/"+filepath.Base(dir)] = Stat{Block: true, Dev: unix.Mkdev(0, 6), Rdev: unix.Mkdev(8, minor)}
}

func (m *machine) below(dir string, parts ...string) {
	for _, p := range parts {
		m.link("sys/devices/"+dir+"/slaves/"+filepath.Base(p), "sys/devices/"+p)
	}
}

func TestPlaces(t *testing.T) {
	m := newMachine(t)
	m.disk("pci/sda", 0)
	m.disk("pci/sda/sda1", 1)
	m.disk("pci/sda/sda2", 2)
	m.write("sys/devices/pci/sda/sda1/partition", "1\n")
	m.write("sys/devices/pci/sda/sda2/partition", "2\n")
	m.disk("pci/sdb", 16)
	m.disk("virtual/dm-0", 30)
	m.below("virtual/dm-0", "pci/sda/sda2")
	m.disk("virtual/md0", 31)
	m.below("virtual/md0", "virtual/dm-0", "pci/sdb")
	m.disk("virtual/loop0", 40)
	m.write("sys/devices/virtual/loop0/loop/backing_file", "/srv/a.img\n")
	m.disk("virtual/dm-9", 50) // in a circle
	m.below("virtual/dm-9", "virtual/dm-9")
	m.stats["/srv/a.img"] = Stat{Dev: unix.Mkdev(8, 1)}
	m.stats["/pool/b.img"] = Stat{Dev: unix.Mkdev(0, 44)}
	m.stats["/tmp/c.img"] = Stat{Dev: unix.Mkdev(0, 45)}
	m.stats["/gone/d.img"] = Stat{Dev: unix.Mkdev(0, 46)}
	m.write("proc/self/mountinfo", "30 1 0:44 / /pool rw - btrfs /dev/sdb rw\n31 1 0:45 / /tmp rw - tmpfs tmp rw\n")
	s := m.system()
	for _, c := range []struct{ paths, want string }{
		{"/dev/sda", "[sda] false"},
		{"/dev/sda1", "[sda] false"},
		{"/dev/dm-0", "[sda] false"},
		{"/dev/md0", "[sda sdb] false"},
		{"/dev/loop0", "[sda] true"},
		{"/srv/a.img", "[sda] true"},
		{"/pool/b.img", "[sdb] true"},
		{"/tmp/c.img", "[the filesystem tmpfs on /tmp] true"},
		{"/gone/d.img", "[] true"},
		{"/dev/nothing", "[] false"},
		{"/dev/dm-9", "[] false"},
		{"/dev/sdb:/dev/sda1:/dev/sda2", "[sda sdb] false"},
	} {
		p := s.Of(strings.Split(c.paths, ":"))
		if got := fmt.Sprint(p.Disks, p.File); got != c.want {
			t.Errorf("%s: %s, want %s", c.paths, got, c.want)
		}
	}
}

// TestJudge: a line for each member, NAME ROLE SIZE DISKS, "file" behind those
// that are one.
func TestJudge(t *testing.T) {
	for _, c := range []struct{ name, members, want string }{
		{"three disks", "a master 10 sda\nb master 10 sdb\nc master 10 sdc", ""},
		{"about the same size", "a master 1000 sda\nb master 990 sdb\nc master 1000 sdc", ""},
		{"nothing is known", "a master 0 \nb master 0 \nc master 0 ", ""},
		{"image files", "a master 10 sda file\nb master 10 sda file\nc master 10 sda file\ns slave 10 sda file",
			"info: a, b and c are files on one disk (sda), and are lost with it.; info: s is on the disk of a, b and c (sda): it is lost with it."},
		{"two partitions", "a master 10 sda\nb master 10 sda\nc master 10 sdb",
			"warning: a and b are on one disk (sda): if it is lost, changes stop. [anvilfs node replace /mnt b DEVICE-ON-ANOTHER-DISK]"},
		{"all on one", "a master 10 sda\nb master 10 sda\nc master 10 sda",
			"warning: a, b and c are on one disk (sda): if it is lost, all is lost. [anvilfs node replace /mnt c DEVICE-ON-ANOTHER-DISK]"},
		{"two of five", "a master 10 sda\nb master 10 sda\nc master 10 sdb\nd master 10 sdc\ne master 10 sdd",
			"warning: a and b are on one disk (sda): if it is lost, no other master may be. [anvilfs node replace /mnt b DEVICE-ON-ANOTHER-DISK]"},
		{"two of seven", "a master 1 sda\nb master 1 sda\nc master 1 sdb\nd master 1 sdc\ne master 1 sdd\nf master 1 sde\ng master 1 sdf",
			"warning: a and b are on one disk (sda): if it is lost, 1 more master may be. [anvilfs node replace /mnt b DEVICE-ON-ANOTHER-DISK]"},
		{"pairs on two disks", "a master 10 sda,sdb\nb master 10 sda,sdb\nc master 10 sdc",
			"warning: a and b are on one disk (sda): if it is lost, changes stop. [anvilfs node replace /mnt b DEVICE-ON-ANOTHER-DISK]"},
		{"a device beside a file", "a master 10 sda\nb master 10 sda file\nc master 10 sdb",
			"warning: a and b are on one disk (sda): if it is lost, changes stop. [anvilfs node replace /mnt b DEVICE-ON-ANOTHER-DISK]"},
		{"a slave could vote", "a master 10 sda\nb master 10 sdb\ns slave 10 sdc",
			"note: s follows without a vote: as a master it would let 1 of 3 masters fail, not 0. [anvilfs node promote /mnt s]"},
		{"a slave beside three", "a master 10 sda\nb master 10 sdb\nc master 10 sdc\ns slave 10 sdd", ""},
		{"four", "a master 1 sda\nb master 1 sdb\nc master 1 sdc\nd master 1 sdd",
			"note: 4 masters tolerate the loss of 1, as 3 do: one more would let 2 fail. [anvilfs node add /mnt DEVICE]"},
		{"sizes", "a master 30 sda\nb master 10 sdb\nc master 20 sdc\ns slave 5 sdd",
			"note: b is the smallest master and bounds the space: a and c together have room for 30 B more, which is not used. [anvilfs node replace /mnt b LARGER-DEVICE]; " +
				"note: s is smaller than the masters: it does not follow any more once it is full. [anvilfs node replace /mnt s LARGER-DEVICE]"},
		{"two small ones", "a master 100 sda\nb master 50 sdb\nc master 51 sdc",
			"note: b and c are the smallest masters and bound the space: a has room for 50 B more, which is not used."},
		{"a cache", "a master 1 sda\nb master 1 sdb\nc master 1 sdc\nx cache 1 sdb\ny soft-slave 1 sdc",
			"note: x is a cache on the disk of b (sdb): reads are no quicker by it.; note: y is on the disk of c (sdc): it is lost with it."},
		{"one", "a master 1 sda", ""},
		{"a soft node alone", "s soft-slave 1 sda", ""},
	} {
		var members []Member
		for line := range strings.Lines(c.members) {
			f := strings.Split(strings.TrimRight(line, "\n"), " ")
			one := Member{Name: f[0], Role: f[1], Place: Place{File: len(f) > 4}}
			fmt.Sscan(f[2], &one.Room)
			if f[3] != "" {
				one.Place.Disks = strings.Split(f[3], ",")
			}
			members = append(members, one)
		}
		var got []string
		for _, f := range Judge(members, "/mnt", func(n uint64) string { return fmt.Sprint(n, " B") }) {
			s := string(f.Level) + ": " + f.What
			if f.Remedy != "" {
				s += " [" + f.Remedy + "]"
			}
			got = append(got, s)
		}
		if s := strings.Join(got, "; "); s != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.name, s, c.want)
		}
	}
}

func TestIdentity(t *testing.T) {
	m := newMachine(t)
	s := m.system()
	block := func(path string, minor uint32) {
		m.stats[path] = Stat{Block: true, Rdev: unix.Mkdev(8, minor)}
	}
	for path, minor := range map[string]uint32{"/dev/sda": 0, "/dev/sdb": 16, "/dev/sdb1": 17, "/dev/sdc": 32} {
		block(path, minor)
	}
	m.stats["/img"] = Stat{Dev: unix.Mkdev(8, 0)}
	m.write("devices/a/device/model", "Disk  One \n")
	m.write("devices/a/device/serial", " 123\n")
	m.link("sys/dev/block/8:0", "devices/a")
	m.write("devices/b/device/model", "Two\n")
	m.write("devices/b/b1/partition", "1")
	m.link("sys/dev/block/8:17", "devices/b/b1")
	for name, minor := range map[string]uint32{"wwn-0x5": 32, "ata-C_9": 32, "usb-C_9": 32, "wwn-0x6": 48} {
		m.write("dev/disk/by-id/"+name, "")
		block(filepath.Join(m.root, "dev/disk/by-id", name), minor)
	}
	for path, want := range map[string]string{
		"/dev/sda": "Disk One 123", "/dev/sdb1": "Two", "/dev/sdc": "ata-C_9", "/img": "", "/gone": "", "/dev/sdb": "",
	} {
		if got := s.Identity(path); got != want {
			t.Errorf("%s is %q, want %q", path, got, want)
		}
	}
}
