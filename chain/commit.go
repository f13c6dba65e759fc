package chain

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/anvilfs/anvilfs/ondisk"
)

// Commit makes the transaction durable and ends it. After an error nothing of
// it is committed. If the error is ErrVolumeFailed, the volume takes no more
// transactions; else it is as if the transaction had not been.
//
// Order: blocks and freemap, Flush, header, Flush.
func (t *Txn) Commit(ctx context.Context) error {
	err := t.ready()
	if err == nil {
		err = ctx.Err()
	}
	var hdr *ondisk.VolumeHeader
	if err == nil {
		hdr, err = t.nextHeader(ctx)
	}
	if err == nil {
		err = t.crowds()
	}
	if err != nil {
		t.Abort()
		return err
	}
	v := t.v
	v.fm.seal()
	if len(t.late) > 0 {
		t.w.submit()
		t.w.wait()
		t.giveLate()
	}
	hdr.Freemap = v.fm.write(hdr.MirrorTid, hdr.Sroot[0].ModifyTid, func(off uint64, block []byte) {
		t.w.add(off, block)
		t.stats.Freemap += int64(len(block))
	})
	t.w.submit()
	t.w.wait()
	hdr.AllocatorFree = v.fm.free
	err = v.Failed()
	if err == nil {
		err = v.flush()
	}
	if err == nil {
		t.stats.Header, err = v.slots.write(hdr)
	}
	t.done = true
	if err != nil {
		v.fail(err)
		t.pass()
		return fmt.Errorf("%s: %w: %w", v.Name(), ErrVolumeFailed, err)
	}
	t.publish(hdr)
	t.pass()
	return nil
}

// nextHeader finishes the tree and returns the header that goes with it, all
// but the freemap. Running out of space is found here at the latest, while
// nothing on media refers to what was done.
func (t *Txn) nextHeader(ctx context.Context) (*ondisk.VolumeHeader, error) {
	v := t.v
	v.mu.Lock()
	hdr := v.hdr.Clone()
	v.mu.Unlock()
	tid := max(hdr.MirrorTid+1, t.tid)
	changes := t.rootChanges()
	for i := range changes {
		if r := changes[i].ref; r != nil {
			tid = max(tid, r.MirrorTid)
		}
	}
	if tid <= hdr.MirrorTid || exhausted(tid) {
		return nil, fmt.Errorf("%s: %w", v.Name(), damaged("tid %#x leaves no room for the next", uint64(max(tid, hdr.MirrorTid))))
	}
	root := t.sroot
	if len(changes) > 0 {
		// The way up to the header must not fail for want of space.
		t.UseReserveBut(0)
		var err error
		if root, err = applySuper(ctx, t, v.cache, pfsStore{t, nil}, &t.sroot, tid, changes); err != nil {
			return nil, fmt.Errorf("%s: %w", v.Name(), err)
		}
	}
	// Raised in any case: it makes each header differ from all others in
	// the first sector's neighbour, torn ones included.
	root.MirrorTid = tid
	hdr.Sroot = [ondisk.InodeRefs]ondisk.Blockref{root}
	if hdr.Mark.Since, _ = v.since(); v.foreignStill() {
		hdr.Mark.Since = tid
	}
	hdr.Mark.MirrorTid, hdr.Mark.Writer = tid, v.opts.Writer
	hdr.Mark.Lost = t.lost()
	t.markLog(hdr)
	hdr.MirrorTid, hdr.FreemapTid = tid, tid
	hdr.States = t.states
	return hdr, nil
}

// lost is what a crash right after the commit leaves allocated without use:
// what only Bulkfree finds, and all of the quarantine, which only memory knows.
func (t *Txn) lost() uint64 {
	v := t.v
	n := uint64(t.stats.Left)
	for _, r := range t.drops {
		n += r.end - r.beg
	}
	for _, x := range t.smallDrops {
		n += 1 << x.radix
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	return n + v.lost + v.quar.bytes
}

// exhausted reports whether a tid is so high that the numbers come to an end.
// No counting gets there: it is damage, and beyond it old would look new.
func exhausted(t ondisk.Tid) bool { return t >= ^ondisk.Tid(0)-1<<32 }

// rootChanges lists the changed PFS roots by key.
func (t *Txn) rootChanges() []rootChange {
	list := make([]rootChange, 0, len(t.changed))
	for key, p := range t.changed {
		c := rootChange{key: key}
		if p != nil {
			c.ref = &p.ref
		}
		list = append(list, c)
	}
	slices.SortFunc(list, func(a, b rootChange) int { return cmp.Compare(a.key, b.key) })
	return list
}

// publish makes hdr the committed state.
func (t *Txn) publish(hdr *ondisk.VolumeHeader) {
	v, fm := t.v, t.v.fm
	gone := append(t.drops, fm.alloc.emptied...)
	for _, x := range t.smallDrops {
		if base := x.off &^ (ondisk.ChunkSize - 1); fm.unlive(base, x.radix) {
			gone = addRegion(gone, base, ondisk.ChunkRadix)
		}
	}
	fm.alloc.emptied = nil
	fm.trim()
	v.ilog.restart(hdr, t.logged)
	v.mu.Lock()
	defer v.mu.Unlock()
	v.hdr = hdr
	v.lost += uint64(t.stats.Left)
	v.seq++
	for p := range v.pins {
		p.follow(v.seq, t.changed)
	}
	if n := v.quar.add(v.seq, false, gone); n > 0 {
		v.log.Warn("blocks with two references were dropped: the tree is damaged", "device", v.Name(), "chunks", n)
	}
	v.space = fm.space()
}

func (fm *freemap) space() Space {
	return Space{Total: fm.total, Free: fm.usable, Whole: fm.whole(), Reserved: fm.reserve()}
}

// flush makes all that was written durable, on all devices.
func (v *Volume) flush() error {
	devs := v.geo.Load().devs
	if len(devs) == 1 {
		return flushDevice(devs[0])
	}
	errs := make([]error, len(devs))
	var wg sync.WaitGroup
	for i, d := range devs {
		wg.Go(func() { errs[i] = flushDevice(d) })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func flushDevice(d ondisk.Device) error {
	if err := d.Flush(); err != nil {
		return fmt.Errorf("%s: flush: %w", d.Name(), err)
	}
	return nil
}

// OursSince returns from which mirror_tid on nobody but us wrote the volume, 0
// while the committed header is somebody else's.
func (v *Volume) OursSince() ondisk.Tid {
	tid, ok := v.since()
	if !ok {
		return 0
	}
	return tid
}

// since returns from which mirror_tid on blocks are ours alone; ok is false
// while the committed header is somebody else's.
func (v *Volume) since() (tid ondisk.Tid, ok bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.hdr.Mark.Since, v.hdr.WrittenByUs()
}

// foreignStill reports whether the committed header is somebody else's.
func (v *Volume) foreignStill() bool {
	_, ours := v.since()
	return !ours
}

// commitNothing writes the next header with nothing changed but what it
// counts. What is in the log stays there.
func (v *Volume) commitNothing(ctx context.Context) error {
	t, err := v.begin(ctx)
	if err != nil {
		return err
	}
	return t.Commit(ctx)
}

// commitHeld is commitNothing by who has the turn, and keeps it.
func (v *Volume) commitHeld(ctx context.Context) error {
	if err := v.usable(); err != nil {
		return err
	}
	t := v.newTxn()
	t.held = true
	return t.Commit(ctx)
}

// DrainFrees commits until all that was dropped is free, or views hold the
// rest. One such commit writes few pages.
func (v *Volume) DrainFrees(ctx context.Context) error {
	for range v.geo.Load().slots + 1 {
		v.mu.Lock()
		pending := v.quar.waits(v.oldestPinLocked())
		v.mu.Unlock()
		if !pending {
			return nil
		}
		if err := v.commitNothing(ctx); err != nil {
			return err
		}
	}
	return nil
}
