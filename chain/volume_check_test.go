package chain

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"

	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/memdev"
)

var bg = context.Background()

// atHeader is a volume that shows the state of one given header.
func atHeader(dev ondisk.Device, hdr *ondisk.VolumeHeader) *Volume {
	v := &Volume{hdr: hdr, log: slog.New(slog.DiscardHandler), cache: newTableCache(0)}
	v.geo.Store(&geometry{
		devs: []ondisk.Device{dev}, loff: []uint64{0, hdr.Size()},
		total: hdr.Size(), beg: hdr.AllocatorBeg, grain: pageLen,
	})
	return v
}

// checkImage looks at an image as a checker would: the trees of all slots are
// intact, data included; in the newest the freemap fits the tree and its sums
// are exact. It returns the bytes that the newest tree reaches, in chunks.
func checkImage(dev ondisk.Device) (reached uint64, err error) {
	slots, err := readSlots(dev)
	if err != nil {
		return 0, err
	}
	for i := range slots.slots {
		s := &slots.slots[i]
		if s.hdr == nil {
			continue
		}
		n, err := checkHeader(dev, s.hdr, i == slots.cur)
		if err != nil {
			return 0, fmt.Errorf("slot %d, tid %v (newest is %v): %w", i, s.hdr.MirrorTid, slots.header().MirrorTid, err)
		}
		if i == slots.cur {
			reached = n
		}
	}
	return reached, nil
}

func checkHeader(dev ondisk.Device, hdr *ondisk.VolumeHeader, newest bool) (uint64, error) {
	v := atHeader(dev, hdr)
	chunks := make(map[uint64]struct{})
	sizes := make(map[uint64]uint64) // block at each KiB
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	s := &treeScan{v: v, visit: func(r *ondisk.Blockref) {
		if r.MirrorTid > hdr.MirrorTid {
			bad("%v: tid %v above the header's", r, r.MirrorTid)
		}
		if at, ok := sizes[r.Off()]; ok && at == r.DataOff {
			return
		}
		for off := r.Off(); off < r.Off()+uint64(r.Size()); off += ondisk.MinBlock {
			if other, ok := sizes[off]; ok {
				bad("%v overlaps the block at %#x", r, other)
			}
			sizes[off] = r.DataOff
			if off >= hdr.AllocatorBeg {
				chunks[off&^(ondisk.ChunkSize-1)] = struct{}{}
			}
		}
		if _, err := v.readRaw(bg, r); err != nil {
			bad("%v: %w", r, err)
		}
	}}
	if err := s.run(bg, sroot(hdr)); err != nil {
		return 0, err
	}
	if err := s.damage(); err != nil {
		return 0, err
	}
	fm, err := newFreemap(bg, v, hdr)
	if err != nil {
		return 0, err
	}
	for n := range fm.zoneCount() {
		if fm.find(n) != nil && fm.zone(n).bad {
			bad("freemap leaf of zone %d is damaged", n)
		}
	}
	if newest {
		checkFreemap(fm, hdr, chunks, bad)
	}
	return uint64(len(chunks)) * ondisk.ChunkSize, errors.Join(errs...)
}

func checkFreemap(fm *freemap, hdr *ondisk.VolumeHeader, chunks map[uint64]struct{}, bad func(string, ...any)) {
	if hdr.WrittenByUs() && hdr.FreemapTid != hdr.MirrorTid {
		bad("freemap_tid %v, mirror_tid %v", hdr.FreemapTid, hdr.MirrorTid)
	}
	for off := range chunks {
		z, seg, c := fm.place(off)
		if z.bad {
			bad("leaf of zone %d unreadable", z.n)
			return
		}
		if z.elem == nil || z.entries[seg].State(c) != ondisk.ChunkAllocated {
			bad("chunk %#x is reachable and not marked", off)
		}
	}
	var avail uint64
	for n := range fm.zoneCount() {
		e := fm.find(n)
		lo, hi := fm.bounds(n)
		if e == nil {
			avail += uint64(hi-lo) * ondisk.SegmentSize
			continue
		}
		block, err := fm.v.readRaw(bg, &e.ref)
		if err != nil {
			bad("%w", err)
			return
		}
		leaf, err := ondisk.DecodeFreemapLeaf(block)
		if err != nil {
			bad("%w", err)
			return
		}
		for i := range leaf {
			if leaf[i].Avail != uint32(leaf[i].FreeChunks())*ondisk.ChunkSize {
				bad("zone %d segment %d: avail %#x, %d chunks free", n, i, leaf[i].Avail, leaf[i].FreeChunks())
			}
			if (i < lo || i >= hi) && leaf[i].Avail != 0 {
				bad("zone %d segment %d is outside and has %#x free", n, i, leaf[i].Avail)
			}
			avail += uint64(leaf[i].Avail)
		}
	}
	if ghost := hdr.AllocatorSize - fm.total; hdr.AllocatorFree != avail+ghost {
		bad("allocator_free %#x, free in the map %#x", hdr.AllocatorFree, avail+ghost)
	}
}

func mustCheck(t testing.TB, dev ondisk.Device) uint64 {
	t.Helper()
	n, err := checkImage(dev)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// newImage formats a device in memory.
func newImage(t testing.TB, size int64) *memdev.Device {
	t.Helper()
	dev := memdev.New(size)
	if _, err := Format(bg, []ondisk.Device{dev}, FormatOptions{}); err != nil {
		t.Fatal(err)
	}
	return dev
}

// openImage opens a clone-like handle: closing it leaves the memory usable.
func openImage(t testing.TB, dev ondisk.Device, o Options) *Volume {
	t.Helper()
	v, err := Open(bg, []ondisk.Device{dev}, o)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// viewModel reads a whole view the way model describes it, without root inode
// and tids.
func viewModel(t testing.TB, v *View) map[leafKey]string {
	t.Helper()
	got := make(map[leafKey]string)
	add := func(rec *InodeRec) {
		inum := rec.Meta.Inum
		if inum != ondisk.InumRoot {
			got[leafKey{inum: inum}] = inodeText(&rec.Meta, rec.Inline)
		}
		err := v.Dirents(bg, inum, 0, ^uint64(0), func(d ondisk.Dirent, _ *ondisk.Blockref) bool {
			got[leafKey{inum, KindDirent, d.Key}] = fmt.Sprintf("%d %v %s", d.Inum, d.Type, d.Name)
			return true
		})
		if err != nil {
			t.Fatal(err)
		}
		err = v.DataRefs(bg, inum, 0, ^uint64(0), func(r *ondisk.Blockref) bool {
			if _, err := v.ReadBlock(bg, r); err != nil {
				t.Error(err)
			}
			got[leafKey{inum, KindData, r.Key}] = fmt.Sprintf("%v %x", r.CompMethod(), r.Check[:8])
			return true
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	root, _, err := v.Inode(bg, ondisk.InumRoot)
	if err != nil {
		t.Fatal(err)
	}
	add(root)
	if err := v.Inodes(bg, 2, ^uint64(0), func(rec *InodeRec) bool { add(rec); return true }); err != nil {
		t.Fatal(err)
	}
	return got
}

// sameModel compares a view with what it should be.
func sameModel(t testing.TB, v *View, want model) error {
	t.Helper()
	got := viewModel(t, v)
	for k, w := range want {
		if k.kind == KindInode && k.inum == ondisk.InumRoot {
			continue
		}
		if got[k] != w.text {
			return fmt.Errorf("%v: %q, want %q", k, got[k], w.text)
		}
		delete(got, k)
	}
	for k, g := range got {
		return fmt.Errorf("%v: %q is too much", k, g)
	}
	return nil
}

// begin, apply and commit one batch.
func commitBatch(v *Volume, label string, b *Batch) error {
	t, err := v.Begin(bg)
	if err != nil {
		return err
	}
	defer t.Abort()
	if err := t.Apply(bg, label, b); err != nil {
		return err
	}
	return t.Commit(bg)
}
