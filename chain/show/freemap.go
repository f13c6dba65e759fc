package show

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/anvilfs/anvilfs/chain/media"
	"github.com/anvilfs/anvilfs/ondisk"
)

// FreemapOptions choose what of the freemap is printed.
type FreemapOptions struct {
	Zone     int  // number of one zone of 1 GiB; below 0 = all
	Segments bool // each segment of 4 MiB that is neither free nor full
}

// AllZones is the value of FreemapOptions.Zone for all of them.
const AllZones = -1

// Freemap prints the freemap of the header in use: sums of each zone, and its
// segments if asked for.
func Freemap(ctx context.Context, w io.Writer, devs []ondisk.Device, o FreemapOptions) error {
	p, err := open(w, devs)
	if err != nil {
		return err
	}
	h := p.set.Header()
	p.line(0, "allocator: %s, free %s, from %#x", size(h.AllocatorSize), size(h.AllocatorFree), h.AllocatorBeg)
	f := freemap{printer: p, o: o}
	for i := range h.Freemap {
		if h.Freemap[i].Type != ondisk.TypeEmpty {
			f.node(ctx, &h.Freemap[i], 0)
		}
	}
	zones := (h.Size() + ondisk.ZoneSize - 1) / ondisk.ZoneSize
	if n := zones - min(zones, f.seen); n > 0 && o.Zone < 0 {
		p.line(0, "%d of %d zones have no leaf: nothing was ever allocated there", n, zones)
	}
	return p.done(ctx)
}

type freemap struct {
	*printer
	o    FreemapOptions
	seen uint64 // leaves met
}

func (f *freemap) node(ctx context.Context, r *ondisk.Blockref, indent int) {
	if ctx.Err() != nil || indent > 6 {
		return
	}
	zone := r.Key / ondisk.ZoneSize
	if z := uint64(f.o.Zone); f.o.Zone >= 0 && (z < zone || z > r.LastKey()/ondisk.ZoneSize) {
		return
	}
	block, err := f.set.Read(r)
	if r.Type == ondisk.TypeFreemapLeaf {
		f.seen++
		copyNo := (r.Off()%ondisk.ZoneSize/ondisk.MaxBlock - 1) / 5
		f.line(indent, "zone %d at %#x: leaf in copy %d at %#x, mirror_tid %s", zone, r.Key, copyNo, r.Off(), tid(r.MirrorTid))
	} else {
		f.ref(indent, r)
	}
	if err != nil {
		f.bad(indent+1, err)
		return
	}
	if r.Type == ondisk.TypeFreemapLeaf {
		f.leaf(r, block, indent+1)
		return
	}
	media.Elements(block, func(i int, k ondisk.Blockref, err error) {
		if err != nil {
			f.bad(indent+1, fmt.Errorf("element %d: %w", i, err))
			return
		}
		f.node(ctx, &k, indent+1)
	})
}

func (f *freemap) leaf(r *ondisk.Blockref, block []byte, indent int) {
	entries, err := ondisk.DecodeFreemapLeaf(block)
	if err != nil {
		f.bad(indent, err)
		return
	}
	var chunks [4]int
	for i := range entries {
		for n := range ondisk.ChunksPerSegment {
			chunks[entries[i].State(n)]++
		}
	}
	f.line(indent, "free %s, staged %s, allocated %s", size(uint64(chunks[ondisk.ChunkFree])*ondisk.ChunkSize),
		size(uint64(chunks[ondisk.ChunkStaged])*ondisk.ChunkSize), size(uint64(chunks[ondisk.ChunkAllocated])*ondisk.ChunkSize))
	if !f.o.Segments {
		return
	}
	for i := range entries {
		e := &entries[i]
		if e.Class == 0 && (e.Avail == 0 || e.FreeChunks() == ondisk.ChunksPerSegment) {
			continue
		}
		f.line(indent, "segment %3d at %#x: class %#04x linear %#x avail %#x", i, r.Key+uint64(i)*ondisk.SegmentSize, e.Class, e.Linear, e.Avail)
		var b strings.Builder
		for n := range ondisk.ChunksPerSegment {
			b.WriteByte(" ?-#"[e.State(n)]) // free, unused state, staged, allocated
			if n%64 == 63 {
				f.line(indent+1, "|%s|", b.String())
				b.Reset()
			}
		}
	}
}
