package chain

import (
	"bytes"
	"errors"
	"testing"

	"github.com/anvilfs/anvilfs/ondisk"
)

// Who only reads a volume sees what its log holds, as far as that can be
// applied; the device stays as it is.
func TestReplayed(t *testing.T) {
	l := newLogger(t, 33, false)
	l.commit(100)
	base := l.pos
	for range 3 {
		l.mustLog(30)
	}
	for _, c := range []struct {
		name  string
		spoil func(dev ondisk.Device)
		want  ondisk.Tid
		err   error
	}{
		{"whole", func(ondisk.Device) {}, l.pos.T, nil},
		{"freemap", func(dev ondisk.Device) { overwrite(t, dev, int64(l.v.hdr.Freemap[0].Off())+512) }, l.pos.T, nil},
		{"first record", func(dev ondisk.Device) { overwrite(t, dev, int64(l.v.hdr.Mark.Log)+512) }, base.T, ondisk.ErrCorrupt},
	} {
		dev := l.dev.Clone()
		c.spoil(dev)
		before := whole(t, dev)
		seen, err := Replayed(bg, []ondisk.Device{dev})
		if !errors.Is(err, c.err) {
			t.Errorf("%s: %v, want %v", c.name, err, c.err)
		}
		v := openImage(t, seen[0], Options{ReadOnly: true})
		if at := positionAt(v, l.fsid); at != c.want {
			t.Errorf("%s: at %v, want %v", c.name, at, c.want)
		}
		if !bytes.Equal(before, whole(t, dev)) {
			t.Errorf("%s: the device was written", c.name)
		}
	}
}

func overwrite(t *testing.T, dev ondisk.Device, off int64) {
	t.Helper()
	if _, err := dev.WriteAt([]byte("rotten"), off); err != nil {
		t.Fatal(err)
	}
}

func whole(t *testing.T, dev ondisk.Device) []byte {
	t.Helper()
	p := make([]byte, dev.Size())
	if _, err := dev.ReadAt(p, 0); err != nil {
		t.Fatal(err)
	}
	return p
}
