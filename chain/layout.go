package chain

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/anvilfs/anvilfs/ondisk"
)

// A layout is how a file system is to lie on its devices.
type layout struct {
	devs  []ondisk.Device // in order of volume id
	sizes []uint64        // of the volumes on them
	added bool            // the last device is a new one
	moved uint64          // bytes that the added volume takes over from the one before it
}

// layout is what the devices have room for, with one more if add is not nil;
// nil if that is what there is. All volumes but the last are whole zones, so what
// the last one has behind its last whole zone moves on to a new device, at the
// same logical addresses.
func (v *Volume) layout(add ondisk.Device) (*layout, error) {
	now, hdr := v.geo.Load(), v.Header()
	g := &layout{devs: slices.Clone(now.devs), added: add != nil}
	for i := range now.devs {
		g.sizes = append(g.sizes, now.loff[i+1]-now.loff[i])
	}
	last := len(now.devs) - 1
	have, room := g.sizes[last], uint64(now.devs[last].Size())
	if add == nil {
		if g.sizes[last] = room / ondisk.VolumeAlign * ondisk.VolumeAlign; g.sizes[last] <= have {
			return nil, nil
		}
		return g, nil
	}
	keep := room / ondisk.ZoneSize * ondisk.ZoneSize
	switch {
	case len(now.devs) == ondisk.MaxVolumes:
		return nil, fmt.Errorf("%s: %w by one more volume: it has %d, as many as there can be", v.Name(), ErrCannotGrow, ondisk.MaxVolumes)
	case keep == 0 || last == 0 && keep < max(hdr.AuxEnd, hdr.AllocatorBeg)+2*ondisk.SegmentSize:
		return nil, fmt.Errorf("%s: %w by one more volume: this one has %d MiB, and one that another follows at least %d MiB: make the device larger first",
			now.devs[last].Name(), ErrCannotGrow, room>>20, (keep+ondisk.ZoneSize)>>20)
	case keep < have:
		g.moved = have - keep
	}
	size := uint64(add.Size()) / ondisk.VolumeAlign * ondisk.VolumeAlign
	if need := g.moved + minVolume; size < need {
		return nil, fmt.Errorf("%s: %w by %s of %d MiB: at least %d MiB are needed", v.Name(), ErrCannotGrow, add.Name(), add.Size()>>20, need>>20)
	}
	g.sizes[last] = keep
	g.devs, g.sizes = append(g.devs, add), append(g.sizes, size)
	return g, nil
}

// Fits is an error if a device cannot become one more volume, by what the others
// are by now.
func (v *Volume) Fits(add ondisk.Device) error {
	err := v.measure()
	if err == nil {
		_, err = v.layout(add)
	}
	return err
}

func (g *layout) total() (n uint64) {
	for _, size := range g.sizes {
		n += size
	}
	return n
}

// header is the header of the first volume with the layout in it.
func (g *layout) header(was *ondisk.VolumeHeader) *ondisk.VolumeHeader {
	hdr := was.Clone()
	if len(g.sizes) > 1 || hdr.Version > 1 {
		hdr.Version, hdr.NVolumes, hdr.TotalSize = ondisk.HeaderVersion, uint8(len(g.sizes)), g.total()
		at := uint64(0)
		for i := range hdr.VoluLoff {
			if hdr.VoluLoff[i] = ^uint64(0); i < len(g.sizes) {
				hdr.VoluLoff[i] = at
				at += g.sizes[i]
			}
		}
	}
	hdr.VoluSize = g.sizes[0]
	hdr.AllocatorSize += g.more(was)
	return hdr
}

// more is by how much there is more to allocate.
func (g *layout) more(was *ondisk.VolumeHeader) uint64 {
	old, size := was.Size(), g.total()
	return size - old - (zonesOf(size)-zonesOf(old))*ondisk.ReservedSize
}

// takeIn clears the places of headers on the added device, and what tells other
// programs what it was. It gets its headers, by which it is known if this is cut
// off; the volume is not touched, and may be in use.
func (v *Volume) takeIn(ctx context.Context, g *layout, hdr *ondisk.VolumeHeader) error {
	last := len(g.devs) - 1
	d, size := g.devs[last], g.sizes[last]
	if err := v.clearSlots(ctx, d, 0, uint64(d.Size())); err != nil {
		return err
	}
	if err := zeroRange(ctx, d, 0, min(ondisk.ReservedSize, size)); err != nil {
		return err
	}
	h := secondary(hdr, last, size)
	h.Mark = ondisk.Mark{MirrorTid: h.MirrorTid, Writer: v.opts.Writer}
	return writeOther(d, h)
}

// prepare writes what the layout needs outside of the present one. The caller has
// the turn: what the added device takes over must not change.
func (v *Volume) prepare(ctx context.Context, g *layout, hdr *ondisk.VolumeHeader) error {
	now := v.geo.Load()
	last := len(now.devs) - 1
	own := &watched{Device: now.devs[last]}
	err := v.clearSlots(ctx, own, now.loff[last+1]-now.loff[last], uint64(own.Size()))
	if err == nil && g.added {
		err = copyRange(ctx, g.devs[last+1], own, g.sizes[last], g.moved)
		if err == nil {
			err = flushDevice(g.devs[last+1])
		}
	}
	for i := last; i > 0 && err == nil; i-- {
		own = &watched{Device: now.devs[i], failed: own.failed}
		err = v.tellOther(own, hdr, g.sizes[i])
	}
	if own.failed != nil {
		v.fail(own.failed)
	}
	return err
}

// tellOther gives a volume behind the first the headers of the new layout.
func (v *Volume) tellOther(d ondisk.Device, hdr *ondisk.VolumeHeader, size uint64) error {
	s, err := readSlots(d)
	if err != nil {
		return err
	}
	h := s.header().Clone()
	agree(h, hdr, size)
	h.Mark = ondisk.Mark{MirrorTid: h.MirrorTid, Writer: v.opts.Writer}
	return writeOther(d, h)
}

// A watched device is one of the volume's own, which fails with it.
type watched struct {
	ondisk.Device
	failed error // of the first write or flush that failed
}

func (w *watched) WriteAt(p []byte, off int64) (int, error) {
	n, err := w.Device.WriteAt(p, off)
	w.failed = cmp.Or(w.failed, err)
	return n, err
}

func (w *watched) Flush() error {
	err := w.Device.Flush()
	w.failed = cmp.Or(w.failed, err)
	return err
}

// copyRange copies n bytes at byte at of src to the begin of dst, but for the
// blocks that headers have there.
func copyRange(ctx context.Context, dst, src ondisk.Device, at, n uint64) error {
	return inRuns(ctx, src, at, at+n, func(buf []byte, from uint64) error {
		beg, end := from-at, from-at+uint64(len(buf))
		off := beg
		switch { // the blocks are the first and the last of a run
		case beg == 0:
			buf, off = buf[ondisk.HeaderSize:], ondisk.HeaderSize
		case end == spareSlot+ondisk.HeaderSize:
			buf = buf[:spareSlot-beg]
		}
		if allZero(buf) {
			return zeroRange(ctx, dst, off, off+uint64(len(buf)))
		}
		if _, err := dst.WriteAt(buf, int64(off)); err != nil {
			return fmt.Errorf("write at %#x: %w", off, err)
		}
		return nil
	})
}

// relay makes the layout the volume's, in memory; the next commit writes it.
// spare reports whether the spare copy of the header is one no more.
func (v *Volume) relay(g *layout, hdr *ondisk.VolumeHeader) (spare bool) {
	was := v.geo.Load()
	more := hdr.AllocatorSize - v.hdr.AllocatorSize
	now := &geometry{devs: g.devs, loff: append(slices.Clone(hdr.VoluLoff[:len(g.devs)]), g.total()), total: g.total(), beg: was.beg}
	now.loff[0] = 0
	spare = v.slots.resize(g.sizes[0])
	now.slots, now.grain = len(v.slots.slots), grainOf(g.devs)
	v.fm.extend(was, now)
	v.fm.free += more
	v.mu.Lock()
	v.hdr = hdr
	v.mu.Unlock()
	return spare
}

// clearSlots clears the places of headers on a device that a volume of that size
// has and a smaller one had not: what was there before may have left one. Others
// look for headers on all of the device, whatever the volume's size.
func (v *Volume) clearSlots(ctx context.Context, d ondisk.Device, old, size uint64) error {
	offs := ondisk.SlotOffsets(size)
	for _, off := range offs[min(len(offs), len(ondisk.SlotOffsets(old))):] {
		if err := zeroRange(ctx, d, uint64(off), uint64(off)+ondisk.HeaderSize); err != nil {
			return err
		}
	}
	return flushDevice(d)
}

// clearBehind clears headers of this file system behind the ends of volumes that
// have become smaller: they are older than they seem to be.
func (v *Volume) clearBehind(ctx context.Context) error {
	g := v.geo.Load()
	for i, d := range g.devs {
		offs := ondisk.SlotOffsets(uint64(d.Size()))
		for _, off := range offs[len(ondisk.SlotOffsets(g.loff[i+1]-g.loff[i])):] {
			if s := readSlot(d, off); s.hdr == nil || s.hdr.Fsid != v.hdr.Fsid {
				continue
			}
			if err := zeroRange(ctx, d, uint64(off), uint64(off)+ondisk.HeaderSize); err != nil {
				return err
			}
			if err := flushDevice(d); err != nil {
				return err
			}
		}
	}
	return nil
}
