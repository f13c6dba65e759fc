package chain

import (
	"cmp"
	"context"
	"slices"

	"github.com/anvilfs/anvilfs/ondisk"
)

// Fewer inodes than this are read one by one.
const aheadLeast = 4

// inodesAhead are inodes of one table that a batch is about to change or
// delete, read together: each alone would be a request of its own.
type inodesAhead map[uint64]*InodeRec

// load reads those of refs that ops are about, where they are not cached. What
// it cannot read is met again by who needs it.
func (in inodesAhead) load(ctx context.Context, r *treeReader, refs []ondisk.Blockref, ops []leafOp) {
	var want []ondisk.Blockref
	for i := range refs {
		ref := &refs[i]
		for len(ops) > 0 && ops[0].key < ref.Key {
			ops = ops[1:]
		}
		if len(ops) == 0 {
			break
		}
		if ref.Type == ondisk.TypeInode && ops[0].key == ref.Key && r.cachedInode(rootOwner, ref) == nil {
			want = append(want, *ref)
		}
	}
	if len(want) < aheadLeast {
		return
	}
	slices.SortFunc(want, func(a, b ondisk.Blockref) int { return cmp.Compare(a.Off(), b.Off()) })
	_ = r.src.readMany(ctx, want, func(i int, stored []byte) error {
		if rec, err := judgeInode(rootOwner, &want[i], stored); err == nil {
			in[want[i].Key] = rec
		}
		return nil
	})
}

// take returns the inode at ref and forgets it; nil if it was not read.
func (in inodesAhead) take(ref *ondisk.Blockref) *InodeRec {
	rec := in[ref.Key]
	delete(in, ref.Key)
	if rec == nil || rec.Ref != *ref {
		return nil
	}
	return rec
}
