package crashtest

import (
	"bytes"
	"testing"

	"github.com/anvilfs/anvilfs/ondisk/memdev"
)

// A discard of any size takes away all content of the blocks in it, and can be
// lost like a write.
func TestDiscardOfAnySize(t *testing.T) {
	const size = 64 << 20
	base := memdev.New(size)
	written := []int64{8192, 3 << 20, 4<<20 - 4096, 4 << 20, 40<<20 + 512, size - 8192}
	for _, off := range written {
		if _, err := base.WriteAt([]byte("content"), off); err != nil {
			t.Fatal(err)
		}
	}
	tap := NewTap(base, 0, size)
	d := tap.Devices()[0]
	if err := d.Discard(8000, size-8000-4096); err != nil {
		t.Fatal(err)
	}
	if n := tap.Events(); n < len(written)-1 || n > len(written) {
		t.Errorf("%d writes for %d places", n, len(written))
	}
	got := make([]byte, 7)
	for _, off := range written {
		if _, err := d.ReadAt(got, off); err != nil || !bytes.Equal(got, bytes.Repeat([]byte{0xDD}, 7)) {
			t.Errorf("at %d: %q, %v", off, got, err)
		}
		if _, err := tap.Least(tap.Events()).Image.ReadAt(got, off); err != nil || string(got) != "content" {
			t.Errorf("at %d, not flushed: %q, %v", off, got, err)
		}
	}
}
