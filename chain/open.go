package chain

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/anvilfs/anvilfs/ondisk"
)

const defaultCache = 16 << 20

// Open opens the file system on devs, which are all of its volumes in any
// order, and owns them from then on, also if it fails. What it answers is
// flushed. Unless ReadOnly, a torn single header is repaired and a freemap
// that others left behind is brought up to date; that is written by the next
// commit.
func Open(ctx context.Context, devs []ondisk.Device, o Options) (v *Volume, err error) {
	var made *Volume
	defer func() {
		if err != nil {
			if o.Add != nil {
				devs = append(slices.Clip(devs), o.Add)
			}
			for _, d := range devs {
				err = errors.Join(err, d.Close())
			}
			if made != nil {
				err = made.Unused(err)
			}
		}
	}()
	if len(devs) == 0 {
		return nil, fmt.Errorf("no device given")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.CacheBytes == 0 {
		o.CacheBytes = defaultCache
	}
	v = &Volume{
		opts: o, log: o.Logger, cache: newTableCache(o.CacheBytes),
		turn: make(chan struct{}, 1), pins: make(map[*pin]struct{}),
	}
	made = v
	if err := v.readHeaders(devs); err != nil {
		return nil, err
	}
	if root := sroot(v.hdr); root.Type != ondisk.TypeInode {
		return nil, fmt.Errorf("%s: %w", v.Name(), damaged("the volume header has no super-root"))
	}
	if !o.ReadOnly {
		if err := v.openForWriting(ctx); err != nil {
			return nil, fmt.Errorf("%s: %w", v.Name(), err)
		}
	} else {
		v.space.Total = roomFrom(v.hdr.AllocatorBeg, v.hdr.Size())
		v.space.Free = freeOf(v.hdr, v.space.Total)
		v.space.Whole = v.space.Free
	}
	v.turn <- struct{}{}
	if o.ReadOnly {
		return v.withLog(ctx), nil
	}
	if err := v.startLog(ctx); err != nil {
		return nil, fmt.Errorf("%s: %w", v.Name(), err)
	}
	if o.Grow || o.Add != nil {
		if v.grown, err = v.grow(ctx, Growth{Add: o.Add}, v.taint); err != nil {
			return nil, err
		}
	}
	v.others = nil // they are looked at no more
	return v, nil
}

// An Unused is why a volume, or a PFS of it, cannot be used, and which clustered PFSs
// are on it by its header.
type Unused struct {
	Err   error
	Fsids []ondisk.UUID
}

func (u *Unused) Error() string { return u.Err.Error() }

func (u *Unused) Unwrap() error { return u.Err }

// Unused is err with what the header says of the PFSs, if it was read. A volume that
// was not given whole can be used: *MissingVolume says how.
func (v *Volume) Unused(err error) error {
	var missing *MissingVolume
	if errors.As(err, &missing) {
		return err
	}
	u := &Unused{Err: err}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.hdr == nil {
		return err
	}
	for i := range v.hdr.States {
		u.Fsids = append(u.Fsids, v.hdr.States[i].Fsid)
	}
	return u
}

// readHeaders reads the headers of all devices and puts these in order.
func (v *Volume) readHeaders(devs []ondisk.Device) error {
	sorted := slices.Clone(devs)
	all := make([]*headerSlots, ondisk.MaxVolumes)
	for _, d := range devs {
		s, err := readSlots(d)
		if err != nil {
			return err
		}
		h := s.header()
		if uint64(d.Size()) < h.VoluSize {
			return fmt.Errorf("%s has %s, but the volume on it %s: %w", d.Name(), ondisk.Exact(uint64(d.Size())), ondisk.Exact(h.VoluSize), ondisk.ErrCorrupt)
		}
		if other := all[h.VoluID]; other != nil {
			return misfit("%s and %s are both volume %d", other.dev.Name(), d.Name(), h.VoluID)
		}
		all[h.VoluID] = s
		if int(h.VoluID) < len(sorted) {
			sorted[h.VoluID] = d
		}
	}
	if all[0] == nil {
		return misfit("%s: the first volume of the file system is missing", devs[0].Name())
	}
	g := &geometry{devs: sorted}
	v.geo.Store(g)
	v.slots, v.others = all[0], all[:len(devs)]
	v.hdr = v.slots.header()
	if v.hdr.WrittenByUs() {
		v.lost = v.hdr.Mark.Lost
	}
	loff, err := v.checkSet(all)
	if err != nil {
		return err
	}
	v.foreign = !v.hdr.WrittenByUs()
	v.taint = v.slots.taint()
	g = &geometry{devs: sorted, loff: loff, total: v.hdr.Size(), beg: v.hdr.AllocatorBeg, slots: len(v.slots.slots)}
	g.grain = grainOf(sorted)
	v.geo.Store(g)
	return nil
}

// grainOf is how much reaches media together, on all of the devices.
func grainOf(devs []ondisk.Device) (grain uint64) {
	grain = pageLen
	for _, d := range devs {
		grain = max(grain, uint64(d.BlockSize()))
	}
	return grain
}

// checkSet compares what the volumes say about each other, and returns where
// each begins.
func (v *Volume) checkSet(all []*headerSlots) (loff []uint64, err error) {
	h, names := v.hdr, v.names()
	loff = []uint64{0}
	if h.Version > 1 {
		loff = slices.Clone(h.VoluLoff[:h.NVolumes])
	}
	loff = append(loff, h.Size())
	n := len(loff) - 1
	for _, s := range all {
		if s != nil && s.header().Fsid != h.Fsid {
			return nil, misfit("%s and %s belong to different file systems (%v, %v)", v.Name(), s.dev.Name(), h.Fsid, s.header().Fsid)
		}
	}
	for i := range n {
		if size := loff[i+1] - loff[i]; all[i] == nil {
			return nil, fmt.Errorf("%s: %w", v.Name(), &MissingVolume{Fsid: h.Fsid, ID: i, Count: n, Given: names, Size: size})
		} else if err := v.checkOther(all[i], size); err != nil {
			return nil, err
		}
	}
	if n < len(names) {
		return nil, fmt.Errorf("%s: the file system has %d volumes, %d given: leave out %s; if it was to be added, that was cut off, and can be done again",
			v.Name(), n, len(names), all[slices.IndexFunc(all[n:], func(s *headerSlots) bool { return s != nil })+n].dev.Name())
	}
	return loff, nil
}

func (v *Volume) names() (list []string) {
	for _, d := range v.geo.Load().devs {
		list = append(list, d.Name())
	}
	return list
}

// checkOther compares a volume of size bytes with what the first says.
func (v *Volume) checkOther(s *headerSlots, size uint64) error {
	o, h := s.header(), v.hdr
	switch {
	case o.Version != h.Version:
		return fmt.Errorf("%s: %w", s.dev.Name(), damaged("version %d, that of the first volume is %d", o.Version, h.Version))
	case uint64(s.dev.Size()) < size:
		return fmt.Errorf("%s has %s, but the volume on it %s: %w", s.dev.Name(), ondisk.Exact(uint64(s.dev.Size())), ondisk.Exact(size), ondisk.ErrCorrupt)
	case s != v.slots && !o.Agrees(h, size) && !o.AheadOf(h):
		return fmt.Errorf("%s: %w", s.dev.Name(), damaged("%s of %s in %d volumes; the first volume says %s of %s in %d",
			ondisk.Exact(o.VoluSize), ondisk.Exact(o.TotalSize), o.NVolumes, ondisk.Exact(size), ondisk.Exact(h.TotalSize), h.NVolumes))
	}
	return nil
}

// openForWriting repairs what has to be right before anything is written.
func (v *Volume) openForWriting(ctx context.Context) error {
	if err := v.slots.repair(); err != nil {
		return fmt.Errorf("repairing the header: %w", err)
	}
	if err := v.alignOthers(); err != nil {
		return fmt.Errorf("repairing a header: %w", err)
	}
	if err := v.clearBehind(ctx); err != nil {
		return err
	}
	// What was read may be in a cache only, and an answer is a promise.
	if err := v.flush(); err != nil {
		return err
	}
	var err error
	if v.fm, err = newFreemap(ctx, v, v.hdr); err != nil {
		return err
	}
	switch {
	case v.opts.DoubtFreemap:
		if err = v.recoverFreemap(ctx, 0); err == nil {
			v.fm.makeUp()
		}
	case v.foreign:
		err = v.recoverFreemap(ctx, 0)
	case v.hdr.FreemapTid < v.hdr.MirrorTid:
		err = v.recoverFreemap(ctx, v.hdr.FreemapTid)
	}
	if err != nil {
		return err
	}
	v.fm.look()
	v.space = v.fm.space()
	return nil
}

// Close commits until dropped space is free, then closes the devices. Views
// must be released before. A failed volume is only closed.
func (v *Volume) Close() error {
	<-v.turn // the running transaction ends first
	v.turn <- struct{}{}
	var err error
	if !v.opts.ReadOnly && v.Failed() == nil {
		err = v.Checkpoint(context.Background())
	}
	if !v.opts.ReadOnly && v.Failed() == nil {
		err = errors.Join(err, v.DrainFrees(context.Background()))
	}
	<-v.turn
	v.mu.Lock()
	if v.closed {
		v.mu.Unlock()
		v.turn <- struct{}{}
		return fmt.Errorf("%s: %w", v.Name(), ErrClosed)
	}
	v.closed = true
	v.mu.Unlock()
	v.turn <- struct{}{} // Begin looks at closed
	for _, d := range v.geo.Load().devs {
		err = errors.Join(err, d.Close())
	}
	return err
}
