package rig

import (
	"context"
	"errors"
	"fmt"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/chain/media"
	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/memdev"
)

// A Block is one block of a member's PFS and the way to it.
type Block struct {
	Ref  ondisk.Blockref
	path []step // from the super-root down
}

// A step is a block whose element index leads on.
type step struct {
	ref   ondisk.Blockref
	block []byte
	at    int // byte of the element in block
}

// Blocks lists the blocks below the root of the member's PFS that its newest
// header reaches: tables, inodes and data.
func Blocks(dev *memdev.Device) ([]Block, error) {
	set, err := media.Open([]ondisk.Device{dev})
	if err != nil {
		return nil, err
	}
	super := media.SuperRoot(set.Header())
	var out []Block
	err = descend(set, super, nil, func(b Block) bool {
		if b.Ref.Type == ondisk.TypeInode && len(b.path) > 0 {
			inPFS := false
			for _, s := range b.path[1:] {
				inPFS = inPFS || s.ref.Type == ondisk.TypeInode
			}
			if !inPFS { // a PFS root
				meta, _, _, err := set.Inode(&b.Ref)
				return err == nil && meta.Name() == Label
			}
		}
		if b.below() {
			out = append(out, b)
		}
		return true
	})
	return out, err
}

// Inum is the inode that the block belongs to, or the inode it is.
func (b *Block) Inum() uint64 {
	if b.Ref.Type == ondisk.TypeInode {
		return b.Ref.Key
	}
	for i := len(b.path) - 1; i >= 0; i-- {
		if b.path[i].ref.Type == ondisk.TypeInode {
			return b.path[i].ref.Key
		}
	}
	return 0
}

// below reports whether the block lies below a PFS root.
func (b *Block) below() bool {
	inodes := 0
	for _, s := range b.path {
		if s.ref.Type == ondisk.TypeInode {
			inodes++
		}
	}
	return inodes >= 2 // super-root, PFS root
}

func descend(set *media.Set, ref ondisk.Blockref, path []step, fn func(Block) bool) error {
	if !fn(Block{ref, path}) || ref.Type != ondisk.TypeInode && ref.Type != ondisk.TypeIndirect {
		return nil
	}
	block, err := set.Read(&ref)
	if err != nil {
		return err
	}
	skip := 0
	if ref.Type == ondisk.TypeInode {
		meta, err := ondisk.DecodeInodeMeta(block)
		if err != nil || meta.DirectData() {
			return err
		}
		skip = ondisk.InodeMetaSize
	}
	media.Elements(block[skip:], func(i int, r ondisk.Blockref, eerr error) {
		if eerr != nil || r.DataOff == 0 {
			err = errors.Join(err, eerr)
			return
		}
		down := append(path[:len(path):len(path)], step{ref, block, skip + i*ondisk.BlockrefSize})
		err = errors.Join(err, descend(set, r, down, fn))
	})
	return err
}

// Edit changes the bytes of a table on dev and then all check codes above it,
// up to the header: damage that no code shows.
func Edit(dev *memdev.Device, b Block, change func(block []byte)) error {
	set, err := media.Open([]ondisk.Device{dev})
	if err != nil {
		return err
	}
	block, err := set.Read(&b.Ref)
	if err != nil {
		return err
	}
	change(block)
	ref := b.Ref
	for i := len(b.path) - 1; i >= 0; i-- {
		if err := store(dev, &ref, block); err != nil {
			return err
		}
		s := b.path[i]
		ref.Encode(s.block[s.at:])
		ref, block = s.ref, s.block
	}
	if err := store(dev, &ref, block); err != nil {
		return err
	}
	h := set.Header().Clone()
	for i := range h.Sroot {
		if h.Sroot[i].Type == ondisk.TypeInode && h.Sroot[i].Key == 0 {
			h.Sroot[i] = ref
		}
	}
	buf := make([]byte, ondisk.HeaderSize)
	h.Encode(buf)
	_, err = dev.WriteAt(buf, set.Best.Off)
	return err
}

func store(dev *memdev.Device, ref *ondisk.Blockref, block []byte) error {
	ref.SetCheck(block)
	_, err := dev.WriteAt(block, int64(ref.Off()))
	return err
}

// ChangeAsOthersDo edits a file's inode on dev as a system would that knows
// nothing of clusters: the state entry does not follow. The volume is closed
// properly.
func ChangeAsOthersDo(ctx context.Context, dev *memdev.Device) error {
	v, err := chain.Open(ctx, []ondisk.Device{dev}, chain.Options{})
	if err != nil {
		return err
	}
	err = changeOne(ctx, v)
	err = errors.Join(err, v.Close())
	dev.Reopen()
	return err
}

func changeOne(ctx context.Context, v *chain.Volume) error {
	txn, err := v.Begin(ctx)
	if err != nil {
		return err
	}
	view, err := txn.View(ctx, Label)
	if err != nil {
		txn.Abort()
		return err
	}
	root, _, err := view.Inode(ctx, ondisk.InumRoot)
	T := view.T() + 5
	view.Release()
	if err == nil {
		meta := root.Meta
		meta.Mode ^= 0o001
		err = txn.Apply(ctx, Label, &chain.Batch{T: T, Changes: []chain.Change{{Inum: ondisk.InumRoot, Kind: chain.KindInode, Inode: &meta}}})
	}
	if err != nil {
		txn.Abort()
		return fmt.Errorf("foreign change: %w", err)
	}
	return txn.Commit(ctx)
}
