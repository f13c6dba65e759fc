package chain

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/faultdev"
)

// kib is a bitmap model of a volume: who has each KiB.
type kib map[uint64]int

func (m kib) take(t *testing.T, fm *freemap, x extent, id int) {
	t.Helper()
	size := uint64(1) << x.radix
	align := size
	if size < ondisk.ChunkSize {
		align = ondisk.MinBlock // small blocks only keep inside a chunk
	}
	if x.off%align != 0 || x.off/ondisk.ChunkSize != (x.off+size-1)/ondisk.ChunkSize && size < ondisk.ChunkSize {
		t.Fatalf("%#x.%d is not aligned", x.off, x.radix)
	}
	if x.off < fm.v.geo.Load().beg || x.off%ondisk.ZoneSize < ondisk.ReservedSize || x.off+size > fm.v.geo.Load().total {
		t.Fatalf("%#x.%d is out of bounds", x.off, x.radix)
	}
	for off := x.off; off < x.off+size; off += ondisk.MinBlock {
		if other, ok := m[off]; ok {
			t.Fatalf("%#x.%d overlaps block %d", x.off, x.radix, other)
		}
		m[off] = id
	}
}

func (m kib) give(x extent) {
	for off := x.off; off < x.off+1<<x.radix; off += ondisk.MinBlock {
		delete(m, off)
	}
}

// sums recomputes what the freemap keeps.
func sums(t *testing.T, fm *freemap) {
	t.Helper()
	var free uint64
	for n := range fm.zoneCount() {
		z := fm.zone(n)
		var avail uint64
		for i := z.lo; i < z.hi; i++ {
			if e := &z.entries[i]; e.Avail != uint32(e.FreeChunks())*ondisk.ChunkSize {
				t.Fatalf("zone %d segment %d: avail %#x, %d chunks", n, i, e.Avail, e.FreeChunks())
			}
			avail += uint64(z.entries[i].Avail)
		}
		if avail != z.avail {
			t.Fatalf("zone %d: avail %#x, sum %#x", n, z.avail, avail)
		}
		free += avail
	}
	if free != fm.usable {
		t.Fatalf("usable %#x, sum %#x", fm.usable, free)
	}
}

func TestAllocatorModel(t *testing.T) {
	for seed := range uint64(4) {
		v := openImage(t, newImage(t, []int64{64 << 20, 1<<30 + 72<<20}[seed%2]), Options{})
		fm, m, rnd := v.fm, kib{}, rand.New(rand.NewPCG(seed, 1))
		start := fm.usable
		var held []extent
		types := []ondisk.BlockType{ondisk.TypeInode, ondisk.TypeIndirect, ondisk.TypeData, ondisk.TypeDirent}
		full := 0
		for i := range 40_000 {
			switch {
			case len(held) > 0 && rnd.IntN(100) < 30+20*(i/4000%2):
				k := rnd.IntN(len(held))
				x := held[k]
				held = slices.Delete(held, k, k+1)
				m.give(x)
				fm.give(x.off, x.radix)
			case rnd.IntN(200) == 0:
				fm.seal()
			default:
				typ, radix := types[rnd.IntN(4)], uint8(10)
				if typ == ondisk.TypeData || typ == ondisk.TypeIndirect {
					radix = uint8(10 + rnd.IntN(7))
				}
				off, err := fm.allocate(typ, radix)
				if errors.Is(err, ErrNoSpace) {
					full++
					continue
				} else if err != nil {
					t.Fatal(err)
				}
				x := extent{off, radix}
				m.take(t, fm, x, i)
				held = append(held, x)
			}
		}
		sums(t, fm)
		if seed%2 == 0 && full == 0 {
			t.Error("the small volume never was full")
		}
		for _, x := range held {
			fm.give(x.off, x.radix)
		}
		for range 4 * maxOpen {
			fm.seal()
		}
		fm.undoOpen()
		for _, x := range fm.alloc.emptied {
			for off := x.beg; off < x.end; off += ondisk.ChunkSize {
				z, seg, c := fm.place(off)
				fm.setChunks(z, seg, c, ondisk.ChunkRadix, ondisk.ChunkFree)
			}
		}
		sums(t, fm)
		if fm.usable != start {
			t.Errorf("seed %d: %d bytes lost", seed, start-fm.usable)
		}
		for _, z := range fm.zones {
			for i := z.lo; i < z.hi; i++ {
				if e := &z.entries[i]; e.Class != 0 || e.Linear != 0 || e.Avail != ondisk.SegmentSize {
					t.Fatalf("segment %d is not as new: %+v", i, e)
				}
			}
		}
	}
}

// All of a volume can be used, down to the reserve, and the reserve by those
// who may. An error leaves the volume as it was.
func TestNoSpace(t *testing.T) {
	l := newLife(t, 3, 64<<20)
	block := encode(t, l.m.rnd, ondisk.LogicalBlock)
	b := &Batch{T: l.tid + 1, Changes: []Change{{Inum: 5000, Kind: KindInode, Inode: fileMeta(5000)}}}
	for i := range uint64(1024) {
		b.Changes = append(b.Changes, Change{Inum: 5000, Kind: KindData, Key: i * ondisk.LogicalBlock, Block: block})
	}
	before := l.v.Space()
	if err := commitBatch(l.v, "DATA", b); !errors.Is(err, ErrNoSpace) || errors.Is(err, ErrVolumeFailed) {
		t.Fatalf("64 MiB into less: %v", err)
	}
	if after := l.v.Space(); after.Free+after.Pending != before.Free+before.Pending {
		t.Errorf("space %+v, %+v before", after, before)
	}
	fits := (before.Avail() - 1<<20) / ondisk.LogicalBlock
	b.Changes = b.Changes[:1+fits]
	l.must(commitBatch(l.v, "DATA", b))
	mustCheck(t, l.dev)
	// Overwriting needs room for old and new; a few blocks at a time go on.
	for round := range ondisk.Tid(30) {
		part := &Batch{T: l.tid + 2 + round}
		for i := range uint64(4) {
			part.Changes = append(part.Changes, Change{Inum: 5000, Kind: KindData, Key: (uint64(round)*4 + i) * ondisk.LogicalBlock, Block: block})
		}
		err := commitBatch(l.v, "DATA", part)
		if errors.Is(err, ErrNoSpace) {
			l.must(l.v.DrainFrees(bg))
			err = commitBatch(l.v, "DATA", part)
		}
		l.must(err)
	}
	fill := l.tid + 100
	for i := 0; ; i++ {
		err := commitBatch(l.v, "DATA", &Batch{T: fill + ondisk.Tid(i), Changes: []Change{
			{Inum: 6000 + uint64(i), Kind: KindInode, Inode: fileMeta(6000 + uint64(i))},
			{Inum: 6000 + uint64(i), Kind: KindData, Block: block},
		}})
		if errors.Is(err, ErrNoSpace) && l.v.Space().Pending > 0 {
			l.must(l.v.DrainFrees(bg))
			continue
		}
		if errors.Is(err, ErrNoSpace) {
			break
		}
		l.must(err)
	}
	for i := 0; ; i++ {
		err := commitBatch(l.v, "DATA", &Batch{T: fill + 3000 + ondisk.Tid(i), Changes: []Change{
			{Inum: 9000 + uint64(i), Kind: KindInode, Inode: fileMeta(9000 + uint64(i))},
		}})
		if errors.Is(err, ErrNoSpace) {
			break
		}
		l.must(err)
	}
	// Full for all but those who free.
	del := &Batch{T: fill + 4000, Changes: []Change{{Inum: 5000, Kind: KindInode, Delete: true}}}
	if err := commitBatch(l.v, "DATA", del); !errors.Is(err, ErrNoSpace) {
		t.Errorf("the reserve is for everyone: %v", err)
	}
	l.must(l.txn(func(t *Txn) error {
		t.UseReserve()
		return t.Apply(bg, "DATA", &Batch{T: fill + 5000, Changes: []Change{{Inum: 5000, Kind: KindInode, Delete: true}}})
	}))
	l.must(l.v.DrainFrees(bg))
	if s := l.v.Space(); s.Avail() < fits*ondisk.LogicalBlock {
		t.Errorf("space %+v after deleting %d blocks", s, fits)
	}
	mustCheck(t, l.dev)
}

// The tree of nodes and leaves, grown in random order.
func TestFreemapGrowth(t *testing.T) {
	for seed := range uint64(20) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		fm := &freemap{root: fmNode{level: 6}}
		var zones []uint64
		for range 600 {
			n := rnd.Uint64N(4 << (2 * (seed % 8)))
			if fm.find(n) != nil {
				continue
			}
			fm.insert(&fm.root, &fmElem{ref: newFreemapRef(ondisk.TypeFreemapLeaf, 1, n*ondisk.ZoneSize)})
			zones = append(zones, n)
		}
		checkNode(t, &fm.root, 0, ^uint64(0))
		for _, n := range zones {
			if e := fm.find(n); e == nil || e.ref.Key != n*ondisk.ZoneSize {
				t.Fatalf("zone %d is lost", n)
			}
		}
	}
	// Five leaves: the example of the format.
	fm := &freemap{root: fmNode{level: 6}}
	for n := range uint64(5) {
		fm.insert(&fm.root, &fmElem{ref: newFreemapRef(ondisk.TypeFreemapLeaf, 1, n*ondisk.ZoneSize)})
	}
	if k := fm.root.kids; len(k) != 1 || k[0].ref.KeyBits != 38 || k[0].ref.Key != 0 || len(k[0].node.kids) != 5 {
		t.Errorf("five leaves make %d elements", len(k))
	}
}

func checkNode(t *testing.T, n *fmNode, lo, hi uint64) {
	limit := ondisk.FreemapRefs
	if n.level == 6 {
		limit = ondisk.InodeRefs
	}
	if len(n.kids) > limit {
		t.Fatalf("%d elements at level %d", len(n.kids), n.level)
	}
	for i, e := range n.kids {
		if e.ref.Key < lo || e.ref.LastKey() > hi || i > 0 && n.kids[i-1].ref.LastKey() >= e.ref.Key {
			t.Fatalf("%v is out of place", &e.ref)
		}
		if e.node != nil {
			checkNode(t, e.node, e.ref.Key, e.ref.LastKey())
		}
	}
}

// A volume of many zones: leaves below nodes, made, rewritten and read again.
func TestManyZones(t *testing.T) {
	l := newLife(t, 4, 280<<30)
	for i := range 12 {
		for typ := range l.v.fm.alloc.at {
			l.v.fm.alloc.at[typ] = uint64((i*37)%280) * ondisk.ZoneSize
		}
		l.fill(2)
		mustCheck(t, l.dev)
	}
	l.must(l.reopen())
	l.fill(1)
	_, err := l.v.Bulkfree(bg, BulkfreeOptions{})
	l.must(err)
	mustCheck(t, l.dev)
	checkView(t, l.v, "DATA", l.models["DATA"])
}

// Eight copies of a freemap block are used in turn.
func TestFreemapRotation(t *testing.T) {
	l := newLife(t, 6, 64<<20)
	l.fill(1)
	last := freemapCopy(&l.v.hdr.Freemap[0])
	for range 20 {
		l.fill(1)
		now := freemapCopy(&l.v.hdr.Freemap[0])
		if now != (last+1)%ondisk.FreemapCopies {
			t.Fatalf("copy %d after %d", now, last)
		}
		last = now
	}
}

// Once a write failed, no other is begun, early ones of large transactions
// included.
func TestNothingAfterFailure(t *testing.T) {
	dev := faultdev.New(newImage(t, 1<<30), faultdev.Rule{Do: faultdev.Fail, On: faultdev.Write, Beg: 64 << 20})
	v := openImage(t, dev, Options{})
	block := encode(t, newMaker(t, 1).rnd, ondisk.LogicalBlock)
	b := &Batch{T: ondisk.MakeTid(1, 1), Changes: []Change{{Inum: 5000, Kind: KindInode, Inode: fileMeta(5000)}}}
	for i := range uint64(800) {
		b.Changes = append(b.Changes, Change{Inum: 5000, Kind: KindData, Key: i * ondisk.LogicalBlock, Block: block})
	}
	if err := commitBatch(v, "DATA", b); !errors.Is(err, ErrVolumeFailed) {
		t.Fatal(err)
	}
	if n := dev.Count(faultdev.Write); n > maxWriters {
		t.Errorf("%d writes, at most %d can have been in flight", n, maxWriters)
	}
}

// A commit of little writes little.
func TestSmallCommitIsSmall(t *testing.T) {
	l := newLife(t, 8, 8<<30)
	l.fill(20)
	dev := faultdev.New(l.dev)
	l.v.geo.Load().devs[0], l.v.slots.dev = dev, dev
	tx, err := l.v.Begin(bg)
	l.must(err)
	l.must(tx.Apply(bg, "DATA", &Batch{T: l.tid + 1, Changes: []Change{{Inum: 7777, Kind: KindInode, Inode: fileMeta(7777)}}}))
	l.must(tx.Commit(bg))
	s := tx.Stats()
	if dev.Count(faultdev.Flush) != 2 {
		t.Errorf("%d flushes", dev.Count(faultdev.Flush))
	}
	if total := s.Bytes + s.Freemap + s.Header; total > 152<<10 || s.Freemap != 32<<10 || s.Header > 64<<10 || s.Writes > 8 {
		t.Errorf("%d bytes: %+v", total, s)
	}
}
