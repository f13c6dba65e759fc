package chain

import (
	"bytes"
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
