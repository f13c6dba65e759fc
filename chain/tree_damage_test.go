package chain

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/anvilfs/anvilfs/ondisk"
)

// wide makes a file of many blocks and a directory of many entries.
func wide(t *testing.T) *memPFS {
	p, m := newMemPFS(t, newMemBlocks(), "P"), newMaker(t, 1)
	file := fileMeta(1025)
	file.Size = 1 << 40
	b := &Batch{T: 100, Changes: []Change{
		{Inum: 1024, Kind: KindInode, Inode: dirMeta(1024)},
		{Inum: 1025, Kind: KindInode, Inode: file},
		{Inum: 1026, Kind: KindInode, Inode: fileMeta(1026)},
		{Inum: 1026, Kind: KindData, Block: m.blocks[0]},
	}}
	for i := range uint64(300) {
		b.Changes = append(b.Changes, direntChange(1024, 1025, fmt.Sprint("entry", i)),
			Change{Inum: 1025, Kind: KindData, Key: i << 20, Block: m.blocks[i%16]})
	}
	p.mustApply(t, b)
	return p
}

// spoil flips a bit in the first table of an inode.
func spoil(t *testing.T, p *memPFS, inum uint64) ondisk.Blockref {
	t.Helper()
	rec, ok, err := p.view(t).Inode(context.Background(), inum)
	if err != nil || !ok || rec.set[0].Type != ondisk.TypeIndirect {
		t.Fatalf("inode %d has no table: %v", inum, err)
	}
	p.blocks[rec.set[0].Off()][300] ^= 4
	p.cache = newTableCache(1 << 20)
	return rec.set[0]
}

func TestDamageIsNamed(t *testing.T) {
	ctx, p := context.Background(), wide(t)
	ref := spoil(t, p, 1025)
	named := func(err error) {
		t.Helper()
		var node *NodeError
		if !errors.As(err, &node) || !errors.Is(err, ondisk.ErrCorrupt) || node.Inum != 1025 || node.Ref.DataOff != ref.DataOff {
			t.Errorf("got %v, want damage of inode 1025 at %#x", err, ref.Off())
		}
	}
	v := p.view(t)
	named(v.ReadData(ctx, 1025, ref.Key, make([]byte, 100)))
	named(v.DataRefs(ctx, 1025, 0, 1<<63, func(*ondisk.Blockref) bool { return true }))
	before := len(p.live)
	named(p.apply(&Batch{T: 101, Changes: []Change{{Inum: 1025, Kind: KindData, Key: ref.Key, Delete: true}}}))
	if len(p.live) != before {
		t.Error("blocks were dropped beside the damage")
	}
	// Others are as before.
	if _, ok, err := v.Lookup(ctx, 1024, "entry7"); !ok || err != nil {
		t.Errorf("lookup: %v %v", ok, err)
	}
}

// A damaged file can be removed; what its tables hid stays for bulkfree.
func TestDamageIsDeletable(t *testing.T) {
	p := wide(t)
	spoil(t, p, 1025)
	if err := p.apply(&Batch{T: 101, Changes: []Change{{Inum: 1025, Kind: KindInode, Delete: true}}}); err != nil {
		t.Fatal(err)
	}
	p.keep = true
	p.check(t)
}

func TestReadErrorIsNotDamage(t *testing.T) {
	p := wide(t)
	ref := spoil(t, p, 1025)
	delete(p.blocks, ref.Off())
	err := p.apply(&Batch{T: 101, Changes: []Change{{Inum: 1025, Kind: KindInode, Delete: true}}})
	if err == nil || errors.Is(err, ondisk.ErrCorrupt) {
		t.Fatalf("got %v: after a read error nothing may be forgotten", err)
	}
}

// One view serves many readers.
func TestViewConcurrent(t *testing.T) {
	ctx, p := context.Background(), wide(t)
	p.cache = newTableCache(40 << 10)
	v := p.view(t)
	var wg sync.WaitGroup
	for g := range 4 {
		v.Retain()
		wg.Go(func() {
			defer v.Release()
			buf := make([]byte, 1<<20)
			for i := range 60 {
				name := fmt.Sprint("entry", (i*7+g)%300)
				if _, ok, err := v.Lookup(ctx, 1024, name); !ok || err != nil {
					t.Errorf("lookup of %s: %v %v", name, ok, err)
				}
				if err := v.ReadData(ctx, 1025, uint64(i*50000), buf); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

func TestViewRelease(t *testing.T) {
	p, released := wide(t), 0
	v, err := newView(context.Background(), p, p.cache, p.ref, func() { released++ })
	if err != nil {
		t.Fatal(err)
	}
	v.Retain()
	v.Release()
	if released != 0 {
		t.Fatal("released under a holder")
	}
	v.Release()
	if released != 1 {
		t.Fatalf("released %d times", released)
	}
}

// A Touch stamps the tables of its keys, the inode and what leads to it, and
// leaves the others alone.
func TestTouchStampsTables(t *testing.T) {
	ctx, p := context.Background(), wide(t)
	p.mustApply(t, &Batch{T: 101, Touch: []Touch{{1024, 0, ^uint64(0)}, {1025, 0, 10}, {1026, 0, 10}, {7777, 0, 10}}})
	p.check(t)
	v := p.view(t)
	for inum := uint64(1024); inum <= 1026; inum++ {
		rec, ok, err := v.Inode(ctx, inum)
		if err != nil || !ok {
			t.Fatal(inum, err)
		}
		if rec.Ref.MirrorTid != 101 || rec.Ref.ModifyTid != 100 {
			t.Errorf("inode %d at %v/%v", inum, rec.Ref.MirrorTid, rec.Ref.ModifyTid)
		}
		for i := range rec.set {
			want := ondisk.Tid(101)
			if inum == 1025 && i > 0 || inum == 1026 {
				want = 100
			}
			if rec.set[i].MirrorTid != want {
				t.Errorf("inode %d: %v at %v, want %v", inum, &rec.set[i], rec.set[i].MirrorTid, want)
			}
		}
	}
}

// Symptom: a member whose charter could not be read was copied anew again and
// again: a full comparison saw equal references and left the block as it was.
func TestFullDiffReadsTarget(t *testing.T) {
	ctx := context.Background()
	src, dst := wide(t), wide(t)
	var ref ondisk.Blockref
	err := dst.view(t).DataRefs(ctx, 1026, 0, 1, func(r *ondisk.Blockref) bool { ref = *r; return false })
	if err != nil {
		t.Fatal(err)
	}
	bad := slices.Clone(dst.blocks[ref.Off()])
	bad[3] ^= 1
	dst.blocks[ref.Off()] = bad
	for _, c := range []struct {
		common ondisk.Tid
		want   int
	}{{0, 1}, {50, 0}} {
		var got []Change
		_, done, _, err := Diff(ctx, src.view(t), dst.view(t), c.common, Cursor{}, DiffLimits{},
			func(c Change) error { got = append(got, c); return nil }, func(Touch) error { return nil })
		if err != nil || !done || len(got) != c.want {
			t.Fatalf("above %v: %v, done %v, %d changes", c.common, err, done, len(got))
		}
		if c.want > 0 && (got[0].Inum != 1026 || got[0].Block == nil) {
			t.Errorf("%+v", got[0])
		}
	}
}
