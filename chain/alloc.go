package chain

import (
	"math/bits"
	"slices"

	"github.com/anvilfs/anvilfs/ondisk"
)

const (
	maxOpen   = 4       // chunks per class that small blocks go to
	maxTraced = 1 << 20 // chunks of small blocks that are kept account of
)

// An extent is one block's space.
type extent struct {
	off   uint64
	radix uint8
}

// An allocator is where the freemap hands out space: a search position per
// class of block, and the chunks that small blocks share.
type allocator struct {
	at     [8]uint64 // by block type: address to search from
	open   [8][]*openChunk
	traced map[uint64]*tracedChunk        // by address: chunks of small blocks begun by this open
	gen    uint64                         // raised when anything becomes free
	full   [ondisk.MaxRadix + 1]uint64    // gen at which nothing of that radix was found
	strict [8][ondisk.MaxRadix + 1]uint64 // the same, within the class
	// crumbless is the same, outside of runs.
	crumbless [ondisk.MaxRadix + 1]uint64
	// emptied chunks were closed after their last block was dropped.
	emptied []region
	watch   chunkSet // chunks allocated or freed since a bulkfree pass began; nil = none runs
}

// An openChunk has room for small blocks behind pos.
type openChunk struct {
	base uint64
	pos  uint64 // offset of the room in the chunk
}

// A tracedChunk counts what is in a chunk of small blocks, so that it can be
// freed when the last of them goes. The media do not say.
type tracedChunk struct {
	live  int32 // bytes
	open  bool
	begun uint64 // Volume.seq when its first block was put there
}

func (a *allocator) init() {
	a.traced = make(map[uint64]*tracedChunk)
	a.gen = 1
}

// inUse reports whether zone n is one that allocations go to now.
func (a *allocator) inUse(n uint64) bool {
	for t := range a.at {
		if a.at[t]/ondisk.ZoneSize == n {
			return true
		}
		for _, o := range a.open[t] {
			if o.base/ondisk.ZoneSize == n {
				return true
			}
		}
	}
	return false
}

// class is what a segment's entry says about the small blocks in it.
func class(t ondisk.BlockType) uint16 { return uint16(t)<<8 | 16 }

// allocate takes space for a block. It is free in every tree that a crash
// could bring back, and no view reads there.
func (fm *freemap) allocate(t ondisk.BlockType, radix uint8) (uint64, error) {
	if radix >= ondisk.ChunkRadix {
		return fm.takeChunks(t, radix)
	}
	a, size := &fm.alloc, uint64(1)<<radix
	for _, o := range a.open[t] {
		if o.pos+size <= ondisk.ChunkSize {
			return fm.takeRoom(o, size), nil
		}
	}
	base, err := fm.takeChunks(t, ondisk.ChunkRadix)
	if err != nil {
		return 0, err
	}
	if len(a.open[t]) == maxOpen {
		fullest := 0
		for i, o := range a.open[t] {
			if o.pos > a.open[t][fullest].pos {
				fullest = i
			}
		}
		fm.close(a.open[t][fullest])
		a.open[t] = slices.Delete(a.open[t], fullest, fullest+1)
	}
	o := &openChunk{base: base}
	a.open[t] = append(a.open[t], o)
	a.traced[base] = &tracedChunk{open: true, begun: fm.v.seq}
	if len(a.traced) > maxTraced {
		a.forget()
	}
	return fm.takeRoom(o, size), nil
}

// takeRoom takes space inside a chunk that is allocated already.
func (fm *freemap) takeRoom(o *openChunk, size uint64) uint64 {
	off := o.base + o.pos
	o.pos += size
	fm.alloc.traced[o.base].live += int32(size)
	fm.setLinear(o)
	return off
}

// setLinear tells other writers where the room in o's chunk begins.
func (fm *freemap) setLinear(o *openChunk) {
	z, seg, _ := fm.place(o.base)
	if z.entries != nil {
		z.entries[seg].Linear = int32(o.base%ondisk.SegmentSize + o.pos)
		fm.touch(z)
	}
}

// close ends the use of an open chunk. If all in it was dropped by now, the
// next commit passes it to the quarantine: older headers may know its blocks.
func (fm *freemap) close(o *openChunk) {
	c := fm.alloc.traced[o.base]
	if c == nil {
		return
	}
	if c.open = false; c.live <= 0 {
		delete(fm.alloc.traced, o.base)
		fm.alloc.emptied = addRegion(fm.alloc.emptied, o.base, ondisk.ChunkRadix)
	}
}

// undoOpen frees the open chunks that only an aborted transaction used.
func (fm *freemap) undoOpen() {
	a := &fm.alloc
	for t := range a.open {
		a.open[t] = slices.DeleteFunc(a.open[t], func(o *openChunk) bool {
			c := a.traced[o.base]
			if !fm.fresh(c) || c.live > 0 {
				return false
			}
			delete(a.traced, o.base)
			z, seg, chunk := fm.place(o.base)
			fm.setChunks(z, seg, chunk, ondisk.ChunkRadix, ondisk.ChunkFree)
			return true
		})
	}
}

// fresh reports whether c was begun since the last commit, so that no header
// reaches anything in it.
func (fm *freemap) fresh(c *tracedChunk) bool { return c.begun == fm.v.seq }

// forget drops the account of some chunks; Bulkfree finds them.
func (a *allocator) forget() {
	n := 0
	for base, c := range a.traced {
		if c.open {
			continue
		}
		if delete(a.traced, base); n == maxTraced/16 {
			return
		}
		n++
	}
}

// seal moves open positions to the next page, so that no page that is written
// from now on holds anything written before. Chunks that are full are closed.
func (fm *freemap) seal() {
	grain := fm.v.geo.Load().grain
	for t := range fm.alloc.open {
		fm.alloc.open[t] = slices.DeleteFunc(fm.alloc.open[t], func(o *openChunk) bool {
			if at := (o.pos + grain - 1) &^ (grain - 1); at != o.pos {
				o.pos = at
				fm.setLinear(o)
			}
			if o.pos < ondisk.ChunkSize {
				return false
			}
			fm.close(o)
			return true
		})
	}
}

// place says where a block is: its zone, segment, and chunk in the segment.
func (fm *freemap) place(off uint64) (z *zone, seg, chunk int) {
	z = fm.zone(off / ondisk.ZoneSize)
	return z, int(off % ondisk.ZoneSize / ondisk.SegmentSize), int(off % ondisk.SegmentSize / ondisk.ChunkSize)
}

// takeChunks takes whole free chunks, aligned to the size of the block.
func (fm *freemap) takeChunks(t ondisk.BlockType, radix uint8) (uint64, error) {
	a := &fm.alloc
	if a.full[radix] == a.gen {
		return 0, ErrNoSpace
	}
	if off, ok := fm.takeCrumb(t, radix); ok {
		return off, nil
	}
	if a.strict[t][radix] != a.gen {
		if off, ok := fm.search(t, radix, true); ok {
			return off, nil
		}
		a.strict[t][radix] = a.gen
	}
	if off, ok := fm.search(t, radix, false); ok {
		return off, nil
	}
	a.full[radix] = a.gen
	return 0, ErrNoSpace
}

// search goes once around the volume from the position of the class.
func (fm *freemap) search(t ondisk.BlockType, radix uint8, strict bool) (uint64, bool) {
	at, zones := fm.alloc.at[t], fm.zoneCount()
	first := at / ondisk.ZoneSize % zones
	for i := range zones + 1 {
		n := (first + i) % zones
		if z := fm.zones[n]; z != nil && z.avail == 0 {
			continue
		}
		z := fm.zone(n)
		from, to := z.lo, z.hi
		switch {
		case i == 0:
			from = max(from, int(at%ondisk.ZoneSize/ondisk.SegmentSize))
		case i == zones:
			to = min(to, int(at%ondisk.ZoneSize/ondisk.SegmentSize))
		}
		for seg := from; seg < to && !z.bad && z.avail > 0; seg++ {
			e := &z.entries[seg]
			if e.Avail == 0 || strict && e.Class != 0 && e.Class != class(t) || z.tooBig[seg] != 0 && radix >= z.tooBig[seg] {
				continue
			}
			start := 0
			if i == 0 && seg == int(at%ondisk.ZoneSize/ondisk.SegmentSize) {
				start = int(at % ondisk.SegmentSize / ondisk.ChunkSize)
			}
			if c, ok := freeRun(e, start, radix); ok {
				return fm.takeAt(t, z, seg, c, radix), true
			}
			if c, ok := freeRun(e, 0, radix); start > 0 && ok {
				return fm.takeAt(t, z, seg, c, radix), true
			}
			z.tooBig[seg] = radix
		}
	}
	return 0, false
}

// freeRun finds the first free, aligned run for a block at or behind chunk from.
func freeRun(e *ondisk.FreemapEntry, from int, radix uint8) (int, bool) {
	n := 1 << (radix - ondisk.ChunkRadix)
	mask := uint64(1)<<(2*n) - 1
	for c := (from + n - 1) &^ (n - 1); c < ondisk.ChunksPerSegment; {
		w := e.Bitmap[c/32] >> (2 * uint(c%32))
		if w&mask == 0 {
			return c, true
		}
		// Skip what is certainly in use.
		skip := max(n, (bits.TrailingZeros64(^w)/2)&^(n-1))
		c += min(skip, 32-c%32)
	}
	return 0, false
}

func (fm *freemap) takeAt(t ondisk.BlockType, z *zone, seg, chunk int, radix uint8) uint64 {
	e := &z.entries[seg]
	fm.setChunks(z, seg, chunk, radix, ondisk.ChunkAllocated)
	if e.Class == 0 {
		e.Class = class(t)
	}
	off := z.n*ondisk.ZoneSize + uint64(seg)*ondisk.SegmentSize + uint64(chunk)*ondisk.ChunkSize
	fm.alloc.at[t] = off + 1<<radix
	return off
}

// setChunks changes the state of a block's chunks and all sums.
func (fm *freemap) setChunks(z *zone, seg, chunk int, radix uint8, state uint8) {
	e, base := &z.entries[seg], z.n*ondisk.ZoneSize+uint64(seg)*ondisk.SegmentSize
	was := isRun(e, chunk)
	for c := chunk; c < chunk+1<<(radix-ondisk.ChunkRadix); c++ {
		was := e.State(c)
		e.SetState(c, state)
		fm.account(z, e, was == ondisk.ChunkFree, state == ondisk.ChunkFree)
		if fm.alloc.watch != nil {
			fm.alloc.watch.add(base + uint64(c)*ondisk.ChunkSize)
		}
	}
	switch is := isRun(e, chunk); {
	case was && !is:
		z.runs--
		fm.runs--
	case is && !was:
		z.runs++
		fm.runs++
	}
	if state != ondisk.ChunkAllocated {
		fm.cleanEntry(e)
	}
	if state == ondisk.ChunkFree {
		z.tooBig[seg] = 0
		fm.alloc.gen++
	}
	fm.touch(z)
}

// account keeps the four sums of free bytes.
func (fm *freemap) account(z *zone, e *ondisk.FreemapEntry, was, is bool) {
	switch {
	case was && !is:
		e.Avail -= ondisk.ChunkSize
		z.avail -= ondisk.ChunkSize
		fm.usable -= min(fm.usable, ondisk.ChunkSize)
		fm.free -= min(fm.free, ondisk.ChunkSize)
	case is && !was:
		e.Avail += ondisk.ChunkSize
		z.avail += ondisk.ChunkSize
		fm.usable += ondisk.ChunkSize
		fm.free += ondisk.ChunkSize
	}
}

// cleanEntry puts class and linear right after chunks of e were freed.
func (fm *freemap) cleanEntry(e *ondisk.FreemapEntry) {
	if e.Avail == ondisk.SegmentSize {
		e.Class, e.Linear = 0, 0
		return
	}
	if in := int(e.Linear) / ondisk.ChunkSize; int(e.Linear)%ondisk.ChunkSize != 0 && e.State(in) != ondisk.ChunkAllocated {
		e.Linear = int32(in+1) * ondisk.ChunkSize
	}
}

// give takes back space that no committed tree ever referred to.
func (fm *freemap) give(off uint64, radix uint8) {
	z, seg, chunk := fm.place(off)
	if z.entries == nil {
		return
	}
	if radix >= ondisk.ChunkRadix {
		fm.setChunks(z, seg, chunk, radix, ondisk.ChunkFree)
		return
	}
	base := off &^ (ondisk.ChunkSize - 1)
	c := fm.alloc.traced[base]
	switch {
	case !fm.unlive(base, radix):
	case fm.fresh(c):
		fm.setChunks(z, seg, chunk, ondisk.ChunkRadix, ondisk.ChunkFree)
	default:
		// The block was never committed, but others in the chunk were.
		fm.alloc.emptied = addRegion(fm.alloc.emptied, base, ondisk.ChunkRadix)
	}
}

// unlive takes a dropped small block off the account of its chunk. It reports
// that the chunk is now empty and closed, and forgets it.
func (fm *freemap) unlive(base uint64, radix uint8) bool {
	c := fm.alloc.traced[base]
	if c == nil {
		return false
	}
	if c.live -= 1 << radix; c.live > 0 || c.open {
		return false
	}
	delete(fm.alloc.traced, base)
	return true
}

// owns reports whether freeing that block frees chunks that blocks may be in,
// and that are all its own or kept account of.
func (fm *freemap) owns(off uint64, radix uint8) bool {
	n, seg := off/ondisk.ZoneSize, int(off%ondisk.ZoneSize/ondisk.SegmentSize)
	if lo, hi := fm.bounds(n); n >= fm.zoneCount() || seg < lo || seg >= hi {
		return false
	}
	return radix >= ondisk.ChunkRadix || fm.alloc.traced[off&^(ondisk.ChunkSize-1)] != nil
}

// reserve is what ordinary transactions leave free.
func (fm *freemap) reserve() uint64 {
	return min(max(fm.total/32, 1<<20), 256<<20) &^ (ondisk.ChunkSize - 1)
}
