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

// A Growth is what Grow is to do. The zero value takes what the devices have.
type Growth struct {
	// Add becomes one more volume, behind the others. Whatever is on it is lost. It
	// is the volume's like the others, and closed if it does not become a part.
	Add ondisk.Device
	// Joins is called when Add is ready: from then on all wait for it. nil: nobody
	// wants to know.
	Joins func()
}

// Grow makes the file system as large as its devices are by now, and says by how
// many bytes. It is in use meanwhile: transactions wait, readers do not.
//
// After an error the volume is as it was, or has failed: the next open finds how
// far it came. A device that cannot be added does not fail the volume.
func (v *Volume) Grow(ctx context.Context, o Growth) (by uint64, err error) {
	add := o.Add
	defer func() {
		if err != nil && add != nil && !slices.Contains(v.geo.Load().devs, add) {
			err = errors.Join(err, add.Close())
		}
	}()
	if v.opts.ReadOnly {
		return 0, fmt.Errorf("%s: %w", v.Name(), ErrReadOnly)
	}
	if !v.growing.TryLock() {
		return 0, fmt.Errorf("%s is being grown at this moment", v.Name())
	}
	defer v.growing.Unlock()
	if err := v.measure(); err != nil {
		return 0, err
	}
	return v.grow(ctx, o, nil)
}

// measure looks how large the devices are by now.
func (v *Volume) measure() error {
	g := v.geo.Load()
	for i, d := range g.devs {
		size, err := d.Measure()
		if err != nil {
			return err
		}
		if have := g.loff[i+1] - g.loff[i]; uint64(size) < have {
			return fmt.Errorf("%s %w: it has become smaller, %s, and the volume on it has %s: make it as large again, before what lies behind its end is read",
				d.Name(), ErrCannotGrow, ondisk.Exact(uint64(size)), ondisk.Exact(have))
		}
	}
	return nil
}

// grow gives the file system the room of its devices. The next header has the new
// layout, and the freemap that goes with it; until it is durable the old header
// says all, and what is written outside of its layout is nothing to it:
//
//	on a new device all places of headers are cleared, then it gets its own  ->  flush
//	header slots behind the old end are cleared                  ->  flush
//	what lies where a new device begins is copied to it          ->  flush
//	headers of the other volumes behind the first                ->  flush
//	leaf with the old end, header of the first volume, as in a commit
//	a header into every slot, so that others find none empty
//
// The header of the first volume is the word on how many there are and how
// large. If the others are ahead of it, a crash came between: see alignOthers.
//
// The new device comes first, while transactions run: nobody waits for one that
// turns out to be bad. The rest is one turn: a header in between, with slots of
// the old layout left, could bring back a state whose space is used again.
func (v *Volume) grow(ctx context.Context, o Growth, taint error) (by uint64, err error) {
	g, err := v.layout(o.Add)
	if err != nil {
		return 0, err
	}
	may := func() (err error) { return v.growable(g, taint) }
	if err = v.inTurn(ctx, may); err == nil && g != nil && g.added {
		err = v.takeIn(ctx, g, g.header(v.Header()))
	}
	if err == nil && o.Joins != nil {
		o.Joins()
	}
	if err == nil {
		err = v.inTurn(ctx, func() error {
			if err := may(); err != nil {
				return err
			}
			by, err = v.growInTurn(ctx, g)
			return err
		})
	}
	return by, err
}

// inTurn runs f while no transaction does.
func (v *Volume) inTurn(ctx context.Context, f func() error) error {
	if err := v.takeTurn(ctx); err != nil {
		return err
	}
	defer v.passTurn()
	return f()
}

// growable refuses a volume that is to be put right first. g is nil if there is
// nothing to be gained.
func (v *Volume) growable(g *layout, taint error) error {
	taint = errors.Join(taint, v.slots.taint())
	switch {
	case g == nil && !v.slots.unwritten():
		return nil
	case v.foreignStill():
		// Our header would hide that somebody else wrote.
		return fmt.Errorf("%s: %w: mount it first", v.Name(), ErrForeign)
	case taint != nil:
		return fmt.Errorf("%s: with damaged header slots it %w: %w", v.Name(), ErrCannotGrow, taint)
	case g == nil:
		return nil
	}
	if n := (v.geo.Load().total - 1) / ondisk.ZoneSize; v.fm.find(n) != nil && v.fm.zone(n).bad {
		return fmt.Errorf("%s: %w: the part of the freemap in which it ends cannot be read: anvilfs fsck --repair", v.Name(), ErrCannotGrow)
	}
	return nil
}

// growInTurn is grow from when the new device is ready. From the first header of
// the new layout on it goes to its end, or the volume has failed.
func (v *Volume) growInTurn(ctx context.Context, g *layout) (by uint64, err error) {
	if g == nil {
		if v.slots.unwritten() {
			err = v.fillSlots(ctx) // a crash came between
		}
		return 0, err
	}
	old := v.geo.Load().total
	for len(ondisk.SlotOffsets(g.sizes[0])) < len(v.slots.slots) && v.slots.cur+1 < len(v.slots.slots) {
		// The slot that is lost is the newest then: the next is due in both layouts.
		if err := v.commitHeld(ctx); err != nil {
			return 0, err
		}
	}
	hdr := g.header(v.hdr)
	if err := v.prepare(ctx, g, hdr); err != nil {
		return 0, err
	}
	if err := v.switchTo(context.WithoutCancel(ctx), g, hdr); err != nil {
		v.fail(err)
		return 0, err
	}
	v.log.Info("volume grown", "device", v.Name(), "volumes", len(g.devs), "from", old, "to", g.total())
	return g.total() - old, nil
}

// switchTo makes the layout that of the volume, on media too.
func (v *Volume) switchTo(ctx context.Context, g *layout, hdr *ondisk.VolumeHeader) error {
	spare := v.relay(g, hdr)
	if err := v.commitHeld(ctx); err != nil {
		return err
	}
	if err := v.clearBehind(ctx); err != nil {
		return err
	}
	if err := v.fillSlots(ctx); err != nil || !spare {
		return err
	}
	if err := zeroRange(ctx, g.devs[0], spareSlot, spareSlot+ondisk.HeaderSize); err != nil {
		return err
	}
	return v.flush()
}

// fillSlots commits until every slot has a header. The caller has the turn.
func (v *Volume) fillSlots(ctx context.Context) error {
	for range v.slots.slots {
		if err := v.commitHeld(ctx); err != nil {
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

// extend takes in the space behind where the volume ended: segments that
// its last leaf has as allocated, since they were outside. Zones without a leaf
// need nothing.
func (fm *freemap) extend(was, now *geometry) {
	n := (was.total - 1) / ondisk.ZoneSize
	wasLo, wasHi := fm.bounds(n)
	fm.v.geo.Store(now)
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
	before := fm.total
	fm.total = 0
	for n := range fm.zoneCount() {
		lo, hi := fm.bounds(n)
		fm.total += uint64(hi-lo) * ondisk.SegmentSize
	}
	fm.usable += fm.total - before
	fm.alloc.gen++
}
