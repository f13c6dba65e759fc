package filedev

import (
	"io"
	"sync"
	"unsafe"

	"github.com/anvilfs/anvilfs/ondisk"
	"golang.org/x/sys/unix"
)

// bounceSize bounds the aligned buffer of one request; larger requests go
// through it in pieces.
const bounceSize = 256 << 10

var bouncePool = sync.Pool{New: func() any {
	b := ondisk.AlignedBuffer(bounceSize)
	return &b
}}

// fits reports whether a request can be handed to the kernel as it is.
func (d *Device) fits(p []byte, off int64) bool {
	if !d.direct || len(p) == 0 {
		return true
	}
	addr := uintptr(unsafe.Pointer(unsafe.SliceData(p)))
	return off%int64(d.blockSize) == 0 && len(p)%d.blockSize == 0 && addr%uintptr(d.memAlign) == 0
}

// piece is the next part of a request at off with n bytes left: the whole
// blocks [beg, end) that hold its first bytes.
func (d *Device) piece(off int64, n int) (beg, end int64) {
	bs := int64(d.blockSize)
	beg = off / bs * bs
	end = (off + int64(n) + bs - 1) / bs * bs
	return beg, min(end, beg+bounceSize)
}

func (d *Device) readBounced(p []byte, off int64) (int, error) {
	buf := bouncePool.Get().(*[]byte)
	defer bouncePool.Put(buf)
	done := 0
	for done < len(p) {
		beg, end := d.piece(off+int64(done), len(p)-done)
		part := (*buf)[:end-beg]
		n, err := d.pread(part, beg)
		skip := int(off + int64(done) - beg)
		done += copy(p[done:], part[min(skip, n):n])
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

func (d *Device) writeBounced(p []byte, off int64) (int, error) {
	buf := bouncePool.Get().(*[]byte)
	defer bouncePool.Put(buf)
	done := 0
	for done < len(p) {
		at := off + int64(done)
		beg, end := d.piece(at, len(p)-done)
		n := int(min(end-at, int64(len(p)-done)))
		if err := d.mergeWrite((*buf)[:end-beg], beg, p[done:done+n], int(at-beg)); err != nil {
			return done, err
		}
		done += n
	}
	return done, nil
}

// mergeWrite writes the blocks at beg that blocks has room for: data from
// skip on, and around it what is there already.
func (d *Device) mergeWrite(blocks []byte, beg int64, data []byte, skip int) error {
	bs := d.blockSize
	head, tail := skip > 0, (skip+len(data))%bs != 0
	first, last := beg, beg+int64(len(blocks)-bs)
	if first == last {
		head = head || tail
		tail = false
	}
	unlock := d.lockPartial(first, head, last, tail)
	defer unlock()
	if head {
		if _, err := d.pread(blocks[:bs], first); err != nil {
			return err
		}
	}
	if tail {
		if _, err := d.pread(blocks[len(blocks)-bs:], last); err != nil {
			return err
		}
	}
	copy(blocks[skip:], data)
	_, err := d.pwrite(blocks, beg)
	return err
}

// lockPartial locks the stripes of the blocks that are written in part.
func (d *Device) lockPartial(first int64, head bool, last int64, tail bool) (unlock func()) {
	stripe := func(off int64) int { return int(off / int64(d.blockSize) % int64(len(d.partial))) }
	a, b := stripe(first), stripe(last)
	switch {
	case head && tail && a != b:
		a, b = min(a, b), max(a, b)
		d.partial[a].Lock()
		d.partial[b].Lock()
		return func() { d.partial[b].Unlock(); d.partial[a].Unlock() }
	case head:
		b = a
	case !tail:
		return func() {}
	}
	d.partial[b].Lock()
	return d.partial[b].Unlock
}

// pread fills p or says why not. The device cannot end inside p.
func (d *Device) pread(p []byte, off int64) (int, error) {
	done := 0
	for done < len(p) {
		n, err := unix.Pread(d.fd, p[done:], off+int64(done))
		if err == unix.EINTR {
			continue
		}
		if err == nil && n == 0 {
			err = io.ErrUnexpectedEOF // shrunk while open
		}
		if err != nil {
			return done, d.wrap("read", off+int64(done), err)
		}
		done += n
	}
	return done, nil
}

func (d *Device) pwrite(p []byte, off int64) (int, error) {
	done := 0
	for done < len(p) {
		n, err := unix.Pwrite(d.fd, p[done:], off+int64(done))
		if err == unix.EINTR {
			continue
		}
		if err == nil && n == 0 {
			err = io.ErrShortWrite
		}
		if err != nil {
			return done, d.wrap("write", off+int64(done), err)
		}
		done += n
	}
	return done, nil
}
