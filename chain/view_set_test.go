package chain

import (
	"context"
	"errors"
	"testing"

	"github.com/anvilfs/anvilfs/ondisk"
)

// A set of inodes is what one by one they are, whatever is asked for with them.
func TestInodeSet(t *testing.T) {
	ctx, p := context.Background(), newMemPFS(t, newMemBlocks(), "P")
	const first, count = 1024, 3000
	b := &Batch{T: 100}
	for i := range uint64(count) {
		meta := fileMeta(first + i)
		meta.Mode = uint32(i)
		b.Changes = append(b.Changes, Change{Inum: meta.Inum, Kind: KindInode, Inode: meta})
	}
	p.mustApply(t, b)
	gone := &Batch{T: 101}
	for i := uint64(5); i < count; i += 10 {
		gone.Changes = append(gone.Changes, Change{Inum: first + i, Kind: KindInode, Delete: true})
	}
	p.mustApply(t, gone)
	v := p.view(t)
	for step := uint64(1); step < 700; step = step*3 + 1 {
		var inums []uint64
		want := make(map[uint64]uint32)
		for i := uint64(0); i < count+50; i += step {
			inums = append(inums, first+i)
			if i < count && i%10 != 5 {
				want[first+i] = uint32(i)
			}
		}
		if _, _, err := v.Inode(ctx, first+step); err != nil { // one that is cached
			t.Fatal(err)
		}
		err := v.InodeSet(ctx, inums, func(rec *InodeRec) {
			if mode, ok := want[rec.Meta.Inum]; !ok || mode != rec.Meta.Mode {
				t.Errorf("step %d: inode %d with mode %d, want %d (%v)", step, rec.Meta.Inum, rec.Meta.Mode, mode, ok)
			}
			delete(want, rec.Meta.Inum)
		})
		if err != nil || len(want) > 0 {
			t.Errorf("step %d: %d inodes are missing: %v", step, len(want), err)
		}
	}
}

// Damage in a set names the inode.
func TestInodeSetDamage(t *testing.T) {
	ctx, p := context.Background(), wide(t)
	v := p.view(t)
	rec, ok, err := v.Inode(ctx, 1025)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	p.blocks[rec.Ref.Off()][100] ^= 1
	p.cache = newTableCache(0)
	err = p.view(t).InodeSet(ctx, []uint64{1024, 1025}, func(*InodeRec) {})
	var node *NodeError
	if !errors.As(err, &node) || !errors.Is(err, ondisk.ErrCorrupt) || node.Key != 1025 {
		t.Errorf("got %v, want damage of inode 1025", err)
	}
}
