package fs

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
)

// readAheadKiB is how far the kernel reads ahead of a sequential reader.
const readAheadKiB = 4096

// attach mounts and returns the connection to the kernel.
func attach(mountpoint string, o *MountOptions) (fd int, err error) {
	if os.Geteuid() == 0 {
		return attachRoot(mountpoint, o)
	}
	if o.BlockDevice != "" {
		return -1, errors.New("only root can mount a block device")
	}
	return attachUser(mountpoint, o)
}

// attachRoot calls mount(2): nosuid and nodev only if asked for, and the
// source exactly as given.
func attachRoot(mountpoint string, o *MountOptions) (fd int, err error) {
	var st syscall.Stat_t
	if err := syscall.Stat(mountpoint, &st); err != nil {
		return -1, err
	}
	fd, err = syscall.Open("/dev/fuse", syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("/dev/fuse: %w", err)
	}
	kind, source := "fuse", o.FsName
	data := options(o)
	if o.BlockDevice != "" {
		kind, source = "fuseblk", o.BlockDevice
		data = append(data, "blksize=4096")
	}
	data = append(data,
		fmt.Sprintf("fd=%d", fd), fmt.Sprintf("rootmode=%o", st.Mode&syscall.S_IFMT),
		"user_id=0", "group_id=0")
	flags := o.Flags
	if o.ReadOnly {
		flags |= syscall.MS_RDONLY
	}
	err = syscall.Mount(source, mountpoint, kind+"."+o.Subtype, flags, strings.Join(data, ","))
	if err != nil {
		_ = syscall.Close(fd) // was only to be passed on
		return -1, err
	}
	return fd, nil
}

// setReadAhead lets the kernel read further ahead than its 128 KiB; only root
// can, and without it sequential reads are slower, no more.
func setReadAhead(mountpoint string) {
	var st syscall.Stat_t
	if syscall.Stat(mountpoint, &st) != nil {
		return
	}
	major, minor := st.Dev>>8&0xfff, st.Dev&0xff|st.Dev>>12&0xfff00
	path := fmt.Sprintf("/sys/class/bdi/%d:%d/read_ahead_kb", major, minor)
	_ = os.WriteFile(path, []byte(fmt.Sprint(readAheadKiB)), 0)
}

// attachUser lets the setuid helper mount and send the connection back.
func attachUser(mountpoint string, o *MountOptions) (fd int, err error) {
	helper, err := Fusermount()
	if err != nil {
		return -1, err
	}
	flags, err := userWords(o.Flags)
	if err != nil {
		return -1, err
	}
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	ours := os.NewFile(uintptr(pair[0]), "fusermount")
	theirs := os.NewFile(uintptr(pair[1]), "fusermount")
	defer ours.Close()
	words := append(options(o), flags...)
	words = append(words, "fsname="+escape(o.FsName), "subtype="+escape(o.Subtype))
	if o.ReadOnly {
		words = append(words, "ro")
	}
	cmd := exec.Command(helper, "-o", strings.Join(words, ","), "--", mountpoint)
	cmd.ExtraFiles = []*os.File{theirs} // becomes descriptor 3
	cmd.Env = append(os.Environ(), "_FUSE_COMMFD=3")
	out, err := cmd.CombinedOutput()
	_ = theirs.Close() // a copy; the helper had its own
	if err != nil {
		return -1, userError(helper, strings.TrimSpace(string(out)), err)
	}
	return receiveFD(ours)
}

// receiveFD takes the descriptor that the helper sends.
func receiveFD(f *os.File) (int, error) {
	generic, err := net.FileConn(f)
	if err != nil {
		return -1, err
	}
	defer generic.Close()
	sock, ok := generic.(*net.UnixConn)
	if !ok {
		return -1, errors.New("fusermount: not a unix socket")
	}
	data, oob := make([]byte, 16), make([]byte, syscall.CmsgSpace(4))
	_, n, _, _, err := sock.ReadMsgUnix(data, oob)
	if err != nil {
		return -1, err
	}
	msgs, err := syscall.ParseSocketControlMessage(oob[:n])
	if err != nil || len(msgs) != 1 {
		return -1, fmt.Errorf("fusermount sent no connection: %w", errors.Join(err, syscall.EPROTO))
	}
	fds, err := syscall.ParseUnixRights(&msgs[0])
	if err != nil || len(fds) != 1 {
		return -1, fmt.Errorf("fusermount sent no connection: %w", errors.Join(err, syscall.EPROTO))
	}
	syscall.CloseOnExec(fds[0])
	return fds[0], nil
}

// Fusermount is the helper with which others than root mount and unmount. Who is
// run by umount(8) for them has no PATH.
func Fusermount() (string, error) {
	for _, name := range []string{"fusermount3", "/usr/bin/fusermount3", "/bin/fusermount3", "fusermount"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", errors.New("only root can do this where fusermount3 is not installed: install the package fuse3")
}

// detach unmounts.
func detach(mountpoint string) error {
	if os.Geteuid() == 0 {
		return syscall.Unmount(mountpoint, 0)
	}
	helper, err := Fusermount()
	if err != nil {
		return err
	}
	if out, err := exec.Command(helper, "-u", "--", mountpoint).CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}
