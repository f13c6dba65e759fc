package chain

import (
	"errors"
	"testing"

	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/faultdev"
	"github.com/anvilfs/anvilfs/ondisk/memdev"
)

// Whichever write of the headers behind the first volume is cut off, one is whole,
// also if only the one that counts was before.
func TestWriteOtherCutOff(t *testing.T) {
	for _, zones := range []int64{0, 2} {
		size := zones*ondisk.HeaderZone + 1<<30
		made := memdev.New(size).Named("behind")
		devs := []ondisk.Device{memdev.New(1 << 30).Named("first"), made}
		if _, err := Format(bg, devs, FormatOptions{Labels: []PFSSpec{{Label: "DATA"}}}); err != nil {
			t.Fatal(err)
		}
		h, err := Header(made)
		if err != nil {
			t.Fatal(err)
		}
		for _, off := range append(ondisk.SlotOffsets(uint64(size))[1:], spareSlot) {
			if _, err := made.WriteAt([]byte("growth that was cut off"), off+100); err != nil {
				t.Fatal(err)
			}
		}
		h.Mark = ondisk.Mark{MirrorTid: h.MirrorTid, Writer: ondisk.NewUUID()}
		cuts := 0
		for done := false; !done; cuts++ {
			torn := []int64{512, ondisk.HeaderSize / 2, ondisk.HeaderSize - 512}[cuts%3]
			image := made.Clone()
			d := faultdev.New(image)
			d.Add(faultdev.Rule{Do: faultdev.Torn, On: faultdev.Write, Nth: cuts/3 + 1, Arg: torn})
			err := writeOther(d, h)
			if done = err == nil; !done && !errors.Is(err, faultdev.ErrFault) {
				t.Fatal(err)
			}
			s, err := readSlots(image)
			if err != nil || s.header().Fsid != h.Fsid {
				t.Fatalf("%d zones, write %d cut off behind %d bytes: none is whole: %v", zones+1, cuts/3+1, torn, err)
			}
			if done && s.header().Mark != h.Mark {
				t.Errorf("%d zones: written, and the header is another one", zones+1)
			}
		}
		if cuts < 6 {
			t.Errorf("%d zones: cut off %d times", zones+1, cuts-1)
		}
	}
}
