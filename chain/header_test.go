package chain

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/anvilfs/anvilfs/chain/media"
	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/crashdev"
	"github.com/anvilfs/anvilfs/ondisk/memdev"
)

// A small volume on a large device has one slot, and behind its end there may
// be headers of the file system that had all of the device. If the one slot is
// torn, the spare copy counts, not the stranger.
func TestTornSlotBeforeAnOldFileSystem(t *testing.T) {
	dev, _, now := overOld(t)
	if _, err := dev.WriteAt(bytes.Repeat([]byte{0xff}, 512), 0x4000); err != nil {
		t.Fatal(err)
	}
	set, err := media.Open([]ondisk.Device{dev}) // the reader that only looks
	if err != nil || set.Header().Fsid != now || set.Best.Index != -1 {
		t.Errorf("looked at: %v, slot %d of %v", err, set.Best.Index, set.Header().Fsid)
	}
	v, err := Open(bg, []ondisk.Device{dev}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if got := v.Header().Fsid; got != now {
		t.Errorf("it opens as %v, want %v", got, now)
	}
	v.Close()
}

const smallOverOld = 64 << 20

// overOld returns a device with a small volume in front of what is left of one
// that had all of it, and their ids.
func overOld(t *testing.T) (dev *memdev.Device, old, now ondisk.UUID) {
	t.Helper()
	dev = memdev.New(ondisk.HeaderZone + smallOverOld)
	was, err := Format(bg, []ondisk.Device{dev}, FormatOptions{})
	if err != nil {
		t.Fatal(err)
	}
	head := crashdev.Split(dev, smallOverOld, dev.Size()-smallOverOld)[:1]
	is, err := Format(bg, head, FormatOptions{})
	if err != nil {
		t.Fatal(err)
	}
	v := openImage(t, head[0], Options{})
	if err := commitBatch(v, "DATA", newMaker(t, 4).batch(ondisk.MakeTid(1, 1), 10)); err != nil {
		t.Fatal(err)
	}
	v.Close()
	return dev, was.Fsid, is.Fsid
}

// The beginning of such a device is wiped: nothing says which of the two it was
// given to, so neither is opened, and nothing written, until somebody says so as
// the refusal tells. A spare copy that is there from before a large volume was
// made is no second one.
func TestWipedBeforeAnOldFileSystem(t *testing.T) {
	dev, old, now := overOld(t)
	for _, n := range []int{512, ondisk.HeaderSize} {
		wiped := dev.Clone()
		if _, err := wiped.WriteAt(make([]byte, n), 0); err != nil {
			t.Fatal(err)
		}
		before := headOf(t, wiped)
		_, err := Open(bg, []ondisk.Device{wiped}, Options{})
		if !errors.Is(err, ondisk.ErrWiped) || !strings.Contains(err.Error(), old.String()) || !strings.Contains(err.Error(), now.String()) {
			t.Fatalf("%d bytes wiped: %v", n, err)
		}
		wiped.Reopen()
		if !bytes.Equal(headOf(t, wiped), before) {
			t.Errorf("%d bytes wiped: it was written to", n)
		}
		set, err := media.Open([]ondisk.Device{wiped})
		if err != nil || set.Header().Fsid != now || !errors.Is(set.Slots[0].Err, ondisk.ErrWiped) {
			t.Errorf("%d bytes wiped, looked at: %v, %+v", n, err, set)
		}
		for _, c := range []struct {
			at   int64
			want ondisk.UUID
		}{{spareSlot, now}, {ondisk.HeaderZone, old}} {
			chosen := wiped.Clone()
			head := make([]byte, ondisk.HeaderSize)
			if _, err := chosen.ReadAt(head, c.at); err != nil {
				t.Fatal(err)
			}
			if _, err := chosen.WriteAt(head, 0); err != nil {
				t.Fatal(err)
			}
			v, err := Open(bg, []ondisk.Device{chosen}, Options{})
			if err != nil || v.Header().Fsid != c.want {
				t.Fatalf("%#x copied to the beginning: %v", c.at, err)
			}
			v.Close()
		}
	}
	large, err := Format(bg, []ondisk.Device{dev}, FormatOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := dev.WriteAt(make([]byte, ondisk.HeaderSize), 0); err != nil {
		t.Fatal(err)
	}
	v, err := Open(bg, []ondisk.Device{dev}, Options{})
	if err != nil || v.Header().Fsid != large.Fsid {
		t.Fatalf("a large volume made over a small one, wiped: %v", err)
	}
	v.Close()
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
	slot := make([]byte, ondisk.HeaderSize)
	if _, err := both.ReadAt(slot, ondisk.HeaderZone); err != nil {
		t.Fatal(err)
	}
	if _, err := both.WriteAt(slot, 0); err != nil {
		t.Fatal(err)
	}
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
