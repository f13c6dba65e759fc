package chain

import (
	"context"
	"errors"
	"runtime"
	"sync"

	"github.com/anvilfs/anvilfs/ondisk"
)

// ErrNoInode: the view has no inode of that number.
var ErrNoInode = errors.New("no such inode")

// Fewer blocks than this are not worth a goroutine of their own.
const minPart = 4

// scratch holds buffers for blocks that are wanted from the middle.
var scratch = sync.Pool{New: func() any { return new([ondisk.LogicalBlock]byte) }}

// ReadData reads bytes [off, off+len(dst)) of a file or symlink. Holes, what
// short blocks lack and everything past the inode's size read as zeros.
func (v *View) ReadData(ctx context.Context, inum uint64, off uint64, dst []byte) error {
	rec, err := v.need(ctx, inum)
	if err != nil {
		return err
	}
	valid := 0 // bytes of dst before the end of the file
	if off < rec.Meta.Size {
		valid = int(min(rec.Meta.Size-off, uint64(len(dst))))
	}
	clear(dst[valid:])
	dst = dst[:valid]
	if valid == 0 {
		return nil
	}
	if rec.Meta.DirectData() {
		clear(dst[copy(dst, rec.Inline[off:]):])
		return nil
	}
	var refs []ondisk.Blockref
	next := off // first byte not yet covered by a block or known to be a hole
	err = v.dataRefs(ctx, rec, off, off+uint64(valid), func(ref *ondisk.Blockref) (bool, error) {
		if ref.Key > next {
			clear(dst[next-off : ref.Key-off])
		}
		next = min(ref.Key+ondisk.LogicalBlock, off+uint64(valid))
		refs = append(refs, *ref)
		return true, nil
	})
	if err != nil {
		return err
	}
	clear(dst[next-off:])
	return v.readParts(ctx, v.own(rec), refs, off, dst)
}

// readParts reads refs into dst, which starts at byte off, on as many
// goroutines as pay: decoding is the larger part of the work.
func (v *View) readParts(ctx context.Context, o owner, refs []ondisk.Blockref, off uint64, dst []byte) error {
	parts := min(runtime.GOMAXPROCS(0), len(refs)/minPart)
	if parts < 2 {
		return v.readRefs(ctx, o, refs, off, dst)
	}
	errs := make([]error, parts)
	var wg sync.WaitGroup
	for p := range parts {
		part := refs[p*len(refs)/parts : (p+1)*len(refs)/parts]
		wg.Go(func() { errs[p] = v.readRefs(ctx, o, part, off, dst) })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func (v *View) readRefs(ctx context.Context, o owner, refs []ondisk.Blockref, off uint64, dst []byte) error {
	if len(refs) == 0 {
		return nil
	}
	if len(refs) > 1 {
		err := v.reader.src.readMany(ctx, refs, func(i int, stored []byte) error {
			if err := decodeInto(&refs[i], stored, off, dst); err != nil {
				return o.fail(&refs[i], err)
			}
			return nil
		})
		return o.failRead(refs, err)
	}
	stored, err := v.reader.src.readRaw(ctx, &refs[0])
	if err == nil {
		err = decodeInto(&refs[0], stored, off, dst)
	}
	if err != nil {
		return o.fail(&refs[0], err)
	}
	return nil
}

// failRead makes a failed readMany a NodeError: of the block that the error
// names, else of the first.
func (o owner) failRead(refs []ondisk.Blockref, err error) error {
	var node *NodeError
	if err == nil || errors.As(err, &node) {
		return err
	}
	var check *ondisk.CheckError
	if errors.As(err, &check) {
		return o.fail(&check.Ref, err)
	}
	var unread *unreadable
	if errors.As(err, &unread) {
		return o.fail(&unread.ref, err)
	}
	return o.fail(&refs[0], err)
}

// decodeInto decodes the part of a block that lies in dst, which starts at
// byte off of the file.
func decodeInto(ref *ondisk.Blockref, stored []byte, off uint64, dst []byte) error {
	if ref.Key >= off {
		part := dst[ref.Key-off:]
		_, err := ondisk.DecodeData(ref, stored, part[:min(len(part), ondisk.LogicalBlock)])
		return err
	}
	buf := scratch.Get().(*[ondisk.LogicalBlock]byte)
	defer scratch.Put(buf)
	if _, err := ondisk.DecodeData(ref, stored, buf[:]); err != nil {
		return err
	}
	copy(dst, buf[off-ref.Key:])
	return nil
}
