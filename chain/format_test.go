package chain

import (
	"testing"

	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/golden"
)

// A new volume is what another formatter makes of the same device, but for
// identities and times.
func TestFormatLikeOthers(t *testing.T) {
	theirs := golden.Device(t, "empty")
	ours := newImage(t, theirs.Size())
	want, got := formatted(t, theirs), formatted(t, ours)
	if len(want) != len(got) {
		t.Fatalf("%d inodes, want %d", len(got), len(want))
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("inode %d:\n%+v, want\n%+v", i, got[i], want[i])
		}
	}
	h, o := readSlot(theirs, 0).hdr, readSlot(ours, 0).hdr
	for _, hdr := range []*ondisk.VolumeHeader{h, o} {
		hdr.Fsid, hdr.Mark = ondisk.UUID{}, ondisk.Mark{}
		hdr.Sroot[0].Check = [64]byte{}
	}
	a, b := make([]byte, ondisk.HeaderSize), make([]byte, ondisk.HeaderSize)
	h.Encode(a)
	o.Encode(b)
	if string(a) != string(b) {
		t.Errorf("header %+v, want %+v", o, h)
	}
	for i, off := range ondisk.SlotOffsets(uint64(ours.Size())) {
		if readSlot(ours, off).hdr == nil {
			t.Errorf("slot %d is not valid", i)
		}
	}
}

type formattedInode struct {
	ref  ondisk.Blockref
	meta ondisk.InodeMeta
}

// formatted reads super-root and PFS roots without what differs each time.
func formatted(t *testing.T, dev ondisk.Device) (list []formattedInode) {
	t.Helper()
	hdr := readSlot(dev, 0).hdr
	v := atHeader(dev, hdr)
	root := sroot(hdr)
	r, set, err := superSet(bg, v, v.cache, root)
	if err != nil {
		t.Fatal(err)
	}
	for _, ref := range append([]ondisk.Blockref{root}, set...) {
		own := superOwner
		if ref.Key == 0 {
			own = owner{}
		}
		rec, err := r.inode(bg, own, &ref)
		if err != nil {
			t.Fatal(err)
		}
		m := rec.Meta
		m.Ctime, m.Mtime, m.Btime, m.Nanos = 0, 0, 0, 0
		m.PFSClid, m.PFSFsid = ondisk.UUID{}, ondisk.UUID{}
		ref.Check = [64]byte{}
		list = append(list, formattedInode{ref, m})
	}
	return list
}
