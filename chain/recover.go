package chain

import (
	"context"
	"fmt"

	"github.com/anvilfs/anvilfs/ondisk"
)

// recoverFreemap marks what the tree reaches and the freemap calls free. Only
// blockrefs with a mirror_tid above above are looked at: 0 after a foreign
// writer, whose own recovery may have marked the wrong chunks at any time.
//
// The sums are put right too. All of it is written with the next commit; until
// then nothing can be allocated, and after it the freemap is complete.
func (v *Volume) recoverFreemap(ctx context.Context, above ondisk.Tid) error {
	fm, marked := v.fm, 0
	newest := v.hdr.MirrorTid
	s := &treeScan{v: v, above: above, visit: func(r *ondisk.Blockref) {
		newest = max(newest, r.MirrorTid)
		marked += fm.mark(r.Off(), r.Radix())
	}}
	if err := s.run(ctx, sroot(v.hdr)); err != nil {
		return fmt.Errorf("bringing the freemap up to date: %w", err)
	}
	if err := s.damage(); err != nil {
		// Their space stays as the freemap has it.
		v.guessed = err
		v.log.Warn("freemap recovery met damage", "device", v.Name(), "err", err)
	}
	if exhausted(newest) {
		return damaged("tid %#x leaves no room for the next", uint64(newest))
	}
	v.floor = newest + 1
	if above == 0 {
		fm.recount()
	}
	if marked > 0 {
		v.log.Info("freemap brought up to date", "device", v.Name(), "chunks", marked)
	}
	return nil
}

// mark sets the chunks of a reachable block to allocated, and returns how
// many were not.
func (fm *freemap) mark(off uint64, radix uint8) (changed int) {
	end := off + 1<<radix
	if end > fm.v.geo.Load().total {
		return 0 // a block that nobody can read
	}
	for at := off &^ (ondisk.ChunkSize - 1); at < end; at += ondisk.ChunkSize {
		z, seg, chunk := fm.place(at)
		if z.entries == nil || seg < z.lo || seg >= z.hi || z.entries[seg].State(chunk) == ondisk.ChunkAllocated {
			continue
		}
		fm.setChunks(z, seg, chunk, ondisk.ChunkRadix, ondisk.ChunkAllocated)
		changed++
	}
	return changed
}

// recount makes avail of every entry and allocator_free exact.
func (fm *freemap) recount() {
	var usable uint64
	for n := range fm.zoneCount() {
		lo, hi := fm.bounds(n)
		if fm.zones[n] == nil && fm.find(n) == nil {
			usable += uint64(hi-lo) * ondisk.SegmentSize
			continue
		}
		usable += fm.zone(n).avail
		fm.trim()
	}
	fm.free += usable - fm.usable
	fm.usable = usable
}

// fill gives z a leaf that calls everything allocated: nothing else is known.
func (fm *freemap) fill(z *zone) {
	z.entries = newLeaf(0, 0)
	fm.touch(z)
}

// makeUp puts right what a freemap says of places where no block may be, and
// gives every zone a leaf if some were lost. recoverFreemap has been there, so
// all that the tree reaches is marked.
func (fm *freemap) makeUp() {
	for n := range fm.zoneCount() {
		if !fm.holes && fm.zones[n] == nil && fm.find(n) == nil {
			continue
		}
		z := fm.zone(n)
		for seg := range z.entries {
			if seg >= z.lo && seg < z.hi {
				continue
			}
			e := &z.entries[seg]
			for w := range e.Bitmap {
				if e.Bitmap[w] != ^uint64(0) {
					e.Bitmap[w], e.Avail, e.Linear = ^uint64(0), 0, ondisk.SegmentSize
					fm.touch(z)
				}
			}
		}
		// What was written wrong here is written anew, sums included.
		fm.touch(z)
		fm.trim()
	}
	// The sum in the header counts also the rest of the segment that the
	// formatter used, which is never handed out.
	ghost := fm.v.hdr.AllocatorSize - min(fm.v.hdr.AllocatorSize, fm.total)
	fm.recount()
	fm.free = fm.usable + ghost
}

// RewriteHeaders commits once for each header slot, so that all of them are
// good, with nothing changed. What Tainted says of them is gone afterwards: that
// is right only where nobody else has to know.
func (v *Volume) RewriteHeaders(ctx context.Context) error {
	for range v.slots.slots {
		t, err := v.Begin(ctx) // with what is in the log
		if err != nil {
			return err
		}
		if err := t.Commit(ctx); err != nil {
			return err
		}
	}
	return nil
}
