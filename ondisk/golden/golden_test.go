package golden

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// The two ways out of a copy: it is the image, and it is private.
func TestDeviceIsACopy(t *testing.T) {
	a, b := Device(t, "small"), Device(t, "small")
	var one, two [8]byte
	if _, err := a.ReadAt(one[:], 0); err != nil || one[0] != 0x11 {
		t.Fatalf("header starts with % x: %v", one, err)
	}
	if _, err := a.WriteAt(make([]byte, 8), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := b.ReadAt(two[:], 0); err != nil || two != one {
		t.Fatalf("the other copy has % x: %v", two, err)
	}
}

func TestManifest(t *testing.T) {
	for _, c := range []struct {
		name, label string
		entries     int
	}{{"small", "DATA", 76}, {"small", "LOCAL", 0}, {"empty", "DATA", 0}} {
		if got := len(Manifest(t, c.name, c.label)); got != c.entries {
			t.Errorf("%s %s: %d entries, want %d", c.name, c.label, got, c.entries)
		}
	}
}

// Leaving zeros out must not change what comes out: compare with unpacking
// the plain way.
func TestUnpackIsExact(t *testing.T) {
	frame, err := os.ReadFile(filepath.Join(Dir(t), "multivol-0.img.zst"))
	if err != nil {
		t.Fatal(err)
	}
	z, err := zstd.NewReader(bytes.NewReader(frame))
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	d := Device(t, "multivol-0")
	want, got := make([]byte, 1<<20), make([]byte, 1<<20)
	off := int64(0)
	for ; ; off += int64(len(want)) {
		if _, err := io.ReadFull(z, want); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if _, err := d.ReadAt(got, off); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Fatalf("differs in the MiB at %#x", off)
		}
	}
	if off != d.Size() {
		t.Fatalf("%d bytes, the device has %d", off, d.Size())
	}
}

func TestAllImagesUnpack(t *testing.T) {
	for _, name := range Images(t) {
		if d := Device(t, name); d.Size() < 1<<30 {
			t.Errorf("%s: %d bytes", name, d.Size())
		}
	}
}
