package chain

import (
	"context"
	"errors"
	"slices"

	"github.com/anvilfs/anvilfs/ondisk"
)

// UniqueBytes counts the blocks that v reaches and none of others does, all of
// one volume: about what becomes free when v's PFS is deleted. It reads the
// tables of v that are not shared, and of the others those with the same keys.
//
// Blocks that have several places are looked for in all inodes that say they
// have some; of what v may have from an older snapshot, which says nothing, all
// of the others is looked through, once. Those that other writers shared under
// different keys count as unique.
func UniqueBytes(ctx context.Context, v *View, others []*View) (uint64, error) {
	u := &uniqueCount{reader: &v.reader}
	shared := v.root.Meta.SharedTid != 0
	var sets [][]ondisk.Blockref
	for _, o := range others {
		sets = append(sets, o.root.set)
		shared = shared || o.root.Meta.SharedTid != 0
	}
	if shared {
		u.data = make(map[uint64]uint64)
	}
	u.bytes = uint64(v.root.Ref.Size())
	err := u.array(ctx, rootOwner, v.root.set, sets, 0)
	for _, o := range others {
		if err == nil && len(u.data) > 0 && o.root.Meta.SharedTid != 0 {
			err = u.elsewhere(ctx, o)
		}
	}
	if err == nil {
		err = u.lenders(ctx, v, others)
	}
	return u.bytes, err
}

type uniqueCount struct {
	reader *treeReader
	bytes  uint64
	data   map[uint64]uint64 // size of each data block in bytes, by address; nil = each has one place
	lent   map[uint64]bool   // those that an inode of v may have from elsewhere
	shared ondisk.Tid        // of the inode whose blocks are counted
}

// array counts an array of v; others are the arrays of the same tree that may
// have some of its keys, tables among them not entered yet.
func (u *uniqueCount) array(ctx context.Context, o owner, refs []ondisk.Blockref, others [][]ondisk.Blockref, depth int) error {
	if depth == maxDepth {
		return errTooDeep
	}
	for i := range refs {
		ref := &refs[i]
		near, shared, err := u.narrow(ctx, o, ref, others)
		if err != nil {
			return err
		}
		if shared {
			continue
		}
		u.add(ref)
		switch ref.Type {
		case ondisk.TypeIndirect:
			kids, err := u.reader.table(ctx, o, ref)
			if err == nil {
				err = u.array(ctx, o, kids, near, depth+1)
			}
			if err != nil {
				return err
			}
		case ondisk.TypeInode:
			if err := u.inode(ctx, o, ref, near, depth); err != nil {
				return err
			}
		}
	}
	return nil
}

// add counts a block, once.
func (u *uniqueCount) add(ref *ondisk.Blockref) {
	if ref.DataOff == 0 {
		return
	}
	if u.data != nil && ref.Type == ondisk.TypeData {
		if u.data[ref.Off()] != 0 {
			return
		}
		u.data[ref.Off()] = uint64(ref.Size())
		if ref.MirrorTid <= u.shared {
			if u.lent == nil {
				u.lent = make(map[uint64]bool)
			}
			u.lent[ref.Off()] = true
		}
	}
	u.bytes += uint64(ref.Size())
}

// elsewhere takes off what o has under other keys.
func (u *uniqueCount) elsewhere(ctx context.Context, o *View) error {
	var failed error
	err := o.Inodes(ctx, 0, ondisk.DirBit, func(rec *InodeRec) bool {
		if rec.Meta.SharedTid == 0 {
			return true
		}
		failed = o.dataRefs(ctx, rec, 0, ondisk.DirBit, func(ref *ondisk.Blockref) (bool, error) {
			if ref.MirrorTid <= rec.Meta.SharedTid {
				u.bytes -= u.data[ref.Off()]
				delete(u.data, ref.Off())
			}
			return true, nil
		})
		return failed == nil
	})
	return errors.Join(err, failed)
}

// lenders takes off what the others have wherever it is.
func (u *uniqueCount) lenders(ctx context.Context, v *View, others []*View) error {
	for off := range u.lent {
		if u.data[off] == 0 {
			delete(u.lent, off)
		}
	}
	vol, ok := v.reader.src.(*Volume)
	if len(u.lent) == 0 || !ok {
		return nil
	}
	s := &treeScan{v: vol, visit: func(r *ondisk.Blockref) {
		if r.Type == ondisk.TypeData && u.lent[r.Off()] {
			u.bytes -= u.data[r.Off()]
			delete(u.lent, r.Off())
		}
	}}
	for _, o := range others {
		if len(u.lent) == 0 {
			return nil
		}
		if err := s.run(ctx, o.root.Ref); err != nil {
			return err
		}
	}
	return s.damage()
}

// inode counts what hangs below an inode that is not shared itself.
func (u *uniqueCount) inode(ctx context.Context, o owner, ref *ondisk.Blockref, near [][]ondisk.Blockref, depth int) error {
	rec, err := u.reader.inode(ctx, o, ref)
	if err != nil {
		return err
	}
	own := rec.owner(o)
	var sets [][]ondisk.Blockref
	for _, refs := range near {
		same := refs[search(refs, ref.Key):]
		if len(same) == 0 || same[0].Key != ref.Key || same[0].Type != ondisk.TypeInode {
			continue
		}
		other, err := u.reader.inode(ctx, o, &same[0])
		if err != nil {
			return err
		}
		if other.owner(o).kind == own.kind {
			sets = append(sets, other.set)
		}
	}
	was := u.shared
	defer func() { u.shared = was }()
	u.shared = rec.Meta.SharedTid
	return u.array(ctx, own, rec.set, sets, depth+1)
}

// narrow enters the tables of the others that are wider than ref, and reports
// whether one of them has ref's very block.
func (u *uniqueCount) narrow(ctx context.Context, o owner, ref *ondisk.Blockref, others [][]ondisk.Blockref) (near [][]ondisk.Blockref, shared bool, err error) {
	for _, refs := range others {
		for depth := 0; ; depth++ {
			refs = refs[search(refs, ref.Key):]
			end := slices.IndexFunc(refs, func(r ondisk.Blockref) bool { return r.Key > ref.LastKey() })
			if end >= 0 {
				refs = refs[:end]
			}
			if len(refs) == 0 {
				break
			}
			if r := &refs[0]; r.DataOff == ref.DataOff && r.Key == ref.Key && ref.DataOff != 0 {
				return nil, true, nil
			}
			r := &refs[0]
			if r.Type != ondisk.TypeIndirect || len(refs) > 1 || r.Key > ref.Key || r.LastKey() < ref.LastKey() {
				near = append(near, refs)
				break
			}
			if depth == maxDepth {
				return nil, false, errTooDeep
			}
			if refs, err = u.reader.table(ctx, o, r); err != nil {
				return nil, false, err
			}
		}
	}
	return near, false, nil
}
