package fs

import (
	"context"
	"math"

	"github.com/anvilfs/anvilfs/ondisk"
)

// FallocateMode is fallocate(2)'s.
type FallocateMode uint32

// The modes of fallocate that copy-on-write media can honour.
const (
	FallocKeepSize  FallocateMode = 0x01
	FallocPunchHole FallocateMode = 0x02
	FallocZeroRange FallocateMode = 0x10
)

// Fallocate extends a file, or makes a range read as zeros. Space is not set
// aside for later writes, since each goes to a new place; but a range that
// does not fit now is refused.
func (f *FS) Fallocate(ctx context.Context, inum, off, length uint64, mode FallocateMode, kill bool) error {
	switch mode {
	case 0, FallocKeepSize, FallocZeroRange, FallocZeroRange | FallocKeepSize, FallocPunchHole | FallocKeepSize:
	default:
		return errNotHere
	}
	if length == 0 {
		return errInvalid
	}
	if off > sizeMax || length > sizeMax-off {
		return errTooBig
	}
	n, rec, err := f.lockFile(ctx, inum)
	if err != nil {
		return err
	}
	defer f.unlock(n)
	if rec.Meta.UFlags&flagsAppend != 0 && mode&^FallocKeepSize != 0 {
		return errPerm
	}
	zero := mode&(FallocPunchHole|FallocZeroRange) != 0
	end := off + length
	if err := f.fits(ctx, rec, length); !zero && err != nil {
		return err
	}
	size := rec.Meta.Size
	if mode&FallocKeepSize == 0 {
		size = max(size, end)
	}
	dropCaps, err := f.hasCaps(ctx, n)
	if err != nil {
		return err
	}
	kills := dropCaps || kill && rec.Meta.Mode&(modeSetuid|modeSetgid) != 0
	if !zero && size == rec.Meta.Size && !kills {
		return nil
	}
	t, err := f.store.Begin(ctx, writeCost(2*ondisk.LogicalBlock))
	if err != nil {
		return err
	}
	defer t.End()
	r := &Record{Meta: rec.Meta, Inline: rec.Inline}
	if from, to := min(off, rec.Meta.Size), min(end, rec.Meta.Size); zero && from < to {
		if err := f.zero(ctx, t, r, from, to); err != nil {
			return err
		}
	}
	if err := f.setSize(ctx, t, r, size); err != nil {
		return err
	}
	f.putWritten(ctx, t, n, r, kill, dropCaps)
	return nil
}

// fits refuses what there is no room for now.
func (f *FS) fits(ctx context.Context, rec *Record, length uint64) error {
	if length > f.store.StatFS().Avail {
		return errNoSpace
	}
	room, of, _, err := f.quotas.room(ctx, rec.Meta.Account)
	if err == nil && of.Bytes > 0 && length > room.Bytes {
		err = errQuota
	}
	return err
}

// zero makes [from, to) of a locked file read as zeros.
func (f *FS) zero(ctx context.Context, t Txn, r *Record, from, to uint64) error {
	if !r.Meta.DirectData() {
		return t.ZeroData(ctx, r.Meta.Inum, from, to)
	}
	inline := make([]byte, r.Meta.Size)
	copy(inline, r.Inline)
	clear(inline[from:to])
	r.Inline = inline
	return nil
}

// Seek finds the next data, or the next hole, at or after off. The end of the
// file counts as a hole.
func (f *FS) Seek(ctx context.Context, inum, off uint64, hole bool) (uint64, error) {
	n, rec, err := f.rlock(ctx, inum)
	if err != nil {
		return 0, err
	}
	defer f.runlock(n)
	size := rec.Meta.Size
	switch {
	case off > math.MaxInt64:
		return 0, errNoData
	case rec.Meta.Type == ondisk.ObjDir:
		return 0, errInvalid
	case off >= size:
		return 0, errNoData
	case rec.Meta.DirectData() && hole:
		return size, nil
	case rec.Meta.DirectData():
		return off, nil
	}
	seek := f.store.SeekData
	if hole {
		seek = f.store.SeekHole
	}
	at, ok, err := seek(ctx, inum, off, size)
	switch {
	case err != nil:
		return 0, err
	case ok:
		return min(at, size), nil
	case hole:
		return size, nil
	}
	return 0, errNoData
}
