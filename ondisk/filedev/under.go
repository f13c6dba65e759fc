package filedev

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// lockBytes keeps others from the bytes of a file that the device is made of: all of
// a regular file, what a loop device or a partition of it shows of the file below
// it. Else one file could be opened by its own name and as a loop device, and be
// written by two who do not know of each other. What is below is not known where
// the file has another name, as in a container, or none any more; then nothing is
// locked.
//
// Where a file system has no locks of ranges, the whole file is locked by flock(2), as
// each file is that is opened by its name: then no two partitions of one loop device can
// be used, but no two users go unseen. Where it has none of these either, the device is
// not opened: nobody could say that it is ours alone.
func (d *Device) lockBytes() error {
	lock := unix.Flock_t{Type: unix.F_WRLCK}
	if d.readOnly {
		lock.Type = unix.F_RDLCK
	}
	d.under = -1
	fd := d.fd
	if d.block {
		if !d.openUnder(&lock) {
			return nil
		}
		fd = d.under
	}
	err := patiently(func() error { return lockRange(fd, &lock) })
	if err != nil && err != unix.EWOULDBLOCK {
		err = d.flock(fd)
	}
	if err != nil {
		d.closeUnder()
	}
	return err
}

// lockRange locks bytes of an open file; a variable for tests, which have no file
// system without such locks.
var lockRange = func(fd int, lock *unix.Flock_t) error { return unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, lock) }

// openUnder opens the file under a loop device, and says which range of it the
// device shows; false if there is none, or none that can be opened.
func (d *Device) openUnder(lock *unix.Flock_t) bool {
	info, err := unix.IoctlLoopGetStatus64(d.fd)
	if err != nil {
		return false
	}
	path, err := os.ReadFile(fmt.Sprintf("/sys/block/loop%d/loop/backing_file", info.Number))
	if err != nil {
		return false
	}
	flags := unix.O_RDWR | unix.O_CLOEXEC | unix.O_NONBLOCK
	if d.readOnly {
		flags = unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NONBLOCK
	}
	fd, err := unix.Open(strings.TrimSuffix(string(path), "\n"), flags, 0)
	if err != nil {
		return false
	}
	var file, dev unix.Stat_t
	err = unix.Fstat(fd, &file)
	if err == nil {
		err = unix.Fstat(d.fd, &dev)
	}
	if err != nil || file.Mode&unix.S_IFMT != unix.S_IFREG || file.Ino != info.Inode || file.Dev != info.Device {
		unix.Close(fd)
		return false
	}
	lock.Start, lock.Len = int64(info.Offset), int64(info.Sizelimit) // 0 = to its end, wherever that will be
	if start, size, ok := partition(dev.Rdev); ok {
		lock.Start, lock.Len = lock.Start+start, size
	}
	d.under = fd
	return true
}

// partition is where a partition begins on its device, and its size, in bytes;
// false if it is none.
func partition(rdev uint64) (start, size int64, ok bool) {
	dir := fmt.Sprintf("/sys/dev/block/%d:%d/", unix.Major(rdev), unix.Minor(rdev))
	for name, n := range map[string]*int64{"start": &start, "size": &size} {
		text, err := os.ReadFile(dir + name)
		if err != nil {
			return 0, 0, false
		}
		if *n, err = strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err != nil {
			return 0, 0, false
		}
		*n *= 512 // whatever its blocks are
	}
	return start, size, true
}

func (d *Device) closeUnder() {
	if d.under >= 0 {
		unix.Close(d.under) // only the lock is lost
		d.under = -1
	}
}
