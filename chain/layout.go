package chain

import (
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
	g := &layout{devs: slices.Clone(v.devs), added: add != nil}
	for i := range v.devs {
		g.sizes = append(g.sizes, v.loff[i+1]-v.loff[i])
	}
	last, hdr := len(v.devs)-1, v.Header()
	have, room := g.sizes[last], uint64(v.devs[last].Size())
	if add == nil {
		if g.sizes[last] = room / ondisk.VolumeAlign * ondisk.VolumeAlign; g.sizes[last] <= have {
			return nil, nil
		}
		return g, nil
	}
	keep := room / ondisk.ZoneSize * ondisk.ZoneSize
	switch {
	case len(v.devs) == ondisk.MaxVolumes:
		return nil, fmt.Errorf("%s: %w by one more volume: it has %d, as many as there can be", v.Name(), ErrCannotGrow, ondisk.MaxVolumes)
	case keep == 0 || last == 0 && keep < max(hdr.AuxEnd, hdr.AllocatorBeg)+2*ondisk.SegmentSize:
		return nil, fmt.Errorf("%s: %w by one more volume: this one has %d MiB, and one that another follows at least %d MiB: make the device larger first",
			v.devs[last].Name(), ErrCannotGrow, room>>20, (keep+ondisk.ZoneSize)>>20)
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

// Fits is an error if a device cannot become one more volume.
func (v *Volume) Fits(add ondisk.Device) error {
	_, err := v.layout(add)
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

// prepare writes what the layout needs outside of the present one.
func (v *Volume) prepare(ctx context.Context, g *layout, hdr *ondisk.VolumeHeader) error {
	last := len(v.devs) - 1
	if err := v.clearSlots(ctx, v.devs[last], v.loff[last+1]-v.loff[last], uint64(v.devs[last].Size())); err != nil {
		return err
	}
	last = len(g.devs) - 1
	if g.added {
		if err := v.takeIn(ctx, g, hdr); err != nil {
			return fmt.Errorf("%s: %w", g.devs[last].Name(), err)
		}
		last--
	}
	for i := last; i > 0; i-- {
		h := v.others[i].header().Clone()
		agree(h, hdr, g.sizes[i])
		h.Mark = ondisk.Mark{MirrorTid: h.MirrorTid, Writer: v.opts.Writer}
		if err := writeOther(g.devs[i], h); err != nil {
			return err
		}
	}
	return nil
}

// takeIn clears the places of headers on the added device, and what tells other
// programs what it was. It gets its headers, by which it is known if this is cut
// off, and a copy of what its addresses hold so far.
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
	if err := writeOther(d, h); err != nil {
		return err
	}
	if err := copyRange(ctx, d, v.devs[last-1], g.sizes[last-1], g.moved); err != nil {
		return err
	}
	return flushDevice(d)
}

// copyRange copies n bytes at byte at of src to the begin of dst, but for the
// blocks that headers have there.
func copyRange(ctx context.Context, dst, src ondisk.Device, at, n uint64) error {
	const step = 1 << 20
	buf, zero := ondisk.AlignedBuffer(step), ondisk.AlignedBuffer(step)
	for beg := uint64(0); beg < n; beg += step {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := readFull(src, buf, int64(at+beg)); err != nil {
			return err
		}
		part, off := buf, beg
		switch { // the blocks are the first and the last of a step
		case beg == 0:
			part, off = part[ondisk.HeaderSize:], ondisk.HeaderSize
		case beg+step == spareSlot+ondisk.HeaderSize:
			part = part[:spareSlot-beg]
		}
		if string(part) == string(zero[:len(part)]) {
			if err := zeroRange(ctx, dst, off, off+uint64(len(part))); err != nil {
				return err
			}
			continue
		}
		if _, err := dst.WriteAt(part, int64(off)); err != nil {
			return fmt.Errorf("write at %#x: %w", off, err)
		}
	}
	return nil
}

// relay makes the layout the volume's, in memory; the next commit writes it.
// spare reports whether the spare copy of the header is one no more.
func (v *Volume) relay(g *layout, hdr *ondisk.VolumeHeader) (spare bool) {
	old := v.geo.total
	more := hdr.AllocatorSize - v.hdr.AllocatorSize
	v.devs, v.loff = g.devs, append(slices.Clone(hdr.VoluLoff[:len(g.devs)]), g.total())
	v.loff[0] = 0
	spare = v.slots.resize(g.sizes[0])
	v.geo.slots = len(v.slots.slots)
	for _, d := range v.devs {
		v.geo.grain = max(v.geo.grain, uint64(d.BlockSize()))
	}
	v.fm.extend(old, g.total())
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
	for i, d := range v.devs {
		offs := ondisk.SlotOffsets(uint64(d.Size()))
		for _, off := range offs[len(ondisk.SlotOffsets(v.loff[i+1]-v.loff[i])):] {
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
