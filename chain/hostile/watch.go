package hostile

import (
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/memdev"
)

// ErrEndless: so much was read that no sound volume of the kind needs it.
var ErrEndless = errors.New("endless reading")

// A Watch is a device that notes what no program may do.
type Watch struct {
	*memdev.Device
	reads  atomic.Int64
	limit  int64 // reads after which ErrEndless is returned
	misuse atomic.Pointer[error]
}

// NewWatch returns a watch over dev that ends reading after limit reads.
func NewWatch(dev *memdev.Device, limit int64) *Watch { return &Watch{Device: dev, limit: limit} }

// Reads is the number of reads so far.
func (w *Watch) Reads() int64 { return w.reads.Load() }

// Misuse is what went wrong first: a request outside of the device, or
// reading without end.
func (w *Watch) Misuse() error {
	if e := w.misuse.Load(); e != nil {
		return *e
	}
	return nil
}

func (w *Watch) note(err error) error {
	w.misuse.CompareAndSwap(nil, &err)
	return err
}

// ReadAt implements ondisk.Device.
func (w *Watch) ReadAt(p []byte, off int64) (int, error) {
	if w.reads.Add(1) > w.limit {
		return 0, w.note(fmt.Errorf("%w: more than %d reads", ErrEndless, w.limit))
	}
	if off < 0 || off+int64(len(p)) > w.Size() || off+int64(len(p)) < off {
		return 0, w.note(fmt.Errorf("read of %d bytes at %#x outside of the device", len(p), off))
	}
	return w.Device.ReadAt(p, off)
}

// WriteAt implements ondisk.Device.
func (w *Watch) WriteAt(p []byte, off int64) (int, error) {
	if off < 0 || off+int64(len(p)) > w.Size() || off+int64(len(p)) < off {
		return 0, w.note(fmt.Errorf("write of %d bytes at %#x outside of the device", len(p), off))
	}
	return w.Device.WriteAt(p, off)
}

// Discard implements ondisk.Device.
func (w *Watch) Discard(off, n int64) error {
	if off < 0 || n < 0 || off+n > w.Size() {
		return w.note(fmt.Errorf("discard of %d bytes at %#x outside of the device", n, off))
	}
	return w.Device.Discard(off, n)
}

// Watches are the devices of one volume.
type Watches []*Watch

// Watch returns fresh copies of the image's devices under watch.
func (im *Image) Watch() Watches {
	limit := int64(2000 + 60*len(im.p.sites))
	var list Watches
	for _, d := range im.Devices() {
		list = append(list, NewWatch(d, limit))
	}
	return list
}

// Again is the same media for another use, counted anew.
func (ws Watches) Again() Watches {
	var list Watches
	for _, w := range ws {
		w.Reopen()
		list = append(list, NewWatch(w.Device, w.limit))
	}
	return list
}

// Devices lists them for those who open volumes.
func (ws Watches) Devices() (list []ondisk.Device) {
	for _, w := range ws {
		list = append(list, w)
	}
	return list
}

// Misuse is that of any of them.
func (ws Watches) Misuse() error {
	for _, w := range ws {
		if err := w.Misuse(); err != nil {
			return err
		}
	}
	return nil
}
