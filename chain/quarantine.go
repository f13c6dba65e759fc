package chain

import "github.com/anvilfs/anvilfs/ondisk"

// A quarantine keeps space that no longer belongs to the tree until nothing
// can read it any more: neither a header slot that a crash could bring back
// nor a view. Until then its chunks stay allocated on media.
type quarantine struct {
	batches []quarBatch
	bytes   uint64
	held    map[uint64]struct{} // chunk addresses in batches
}

// A quarBatch became unreachable with one header.
type quarBatch struct {
	seq     uint64
	unseen  bool // no view reaches it either
	extents []extent
}

// add takes in what the header of that seq no longer reaches.
func (q *quarantine) add(seq uint64, unseen bool, extents []extent) {
	if len(extents) == 0 {
		return
	}
	if q.held == nil {
		q.held = make(map[uint64]struct{})
	}
	for _, x := range extents {
		q.bytes += 1 << x.radix
		for off := x.off; off < x.off+1<<x.radix; off += ondisk.ChunkSize {
			q.held[off] = struct{}{}
		}
	}
	q.batches = append(q.batches, quarBatch{seq, unseen, extents})
}

// due takes out what may be reused: seq is that of the last header written,
// each of the slots holds one, and no pin is older than oldestPin.
//
// The header of a batch and the slots-1 after it fill every slot, and none of
// them reaches the batch.
func (q *quarantine) due(seq, oldestPin uint64, slots int) []extent {
	var out []extent
	kept := q.batches[:0]
	for _, b := range q.batches {
		if b.seq+uint64(slots)-1 > seq || b.pinned(oldestPin) {
			kept = append(kept, b)
		} else {
			out = append(out, b.extents...)
		}
	}
	clear(q.batches[len(kept):])
	q.batches = kept
	for _, x := range out {
		q.bytes -= 1 << x.radix
		for off := x.off; off < x.off+1<<x.radix; off += ondisk.ChunkSize {
			delete(q.held, off)
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
	free := v.quar.due(v.seq, v.oldestPinLocked(), v.geo.slots)
	v.mu.Unlock()
	for _, x := range free {
		if z, seg, chunk := v.fm.place(x.off); z.entries != nil {
			v.fm.setChunks(z, seg, chunk, x.radix, ondisk.ChunkFree)
		}
	}
	v.mu.Lock()
	v.space = v.fm.space()
	v.mu.Unlock()
}
