package chain

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/anvilfs/anvilfs/ondisk"
)

// ErrCannotGrow: the file system stays as large as it is, whatever its device.
var ErrCannotGrow = errors.New("cannot be grown")

// grow makes the file system as large as its device, before anybody else uses
// the volume. The next header has the new size, and the freemap that goes with
// it; until it is durable the old header says all, and what is written beyond
// its end is nothing to it:
//
//	header slots behind the old end are cleared  ->  flush
//	leaf with the old end, header, as in a commit
//	a header into every slot, so that others find none empty
func (v *Volume) grow(ctx context.Context) error {
	old := v.hdr.VoluSize
	size := uint64(v.devs[0].Size()) / ondisk.VolumeAlign * ondisk.VolumeAlign
	switch {
	case len(v.devs) > 1:
		// The last volume has the size, the first one the header: they cannot change at one instant.
		return fmt.Errorf("%s: a file system over several volumes %w", v.Name(), ErrCannotGrow)
	case size <= old && !v.slots.unwritten():
		return nil
	case v.foreign:
		// Our header would hide that somebody else wrote.
		return fmt.Errorf("%s: %w: mount it first", v.Name(), ErrForeign)
	case v.taint != nil:
		return fmt.Errorf("%s: with damaged header slots it %w: %w", v.Name(), ErrCannotGrow, v.taint)
	}
	if size <= old {
		return v.fillSlots(ctx) // a crash came between
	}
	if err := v.clearSlots(ctx, old, size); err != nil {
		return err
	}
	spare := v.slots.grow(size)
	v.geo.slots, v.loff[1] = len(v.slots.slots), size
	if err := v.fm.extend(old, size); err != nil {
		return fmt.Errorf("%s: %w: %w", v.Name(), ErrCannotGrow, err)
	}
	hdr := v.hdr.Clone()
	hdr.VoluSize = size
	if hdr.TotalSize != 0 {
		hdr.TotalSize = size
	}
	more := size - old - (zonesOf(size)-zonesOf(old))*ondisk.ReservedSize
	hdr.AllocatorSize += more
	v.fm.free += more
	v.mu.Lock()
	v.hdr = hdr
	v.mu.Unlock()
	if err := v.fillSlots(ctx); err != nil {
		return err
	}
	if spare {
		if err := zeroRange(ctx, v.devs[0], spareSlot, spareSlot+ondisk.HeaderSize); err != nil {
			return err
		}
		if err := v.flush(); err != nil {
			return err
		}
	}
	v.grown = size - old
	v.log.Info("volume grown", "device", v.Name(), "from", old, "to", size)
	return nil
}

// fillSlots commits until every slot has a header.
func (v *Volume) fillSlots(ctx context.Context) error {
	for range v.slots.slots {
		if err := v.commitNothing(ctx); err != nil {
			return err
		}
	}
	return nil
}

// unwritten reports whether some slot never had a header.
func (h *headerSlots) unwritten() bool {
	return slices.ContainsFunc(h.slots, func(s slot) bool { return s.empty() })
}

// Grown is by how many bytes Options.Grow made the file system larger.
func (v *Volume) Grown() uint64 { return v.grown }

// zonesOf is the number of begun GiBs.
func zonesOf(size uint64) uint64 { return (size + ondisk.ZoneSize - 1) / ondisk.ZoneSize }

// clearSlots clears the places of headers that a larger volume has: a file
// system that was on the device before may have left one.
func (v *Volume) clearSlots(ctx context.Context, old, size uint64) error {
	for _, off := range ondisk.SlotOffsets(size)[len(ondisk.SlotOffsets(old)):] {
		if err := zeroRange(ctx, v.devs[0], uint64(off), uint64(off)+ondisk.HeaderSize); err != nil {
			return err
		}
	}
	return v.flush()
}

// grow adds the slots that a larger volume has. With several there is no spare
// copy any more; it reports whether there was one.
func (h *headerSlots) grow(size uint64) (spare bool) {
	for _, off := range ondisk.SlotOffsets(size)[len(h.slots):] {
		h.slots = append(h.slots, slot{off: off, content: ondisk.AlignedBuffer(ondisk.HeaderSize)})
	}
	if h.spare == nil || len(h.slots) == 1 {
		return false
	}
	h.spare = nil
	return true
}

// extend takes in the space behind old, where the volume ended: segments that
// its last leaf has as allocated, since they were outside. Zones without a leaf
// need nothing.
func (fm *freemap) extend(old, size uint64) error {
	n := (old - 1) / ondisk.ZoneSize
	wasLo, wasHi := fm.bounds(n)
	fm.v.geo.total = size
	lo, hi := fm.bounds(n)
	if fm.find(n) == nil {
		delete(fm.zones, n) // it has the bounds of before
	} else {
		z := fm.zone(n)
		if z.bad {
			return fmt.Errorf("the part of the freemap in which it ends cannot be read: anvilfs fsck --repair")
		}
		z.lo, z.hi = lo, hi
		for i := lo; i < hi; i++ {
			if i < wasLo || i >= wasHi {
				z.entries[i] = ondisk.FreemapEntry{Avail: ondisk.SegmentSize}
				z.avail += ondisk.SegmentSize
			}
		}
		fm.touch(z)
	}
	was := fm.total
	fm.total = 0
	for n := range fm.zoneCount() {
		lo, hi := fm.bounds(n)
		fm.total += uint64(hi-lo) * ondisk.SegmentSize
	}
	fm.usable += fm.total - was
	fm.alloc.gen++
	return nil
}
