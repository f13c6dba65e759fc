package layout

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// A System is where facts come from.
type System struct {
	Root string // where /sys and /proc are; "/" for this machine
	// Stat asks for a path's type and numbers; nil is stat(2).
	Stat func(path string) (Stat, error)
}

// A Stat is what matters of stat(2).
type Stat struct {
	Block bool   // a block device, Rdev is its number
	Dev   uint64 // of the filesystem that it is on
	Rdev  uint64
}

// deepest ends chains of devices on devices.
const deepest = 16

// Of is the place of a member that lies at paths. What cannot be found out is
// left out.
func (s *System) Of(paths []string) (p Place) {
	for _, path := range paths {
		one := s.at(path, 0)
		p.Disks = append(p.Disks, one.Disks...)
		p.File = p.File || one.File
	}
	slices.Sort(p.Disks)
	p.Disks = slices.Compact(p.Disks)
	return p
}

func (s *System) at(path string, depth int) Place {
	stat := s.Stat
	if stat == nil {
		stat = statOf
	}
	st, err := stat(path)
	switch {
	case err != nil || depth > deepest:
		return Place{}
	case st.Block:
		return s.device(st.Rdev, depth)
	}
	p := s.device(st.Dev, depth)
	if p.Disks == nil { // no device of its own: btrfs, or a network
		p = s.mounted(st.Dev, depth)
	}
	p.File = true
	return p
}

func statOf(path string) (Stat, error) {
	var st syscall.Stat_t
	err := syscall.Stat(path, &st)
	return Stat{st.Mode&syscall.S_IFMT == syscall.S_IFBLK, uint64(st.Dev), uint64(st.Rdev)}, err
}

func number(dev uint64) string { return fmt.Sprintf("%d:%d", unix.Major(dev), unix.Minor(dev)) }

// device is the place of a block device.
func (s *System) device(dev uint64, depth int) Place {
	dir, err := filepath.EvalSymlinks(filepath.Join(s.Root, "sys/dev/block", number(dev)))
	if err != nil {
		return Place{}
	}
	return s.inSysfs(dir, depth)
}

// UnderLoop is the file that a loop device is on, "" if it is none.
func (s *System) UnderLoop(rdev uint64) string {
	return backing(filepath.Join(s.Root, "sys/dev/block", number(rdev)))
}

// backing is UnderLoop of the device that a directory of sysfs describes.
func backing(dir string) string {
	file, err := os.ReadFile(filepath.Join(dir, "loop/backing_file"))
	if err != nil {
		return ""
	}
	return strings.TrimSuffix(string(file), "\n")
}

// inSysfs is the place of the device that a directory of sysfs describes.
func (s *System) inSysfs(dir string, depth int) (p Place) {
	if depth > deepest {
		return p
	}
	if _, err := os.Stat(filepath.Join(dir, "partition")); err == nil {
		dir = filepath.Dir(dir)
	}
	if file := backing(dir); file != "" {
		p = s.at(file, depth+1)
		p.File = true
		return p
	}
	below, err := os.ReadDir(filepath.Join(dir, "slaves"))
	if err != nil || len(below) == 0 {
		return Place{Disks: []string{filepath.Base(dir)}}
	}
	for _, e := range below { // of dm, md: all that it is made of
		at, err := filepath.EvalSymlinks(filepath.Join(dir, "slaves", e.Name()))
		if err != nil {
			continue
		}
		one := s.inSysfs(at, depth+1)
		p.Disks = append(p.Disks, one.Disks...)
		p.File = p.File || one.File
	}
	return p
}

// mounted is the place of a filesystem without a device number of a disk: that
// of what is mounted, else the filesystem itself.
func (s *System) mounted(dev uint64, depth int) Place {
	text, err := os.ReadFile(filepath.Join(s.Root, "proc/self/mountinfo"))
	if err != nil {
		return Place{}
	}
	for line := range strings.Lines(string(text)) {
		before, after, _ := strings.Cut(line, " - ")
		f, g := strings.Fields(before), strings.Fields(after)
		if len(f) < 5 || len(g) < 2 || f[2] != number(dev) {
			continue
		}
		if strings.HasPrefix(g[1], "/dev/") {
			if p := s.at(g[1], depth+1); p.Disks != nil {
				return p
			}
		}
		return Place{Disks: []string{"the filesystem " + g[0] + " on " + f[4]}}
	}
	return Place{}
}
