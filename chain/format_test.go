package chain

import (
	"bytes"
	"testing"

	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/crashdev"
	"github.com/anvilfs/anvilfs/ondisk/golden"
	"github.com/anvilfs/anvilfs/ondisk/memdev"
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

// Symptom: a new set of volumes was lost with the first sector of one that has room for
// one header only: the others had no spare copy until the set was grown.
func TestFormatSpares(t *testing.T) {
	sizes := []int64{1 << 30, 1 << 30, 3 << 30, 512 << 20}
	total := int64(0)
	for _, n := range sizes {
		total += n
	}
	base := memdev.New(total)
	_, err := Format(bg, crashdev.Split(base, sizes...), FormatOptions{Writer: ondisk.NewUUID()})
	must(t, err)
	at := int64(0)
	for i, size := range sizes {
		dev := base.Clone()
		_, err := dev.WriteAt(bytes.Repeat([]byte{0x5A}, 512), at)
		must(t, err)
		v, err := Open(bg, crashdev.Split(dev, sizes...), Options{})
		if err != nil {
			t.Errorf("volume %d: %v", i, err)
			continue
		}
		if s := readSlot(dev, at); i > 0 && (s.hdr == nil || int(s.hdr.VoluID) != i || s.hdr.VoluSize != uint64(size)) {
			t.Errorf("volume %d is not put right: %v", i, s.err)
		}
		must(t, v.Close())
		at += size
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

// What newfs says there is room for is what status and df say of it then, whatever
// the sizes are, written or not.
func TestFormatTellsTheRoom(t *testing.T) {
	for _, sizes := range [][]int64{{64 << 20}, {400 << 20}, {1 << 30}, {1<<30 + 8<<20}, {5<<30 + 300<<20}, {1 << 30, 700 << 20}} {
		var devs []ondisk.Device
		var list []*memdev.Device
		for _, s := range sizes {
			list = append(list, memdev.New(s))
			devs = append(devs, list[len(list)-1])
		}
		foretold, err := Room(devs)
		must(t, err)
		made, err := Format(bg, devs, FormatOptions{})
		must(t, err)
		var free uint64
		for _, readOnly := range []bool{false, true} {
			v, err := Open(bg, devs, Options{ReadOnly: readOnly})
			must(t, err)
			s := v.Space()
			if s.Total != made.Room || s.Total != foretold {
				t.Errorf("%d: room for %d, foretold %d; read-only %v: %d", sizes, made.Room, foretold, readOnly, s.Total)
			}
			if readOnly && s.Free != free || s.Free == 0 || s.Free > s.Total {
				t.Errorf("%d: %d free of %d, %d when it was open for writing", sizes, s.Free, s.Total, free)
			}
			free = s.Free
			must(t, v.Close())
			for _, d := range list {
				d.Reopen()
			}
		}
	}
}
