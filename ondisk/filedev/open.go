package filedev

import (
	"errors"
	"fmt"
	"os"
	"time"
	"unsafe"

	"github.com/anvilfs/anvilfs/ondisk"
	"golang.org/x/sys/unix"
)

const (
	defaultBlock = 512  // what is assumed to reach media together
	directBlock  = 4096 // suits direct I/O everywhere, where nobody says better

	// Device managers lock a disk for an instant to look at it; that must
	// not look like a second owner.
	lockTries = 10
	lockPause = 10 * time.Millisecond
)

// Open opens and locks the file or block device at path. Errors name the
// path and the remedy; ErrInUse if someone else has it.
func Open(path string, opt Options) (*Device, error) {
	if opt.Create < 0 || opt.Create > 0 && opt.ReadOnly {
		return nil, fmt.Errorf("%s: cannot make a file of %d bytes, read-only: %v", path, opt.Create, opt.ReadOnly)
	}
	var st unix.Stat_t
	err := unix.Stat(path, &st)
	switch {
	case err == nil && opt.Create > 0:
		return nil, fmt.Errorf("%s: %w: remove it first, or choose another name", path, os.ErrExist)
	case err != nil && opt.Create == 0:
		return nil, openError(path, opt, err)
	}
	kind := st.Mode & unix.S_IFMT
	if opt.Create == 0 && kind != unix.S_IFREG && kind != unix.S_IFBLK {
		return nil, fmt.Errorf("%s: neither a regular file nor a block device: give one of these", path)
	}
	if opt.Create > 0 {
		if err := create(path, opt.Create); err != nil {
			return nil, openError(path, opt, err)
		}
	}
	d := &Device{path: path, block: opt.Create == 0 && kind == unix.S_IFBLK, readOnly: opt.ReadOnly}
	d.idle.L = &d.mu
	err = d.open(opt)
	if err == nil {
		if err = d.setup(); err != nil {
			unix.Close(d.fd)
		}
	}
	if err != nil {
		if opt.Create > 0 {
			os.Remove(path)
		}
		return nil, openError(path, opt, err)
	}
	return d, nil
}

// create makes a sparse file.
func create(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		os.Remove(path)
		return err
	}
	return nil
}

// open gets the descriptor, with direct I/O if that works.
func (d *Device) open(opt Options) error {
	flags := unix.O_RDWR | unix.O_CLOEXEC
	if opt.ReadOnly {
		flags = unix.O_RDONLY | unix.O_CLOEXEC
	} else if d.block {
		flags |= unix.O_EXCL // fails while mounted or claimed by another driver
	}
	try := func(flags int) error {
		return retry(func() (err error) {
			d.fd, err = unix.Open(d.path, flags, 0)
			return err
		})
	}
	if !opt.Buffered {
		if err := try(flags | unix.O_DIRECT); err != unix.EINVAL {
			d.direct = err == nil
			return err
		}
	}
	return try(flags)
}

// setup locks the device and learns its size and alignment.
func (d *Device) setup() error {
	if err := d.flock(d.fd); err != nil {
		return err
	}
	if err := d.lockBytes(); err != nil {
		return err
	}
	if err := d.overHeld(); err != nil {
		return err
	}
	d.learnAlignment()
	size, err := d.measure()
	if err == nil && size == 0 {
		err = errors.New("the device is empty: give a size when making it")
	}
	if err != nil {
		d.closeUnder()
		return err
	}
	d.size.Store(size)
	if !d.direct {
		// Best effort: what an earlier user left in the cache may differ
		// from the media.
		_ = unix.Fadvise(d.fd, 0, 0, unix.FADV_DONTNEED)
	}
	return nil
}

// flock locks an open file: for d alone, or for all that only read.
func (d *Device) flock(fd int) error {
	how := unix.LOCK_EX | unix.LOCK_NB
	if d.readOnly {
		how = unix.LOCK_SH | unix.LOCK_NB
	}
	return patiently(func() error { return unix.Flock(fd, how) })
}

// patiently takes a lock that others may have for an instant.
func patiently(take func() error) error {
	var err error
	for i := range lockTries {
		if i > 0 {
			time.Sleep(lockPause)
		}
		if err = retry(take); err != unix.EWOULDBLOCK {
			return err
		}
	}
	return err
}

// learnAlignment sets blockSize and memAlign, and gives up direct I/O where
// its blocks would be larger than a device's can be.
func (d *Device) learnAlignment() {
	d.blockSize, d.memAlign = defaultBlock, 1
	if d.block {
		if n, err := unix.IoctlGetInt(d.fd, unix.BLKSSZGET); err == nil && n >= defaultBlock {
			d.blockSize = n
		}
		d.memAlign = d.blockSize
	}
	if !d.direct {
		return
	}
	if !d.block {
		d.blockSize, d.memAlign = directBlock, directBlock
		var sx unix.Statx_t
		err := unix.Statx(d.fd, "", unix.AT_EMPTY_PATH, unix.STATX_DIOALIGN, &sx)
		if err == nil && sx.Mask&unix.STATX_DIOALIGN != 0 && sx.Dio_offset_align != 0 {
			d.blockSize = max(int(sx.Dio_offset_align), defaultBlock)
			d.memAlign = max(int(sx.Dio_mem_align), 1)
		}
	}
	probe := ondisk.AlignedBuffer(directBlock)
	_, err := unix.Pread(d.fd, probe, 0)
	if d.blockSize > directBlock || d.memAlign > directBlock || err == unix.EINVAL {
		d.stopDirect()
	}
}

// stopDirect goes on through the page cache.
func (d *Device) stopDirect() {
	flags, err := unix.FcntlInt(uintptr(d.fd), unix.F_GETFL, 0)
	if err == nil {
		_, err = unix.FcntlInt(uintptr(d.fd), unix.F_SETFL, flags&^unix.O_DIRECT)
	}
	if err == nil {
		d.direct, d.blockSize, d.memAlign = false, min(d.blockSize, directBlock), 1
	}
}

// openError adds to err what the caller can do about it.
func openError(path string, opt Options, err error) error {
	remedy := ""
	held := new(heldError)
	switch {
	case errors.As(err, &held):
		return fmt.Errorf("%s: %w: unmount that, or stop the program that has it open (fuser -v %s shows it)", path, err, held.loop)
	case errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EWOULDBLOCK):
		return fmt.Errorf("%s: %w: unmount it, or stop the program that has it open (fuser -v %s shows it)", path, ErrInUse, path)
	case errors.Is(err, unix.ENOENT):
		remedy = ": check the path, or make a volume there first"
	case errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM):
		remedy = ": run as root, or as a user who may read and write it"
		if opt.ReadOnly {
			remedy = ": run as root, or as a user who may read it"
		}
	case errors.Is(err, unix.EROFS):
		remedy = ": the medium cannot be written; open it read-only"
	case errors.Is(err, unix.ENXIO) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENOMEDIUM):
		remedy = ": the device is gone; attach it again"
	case errors.Is(err, unix.ENOLCK) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS):
		remedy = ": its file system has no locks, so others could use it unseen; put the image elsewhere"
	case errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EFBIG) || errors.Is(err, unix.EDQUOT):
		remedy = ": choose a smaller size or another place"
	}
	return fmt.Errorf("%s: cannot open: %w%s", path, err, remedy)
}

// discardBlocks tells a block device that [off, off+n) is not needed.
func discardBlocks(fd int, off, n int64) error {
	span := [2]uint64{uint64(off), uint64(n)}
	return retry(func() error {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.BLKDISCARD, uintptr(unsafe.Pointer(&span)))
		if errno != 0 {
			return errno
		}
		return nil
	})
}
