package chain

import (
	"bytes"
	"errors"
	"testing"

	"github.com/anvilfs/anvilfs/chain/media"
	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/crashdev"
	"github.com/anvilfs/anvilfs/ondisk/memdev"
)

// A small volume on a large device has one slot, and behind its end there may
// be headers of the file system that had all of the device. If the one slot is
// torn, the spare copy counts, not the stranger; and the stranger where the
// slot is no header of the small volume.
func TestTornSlotBeforeAnOldFileSystem(t *testing.T) {
	const small = 64 << 20
	for _, ours := range []bool{true, false} {
		dev := memdev.New(ondisk.HeaderZone + small)
		old, err := Format(bg, []ondisk.Device{dev}, FormatOptions{})
		if err != nil {
			t.Fatal(err)
		}
		head := crashdev.Split(dev, small, dev.Size()-small)[:1]
		now, err := Format(bg, head, FormatOptions{})
		if err != nil {
			t.Fatal(err)
		}
		v := openImage(t, head[0], Options{})
		if err := commitBatch(v, "DATA", newMaker(t, 4).batch(ondisk.MakeTid(1, 1), 10)); err != nil {
			t.Fatal(err)
		}
		v.Close()
		torn := bytes.Repeat([]byte{0xff}, 512)
		at, want, slot := int64(0x4000), now.Fsid, -1
		if !ours {
			at, want, slot = 0, old.Fsid, 1
		}
		if _, err := dev.WriteAt(torn, at); err != nil {
			t.Fatal(err)
		}
		set, err := media.Open([]ondisk.Device{dev}) // the reader that only looks
		if err != nil || set.Header().Fsid != want || set.Best.Index != slot {
			t.Errorf("torn at %#x, looked at: %v, slot %d of %v", at, err, set.Best.Index, set.Header().Fsid)
		}
		if v, err = Open(bg, []ondisk.Device{dev}, Options{}); err != nil {
			t.Fatal(err)
		}
		if got := v.Header().Fsid; got != want {
			t.Errorf("torn at %#x it opens as %v, want %v", at, got, want)
		}
		v.Close()
	}
}

// If the spare copy is torn, too, or of before somebody else wrote, the stranger
// is not opened either: it would be written over the small volume. Where only the
// name of a large volume is damaged, its other slots count as ever.
func TestTornBeforeAnOldFileSystem(t *testing.T) {
	const small = 64 << 20
	dev := memdev.New(ondisk.HeaderZone + small)
	old, err := Format(bg, []ondisk.Device{dev}, FormatOptions{})
	if err != nil {
		t.Fatal(err)
	}
	put := func(d *memdev.Device, at int64, text ...byte) {
		t.Helper()
		if _, err := d.WriteAt(bytes.Repeat(text, 512/len(text)), at); err != nil {
			t.Fatal(err)
		}
	}
	opens := func(what string, d *memdev.Device, want ondisk.UUID) {
		t.Helper()
		before := d.Clone()
		set, serr := media.Open([]ondisk.Device{d})
		v, err := Open(bg, []ondisk.Device{d}, Options{})
		switch {
		case want.IsZero():
			// Who only looks is shown an old spare copy.
			if !errors.Is(err, ondisk.ErrTwoVolumes) || !errors.Is(serr, ondisk.ErrTwoVolumes) && (serr != nil || set.Header().Fsid == old.Fsid) {
				t.Errorf("%s: looked at: %v; opened: %v", what, serr, err)
			}
			d.Reopen() // what is not opened is closed
			if a, b := headOf(t, d), headOf(t, before); !bytes.Equal(a, b) {
				t.Errorf("%s: it was written to", what)
			}
		case serr != nil || err != nil:
			t.Errorf("%s: looked at: %v; opened: %v", what, serr, err)
		case set.Header().Fsid != want || v.Header().Fsid != want:
			t.Errorf("%s: looked at: %v; opened: %v", what, set.Header().Fsid, v.Header().Fsid)
		}
		if err == nil {
			v.Close()
		}
	}
	large := dev.Clone()
	put(large, 0x40, 1) // its id, and what follows
	opens("the name of a large volume", large, old.Fsid)

	if _, err := Format(bg, crashdev.Split(dev, small, dev.Size()-small)[:1], FormatOptions{}); err != nil {
		t.Fatal(err)
	}
	both := dev.Clone()
	put(both, 0x4000, 0xff)
	put(both, spareSlot+0x4000, 0xff)
	opens("both torn", both, ondisk.UUID{})
	put(both, 0, 0)
	opens("after what is said of it", both, old.Fsid)

	gone := dev.Clone()
	put(gone, 0x4000, 0xff)
	put(gone, spareSlot, 0)
	opens("one torn, the other gone", gone, ondisk.UUID{})

	later := dev.Clone() // what is torn is of a later state than the spare copy
	put(later, mirrorTidAt, 0, 0, 0, 0, 0, 0, 0, 1)
	opens("the spare copy is old", later, ondisk.UUID{})
}

// headOf is the first slot and the spare copy.
func headOf(t *testing.T, d *memdev.Device) []byte {
	t.Helper()
	b := make([]byte, 2*ondisk.HeaderSize)
	for i, at := range []int64{0, spareSlot} {
		if _, err := d.ReadAt(b[i*ondisk.HeaderSize:(i+1)*ondisk.HeaderSize], at); err != nil {
			t.Fatal(err)
		}
	}
	return b
}
