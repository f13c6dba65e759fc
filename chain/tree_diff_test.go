package chain

import (
	"context"
	"fmt"
	"maps"
	"testing"

	"github.com/anvilfs/anvilfs/ondisk"
)

// resync brings dst to src's content in rounds of few changes.
func resync(t testing.TB, src, dst *memPFS, common, goal ondisk.Tid, limits DiffLimits) (total DiffStats) {
	t.Helper()
	ctx := context.Background()
	sv, dv := src.view(t), dst.view(t)
	var from Cursor
	for {
		b := &Batch{T: goal, Discard: true}
		next, done, stats, err := Diff(ctx, sv, dv, common, from, limits,
			func(c Change) error { b.Changes = append(b.Changes, c); return nil },
			func(x Touch) error { b.Touch = append(b.Touch, x); return nil })
		if err != nil {
			t.Fatal(err)
		}
		for i := 1; i < len(b.Changes); i++ {
			if compareChanges(&b.Changes[i-1], &b.Changes[i]) >= 0 {
				t.Fatalf("change %d is not in order", i)
			}
		}
		total.Tables += stats.Tables
		total.Leaves += stats.Leaves
		total.Changes += stats.Changes
		b.Sort()
		if err := dst.apply(b); err != nil {
			t.Fatal(err)
		}
		if limits.Shared != nil {
			limits.Shared.Applied()
		}
		if done {
			return total
		}
		if limits.Changes > 0 && stats.Changes < limits.Changes {
			t.Fatalf("stopped after %d changes", stats.Changes)
		}
		from = next
	}
}

// equalLeaves compares dst, structure included, with what src should hold.
func equalLeaves(t testing.TB, src, dst *memPFS) {
	t.Helper()
	dst.model = maps.Clone(src.model)
	dst.check(t)
}

// fork makes two histories out of one: src goes on in epoch 2, dst has a tail
// of its own in epoch 1. mid is src in between.
func fork(t testing.TB, seed uint64, tail bool) (src, mid, dst *memPFS, midTid ondisk.Tid) {
	base, m := newMemPFS(t, newMemBlocks(), "SRC"), newMaker(t, seed)
	tid := ondisk.MakeTid(1, 0)
	for range 25 {
		tid++
		base.mustApply(t, m.batch(tid, 1+m.rnd.IntN(250)))
	}
	src, dst = base.clone(), base.clone()
	sm, dm := m.clone(seed+1000), m.clone(seed+2000)
	if tail {
		for i := range 4 {
			dst.mustApply(t, dm.batch(tid+ondisk.Tid(i)+1, 1+dm.rnd.IntN(40)))
		}
	}
	for i := range 8 {
		midTid = ondisk.MakeTid(2, uint32(i))
		src.mustApply(t, sm.batch(midTid, 1+sm.rnd.IntN(60)))
		if i == 3 {
			mid = src.clone()
		}
	}
	return src, mid, dst, ondisk.MakeTid(2, 3)
}

func TestDiffConverges(t *testing.T) {
	for seed := range uint64(30) {
		t.Run(fmt.Sprint("seed", seed), func(t *testing.T) {
			src, mid, dst, midTid := fork(t, seed, seed%3 != 0)
			common, goal := ondisk.MakeTid(1, 25), src.view(t).T()
			limits := []DiffLimits{{}, {Changes: 7}, {Bytes: 9000}}[seed%3]
			pruned := resync(t, src, dst, common, goal, limits)
			equalLeaves(t, src, dst)
			if again := resync(t, src, dst, goal, goal, limits); again.Changes > 0 || again.Tables > 0 {
				t.Fatalf("seed %d: equal trees differ: %+v", seed, again)
			}

			// dst as the source of a node that stopped half way: what dst did
			// not receive because it had it, or had never had it, must show.
			late := mid.clone()
			resync(t, dst, late, midTid, goal, limits)
			equalLeaves(t, src, late)

			full := mid.clone()
			if all := resync(t, src, full, 0, goal, DiffLimits{}); all.Leaves <= pruned.Leaves && seed%3 != 2 {
				t.Fatalf("seed %d: pruning compared %d leaves of %d", seed, pruned.Leaves, all.Leaves)
			}
			equalLeaves(t, src, full)
		})
	}
}

func TestDiffOfLittleIsLittle(t *testing.T) {
	p, m := newMemPFS(t, newMemBlocks(), "SRC"), newMaker(t, 5)
	b := &Batch{T: 100}
	for i := range uint64(20000) {
		b.Changes = append(b.Changes,
			Change{Inum: 1024 + i, Kind: KindInode, Inode: fileMeta(1024 + i)},
			Change{Inum: 1024 + i, Kind: KindData, Block: m.blocks[0]},
			direntChange(1, 1024+i, fmt.Sprint("file", i)))
	}
	p.mustApply(t, b)
	dst := p.clone()
	p.mustApply(t, &Batch{T: 101, Changes: []Change{
		{Inum: 7000, Kind: KindInode, Inode: fileMeta(7000)},
		{Inum: 7000, Kind: KindData, Block: m.blocks[1]},
	}})
	dst.cache = newTableCache(0)
	p.cache = dst.cache
	dst.reads.Store(0)
	stats := resync(t, p, dst, 100, 101, DiffLimits{})
	if n := dst.reads.Load(); stats.Changes != 2 || stats.Tables > 8 || n > 40 {
		t.Fatalf("%+v with %d reads for two changes", stats, n)
	}
	equalLeaves(t, p, dst)
}

// A damaged target is mended from the source.
func TestDiffMendsDamage(t *testing.T) {
	src, _, dst, _ := fork(t, 77, true)
	damagedRefs := 0
	set := dst.view(t).root.set
	for i := range set {
		if r := &set[i]; r.Type == ondisk.TypeIndirect {
			bad := append([]byte(nil), dst.blocks[r.Off()]...)
			bad[200] ^= 1
			own := maps.Clone(dst.blocks)
			own[r.Off()] = bad
			dst.memBlocks = &memBlocks{blocks: own, live: dst.live, next: dst.next, keep: true}
			damagedRefs++
		}
	}
	if damagedRefs == 0 {
		t.Fatal("no table to damage")
	}
	dst.cache = newTableCache(1 << 20)
	src.next += 1 << 30 // both write from here on
	b := &Batch{T: ondisk.MakeTid(3, 0), Changes: []Change{direntChange(1, 1024, "x")}}
	if err := dst.apply(b); err == nil {
		t.Fatal("damage went unnoticed")
	}
	resync(t, src, dst, 0, ondisk.MakeTid(3, 0), DiffLimits{Changes: 50})
	equalLeaves(t, src, dst)
}

// What src made and removed while dst was away leaves no trace in dst's
// leaves. A third node that was away in between still has it, and must lose it
// when dst is its source: the stamps tell.
func TestDiffStampsWhatNeverWas(t *testing.T) {
	for _, limits := range []DiffLimits{{}, {Changes: 1}} {
		base := newMemPFS(t, newMemBlocks(), "SRC")
		m := newMaker(t, 3)
		b := &Batch{T: 100}
		for i := range uint64(3000) {
			b.Changes = append(b.Changes,
				Change{Inum: 1024 + 2*i, Kind: KindInode, Inode: fileMeta(1024 + 2*i)},
				direntChange(1, 1024, fmt.Sprint("file", i)),
				Change{Inum: 1024, Kind: KindData, Key: i << 18, Block: m.blocks[0]})
		}
		base.mustApply(t, b)
		src, dst := base.clone(), base.clone()
		passing := []Change{
			{Inum: 4025, Kind: KindInode, Inode: fileMeta(4025)},
			{Inum: 1024, Kind: KindData, Key: 900<<18 + 1<<16, Block: m.blocks[1]},
			{Inum: 1026, Kind: KindData, Key: 1 << 16, Block: m.blocks[1]}, // in a blockset
			direntChange(1, 1024, "passing"),
		}
		src.mustApply(t, &Batch{T: 101, Changes: passing})
		mid := src.clone()
		gone := []Change{
			// In the table behind the one of 4025: there the limit stops the walk.
			{Inum: 4098, Kind: KindInode, Inode: fileMeta(4098)},
			{Inum: 4100, Kind: KindInode, Inode: fileMeta(4100)},
			{Inum: 1024 + 10, Kind: KindInode, Inode: fileMeta(1024 + 10)},
		}
		for _, c := range passing {
			gone = append(gone, Change{Inum: c.Inum, Kind: c.Kind, Key: c.Key, Delete: true})
		}
		src.mustApply(t, &Batch{T: 102, Changes: gone})
		resync(t, src, dst, 100, 102, limits)
		equalLeaves(t, src, dst)
		resync(t, dst, mid, 101, 102, limits)
		equalLeaves(t, src, mid)
	}
}

// dst lost the tables that lay around the only one that both still have.
func TestDiffSeesWhatIsAroundATable(t *testing.T) {
	base, m := newMemPFS(t, newMemBlocks(), "SRC"), newMaker(t, 3)
	b := &Batch{T: 100, Changes: []Change{{Inum: 1024, Kind: KindInode, Inode: fileMeta(1024)}}}
	const dense = 128 * ondisk.LogicalBlock
	for i := range uint64(6 * 128) {
		b.Changes = append(b.Changes, Change{Inum: 1024, Kind: KindData, Key: i * ondisk.LogicalBlock, Block: m.blocks[0]})
	}
	base.mustApply(t, b)
	src, dst := base.clone(), base.clone()
	dst.mustApply(t, &Batch{T: 101, Changes: []Change{
		{Inum: 1024, Kind: KindData, Key: 0, Delete: true, To: dense},
		{Inum: 1024, Kind: KindData, Key: 2 * dense, Delete: true, To: 6 * dense},
	}})
	src.mustApply(t, &Batch{T: ondisk.MakeTid(2, 1)})
	stats := resync(t, src, dst, 100, ondisk.MakeTid(2, 1), DiffLimits{})
	equalLeaves(t, src, dst)
	if stats.Leaves > 5*128+10 {
		t.Fatalf("%d leaves compared: the common table was not passed over", stats.Leaves)
	}
}
