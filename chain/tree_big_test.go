package chain

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/anvilfs/anvilfs/ondisk"
)

// A tableMeter counts the tables that a merge has taken apart and not written.
type tableMeter struct {
	*memPFS
	open, peak int
}

func (m *tableMeter) dropBlock(ref *ondisk.Blockref) {
	if ref.Type == ondisk.TypeIndirect {
		m.open++
		m.peak = max(m.peak, m.open)
	}
	m.memPFS.dropBlock(ref)
}

func (m *tableMeter) writeBlock(ref *ondisk.Blockref, block []byte, key uint64) error {
	if ref.Type == ondisk.TypeIndirect {
		m.open = max(0, m.open-1)
	}
	return m.memPFS.writeBlock(ref, block, key)
}

// A directory of many entries, each with its inode, as one copying a tree makes it.
func TestTreeHugeDirectory(t *testing.T) {
	const total, perBatch = 200_000, 20_000
	p := newMemPFS(t, newMemBlocks(), "P")
	p.mustApply(t, &Batch{T: 99, Changes: []Change{{Inum: 1024, Kind: KindInode, Inode: dirMeta(1024)}}})
	p.model = make(model) // checked below by other means
	name := func(i uint64) string { return fmt.Sprintf("file-%06d.dat", i) }
	var worst time.Duration
	for first := uint64(0); first < total; first += perBatch {
		b := &Batch{T: 100 + ondisk.Tid(first)}
		for i := first; i < first+perBatch; i++ {
			b.Changes = append(b.Changes, direntChange(1024, 1025+i, name(i)),
				Change{Inum: 1025 + i, Kind: KindInode, Inode: fileMeta(1025 + i)})
		}
		b.Sort()
		b.Changes = dropTwins(b.Changes)
		start := time.Now()
		meter := &tableMeter{memPFS: p}
		ref, err := applyTree(context.Background(), p, p.cache, meter, &p.ref, b)
		if err != nil {
			t.Fatal(err)
		}
		// Entries are all over the directory: every table changes.
		if meter.peak > 2*tableMax {
			t.Fatalf("%d tables in memory at once", meter.peak)
		}
		p.ref = ref
		worst = max(worst, time.Since(start))
	}
	t.Logf("slowest batch of %d files: %v; 4K/16K tables and inodes: %d blocks", perBatch, worst, len(p.live))
	if got := p.ref.InodeCount(); got != total+1 {
		t.Fatalf("%d inodes, want %d", got, total+1)
	}
	c := &checker{p: p, found: make(model), seen: make(map[uint64]ondisk.Blockref)}
	if err := c.inode(&p.ref, &p.ref, true); err != nil {
		t.Fatal(err)
	}
	if len(c.seen) != len(p.live) {
		t.Fatalf("%d blocks reachable, %d in use", len(c.seen), len(p.live))
	}
	if c.depth > 6 {
		t.Fatalf("tables nested %d deep", c.depth)
	}
	v := p.view(t)
	for i := uint64(0); i < total; i += 997 {
		d, ok, err := v.Lookup(context.Background(), 1024, name(i))
		if err != nil || !ok || d.Inum != 1025+i {
			t.Fatalf("lookup of %q: %v %v %v", name(i), d, ok, err)
		}
	}
	if n := testing.AllocsPerRun(100, func() { v.Inode(context.Background(), 5000) }); n > 0 {
		t.Fatalf("%v allocations for an inode in the cache", n)
	}
}

// dropTwins removes changes with the key of the one before: names that collide.
func dropTwins(changes []Change) []Change {
	out := changes[:0]
	for _, c := range changes {
		if n := len(out); n == 0 || compareChanges(&out[n-1], &c) != 0 {
			out = append(out, c)
		}
	}
	return out
}

// A file of 100 GiB with blocks here and there, read and cut.
func TestTreeSparseFile(t *testing.T) {
	ctx, rnd := context.Background(), rand.New(rand.NewPCG(7, 7))
	p, m := newMemPFS(t, newMemBlocks(), "P"), newMaker(t, 7)
	const size = 100 << 30
	meta := fileMeta(1024)
	meta.Size = size
	p.mustApply(t, &Batch{T: 100, Changes: []Change{{Inum: 1024, Kind: KindInode, Inode: meta}}})
	for i := range 20 {
		b := &Batch{T: 101 + ondisk.Tid(i)}
		for range 200 {
			b.Changes = append(b.Changes, Change{
				Inum: 1024, Kind: KindData, Block: m.blocks[rnd.IntN(len(m.blocks))],
				Key: rnd.Uint64N(size/ondisk.LogicalBlock) * ondisk.LogicalBlock,
			})
		}
		b.Sort()
		b.Changes = dropTwins(b.Changes)
		p.mustApply(t, b)
	}
	if d := p.check(t).depth; d > 4 {
		t.Fatalf("tables nested %d deep", d)
	}
	p.mustApply(t, &Batch{T: 199, Changes: []Change{
		{Inum: 1024, Kind: KindData, Key: 90 << 30, Delete: true, To: 1 << 62},
		{Inum: 1024, Kind: KindData, Key: 90 << 30, Block: m.blocks[0]},
		{Inum: 1024, Kind: KindData, Key: 95 << 30, Block: m.blocks[1]},
	}})
	p.check(t)
	p.mustApply(t, &Batch{T: 200, Changes: []Change{{Inum: 1024, Kind: KindData, Key: 1 << 30, Delete: true, To: 1 << 62}}})
	p.check(t)
	n := 0
	err := p.view(t).DataRefs(ctx, 1024, 1<<30, 1<<63, func(*ondisk.Blockref) bool { n++; return true })
	if err != nil || n != 0 {
		t.Fatalf("%d blocks behind the cut, %v", n, err)
	}
}

func TestViewReadData(t *testing.T) {
	ctx := context.Background()
	for seed := range uint64(20) {
		rnd := rand.New(rand.NewPCG(seed, 3))
		p := newMemPFS(t, newMemBlocks(), "P")
		want := make([]byte, 40*ondisk.LogicalBlock)
		meta := fileMeta(1024)
		meta.Size = uint64(len(want) - rnd.IntN(3*ondisk.LogicalBlock))
		b := &Batch{T: 100, Changes: []Change{{Inum: 1024, Kind: KindInode, Inode: meta}}}
		for i := range 40 {
			if rnd.IntN(4) == 0 {
				continue
			}
			part := want[i*ondisk.LogicalBlock:][:1+rnd.IntN(ondisk.LogicalBlock)]
			for j := range part {
				part[j] = byte(j / 7 * (i + 1))
			}
			part[0] = 1
			comp := []ondisk.CompMethod{ondisk.CompNone, ondisk.CompLZ4, ondisk.CompZlib}[rnd.IntN(3)]
			blk, _, err := ondisk.EncodeData(part, uint8(comp), uint8(ondisk.CheckXXHash64))
			if err != nil {
				t.Fatal(err)
			}
			b.Changes = append(b.Changes, Change{Inum: 1024, Kind: KindData, Key: uint64(i) * ondisk.LogicalBlock, Block: blk})
		}
		p.mustApply(t, b)
		clear(want[meta.Size:])
		v := p.view(t)
		for range 50 {
			off := rnd.IntN(len(want))
			got := make([]byte, rnd.IntN(len(want)-off+ondisk.LogicalBlock))
			for i := range got {
				got[i] = 0xEE
			}
			if err := v.ReadData(ctx, 1024, uint64(off), got); err != nil {
				t.Fatal(err)
			}
			exp := make([]byte, len(got))
			copy(exp, want[off:])
			if !bytes.Equal(got, exp) {
				t.Fatalf("seed %d: bytes [%d, %d) differ", seed, off, off+len(got))
			}
		}
	}
}

func TestViewReadInline(t *testing.T) {
	p := newMemPFS(t, newMemBlocks(), "P")
	meta := fileMeta(1024)
	meta.OpFlags, meta.Size = ondisk.OpDirectData, 5
	p.mustApply(t, &Batch{T: 100, Changes: []Change{{Inum: 1024, Kind: KindInode, Inode: meta, Inline: []byte("hello")}}})
	got := bytes.Repeat([]byte{0xEE}, 8)
	if err := p.view(t).ReadData(context.Background(), 1024, 1, got); err != nil || string(got) != "ello\x00\x00\x00\x00" {
		t.Fatalf("%q, %v", got, err)
	}

	// To blocks and back: content follows, nothing is left over.
	m := newMaker(t, 1)
	plain := fileMeta(1024)
	plain.Size = 1000
	p.mustApply(t, &Batch{T: 101, Changes: []Change{
		{Inum: 1024, Kind: KindInode, Inode: plain},
		{Inum: 1024, Kind: KindData, Block: m.blocks[0]},
		{Inum: 1024, Kind: KindData, Key: 1 << 30, Block: m.blocks[1]},
	}})
	p.check(t)
	p.mustApply(t, &Batch{T: 102, Changes: []Change{
		{Inum: 1024, Kind: KindInode, Inode: meta, Inline: []byte("again")},
		{Inum: 1024, Kind: KindData, Delete: true, To: 1 << 40},
	}})
	p.check(t)
}

func BenchmarkApplyCreates(b *testing.B) {
	m := newMaker(b, 1)
	rnd := rand.New(rand.NewPCG(1, 1))
	blk := encode(b, rnd, 4096)
	_ = m
	for range b.N {
		b.StopTimer()
		p := newMemPFS(b, newMemBlocks(), "P")
		batch := &Batch{T: 100}
		batch.Changes = append(batch.Changes, Change{Inum: 1024, Kind: KindInode, Inode: dirMeta(1024)})
		for i := range uint64(20000) {
			batch.Changes = append(batch.Changes, direntChange(1024, 1025+i, fmt.Sprint("f", i)),
				Change{Inum: 1025 + i, Kind: KindInode, Inode: fileMeta(1025 + i)},
				Change{Inum: 1025 + i, Kind: KindData, Block: blk})
		}
		batch.Sort()
		batch.Changes = dropTwins(batch.Changes)
		b.StartTimer()
		if _, err := applyTree(context.Background(), p, p.cache, p, &p.ref, batch); err != nil {
			b.Fatal(err)
		}
	}
}
