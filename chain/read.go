package chain

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/anvilfs/anvilfs/ondisk"
)

const (
	maxRun   = 1 << 20 // bytes of one device request
	readGap  = 16 << 10
	inodeGap = 64 << 10
	pageLen  = 4096
)

// runPool holds buffers of maxRun bytes and a page at either end, blockPool of
// one block.
var (
	runPool   = sync.Pool{New: func() any { return runBuffer(maxRun) }}
	blockPool = sync.Pool{New: func() any { return runBuffer(ondisk.MaxBlock) }}
)

func runBuffer(n int) *[]byte {
	b := ondisk.AlignedBuffer(n + 2*pageLen)
	return &b
}

// locate finds the device of n bytes at a logical address. No block crosses
// from one volume to the next, since zones do not.
func (v *Volume) locate(off uint64, n int) (ondisk.Device, int64, error) {
	g := v.geo.Load()
	for i := range g.devs {
		if off >= g.loff[i] && off+uint64(n) <= g.loff[i+1] {
			return g.devs[i], int64(off - g.loff[i]), nil
		}
	}
	return nil, 0, damaged("address %#x of %d bytes lies outside the volume", off, n)
}

// readRaw returns the stored block of ref, its check code verified.
func (v *Volume) readRaw(ctx context.Context, ref *ondisk.Blockref) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	buf := ondisk.AlignedBuffer(ref.Size())
	if err := v.readInto(ctx, buf, ref.Off()); err != nil {
		return nil, err
	}
	return buf, ref.VerifyCheck(buf)
}

// readInto fills buf. After ErrLate buf belongs to the device for good.
func (v *Volume) readInto(ctx context.Context, buf []byte, off uint64) error {
	dev, at, err := v.locate(off, len(buf))
	if err != nil {
		return err
	}
	if p, ok := ctx.Value(patienceKey{}).(*patience); ok {
		return p.read(dev, buf, at)
	}
	return readFull(dev, buf, at)
}

func readFull(dev ondisk.Device, buf []byte, at int64) error {
	if n, err := dev.ReadAt(buf, at); n < len(buf) {
		return fmt.Errorf("%s: read of %d bytes at %#x: %w", dev.Name(), len(buf), at, err)
	}
	return nil
}

// readMany calls fn for the stored, verified block of each ref in turn, and
// stops at the first error. Blocks that lie close to each other, in the order
// given, are read together. stored is valid during the call only.
func (v *Volume) readMany(ctx context.Context, refs []ondisk.Blockref, fn func(i int, stored []byte) error) error {
	for i := 0; i < len(refs); {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := runOf(refs[i:])
		if err := v.readRun(ctx, refs[i:i+n], i, fn); err != nil {
			return err
		}
		i += n
	}
	return nil
}

// gapOf is how much is read for nothing rather than asked around. Inodes are so
// small that a request costs more than what lies between them.
func gapOf(ref *ondisk.Blockref) uint64 {
	if ref.Type == ondisk.TypeInode {
		return inodeGap
	}
	return readGap
}

// runOf is how many of refs one request reads.
func runOf(refs []ondisk.Blockref) int {
	beg := refs[0].Off()
	end := beg + uint64(refs[0].Size())
	for n := 1; n < len(refs); n++ {
		off := refs[n].Off()
		next := off + uint64(refs[n].Size())
		if off < end || off > end+gapOf(&refs[n]) || next-beg > maxRun || off/ondisk.ZoneSize != beg/ondisk.ZoneSize {
			return n
		}
		end = next
	}
	return len(refs)
}

func (v *Volume) readRun(ctx context.Context, refs []ondisk.Blockref, first int, fn func(i int, stored []byte) error) error {
	last := &refs[len(refs)-1]
	// Whole pages: direct I/O needs no second buffer then.
	beg := refs[0].Off() &^ (pageLen - 1)
	end := (last.Off() + uint64(last.Size()) + pageLen - 1) &^ (pageLen - 1)
	pools := &runPool
	if end-beg <= ondisk.MaxBlock+2*pageLen {
		pools = &blockPool
	}
	pool := pools.Get().(*[]byte)
	buf := (*pool)[:end-beg]
	err := v.readInto(ctx, buf, beg)
	if errors.Is(err, ErrLate) {
		return &unreadable{refs[0], err} // the device has the buffer
	}
	defer pools.Put(pool)
	if err != nil && len(refs) == 1 {
		return &unreadable{refs[0], err}
	}
	if err != nil {
		return v.readSingly(ctx, refs, first, fn)
	}
	for i := range refs {
		off := refs[i].Off() - beg
		stored := buf[off : off+uint64(refs[i].Size())]
		if err := refs[i].VerifyCheck(stored); err != nil {
			return err
		}
		if err := fn(first+i, stored); err != nil {
			return err
		}
	}
	return nil
}

// readSingly is readRun after the device failed: most likely on one block,
// which the error names, or in a gap between them, which nobody misses.
func (v *Volume) readSingly(ctx context.Context, refs []ondisk.Blockref, first int, fn func(i int, stored []byte) error) error {
	for i := range refs {
		buf := ondisk.AlignedBuffer(refs[i].Size())
		if err := v.readInto(ctx, buf, refs[i].Off()); err != nil {
			return &unreadable{refs[i], err}
		}
		if err := refs[i].VerifyCheck(buf); err != nil {
			return err
		}
		if err := fn(first+i, buf); err != nil {
			return err
		}
	}
	return nil
}

// An unreadable block is one of many that were asked for: the device's error
// does not say which.
type unreadable struct {
	ref ondisk.Blockref
	err error
}

func (u *unreadable) Error() string { return u.err.Error() }
func (u *unreadable) Unwrap() error { return u.err }
