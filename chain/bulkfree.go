package chain

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/anvilfs/anvilfs/ondisk"
)

const (
	mergeZones = 64   // per transaction of a pass's end
	pauseEvery = 1024 // tables between pauses
)

// BulkfreeOptions say how space is looked for.
type BulkfreeOptions struct {
	Pause time.Duration // after every 1024 tables read, to leave the device to others
	// Progress is called now and then, with what was walked so far.
	Progress func(pass int, tables, bytes uint64)
}

// A BulkfreeReport says what a Bulkfree found.
type BulkfreeReport struct {
	Tables  uint64 // metadata blocks visited by the last pass
	Bytes   uint64 // reachable, by the last pass; shared blocks once per reference
	Staged  uint64 // bytes marked as unreachable
	Freed   uint64 // bytes that became free
	Rescued uint64 // bytes reachable, but marked as free or staged
	Took    time.Duration
}

// Bulkfree finds the space that no PFS, snapshot, shadow or view reaches. It
// walks the committed tree while transactions go on, and takes the volume's
// turn only for short commits.
//
// A chunk is freed by the second of two passes with commits between, as other
// writers do it, so that a volume handed to them half way is in a state they
// know. What a transaction allocates or frees while a pass runs, the pass
// leaves alone. If any block cannot be read, nothing is freed.
func (v *Volume) Bulkfree(ctx context.Context, o BulkfreeOptions) (BulkfreeReport, error) {
	v.bulk.Lock()
	defer v.bulk.Unlock()
	start := time.Now()
	before := v.Space().Lost // what is lost from now on may be missed
	var rep BulkfreeReport
	var b *bulkPass
	for pass := 1; pass <= 2; pass++ {
		b = &bulkPass{v: v, o: o, pass: pass, rep: &rep}
		if err := b.run(ctx); err != nil {
			return rep, fmt.Errorf("%s: bulkfree: %w", v.Name(), err)
		}
	}
	v.mu.Lock()
	// What only views had is lost still, and to be found when they are gone; so is
	// what they had when the first pass began, and no more when the second did.
	v.lost -= min(v.lost, before-min(before, b.viewed+b.staged))
	v.mu.Unlock()
	// The headers that still reach the chunks have to go before reuse.
	err := v.DrainFrees(ctx)
	if err == nil {
		err = v.tellLost(ctx)
	}
	rep.Took = time.Since(start)
	return rep, err
}

// tellLost brings the header's count of lost bytes down after a Bulkfree, so
// that the next open does not look for them again.
func (v *Volume) tellLost(ctx context.Context) error {
	v.mu.Lock()
	told := v.hdr.Mark.Lost <= v.lost+v.quar.bytes
	v.mu.Unlock()
	if told {
		return nil
	}
	return v.commitNothing(ctx)
}

// A bulkPass is one walk and the merge of what it found.
type bulkPass struct {
	v     *Volume
	o     BulkfreeOptions
	pass  int
	rep   *BulkfreeReport
	pins  []*pin
	seq   uint64   // of the header that is walked
	reach chunkSet // chunks reached

	views  bool   // the walk is at what views have
	viewed uint64 // bytes of chunks that nothing else reaches, but for the quarantine's
	staged uint64 // bytes of chunks that this pass was the first to find
}

func (b *bulkPass) run(ctx context.Context) error {
	if err := b.begin(ctx); err != nil {
		return err
	}
	defer b.end()
	if err := b.walk(ctx); err != nil {
		return err
	}
	zones := b.v.fm.zoneCount()
	for from := uint64(0); from < zones; from += mergeZones {
		if err := b.merge(ctx, from, min(from+mergeZones, zones)); err != nil {
			return err
		}
	}
	return nil
}

// begin takes the picture: between transactions, all that is allocated is in
// the committed tree, in the quarantine, or below a pin.
func (b *bulkPass) begin(ctx context.Context) error {
	v := b.v
	t, err := v.begin(ctx)
	if err != nil {
		return err
	}
	defer t.Abort()
	v.fm.alloc.watch = make(chunkSet)
	v.mu.Lock()
	defer v.mu.Unlock()
	for p := range v.pins {
		// Pins of our own: the views may be released while we read.
		mine := &pin{seq: p.seq, root: p.root, past: p.past}
		b.pins = append(b.pins, mine)
	}
	b.pins = append(b.pins, &pin{seq: v.seq, root: sroot(v.hdr)})
	for _, p := range b.pins {
		v.pins[p] = struct{}{}
	}
	b.seq = v.seq
	return nil
}

// end lets go of the picture.
func (b *bulkPass) end() {
	v := b.v
	<-v.turn
	v.fm.alloc.watch = nil
	v.turn <- struct{}{}
	for _, p := range b.pins {
		v.unpin(p)
	}
}

// walk marks the chunks of every reachable block.
func (b *bulkPass) walk(ctx context.Context) error {
	b.reach = make(chunkSet)
	b.rep.Tables, b.rep.Bytes = 0, 0
	tables := uint64(0)
	s := &treeScan{v: b.v, visit: b.mark, pause: func() error {
		if tables++; tables%pauseEvery != 0 {
			return ctx.Err()
		}
		if b.o.Progress != nil {
			b.o.Progress(b.pass, b.rep.Tables, b.rep.Bytes)
		}
		return sleep(ctx, b.o.Pause)
	}}
	for _, p := range slices.Backward(b.pins) { // the committed tree first
		if err := s.run(ctx, p.root); err != nil {
			return err
		}
		b.views = true
	}
	if err := s.damage(); err != nil {
		return fmt.Errorf("nothing is freed: %w", err)
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (b *bulkPass) mark(r *ondisk.Blockref) {
	if r.Type == ondisk.TypeInode || r.Type == ondisk.TypeIndirect {
		b.rep.Tables++
	}
	b.rep.Bytes += uint64(r.Size())
	if r.Off()+uint64(r.Size()) > b.v.geo.Load().total {
		return // a block that nobody can read
	}
	for off := r.Off() &^ (ondisk.ChunkSize - 1); off < r.Off()+uint64(r.Size()); off += ondisk.ChunkSize {
		if b.views && !b.reach.has(off) && !b.v.inQuarantine(off) {
			b.viewed += ondisk.ChunkSize
		}
		b.reach.add(off)
	}
}

// merge brings what was found into zones [from, to) of the freemap.
func (b *bulkPass) merge(ctx context.Context, from, to uint64) error {
	t, err := b.v.begin(ctx)
	if err != nil {
		return err
	}
	defer t.Abort()
	var gone []region
	for n := from; n < to; n++ {
		if b.reach[n] == nil && b.v.fm.find(n) == nil {
			continue
		}
		gone = b.mergeZone(b.v.fm.zone(n), gone)
	}
	// Put up before the commit: the chunks stay as they are on media until
	// the quarantine ends, so a commit that fails loses nothing. Views there
	// were when the pass began were walked, later ones see less.
	b.v.mu.Lock()
	b.v.quar.add(b.v.seq, true, gone)
	b.v.mu.Unlock()
	b.v.fm.trim()
	return t.Commit(ctx)
}

func (b *bulkPass) mergeZone(z *zone, gone []region) []region {
	fm := b.v.fm
	for seg := z.lo; seg < z.hi && z.entries != nil; seg++ {
		e := &z.entries[seg]
		for c := range ondisk.ChunksPerSegment {
			at := seg*ondisk.ChunksPerSegment + c
			off := z.n*ondisk.ZoneSize + uint64(at)*ondisk.ChunkSize
			reached, state := b.reach.has(off), e.State(c)
			if reached == (state == ondisk.ChunkAllocated) && state != ondisk.ChunkStaged {
				continue
			}
			if b.skip(off) {
				continue
			}
			switch {
			case reached:
				fm.setChunks(z, seg, c, ondisk.ChunkRadix, ondisk.ChunkAllocated)
				b.rep.Rescued += ondisk.ChunkSize
			case state == ondisk.ChunkAllocated:
				delete(fm.alloc.traced, off)
				fm.setChunks(z, seg, c, ondisk.ChunkRadix, ondisk.ChunkStaged)
				b.rep.Staged += ondisk.ChunkSize
				b.staged += ondisk.ChunkSize
			case state == ondisk.ChunkStaged && b.pass > 1:
				gone = addRegion(gone, off, ondisk.ChunkRadix)
				b.rep.Freed += ondisk.ChunkSize
			}
		}
	}
	return gone
}

// skip reports whether a chunk changed since the pass began, is in the
// quarantine, or is one that small blocks still go to.
func (b *bulkPass) skip(off uint64) bool {
	a := &b.v.fm.alloc
	if a.watch.has(off) {
		return true
	}
	if c := a.traced[off]; c != nil && c.open {
		return true
	}
	return b.v.inQuarantine(off)
}

func (v *Volume) inQuarantine(off uint64) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.quar.held.has(off)
}
