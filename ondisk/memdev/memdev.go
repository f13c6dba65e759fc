// Package memdev is a device in memory, for tests and for images that are
// built before they are written out. It is sparse: pages never written cost
// nothing and read as zeros. Writes are durable at once, in the sense that
// there is no power to lose; crashdev adds that.
package memdev

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"sync"
	"sync/atomic"

	"github.com/anvilfs/anvilfs/ondisk"
)

const pageSize = 16384

var _ ondisk.Device = (*Device)(nil)

// A Device is an ondisk.Device in memory.
type Device struct {
	blockSize int
	name      string
	size      atomic.Int64 // as measured

	mu     sync.RWMutex // guards what follows, page contents included
	pages  map[int64]page
	room   int64 // size when it is measured next
	closed bool
}

// A page is copied before the first write after a Clone.
type page struct {
	data *[pageSize]byte
	own  bool // no clone has it too
}

// New returns a device of size zero bytes with 512-byte blocks.
func New(size int64) *Device {
	d := &Device{blockSize: 512, name: "memory", room: size, pages: make(map[int64]page)}
	d.size.Store(size)
	return d
}

// Named changes what Name returns, and returns d.
func (d *Device) Named(name string) *Device {
	d.name = name
	return d
}

// WithBlockSize changes what BlockSize returns, and returns d.
func (d *Device) WithBlockSize(n int) *Device {
	d.blockSize = n
	return d
}

// Clone returns an open copy; later writes to one do not show in the other.
// It costs little: pages are copied when one of the two changes them.
func (d *Device) Clone() *Device {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := &Device{blockSize: d.blockSize, name: d.name, room: d.room, pages: make(map[int64]page, len(d.pages))}
	c.size.Store(d.Size())
	for i, p := range d.pages {
		p.own = false
		d.pages[i], c.pages[i] = p, p
	}
	return c
}

// Enlarged is Clone, with size bytes.
func (d *Device) Enlarged(size int64) *Device {
	c := d.Clone()
	c.room = max(size, c.Size())
	c.size.Store(c.room)
	return c
}

// Resize makes the medium size bytes long while it is open: who has it finds
// that by Measure. What is behind the end of a shorter one is gone.
func (d *Device) Resize(size int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.room = size
	for i := range d.pages {
		if i*pageSize >= size {
			delete(d.pages, i)
		}
	}
}

// Reopen undoes Close: memory outlives it, as media does.
func (d *Device) Reopen() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = false
	d.size.Store(d.room)
}

// ReadFrom fills the device from r, from its start, and leaves out pages that
// are zero. It implements io.ReaderFrom; data beyond the end is an error.
func (d *Device) ReadFrom(r io.Reader) (int64, error) {
	var zero [pageSize]byte
	buf := new([pageSize]byte)
	for off := int64(0); ; {
		n, err := io.ReadFull(r, buf[:])
		if !bytes.Equal(buf[:n], zero[:n]) {
			if _, werr := d.WriteAt(buf[:n], off); werr != nil {
				return off, werr
			}
		}
		off += int64(n)
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return off, nil
		}
		if err != nil {
			return off, err
		}
	}
}

// ReadAt implements ondisk.Device.
func (d *Device) ReadAt(p []byte, off int64) (int, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if err := d.check("read", off); err != nil {
		return 0, err
	}
	var err error
	if left := max(d.Size()-off, 0); int64(len(p)) > left {
		p, err = p[:left], io.EOF
	}
	d.each(off, len(p), func(i int64, beg, end, at int) {
		if pg, ok := d.pages[i]; ok {
			copy(p[at:], pg.data[beg:end])
		} else {
			clear(p[at : at+end-beg])
		}
	})
	return len(p), err
}

// WriteAt implements ondisk.Device.
func (d *Device) WriteAt(p []byte, off int64) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.check("write", off); err != nil {
		return 0, err
	}
	if int64(len(p)) > d.Size()-off {
		return 0, fmt.Errorf("%s: write of %d bytes at %#x: the device ends at %#x", d.name, len(p), off, d.Size())
	}
	d.each(off, len(p), func(i int64, beg, end, at int) {
		pg := d.pages[i]
		if !pg.own {
			shared := pg.data
			pg = page{data: pagePool.Get().(*[pageSize]byte), own: true}
			switch whole := end-beg == pageSize; {
			case whole:
			case shared != nil:
				*pg.data = *shared
			default:
				*pg.data = [pageSize]byte{}
			}
			d.pages[i] = pg
		}
		copy(pg.data[beg:end], p[at:])
	})
	return len(p), nil
}

// Discard implements ondisk.Device; whole pages read as zeros afterwards.
func (d *Device) Discard(off, n int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.check("discard", off); err != nil {
		return err
	}
	for i := (off + pageSize - 1) / pageSize; (i+1)*pageSize <= min(off+n, d.Size()); i++ {
		delete(d.pages, i)
	}
	return nil
}

// pagePool has pages of devices that are over, with whatever is in them.
var pagePool = sync.Pool{New: func() any { return new([pageSize]byte) }}

// Recycle gives the pages that no clone has to devices that are written later: those
// who make many images spend much of their time on memory. The device is closed and
// has lost its content.
func (d *Device) Recycle() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, p := range d.pages {
		if p.own {
			pagePool.Put(p.data)
		}
	}
	clear(d.pages)
	d.closed = true
}

// Flush implements ondisk.Device.
func (d *Device) Flush() error {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.check("flush", 0)
}

// NextData is the offset from off on that may be other than zero, the size of the
// device if there is none.
func (d *Device) NextData(off int64) (int64, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if err := d.check("seek", off); err != nil {
		return 0, err
	}
	next := max(off, d.Size())
	for i := range d.pages { // they are few, what is between them is much
		if (i+1)*pageSize > off {
			next = min(next, max(off, i*pageSize))
		}
	}
	return next, nil
}

// Size implements ondisk.Device.
func (d *Device) Size() int64 { return d.size.Load() }

// Measure implements ondisk.Device.
func (d *Device) Measure() (int64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.check("measure", 0); err != nil {
		return 0, err
	}
	d.size.Store(max(d.Size(), d.room))
	return d.room, nil
}

// BlockSize implements ondisk.Device.
func (d *Device) BlockSize() int { return d.blockSize }

// Name implements ondisk.Device.
func (d *Device) Name() string { return d.name }

// Close implements ondisk.Device. The content stays; see Reopen.
func (d *Device) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.check("close", 0); err != nil {
		return err
	}
	d.closed = true
	return nil
}

func (d *Device) check(op string, off int64) error {
	if d.closed {
		return fmt.Errorf("%s: %s: %w", d.name, op, fs.ErrClosed)
	}
	if off < 0 {
		return fmt.Errorf("%s: %s at negative offset %d", d.name, op, off)
	}
	return nil
}

// each calls fn for the part [beg, end) of each page i that [off, off+n)
// touches; at is the part's place in the caller's buffer.
func (d *Device) each(off int64, n int, fn func(i int64, beg, end, at int)) {
	for at := 0; at < n; {
		i, beg := (off+int64(at))/pageSize, int((off+int64(at))%pageSize)
		end := min(pageSize, beg+n-at)
		fn(i, beg, end, at)
		at += end - beg
	}
}
