package chain

import "github.com/anvilfs/anvilfs/ondisk"

// A region is whole chunks, [beg, end).
type region struct{ beg, end uint64 }

// addRegion appends a block's chunks, to the last region if they follow it.
func addRegion(list []region, off uint64, radix uint8) []region {
	end := off + 1<<radix
	if n := len(list); n > 0 && list[n-1].end == off {
		list[n-1].end = end
		return list
	}
	return append(list, region{off, end})
}

// A chunkSet is a set of chunks by address, with a bit for each of a zone.
type chunkSet map[uint64]*[chunksPerZone / 64]uint64

func (s chunkSet) add(off uint64) {
	n, c := off/ondisk.ZoneSize, off%ondisk.ZoneSize/ondisk.ChunkSize
	m := s[n]
	if m == nil {
		m = new([chunksPerZone / 64]uint64)
		s[n] = m
	}
	m[c/64] |= 1 << (c % 64)
}

func (s chunkSet) has(off uint64) bool {
	m, c := s[off/ondisk.ZoneSize], off%ondisk.ZoneSize/ondisk.ChunkSize
	return m != nil && m[c/64]&(1<<(c%64)) != 0
}

func (s chunkSet) remove(off uint64) {
	if m, c := s[off/ondisk.ZoneSize], off%ondisk.ZoneSize/ondisk.ChunkSize; m != nil {
		m[c/64] &^= 1 << (c % 64)
	}
}

// A quarantine keeps space that no longer belongs to the tree until nothing
// can read it any more: neither a header slot that a crash could bring back
// nor a view. Until then its chunks stay allocated on media.
type quarantine struct {
	batches []quarBatch
	bytes   uint64
	held    chunkSet // what is in batches
}

// A quarBatch became unreachable with one header.
type quarBatch struct {
	seq    uint64
	unseen bool // no view reaches it either
	space  []region
}

// add takes in what the header of that seq no longer reaches. A chunk that is
// there already was dropped by two references to one block, which only a
// damaged tree has: it is left as it is, and counted.
func (q *quarantine) add(seq uint64, unseen bool, space []region) (twice int) {
	if len(space) == 0 {
		return 0
	}
	if q.held == nil {
		q.held = make(chunkSet)
	}
	var fresh []region
	for _, r := range space {
		for off := r.beg; off < r.end; off += ondisk.ChunkSize {
			if q.held.has(off) {
				twice++
				continue
			}
			q.held.add(off)
			q.bytes += ondisk.ChunkSize
			fresh = addRegion(fresh, off, ondisk.ChunkRadix)
		}
	}
	if len(fresh) > 0 {
		q.batches = append(q.batches, quarBatch{seq, unseen, fresh})
	}
	return twice
}

// due takes out what may be reused: seq is that of the last header written,
// each of the slots holds one, and no pin is older than oldestPin.
//
// The header of a batch and the slots-1 after it fill every slot, and none of
// them reaches the batch.
func (q *quarantine) due(seq, oldestPin uint64, slots int) []region {
	var out []region
	kept := q.batches[:0]
	for _, b := range q.batches {
		if b.seq+uint64(slots)-1 > seq || b.pinned(oldestPin) {
			kept = append(kept, b)
		} else {
			out = append(out, b.space...)
		}
	}
	clear(q.batches[len(kept):])
	q.batches = kept
	for _, r := range out {
		q.bytes -= r.end - r.beg
		for off := r.beg; off < r.end; off += ondisk.ChunkSize {
			q.held.remove(off)
		}
	}
	return out
}

// pinned reports whether a view may still read the batch.
func (b *quarBatch) pinned(oldestPin uint64) bool { return !b.unseen && b.seq > oldestPin }

// waits reports whether anything becomes free by commits alone.
func (q *quarantine) waits(oldestPin uint64) bool {
	for i := range q.batches {
		if !q.batches[i].pinned(oldestPin) {
			return true
		}
	}
	return false
}

// releaseQuarantine frees what is due. The caller has the turn.
func (v *Volume) releaseQuarantine() {
	v.mu.Lock()
	free := v.quar.due(v.seq, v.oldestPinLocked(), v.geo.Load().slots)
	v.mu.Unlock()
	for _, r := range free {
		for off := r.beg; off < r.end; off += ondisk.ChunkSize {
			if z, seg, chunk := v.fm.place(off); z.entries != nil {
				v.fm.setChunks(z, seg, chunk, ondisk.ChunkRadix, ondisk.ChunkFree)
			}
		}
	}
	v.mu.Lock()
	v.space = v.fm.space()
	v.mu.Unlock()
}
