package fsck

import (
	"context"
	"fmt"
	"math/bits"

	"github.com/anvilfs/anvilfs/chain/media"
	"github.com/anvilfs/anvilfs/ondisk"
)

// A freemapCheck goes through the freemap of one header.
type freemapCheck struct {
	c      *checker
	h      *ondisk.VolumeHeader
	newest bool
	leaves map[uint64]bool // zones that have a leaf
	lost   int             // nodes and leaves that cannot be read
	used   uint64          // bytes not free in the segments that blocks can be in
}

// freemap judges the freemap of h and, if it is the newest, compares it with
// what the tree reaches.
func (c *checker) freemap(ctx context.Context, h *ondisk.VolumeHeader, newest bool) error {
	f := &freemapCheck{c: c, h: h, newest: newest, leaves: map[uint64]bool{}}
	for i := range h.Freemap {
		if r := &h.Freemap[i]; r.Type != ondisk.TypeEmpty {
			if err := f.node(ctx, r, 6, h.FreemapTid); err != nil {
				return err
			}
		}
	}
	if !newest {
		return nil
	}
	f.missing()
	if want := h.AllocatorSize - min(h.AllocatorSize, f.used); f.lost == 0 && want != h.AllocatorFree {
		f.found(Warning, 0, fmt.Sprintf("the header says %d bytes are free, the freemap %d", h.AllocatorFree, want), remedyMark)
	}
	n := &c.rep.Counts
	n.Free = h.AllocatorSize - min(h.AllocatorSize, f.used)
	if n.Unreachable > 0 {
		f.found(Info, 0, fmt.Sprintf("%d bytes are allocated, but nothing reaches them any more", n.Unreachable), "anvilfs bulkfree makes them free; it also runs by itself")
	}
	if n.Staged > 0 {
		f.found(Info, 0, fmt.Sprintf("%d bytes are waiting for the next bulkfree", n.Staged), "anvilfs bulkfree makes them free; it also runs by itself")
	}
	return nil
}

func (f *freemapCheck) found(s Severity, off uint64, what, remedy string) {
	if !f.newest {
		what = fmt.Sprintf("older header %#x: %s", uint64(f.h.MirrorTid), what)
	}
	f.c.add(Finding{Severity: s, Off: off, What: "freemap: " + what, Remedy: remedy})
}

// level is 1 for a leaf, up to 5 for a node.
func level(r *ondisk.Blockref) int { return (int(r.KeyBits)-ondisk.ZoneRadix)/8 + 1 }

// node judges a freemap block below one of level above.
func (f *freemapCheck) node(ctx context.Context, r *ondisk.Blockref, above int, tid ondisk.Tid) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	l := level(r)
	if r.Type != ondisk.TypeFreemapLeaf && r.Type != ondisk.TypeFreemapNode || l >= above {
		f.lost++
		f.found(Error, r.Off(), fmt.Sprintf("%v in a node of level %d", r, above), remedyMark)
		return nil
	}
	if slot := (r.Off() - r.Key) / ondisk.MaxBlock; r.Off() < r.Key || slot < uint64(l) || (slot-uint64(l))%5 != 0 ||
		(slot-uint64(l))/5 >= ondisk.FreemapCopies || r.Off()%ondisk.MaxBlock != 0 {
		f.found(Error, r.Off(), fmt.Sprintf("%v is at none of its eight places", r), remedyMark)
	}
	if r.CheckMethod() != ondisk.CheckFreemap {
		f.found(Error, r.Off(), fmt.Sprintf("%v has check method %v", r, r.CheckMethod()), remedyMark)
	}
	if r.MirrorTid > tid {
		f.found(Error, r.Off(), fmt.Sprintf("%v has mirror_tid %#x, above %#x of what holds it", r, uint64(r.MirrorTid), uint64(tid)), remedyMark)
	}
	if !f.newest && f.c.seen.add(r) {
		return nil
	}
	f.c.seen.add(r)
	f.c.count(r)
	block, err := f.c.set.Read(r)
	if err != nil {
		f.lost++
		f.found(Error, r.Off(), fmt.Sprintf("%v: %v", r, err), remedyMark)
		return nil
	}
	if r.Type == ondisk.TypeFreemapLeaf {
		f.leaf(r, block)
		return nil
	}
	var kids []ondisk.Blockref
	media.Elements(block, func(i int, k ondisk.Blockref, err error) {
		switch {
		case err != nil:
			f.lost++
			f.found(Error, r.Off(), fmt.Sprintf("element %d of %v: %v", i, r, err), remedyMark)
			return
		case k.Key < r.Key || k.LastKey() > r.LastKey():
			f.found(Error, r.Off(), fmt.Sprintf("%v is outside the range of %v", &k, r), remedyMark)
		case len(kids) > 0 && k.Key <= kids[len(kids)-1].LastKey():
			f.found(Error, r.Off(), fmt.Sprintf("%v is not above %v before it", &k, &kids[len(kids)-1]), remedyMark)
		}
		kids = append(kids, k)
	})
	for i := range kids {
		if err := f.node(ctx, &kids[i], l, r.MirrorTid); err != nil {
			return err
		}
	}
	return nil
}

// bounds returns the segments [lo, hi) of a zone that blocks can be in.
func (f *freemapCheck) bounds(zone uint64) (lo, hi int) {
	beg := zone * ondisk.ZoneSize
	from := max((f.h.AllocatorBeg+ondisk.SegmentSize-1)&^(ondisk.SegmentSize-1), beg+ondisk.ReservedSize)
	to := min(beg+ondisk.ZoneSize, f.h.Size()&^(ondisk.SegmentSize-1))
	if from >= to {
		return 0, 0
	}
	return int((from - beg) / ondisk.SegmentSize), int((to - beg) / ondisk.SegmentSize)
}

// leaf judges the 256 segments of a zone.
func (f *freemapCheck) leaf(r *ondisk.Blockref, block []byte) {
	entries, err := ondisk.DecodeFreemapLeaf(block)
	if err != nil {
		f.lost++
		f.found(Error, r.Off(), fmt.Sprintf("%v: %v", r, err), remedyMark)
		return
	}
	zone := r.Key / ondisk.ZoneSize
	if f.leaves[zone] || r.Key >= f.h.Size() {
		f.found(Error, r.Off(), fmt.Sprintf("%v describes space that is described already, or not there", r), remedyMark)
		return
	}
	f.leaves[zone] = true
	lo, hi := f.bounds(zone)
	var reach *[chunksPerZone / 64]uint64
	if f.newest {
		reach = f.c.reach.zone(zone)
	}
	for i := range entries {
		e := &entries[i]
		at := r.Key + uint64(i)*ondisk.SegmentSize
		f.entry(e, at, i >= lo && i < hi)
		if f.newest && i >= lo && i < hi {
			f.used += ondisk.SegmentSize - uint64(e.FreeChunks())*ondisk.ChunkSize
			f.notMarked(compare(&f.c.rep.Counts, e, at, reach[i*ondisk.ChunksPerSegment/64:][:ondisk.ChunksPerSegment/64]))
		}
	}
}

// entry judges one segment by itself.
func (f *freemapCheck) entry(e *ondisk.FreemapEntry, at uint64, usable bool) {
	free := e.FreeChunks()
	switch {
	case !usable && free > 0:
		f.found(Error, at, fmt.Sprintf("%d chunks are free in the segment at %#x, where no block may be", free, at), remedyMark)
	case usable && int(e.Avail) != free*ondisk.ChunkSize:
		f.found(Warning, at, fmt.Sprintf("the segment at %#x counts %d bytes free, there are %d", at, e.Avail, free*ondisk.ChunkSize), remedyMark)
	}
	if e.Class != 0 && (e.Class&0xFF != ondisk.LogicalBits || e.Class>>8 > uint16(ondisk.TypeDirent)) {
		f.found(Warning, at, fmt.Sprintf("the segment at %#x has class %#04x", at, e.Class), "")
	}
}

// compare compares a segment with what the tree reaches of it, 32 chunks at once: a
// word of the bitmap has two bits for each, and what is reached is spread to match.
// It adds to n, and returns how many chunks are reached and not allocated, and where
// the first of them is.
func compare(n *Counts, e *ondisk.FreemapEntry, at uint64, reach []uint64) (bad int, first uint64) {
	const low = 0x5555555555555555 // the lower bit of each chunk's two
	var reached, allocated, staged int
	for i, w := range e.Bitmap {
		r := spread(uint32(reach[i/2] >> (i % 2 * 32)))
		if w|r == 0 {
			continue // all free, as most is
		}
		full := w & (w >> 1) & low
		half := w >> 1 & ^w & low
		reached += bits.OnesCount64(r)
		allocated += bits.OnesCount64(full &^ r)
		staged += bits.OnesCount64(half &^ r)
		if miss := r &^ full; miss != 0 {
			if bad == 0 {
				first = at + uint64(i*32+bits.TrailingZeros64(miss)/2)*ondisk.ChunkSize
			}
			bad += bits.OnesCount64(miss)
		}
	}
	n.Reachable += uint64(reached) * ondisk.ChunkSize
	n.Unreachable += uint64(allocated) * ondisk.ChunkSize
	n.Staged += uint64(staged) * ondisk.ChunkSize
	return bad, first
}

// spread puts bit i of x at bit 2i.
func spread(x uint32) uint64 {
	w := uint64(x)
	w = (w | w<<16) & 0x0000FFFF0000FFFF
	w = (w | w<<8) & 0x00FF00FF00FF00FF
	w = (w | w<<4) & 0x0F0F0F0F0F0F0F0F
	w = (w | w<<2) & 0x3333333333333333
	return (w | w<<1) & 0x5555555555555555
}

// missing looks for zones that the tree reaches and that have no leaf.
func (f *freemapCheck) missing() {
	for zone, bits := range f.c.reach.zones {
		if f.leaves[zone] || f.lost > 0 {
			continue
		}
		lo, hi := f.bounds(zone)
		bad, first := 0, uint64(0)
		for i := lo * ondisk.ChunksPerSegment; i < hi*ondisk.ChunksPerSegment; i++ {
			if bits[i/64]>>(i%64)&1 != 0 {
				if bad++; bad == 1 {
					first = zone*ondisk.ZoneSize + uint64(i)*ondisk.ChunkSize
				}
			}
		}
		f.notMarked(bad, first)
	}
}

func (f *freemapCheck) notMarked(bad int, first uint64) {
	if bad == 0 {
		return
	}
	s := Error
	if f.c.lag.Load() > 0 && !f.h.WrittenByUs() {
		s = Warning // known: the freemap lags
	}
	f.found(s, first, fmt.Sprintf("%d chunks in use are not marked as allocated, the first at %#x: they can be overwritten", bad, first), remedyMark)
}
