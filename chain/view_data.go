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
	src, vol := v.reader.dataOf(o), v.reader.uncached()
	if vol == nil { // a cache may have any of them
		return o.failRead(refs, src.readMany(ctx, refs, o.decodeTo(refs, off, dst)))
	}
	for len(refs) > 0 {
		if n := straightRun(ctx, refs, off, dst); n > 0 && readStraight(ctx, vol, refs[:n], dst[refs[0].Key-off:]) {
			refs = refs[n:]
			continue
		}
		n := 1 // up to what can be read straight
		for n < len(refs) && straightRun(ctx, refs[n:], off, dst) == 0 {
			n++
		}
		part := refs[:n]
		if err := src.readMany(ctx, part, o.decodeTo(part, off, dst)); err != nil {
			return o.failRead(part, err)
		}
		refs = refs[n:]
	}
	return nil
}

// decodeTo returns what readMany does with each of refs.
func (o owner) decodeTo(refs []ondisk.Blockref, off uint64, dst []byte) func(i int, stored []byte) error {
	return func(i int, stored []byte) error {
		if err := decodeInto(&refs[i], stored, off, dst); err != nil {
			return o.fail(&refs[i], err)
		}
		return nil
	}
}

// straightRun is how many of refs, from the first on, lie on media as they
// shall lie in dst, which starts at byte off; 0 if there are too few to be
// read apart from others. While a caller's patience may end, it is none: the
// device would keep dst.
func straightRun(ctx context.Context, refs []ondisk.Blockref, off uint64, dst []byte) int {
	if ctx.Value(patienceKey{}) != nil {
		return 0
	}
	n := straight(refs, off, dst)
	if n < minPart && n < max(len(refs), 2) {
		return 0
	}
	return n
}

func straight(refs []ondisk.Blockref, off uint64, dst []byte) int {
	first := &refs[0]
	for n := range refs {
		r := &refs[n]
		if r.CompMethod() != ondisk.CompNone || r.Size() != ondisk.LogicalBlock ||
			r.Key < off || r.Key-off+ondisk.LogicalBlock > uint64(len(dst)) ||
			r.Key-first.Key != uint64(n)*ondisk.LogicalBlock || r.Off()-first.Off() != r.Key-first.Key || r.Off()/ondisk.ZoneSize != first.Off()/ondisk.ZoneSize {
			return n
		}
	}
	return len(refs)
}

// readStraight reads and verifies what straightRun found. false: reading block
// by block will tell what is wrong.
func readStraight(ctx context.Context, vol *Volume, refs []ondisk.Blockref, dst []byte) bool {
	dst = dst[:len(refs)*ondisk.LogicalBlock]
	if !ondisk.Aligned(dst) || vol.readInto(ctx, dst, refs[0].Off()) != nil {
		return false
	}
	for i := range refs {
		if refs[i].VerifyCheck(dst[i*ondisk.LogicalBlock:][:ondisk.LogicalBlock]) != nil {
			return false
		}
	}
	return true
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
	skip := int(off - ref.Key)
	dst = dst[:min(len(dst), ondisk.LogicalBlock-skip)]
	if ref.CompMethod() == ondisk.CompNone {
		clear(dst[copy(dst, stored[min(skip, len(stored)):]):])
		return nil
	}
	buf := scratch.Get().(*[ondisk.LogicalBlock]byte)
	defer scratch.Put(buf)
	if _, err := ondisk.DecodeData(ref, stored, buf[:]); err != nil {
		return err
	}
	copy(dst, buf[skip:])
	return nil
}
