package crashdev

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/devicetest"
	"github.com/anvilfs/anvilfs/ondisk/memdev"
)

func TestDevice(t *testing.T) {
	devicetest.Run(t, func(t *testing.T) (ondisk.Device, func() ondisk.Device) {
		return New(memdev.New(devicetest.Size)), nil
	})
}

func put(t *testing.T, d ondisk.Device, c byte, off int64, n int) {
	t.Helper()
	if _, err := d.WriteAt(bytes.Repeat([]byte{c}, n), off); err != nil {
		t.Fatal(err)
	}
}

// show prints the first byte of the first sectors of an image.
func show(t *testing.T, img ondisk.Device, sectors int) string {
	t.Helper()
	out := make([]byte, sectors)
	for i := range out {
		if _, err := img.ReadAt(out[i:i+1], int64(i*512)); err != nil {
			t.Fatal(err)
		}
		if out[i] == 0 {
			out[i] = '.'
		}
	}
	return string(out)
}

func TestImage(t *testing.T) {
	d := New(memdev.New(1 << 16))
	put(t, d, 'a', 0, 1024)   // event 0
	put(t, d, 'b', 1024, 512) // event 1
	if err := d.Flush(); err != nil {
		t.Fatal(err)
	}
	put(t, d, 'c', 512, 1024) // event 3
	all := func(int, int) bool { return true }
	none := func(int, int) bool { return false }
	for _, c := range []struct {
		n    int
		keep func(event, sector int) bool
		want string
	}{
		{0, all, "...."},
		{1, none, "...."},
		{1, func(_, s int) bool { return s == 1 }, ".a.."},
		{2, func(e, _ int) bool { return e == 1 }, "..b."},
		{3, none, "aab."},
		{4, none, "aab."},
		{4, func(_, s int) bool { return s == 0 }, "acb."},
		{4, all, "acc."},
	} {
		if got := show(t, d.Image(c.n, c.keep), 4); got != c.want {
			t.Errorf("cut after %d: %s, want %s", c.n, got, c.want)
		}
	}
}

// A flush does not cover a write that had not returned when it was called.
func TestFlushCoversReturnedWritesOnly(t *testing.T) {
	d := New(memdev.New(1 << 16))
	put(t, d, 'a', 0, 512)
	put(t, d, 'b', 512, 512)
	d.flying[0] = true // as seen from inside the write
	if err := d.Flush(); err != nil {
		t.Fatal(err)
	}
	if got := show(t, d.Image(3, func(int, int) bool { return false }), 2); got != ".b" {
		t.Errorf("%s, want .b", got)
	}
	n := 0
	d.Each(Options{}, func(s State) bool {
		if s.N == 3 && show(t, s.Image, 2) == ".b" {
			n++
		}
		return true
	})
	if n == 0 {
		t.Error("Each does not offer the image without the write under way")
	}
}

// A small commit protocol: data, flush, a pointer to it, flush. Each must
// find nothing with the flushes, and something without the first.
func TestEachFindsAMissingFlush(t *testing.T) {
	for _, barrier := range []bool{true, false} {
		d := New(memdev.New(1 << 20))
		acked := map[byte]int{} // events at the acknowledgement
		for v := byte(1); v <= 3; v++ {
			put(t, d, v, 4096*int64(v), 2048)
			put(t, d, v, 4096*int64(v)+2048, 2048)
			if barrier {
				d.Flush()
			}
			put(t, d, v, 0, 1)
			d.Flush()
			acked[v] = d.Events()
		}
		bad, last := "", 0
		count := d.Each(Options{Seed: 1}, func(s State) bool {
			if last++; s.N > d.Events() {
				t.Fatalf("%s: %d events", s.Name, s.N)
			}
			var p [1]byte
			s.Image.ReadAt(p[:], 0)
			for v, n := range acked {
				if s.N >= n && p[0] < v {
					bad = fmt.Sprintf("%s: %d acknowledged, found %d", s.Name, v, p[0])
				}
			}
			block := make([]byte, 4096)
			if p[0] != 0 {
				s.Image.ReadAt(block, 4096*int64(p[0]))
				if !bytes.Equal(block, bytes.Repeat(p[:], 4096)) {
					bad = fmt.Sprintf("%s: pointer %d to a torn block", s.Name, p[0])
				}
			}
			return true
		})
		if barrier && bad != "" {
			t.Error(bad)
		}
		if !barrier && bad == "" {
			t.Error("the missing flush was not found")
		}
		if count != last || count < 20 {
			t.Errorf("%d states, %d seen", count, last)
		}
	}
}

func TestEachIsReproducible(t *testing.T) {
	run := func() (names []string) {
		d := New(memdev.New(1 << 20))
		for i := range 14 {
			put(t, d, 1, int64(i)*65536, 65536)
		}
		d.Each(Options{Seed: 7, Max: 50}, func(s State) bool {
			names = append(names, s.Name)
			return true
		})
		return names
	}
	a, b := run(), run()
	if len(a) != 50 || fmt.Sprint(a) != fmt.Sprint(b) {
		t.Errorf("%d and %d states, or different ones", len(a), len(b))
	}
}
