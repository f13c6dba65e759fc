package memdev

import (
	"bytes"
	"testing"

	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/devicetest"
)

func TestDevice(t *testing.T) {
	devicetest.Run(t, func(t *testing.T) (ondisk.Device, func() ondisk.Device) {
		d := New(devicetest.Size)
		return d, func() ondisk.Device { d.Reopen(); return d }
	})
}

// A write to either side of a clone must not show on the other.
func TestCloneIsPrivate(t *testing.T) {
	a := New(1 << 20)
	put := func(d *Device, c byte, off int64) {
		if _, err := d.WriteAt([]byte{c}, off); err != nil {
			t.Fatal(err)
		}
	}
	get := func(d *Device, off int64) byte {
		var p [1]byte
		if _, err := d.ReadAt(p[:], off); err != nil {
			t.Fatal(err)
		}
		return p[0]
	}
	put(a, 1, 5)
	b := a.Clone()
	put(a, 2, 6)
	put(b, 3, 5)
	c := b.Clone()
	put(b, 4, 7)
	for _, w := range []struct {
		name string
		d    *Device
		want []byte
	}{{"first", a, []byte{1, 2, 0}}, {"second", b, []byte{3, 0, 4}}, {"third", c, []byte{3, 0, 0}}} {
		got := []byte{get(w.d, 5), get(w.d, 6), get(w.d, 7)}
		if !bytes.Equal(got, w.want) {
			t.Errorf("%s: %v, want %v", w.name, got, w.want)
		}
	}
}

func TestReadFrom(t *testing.T) {
	d := New(1 << 20)
	in := make([]byte, 200000)
	in[150000] = 9
	if n, err := d.ReadFrom(bytes.NewReader(in)); err != nil || n != int64(len(in)) {
		t.Fatalf("%d, %v", n, err)
	}
	if len(d.pages) != 1 {
		t.Errorf("%d pages, want 1: zeros cost memory", len(d.pages))
	}
	out := make([]byte, len(in))
	if _, err := d.ReadAt(out, 0); err != nil || !bytes.Equal(in, out) {
		t.Errorf("differs: %v", err)
	}
	if _, err := d.ReadFrom(bytes.NewReader(bytes.Repeat([]byte{1}, 1<<21))); err == nil {
		t.Error("more than fits went in")
	}
}
