package chain

import "github.com/anvilfs/anvilfs/ondisk"

// Space counts the bytes of a volume.
type Space struct {
	Total    uint64 // that blocks can be in
	Free     uint64 // free now
	Whole    uint64 // of Free, in places that the largest block fits in; Free while that is not known
	Pending  uint64 // dropped, free after a few more commits
	Reserved uint64 // of Free, kept for deletions, resync and repair
	Lost     uint64 // about what a Bulkfree would find
}

// Avail is what ordinary transactions can still allocate.
func (s Space) Avail() uint64 { return s.Free - min(s.Free, s.Reserved) }

// Space returns the counts of the committed state.
func (v *Volume) Space() Space {
	v.mu.Lock()
	defer v.mu.Unlock()
	s := v.space
	s.Pending, s.Lost = v.quar.bytes, v.lost
	return s
}

// roomFrom is how much of a volume of size bytes blocks can be in, if the formatter's
// part ends at beg.
func roomFrom(beg, size uint64) (n uint64) {
	for z := range zonesOf(size) {
		lo, hi := segments(z, beg, size)
		n += uint64(hi-lo) * ondisk.SegmentSize
	}
	return n
}

// segments returns those [lo, hi) of zone n that blocks can be in.
func segments(n, beg, size uint64) (lo, hi int) {
	zone, end := n*ondisk.ZoneSize, (n+1)*ondisk.ZoneSize
	from := (beg + ondisk.SegmentSize - 1) &^ (ondisk.SegmentSize - 1)
	from = max(from, zone+ondisk.ReservedSize)
	to := min(end, size&^(ondisk.SegmentSize-1))
	if from >= to {
		return 0, 0
	}
	return int((from - zone) / ondisk.SegmentSize), int((to - zone) / ondisk.SegmentSize)
}

// freeOf is what the header counts as free, without what can never be handed out: the
// rest of the segment that the formatter used.
func freeOf(h *ondisk.VolumeHeader, room uint64) uint64 {
	ghost := h.AllocatorSize - min(h.AllocatorSize, room)
	return h.AllocatorFree - min(h.AllocatorFree, ghost)
}
