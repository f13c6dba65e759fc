// Package filedev is a device on a regular file or a block device of Linux.
//
// It goes around the page cache where the system allows (direct I/O), so that
// what is read is what the media holds, and caches twice nothing. Direct I/O
// wants offsets, lengths and memory aligned; requests that are not go through
// an aligned buffer, and a write that covers part of a block reads the rest of
// it first:
//
//	write        |-----xxxxxxxx|xxxxxxxxxxxxx|xxx----------|
//	              read, merged  as it is      read, merged
//
// Lock order: one stripe for the first block of such a write, then one for
// the last, in order of their index; no lock is held otherwise during I/O.
//
// After a crash: only what was written before a Flush that returned nil is
// sure. After a failed Flush every later one fails too, because the kernel
// reports such an error only once.
//
// The file is locked while open, so that no second process, and no second
// Open in this one, gets hold of the same member: exclusively for writing,
// shared for reading. The lock goes with the last request, not with Close. So is
// the file under a loop device, by ranges: it is the same member. A file that is to be
// written is refused, too, while a loop device over it is mounted as something else.
package filedev

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"
	"sync/atomic"

	"github.com/anvilfs/anvilfs/ondisk"
	"golang.org/x/sys/unix"
)

// ErrInUse: someone else has the device open. Unmount it or stop them.
var ErrInUse = errors.New("device in use")

// ErrReadOnly: the device was opened for reading.
var ErrReadOnly = errors.New("device opened read-only")

var _ ondisk.Device = (*Device)(nil)

// Options of Open. The zero value opens an existing device for writing.
type Options struct {
	ReadOnly bool  // nothing is ever written, and others may read too
	Create   int64 // size in bytes of a new regular file; 0 = it must exist
	Buffered bool  // do not try direct I/O
}

// A Device is an open file or block device.
type Device struct {
	path      string
	fd        int
	under     int // the file under a loop device, for its lock; -1: there is none
	blockSize int // of direct I/O, if direct
	memAlign  int // of memory in direct I/O
	direct    bool
	block     bool // a block device, not a file
	readOnly  bool
	size      atomic.Int64 // a multiple of blockSize

	// partial guards read-merge-write of blocks, striped by block number.
	partial [64]sync.Mutex

	mu       sync.Mutex // guards what follows; never held during I/O
	idle     sync.Cond  // inflight became 0
	inflight int
	closed   bool
	flushErr error // first failure of Flush
}

// ReadAt implements ondisk.Device.
func (d *Device) ReadAt(p []byte, off int64) (int, error) {
	if err := d.begin("read", off); err != nil {
		return 0, err
	}
	defer d.end()
	var eof error
	if left := max(d.Size()-off, 0); int64(len(p)) > left {
		p, eof = p[:left], io.EOF
	}
	var n int
	var err error
	if d.fits(p, off) {
		n, err = d.pread(p, off)
	} else {
		n, err = d.readBounced(p, off)
	}
	if err == nil {
		err = eof
	}
	return n, err
}

// WriteAt implements ondisk.Device.
func (d *Device) WriteAt(p []byte, off int64) (int, error) {
	if err := d.begin("write", off); err != nil {
		return 0, err
	}
	defer d.end()
	if d.readOnly {
		return 0, fmt.Errorf("%s: %w", d.path, ErrReadOnly)
	}
	if size := d.Size(); int64(len(p)) > size-off {
		return 0, fmt.Errorf("%s: write of %d bytes at %#x: the device ends at %#x", d.path, len(p), off, size)
	}
	if d.fits(p, off) {
		return d.pwrite(p, off)
	}
	return d.writeBounced(p, off)
}

// Flush implements ondisk.Device.
func (d *Device) Flush() error {
	if err := d.begin("flush", 0); err != nil {
		return err
	}
	defer d.end()
	if d.readOnly {
		return nil
	}
	err := retry(func() error { return unix.Fdatasync(d.fd) })
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil && d.flushErr == nil {
		d.flushErr = fmt.Errorf("%s: flush: %w: reopen the device to go on", d.path, err)
	}
	return d.flushErr
}

// Discard implements ondisk.Device. The range is narrowed to whole blocks.
func (d *Device) Discard(off, n int64) error {
	if err := d.begin("discard", off); err != nil {
		return err
	}
	defer d.end()
	if d.readOnly {
		return fmt.Errorf("%s: %w", d.path, ErrReadOnly)
	}
	bs := int64(d.blockSize)
	beg, end := (off+bs-1)/bs*bs, min(off+n, d.Size())/bs*bs
	if beg >= end {
		return nil
	}
	var err error
	if d.block {
		err = discardBlocks(d.fd, beg, end-beg)
	} else {
		err = retry(func() error {
			return unix.Fallocate(d.fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, beg, end-beg)
		})
	}
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOTTY) || errors.Is(err, unix.ENOSYS) {
		return fmt.Errorf("%s: discard: %w", d.path, errors.ErrUnsupported)
	}
	return d.wrap("discard", beg, err)
}

// Size implements ondisk.Device.
func (d *Device) Size() int64 { return d.size.Load() }

// Measure implements ondisk.Device.
func (d *Device) Measure() (int64, error) {
	if err := d.begin("measure", 0); err != nil {
		return 0, err
	}
	defer d.end()
	size, err := d.measure()
	if err != nil {
		return 0, fmt.Errorf("%s: its size: %w", d.path, err)
	}
	for was := d.Size(); size > was && !d.size.CompareAndSwap(was, size); was = d.Size() {
	}
	return size, nil
}

// measure asks the system for the size, in whole blocks.
func (d *Device) measure() (int64, error) {
	size, err := unix.Seek(d.fd, 0, unix.SEEK_END) // requests bring their own offsets
	return size / int64(d.blockSize) * int64(d.blockSize), err
}

// NextData is the offset from off on that may be other than zero: the size of the
// device if there is none, and off where the system does not tell, as of a disk.
func (d *Device) NextData(off int64) (int64, error) {
	if err := d.begin("seek", off); err != nil {
		return 0, err
	}
	defer d.end()
	at, err := unix.Seek(d.fd, off, unix.SEEK_DATA)
	switch {
	case errors.Is(err, unix.ENXIO):
		return max(off, d.Size()), nil
	case err != nil: // it cannot tell, or fails: reading says what is wrong
		return off, nil
	}
	return at, nil
}

// BlockSize implements ondisk.Device.
func (d *Device) BlockSize() int { return d.blockSize }

// Name implements ondisk.Device: the path given to Open.
func (d *Device) Name() string { return d.path }

// Direct reports whether requests go around the page cache.
func (d *Device) Direct() bool { return d.direct }

// Close waits for the requests under way and gives up the lock. It does not
// flush: what is not flushed was not promised.
func (d *Device) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return fmt.Errorf("%s: close: %w", d.path, fs.ErrClosed)
	}
	d.closed = true
	for d.inflight > 0 {
		d.idle.Wait()
	}
	d.closeUnder()
	return d.wrap("close", 0, unix.Close(d.fd))
}

// begin counts a request in, so that Close waits for it.
func (d *Device) begin(op string, off int64) error {
	if off < 0 {
		return fmt.Errorf("%s: %s at negative offset %d", d.path, op, off)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return fmt.Errorf("%s: %s: %w", d.path, op, fs.ErrClosed)
	}
	d.inflight++
	return nil
}

func (d *Device) end() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.inflight--; d.inflight == 0 {
		d.idle.Broadcast()
	}
}

func (d *Device) wrap(op string, off int64, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %s at %#x: %w", d.path, op, off, err)
}

// retry repeats a system call that a signal interrupted.
func retry(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}
