package filedev

import (
	"errors"
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// A heldError is a file that is in use through a loop device over it.
type heldError struct{ loop string }

func (e *heldError) Error() string {
	return fmt.Sprintf("%v by %s, a loop device over it", ErrInUse, e.loop)
}
func (e *heldError) Unwrap() error { return ErrInUse }

// overHeld is an error if a loop device shows the file that is to be written, and
// somebody has that for himself: a filesystem of another kind that is mounted from it,
// or what else opened it exclusively, and knows nothing of our locks. Whoever may not
// open loop devices sees none. A reader is let through, as beside a block device that
// is mounted.
func (d *Device) overHeld() error {
	var file unix.Stat_t
	if d.block || d.readOnly || unix.Fstat(d.fd, &file) != nil {
		return nil
	}
	dirs, _ := filepath.Glob("/sys/block/loop*/loop") // of those that are attached
	for _, dir := range dirs {
		path := filepath.Join("/dev", filepath.Base(filepath.Dir(dir)))
		if shows(path, &file) && held(path) {
			return &heldError{path}
		}
	}
	return nil
}

// shows reports whether a loop device is one over that file. The device knows: the
// name of the file may be another one here, or lie where nobody answers.
func shows(loop string, file *unix.Stat_t) bool {
	fd, err := unix.Open(loop, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	info, err := unix.IoctlLoopGetStatus64(fd)
	return err == nil && info.Inode == file.Ino && info.Device == file.Dev
}

// held reports whether somebody has a block device for himself, for longer than the
// instant that it takes to look at it, as we do here.
func held(path string) bool {
	err := patiently(func() error {
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_EXCL|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if err == nil {
			return unix.Close(fd)
		}
		if errors.Is(err, unix.EBUSY) {
			return unix.EWOULDBLOCK
		}
		return err
	})
	return err == unix.EWOULDBLOCK
}
