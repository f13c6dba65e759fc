package media

import (
	"context"
	"errors"
	"testing"

	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/memdev"
)

// table writes a table of elements that have no code, and returns one that
// refers to it.
func table(t *testing.T, dev *memdev.Device, off uint64, keyBits uint8, refs ...ondisk.Blockref) ondisk.Blockref {
	t.Helper()
	block := make([]byte, 4096)
	for i := range refs {
		refs[i].Encode(block[i*ondisk.BlockrefSize:])
	}
	if _, err := dev.WriteAt(block, int64(off)); err != nil {
		t.Fatal(err)
	}
	return at(off, 0, keyBits)
}

func at(off, key uint64, keyBits uint8) ondisk.Blockref {
	r := ondisk.Blockref{Type: ondisk.TypeIndirect, Key: key, KeyBits: keyBits, DataOff: ondisk.MakeDataOff(off, 12)}
	r.SetMethods(ondisk.CheckDisabled, ondisk.CompNone)
	return r
}

// scanned counts leaves and errors, and gives up when there are too many.
func scanned(t *testing.T, dev *memdev.Device, root ondisk.Blockref) (leaves, damaged int) {
	t.Helper()
	s := &Set{devs: []ondisk.Device{dev}, loff: []uint64{0, uint64(dev.Size())}}
	err := s.Scan(context.Background(), []ondisk.Blockref{root}, 0, ^uint64(0), func(r *ondisk.Blockref, err error) bool {
		switch {
		case err == nil:
			leaves++
		case errors.Is(err, ondisk.ErrCorrupt):
			damaged++
		default:
			t.Fatal(err)
		}
		return leaves+damaged < 10_000
	})
	if err != nil || leaves+damaged >= 10_000 {
		t.Fatalf("%d leaves, %d errors, %v", leaves, damaged, err)
	}
	return leaves, damaged
}

// Tables that refer to themselves, to one table many times over, and to one
// another: the walk went on for ever.
func TestScanEnds(t *testing.T) {
	dev := memdev.New(64 << 20)
	self := table(t, dev, 1<<20, 63, at(1<<20, 0, 63))
	if leaves, damaged := scanned(t, dev, self); leaves != 0 || damaged != 1 {
		t.Errorf("a table in itself: %d leaves, %d errors", leaves, damaged)
	}
	// Damaged too, so that there is an error on every level.
	self = table(t, dev, 1<<20, 63, at(1<<20, 0, 63), at(1<<20, 0, 63), at(2<<20, 1<<40, 0))
	if leaves, _ := scanned(t, dev, self); leaves != 0 {
		t.Errorf("a damaged table in itself: %d leaves", leaves)
	}
	leaf := ondisk.Blockref{Type: ondisk.TypeData, KeyBits: 16, DataOff: ondisk.MakeDataOff(8<<20, 10)}
	below := table(t, dev, 2<<20, 21, leaf)
	for level := range uint64(8) {
		var refs []ondisk.Blockref
		bits := uint8(21 + 5*level)
		for n := range uint64(32) {
			r := below
			r.Key = n << bits
			refs = append(refs, r)
		}
		below = table(t, dev, 3<<20+level<<14, bits+5, refs...)
	}
	if leaves, damaged := scanned(t, dev, below); leaves != 1 || damaged == 0 {
		t.Errorf("one leaf through 32^8 ways: %d leaves, %d errors", leaves, damaged)
	}
}

func TestSeen(t *testing.T) {
	var s Seen
	a, b := at(1<<20, 0, 5), at(1<<20, 7, 9)
	inode := a
	inode.Type, inode.DataOff = ondisk.TypeInode, ondisk.MakeDataOff(1<<20, 10)
	other := at(1<<20+1024, 0, 5)
	if s.Has(&a) || !s.Add(&a) || !s.Has(&b) || s.Add(&b) {
		t.Error("a block is the same under any key")
	}
	if s.Has(&inode) || s.Has(&other) || !s.Add(&inode) || !s.Add(&other) {
		t.Error("another type or place is another block")
	}
}
