package cluster

import (
	"bytes"
	"context"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/ondisk"
)

// A BlockID is what the media say of the content of a block. Equal blocks
// stored alike have equal ones; whoever wants to know more compares the bytes.
type BlockID struct {
	code          [24]byte // the longest check code there is
	radix, method uint8
}

// A PlacedBlock is a data block of a file.
type PlacedBlock struct {
	Inum, Key uint64
	FileSize  uint64
	Bytes     uint64 // on media
	Off       uint64 // there, on the node that was asked
	ID        BlockID
}

func blockID(ref *ondisk.Blockref) BlockID {
	return BlockID{[24]byte(ref.Check[:]), ref.Radix(), ref.Methods}
}

// Prefix spreads blocks evenly, equal ones alike.
func (id *BlockID) Prefix() uint8 { return id.code[0] }

// MediaBlocks lists up to limit data blocks of files as they are on media, by
// inode number and key, from (inum, key) on; what cannot be told from another by
// a check code is left out. next is where to go on: 0 = there are no more. From
// the first one on it waits until what is only in intent logs is in the trees.
func (p *Pool) MediaBlocks(ctx context.Context, inum, key uint64, limit int) (list []PlacedBlock, nextInum, nextKey uint64, err error) {
	if inum == 0 && p.state.Load().logged != nil {
		if err := p.Settle(ctx); err != nil {
			return nil, 0, 0, err
		}
	}
	s := p.acquire()
	defer s.release()
	err = p.onTree(ctx, s, func(ctx context.Context, v *chain.View) (err error) {
		list, nextInum, nextKey = list[:0], 0, 0
		first := max(inum, ondisk.InumFirst)
		var failed error
		err = v.Inodes(ctx, first, ondisk.AttrBit, func(rec *chain.InodeRec) bool {
			if rec.Meta.Type != ondisk.ObjFile || rec.Meta.DirectData() {
				return true
			}
			from := uint64(0)
			if rec.Meta.Inum == inum {
				from = key
			}
			failed = v.DataRefs(ctx, rec.Meta.Inum, from, maxData, func(ref *ondisk.Blockref) bool {
				if len(list) == limit {
					nextInum, nextKey = rec.Meta.Inum, ref.Key
					return false
				}
				if _, ok := chain.ShareOf(rec.Meta.Inum, ref); ok && ref.Key < rec.Meta.Size {
					list = append(list, PlacedBlock{rec.Meta.Inum, ref.Key, rec.Meta.Size, uint64(ref.Size()), ref.Off(), blockID(ref)})
				}
				return true
			})
			return failed == nil && nextInum == 0
		})
		if err == nil {
			err = failed
		}
		return err
	})
	return list, nextInum, nextKey, err
}

// MergeData lets n blocks of dst from dstKey on be those of src from srcKey on,
// each where both are on media and are stored as the same bytes. The content of
// dst, dstSize bytes, stays as it is.
func (t *Txn) MergeData(ctx context.Context, src, srcKey, dst, dstKey, dstSize uint64, n int) (m Merged, err error) {
	sh := &sharer{t: t, src: src, to: t.g.node(dst)}
	target, err := sh.loadPair(ctx, srcKey, dstKey, uint64(n)*ondisk.LogicalBlock)
	if err != nil {
		return m, err
	}
	for i := range uint64(n) {
		from, at := srcKey+i*ondisk.LogicalBlock, dstKey+i*ondisk.LogicalBlock
		a, b := sh.tree[from], target[at]
		if a == nil || b == nil || at >= dstSize || sh.buffered(src, from) || sh.buffered(dst, at) {
			continue
		}
		share, ok := chain.ShareOf(src, a)
		if !ok || !share.Is(b) {
			continue
		}
		if a.Off() == b.Off() {
			m.Had++
			m.Already += uint64(b.Size())
			continue
		}
		valid := int(min(dstSize-at, ondisk.LogicalBlock))
		if ok, err := sh.equal(ctx, a, b, valid); err != nil {
			return m, err
		} else if ok {
			t.touch()
			t.g.refer(sh.to, at, &source{*share, valid, nil})
			m.Blocks++
			m.Bytes += uint64(b.Size())
		}
	}
	return m, nil
}

// Merged is what MergeData did.
type Merged struct {
	Blocks  int    // that the target has no longer for itself
	Bytes   uint64 // of them, on media
	Had     int    // blocks that it shared before
	Already uint64 // bytes of them
}

// loadPair is load, of both files from one node: addresses are each node's own.
func (sh *sharer) loadPair(ctx context.Context, srcKey, dstKey, length uint64) (target map[uint64]*ondisk.Blockref, err error) {
	s := sh.t.p.acquire()
	defer s.release()
	sh.below = s.below(sh.t.g.overlay)
	err = sh.t.p.onTree(ctx, s, func(ctx context.Context, v *chain.View) (err error) {
		if sh.tree, err = dataMap(ctx, v, sh.src, srcKey, srcKey+length); err == nil {
			target, err = dataMap(ctx, v, sh.to.inum, dstKey, dstKey+length)
		}
		return err
	})
	return target, err
}

// buffered reports whether a group says something about a block.
func (sh *sharer) buffered(inum, key uint64) bool {
	for _, o := range append([]*overlay{sh.t.g.overlay}, sh.below...) {
		if _, where := o.find(inum).where(key); where != dataBelow {
			return true
		}
	}
	return false
}

// equal compares two blocks of one identity byte by byte. Behind the valid bytes
// there must be zeros: then it does not matter whether the file grows.
func (sh *sharer) equal(ctx context.Context, a, b *ondisk.Blockref, valid int) (same bool, err error) {
	s := sh.t.p.acquire()
	defer s.release()
	err = sh.t.p.onTree(ctx, s, func(ctx context.Context, v *chain.View) error {
		same = false
		x, err := readAt(ctx, v, sh.src, a)
		if err != nil || x == nil {
			return err
		}
		y, err := readAt(ctx, v, sh.to.inum, b)
		same = err == nil && y != nil && bytes.Equal(x.Bytes, y.Bytes)
		return err
	})
	if err != nil || !same {
		return false, err
	}
	return sh.cleanTail(ctx, a, valid)
}

// readAt reads the block of a leaf, as v has it; nil if v has another there.
func readAt(ctx context.Context, v *chain.View, inum uint64, want *ondisk.Blockref) (*ondisk.EncodedBlock, error) {
	ref, ok, err := dataRef(ctx, v, inum, want.Key)
	if err != nil || !ok || blockID(&ref) != blockID(want) {
		return nil, err
	}
	return v.ReadBlock(ctx, &ref)
}
