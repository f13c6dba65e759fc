package chain

import "github.com/anvilfs/anvilfs/ondisk"

// A quarantine keeps space that no longer belongs to the tree until nothing
// can read it any more: neither a header slot that a crash could bring back
// nor a view. Until then its chunks stay allocated on media.
type quarantine struct {
	batches []quarBatch // in order of seq
	bytes   uint64
	held    map[uint64]struct{} // chunk addresses in batches
}

// A quarBatch became unreachable with one header.
type quarBatch struct {
	seq     uint64
	extents []extent
}

// add takes in what the header of that seq no longer reaches.
func (q *quarantine) add(seq uint64, extents []extent) {
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
	if n := len(q.batches); n > 0 && q.batches[n-1].seq == seq {
		q.batches[n-1].extents = append(q.batches[n-1].extents, extents...)
		return
	}
	q.batches = append(q.batches, quarBatch{seq, extents})
}

// due takes out what may be reused: seq is that of the last header written,
// each of the slots holds one, and no pin is older than oldestPin.
//
// The header of a batch and the slots-1 after it fill every slot, and none of
// them reaches the batch.
func (q *quarantine) due(seq, oldestPin uint64, slots int) []extent {
	var out []extent
	for len(q.batches) > 0 {
		b := q.batches[0]
		if b.seq+uint64(slots)-1 > seq || b.seq > oldestPin {
			break
		}
		out = append(out, b.extents...)
		q.batches = q.batches[1:]
	}
	for _, x := range out {
		q.bytes -= 1 << x.radix
		for off := x.off; off < x.off+1<<x.radix; off += ondisk.ChunkSize {
			delete(q.held, off)
		}
	}
	return out
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
