package chain

import (
	"context"
	"fmt"

	"github.com/anvilfs/anvilfs/ondisk"
)

// TrimOptions say what Trim looks at. The zero value is the whole volume.
type TrimOptions struct {
	Beg, End uint64 // addresses [Beg, End); End 0 = the end of the volume
	Least    uint64 // bytes of a free range worth a request; 0 = a chunk
}

// Trim tells the devices which space is free, and returns how many bytes that
// is. errors.ErrUnsupported: a device takes no such news.
//
// Free is what the next transaction could allocate: no view reads it, and no
// header that a crash could select reaches it, since it has left the
// quarantine. A zone at a time is trimmed under the volume's turn, so that
// nothing is allocated there meanwhile; other transactions wait for that long.
func (v *Volume) Trim(ctx context.Context, o TrimOptions) (trimmed uint64, err error) {
	if total := v.geo.Load().total; o.End == 0 || o.End > total {
		o.End = total
	}
	o.Least = max(o.Least, ondisk.ChunkSize)
	for n := o.Beg / ondisk.ZoneSize; n*ondisk.ZoneSize < o.End; n++ {
		m, err := v.trimZone(ctx, n, &o)
		trimmed += m
		if err != nil {
			return trimmed, fmt.Errorf("%s: trim: %w", v.Name(), err)
		}
	}
	return trimmed, nil
}

func (v *Volume) trimZone(ctx context.Context, n uint64, o *TrimOptions) (trimmed uint64, err error) {
	t, err := v.begin(ctx)
	if err != nil {
		return 0, err
	}
	defer t.Abort()
	z := v.fm.zone(n)
	if z.entries == nil || z.avail == 0 {
		return 0, nil
	}
	defer v.fm.trim()
	for _, r := range z.freeRuns(o) {
		if err := ctx.Err(); err != nil {
			return trimmed, err
		}
		dev, at, err := v.locate(r.beg, int(r.end-r.beg))
		if err != nil {
			return trimmed, err
		}
		if err := dev.Discard(at, int64(r.end-r.beg)); err != nil {
			return trimmed, err
		}
		trimmed += r.end - r.beg
	}
	return trimmed, nil
}

// freeRuns are the free chunks of a loaded zone in o's range, joined.
func (z *zone) freeRuns(o *TrimOptions) []region {
	var list []region
	base := z.n * ondisk.ZoneSize
	for seg := z.lo; seg < z.hi; seg++ {
		e := &z.entries[seg]
		for c := range ondisk.ChunksPerSegment {
			off := base + uint64(seg)*ondisk.SegmentSize + uint64(c)*ondisk.ChunkSize
			if e.State(c) == ondisk.ChunkFree && off >= o.Beg && off+ondisk.ChunkSize <= o.End {
				list = addRegion(list, off, ondisk.ChunkRadix)
			}
		}
	}
	kept := list[:0]
	for _, r := range list {
		if r.end-r.beg >= o.Least {
			kept = append(kept, r)
		}
	}
	return kept
}
