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

// grow makes the file system as large as its devices, one more of them if
// Options.Add is there, before anybody else uses the volume. The next header has
// the new layout, and the freemap that goes with it; until it is durable the old
// header says all, and what is written outside of its layout is nothing to it:
//
//	header slots behind the old end are cleared, on a new device all  ->  flush
//	a new device gets its headers, and what lies where it begins      ->  flush
//	headers of the other volumes behind the first                     ->  flush
//	leaf with the old end, header of the first volume, as in a commit
//	a header into every slot, so that others find none empty
//
// The header of the first volume is the word on how many there are and how
// large. If the others are ahead of it, a crash came between: see alignOthers.
func (v *Volume) grow(ctx context.Context) error {
	g, err := v.layout(v.opts.Add)
	switch {
	case err != nil:
		return err
	case g == nil && !v.slots.unwritten():
		return nil
	case v.foreign:
		// Our header would hide that somebody else wrote.
		return fmt.Errorf("%s: %w: mount it first", v.Name(), ErrForeign)
	case v.taint != nil:
		return fmt.Errorf("%s: with damaged header slots it %w: %w", v.Name(), ErrCannotGrow, v.taint)
	}
	if g == nil {
		return v.fillSlots(ctx) // a crash came between
	}
	old := v.geo.total
	if n := (old - 1) / ondisk.ZoneSize; v.fm.find(n) != nil && v.fm.zone(n).bad {
		return fmt.Errorf("%s: %w: the part of the freemap in which it ends cannot be read: anvilfs fsck --repair", v.Name(), ErrCannotGrow)
	}
	for len(ondisk.SlotOffsets(g.sizes[0])) < len(v.slots.slots) && v.slots.cur+1 < len(v.slots.slots) {
		// The slot that is lost is the newest then: the next is due in both layouts.
		if err := v.commitNothing(ctx); err != nil {
			return err
		}
	}
	hdr := g.header(v.hdr)
	if err := v.prepare(ctx, g, hdr); err != nil {
		return err
	}
	spare := v.relay(g, hdr)
	if err := v.commitNothing(ctx); err != nil {
		return err
	}
	if err := v.clearBehind(ctx); err != nil {
		return err
	}
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
	v.grown = g.total() - old
	v.log.Info("volume grown", "device", v.Name(), "volumes", len(v.devs), "from", old, "to", g.total())
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

// resize makes the slots those of a volume of that size. One that is alone has
// a spare copy beside it; it reports whether there was one that is needed no more.
func (h *headerSlots) resize(size uint64) (spare bool) {
	offs := ondisk.SlotOffsets(size)
	if len(offs) < len(h.slots) {
		h.slots = h.slots[:len(offs)]
		h.cur = min(h.cur, len(offs)-1)
	}
	for _, off := range offs[len(h.slots):] {
		h.slots = append(h.slots, slot{off: off, content: ondisk.AlignedBuffer(ondisk.HeaderSize)})
	}
	switch {
	case len(h.slots) > 1:
		spare, h.spare = h.spare != nil, nil
	case h.spare == nil:
		s := readSlot(h.dev, spareSlot)
		h.spare = &s
	}
	return spare
}

// extend takes in the space behind old, where the volume ended: segments that
// its last leaf has as allocated, since they were outside. Zones without a leaf
// need nothing.
func (fm *freemap) extend(old, size uint64) {
	n := (old - 1) / ondisk.ZoneSize
	wasLo, wasHi := fm.bounds(n)
	fm.v.geo.total = size
	lo, hi := fm.bounds(n)
	if fm.find(n) == nil {
		if z := fm.zones[n]; z != nil {
			fm.runs -= z.runs
			delete(fm.zones, n) // it has the bounds of before
		}
		fm.looked = min(fm.looked, n)
	} else {
		z := fm.zone(n)
		z.lo, z.hi = lo, hi
		for i := lo; i < hi; i++ {
			if i < wasLo || i >= wasHi {
				z.entries[i] = ondisk.FreemapEntry{Avail: ondisk.SegmentSize}
				z.avail += ondisk.SegmentSize
			}
		}
		fm.countRuns(z)
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
}
