package chain

import (
	"errors"
	"testing"

	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/memdev"
)

// One table under two references with other ranges: once the first was read,
// the second came from the cache, unjudged. A tree of such tables has more
// leaves than can ever be walked, and what is merged into it is not in order.
func TestCachedBlocksAreJudgedAgain(t *testing.T) {
	m := newMemBlocks()
	r := treeReader{m, newTableCache(1 << 20)}
	leaf := ondisk.Blockref{Type: ondisk.TypeDirent, Key: ondisk.DirBit | 5}
	block := make([]byte, 4096)
	ondisk.EncodeBlockrefs(block, []ondisk.Blockref{leaf})
	ref := ondisk.Blockref{Type: ondisk.TypeIndirect, Key: ondisk.DirBit, KeyBits: 4}
	ref.SetMethods(ondisk.CheckXXHash64, ondisk.CompNone)
	if err := m.writeBlock(&ref, block, 0); err != nil {
		t.Fatal(err)
	}
	dir := owner{7, treeDir}
	if refs, err := r.table(bg, dir, &ref); err != nil || len(refs) != 1 {
		t.Fatalf("%v, %v", refs, err)
	}
	other := ref
	other.Key += 16
	if _, err := r.table(bg, dir, &other); !errors.Is(err, ondisk.ErrCorrupt) {
		t.Errorf("with a range that it does not fit: %v", err)
	}
	if _, err := r.table(bg, owner{8, treeFile}, &ref); !errors.Is(err, ondisk.ErrCorrupt) {
		t.Errorf("entries in a file: %v", err)
	}
	inode := make([]byte, ondisk.InodeSize)
	(&ondisk.Inode{Meta: ondisk.NewInodeMeta(30, ondisk.ObjFile)}).Encode(inode)
	ref = ondisk.Blockref{Type: ondisk.TypeInode, Key: 30}
	ref.SetMethods(ondisk.CheckXXHash64, ondisk.CompNone)
	if err := m.writeBlock(&ref, inode, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := r.inode(bg, rootOwner, &ref); err != nil {
		t.Fatal(err)
	}
	other = ref
	other.Key = 31
	if _, err := r.inode(bg, rootOwner, &other); !errors.Is(err, ondisk.ErrCorrupt) {
		t.Errorf("inode 30 under the number 31: %v", err)
	}
	if _, err := r.inode(bg, superOwner, &ref); !errors.Is(err, ondisk.ErrCorrupt) {
		t.Errorf("a file as the root of a PFS: %v", err)
	}
}

// A long name that two entries share is read once; the entries are two.
func TestCachedEntryIsThatOfTheReference(t *testing.T) {
	m := newMemBlocks()
	r := treeReader{m, newTableCache(1 << 20)}
	name := string(make([]byte, 0, 100))
	for len(name) < 100 {
		name += "long"
	}
	d := ondisk.Dirent{Key: ondisk.NameHash(name), Inum: 5, Type: ondisk.ObjFile, Name: name}
	ref, block := d.Blockref()
	ref.SetMethods(ondisk.CheckXXHash64, ondisk.CompNone)
	if err := m.writeBlock(&ref, block, 0); err != nil {
		t.Fatal(err)
	}
	for _, inum := range []uint64{5, 6} {
		ref.Embed[0] = byte(inum)
		if got, err := r.dirent(bg, owner{7, treeDir}, &ref); err != nil || got.Inum != inum {
			t.Errorf("%+v, %v: want inode %d", got, err, inum)
		}
	}
}

// Two references to one block, both dropped: the program ended with a panic.
func TestDroppedTwice(t *testing.T) {
	var q quarantine
	if n := q.add(1, false, []region{{0, 4 * ondisk.ChunkSize}, {ondisk.ChunkSize, 2 * ondisk.ChunkSize}}); n != 1 {
		t.Errorf("%d chunks twice, want 1", n)
	}
	if n := q.add(2, false, []region{{3 * ondisk.ChunkSize, 6 * ondisk.ChunkSize}}); n != 1 || q.bytes != 6*ondisk.ChunkSize {
		t.Errorf("%d chunks twice, want 1; %d bytes", n, q.bytes)
	}
	bytes := uint64(0)
	for _, r := range q.due(9, 9, 1) {
		bytes += r.end - r.beg
	}
	if bytes != 6*ondisk.ChunkSize || q.bytes != 0 {
		t.Errorf("%d bytes free, want 6 chunks; %d stay", bytes, q.bytes)
	}
}

// What a damaged tree refers to outside of the space for blocks must not get
// into the freemap when it is dropped.
func TestNothingOutsideIsFreed(t *testing.T) {
	v := newVolume(t, memdev.New(1<<30+64<<20))
	fm := v.fm
	for _, off := range []uint64{0, 0x10000, v.hdr.AuxEnd, 1 << 30, 1<<30 + 0x20000, 1<<30 + 64<<20, 1 << 40, 1 << 62} {
		if fm.owns(off, ondisk.ChunkRadix) {
			t.Errorf("a block at %#x can be freed", off)
		}
	}
	if off := uint64(1<<30 + ondisk.ReservedSize); !fm.owns(off, ondisk.ChunkRadix) {
		t.Errorf("a block at %#x cannot be freed", off)
	}
}

// rewriteHeader changes the header of a volume under right codes.
func rewriteHeader(t *testing.T, dev *memdev.Device, edit func(h *ondisk.VolumeHeader)) {
	t.Helper()
	block := make([]byte, ondisk.HeaderSize)
	if _, err := dev.ReadAt(block, 0); err != nil {
		t.Fatal(err)
	}
	h, err := ondisk.DecodeVolumeHeader(block)
	if err != nil {
		t.Fatal(err)
	}
	edit(h)
	h.Encode(block)
	if _, err := dev.WriteAt(block, 0); err != nil {
		t.Fatal(err)
	}
}

// A header that speaks of more slots than the device has room for was a panic.
func TestHeaderOfALargerVolume(t *testing.T) {
	dev := memdev.New(64 << 20)
	if _, err := Format(bg, []ondisk.Device{dev}, FormatOptions{}); err != nil {
		t.Fatal(err)
	}
	rewriteHeader(t, dev, func(h *ondisk.VolumeHeader) { h.VoluSize, h.TotalSize = 16<<30, 16<<30 })
	if _, err := Open(bg, []ondisk.Device{dev}, Options{}); !errors.Is(err, ondisk.ErrCorrupt) {
		t.Errorf("opened: %v", err)
	}
}

// With the highest tid in use the next header would have been the oldest of
// all: a commit returned, and what it wrote was gone at the next opening.
func TestTidsComeToAnEnd(t *testing.T) {
	for _, tid := range []ondisk.Tid{^ondisk.Tid(0), ^ondisk.Tid(0) - 1, 1<<64 - 1<<32} {
		dev := memdev.New(64 << 20)
		if _, err := Format(bg, []ondisk.Device{dev}, FormatOptions{}); err != nil {
			t.Fatal(err)
		}
		rewriteHeader(t, dev, func(h *ondisk.VolumeHeader) { h.MirrorTid, h.FreemapTid, h.Mark.MirrorTid = tid, tid, tid })
		v, err := Open(bg, []ondisk.Device{dev}, Options{})
		if err != nil {
			t.Fatal(err)
		}
		txn, err := v.Begin(bg)
		if err != nil {
			t.Fatal(err)
		}
		if err := txn.Commit(bg); !errors.Is(err, ondisk.ErrCorrupt) {
			t.Errorf("commit after tid %#x: %v", uint64(tid), err)
		}
		if err := v.Close(); err != nil {
			t.Error(err)
		}
	}
}

// A reference with a wrong code, or with another size, must not keep the scan
// from what the right one leads to: bulkfree would free it, and a freemap that
// is brought up to date would lack it.
func TestScanIsNotMisled(t *testing.T) {
	v := newVolume(t, memdev.New(64<<20))
	leaf := ondisk.Blockref{Type: ondisk.TypeData, KeyBits: ondisk.LogicalBits, Key: 100 << 16, DataOff: ondisk.MakeDataOff(48<<20, 16)}
	var refs []ondisk.Blockref
	for n := range uint64(40) {
		r := leaf
		r.Key = n << 16
		r.DataOff = ondisk.MakeDataOff(48<<20+n<<16, 16)
		refs = append(refs, r)
	}
	block := make([]byte, 16384)
	ondisk.EncodeBlockrefs(block, refs)
	const at = 40 << 20
	if err := v.write(block, at); err != nil {
		t.Fatal(err)
	}
	right := ondisk.Blockref{Type: ondisk.TypeIndirect, KeyBits: 63, DataOff: ondisk.MakeDataOff(at, 14)}
	right.SetMethods(ondisk.CheckXXHash64, ondisk.CompNone)
	right.SetCheck(block)
	wrong, small := right, right
	wrong.Check[0] ^= 1
	small.DataOff = ondisk.MakeDataOff(at, 12)
	small.SetCheck(block[:4096])
	met := make(map[uint64]bool)
	s := &treeScan{v: v, visit: func(r *ondisk.Blockref) { met[r.Off()] = true }}
	for _, r := range []ondisk.Blockref{wrong, small, right} {
		if err := s.run(bg, r); err != nil {
			t.Fatal(err)
		}
	}
	if s.errs != 1 || len(met) != 1+40 {
		t.Errorf("%d errors, %d blocks met: want 1 and 41", s.errs, len(met))
	}
}

func newVolume(t *testing.T, dev *memdev.Device) *Volume {
	t.Helper()
	if _, err := Format(bg, []ondisk.Device{dev}, FormatOptions{}); err != nil {
		t.Fatal(err)
	}
	v := openImage(t, dev, Options{})
	t.Cleanup(func() { v.Close() })
	return v
}
