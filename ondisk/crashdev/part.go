package crashdev

import (
	"fmt"
	"io"

	"github.com/anvilfs/anvilfs/ondisk"
)

var _ ondisk.Device = (*part)(nil)

// A part is a device that is a range of an image. Closing it does nothing: the
// others go on.
type part struct {
	img  ondisk.Device
	span span
	name string
}

// Split returns the devices that an image of NewSet stands for. Each flushes all.
func Split(img ondisk.Device, sizes ...int64) []ondisk.Device {
	var list []ondisk.Device
	at := int64(0)
	for i, n := range sizes {
		list = append(list, &part{img, span{at, at + n}, fmt.Sprintf("%s.%d", img.Name(), i)})
		at += n
	}
	return list
}

// ReadAt implements ondisk.Device.
func (p *part) ReadAt(b []byte, off int64) (int, error) {
	if off < 0 || off > p.Size() {
		return 0, fmt.Errorf("%s: read at %#x: %w", p.name, off, io.EOF)
	}
	if left := p.Size() - off; int64(len(b)) > left {
		n, err := p.img.ReadAt(b[:left], p.span.beg+off)
		if err == nil {
			err = io.EOF
		}
		return n, err
	}
	return p.img.ReadAt(b, p.span.beg+off)
}

// WriteAt implements ondisk.Device.
func (p *part) WriteAt(b []byte, off int64) (int, error) {
	if off < 0 || int64(len(b)) > p.Size()-off {
		return 0, fmt.Errorf("%s: write of %d bytes at %#x: the device ends at %#x", p.name, len(b), off, p.Size())
	}
	return p.img.WriteAt(b, p.span.beg+off)
}

// Flush implements ondisk.Device.
func (p *part) Flush() error { return p.img.Flush() }

// Discard implements ondisk.Device. It does nothing.
func (p *part) Discard(off, n int64) error { return nil }

// Measure implements ondisk.Device.
func (p *part) Measure() (int64, error) { return p.Size(), nil }

// Size implements ondisk.Device.
func (p *part) Size() int64 { return p.span.end - p.span.beg }

// BlockSize implements ondisk.Device.
func (p *part) BlockSize() int { return p.img.BlockSize() }

// Name implements ondisk.Device.
func (p *part) Name() string { return p.name }

// Close implements ondisk.Device.
func (p *part) Close() error { return nil }
