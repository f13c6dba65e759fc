// Package crashdev shows every state that a power cut can leave on a device.
// It records the writes and flushes that pass, and builds images from them:
//
//	w0 w1 flush w2 w3 w4 flush w5 | cut
//	----------- all there         |
//	            -------------- all there, if that flush returned before the cut
//	                                w5: any of its sectors, in any mixture
//
// A flush covers the writes that had returned when it was called, no others:
// whoever does not wait for a writer before flushing is found out.
//
// Several devices that lose power together are parts of one: their places in it
// follow each other, each is flushed for itself, and the order of all that
// happened to them is recorded.
//
// Not here: errors before the cut (faultdev).
package crashdev

import (
	"bytes"
	"maps"
	"sync"

	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/memdev"
)

var _ ondisk.Device = (*Device)(nil)

// A Device records what happens to a device in memory.
type Device struct {
	dev   *memdev.Device
	base  *memdev.Device // as it was before the first event
	parts []span         // the devices it stands for, in order

	mu     sync.Mutex // guards what follows
	events []event
	flying map[int]bool // writes that have not returned
}

// An event is a write, or a flush that returned.
type event struct {
	off  int64
	data []byte // nil for a flush

	upto   int          // a flush covers the events before this one ...
	flying map[int]bool // ... except these, which were still under way
	part   span         // ... and those on other devices
}

// A span is the bytes [beg, end) of a device.
type span struct{ beg, end int64 }

// New records on top of dev, which must not be used directly any more.
func New(dev *memdev.Device) *Device { return NewSet(dev, dev.Size()) }

// NewSet records on top of dev as if it were several devices of these sizes.
func NewSet(dev *memdev.Device, sizes ...int64) *Device {
	d := &Device{dev: dev, base: dev.Clone(), flying: make(map[int]bool)}
	at := int64(0)
	for _, n := range sizes {
		d.parts = append(d.parts, span{at, at + n})
		at += n
	}
	if at != dev.Size() {
		panic("crashdev: the parts are not the whole") // our own arithmetic
	}
	return d
}

// Events is the number of writes and flushes recorded. A test notes it when
// something is acknowledged: images of that many events or more must have it.
func (d *Device) Events() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.events)
}

// Image returns what a cut after n events could leave: all that flushes among
// them made durable, and of the other writes those sectors that keep picks.
// A sector is BlockSize bytes; it counts within the write, from 0.
func (d *Device) Image(n int, keep func(event, sector int) bool) *memdev.Device {
	d.mu.Lock()
	defer d.mu.Unlock()
	durable := d.durable(n)
	img := d.base.Clone()
	for i := range n {
		if durable[i] {
			d.apply(img, i, nil)
		} else {
			d.apply(img, i, keep)
		}
	}
	return img
}

// durable says which of the first n events are sure to be there.
func (d *Device) durable(n int) []bool {
	sure := make([]bool, n)
	for k := range n {
		for i := range d.events[k].upto {
			sure[i] = sure[i] || d.covers(k, i)
		}
	}
	return sure
}

// covers reports whether flush k makes write w durable.
func (d *Device) covers(k, w int) bool {
	f, ev := &d.events[k], &d.events[w]
	return w < f.upto && !f.flying[w] && f.part.beg <= ev.off && ev.off < f.part.end
}

// apply writes event i to img; nil keeps all of it.
func (d *Device) apply(img *memdev.Device, i int, keep func(event, sector int) bool) {
	ev, sector := &d.events[i], d.dev.BlockSize()
	for beg := 0; beg < len(ev.data); {
		end := len(ev.data)
		if keep != nil {
			// Sectors are those of the device: the first may be a part.
			skew := int(ev.off % int64(sector))
			end = min(end, (beg+skew)/sector*sector+sector-skew)
			if !keep(i, (beg+skew)/sector) {
				beg = end
				continue
			}
		}
		if _, err := img.WriteAt(ev.data[beg:end], ev.off+int64(beg)); err != nil {
			panic(err) // it fitted when it was recorded
		}
		beg = end
	}
}

// ReadAt implements ondisk.Device.
func (d *Device) ReadAt(p []byte, off int64) (int, error) { return d.dev.ReadAt(p, off) }

// WriteAt implements ondisk.Device.
func (d *Device) WriteAt(p []byte, off int64) (int, error) {
	if off < 0 || int64(len(p)) > d.dev.Size()-off {
		return d.dev.WriteAt(p, off) // fails, and leaves no trace
	}
	return d.record(p, off)
}

// record does a write. It is recorded before it happens: a cut in between may
// leave a part.
func (d *Device) record(p []byte, off int64) (int, error) {
	d.mu.Lock()
	i := len(d.events)
	d.events = append(d.events, event{off: off, data: append([]byte{}, p...)})
	d.flying[i] = true
	n, err := d.dev.WriteAt(p, off)
	d.mu.Unlock()
	if err != nil {
		return n, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.flying, i)
	return n, nil
}

// Flush implements ondisk.Device.
func (d *Device) Flush() error { return d.flush(span{0, d.dev.Size()}) }

// FlushPart flushes one of several devices, counted from 0.
func (d *Device) FlushPart(i int) error { return d.flush(d.parts[i]) }

func (d *Device) flush(part span) error {
	d.mu.Lock()
	ev := event{upto: len(d.events), flying: maps.Clone(d.flying), part: part}
	d.mu.Unlock()
	if err := d.dev.Flush(); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.events = append(d.events, ev)
	return nil
}

// maxDiscard bounds what a discard costs in memory; larger ones do nothing.
const maxDiscard = 16 << 20

// Discard implements ondisk.Device. Whole sectors are overwritten with junk,
// and that is recorded like a write: whoever discards what an older header
// still reaches is found out.
func (d *Device) Discard(off, n int64) error {
	bs := int64(d.dev.BlockSize())
	beg, end := (off+bs-1)/bs*bs, min(off+n, d.dev.Size())/bs*bs
	if off < 0 || beg >= end || end-beg > maxDiscard {
		return d.dev.Discard(off, 0)
	}
	_, err := d.record(bytes.Repeat([]byte{0xDD}, int(end-beg)), beg)
	return err
}

// Measure implements ondisk.Device. The size is that of the image.
func (d *Device) Measure() (int64, error) { return d.dev.Size(), nil }

// Size implements ondisk.Device.
func (d *Device) Size() int64 { return d.dev.Size() }

// BlockSize implements ondisk.Device.
func (d *Device) BlockSize() int { return d.dev.BlockSize() }

// Name implements ondisk.Device.
func (d *Device) Name() string { return d.dev.Name() }

// Close implements ondisk.Device. Images can be made afterwards too.
func (d *Device) Close() error { return d.dev.Close() }
