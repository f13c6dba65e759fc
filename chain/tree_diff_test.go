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
	dst.reads, dst.cache = 0, newTableCache(0)
	p.cache = dst.cache
	stats := resync(t, p, dst, 100, 101, DiffLimits{})
	if stats.Changes != 2 || stats.Tables > 8 || dst.reads > 40 {
		t.Fatalf("%+v with %d reads for two changes", stats, dst.reads)
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
			blocks := *dst.memBlocks
			blocks.blocks = own
			dst.memBlocks = &blocks
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
