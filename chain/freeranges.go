package chain

import (
	"context"
	"fmt"

	"github.com/anvilfs/anvilfs/ondisk"
)

// A FreeRange is space of one device that no block lies in.
type FreeRange struct {
	Dev      ondisk.Device
	Off, Len int64
}

// FreeRanges returns the free space of the volume, ranges of at least so many
// bytes. It is free for as long as nobody changes the volume: what a cache keeps
// there is at the mercy of whoever does.
func (v *Volume) FreeRanges(ctx context.Context, least uint64) ([]FreeRange, error) {
	if v.fm == nil {
		return nil, fmt.Errorf("%s: %w", v.Name(), ErrReadOnly)
	}
	t, err := v.Begin(ctx)
	if err != nil {
		return nil, err
	}
	defer t.Abort()
	defer v.fm.trim()
	var list []FreeRange
	o := TrimOptions{End: v.geo.Load().total, Least: least}
	for n := range v.fm.zoneCount() {
		z := v.fm.zone(n)
		if z.entries == nil {
			continue
		}
		for _, r := range z.freeRuns(&o) {
			dev, at, err := v.locate(r.beg, int(r.end-r.beg))
			if err != nil {
				return nil, err
			}
			list = append(list, FreeRange{dev, at, int64(r.end - r.beg)})
		}
	}
	return list, nil
}
