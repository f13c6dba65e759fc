package doctor

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A Machine is what is looked at.
type Machine struct {
	Root    string // where /proc, /sys, /dev, /etc and programs are; "/" for this machine
	UID     int
	Self    string // this program
	Kernel  string // release, as uname(2) says
	Files   uint64 // open files a process may have
	Now     time.Time
	Synced  bool  // the clock follows a reference
	MinPage int64 // bytes of a page
}

// Here is the machine this process runs on.
func Here() (*Machine, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return nil, fmt.Errorf("uname: %w", err)
	}
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		return nil, fmt.Errorf("limit of open files: %w", err)
	}
	// A clock that cannot be asked counts as one that follows nobody.
	var clock unix.Timex
	state, err := unix.Adjtimex(&clock)
	return &Machine{
		Root: "/", UID: os.Geteuid(), Self: self, Kernel: unix.ByteSliceToString(u.Release[:]),
		Files: files.Cur, Now: time.Now(), MinPage: int64(os.Getpagesize()),
		Synced: err == nil && state != unix.TIME_ERROR && clock.Status&unix.STA_UNSYNC == 0,
	}, nil
}

// Examine makes all checks. more is what others found.
func (m *Machine) Examine(more ...Finding) Report {
	list := more
	for _, check := range []func() []Finding{
		m.fuse, m.device, m.requests, m.user, m.mountHelpers, m.otherHelpers, m.loops,
		m.probe, m.memory, m.limits, m.syslog, m.systemd, m.clock,
	} {
		list = append(list, check()...)
	}
	return newReport(list)
}

func (m *Machine) path(p string) string { return filepath.Join(m.Root, p) }

func (m *Machine) exists(p string) bool {
	_, err := os.Stat(m.path(p))
	return err == nil
}

// word is the content of a small file, "" if it cannot be read.
func (m *Machine) word(p string) string {
	b, err := os.ReadFile(m.path(p))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// number is a word as a number; ok is false if it is none.
func (m *Machine) number(p string) (n int64, ok bool) {
	n, err := strconv.ParseInt(m.word(p), 10, 64)
	return n, err == nil
}

// program finds a program in the usual places, "" if it is nowhere.
func (m *Machine) program(name string) string {
	for _, dir := range []string{"/usr/bin", "/bin", "/usr/sbin", "/sbin", "/usr/local/bin"} {
		p := m.path(filepath.Join(dir, name))
		if st, err := os.Stat(p); err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
			return p
		}
	}
	return ""
}

// release is the kernel's major and minor number.
func (m *Machine) release() (major, minor int) {
	_, _ = fmt.Sscanf(m.Kernel, "%d.%d", &major, &minor) // 0.0 where it is no number
	return major, minor
}

func (m *Machine) atLeast(major, minor int) bool {
	a, b := m.release()
	return a > major || a == major && b >= minor
}
