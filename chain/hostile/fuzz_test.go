package hostile_test

import "testing"

// FuzzBlocks puts any bytes into any block of a volume, under right codes.
func FuzzBlocks(f *testing.F) {
	f.Add(uint16(0), uint16(0x28), []byte{0, 0, 0, 8}, true)
	f.Add(uint16(1), uint16(0x200), []byte{2, 0x10, 0, 63}, false)
	f.Add(uint16(9), uint16(0x60), []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f}, false)
	f.Fuzz(func(t *testing.T, block, at uint16, bytes []byte, ours bool) {
		b := baseOf(t, "kinds")
		im := b.plan.Patch(int(block), int(at), bytes[:min(len(bytes), 64)], ours)
		if _, err := im.Check(t.Context(), b.sound); err != nil {
			t.Fatalf("%v: %v", im, err)
		}
	})
}
