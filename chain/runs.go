package chain

import (
	"github.com/anvilfs/anvilfs/ondisk"
)

// A run is a place that the largest block fits in: aligned chunks, all of them
// free. What is free in bytes may be no run at all, where small blocks have come
// and gone; large blocks are admitted against runs.
const (
	runChunks = ondisk.LogicalBlock / ondisk.ChunkSize
	// enoughRuns need not be known of more exactly: the reserve and all that is
	// admitted at one time fit in there.
	enoughRuns = 512 << 20 / ondisk.LogicalBlock
	// lookAtOnce bounds the leaves that are read to find them, at an opening or
	// the beginning of a transaction.
	lookAtOnce = 64
)

// isRun reports whether the run that a chunk lies in is free.
func isRun(e *ondisk.FreemapEntry, chunk int) bool {
	return e.Bitmap[chunk/32]>>(2*uint(chunk%32&^(runChunks-1)))&(1<<(2*runChunks)-1) == 0
}

// countRuns counts those of a zone whose leaf is in memory.
func (fm *freemap) countRuns(z *zone) {
	n := uint64(0)
	for seg := z.lo; seg < z.hi && z.entries != nil && !z.bad; seg++ {
		for c := 0; c < ondisk.ChunksPerSegment; c += runChunks {
			if isRun(&z.entries[seg], c) {
				n++
			}
		}
	}
	fm.runs += n - z.runs
	z.runs = n
}

// look goes through zones until enough runs are known or all were looked at. A
// leaf that cannot be read is left for who needs it.
func (fm *freemap) look() {
	for left := lookAtOnce; fm.runs < enoughRuns && fm.looked < fm.zoneCount() && left > 0; fm.looked++ {
		z := fm.zones[fm.looked]
		switch {
		case z != nil && (z.entries != nil || z.bad):
			continue // counted when it was read
		case z == nil:
			z = fm.newZone(fm.looked)
		}
		if z.elem != nil {
			left--
		}
		_ = fm.read(z)
		fm.trim()
	}
}

// counted reports whether runs says all there is to know of.
func (fm *freemap) counted() bool {
	return fm.runs >= enoughRuns || fm.looked >= fm.zoneCount()
}

// whole is how many bytes lie in runs. As long as a large volume is still being
// looked at it is all that is free: what is not known refuses nothing.
func (fm *freemap) whole() uint64 {
	if !fm.counted() {
		return fm.usable
	}
	return min(fm.usable, fm.runs*ondisk.LogicalBlock)
}

// scarce reports whether runs are so few that small blocks leave them alone, as
// long as there is other room.
func (fm *freemap) scarce() bool {
	return fm.counted() && fm.runs*ondisk.LogicalBlock <= fm.reserve()
}

// takeCrumb takes chunks for a block that needs no run, where there is none.
func (fm *freemap) takeCrumb(t ondisk.BlockType, radix uint8) (uint64, bool) {
	a := &fm.alloc
	if radix >= ondisk.MaxRadix || !fm.scarce() || a.crumbless[radix] == a.gen {
		return 0, false
	}
	zones := fm.zoneCount()
	for i := range zones {
		n := (a.at[t]/ondisk.ZoneSize + i) % zones
		if z := fm.zones[n]; z != nil && z.avail == z.runs*ondisk.LogicalBlock {
			continue
		}
		z := fm.zone(n)
		for seg := z.lo; seg < z.hi && !z.bad; seg++ {
			if c, ok := crumb(&z.entries[seg], radix); ok {
				return fm.takeAt(t, z, seg, c, radix), true
			}
		}
	}
	a.crumbless[radix] = a.gen
	return 0, false
}

// crumb finds free, aligned chunks that are not in a run.
func crumb(e *ondisk.FreemapEntry, radix uint8) (int, bool) {
	for c := 0; e.Avail > 0 && c < ondisk.ChunksPerSegment; {
		at, ok := freeRun(e, c, radix)
		if !ok {
			return 0, false
		}
		if !isRun(e, at) {
			return at, true
		}
		c = at&^(runChunks-1) + runChunks
	}
	return 0, false
}
